"""Local regions (R8): a box about a fixed point in which the step contracts, and the steps until the loop is inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, quantized, vector
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.claims import Invariant
from trm_verify.kernel.cycles import unrolled_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.operators import apply, parse_operator
from trm_verify.kernel.relaxation import system_of
from trm_verify.kernel.rules.answers import box_margins
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.provers.fixed_points.newton import step_derivative
from trm_verify.provers.fixed_points.relaxed import Relaxed
from trm_verify.provers.fixed_points.relaxed import apply as apply_unit
from trm_verify.provers.perron import positive_weights
from trm_verify.provers.problem import ALL_STATES, Floats, Problem, floats

SIZES = (4.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # radii to try, the largest first, relative to the largest coordinate of d
MOST_STEPS = 256
LATER = (0, 1, 2, 4, 8)  # steps after the middle input's own entry at which to look for that of the whole box
MOST_UNITS = 2000  # of all steps together, for affine forms
GRID, SLOPE_BITS = 33, 20


def regions(problem: Problem, domain: Json, state: Floats) -> Iterator[Json]:
    """Boxes about a state, shaped by the Perron vector of the step's derivative there (or cubes), the largest first.

    Shape: state (n,).
    """
    graph, box = problem.graph, problem.box(domain)
    try:
        system = system_of(graph, forms_over(graph, box, problem.box(ALL_STATES), None), merge=False)
        inputs = np.array([floats(end, box.exp) for end in box.ends()]).reshape(2, -1)
    except CheckError:
        return
    relaxed = Relaxed.of(system, inputs, np.zeros((2, graph.size)))
    derivative = np.abs(step_derivative(relaxed, state))
    if not np.isfinite(derivative).all():
        return
    found = positive_weights(derivative)
    shaped = found is not None and found.ratio < 1
    weights = np.exp2(found.log2 - found.log2.max()) if found is not None and shaped else np.ones(graph.size)
    for size in SIZES:
        reach = np.maximum(size * weights, 1e-6 * size)
        yield {"space": "state", "lo": vector(state - reach), "hi": vector(state + reach)}


def prove_entry(
    problem: Problem, invariant: Derivation, domain: Json, answer: Sequence[int]
) -> tuple[Derivation | None, int]:
    """The answer by invariance: the first iterates from init end in the invariant box, on which the margins hold.

    Followed by interval evaluation, or, where that loses too much, by affine forms over all steps at once.
    Returns the derivation, None if there is none, and the number of steps.
    """
    concluded, labels = problem.conclude_as(invariant, Invariant), [int(v) for v in answer]
    try:
        box_margins(problem.graph, concluded.region, tuple(labels))
    except CheckError:
        return None, 0
    operator = invariant.steps[-1]["operator"]
    steps = _entered(problem, operator, problem.box(domain), concluded.region)
    if steps is not None:
        done = invariant.then("answer_by_invariance", domain=domain, answer=labels, steps=steps)
        return _concluded(problem, done), steps
    first = _entered(problem, operator, _middle(problem.box(domain)), concluded.region)
    for steps in [] if first is None else [max(first, 1) + more for more in LATER]:
        reached = _reach(problem, operator, domain, steps)
        if reached is None:
            break
        joined, one, two = invariant.join(reached)
        done = joined.then("answer_by_invariance", (one, two), domain=domain, answer=labels, steps=steps)
        if _concluded(problem, done) is not None:
            return done, steps
    return None, 0


def _concluded(problem: Problem, done: Derivation) -> Derivation | None:
    try:
        problem.conclude(done)
    except CheckError:
        return None
    return done


def _entered(problem: Problem, raw: object, given: Tensor, region: Tensor) -> int | None:
    """The first step at which the enclosure of the iterate lies in the region."""
    operator = parse_operator(raw, problem.graph.size)
    try:
        state = initial_state(problem.graph, given)
        for steps in range(MOST_STEPS + 1):
            if contains(region, state):
                return steps
            state = _short(apply(problem.graph, operator, state, given))
    except CheckError:
        pass
    return None


def _short(state: Tensor) -> Tensor:
    """Rounded outward, to keep a long loop fast; only the search looks at it."""
    lo, hi = state.snapped(-64)
    return Tensor(state.shape, -64, lo, hi)


def _middle(box: Tensor) -> Tensor:
    lo, hi = box.ends()
    middle = [a + b for a, b in zip(lo, hi, strict=True)]
    return Tensor(box.shape, box.exp - 1, middle, middle)


def _reach(problem: Problem, raw: object, domain: Json, steps: int) -> Derivation | None:
    """The box of the iterate after some steps, with the slope of every unit's chord over its interval."""
    graph, box = problem.graph, problem.box(domain)
    try:
        unrolled = unrolled_graph(graph, parse_operator(raw, graph.size), steps)
        forms = forms_over(unrolled, box, problem.box(ALL_STATES), None)
    except CheckError:
        return None
    if len(forms.units) > MOST_UNITS:
        return None
    slopes = chords(forms, np.array([floats(end, box.exp) for end in box.ends()]).reshape(2, -1))
    done = derive("reach", operator=raw, domain=domain, steps=steps, slopes=quantized(slopes, -SLOPE_BITS))
    return _concluded(problem, done)


def chords(forms: AffineForms, inputs: Floats) -> Floats:
    """Slopes of the units' chords, unit after unit, by affine arithmetic in (1, x, errors). Shape: inputs (2, m)."""
    units, m = len(forms.units), inputs.shape[1]
    middle, reach = inputs.mean(axis=0), (inputs[1] - inputs[0]) / 2
    rows = floats(forms.arguments.rows, forms.arguments.exp) if units else np.zeros((0, forms.first))
    found, values, spread = np.zeros(units), np.zeros((units, 1 + m + units)), np.zeros(units)
    for k, unit in enumerate(forms.units):
        values[k, 1 + m + k] = 1.0
        if unit.op is None:
            low, high = (float(v) for v in unit.range or (0, 0))
            values[k, 0], spread[k] = (low + high) / 2, (high - low) / 2
            continue
        form = rows[k, forms.first :][:k] @ values[:k]
        form[0] += rows[k, 0]
        form[1 : 1 + m] += rows[k, forms.first - m : forms.first]
        centre, away = form[0] + form[1 : 1 + m] @ middle, np.abs(form[1 : 1 + m]) @ reach
        away += np.abs(form[1 + m :]) @ spread
        at = torch.linspace(centre - away, centre + away, GRID, dtype=torch.float64)
        phi = apply_unit(unit, at)
        found[k] = float((phi[-1] - phi[0]) / (2 * away)) if away > 1e-12 else 0.0
        rest = phi - found[k] * at
        values[k] += found[k] * form
        values[k, 0] += float(rest.max() + rest.min()) / 2
        spread[k] = float(rest.max() - rest.min()) / 2
    return found
