"""Long jobs: any number of workers, in any order, lost workers, Ctrl-C and ledgers lead to the same results."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import trm_verify as tv
from tests.small import tanh_model
from tests.verification.test_outcomes import told
from trm_verify.verification import batch, search
from trm_verify.verification.executors import Executor, Job, Reply, pool
from trm_verify.verification.executors.pool import Processes
from trm_verify.verification.executors.serial import Here

ROWS = torch.linspace(-0.9, 0.9, 36).reshape(12, 3)
EPS, WANTED = "1/100", [3, 3, 0, 1] * 3


class Shuffled:
    """Three workers in this process whose replies come in an order of their own; some of them are lost at first."""

    def __init__(self, seed: int, lose: int = 0) -> None:
        self.random, self.lose = random.Random(seed), lose
        self.tasks: dict[int, Any] = {}
        self.most, self.sizes = 0, list[int]()

    def start(self, job: Job) -> int:
        self.workers = [job.start() for _ in range(3)]
        return 3

    def submit(self, worker: int, task: Any) -> None:
        assert worker not in self.tasks, "a worker has one task at a time"
        self.tasks[worker] = task
        self.most = max(self.most, len(self.tasks))
        self.sizes.append(len(task.items))

    def collect(self) -> Reply:
        worker = self.random.choice(sorted(self.tasks))
        task = self.tasks.pop(worker)
        if self.lose > 0:
            self.lose -= 1
            return Reply(worker, lost="lost for a test")
        return Reply(worker, self.workers[worker](task))

    def close(self) -> None:
        self.tasks.clear()


def verified(**options: Any) -> tv.VerificationResults:
    results = tv.verify_fixed_point(tanh_model(), ROWS, eps=EPS, answer=WANTED, **options)
    assert isinstance(results, tv.VerificationResults)
    return results


@pytest.fixture(scope="module")
def alone() -> tv.VerificationResults:
    """What one process finds, in one certificate."""
    results = verified(workers=1)
    assert {str(v) for v in results.verdicts} == {"PROVED", "REFUTED"}, "more than one kind of outcome"
    return results


def same(one: tv.VerificationResults, other: tv.VerificationResults) -> bool:
    assert [told(r) for r in one] == [told(r) for r in other]
    assert [r.certificate.to_bytes() for r in one][:3] == [r.certificate.to_bytes() for r in other][:3]
    return one.certificate.to_bytes() == other.certificate.to_bytes()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_replies_means_nothing(alone: tv.VerificationResults, seed: int) -> None:
    executor = Shuffled(seed)
    assert same(alone, verified(executor=executor))
    assert executor.most == 3 and len(executor.sizes) >= 3


def test_tasks_are_small_and_few_are_under_way(alone: tv.VerificationResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST", 2)
    monkeypatch.setattr(search, "FEW", 1)
    executor = Shuffled(0)
    assert same(alone, verified(executor=executor))
    assert max(executor.sizes) == 2 and executor.most == 3


def test_a_task_ends_in_time_and_what_is_left_of_it_is_asked_again(
    alone: tv.VerificationResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trm_verify.verification import answering

    monkeypatch.setattr(search, "ENOUGH", 0.0)
    monkeypatch.setattr(answering, "WORTH", 0)
    executor = Shuffled(1)
    assert same(alone, verified(executor=executor))
    assert len(executor.sizes) >= len(ROWS)


@pytest.mark.parametrize("lose", [1, 5])
def test_what_a_lost_worker_had_is_asked_again(alone: tv.VerificationResults, lose: int) -> None:
    assert same(alone, verified(executor=Shuffled(2, lose)))


class Deadly(Shuffled):
    """Every worker that comes to the fifth input is lost."""

    def submit(self, worker: int, task: Any) -> None:
        super().submit(worker, task)
        self.seen = [*getattr(self, "seen", []), *(item.question for item in task.items)]

    def collect(self) -> Reply:
        for worker, task in self.tasks.items():
            if any(item.question is self.seen[4] for item in task.items):
                del self.tasks[worker]
                return Reply(worker, lost="killed by signal 9")
        return super().collect()


def test_an_input_that_kills_its_workers_is_given_up_and_the_rest_finish(alone: tv.VerificationResults) -> None:
    executor = Deadly(0)
    results = verified(executor=executor)
    for i, (one, other) in enumerate(zip(alone, results, strict=True)):
        if i == 4:
            claim = other.claims["answer"]
            assert other.verdict is tv.UNKNOWN and "3 times" in claim.reason and "signal 9" in claim.reason
            assert "memory" in claim.remedy
        else:
            assert told(one) == told(other)


def test_a_failure_of_a_search_is_raised() -> None:
    class Broken(Shuffled):
        def collect(self) -> Reply:
            return Reply(self.tasks.popitem()[0], error=ZeroDivisionError("a defect"))

    with pytest.raises(ZeroDivisionError, match="a defect"):
        verified(executor=Broken(0))


def test_ctrl_c_keeps_what_is_finished(alone: tv.VerificationResults, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Shuffled):
        def collect(self) -> Reply:
            if self.count == 0:
                raise KeyboardInterrupt
            self.count -= 1
            return super().collect()

        count = 2

    monkeypatch.setattr(search, "MOST", 2)
    results = verified(executor=Stopped(0))
    finished = [i for i, r in enumerate(results) if "interrupted" not in r.claims["answer"].reason]
    assert len(finished) == 4
    assert all(told(results[i]) == told(alone[i]) for i in finished)
    assert all(results[i].verdict is tv.UNKNOWN for i in range(len(ROWS)) if i not in finished)


def test_ctrl_c_in_one_process_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    from trm_verify.verification import answering

    true, calls = answering.decide, []

    def interrupted(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(answering, "decide", interrupted)
    results = verified(workers=1)
    assert all("interrupted" in r.claims["answer"].reason for r in results[3:])
    assert all("interrupted" not in r.claims["answer"].reason for r in results[:3])
    assert results[0].verdict is not tv.UNKNOWN and results.certificate


# ledgers


def test_a_job_goes_on_from_its_ledger(
    alone: tv.VerificationResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trm_verify.verification import answering

    path = tmp_path / "job.jsonl"
    assert same(alone, verified(workers=1, ledger=path))
    lines = path.read_text().splitlines()
    assert len(lines) == len(ROWS)
    # half of it, and a torn line
    path.write_text("\n".join(lines[:6]) + "\n" + lines[6][:200])
    searched: list[Any] = []
    true = answering.decide
    monkeypatch.setattr(answering, "decide", lambda *given: searched.append(given) or true(*given))
    assert same(alone, verified(workers=1, ledger=path))
    assert len(searched) == 6
    assert same(alone, verified(workers=1, ledger=path))
    assert len(searched) == 6, "nothing is searched for twice"
    whole = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert len(whole) == len(ROWS)


def test_a_ledger_of_another_job_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trm_verify.verification import answering

    path = tmp_path / "job.jsonl"
    verified(workers=1, ledger=path)
    searched: list[Any] = []
    true = answering.decide
    monkeypatch.setattr(answering, "decide", lambda *given: searched.append(given) or true(*given))
    tv.verify_fixed_point(tanh_model(seed=1), ROWS, eps=EPS, workers=1, ledger=path)
    assert len(searched) == len(ROWS)
    tv.verify_fixed_point(tanh_model(), ROWS, eps="1/200", workers=1, ledger=path)
    assert len(searched) == 2 * len(ROWS)


def changed(text: str, kind: str) -> str:
    """A line of a ledger, tampered with."""
    entry = json.loads(text)
    filings = entry["filings"]
    if kind == "other answer":
        for filing in filings:
            if "answer" in filing["fields"]:
                filing["fields"]["answer"] = [(filing["fields"]["answer"][0] + 1) % 4]
            for step in filing["steps"]:
                if isinstance(step, dict) and "answer" in step:
                    step["answer"] = [(step["answer"][0] + 1) % 4]
    elif kind == "fewer steps":
        for filing in filings:
            if "steps" in filing["fields"]:
                filing["fields"]["steps"] = 0
            for step in filing["steps"]:
                if isinstance(step, dict) and "steps" in step:
                    step["steps"] = 0
    elif kind == "garbage":
        entry["filings"] = [{"claim": "answer", "fields": {"operator": 1.5}, "steps": [[], 0, {"premises": [7]}]}]
    elif kind == "no rule":
        entry["filings"] = [{"claim": "answer", "fields": {}, "steps": [{"premises": []}]}]
    elif kind == "deep":
        deep: Any = []
        for _ in range(200):
            deep = [deep]
        filings[0]["fields"] = {"domain": deep}
    elif kind == "wrong types":
        entry |= {"filings": 3, "observed": "much"}
    return json.dumps(entry)


@pytest.mark.parametrize("kind", ["other answer", "fewer steps", "garbage", "no rule", "deep", "wrong types"])
def test_a_ledger_that_was_tampered_with_proves_nothing(
    alone: tv.VerificationResults, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "job.jsonl"
    verified(workers=1, ledger=path)
    path.write_text("".join(changed(line, kind) + "\n" for line in path.read_text().splitlines()))
    assert same(alone, verified(workers=1, ledger=path))


def test_a_true_theorem_about_another_input_proves_nothing(alone: tv.VerificationResults, tmp_path: Path) -> None:
    """Every row gets the valid proof of its neighbour: the kernel accepts each, and none is about its question."""
    path = tmp_path / "job.jsonl"
    verified(workers=1, ledger=path)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    moved = [
        {**entry, "question": other["question"]}
        for entry, other in zip(entries, [*entries[1:], entries[0]], strict=True)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in moved))
    assert same(alone, verified(workers=1, ledger=path))


def test_an_open_input_is_asked_again_with_more_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trm_verify.provers.answers import AnswerAttempt
    from trm_verify.verification import answering
    from trm_verify.verification.decide import Found

    path, asked = tmp_path / "job.jsonl", []
    monkeypatch.setattr(
        answering, "decide", lambda *given: asked.append(given) or Found(AnswerAttempt(None, reason="open"))
    )
    for timeout, count in ((5, 12), (5, 12), (3, 12), (9, 24), (None, 36), (100, 36)):
        results = verified(workers=1, ledger=path, timeout=timeout)
        assert len(asked) == count and set(results.verdicts) == {tv.UNKNOWN}
        assert results[0].claims["answer"].reason == "open"


def test_what_the_budget_cut_short_is_not_noted(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    results = verified(workers=1, ledger=path, budget=0)
    assert set(results.verdicts) <= {tv.UNKNOWN} and path.read_text() == ""
    assert "time" in results[0].claims["answer"].reason


# arguments


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"executor": "threads"}, "expected an executor among process, ray"),
        ({"executor": Here(), "workers": 2}, "no workers= with an executor of your own"),
        ({"workers": "many"}, "workers >= 1"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        verified(**options)


def test_a_ledger_needs_inputs_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected inputs x to go with ledger="):
        tv.verify_fixed_point(tanh_model(), ledger=tmp_path / "job.jsonl")
    with pytest.raises(OSError):
        verified(ledger=tmp_path / "missing" / "job.jsonl")
    with pytest.raises(IsADirectoryError):
        verified(ledger=tmp_path)


def test_without_ray_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trm-verify\[ray\]'"):
        verified(executor="ray")


# processes


def test_processes_are_thought_of_when_they_pay(alone: tv.VerificationResults, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None]] = []

    def named(name: str, workers: int | None) -> Executor:
        asked.append((name, workers))
        return Shuffled(0)

    monkeypatch.setattr(batch, "executor_named", named)
    monkeypatch.setattr(batch, "cores", lambda: 5)
    assert same(alone, verified()) and asked == []
    monkeypatch.setattr(batch, "PATIENCE", 0.0)
    assert same(alone, verified()) and asked == []
    monkeypatch.setattr(batch, "PAYS", 0.0)
    assert same(alone, verified(workers="auto")) and asked == [("process", 5)]
    monkeypatch.setattr(batch, "cores", lambda: 1)
    assert same(alone, verified()) and len(asked) == 1


def test_a_short_job_with_a_ledger_needs_no_process_either(
    alone: tv.VerificationResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(batch, "executor_named", lambda name, _: asked.append(name) or Shuffled(0))
    monkeypatch.setattr(batch, "cores", lambda: 2)
    assert same(alone, verified(ledger=tmp_path / "a.jsonl")) and asked == []
    monkeypatch.setattr(batch, "PATIENCE", 0.0)
    monkeypatch.setattr(batch, "PAYS", 0.0)
    assert same(alone, verified(ledger=tmp_path / "b.jsonl")) and asked == ["process"]
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == len(ROWS)


@pytest.fixture(params=[pytest.param(True, id="forked"), pytest.param(False, id="spawned")])
def forks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to start processes; only Linux has the first."""
    if request.param and not pool.FORKS:
        pytest.skip("no processes are forked on this system")
    monkeypatch.setattr(pool, "FORKS", request.param)
    return bool(request.param)


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_two_processes_give_what_one_gives_though_one_is_killed(alone: tv.VerificationResults) -> None:
    executor = Processes(2)
    killed: list[int] = []

    def kill() -> None:
        while executor.pids[0] is None:
            time.sleep(0.01)
        killed.append(executor.pids[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    assert same(alone, verified(executor=executor))
    thread.join()
    assert killed[0] not in executor.pids, "another process has taken its place"
    assert all(map(_gone, executor.pids))


def _gone(pid: int | None) -> bool:
    """Whether no such process is left, not even as a zombie; those whose parent has ended are reaped by another one."""
    end = time.monotonic() + 30
    while pid is not None:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def working(workers: int, function: str, modules: Sequence[str] = ()) -> Iterator[Processes]:
    """Processes that answer their tasks with this function."""
    executor = Processes(workers, modules)
    try:
        executor.start(Job(eval, (function,)))
        yield executor
    finally:
        executor.close()


@pytest.mark.usefixtures("forks")
def test_processes_import_what_they_are_told_to_and_no_more() -> None:
    with working(1, "lambda name: name in __import__('sys').modules", ["colorsys"]) as executor:
        for name, imported in (("colorsys", True), ("torch", False)):
            executor.submit(0, name)
            assert executor.collect() == Reply(0, imported)


def test_processes_say_how_one_ended(forks: bool) -> None:
    with working(2, "lambda code: __import__('os')._exit(code) if code else 'well'") as executor:
        executor.submit(1, 7)
        assert executor.collect() == Reply(1, lost="a worker process ended (exit code 7)")
        for worker in (0, 1):
            executor.submit(worker, 0)
            assert executor.collect() == Reply(worker, "well")
        ended = [pid for pid in executor.pids if pid is not None]
        assert len(set(ended)) == 2
    assert all(map(_gone, ended))


@pytest.mark.usefixtures("forks")
def test_processes_that_are_busy_end_at_once() -> None:
    with working(2, "lambda seconds: __import__('time').sleep(seconds)") as executor:
        executor.submit(0, 0)
        executor.submit(1, 0)
        executor.collect(), executor.collect()
        executor.submit(0, 3600)
        busy = executor.pids
    assert all(map(_gone, busy))


@pytest.mark.skipif(not pool.FORKS, reason="no processes are forked on this system")
def test_workers_outlive_the_process_they_were_forked_from() -> None:
    with working(2, "lambda task: __import__('os').getppid()") as executor:
        executor.submit(0, None)
        executor.submit(1, None)  # both are up before the one they were forked from goes
        leader = executor.collect().value
        assert leader == executor.collect().value == executor._started[0].pid
        os.kill(leader, signal.SIGKILL)
        executor._started[0].wait()
        executor.submit(1, None)
        assert executor.collect().value != leader


@pytest.mark.slow
def test_a_script_needs_no_guard() -> None:
    """Worker processes do not import the main script, which may be standard input."""
    code = (
        "import torch, trm_verify as tv\n"
        "print('ran')\n"
        "m = tv.recursive(lambda z, x: z / 2 + x, state_shape=(2,), input_shape=(2,), readout=lambda z: z)\n"
        "print(bool(tv.verify_fixed_point(m, torch.eye(2), workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        timeout=300,
    )  # fmt: skip
    assert (done.stdout.split(), done.returncode) == (["ran", "True"], 0), done.stderr


@pytest.mark.slow
def test_workers_that_cannot_start_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BOOT", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"expected worker processes to start.*exit code 3.*workers=1"):
        verified(workers=2)
