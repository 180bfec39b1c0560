"""R8: invariant sets, and what follows from them together with a contraction."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import (
    AtMostOne,
    Conclusion,
    Contraction,
    Convergence,
    ExactlyOne,
    Invariant,
)  # fmt: skip
from trm_verify.kernel.context import Context, Witness, none, number, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate, initial_state, step
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.norms import BlockNorm, Norm
from trm_verify.kernel.numbers import ceil_at, dyadic
from trm_verify.kernel.operators import apply, difference, require_loop
from trm_verify.kernel.rules.contraction import propagate
from trm_verify.kernel.tensor import GRID, Tensor, contains


def midpoint(box: Tensor) -> Tensor:
    lo, hi = box.ends()
    middle = [a + b for a, b in zip(lo, hi, strict=True)]
    return Tensor(box.shape, box.exp - 1, middle, middle)


def ball_box(norm: Norm, centre: Tensor, radius: Fraction) -> Tensor:
    """The smallest box on the grid that we know to hold {N(z − centre) ≤ radius}; the centre may be an enclosure."""
    lo, hi = centre.snapped(GRID)
    spread = [ceil_at(r, GRID) for r in norm.spread(radius)]
    return Tensor(
        (centre.size,), GRID, [a - r for a, r in zip(lo, spread, strict=True)],
        [b + r for b, r in zip(hi, spread, strict=True)],
    )  # fmt: skip


def residual_bound(graph: Graph, premise: Contraction | Convergence, domain: Tensor, centre: Tensor) -> Fraction:
    """R with N(centre − z*(x)) ≤ R for all x of the domain: C·N(T(c) − c)/(1 − ρ), all of one premise."""
    if premise.region is None or not contains(premise.region, centre):
        raise CheckError("INCLUSION", "the centre inside the region of the contraction", "one that is not shown to be")
    moved = difference(apply(graph, premise.operator, centre, domain), centre)
    constant = premise.constant if isinstance(premise, Convergence) else 1
    return premise.norm.bound(moved) * constant / (1 - premise.rate)


def invariant_box(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """T(B, X) ⊂ B by interval evaluation. Sound if: proofs/invariant_box.md."""
    none(premises)
    raw = document.fields(witness, "operator", "domain", "region", where="invariant_box")
    operator = context.operator(raw[0])
    domain, region = context.box(raw[1], "input"), context.box(raw[2], "state")
    require_loop(operator)
    # (1 − α)B + αf(B) ⊂ B exactly when f(B) ⊂ B, coordinate by coordinate: one evaluation of f serves both operators
    if not contains(region, step(context.graph, region, domain)):
        raise CheckError("INCLUSION", "the image of the box inside the box", "a coordinate that leaves it")
    return Invariant(operator, domain, region)


def invariant_radius(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """|T(c, X) − c| + (radius pass) ≤ r about the midpoint c of the box. Sound if: proofs/invariant_radius.md."""
    raw = document.fields(witness, "operator", "domain", "region", where="invariant_radius")
    operator = context.operator(raw[0])
    domain, region = context.box(raw[1], "input"), context.box(raw[2], "state")
    graph, centre = context.graph, midpoint(region)
    lo, hi = region.ends()
    radii, exp = [b - a for a, b in zip(lo, hi, strict=True)], region.exp - 1
    moved = difference(apply(graph, operator, centre, domain), centre)
    shape = BlockNorm((1,) * graph.size, (1,) * graph.size, 0)
    ranges = evaluate(graph, graph.step, region, domain)
    out = propagate(graph, shape, ranges, premises, (radii, exp), over=(region, domain))
    alphas = operator.alpha or (Fraction(1),) * graph.size
    for value, radius, alpha, away in zip(out.values, radii, alphas, moved.magnitude(), strict=True):
        reach = dyadic(away, moved.exp) + alpha * dyadic(value, out.exp) + (1 - alpha) * dyadic(radius, exp)
        if reach > dyadic(radius, exp):
            raise CheckError("INCLUSION", "the image of the box inside the box", "a coordinate that leaves it")
    return Invariant(operator, domain, region)


def invariant_ball(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """N(T(c, x) − c) ≤ (1 − ρ)R: the closed N-ball is invariant. Sound if: proofs/invariant_ball.md."""
    premise = only(premises, Contraction)
    raw = document.fields(witness, "domain", "center", "radius", where="invariant_ball")
    domain, radius = context.box(raw[0], "input"), number(raw[2], "radius")
    centre = context.state(raw[1])
    if radius < 0:
        raise CheckError("WITNESS", "radius ≥ 0", radius)
    if not contains(premise.domain, domain):
        raise CheckError("CONTEXT", "a domain inside the contraction's", "one that is not")
    if premise.region.bounded and not contains(premise.region, ball_box(premise.norm, centre, radius)):
        raise CheckError("INCLUSION", "the ball inside the contraction's region", "one that is not")
    if residual_bound(context.graph, premise, domain, centre) > radius:
        raise CheckError("INEQUALITY", "N(T(c) − c) ≤ (1 − ρ)R", radius)
    return Invariant(premise.operator, domain, premise.region, (premise.norm, centre, radius))


def at_most_one(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """A contraction has at most one fixed point in its region. Sound if: proofs/at_most_one.md."""
    premise = only(premises, Contraction)
    document.fields(witness, where="at_most_one")
    return AtMostOne(premise.domain, premise.region)


def _with_invariance(premises: list[Conclusion]) -> tuple[Contraction, Invariant | None, Tensor]:
    """A contraction, an invariant set inside its region unless that is all of Rⁿ, and the domain where both hold."""
    if not premises or not isinstance(premises[0], Contraction) or len(premises) > 2:
        raise CheckError("PREMISE", "a contraction and at most one invariant set", [type(p).__name__ for p in premises])
    contraction = premises[0]
    if len(premises) == 1:
        if contraction.region.bounded:
            raise CheckError("PREMISE", "an invariant set, since the contraction is local", "none")
        return contraction, None, contraction.domain
    invariant = premises[1]
    if not isinstance(invariant, Invariant):
        raise CheckError("PREMISE", "an invariant set as second premise", type(invariant).__name__)
    if invariant.operator != contraction.operator:
        raise CheckError("CONTEXT", "an invariant set of the same operator", invariant.operator)
    if not contains(contraction.domain, invariant.domain):
        raise CheckError("CONTEXT", "an invariant set on a domain inside the contraction's", "another domain")
    if not contains(contraction.region, invariant.region):
        raise CheckError("CONTEXT", "an invariant set inside the contraction's region", "one that is not")
    return contraction, invariant, invariant.domain


def exactly_one(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Banach's theorem. Sound if: proofs/exactly_one.md."""
    document.fields(witness, where="exactly_one")
    contraction, _, domain = _with_invariance(premises)
    return ExactlyOne(domain, contraction.region)


def convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """From every start in the invariant set, at the contraction's rate. Sound if: proofs/convergence.md."""
    (raw,) = document.fields(witness, "start", where="convergence")
    start = context.box(raw, "state")
    contraction, invariant, domain = _with_invariance(premises)
    if invariant is not None and invariant.ball is None and not contains(invariant.region, start):
        raise CheckError("INCLUSION", "the start inside the invariant box", "one that is not")
    if invariant is not None and invariant.ball is not None:
        norm, centre, radius = invariant.ball
        if norm.bound(difference(start, centre)) > radius:
            raise CheckError("INCLUSION", "the start inside the invariant ball", "one that is not")
    return Convergence(
        contraction.operator, domain, start, contraction.norm, Fraction(1), contraction.rate, region=contraction.region
    )


def initial_bound(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """N(init(x) − z*) ≤ N(init(x) − c) + N(T(c) − c)/(1 − ρ). Sound if: proofs/initial_bound.md."""
    premise = only(premises, Convergence)
    raw_domain, raw_centre = document.fields(witness, "domain", "center", where="initial_bound")
    domain = context.box(raw_domain, "input")
    centre = context.state(raw_centre)
    initial = from_init(context.graph, premise, domain)
    bound = premise.norm.bound(difference(initial, centre)) + residual_bound(context.graph, premise, domain, centre)
    return Convergence(
        premise.operator,
        domain,
        None,
        premise.norm,
        premise.constant,
        premise.rate,
        initial=bound,
        region=premise.region,
    )


def from_init(graph: Graph, premise: Convergence, domain: Tensor) -> Tensor:
    """init(X), shown to lie in the set from which the premise converges."""
    if not contains(premise.domain, domain):
        raise CheckError("CONTEXT", "a domain inside the premise's", "one that is not")
    initial = initial_state(graph, domain)
    if premise.start is not None and not contains(premise.start, initial):
        raise CheckError("INCLUSION", "init(X) inside the start set", "one that is not shown to be")
    return initial
