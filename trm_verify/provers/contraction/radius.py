"""Contraction in weighted ℓ∞ through any graph (R1)."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.encode import Json
from trm_verify.provers.contraction.block import prove_block
from trm_verify.provers.problem import Attempt, Problem


def prove_linf(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
    """Weighted ℓ∞ with the Perron weights of the step's absolute gains.

    Args:
        limit: not used; this prover is the cheapest.

    Norm: max_i |z_i| / d_i.
    """
    return prove_block(problem, domain, region, [1] * problem.graph.size, prover="radius", norm_name="weighted_linf")
