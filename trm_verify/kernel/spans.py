"""The affine forms of a step over boxes, and the intervals in which the arguments of its units lie."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel.affine import AffineForms, forms_of, require_small
from trm_verify.kernel.context import numbers
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.relaxation import (
    System,
    least_over,
    part,
    rescaled,
)  # fmt: skip
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, Table, table


def forms_over(graph: Graph, domain: Tensor, region: Tensor, scale: Sequence[Fraction] | None) -> AffineForms:
    """The step's affine forms, in rescaled coordinates, over region × domain."""
    graph.charge(graph.step.cost)
    return rescaled(forms_of(graph, graph.step, region, domain), scale)


def scale_of(raw: object, size: int) -> tuple[Fraction, ...] | None:
    require_small(size)
    return None if raw is None else tuple(numbers(raw, size, "scale"))


def tables_of(system: System, arguments: Sequence[Interval]) -> list[Table]:
    return [table(unit, interval) for unit, interval in zip(system.units, arguments, strict=True)]


def interval_arguments(
    system: System, domain: Tensor, region: Tensor, known: Sequence[Interval] = ()
) -> list[Interval]:  # fmt: skip
    """Intervals of the units' arguments over region × domain; those of the first units may be `known` already.

    In a merged system an argument reads states that are later units: nothing is known of these yet.
    """
    unit = dyadic(1, system.exp)
    found: list[Interval] = []
    ranges: list[Interval] = []
    kept = part(region, system.kept)
    place = {k: len(system.kept) + j for j, k in enumerate(system.active)}
    for k, each in enumerate(system.units):
        interval: Interval = known[k] if k < len(known) else (None, None)
        if each.op is not None and k >= len(known):
            row, later = system.rows[place[k]], [(None, None)] * (len(system.units) - k)
            boxes = [(row[1 : 1 + system.inputs], domain), (row[1 + system.inputs : system.first], kept)]
            interval = span([row[0], *row[system.first :]], unit, [*ranges, *later])
            for columns, box in boxes:
                interval = _plus(interval, columns, unit, box)
        found.append(interval)
        ranges.append(table(each, interval).ends())
    return found


def _plus(interval: Interval, row: list[int], unit: Fraction, box: Tensor) -> Interval:
    """The interval and the range of a linear form over a box together."""
    least, most = least_over(row, box), least_over([-v for v in row], box)
    each = unit * dyadic(1, box.exp) / 2
    return (
        None if interval[0] is None or least is None else interval[0] + least * each,
        None if interval[1] is None or most is None else interval[1] - most * each,
    )


def span(row: list[int], unit: Fraction, ends: Sequence[Interval]) -> Interval:
    """The range of an affine form, a constant and then weights, over the intervals of its columns."""
    if any(row[1 + len(ends) :]):
        return None, None
    low: Fraction | None = row[0] * unit
    high: Fraction | None = row[0] * unit
    for v, (lo, hi) in zip(row[1:], ends, strict=False):
        if not v:
            continue
        c = v * unit
        first, last = (lo, hi) if v > 0 else (hi, lo)
        low = None if low is None or first is None else low + c * first
        high = None if high is None or last is None else high + c * last
    return low, high
