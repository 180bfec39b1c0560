"""The search for each input's answer, one after the other or shared by several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json
from trm_verify.provers.answers import AnswerAttempt, prove_answer
from trm_verify.provers.problem import Problem
from trm_verify.verification import Progress

Labels = tuple[int, ...]
Found = tuple[AnswerAttempt | None, AnswerAttempt | None]  # for the labels asked for; for the centre's own
# domain, the centre as a domain, a state near its fixed point, labels asked for, the model's own labels at the centre
Call = tuple[Json, Json, np.ndarray, Labels, Labels]


def search(
    problem: Problem, convergence: Derivation, calls: list[Call], timeout: float | None, deadline: float, workers: int,
    report: Progress | None,
) -> Iterator[Found]:  # fmt: skip
    if workers == 1 or len(calls) == 1:
        for done, call in enumerate(calls, 1):
            yield _search_one(problem, convergence, call, timeout, deadline)
            if report is not None:
                report(done, len(calls), "answers")
        return
    arguments = (problem.raw_graph, problem.weights, convergence)
    # spawn: forking a process in which torch has started threads can hang
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=arguments) as pool:
        left = deadline - time.monotonic()
        futures = [pool.submit(_work, call, timeout, left) for call in calls]
        for done, future in enumerate(futures, 1):
            yield future.result()
            if report is not None:
                report(done, len(calls), "answers")


_WORKER: dict[str, Any] = {}


def _start_worker(graph: Json, weights: bytes, convergence: Derivation) -> None:
    _WORKER.update(problem=Problem(graph, weights), convergence=convergence, started=time.monotonic())


def _work(call: Call, timeout: float | None, left: float) -> Found:
    return _search_one(_WORKER["problem"], _WORKER["convergence"], call, timeout, _WORKER["started"] + left)


def _search_one(problem: Problem, convergence: Derivation, call: Call, timeout: float | None, deadline: float) -> Found:
    """The answer over the box; when the centre gives another one than is asked for, its own as a refutation."""
    domain, centre_domain, state, wanted, own = call
    now = time.monotonic()
    if now > deadline:
        return AnswerAttempt(None, reason="not reached: the time budget was used up"), None
    limit = deadline if timeout is None else min(deadline, now + timeout)
    if wanted != own:
        refuting = prove_answer(problem, convergence, centre_domain, state, own, limit)
        return AnswerAttempt(None, reason=f"the model answers {own} at the centre, not {wanted}"), refuting
    return prove_answer(problem, convergence, domain, state, wanted, limit), None
