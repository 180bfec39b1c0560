"""Answers that stay (R9): how many steps until no further step, and no other input of the box, can change them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, vector
from trm_verify.kernel.claims import Convergence, Run
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.linear import Form, linear_forms, padded
from trm_verify.kernel.norms import Norm
from trm_verify.kernel.numbers import dyadic, power_up, round_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.rules.answers import ball_margins, box_margins, orbit_radius
from trm_verify.kernel.rules.fixed_point_answers import competitors
from trm_verify.kernel.rules.invariance import from_init, residual_bound
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Problem, point

__all__ = ["AnswerAttempt", "NotFinal", "point", "prove_answer", "prove_run", "strict_answers"]

MOST_STEPS = 1_000_000
MOST_ENTRIES = 1 << 16  # of a linear readout whose margins are worked out once for all radii


@dataclass(frozen=True)
class AnswerAttempt:
    """A derivation of `answer(y, K)`, or why there is none.

    Attributes:
        radius: bounds N(z_k − centre) for k ≥ K. near: bounds N(z* − centre), both in the norm of the convergence.
    """

    derivation: Derivation | None
    steps: int | None = None
    radius: Fraction | None = None
    near: Fraction | None = None
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

    def margins(steps: int) -> str:
        try:
            ball_margins(problem.graph, premise, at, radius(steps), labels)
        except CheckError as error:
            return str(error)
        return ""

    try:
        limit = _reach(problem, premise.norm, at, labels)
    except CheckError:
        limit = None

    def holds(steps: int) -> str:
        if limit is None:
            return margins(steps)
        return "" if radius(steps) < limit else "the ball about the fixed point reaches another answer"

    low, high = -1, 16  # invariant: not proved at low; look for a proved high
    while reason := holds(high):
        if time.monotonic() > deadline:
            return AnswerAttempt(None, near=near, reason="the time for this input was used up")
        if high >= MOST_STEPS or power_up(premise.rate, high) * far * (1 << 20) < near:
            return AnswerAttempt(None, near=near, reason=margins(high) or reason)
        low, high = high, high * 4
    while high - low > 1 and time.monotonic() <= deadline:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    if limit is not None and (reason := margins(high)):
        return AnswerAttempt(None, near=near, reason=reason)
    # The rule does what was just done: it is not run once more before the kernel runs it.
    done = convergence.then(
        "answer_by_convergence", domain=domain, center=vector(centre), answer=list(labels), steps=high
    )
    return AnswerAttempt(done, high, radius(high), near)


def _reach(problem: Problem, norm: Norm, centre: Tensor, answer: tuple[int, ...]) -> Fraction | None:
    """The radius from which a ball about the centre holds another answer; None for readouts that are not linear.

    Every radius is then compared with one number, where the kernel's own test of a single one costs milliseconds.
    """
    graph = problem.graph
    readout = graph.readout
    if readout is None:
        raise CheckError("UNSUPPORTED", "a model with a readout", "none")
    if readout.nodes[readout.outputs[0]].size * graph.size > MOST_ENTRIES:
        return None
    values = evaluate(graph, readout, centre, Tensor((graph.input_size,)))

    def linear() -> Form | None:
        forms = linear_forms(graph, readout, values)
        return None if forms.units else Form(padded(forms.outputs.rows, graph.size), forms.outputs.exp)

    form = problem.once("linear readout", None, linear)
    if form is None:
        return None
    logits, least, name = values[readout.outputs[0]], None, f"support {sha256(repr(norm).encode()).hexdigest()}"
    lo, hi = logits.ends()
    for own, other in competitors(graph, answer):

        def support(own: int = own, other: int = other) -> Fraction:
            q = [a - b for a, b in zip(form.rows[own], form.rows[other], strict=True)]
            return norm.support(q, form.exp)

        slope = problem.once(name, [own, other], support)
        margin = dyadic(lo[own] - hi[other], logits.exp)
        if margin <= 0:
            return Fraction(0)
        if slope > 0 and (least is None or margin / slope < least):
            least = margin / slope
    return least


class NotFinal(CheckError):
    """Nothing final can be said at the last state of a run.

    Attributes:
        remedy: what may help.
    """

    def __init__(self, error: CheckError, remedy: str) -> None:
        super().__init__(error.code, error.expected, error.got)
        self.remedy = remedy


def prove_run(
    problem: Problem, convergence: Derivation, domain: Json, states: np.ndarray, answers: Sequence[Sequence[int] | None]
) -> tuple[Derivation, Run]:
    """The audit of one trace.

    Shape: states (N + 1, n), exactly as stored.

    Args:
        answers: the arg-max at each state; those that are no strict arg-max are dropped.

    Raises:
        NotFinal: nothing can be said at the last state.
    """
    premise = problem.conclude(convergence)
    if not isinstance(premise, Convergence):
        raise TypeError(f"expected a derivation of convergence, found {type(premise).__name__}")
    box = problem.box(domain)
    strict, last, first = strict_answers(problem, states, answers)

    def is_final(k: int) -> bool:
        try:
            at = point(states[k])
            reach = orbit_radius(premise, at, round_up(residual_bound(problem.graph, premise, box, at)))
            ball_margins(problem.graph, premise, at, reach, tuple(last))
        except CheckError:
            return False
        return True

    final = next((k for k in range(first, len(strict)) if is_final(k)), len(strict) - 1)
    done = convergence.then("run", domain=domain, states=vector(states), answers=strict, final=final)
    try:
        return done, problem.conclude_as(done, Run)
    except CheckError as error:
        raise NotFinal(error, "run more steps, or try another norm") from error


def strict_answers(
    problem: Problem, states: np.ndarray, answers: Sequence[Sequence[int] | None]
) -> tuple[list[list[int] | None], list[int], int]:
    """The answers that are a strict arg-max at their stored state, that of the last, and from which state on it is so.

    Raises:
        NotFinal: the last state has none.
    """
    strict: list[list[int] | None] = []
    for state, labels in zip(states, answers, strict=True):
        strict.append(None if labels is None or not _is_strict(problem, state, labels) else [int(v) for v in labels])
    last, first = strict[-1], len(strict) - 1
    if last is None:
        raise NotFinal(CheckError("MARGIN", "a strict answer at the last state", "none"), "run more steps")
    while first > 0 and strict[first - 1] == last:
        first -= 1
    return strict, last, first


def _is_strict(problem: Problem, state: np.ndarray, labels: Sequence[int]) -> bool:
    try:
        box_margins(problem.graph, point(state), tuple(int(v) for v in labels))
    except CheckError:
        return False
    return True
