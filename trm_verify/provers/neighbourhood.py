"""Local regions (R8): a box about a fixed point in which the step contracts, and the steps until the loop is inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, vector
from trm_verify.kernel.claims import Invariant
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.operators import apply, parse_operator
from trm_verify.kernel.relaxation import system_of
from trm_verify.kernel.rules.answers import box_margins
from trm_verify.kernel.rules.fixed_points import forms_over
from trm_verify.kernel.tensor import contains
from trm_verify.provers.newton import step_derivative
from trm_verify.provers.perron import positive_weights
from trm_verify.provers.problem import ALL_STATES, Floats, Problem, floats
from trm_verify.provers.relaxed import Relaxed

SIZES = (4.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # radii to try, the largest first, relative to the largest coordinate of d
MOST_STEPS = 256


def regions(problem: Problem, domain: Json, state: Floats) -> Iterator[Json]:
    """Boxes about a state, shaped by the Perron vector of the step's derivative there, the largest first.

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
    found = positive_weights(derivative) if np.isfinite(derivative).all() else None
    if found is None or found.ratio >= 1:
        return
    weights = np.exp2(found.log2 - found.log2.max())
    for size in SIZES:
        reach = np.maximum(size * weights, 1e-6 * size)
        yield {"space": "state", "lo": vector(state - reach), "hi": vector(state + reach)}


def prove_entry(
    problem: Problem, invariant: Derivation, domain: Json, answer: Sequence[int]
) -> tuple[Derivation | None, int]:
    """The answer by invariance: the first iterates from init end in the invariant box, on which the margins hold.

    Returns the derivation, None if there is none, and the number of steps.
    """
    concluded = problem.conclude_as(invariant, Invariant)
    operator = parse_operator(invariant.steps[-1]["operator"], problem.graph.size)
    box, labels = problem.box(domain), tuple(int(v) for v in answer)
    try:
        box_margins(problem.graph, concluded.region, labels)
        state = initial_state(problem.graph, box)
        for steps in range(MOST_STEPS + 1):
            if contains(concluded.region, state):
                done = invariant.then("answer_by_invariance", domain=domain, answer=list(labels), steps=steps)
                problem.conclude(done)
                return done, steps
            state = apply(problem.graph, operator, state, box)
    except CheckError:
        pass
    return None, 0
