"""Actors of a Ray cluster; of this machine alone, where no cluster is running."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from trm_verify.verification.executors.base import Job, Reply

STORE = 128 << 20  # bytes of a local object store; it holds the job, and tasks on their way


class Ray:
    """Actors, a processor each. Uses the cluster that `ray.init` or RAY_ADDRESS names, else starts Ray on this machine.

    Args:
        workers: actors; None for as many as the cluster has processors.
        modules: not needed: actors import what they are sent.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, modules: Sequence[str] = ()) -> None:
        self._ray, self._count = _ray(), workers
        self._own = False
        self._actors: list[Any] = []
        self._under_way: dict[Any, int] = {}

    def start(self, job: Job) -> int:
        """Put the job into the object store, from where every actor takes it once."""
        ray = self._ray
        if not ray.is_initialized():
            local = {} if os.environ.get("RAY_ADDRESS") else {
                "num_cpus": self._count, "include_dashboard": False, "object_store_memory": STORE,
            }  # fmt: skip
            ray.init(log_to_driver=False, logging_level="ERROR", **local)
            self._own = True
        most = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        count = most if self._count is None else min(self._count, most)
        self._job = ray.put(job)
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._actors = [self._actor.remote(self._job) for _ in range(count)]
        return count

    def submit(self, worker: int, task: Any) -> None:
        """Call the actor."""
        self._under_way[self._actors[worker].answer.remote(task)] = worker

    def collect(self) -> Reply:
        """The next answer; an actor that has died is replaced."""
        ray = self._ray
        (ready, *_), _ = ray.wait(list(self._under_way), num_returns=1)
        worker = self._under_way.pop(ready)
        try:
            value, error = ray.get(ready)
        except ray.exceptions.RayActorError as died:
            self._actors[worker] = self._actor.remote(self._job)
            return Reply(worker, lost=f"a Ray actor died ({' '.join(str(died).split())[:200]})")
        return Reply(worker, value, error)

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        self._under_way.clear()
        if self._own:
            self._ray.shutdown()
            self._own = False


class _Actor:
    def __init__(self, job: Job) -> None:
        self._answer = job.start()

    def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def answer(self, task: Any) -> tuple[Any, Exception | None]:
        """The value, or the exception itself: Ray would wrap it."""
        try:
            return self._answer(task), None
        except Exception as error:
            return None, error


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ModuleNotFoundError(
            "expected Ray for executor=\"ray\", found that it is not installed; run: pip install 'trm-verify[ray]', or "
            'use executor="process"',
            name="ray",
        ) from error
    found: ModuleType = ray
    return found
