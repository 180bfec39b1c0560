"""R12: recursions that settle exactly, such as strictly causal ones, and their answers.

The order of the parts comes from one pass over the graph with sets of parts; where the recursion ends from one forward
substitution of radii about the state that it settles in, in doubles.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from math import ceil, floor, prod

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, integers
from trm_verify.kernel.claims import Settled
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.influence import levels_of
from trm_verify.kernel.operators import difference
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.answers import AnswerAttempt
from trm_verify.provers.contraction.gains import Gains, NotCovered
from trm_verify.provers.problem import ALL_STATES, Attempt, Floats, Problem, floats, point

MOST_ENTRIES = 2048  # of a state whose entries are parts of their own
FIRST, GROWTH, WIDEST, TRIES = 1e-7, 1.25, 1e3, 10  # radii about the settled state within which slopes are taken
LEAST = 1e-18  # added to every radius, which is thus never 0
GRID_BITS = 8  # of the smallest radius, below which the ends of a box are rounded outward
PACE = 4  # how much longer an evaluation takes at the kernel's full precision than at a state in doubles
SHARE = 1 / 16  # of an evaluation that is left when only one part of the state has changed
NAME = "triangular"


def prove_settled(problem: Problem, domain: Json) -> Attempt:
    """The step's parts (tokens, else entries) in an order in which each depends on earlier ones alone."""
    started = time.perf_counter()
    reason = "some part of the state depends on itself, through others perhaps"
    try:
        for units in _partitions(problem):
            parts = _order(_dependencies(problem, domain, units))
            if parts is not None:
                runs = [[len(list(own)), part] for part, own in groupby(parts[u] for u in units)]
                done = derive("triangular", domain=domain, parts=runs)
                problem.conclude(done)
                return Attempt(NAME, "exact", time.perf_counter() - started, derivation=done)
    except CheckError as error:
        reason = str(error)
    return Attempt(NAME, "exact", time.perf_counter() - started, reason=reason)


def _partitions(problem: Problem) -> list[list[int]]:
    """The unit of each state entry: last-axis rows, then single entries."""
    rows: list[int] = []
    for shape in problem.graph.state:
        width = shape[-1] if shape else 1
        rows += [(rows[-1] + 1 if rows else 0) + i // width for i in range(prod(shape))]
    single = list(range(problem.graph.size))
    return [rows] if rows == single or len(single) > MOST_ENTRIES else [rows, single]


def _dependencies(problem: Problem, domain: Json, units: Sequence[int]) -> list[int]:
    """For each unit the set of units, as bits, that it depends on."""
    graph = problem.graph
    levels = levels_of(graph, graph.step, problem.ranges(domain, ALL_STATES), [1 << u for u in units], _union)
    flat: list[int] = []
    for i in graph.step.outputs:
        own = levels[i]
        flat += [0] * graph.step.nodes[i].size if own is None else own
    found = [0] * (max(units) + 1)
    for unit, own_set in zip(units, flat, strict=True):
        found[unit] |= own_set
    return found


def _union(sets: Sequence[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found


def _order(depends: Sequence[int]) -> list[int] | None:
    """For each unit the length of the longest path that ends in it, from 1; None where there is a cycle."""
    parts = [0] * len(depends)
    known, part, waiting = 0, 0, set(range(len(depends)))
    while waiting:
        part += 1
        ready = [u for u in waiting if not depends[u] & ~known]
        if not ready:
            return None
        for u in ready:
            parts[u] = part
        known |= sum(1 << u for u in ready)
        waiting.difference_update(ready)
    return parts


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
    """r with gains(r) + away ≤ r: it stops to change after as many rounds as there are parts."""
    radii = away
    for _ in range(most + 1):
        after = (gains(radii[:, None])[:, 0] + away) * (1 + 1e-12) + LEAST
        if not float(after.max()) < WIDEST or (after <= radii * (1 + 1e-9)).all():
            return np.asarray(after * (1 + 2.0**-6))
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
