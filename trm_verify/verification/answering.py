"""What a worker does: search for answers, one question after the other, and have the kernel check what was found.

A worker holds the graph, the weights and the grounds; a task is a few questions and the time there is for them. What it
hands back has been accepted by the kernel, as one certificate of the task's own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trm_verify.certificate import CertificateBuilder, Filing
from trm_verify.encode import Json
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Conclusion
from trm_verify.provers.answers import AnswerAttempt
from trm_verify.provers.problem import Problem
from trm_verify.verification.decide import Found, Grounds, Question, decide
from trm_verify.verification.findings import Finding, Record, read, record_of
from trm_verify.verification.threads import single_threaded

WORTH = 10  # times what a task costs anyway: it goes on for so long at least
TIME_USED = "not reached: the time was used up"


@dataclass(frozen=True)
class Item:
    """One question of a task; with a record, if an earlier run left one, which is checked instead of searched for."""

    question: Question
    known: Record | None = None


@dataclass(frozen=True)
class Task:
    """A few questions, in order.

    Attributes:
        timeout: seconds for each question. left: seconds for all, of which nothing is left when the call's budget is
            used up.
        enough: after so many seconds no further question is begun; those that are left are handed back.
    """

    items: tuple[Item, ...]
    timeout: float | None
    left: float
    enough: float


@dataclass(frozen=True)
class Done:
    """What came of the first questions of a task; the others were not begun.

    Attributes:
        findings: in order. recalled: which of them rest on the record of an earlier run.
        interrupted: that Ctrl-C ended it.
    """

    findings: tuple[Finding, ...]
    recalled: tuple[bool, ...]
    interrupted: bool = False


class Answering:
    """Answers tasks about one problem.

    Args:
        fixed: seconds that the kernel takes for what all questions rest on, once a task.
    """

    def __init__(self, problem: Problem, grounds: Sequence[Grounds], fixed: float = 0.0) -> None:
        self.problem, self.grounds, self.fixed = problem, grounds, fixed

    @classmethod
    def from_parts(cls, graph: Json, weights: bytes, grounds: Sequence[Grounds]) -> Answering:
        """From what is sent to a worker process."""
        started, problem = time.monotonic(), Problem(graph, weights)
        for each in grounds:  # what every task rests on is worked out once
            for derivation in (each.convergence, each.anchor, each.settled, each.enclosing):
                if derivation is not None:
                    problem.conclude(derivation)
        return cls(problem, grounds, time.monotonic() - started)

    def __call__(self, task: Task) -> Done:
        with self.problem.forgetting():
            records, recalled, interrupted = self.search(task)
            items = task.items[: len(records)]
            try:
                findings = self.checked([item.question for item in items], records)
            except Exception:  # a record of an earlier run may be anything, and do anything but be believed
                kept = tuple(self._believable(item) for item in task.items)
                if all(a is b for a, b in zip(kept, task.items, strict=True)):
                    raise  # a defect of this library: what it has just found itself was refused
                return self(replace(task, items=kept))
        return Done(tuple(findings), tuple(recalled), interrupted)

    def _believable(self, item: Item) -> Item:
        """The same without its record, if the kernel does not accept that by itself."""
        if item.known is not None:
            try:
                self.checked([item.question], [item.known])
            except Exception:
                return replace(item, known=None)
        return item

    def search(self, task: Task) -> tuple[list[Record], list[bool], bool]:
        """Records of as many questions as there is time for, whether each is an old one, and whether Ctrl-C came."""
        started, enough = time.monotonic(), max(task.enough, WORTH * self.fixed)
        records: list[Record] = []
        recalled: list[bool] = []
        try:
            with single_threaded():
                for item in task.items:
                    if records and time.monotonic() - started > enough:
                        break
                    known = item.known
                    if known is None:
                        known = self.answer(item.question, task.timeout, started + task.left)
                    records.append(known)
                    recalled.append(item.known is not None)
        except KeyboardInterrupt:
            return records, recalled, True
        return records, recalled, False

    def answer(self, question: Question, timeout: float | None, deadline: float) -> Record:
        """One question, within its time; a failure of the search is an answer, too."""
        now = time.monotonic()
        grounds = self.grounds[question.ground]
        if now > deadline:
            return record_of(self.problem, grounds, Found(AnswerAttempt(None, reason=TIME_USED)))
        self.problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
        end = deadline if timeout is None else min(deadline, now + timeout)
        return record_of(self.problem, grounds, decide(self.problem, grounds, question, end))

    def checked(self, questions: Sequence[Question], records: Sequence[Record]) -> list[Finding]:
        """What the kernel accepts of the records, as one certificate.

        Raises:
            CheckError: it refuses them. Mismatch: they are about other questions.
        """
        filings = [filing for record in records for filing in record.filings]
        return self.findings(questions, records, self._accepted(filings) if filings else ())

    def findings(
        self, questions: Sequence[Question], records: Sequence[Record], claims: Sequence[Conclusion]
    ) -> list[Finding]:
        """What accepted claims, those of the records in order, say about the questions.

        Raises:
            Mismatch: they are about other questions.
        """
        found, place = [], 0
        self.problem.graph.spent.clear()
        for question, record in zip(questions, records, strict=True):
            own = claims[place : place + len(record.filings)]
            place += len(record.filings)
            found.append(read(self.problem, self.grounds[question.ground], question, record, own))
        return found

    def _accepted(self, filings: Sequence[Filing]) -> Sequence[Conclusion]:
        builder = CertificateBuilder(self.problem.raw_graph, self.problem.weights, self.problem.unused)
        for filing in filings:
            builder.file(filing)
        return kernel_check(builder.build().to_bytes(), self.problem.weights).claims
