"""What an executor is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """What every worker is given once: `make(*arguments)` is the function that answers its tasks."""

    make: Callable[..., Callable[[Any], Any]]
    arguments: tuple[Any, ...]

    def start(self) -> Callable[[Any], Any]:
        """The function that answers tasks."""
        return self.make(*self.arguments)


@dataclass(frozen=True)
class Reply:
    """What came of the task of one worker: a value, or the exception that the function raised, or neither.

    Attributes:
        lost: why there is neither: the worker ended before it answered. Another one has taken its place.
    """

    worker: int
    value: Any = None
    error: BaseException | None = None
    lost: str = ""


class Executor(Protocol):
    """Some workers, numbered from 0. Each has one task at a time, so that few are under way, however many there are."""

    def start(self, job: Job) -> int:
        """Give the job to all workers; returns how many there are.

        Raises:
            RuntimeError: none can be started.
        """

    def submit(self, worker: int, task: Any) -> None:
        """Give a task to a worker that has none."""

    def collect(self) -> Reply:
        """Wait until a worker that has a task answers, or is lost. The order of replies means nothing.

        Raises:
            RuntimeError: workers cannot be kept running.
        """

    def close(self) -> None:
        """End all workers, whatever they are doing."""
