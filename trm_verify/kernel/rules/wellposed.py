"""R4: implicit models z = φ(Wz + Ux + b), φ elementwise with slopes in [0, 1]."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Convergence, WellPosed
from trm_verify.kernel.context import Context, Witness, none, number, only, rate, upper_triangle_size
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.linear import linear_forms, require_activations
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import Rows, dyadic, floor_at, require_psd, rescale
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.rules.contraction import require_norm
from trm_verify.kernel.tensor import Tensor

MONOTONE_UNIT = {"relu", "leaky_relu", "clamp", "tanh", "sigmoid", "softplus"}  # slopes in [0, 1] on all of R
PROJECTIONS = {"relu", "clamp"}


def _implicit_form(context: Context, domain: Tensor) -> tuple[Rows, int, set[str]]:
    """W of a step that is exactly φ(Wz + u(x)): a unit per state entry, in order, none inside another's argument.

    A step without units is affine: the same with the identity for φ.
    """
    graph, n = context.graph, context.graph.size
    ranges = evaluate(graph, graph.step, Tensor((n,)), domain)
    forms = linear_forms(graph, graph.step, ranges)
    require_activations(forms)
    ops = {graph.step.nodes[node].op for node, _, _ in forms.units}
    if not ops <= MONOTONE_UNIT:
        raise CheckError("UNSUPPORTED", f"activations among {sorted(MONOTONE_UNIT)}", sorted(ops - MONOTONE_UNIT))
    if not forms.units:
        return forms.outputs.rows, forms.outputs.exp, ops
    one = 1 << -forms.outputs.exp if forms.outputs.exp <= 0 else 0
    unit = [[0] * n + [one * (i == j) for j in range(n)] for i in range(n)]
    if len(forms.units) != n or forms.outputs.rows != unit or any(any(row[n:]) for row in forms.arguments.rows):
        raise CheckError("UNSUPPORTED", "a step of the form φ(Wz + Ux + b)", "another form")
    return [row[:n] for row in forms.arguments.rows], forms.arguments.exp, ops


def monotone(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """(2 − 2m)I − W − Wᵀ ⪰ 0 with m > 0: exactly one fixed point. Sound if: proofs/monotone.md."""
    none(premises)
    raw_domain, raw_m, raw_factor = document.fields(witness, "domain", "m", "factor", where="monotone")
    domain, m = context.box(raw_domain, "input"), number(raw_m, "m")
    if m <= 0:
        raise CheckError("WITNESS", "m > 0", m)
    rows, exp, ops = _implicit_form(context, domain)
    n = len(rows)
    low = min(exp, 1 - m.denominator.bit_length())
    w = [rescale(row, exp, low) for row in rows]
    shift = floor_at(2 - 2 * m, low)
    rest = [[shift * (i == j) - w[i][j] - w[j][i] for j in range(n)] for i in range(n)]
    require_psd(rest, low, document.vector(raw_factor, upper_triangle_size(n), "factor"), "(2 − 2m)I − W − Wᵀ")
    everything = Tensor((n,))
    projection = ops <= PROJECTIONS
    return WellPosed(domain, everything, slack=m, matrix=(rows, exp), projection=projection)


def monotone_convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Inner damping, 0 < α < 2m/L², L ≥ ‖I − W‖₂, φ a projection. Sound if: proofs/monotone_convergence.md."""
    premise = only(premises, WellPosed)
    raw = document.fields(witness, "alpha", "sigma", "factor", "rate", where="monotone_convergence")
    alpha, sigma, bound = number(raw[0], "alpha"), number(raw[1], "sigma"), rate(raw[3])
    if premise.slack is None or not premise.projection:
        raise CheckError("PREMISE", "a monotone model whose activation is a projection (ReLU, clamp)", "another")
    rows, exp = premise.matrix
    one = 1 << max(-exp, 0)
    low = min(exp, 0)
    rest = [[one * (i == j) - (v << (exp - low)) for j, v in enumerate(row)] for i, row in enumerate(rows)]
    if sigma < 0 or not 0 < alpha * sigma * sigma < 2 * premise.slack:
        raise CheckError("WITNESS", "0 < α < 2m/L²", alpha)
    require_norm(rest, low, sigma, raw[2])
    if 1 - 2 * alpha * premise.slack + alpha * alpha * sigma * sigma > bound * bound:
        raise CheckError("INEQUALITY", "rate² ≥ 1 − 2αm + α²L²", bound)
    n = len(rows)
    everything = Tensor((n,))
    return Convergence(
        Operator("inner_damped", (alpha,)), premise.domain, everything, BlockNorm((n,), (1,), 0), Fraction(1), bound,
        region=everything,
    )  # fmt: skip


def log_norm(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """μ_i = W_ii + Σ_{j≠i} |W_ij| d_j/d_i < 1 for every i: exactly one fixed point. Sound if: proofs/log_norm.md."""
    none(premises)
    raw_domain, raw_vector = document.fields(witness, "domain", "vector", where="log_norm")
    domain = context.box(raw_domain, "input")
    rows, exp, _ = _implicit_form(context, domain)
    n = len(rows)
    d, d_exp = document.vector(raw_vector, n, "vector")
    if min(d) <= 0:
        raise CheckError("WITNESS", "a strictly positive vector", min(d))
    measures = []
    for i, row in enumerate(rows):
        away = sum(abs(v) * w for v, w in zip(row, d, strict=True)) - abs(row[i]) * d[i]
        measures.append((row[i] + Fraction(away, d[i])) * dyadic(1, exp))
    if max(measures) >= 1:
        raise CheckError("INEQUALITY", "a log-norm below 1 in every row", max(measures))
    diagonal = tuple(dyadic(row[i], exp) for i, row in enumerate(rows))
    norm = BlockNorm((1,) * n, tuple(d), d_exp)
    return WellPosed(domain, Tensor((n,)), diagonal=diagonal, measures=tuple(measures), norm=norm)


def log_norm_convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Outer damping, α_i(1 − min(W_ii, 0)) ≤ 1. Sound if: proofs/log_norm_convergence.md."""
    premise = only(premises, WellPosed)
    raw_alpha, raw_rate = document.fields(witness, "alpha", "rate", where="log_norm_convergence")
    damped, bound = context.operator({"outer_damped": raw_alpha}), rate(raw_rate)
    if premise.norm is None:
        raise CheckError("PREMISE", "a log-norm model", "a monotone one")
    for alpha, own, mu in zip(damped.alpha, premise.diagonal, premise.measures, strict=True):
        if alpha * (1 - min(own, Fraction(0))) > 1:
            raise CheckError("WITNESS", "α_i (1 − min(W_ii, 0)) ≤ 1", alpha)
        if 1 - alpha * (1 - max(mu, Fraction(0))) > bound:
            raise CheckError("INEQUALITY", "rate ≥ 1 − α_i (1 − max(μ_i, 0))", bound)
    everything = Tensor((context.graph.size,))
    return Convergence(damped, premise.domain, everything, premise.norm, Fraction(1), bound, region=everything)
