"""One worker: this process itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trm_verify.verification.executors.base import Job, Reply


class Here:
    """Answers each task when its reply is asked for."""

    def __init__(self) -> None:
        self._answer: Callable[[Any], Any] | None = None
        self._task: Any = None

    def start(self, job: Job) -> int:
        """Nothing is sent anywhere."""
        self._answer = job.start()
        return 1

    def submit(self, worker: int, task: Any) -> None:
        """Keep the task."""
        self._task = task

    def collect(self) -> Reply:
        """Answer it."""
        if self._answer is None:
            raise RuntimeError("expected start() before collect()")
        try:
            return Reply(0, self._answer(self._task))
        except Exception as error:
            return Reply(0, error=error)

    def close(self) -> None:
        """Nothing is running."""
