"""The search for each input's answer, one after the other or shared by several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json
from trm_verify.provers.answers import AnswerAttempt, prove_answer
from trm_verify.provers.problem import Problem
from trm_verify.verification.session import Progress

TIME_USED = "not reached: the time was used up"


@dataclass(frozen=True)
class Question:
    """One answer to look for.

    Attributes:
        convergence: index of the convergence that it rests on.
        domain: the inputs in question. centre: one of them alone, None if there is none in doubles.
        state: a state near its fixed point. Shape: (n,).
        wanted: the labels asked for. own: what the model answers at the centre, in floating point.
    """

    convergence: int
    domain: Json
    centre: Json | None
    state: np.ndarray
    wanted: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What came of a question: an attempt at the labels asked for, and one to refute them at the centre."""

    proof: AnswerAttempt
    refutation: AnswerAttempt | None = None


def search(
    problem: Problem, convergences: Sequence[Derivation], questions: Sequence[Question], timeout: float | None,
    deadline: float, workers: int, report: Progress | None,
) -> list[Found]:  # fmt: skip
    """The outcome of every question, in order; the same whatever the number of workers, unless time runs out.

    Raises:
        RuntimeError: worker processes cannot be started.
    """
    found: list[Found] = []
    for outcome in _outcomes(problem, convergences, questions, timeout, deadline, workers):
        found.append(outcome)
        if report is not None:
            report(len(found), len(questions), "answers")
    return found


def _outcomes(
    problem: Problem, convergences: Sequence[Derivation], questions: Sequence[Question], timeout: float | None,
    deadline: float, workers: int,
) -> Iterator[Found]:  # fmt: skip
    if workers == 1 or len(questions) < 2:
        for question in questions:
            yield answer(problem, convergences[question.convergence], question, timeout, deadline)
        return
    # spawn: forking a process in which torch has started threads can hang
    pool = ProcessPoolExecutor(
        min(workers, len(questions)), get_context("spawn"), initializer=_start_worker,
        initargs=(problem.raw_graph, problem.weights, convergences),
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


_WORKER: list[tuple[Problem, Sequence[Derivation], float]] = []


def _start_worker(graph: Json, weights: bytes, convergences: Sequence[Derivation]) -> None:
    _WORKER[:] = [(Problem(graph, weights), convergences, time.monotonic())]


def _work(question: Question, timeout: float | None, left: float) -> Found:
    problem, convergences, started = _WORKER[0]
    return answer(problem, convergences[question.convergence], question, timeout, started + left)


def answer(
    problem: Problem, convergence: Derivation, question: Question, timeout: float | None, deadline: float
) -> Found:
    """The answer over the domain; when the centre gives another one than is asked for, its own as a refutation."""
    now = time.monotonic()
    if now > deadline:
        return Found(AnswerAttempt(None, reason=TIME_USED))
    limit = deadline if timeout is None else min(deadline, now + timeout)
    problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
    if question.wanted == question.own:
        return Found(prove_answer(problem, convergence, question.domain, question.state, question.wanted, limit))
    reason = f"the model answers {question.own} at the centre, not {question.wanted}"
    if question.centre is None:
        return Found(AnswerAttempt(None, reason=reason))
    return Found(
        AnswerAttempt(None, reason=reason),
        prove_answer(problem, convergence, question.centre, question.state, question.own, limit),
    )
