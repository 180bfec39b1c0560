"""The search for each input's answer: in this process while that is soon done, else by the workers of an executor.

However many workers there are, and in whatever order they finish, a question has the same outcome, unless time runs
out.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trm_verify.provers.problem import Problem
from trm_verify.verification.answering import TIME_USED, Answering, Done, Item, Task
from trm_verify.verification.decide import Grounds, Question
from trm_verify.verification.executors import Executor, Job
from trm_verify.verification.findings import Finding, Record, unanswered
from trm_verify.verification.ledger import Ledger, Shared
from trm_verify.verification.session import Progress

INTERRUPTED = "not reached: interrupted"
LOST = "the process that looked for this answer ended {} times, killed or out of memory; the last time: {}"
TRIES = 3  # of a question whose worker is lost while it works on that question alone
MOST, FEW = 256, 32  # questions of one task, and of a late one: each task costs a kernel check of what all rest on
SHORT = 0.25  # seconds of work that are worth a task of their own
ENOUGH = 5.0  # seconds after which a worker begins no further question of its task: what a killed one can lose


@dataclass(frozen=True)
class Plan:
    """How much time there is, and who is told.

    Attributes:
        timeout: seconds for each question. deadline: of all, on the monotonic clock.
    """

    timeout: float | None
    deadline: float
    report: Progress | None = None

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()


def begin(answering: Answering, questions: Sequence[Question], plan: Plan, enough: float) -> tuple[list[Record], bool]:
    """Records of the first questions, found in this process and not yet checked; and whether Ctrl-C came.

    Args:
        enough: seconds after which no further question is begun.
    """
    records: list[Record] = []
    started = time.monotonic()
    while len(records) < len(questions) and (not records or time.monotonic() - started <= enough):
        task = Task((Item(questions[len(records)]),), plan.timeout, plan.left, enough)
        found, _, interrupted = answering.search(task)
        records += found
        if interrupted:
            return records, True
        if plan.report is not None:
            plan.report(len(records), len(questions), "answers")
    return records, False


class Search:
    """The questions that are left to the workers of an executor.

    Args:
        known: findings of those that need no worker, by number.
    """

    def __init__(
        self, problem: Problem, grounds: Sequence[Grounds], questions: Sequence[Question], plan: Plan,
        known: dict[int, Finding],
    ) -> None:  # fmt: skip
        self.problem, self.grounds, self.questions, self.plan = problem, grounds, questions, plan
        self.shared = [Shared(each) for each in grounds]
        self.findings, self.interrupted = dict(known), False
        self._pending = deque(i for i in range(len(questions)) if i not in known)
        self._alone: deque[int] = deque()  # whose worker was lost, among others perhaps
        self._losses: Counter[int] = Counter()
        self._under_way: dict[int, list[int]] = {}
        self._started, self._before = time.monotonic(), len(known)

    @property
    def left(self) -> int:
        """Questions of which nothing is known."""
        return 0 if self.interrupted else len(self.questions) - len(self.findings)

    def run(
        self, executor: Executor, job: Job, ledger: Ledger | None, meanwhile: Callable[[], None] | None = None,
        patience: float = float("inf"),
    ) -> None:  # fmt: skip
        """Find out what is left; what is finished is kept on Ctrl-C, and written to the ledger at once.

        Args:
            meanwhile: what this process does while the workers begin.
            patience: seconds after which no further task is given out, but the first.

        Raises:
            CheckError: the kernel refuses what a search has found, which is a defect of this library.
            RuntimeError: workers cannot be kept running.
        """
        begun, end = False, time.monotonic() + patience
        try:
            count = executor.start(job)
            idle = list(range(count))
            while idle or self._under_way:
                while idle and self._unfinished(end if begun else float("inf")):
                    begun, worker = True, idle.pop()
                    self._under_way[worker] = self._next(count)
                    executor.submit(worker, self._task(self._under_way[worker], ledger, min(ENOUGH, patience)))
                if meanwhile is not None:
                    meanwhile()
                    meanwhile = None
                if not self._under_way:
                    break
                reply = executor.collect()
                numbers = self._under_way.pop(reply.worker)
                idle.append(reply.worker)
                if reply.error is not None:
                    raise reply.error
                if reply.lost:
                    self._lost(numbers, reply.lost)
                elif self._done(numbers, reply.value, ledger):
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.interrupted = True
            self._under_way.clear()

    def all(self) -> list[Finding]:
        """A finding for each question; those that were not reached say why."""
        reason = INTERRUPTED if self.interrupted else TIME_USED
        return [self.findings.get(i) or unanswered(reason) for i in range(len(self.questions))]

    def _unfinished(self, end: float) -> bool:
        allowed = not self.interrupted and self.plan.left >= 0 and time.monotonic() <= end
        return allowed and bool(self._pending or self._alone)

    def _next(self, workers: int) -> list[int]:
        """The questions of the next task: fewer toward the end, so that the workers finish together."""
        if self._alone:
            return [self._alone.popleft()]
        left = len(self._pending)
        seconds = workers * max(time.monotonic() - self._started, SHORT)
        short = int(SHORT * (len(self.findings) - self._before) / seconds)
        share = max(-(-left // workers), min(short, left))
        count = min(share, MOST if workers == 1 else max(3 * left // (4 * workers), FEW), MOST)
        return [self._pending.popleft() for _ in range(count)]

    def _task(self, numbers: Sequence[int], ledger: Ledger | None, enough: float) -> Task:
        timeout, asked = self.plan.timeout, [self.questions[i] for i in numbers]
        items = tuple(Item(each, None if ledger is None else ledger.recall(each, timeout)) for each in asked)
        return Task(items, timeout, self.plan.left, enough)

    def _done(self, numbers: list[int], done: Done, ledger: Ledger | None) -> bool:
        """Keep the findings; returns whether Ctrl-C came."""
        for i, finding, recalled in zip(numbers, done.findings, done.recalled, strict=False):
            question = self.questions[i]
            record = self.shared[question.ground].interned(finding.record)
            self.findings[i] = replace(finding, record=record)
            timely = record.closed or self.plan.left >= 0
            if ledger is not None and not recalled and timely:
                ledger.add(question, record, self.plan.timeout)
        self._pending.extendleft(reversed(numbers[len(done.findings) :]))
        if self.plan.report is not None:
            self.plan.report(len(self.findings), len(self.questions), "answers")
        return done.interrupted

    def _lost(self, numbers: list[int], why: str) -> None:
        """Ask again: one by one, since any of them may be what the worker died of."""
        for i in numbers:
            self._losses[i] += len(numbers) == 1
            if self._losses[i] < TRIES:
                self._alone.append(i)
            else:
                self.findings[i] = unanswered(LOST.format(TRIES, why))
