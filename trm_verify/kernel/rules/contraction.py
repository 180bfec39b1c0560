"""R1, R2 and R10: contraction in block norms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Contraction, Gain, Spectral
from trm_verify.kernel.context import Context, Witness, none, number, only, rate, upper_triangle_size
from trm_verify.kernel.errors import CheckError, approximate
from trm_verify.kernel.evaluate import constants, evaluate
from trm_verify.kernel.graph import CONSTANT, Graph
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import (
    Rows,
    dot,
    dyadic,
    floor_at,
    gram,
    require_bits,
    require_psd,
    rescale,
    rows_of,
    transpose,
)
from trm_verify.kernel.operators import PICARD, Operator
from trm_verify.kernel.radii import Radii, regroup
from trm_verify.kernel.radius import Gains, Propagation
from trm_verify.kernel.radius import Spectral as Bounds
from trm_verify.kernel.tensor import Tensor, contains


def _matrix(graph: Graph, raw: object) -> tuple[int, Rows, int]:
    """A constant, exact, two-dimensional node of the step: (index, rows, exponent)."""
    index = document.integer(raw, 0, len(graph.step.nodes) - 1, "matrix")
    node = graph.step.nodes[index]
    if node.kind != CONSTANT or len(node.shape) != 2:
        raise CheckError("WITNESS", "a constant matrix of the step", node.op)
    value = constants(graph, graph.step)[index]
    if not value.is_point:
        raise CheckError("UNSUPPORTED", "an exact matrix", "an enclosed one")
    graph.charge(node.size)
    return index, rows_of(value.ends()[0], node.shape[1]), value.exp


def spectral(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R2: σ²I − WᵀW ⪰ 0. Sound if: proofs/spectral.md."""
    none(premises)
    raw, raw_sigma, raw_factor = document.fields(witness, "matrix", "sigma", "factor", where="spectral")
    index, rows, exp = _matrix(context.graph, raw)
    context.graph.charge(len(rows) * len(rows[0]) * min(len(rows), len(rows[0])))
    sigma = number(raw_sigma, "sigma")
    if sigma < 0:
        raise CheckError("WITNESS", "sigma ≥ 0", sigma)
    smaller = rows if len(rows) >= len(rows[0]) else transpose(rows)
    require_norm(smaller, exp, sigma, raw_factor)
    return Spectral(index, sigma)


def require_norm(rows: Rows, exp: int, sigma: Fraction, raw_factor: object) -> None:
    """σ²I − WᵀW is positive semidefinite by the given factor."""
    n = len(rows[0])
    factor = document.vector(raw_factor, upper_triangle_size(n), "factor")
    low = min(2 * exp, 1 - (sigma * sigma).denominator.bit_length())
    require_bits(n, 2 * exp - low)
    square = floor_at(sigma * sigma, low)  # exact, by the choice of the exponent
    rest = [[-v << (2 * exp - low) for v in row] for row in gram(rows)]
    for i, row in enumerate(rest):
        row[i] += square
    require_psd(rest, low, factor, "σ²I − WᵀW")


