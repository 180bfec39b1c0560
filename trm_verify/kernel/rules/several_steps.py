"""R8: a loop that contracts over several steps, though perhaps in none of them."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Convergence
from trm_verify.kernel.context import Context, Witness, rate
from trm_verify.kernel.errors import CheckError, approximate
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import ceil_at, dyadic, round_up
from trm_verify.kernel.operators import Operator, apply, require_loop
from trm_verify.kernel.radii import Radii
from trm_verify.kernel.rules.contraction import propagate
from trm_verify.kernel.tensor import GRID, Tensor, contains

MAX_STEPS = 64


def damped_radii(operator: Operator, norm: BlockNorm, before: Radii, after: Radii) -> Radii:
    """Radii of (1 − α)∘Δ + α∘Δ', per group of the norm, from those of Δ and of Δ'."""
    if not operator.alpha:
        return after
    alphas: list[list[Fraction]] = [[] for _ in norm.sizes]
    for g, alpha in zip(norm.groups, operator.alpha, strict=True):
        alphas[g].append(alpha)
    mixed = [
        max(1 - a for a in own) * dyadic(p, before.exp) + max(own) * dyadic(q, after.exp)
        for own, p, q in zip(alphas, before.values, after.values, strict=True)
    ]
    return Radii(None, [ceil_at(v, GRID) for v in mixed], GRID)


def gains(
    graph: Graph, operator: Operator, domain: Tensor, region: Tensor, norm: BlockNorm, steps: int,
    premises: list[Conclusion],
) -> list[Fraction]:  # fmt: skip
    """g_j ≥ sup N(Tʲz − Tʲz') / N(z − z') over the region, which T maps into itself, for j = 0, …, steps.

    Raises:
        CheckError: T was not shown to map a bounded region into itself.
    """
    box, found = region, [Fraction(1)]
    radii = Radii(None, list(norm.weights), norm.exp)
    for _ in range(steps):
        ranges = evaluate(graph, graph.step, box, domain)
        after = propagate(graph, norm, ranges, premises, (radii.values, radii.exp), over=(box, domain))
        radii = damped_radii(operator, norm, radii, after)
        if box.bounded or not operator.alpha:  # all of Rⁿ stays all of Rⁿ under damping
            box = apply(graph, operator, box, domain)
            if not contains(region, box):
                raise CheckError("INCLUSION", "the image of the region inside it", "a coordinate that leaves it")
        found.append(max(dyadic(v, radii.exp) / norm.weight(g) for g, v in enumerate(radii.values)))
    return found


def several_steps(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Tᵐ contracts on a set that T maps into itself: radii pass through m steps. Sound if: proofs/several_steps.md."""
    raw = document.fields(
        witness, "operator", "domain", "region", "norm", "steps", "rate", where="several_steps"
    )  # fmt: skip
    operator = context.operator(raw[0])
    require_loop(operator)
    domain, region, norm = context.box(raw[1], "input"), context.box(raw[2], "state"), context.norm(raw[3])
    steps, bound = document.integer(raw[4], 1, MAX_STEPS, "steps"), rate(raw[5])
    if not isinstance(norm, BlockNorm):
        raise CheckError("NORM", "a block norm", norm.family)
    if not bound > 0:
        raise CheckError("RATE", "a rate in (0, 1)", bound)
    found = gains(context.graph, operator, domain, region, norm, steps, premises)
    if found[steps] > bound**steps:
        raise CheckError("INEQUALITY", f"{steps} steps to contract at {approximate(bound)} each", found[steps])
    largest = max(gain / bound**j for j, gain in enumerate(found[:steps]))
    return Convergence(operator, domain, region, norm, round_up(largest), bound, region=region)
