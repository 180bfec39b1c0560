"""Gains of subgraphs that treat every row (token) by itself, for R1 to cite."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Gain
from trm_verify.kernel.context import Context, Witness, none, numbers, upper_triangle_size
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Node
from trm_verify.kernel.inequality import Sectors, sector_matrix
from trm_verify.kernel.linear import Forms
from trm_verify.kernel.numbers import Rows, floor_at, identity, require_psd, rows_of
from trm_verify.kernel.rows import row_forms
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor

Place = tuple[tuple[int, ...], int]  # the inputs of a subgraph, and its output


def _place(raw: object, count: int) -> Place:
    raw_inputs, raw_output = document.fields(raw, "inputs", "output", where="place")
    inputs = tuple(document.integer(i, 0, count - 1, "input") for i in document.items(raw_inputs, "inputs"))
    return inputs, document.integer(raw_output, 0, count - 1, "output")


def _row_sectors(nodes: tuple[Node, ...], forms: Forms, ranges: list[Tensor]) -> Sectors:
    """Slope bounds of every unit that hold in all rows, in unit order."""
    lows: dict[int, list[int]] = {}
    highs: dict[int, list[int]] = {}
    exp = 0
    for i in dict.fromkeys(node for node, _, _ in forms.units):
        lo, hi, exp = slopes(nodes[i], ranges[nodes[i].args[0]])  # the same exponent for every activation
        width = nodes[i].shape[-1]
        lows[i] = list(map(min, zip(*rows_of(lo, width), strict=True)))
        highs[i] = list(map(max, zip(*rows_of(hi, width), strict=True)))
    return Sectors(
        [lows[i][entry] for i, entry, _ in forms.units], [highs[i][entry] for i, entry, _ in forms.units], exp
    )


def gain_matrix(
    context: Context, region: Tensor, domain: Tensor, places: Sequence[Place], gains: Sequence[Fraction],
    multipliers: tuple[list[int], int],
) -> tuple[Rows, int]:  # fmt: skip
    """The matrix of the rule, exactly, over (one row of each input, end to end, and the units of one row)."""
    graph = context.graph
    nodes = graph.step.nodes
    ranges = evaluate(graph, graph.step, region, domain)
    all_forms = [row_forms(graph, ranges, *place) for place in places]
    forms = all_forms[0]
    widths = [nodes[i].shape[-1] for i in places[0][0]]
    sectors = _row_sectors(nodes, forms, ranges)
    for (inputs, _), other in zip(places[1:], all_forms[1:], strict=True):
        alike = (other.outputs, other.arguments) == (forms.outputs, forms.arguments)
        if not alike or [nodes[i].shape[-1] for i in inputs] != widths:
            raise CheckError("WITNESS", "places with one and the same linear maps", "others")
        own = _row_sectors(nodes, other, ranges)
        sectors = Sectors(
            list(map(min, sectors.lo, own.lo)), list(map(max, sectors.hi, own.hi)), sectors.exp
        )  # a hull: sectors of all copies at once
    if len(gains) != len(widths):
        raise CheckError("WITNESS", f"{len(widths)} gains, one for each input", len(gains))
    squares = [gain * gain for gain in gains]
    exp = min(1 - square.denominator.bit_length() for square in squares)
    entries = [floor_at(square, exp) for square, width in zip(squares, widths, strict=True) for _ in range(width)]
    allowed = [[v * entry for v in row] for row, entry in zip(identity(len(entries)), entries, strict=True)]
    size = nodes[places[0][1]].shape[-1]
    return sector_matrix((allowed, exp), (identity(size), 0), forms, sectors, multipliers)


def row_gain(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Σ γ_i²|Δa_i|² − |Δb|² − Σ 2λ_j(φ_j − s_j v_j)(t_j v_j − φ_j) ≥ 0 for one row, whichever row it is.

    Several places may share one inequality: copies of a block, as an unrolled inner loop has them.
    Sound if: proofs/row_gain.md.
    """
    none(premises)
    raw = document.fields(
        witness, "domain", "region", "places", "gains", "multipliers", "factor", where="row_gain"
    )  # fmt: skip
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    places = [_place(p, len(context.graph.step.nodes)) for p in document.items(raw[2], "places")]
    outputs = [output for _, output in places]
    if not places or outputs != sorted(set(outputs)):
        raise CheckError("WITNESS", "places in the order of their outputs, at least one", outputs)
    gains = tuple(numbers(raw[3], None, "gains"))
    if any(gain < 0 for gain in gains):
        raise CheckError("WITNESS", "gains ≥ 0", "a negative one")
    multipliers = document.vector(raw[4], None, "multipliers")
    rows, exp = gain_matrix(context, region, domain, places, gains, multipliers)
    factor = document.vector(raw[5], upper_triangle_size(len(rows)), "factor")
    require_psd(rows, exp, factor, "the matrix of the row gain")
    return Gain(domain, region, tuple(places), gains)
