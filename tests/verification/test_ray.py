"""The same job on Ray, started on this machine with two workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import trm_verify as tv
from tests.verification.test_batch import alone, same, verified

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="the extra trm-verify[ray] is not installed")

__all__ = ["alone"]  # the fixture


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is sent anywhere, and no cluster of the machine is used."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield


def test_two_actors_give_what_one_process_gives_though_one_is_killed(
    alone: tv.VerificationResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from trm_verify.verification.executors.ray import Ray

    lost: list[str] = []
    pids: list[int] = []

    class Watched(Ray):
        def start(self, job: Any) -> int:
            count = super().start(job)
            pids.append(ray.get(self._actors[0].pid.remote()))
            return count

        def submit(self, worker: int, task: Any) -> None:
            if worker == 0 and not lost and pids:
                os.kill(pids.pop(), signal.SIGKILL)
            super().submit(worker, task)

        def collect(self) -> Any:
            reply = super().collect()
            lost.extend([reply.lost] if reply.lost else [])
            return reply

    assert same(alone, verified(executor=Watched(2)))
    assert len(lost) == 1 and "died" in lost[0]
    assert not ray.is_initialized(), "what was started here is ended here"


def test_by_name_on_a_cluster_that_is_running(alone: tv.VerificationResults) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=1 << 27, log_to_driver=False)
    try:
        assert same(alone, verified(executor="ray", workers=2))
        assert ray.is_initialized(), "a cluster of the caller's goes on"
    finally:
        ray.shutdown()