def spectral_abs(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R2, by a positive vector: |W|ᵀ|W|v ≤ σ²v. Sound if: proofs/spectral_abs.md."""
    none(premises)
    raw, raw_sigma, raw_vector = document.fields(witness, "matrix", "sigma", "vector", where="spectral_abs")
    index, rows, exp = _matrix(context.graph, raw)
    sigma = number(raw_sigma, "sigma")
    v, _ = document.vector(raw_vector, len(rows[0]), "vector")
    if sigma < 0 or min(v) <= 0:
        raise CheckError("WITNESS", "sigma ≥ 0 and a strictly positive vector", sigma if sigma < 0 else min(v))
    image = [dot(map(abs, row), v) for row in rows]
    for column, entry in zip(zip(*rows, strict=True), v, strict=True):
        if dot(map(abs, column), image) * dyadic(1, 2 * exp) > sigma * sigma * entry:
            raise CheckError("INEQUALITY", "|W|ᵀ|W|v ≤ σ²v in every coordinate", "one that fails")
    return Spectral(index, sigma)


def state_radii(graph: Graph, norm: BlockNorm, values: list[int], exp: int) -> list[Radii | None]:
    """Radii of the state's parts when group g of the flattened state has radius values[g]."""
    groups, start = norm.groups, 0
    parts: list[Radii | None] = []
    for node_size in map(prod, graph.state):
        own = groups[start : start + node_size]
        start += node_size
        first = own[0]
        radii = Radii([g - first for g in own], values[first : own[-1] + 1], exp)
        parts.append(regroup(radii, None) if len(set(own)) == node_size else radii)
    return parts


GAINED = 1 << 9  # what an entry costs that a gain is cited for, as multiplications


def proved_bounds(premises: list[Conclusion], over: tuple[Tensor, Tensor] | None) -> tuple[Bounds, Gains]:
    """Norms of constant matrices, and gains of subgraphs that hold over (region, domain)."""
    bounds: Bounds = {}
    gains: Gains = {}
    for premise in premises:
        if isinstance(premise, Spectral):
            bounds[premise.matrix] = min(premise.bound, bounds.get(premise.matrix, premise.bound))
        elif isinstance(premise, Gain) and over is not None:
            if not contains(premise.region, over[0]) or not contains(premise.domain, over[1]):
                raise CheckError("CONTEXT", "row gains over a region and a domain that hold these", "smaller ones")
            for arguments, output in premise.places:
                known = gains.setdefault(output, [])
                if (arguments, premise.gains) not in known:
                    known.append((arguments, premise.gains))
        else:
            raise CheckError("PREMISE", "spectral bounds and row gains only", type(premise).__name__)
    return bounds, gains


def propagate(
    graph: Graph, norm: BlockNorm, ranges: list[Tensor], premises: list[Conclusion], values: tuple[list[int], int],
    given: Radii | None = None, over: tuple[Tensor, Tensor] | None = None,
) -> Radii:  # fmt: skip
    """The step's output radii over the norm's groups, from group radii of the state (and radii of the input).

    `over`: the (region, domain) of the two evaluations, without which no row gains may be cited.
    """
    bounds, gains = proved_bounds(premises, over)
    for output, each in gains.items():
        nodes = graph.step.nodes
        graph.charge(GAINED * sum(nodes[output].size + sum(nodes[j].size for j in inputs) for inputs, _ in each))
    passed = Propagation(graph.step, ranges, bounds, gains)
    return output_radii(graph, norm, passed.run(state_radii(graph, norm, *values), given))


def output_radii(graph: Graph, norm: BlockNorm, radii: Sequence[Radii | None]) -> Radii:
    """The radii of the step's output nodes over the norm's groups of the flattened state."""
    parts = [radii[i] for i in graph.step.outputs]
    exp = min((r.exp for r in parts if r is not None), default=0)
    groups: list[int] = []
    flat: list[int] = []
    for r, shape in zip(parts, graph.state, strict=True):
        start, size = len(flat), prod(shape)
        groups += [start + g for g in (range(size) if r is None or r.groups is None else r.groups)]
        flat += [0] * size if r is None else rescale(r.values, r.exp, exp)
    return regroup(Radii(groups, flat, exp), norm.groups)


def radius_contraction(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R1: one pass over the graph takes the norm's weights d to at most ρd. Sound if: proofs/radius_contraction.md."""
    raw = document.fields(witness, "domain", "region", "norm", "rate", where="radius_contraction")
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    norm, bound = context.norm(raw[2]), rate(raw[3])
    if not isinstance(norm, BlockNorm):
        raise CheckError("NORM", "a block norm", norm.family)
    ranges = evaluate(context.graph, context.graph.step, region, domain)
    out = propagate(context.graph, norm, ranges, premises, (list(norm.weights), norm.exp), over=(region, domain))
    for g, value in enumerate(out.values):
        if dyadic(value, out.exp) > bound * norm.weight(g):
            found = dyadic(value, out.exp) / norm.weight(g)
            raise CheckError("INEQUALITY", f"group {g} to contract at {approximate(bound)}", found)
    return Contraction(PICARD, domain, region, norm, bound)


def damping(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R10: damping a contraction in a block norm, α constant on each group. Sound if: proofs/damping.md."""
    premise = only(premises, Contraction)
    (raw,) = document.fields(witness, "alpha", where="damping")
    damped = context.operator({"outer_damped": raw})
    if premise.operator != PICARD or not isinstance(premise.norm, BlockNorm):
        raise CheckError("CONTEXT", "a contraction of the undamped step in a block norm", premise.operator)
    per_group: dict[int, Fraction] = {}
    for g, alpha in zip(premise.norm.groups, damped.alpha, strict=True):
        if per_group.setdefault(g, alpha) != alpha:
            raise CheckError("WITNESS", "one damping factor in each group of the norm", f"several in group {g}")
    bound = max(1 - alpha * (1 - premise.rate) for alpha in per_group.values())
    return Contraction(Operator("outer_damped", damped.alpha), premise.domain, premise.region, premise.norm, bound)
