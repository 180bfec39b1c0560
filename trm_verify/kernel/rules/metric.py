"""R3: contraction in a metric, by a matrix inequality over the state and all activation units."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Contraction
from trm_verify.kernel.context import Context, Witness, none, rate, upper_triangle_size
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.inequality import Sectors, sector_matrix
from trm_verify.kernel.linear import Forms, linear_forms, require_activations
from trm_verify.kernel.norms import MetricNorm, Norm
from trm_verify.kernel.numbers import Rows, floor_at, identity, require_psd, rescale
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor


def _sectors(forms: Forms, context: Context, ranges: list[Tensor]) -> Sectors:
    """Slope bounds of every unit, in unit order."""
    nodes = context.graph.step.nodes
    by_node = {n: slopes(nodes[n], ranges[nodes[n].args[0]]) for n in dict.fromkeys(n for n, _, _ in forms.units)}
    exp = min((s[2] for s in by_node.values()), default=0)
    lo = [by_node[n][0][entry] << (by_node[n][2] - exp) for n, entry, _ in forms.units]
    hi = [by_node[n][1][entry] << (by_node[n][2] - exp) for n, entry, _ in forms.units]
    return Sectors(lo, hi, exp)


def contraction_matrix(
    context: Context, region: Tensor, domain: Tensor, norm: Norm, bound: Fraction, multipliers: tuple[list[int], int]
) -> tuple[Rows, int]:
    """The matrix M of the rule, exactly, over (state entries, units)."""
    graph, n = context.graph, context.graph.size
    ranges = evaluate(graph, graph.step, region, domain)
    forms = linear_forms(graph, graph.step, ranges)
    require_activations(forms)
    metric, metric_exp = (norm.rows, norm.exp) if isinstance(norm, MetricNorm) else (identity(n), 0)
    square = bound * bound
    square_exp = 1 - square.denominator.bit_length()
    allowed = [[floor_at(square, square_exp) * v for v in row] for row in metric]
    return sector_matrix(
        (allowed, metric_exp + square_exp), (metric, metric_exp), forms, _sectors(forms, context, ranges), multipliers
    )


def metric_contraction(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """ρ²|Δz|²_P − |Δz⁺|²_P − Σ 2λ_i(φ_i − a_i v_i)(b_i v_i − φ_i) ≥ 0 for all (Δz, φ).

    Sound if: proofs/metric_contraction.md.
    """
    none(premises)
    raw = document.fields(
        witness, "domain", "region", "norm", "rate", "multipliers", "factor", "norm_factor", where="metric_contraction"
    )
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    norm, bound = context.norm(raw[2]), rate(raw[3])
    if isinstance(norm, MetricNorm):
        _require_floor(norm, raw[6])
    elif len(norm.sizes) != 1 or raw[6] is not None:
        raise CheckError("NORM", "a metric norm, or an ℓ2 norm of one group with norm_factor null", norm.family)
    rows, exp = contraction_matrix(context, region, domain, norm, bound, document.vector(raw[4], None, "multipliers"))
    factor = document.vector(raw[5], upper_triangle_size(len(rows)), "factor")
    require_psd(rows, exp, factor, "the contraction matrix")
    return Contraction(PICARD, domain, region, norm, bound)


def _require_floor(norm: MetricNorm, raw_factor: object) -> None:
    """P − pI ⪰ 0."""
    low = min(norm.exp, 1 - norm.floor.denominator.bit_length())
    rest = [rescale(row, norm.exp, low) for row in norm.rows]
    shift = floor_at(norm.floor, low)
    for i, row in enumerate(rest):
        rest[i] = [*row[:i], row[i] - shift, *row[i + 1 :]]
    factor = document.vector(raw_factor, upper_triangle_size(norm.size), "norm_factor")
    require_psd(rest, low, factor, "P − pI")
