"""Local proofs (R8): an invariant set inside a given region, so that a contraction there speaks of orbits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, round_up, vector
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.provers.problem import Problem, point


def prove_invariant(
    problem: Problem, contraction: Derivation, domain: Json, region: Json, operator: object, spectral: list[Derivation],
    guess: np.ndarray | None = None,
) -> tuple[Derivation | None, str]:  # fmt: skip
    """An invariant set: the whole region by interval evaluation or radii, else a ball about a likely fixed point.

    Returns the derivation (which starts with the contraction's when it is a ball) and, when there is none, why.
    """
    reasons = []
    for rule in ("invariant_box", "invariant_radius"):
        joined, cited = Derivation(()), []
        if rule == "invariant_radius":
            for bound in spectral:
                joined, _, last = joined.join(bound)
                cited.append(last)
        done = joined.then(rule, cited, operator=operator, domain=domain, region=region)
        try:
            problem.conclude(done)
            return done, ""
        except CheckError as error:
            reasons.append(f"{rule}: {error}")
    if guess is not None:
        premise = problem.conclude(contraction)
        if not isinstance(premise, Contraction):
            raise TypeError(f"expected a contraction, found {type(premise).__name__}")
        try:
            at = point(guess)
            least = residual_bound(problem.graph, premise, problem.box(domain), at)
            radius = round_up(least * (1 + Fraction(1, 1 << 20)) + Fraction(1, 1 << 120), 40)
            done = contraction.then("invariant_ball", domain=domain, center=vector(guess), radius=dyadic(radius))
            problem.conclude(done)
            return done, ""
        except CheckError as error:
            reasons.append(f"invariant_ball: {error}")
    return None, "; ".join(reasons)
