"""Runs the jobs that are not in the ledgers yet, one process each, and writes down what they report as they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import ROOT
from benchmarks.ledger import Ledger
from benchmarks.table import Json
from benchmarks.tasks.job import LIMITS
from benchmarks.tasks.jobs import Job
from benchmarks.tasks.results import scale

LEARNED_BY = ("box", "model", "models", "nn", "tasks", "train")
"""The part of the library that a trained model depends on: a better prover does not train it again."""

Tell = Callable[[str], None]


@dataclass
class Runner:
    """Runs jobs; results are kept in `out`, a ledger and a folder a job.

    Attributes:
        any_code: see `Ledger`.
        tell: told what begins and ends.
        failed: why, by the names of the jobs that failed in this run; the next run tries them again.
    """

    out: Path
    workers: int = 1
    any_code: bool = False
    tell: Tell = lambda text: None
    failed: dict[str, str] = field(default_factory=dict)
    _children: list[subprocess.Popen[str]] = field(default_factory=list)
    _stopping: bool = False

    def results(self, jobs: Sequence[Job]) -> tuple[dict[str, Json], bool]:
        """What is known of each job by its name, after running what was not; and whether that was interrupted."""
        missing = [job for job in jobs if self.missing(job)]
        self.tell(f"{len(jobs)} jobs, {len(missing)} of them to run, {self.workers} at a time")
        interrupted = False
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = iter(missing)
            running: dict[Future[dict[str, Json]], Job] = {}
            try:
                for place, job in enumerate(self._finished(pool, waiting, running), 1):
                    self.tell(f"{place} of {len(missing)}: {job}")
            except KeyboardInterrupt:
                interrupted = True
                self.stop()
        return {job.name: self.known(job) for job in jobs}, interrupted

    def _finished(
        self, pool: ThreadPoolExecutor, waiting: Iterator[Job], running: dict[Future[dict[str, Json]], Job]
    ) -> Iterator[str]:
        """Keeps all workers busy; writes down each job as it ends, and says in a line what came of it."""
        for job in waiting:
            running[pool.submit(self.run, job)] = job
            if len(running) == self.workers:
                yield from self._written(running)
        while running:
            yield from self._written(running)

    def _written(self, running: dict[Future[dict[str, Json]], Job]) -> Iterator[str]:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            for phase, result in future.result().items():
                ledger = self._ledger(job, phase)
                if ledger is not None:
                    ledger.add(phase, result)
                if result.get("verdict") == "failed":
                    self.failed[job.name] = f"{phase} failed: {result['reason']}"
            yield f"{job.name}  {_headline(job.task, self.known(job))} {self.failed.get(job.name, '')}".rstrip()

    def missing(self, job: Job) -> list[str]:
        """The phases still to run: those that follow a missing one are missing as well."""
        for place, phase in enumerate(job.phases):
            ledger = self._ledger(job, phase)
            if ledger is None or phase not in ledger:
                return list(job.phases[place:])
        return []

    def known(self, job: Job) -> Json:
        """What the ledger holds of the job, phase by phase."""
        found: Json = {}
        for phase in job.phases:
            ledger = self._ledger(job, phase)
            if ledger is not None and phase in ledger:
                found[phase] = ledger[phase]
        return found

    def _ledger(self, job: Job, phase: str) -> Ledger | None:
        """The results of a phase under these settings; None for a proof about weights that are not known."""
        path = self.out / "jobs" / f"{job.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if phase == "solve":
            return Ledger(path, {"options": job.solver_options(), "quick": job.quick}, self.any_code)
        config = json.loads(json.dumps(job.config().as_json()))
        learned = Ledger(path, {"config": config, "quick": job.quick}, self.any_code, LEARNED_BY)
        if phase == "learn":
            return learned
        weights = learned["learn"].get("weights") if "learn" in learned else None
        return None if weights is None else Ledger(path, {"weights": weights, "quick": job.quick}, self.any_code)

    def folder(self, job: Job) -> Path:
        """Where a job leaves its model and certificates."""
        return self.out / "models" / job.name

    def run(self, job: Job) -> dict[str, Json]:
        """What each missing phase reported; one that failed says so, and how."""
        phases, folder = self.missing(job), self.folder(job)
        if not phases:  # another run has done it meanwhile
            return {}
        if phases[0] != "prove":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "benchmarks.tasks.job", job.task, job.variant, str(job.seed), str(folder), *phases,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            # a session of its own: Ctrl-C reaches this process alone, which then ends its children
            child = subprocess.Popen(
                [*command, "--quick"] if job.quick else command, cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
            self._children.append(child)
            if self._stopping:  # asked for while it started
                child.terminate()
            assert child.stdout is not None
            found = _merged(child.stdout)
            code = child.wait()
            self._children.remove(child)
        for phase in phases:
            result = found.setdefault(phase, {})
            if result.pop("done", False):
                continue
            if code == -signal.SIGXCPU:
                result["stopped"] = f"after {LIMITS[phase]} processor seconds"
            else:
                result |= {"verdict": "failed", "reason": f"exit code {code}; {_last_line(folder / 'log.txt')}"}
            break
        return {phase: result for phase, result in found.items() if result}

    def stop(self) -> None:
        """End the children. What they had not finished is run again by the next run."""
        self._stopping = True
        for child in list(self._children):
            child.terminate()


def _merged(lines: Iterable[str]) -> dict[str, Json]:
    """The parts of each phase, put together; `seconds` are the last ones that were reported."""
    found: dict[str, Json] = {}
    for line in lines:
        try:
            parts = json.loads(line)
        except json.JSONDecodeError:  # cut short
            continue
        for phase, part in parts.items():
            found.setdefault(phase, {}).update(part)
    return found


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "nothing on stderr"


def _headline(task: str, known: Json) -> str:
    """A line for the eye."""
    said = []
    for phase, result in known.items():
        measured = result.get("deployed") or result.get("trained")
        if measured:
            at = measured["at"]
            factor, unit = scale(task)
            said.append(", ".join(f"{factor * at[k]['metric']:.1f} {unit} at {k}" for k in at))
        if "verdict" in result:
            said.append(f"{result['verdict']} {result.get('rate') or ''}".strip())
        answers = result.get("answers")
        if answers:
            said.append(f"{answers['proved']} of {answers['inputs']} answers final")
        if "stopped" in result:
            said.append(f"{phase} stopped {result['stopped']}")
        said.append(f"{sum(result.get('seconds', {}).values()):.0f} s")
    return "; ".join(said)
