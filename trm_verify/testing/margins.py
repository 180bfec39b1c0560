"""By how much an answer is proved: a lower bound of the logit differences over a box of states."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from trm_verify.encode import Json
from trm_verify.kernel.check import Valid, _box
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.provers.problem import point


def logit_margin(valid: Valid, states: Tensor, answer: Sequence[int]) -> Fraction | None:
    """A bound below every logit difference in favour of the answer, at every state of the box; None without a readout.

    Exact interval arithmetic; it may lie far below the least difference, and be negative where the answer holds.
    """
    readout = valid.graph.readout
    if readout is None:
        return None
    given = Tensor((valid.graph.input_size,))  # a readout looks at the state alone
    logits = evaluate(valid.graph, readout, states, given)[readout.outputs[0]]
    if not logits.bounded:
        return None
    classes = logits.shape[-1]
    ends = [logits.fraction(i) for i in range(logits.size)]
    rows = [ends[i : i + classes] for i in range(0, len(ends), classes)]
    return min(
        (row[y][0] - hi for row, y in zip(rows, answer, strict=True) for j, (_, hi) in enumerate(row) if j != y),
        default=None,
    )


def around(centre: np.ndarray, radius: Sequence[Fraction | float]) -> Tensor:
    """The box centre ± radius. Shape: (n,)."""
    reach = zip(centre.ravel().tolist(), radius, strict=True)
    return from_fractions([(Fraction(c) - Fraction(r), Fraction(c) + Fraction(r)) for c, r in reach])


def fixed_points_near(valid: Valid, domain: Json, state: np.ndarray) -> Tensor | None:
    """A box about a likely fixed point that holds the fixed points of all inputs of the domain.

    By N(z* − c) ≤ N(T(c) − c)/(1 − ρ), from a proved contraction on all states; None where there is none.
    """
    for claim in valid.claims:
        if isinstance(claim, Contraction) and not claim.region.bounded:
            try:
                bound = residual_bound(valid.graph, claim, _box(domain, valid.graph)[1], point(state))
            except CheckError:  # an operator that is no loop
                continue
            return around(state, claim.norm.spread(bound))
    return None
