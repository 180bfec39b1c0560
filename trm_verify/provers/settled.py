"""R12 with R9: where a loop that settles ends, what it answers there, and the audit of one inference of it.

Where it ends comes from one forward substitution of radii about the state that it settles in, in doubles.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, integers, vector
from trm_verify.kernel.claims import Run, Settled
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.operators import difference
from trm_verify.kernel.rules.answers import box_margins
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.provers.answers import AnswerAttempt, NotFinal, strict_answers
from trm_verify.provers.contraction.gains import Gains, NotCovered
from trm_verify.provers.problem import Floats, Problem, floats, point

FIRST, GROWTH, WIDEST, TRIES = 1e-7, 1.25, 1e3, 10  # radii about the settled state within which slopes are taken
LEAST = 1e-18  # added to every radius, which is thus never 0
GRID_BITS = 16  # of the smallest radius, below which the ends of a box are rounded outward
SLACK = 2.0**-14  # of what radii bring about, for that rounding: twice what it can add
PACE = 4  # how much longer an evaluation takes at the kernel's full precision than at a state in doubles
SHARE = 1 / 16  # of an evaluation that is left when only one part of the state has changed


def prove_settled_answer(
    problem: Problem, settled: Derivation, domain: Json, state: Floats, answer: Sequence[int],
    deadline: float = float("inf"),
) -> AnswerAttempt:  # fmt: skip
    """The answer from the last part on: by an invariant box about where the loop settles, else part by part.

    Args:
        state: about where the loop settles for some input of the domain. Shape: (n,).
    """
    started, each = time.monotonic(), 0.0
    try:
        image = step(problem.graph, point(state), problem.box(domain))
        each = time.monotonic() - started
        box = invariant_about(problem, domain, state, image, deadline)
    except (CheckError, NotCovered) as error:
        reason = str(error) if isinstance(error, CheckError) else f"no radii of single coordinates through {error}"
        return _followed(problem, settled, domain, answer, deadline, each, reason)
    stays = derive("invariant_box", operator="picard", domain=domain, region=box)
    joined, first, last = settled.join(stays)
    steps = problem.conclude_as(settled, Settled).steps
    inside = joined.then("settled_in", (first, last))
    done = inside.then("answer_by_invariance", (last, -1), domain=domain, answer=[int(v) for v in answer], steps=steps)
    try:
        problem.conclude(done)
    except CheckError as error:
        return _followed(problem, settled, domain, answer, deadline, each, str(error))
    return AnswerAttempt(done, steps)


def _followed(
    problem: Problem,
    settled: Derivation,
    domain: Json,
    answer: Sequence[int],
    deadline: float,
    each: float,
    reason: str,
) -> AnswerAttempt:
    """The answer of a single input, enclosed part by part: no box has to hold what a step expands.

    Args:
        each: seconds that an evaluation takes. reason: why there is no such box.
    """
    steps = problem.conclude_as(settled, Settled).steps
    if not problem.box(domain).is_point:
        return AnswerAttempt(None, reason=reason)
    if time.monotonic() + PACE * each * (1 + SHARE * steps) > deadline:
        return AnswerAttempt(None, reason=f"{reason}; following {steps} parts would take longer than is left")
    done = settled.then("answer_when_settled", domain=domain, answer=[int(v) for v in answer])
    try:
        problem.conclude(done)
    except CheckError as error:
        return AnswerAttempt(None, reason=f"{reason}; part by part: {error}")
    return AnswerAttempt(done, steps)


def invariant_about(problem: Problem, domain: Json, state: Floats, image: Tensor, deadline: float) -> Json:
    """A box about the state that the step maps into itself, for all inputs of the domain.

    Args:
        image: encloses the step at the state, over the domain.

    Raises:
        CheckError: none was found. NotCovered: an operation without radii of single coordinates.
    """
    moved = difference(image, point(state))
    away = floats(moved.magnitude(), moved.exp) * (1 + 1e-9)
    reach = np.maximum(away, FIRST)
    for _ in range(TRIES):
        if time.monotonic() > deadline:
            raise CheckError("LIMIT", "a box in the time for this input", "the time was used up")
        radii = _settled_radii(Gains(problem, problem.ranges(domain, _about(state, reach))), away, len(state))
        if (radii <= reach).all():
            return _about(state, radii)
        reach = np.maximum(radii, FIRST) * GROWTH
        if not float(radii.max()) < WIDEST:
            break
    raise CheckError("INCLUSION", "a box about the settled state that the step maps into itself", "radii that grow")


def _settled_radii(gains: Gains, away: Floats, most: int) -> Floats:
    """r with (1 + SLACK) gains(r) + away ≤ r: it stops to change after as many rounds as there are parts."""
    radii = away
    for _ in range(most + 1):
        after = gains(radii[:, None])[:, 0] * (1 + SLACK) + away + LEAST
        if not float(after.max()) < WIDEST or (after <= radii * (1 + 1e-9)).all():
            return np.asarray(after)
        radii = after
    return radii


def _about(state: Floats, radii: Floats) -> Json:
    """The box, its ends rounded outward to a grid a little finer than the smallest radius."""
    exp = int(np.frexp(radii.min())[1]) - GRID_BITS
    unit = Fraction(2) ** exp
    ends = [(Fraction(float(v)) - Fraction(float(r)), Fraction(float(v)) + Fraction(float(r)))
            for v, r in zip(state, radii, strict=True)]  # fmt: skip
    lo, hi = [floor(a / unit) for a, _ in ends], [ceil(b / unit) for _, b in ends]
    return {"space": "state", "lo": integers(lo, exp), "hi": integers(hi, exp)}


def prove_settled_run(
    problem: Problem, settled: Derivation, domain: Json, states: Floats, answers: Sequence[Sequence[int] | None]
) -> tuple[Derivation, Run]:
    """The audit of one trace, by an invariant box about one of its states, else by the iterates of the last one.

    Shape: states (N + 1, n), exactly as stored.

    Args:
        answers: the arg-max at each state; those that are no strict arg-max are dropped.

    Raises:
        NotFinal: nothing can be said at the last state.
    """
    strict, last, first = strict_answers(problem, states, answers)
    found = _earliest(problem, domain, states, first, last)
    joined, premises = settled, [-1]
    if found is not None:
        final, stays = found
        joined, *premises = settled.join(stays)
    else:
        final = next(k for k in range(first, len(states)) if (states[k] == states[-1]).all())
    done = joined.then(
        "settled_run", premises, domain=domain, states=vector(states), answers=strict, final=final
    )  # fmt: skip
    try:
        return done, problem.conclude_as(done, Run)
    except CheckError as error:
        steps = problem.conclude_as(settled, Settled).steps
        if len(states) <= steps:
            remedy = f"run {steps} steps, after which the exact loop has settled"
        else:
            remedy = (
                "more steps change nothing: rounding may have led the stored states elsewhere than the exact loop goes "
                "(run the model in a wider type), or its exact iterates are too long; verify_fixed_point asks where "
                "the loop itself ends"
            )
        raise NotFinal(error, remedy) from error


def _earliest(
    problem: Problem, domain: Json, states: Floats, first: int, answer: Sequence[int]
) -> tuple[int, Derivation] | None:  # fmt: skip
    """The earliest state, from `first` on, that an invariant box holds together with the last one and that answers so.

    Boxes about the last state or, where it has none, about three before it; then about those half-way between states of
    which it is known and others. None where no such box is found.
    """

    def boxed(k: int) -> tuple[int, Derivation] | None:
        try:
            image = step(problem.graph, point(states[k]), problem.box(domain))
            region = invariant_about(problem, domain, states[k], image, float("inf"))
            stays = derive("invariant_box", operator="picard", domain=domain, region=region)
            problem.conclude(stays)
            box = problem.box(region)
            box_margins(problem.graph, box, tuple(answer))
        except (CheckError, NotCovered):
            return None
        inside = [j for j in range(first, len(states)) if contains(box, point(states[j]))]
        return (inside[0], stays) if inside and inside[-1] == len(states) - 1 else None

    last = len(states) - 1
    tried = dict.fromkeys((last, (first + last) // 2, (3 * first + last) // 4, first))
    best = next((found for k in tried if (found := boxed(k)) is not None), None)
    low = first
    while best is not None and low < best[0]:
        middle = (low + best[0]) // 2
        found = boxed(middle)
        if found is None:
            low = middle + 1
        else:
            best = found
    return best
