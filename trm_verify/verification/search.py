"""The search for each input's answer, one after the other or shared by several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from trm_verify.encode import Json
from trm_verify.provers.answers import AnswerAttempt
from trm_verify.provers.problem import Problem
from trm_verify.verification.decide import Found, Grounds, Question, decide
from trm_verify.verification.session import Progress

TIME_USED = "not reached: the time was used up"
INTERRUPTED = "not reached: interrupted"


def search(
    problem: Problem, grounds: Sequence[Grounds], questions: Sequence[Question], timeout: float | None,
    deadline: float, workers: int, report: Progress | None,
) -> list[Found]:  # fmt: skip
    """The outcome of every question, in order; the same claims whatever the number of workers, unless time runs out.

    Raises:
        RuntimeError: worker processes cannot be started.
    """
    found: list[Found] = []
    try:
        for outcome in _outcomes(problem, grounds, questions, timeout, deadline, workers):
            found.append(outcome)
            if report is not None:
                report(len(found), len(questions), "answers")
    except KeyboardInterrupt:  # what is finished is kept
        found += [Found(AnswerAttempt(None, reason=INTERRUPTED))] * (len(questions) - len(found))
    return found


def _outcomes(
    problem: Problem, grounds: Sequence[Grounds], questions: Sequence[Question], timeout: float | None,
    deadline: float, workers: int,
) -> Iterator[Found]:  # fmt: skip
    if workers == 1 or len(questions) < 2:
        for question in questions:
            yield answer(problem, grounds[question.ground], question, timeout, deadline)
        return
    # spawn: forking a process in which torch has started threads can hang
    pool = ProcessPoolExecutor(
        min(workers, len(questions)), get_context("spawn"), initializer=_start_worker,
        initargs=(problem.raw_graph, problem.weights, grounds),
    )  # fmt: skip
    try:
        left = deadline - time.monotonic()
        for future in [pool.submit(_work, question, timeout, left) for question in questions]:
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "expected worker processes to start, found that one ended at once; call verify_fixed_point below "
            "`if __name__ == '__main__':` in a script that is a file, or use workers=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER: list[tuple[Problem, Sequence[Grounds], float]] = []


def _start_worker(graph: Json, weights: bytes, grounds: Sequence[Grounds]) -> None:
    _WORKER[:] = [(Problem(graph, weights), grounds, time.monotonic())]


def _work(question: Question, timeout: float | None, left: float) -> Found:
    problem, grounds, started = _WORKER[0]
    return answer(problem, grounds[question.ground], question, timeout, started + left)


def answer(problem: Problem, grounds: Grounds, question: Question, timeout: float | None, deadline: float) -> Found:
    """One question, within its time; a failure of the search is an answer, too."""
    now = time.monotonic()
    if now > deadline:
        return Found(AnswerAttempt(None, reason=TIME_USED))
    problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
    return decide(problem, grounds, question, deadline if timeout is None else min(deadline, now + timeout))
