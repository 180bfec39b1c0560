"""Answers that stay (R9): how many steps until no further step, and no other input of the box, can change them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, vector
from trm_verify.kernel.claims import Convergence, Run
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.rules.answers import ball_margins, box_margins
from trm_verify.kernel.rules.invariance import from_init, residual_bound
from trm_verify.provers.problem import Problem, point

__all__ = ["AnswerAttempt", "point", "prove_answer", "prove_run"]

MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class AnswerAttempt:
    """A derivation of `answer(y, K)`, or why there is none. `radius` bounds N(z_k − centre) for k ≥ K."""

    derivation: Derivation | None
    steps: int | None = None
    radius: Fraction | None = None
    reason: str = ""


def prove_answer(
    problem: Problem, convergence: Derivation, domain: Json, centre: np.ndarray, answer: Sequence[int],
    deadline: float = float("inf"),
) -> AnswerAttempt:  # fmt: skip
    """The smallest number of steps after which the answer is certain.

    Args:
        convergence: ends in a `convergence` conclusion whose domain holds `domain`.
        centre: a state near the fixed points of the domain; any state is sound, a good one gives a good result.
        deadline: on the monotonic clock; the search for a smaller number of steps ends there.
    """
    premise = problem.conclude(convergence)
    if not isinstance(premise, Convergence):
        raise TypeError(f"expected a derivation of convergence, found {type(premise).__name__}")
    box, at, labels = problem.box(domain), point(centre), tuple(int(v) for v in answer)
    try:
        initial = from_init(problem.graph, premise, box)
        near = residual_bound(problem.graph, premise, box, at)
        far = premise.norm.bound(difference(initial, at)) + near
    except CheckError as error:
        return AnswerAttempt(None, reason=str(error))

    def radius(steps: int) -> Fraction:
        return near + premise.constant * power_up(premise.rate, steps) * far

    def holds(steps: int) -> str:
        try:
            ball_margins(problem.graph, premise, at, radius(steps), labels)
        except CheckError as error:
            return str(error)
        return ""

    low, high = -1, 16  # invariant: not proved at low; look for a proved high
    while reason := holds(high):
        if time.monotonic() > deadline:
            return AnswerAttempt(None, reason="the time for this input was used up")
        if high >= MOST_STEPS or power_up(premise.rate, high) * far * (1 << 20) < near:
            return AnswerAttempt(None, reason=reason)
        low, high = high, high * 4
    while high - low > 1 and time.monotonic() <= deadline:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    done = convergence.then(
        "answer_by_convergence", domain=domain, center=vector(centre), answer=list(labels), steps=high
    )
    problem.conclude(done)
    return AnswerAttempt(done, high, radius(high))


def prove_run(
    problem: Problem, convergence: Derivation, domain: Json, states: np.ndarray, answers: Sequence[Sequence[int] | None]
) -> tuple[Derivation, Run]:
    """The audit of one trace.

    Shape: states (N + 1, n), exactly as stored.

    Args:
        answers: the arg-max at each state; those that are no strict arg-max are dropped.

    Raises:
        CheckError: nothing final can be said at the last state.
    """
    premise = problem.conclude(convergence)
    if not isinstance(premise, Convergence):
        raise TypeError(f"expected a derivation of convergence, found {type(premise).__name__}")
    box = problem.box(domain)
    strict: list[list[int] | None] = []
    for state, labels in zip(states, answers, strict=True):
        strict.append(None if labels is None or not _is_strict(problem, state, labels) else [int(v) for v in labels])
    last = strict[-1]
    if last is None:
        raise CheckError("MARGIN", "a strict answer at the last state", "none")
    first = len(strict) - 1
    while first > 0 and strict[first - 1] == last:
        first -= 1

    def is_final(k: int) -> bool:
        try:
            at = point(states[k])
            ball_margins(problem.graph, premise, at, residual_bound(problem.graph, premise, box, at), tuple(last))
        except CheckError:
            return False
        return True

    final = next((k for k in range(first, len(strict)) if is_final(k)), len(strict) - 1)
    done = convergence.then("run", domain=domain, states=vector(states), answers=strict, final=final)
    concluded = problem.conclude(done)
    if not isinstance(concluded, Run):
        raise TypeError(f"expected a run, found {type(concluded).__name__}")
    return done, concluded


def _is_strict(problem: Problem, state: np.ndarray, labels: Sequence[int]) -> bool:
    try:
        box_margins(problem.graph, point(state), tuple(int(v) for v in labels))
    except CheckError:
        return False
    return True
