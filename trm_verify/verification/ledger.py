"""What earlier runs of the same job have found: a file with a line of JSON for each question that is finished.

Nothing in it is believed. A record is a question's claims with their derivations; whoever takes it up has the kernel
check it and compares it with the question, as if it had just been found. A line that is torn, of another model, of
another version or of another question is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trm_verify import __version__
from trm_verify.certificate import Derivation, Filing
from trm_verify.encode import Json
from trm_verify.provers.problem import Problem
from trm_verify.result import Details
from trm_verify.verification.decide import Grounds, Question
from trm_verify.verification.findings import Record

MAX_LINE = 64 << 20  # bytes; a longer line is no record


class Shared:
    """The steps that all answers on one ground begin with: said once, and held once."""

    def __init__(self, grounds: Grounds) -> None:
        derivations = (grounds.convergence, grounds.anchor, grounds.settled, grounds.enclosing)
        self.steps: list[Json] = []
        for step in (step for d in derivations if d is not None for step in d.steps):
            if step not in self.steps:
                self.steps.append(step)
        self.digest = _digest([self.steps, grounds.operator, grounds.region, [_count(d) for d in derivations]])

    def pack(self, derivation: Derivation) -> list[Any]:
        """The steps, those that are shared as their numbers."""
        return [self.steps.index(step) if step in self.steps else step for step in derivation.steps]

    def unpack(self, packed: list[Any]) -> Derivation:
        """The derivation.

        Raises:
            ValueError: this cannot be one.
        """
        steps = []
        for place, found in enumerate(packed):
            step = self.steps[found] if type(found) is int and 0 <= found < len(self.steps) else found
            cited = step.get("premises") if isinstance(step, dict) else None
            if not isinstance(cited, list) or any(type(p) is not int or not 0 <= p < place for p in cited):
                raise ValueError(f"expected a step that cites earlier ones, found {str(step)[:80]}")
            steps.append(step)
        if not steps:
            raise ValueError("expected steps, found none")
        return Derivation(tuple(steps))

    def interned(self, record: Record) -> Record:
        """The same record, holding the shared steps themselves rather than copies that a process has sent."""
        filings = [Filing(self.unpack(self.pack(f.derivation)), f.claim, f.fields) for f in record.filings]
        return Record(tuple(filings), record.reason, record.observed)


def _count(derivation: Derivation | None) -> int | None:
    return None if derivation is None else len(derivation.steps)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Ledger:
    """The file of one job.

    Raises:
        OSError: the file cannot be read and written.
    """

    def __init__(self, path: str | os.PathLike[str], problem: Problem, shared: Sequence[Shared]) -> None:
        self.path, self._shared = Path(path), shared
        self._job = {"version": __version__, "graph": problem.graph.digest, "weights": problem.graph.weights.sha256}
        self._file = self.path.open("a+b", buffering=0)
        self._places: dict[str, int] = {}
        self._end = self._index()

    def _index(self) -> bool:
        """Where each record of this job is; returns whether the file ends with a whole line."""
        whole, place = True, 0
        with self.path.open("rb") as file:
            while line := file.readline(MAX_LINE):
                whole = line.endswith(b"\n")
                entry = _entry(line)
                if entry is not None and all(entry.get(name) == value for name, value in self._job.items()):
                    self._places[str(entry.get("question"))] = place
                place += len(line)
        return whole

    def recall(self, question: Question, timeout: float | None) -> Record | None:
        """What the file says of a question. Open ones were given up in good time: not with less time than now."""
        place = self._places.get(self._key(question))
        if place is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            entry = _entry(file.readline(MAX_LINE))
        try:
            record = self._record(entry or {}, self._shared[question.ground])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        spent = (entry or {}).get("timeout")
        enough = spent is None or (timeout is not None and isinstance(spent, (int, float)) and spent >= timeout)
        return record if record.closed or enough else None

    def add(self, question: Question, record: Record, timeout: float | None) -> None:
        """Write down a finished question, in one piece."""
        shared = self._shared[question.ground]
        filings = [
            {"claim": f.claim, "fields": f.fields, "steps": shared.pack(f.derivation)} for f in record.filings
        ]  # fmt: skip
        entry = {
            **self._job, "question": self._key(question), "timeout": timeout, "filings": filings,
            "reason": record.reason, "observed": None if record.observed is None else asdict(record.observed),
        }  # fmt: skip
        text = json.dumps(entry, separators=(",", ":")) + "\n"
        self._file.write((("" if self._end else "\n") + text).encode())
        self._end = True

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def _key(self, question: Question) -> str:
        about = [self._shared[question.ground].digest, question.domain, question.centre, question.branch]
        return _digest([*about, question.wanted, question.own])

    def _record(self, entry: Json, shared: Shared) -> Record:
        """
        Raises:
            ValueError, TypeError, KeyError, AttributeError: no record.
        """
        filings = []
        for raw in entry["filings"]:
            claim, fields = raw["claim"], raw["fields"]
            if not isinstance(claim, str) or not isinstance(fields, dict) or {"step", "claim"} & set(fields):
                raise ValueError(f"expected a claim with its fields, found {str(raw)[:80]}")
            filings.append(Filing(shared.unpack(raw["steps"]), claim, fields))
        observed = entry["observed"]
        return Record(tuple(filings), str(entry["reason"]), None if observed is None else _observed(observed))


def _observed(raw: Json) -> Details:
    found = Details(**raw)
    for name, kind in (("rule", str), ("unstable", int), ("nodes", int), ("limit", int)):
        if type(getattr(found, name)) is not kind:
            raise ValueError(f"expected {name} to be of type {kind.__name__}, found {getattr(found, name)!r}")
    if not all(isinstance(v, float) for v in (found.seconds, found.kernel)):
        raise ValueError("expected seconds, found something else")
    if not (found.margin is None or isinstance(found.margin, float)):
        raise ValueError(f"expected a margin, found {found.margin!r}")
    return found


def _entry(line: bytes) -> Json | None:
    """The object on a line; None for a torn or hostile one."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
