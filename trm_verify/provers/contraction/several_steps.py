"""R8: contraction over several steps, for loops whose images shrink into places where the slopes are smaller."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, round_up
from trm_verify.kernel.claims import Convergence
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import apply, parse_operator
from trm_verify.kernel.rules.several_steps import gains
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.contraction.block import Blocks, block_norm, search
from trm_verify.provers.problem import Attempt, Floats, Problem, floats

NAME = "several steps"
MOST_STEPS, SETTLING = 16, 8  # steps to try; images after which slopes are as they will stay
MOST_WORK = 2_000_000  # of the step's multiplications times the steps, for a search of seconds
RATE_BITS = 60


def prove_several_steps(problem: Problem, domain: Json, region: Json, operator: object) -> Attempt:
    """Convergence from the whole region, in weighted ℓ∞, by the number of steps that makes residuals say most.

    Norm: max_i |z_i| / d_i, with d equal, the widths of the region, or the Perron vector of the last image's gains.
    """
    started = time.perf_counter()
    best: tuple[float, Fraction, Derivation] | None = None
    reason = f"no number of steps up to {MOST_STEPS} contracts in the weights that were tried"
    try:
        if problem.graph.step.cost * MOST_STEPS > MOST_WORK:
            raise CheckError("LIMIT", "a smaller step", problem.graph.step.cost)
        given, states, loop = problem.box(domain), problem.box(region), parse_operator(operator, problem.graph.size)
        for log2 in _weights(problem, given, states, operator):
            norm = block_norm(Blocks((1,) * problem.graph.size, {}), log2)
            parsed = problem.norm(norm)
            if not isinstance(parsed, BlockNorm):
                raise TypeError("expected a block norm")
            found = gains(problem.graph, loop, given, states, parsed, MOST_STEPS, [])
            for reach, steps, rate in _choices(found):
                if best is None or reach < best[0]:
                    best = reach, rate, derive(
                        "several_steps", operator=operator, domain=domain, region=region, norm=norm, steps=steps,
                        rate=dyadic(rate),
                    )  # fmt: skip
        if best is not None:
            problem.conclude_as(best[2], Convergence)
            return Attempt(NAME, "weighted_linf", time.perf_counter() - started, best[1], best[2])
    except CheckError as error:
        reason = str(error)
    return Attempt(NAME, "weighted_linf", time.perf_counter() - started, reason=reason)


def _choices(found: Sequence[Fraction]) -> Iterator[tuple[float, int, Fraction]]:
    """(C/(1 − σ), which residuals are multiplied by; m; σ) for every m that contracts.

    The least σ has the largest C; halfway to 1, in logarithms, is often the better bargain.
    """
    for steps, gain in enumerate(found[1:], 1):
        if gain >= 1:  # no power of it is below 1, and it may be too large for a double
            continue
        for power in (1.0, 0.5, 0.25):
            root = max(float(gain), 2.0**-40) ** (power / steps) * (1 + 1e-12)
            if root < 1 - 1e-9:
                rate = round_up(Fraction(root), RATE_BITS)
                if gain <= rate**steps:
                    yield max(float(g / rate**j) for j, g in enumerate(found[:steps])) / float(1 - rate), steps, rate


def _weights(problem: Problem, given: Tensor, states: Tensor, raw: object) -> Iterator[Floats]:
    """Binary logarithms of weights to try."""
    n, operator = problem.graph.size, parse_operator(raw, problem.graph.size)
    yield np.zeros(n)
    if states.bounded:
        lo, hi = states.ends()
        width = floats([b - a for a, b in zip(lo, hi, strict=True)], states.exp)
        if width.min() > 0 and np.ptp(width) > 0:
            yield np.log2(width)
    box = states
    for _ in range(SETTLING):
        if not box.bounded and operator.alpha:
            break
        box = apply(problem.graph, operator, box, given)
    ranges = evaluate(problem.graph, problem.graph.step, box, given)
    found = search(problem, ranges, Blocks((1,) * n, {})).log2
    if np.isfinite(found).all() and np.ptp(found) > 0:
        yield found - found.min()
