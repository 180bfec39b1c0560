"""The inputs of one call: who answers them, and in which certificates the kernel accepts what was found.

What is soon done is done in this process and checked as one certificate, the one that the caller gets. A long job is
checked a few inputs at a time, by the workers, so that neither memory nor the limits of one certificate bound it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from trm_verify.certificate import Filing
from trm_verify.kernel.expect import describe
from trm_verify.result import Checked
from trm_verify.verification.answering import Answering
from trm_verify.verification.decide import Grounds, Question
from trm_verify.verification.executors import Executor, Job, cores, executor_named
from trm_verify.verification.executors.serial import Here
from trm_verify.verification.findings import Finding, Record, unanswered
from trm_verify.verification.ledger import Ledger
from trm_verify.verification.search import INTERRUPTED, MOST, Plan, Search, begin
from trm_verify.verification.session import Progress, Verification

PATIENCE = 3.0  # seconds of work in this process before other ones are thought of
PAYS = 8.0  # seconds of work left from which it pays to start them
TOGETHER = MOST  # inputs that are checked as one certificate, if they are answered here

Named = tuple[list[str], Finding]  # a name for each filing that is reported beside the claims asked for; the finding
Rest = Callable[[], dict[int, Named]]


@dataclass(frozen=True)
class Limits:
    """How much time there is, and who does the work.

    Attributes:
        timeout: seconds an input, None for no limit. deadline: the end of the call on the monotonic clock.
        workers: processes for the answers; None for as many as pay.
        executor: where they are answered, if not here; None for processes of this machine, once they are needed.
        ledger: the file of what earlier runs have found.
    """

    timeout: float | None = None
    deadline: float = float("inf")
    workers: int | None = 1
    executor: Executor | None = None
    ledger: str | os.PathLike[str] | None = None

    def now(self) -> float:
        """The deadline of an input that is begun now."""
        return self.deadline if self.timeout is None else min(self.deadline, time.monotonic() + self.timeout)


@dataclass(frozen=True)
class Answered:
    """What came of all rows.

    Attributes:
        rows: those of which anything is known.
        whole: the one certificate of everything, where there is one. facts: a certificate that begins with the facts.
    """

    rows: dict[int, Named]
    whole: Checked | None
    facts: Checked | None


class Batch:
    """The questions of one call, by row."""

    def __init__(
        self, session: Verification, grounds: Sequence[Grounds], questions: dict[int, Question], limits: Limits,
        report: Progress | None,
    ) -> None:  # fmt: skip
        self.session, self.grounds, self.questions, self.limits = session, grounds, questions, limits
        self.plan = Plan(limits.timeout, limits.deadline, report)
        self.answering = Answering(session.problem, grounds)

    def run(self, facts: Sequence[Filing], rest: Rest) -> Answered:
        """Answer them, and `rest` the other rows; `facts` is what all of them rest on."""
        questions, known = list(self.questions.values()), dict[int, Finding]()
        started = time.monotonic()
        if self.limits.executor is None and self.limits.ledger is None:
            first = questions[:TOGETHER]
            records, interrupted = begin(self.answering, first, self.plan, PATIENCE if self._free else float("inf"))
            if interrupted or len(records) == len(questions):
                return self._together(facts, rest, records)
            with self.session.problem.forgetting():
                known = dict(enumerate(self.answering.checked(first[: len(records)], records)))
        search = Search(self.session.problem, self.grounds, questions, self.plan, known)
        others: dict[int, Named] = {}
        checked: list[Checked] = []

        def meanwhile() -> None:
            others.update(rest())
            filings = [*facts, *(filing for _, finding in others.values() for filing in finding.record.filings)]
            if filings:
                checked.append(self.session.certify(filings))

        with ExitStack() as closing:
            ledger = None
            if self.limits.ledger is not None:
                ledger = Ledger(self.limits.ledger, self.session.problem, search.shared)
                closing.callback(ledger.close)
            executor = self.limits.executor or Here()
            if self.limits.executor is None and self._free:
                if ledger is not None:
                    search.run(Here(), Job(lambda: self.answering, ()), ledger, patience=PATIENCE)
                executor = self._executor(search, time.monotonic() - started)
            closing.callback(executor.close)
            search.run(executor, self._job(executor), ledger, meanwhile)
        place = len(facts)
        for row, (names, finding) in others.items():
            count = len(finding.record.filings)
            others[row] = names, replace(finding, statements=_said(checked[0], place, count) if count else ())
            place += count
        findings = {row: _named(finding) for row, finding in zip(self.questions, search.all(), strict=True)}
        return Answered({**others, **findings}, None, checked[0] if checked else None)

    @property
    def _free(self) -> bool:
        """Whether it is left to us how many processes there are."""
        return self.limits.workers is None and cores() > 1

    def _executor(self, search: Search, spent: float) -> Executor:
        """Who answers what is left, of which this process has answered a part in so many seconds."""
        done = len(search.questions) - search.left
        if done and search.left and spent / done * search.left > PAYS:
            return executor_named("process", min(cores(), search.left))
        return Here()

    def _job(self, executor: Executor) -> Job:
        if isinstance(executor, Here):
            return Job(lambda: self.answering, ())
        problem = self.session.problem
        return Job(Answering.from_parts, (problem.raw_graph, problem.weights, tuple(self.grounds)))

    def _together(self, facts: Sequence[Filing], rest: Rest, records: Sequence[Record]) -> Answered:
        """All in one certificate, rows in order; questions without a record were interrupted."""
        known = dict(zip(self.questions, records, strict=False))
        others = rest() if len(known) == len(self.questions) else {}
        filed = {row: record.filings for row, record in known.items()}
        filed |= {row: finding.record.filings for row, (_, finding) in others.items()}
        filings, places = list(facts), {}
        for row in sorted(filed):
            places[row] = len(filings)
            filings += filed[row]
        checked = self.session.certify(filings) if filings else None
        rows = {row: _named(unanswered(INTERRUPTED)) for row in self.questions if row not in known}
        for row, record in known.items():
            claims = () if checked is None else checked[1].claims[places[row] :][: len(record.filings)]
            rows[row] = _named(*self.answering.findings([self.questions[row]], [record], claims))
        for row, (names, finding) in others.items():
            said = () if checked is None else _said(checked, places[row], len(finding.record.filings))
            rows[row] = names, replace(finding, statements=said)
        return Answered(rows, checked, checked)


def _said(checked: Checked, place: int, count: int) -> tuple[str, ...]:
    return tuple(describe(claim) for claim in checked[1].claims[place : place + count])


def _named(finding: Finding) -> Named:
    return ["encloses_the" if f.claim == "encloses_the" else "" for f in finding.record.filings], finding
