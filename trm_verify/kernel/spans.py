"""The affine forms of a step over boxes, and the intervals in which the arguments of its units lie."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel.affine import AffineForms, forms_of, require_small
from trm_verify.kernel.columns import Ends, part, plus, total
from trm_verify.kernel.context import numbers
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.relaxation import System, rescaled
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
    found, first = list(known), len(known)
    if first == len(system.units):
        return found
    ranges: list[Interval] = []  # of the units before, where one is read
    inputs, states = Ends.of(domain), Ends.of(part(region, system.kept))
    rows = dict(zip(system.active, system.arguments, strict=True))
    for k, each in enumerate(system.units[first:], first):
        interval: Interval = (None, None)
        if k in rows:
            constant, of_inputs, of_states, of_units = rows[k]
            parts = [(inputs.twice(of_inputs), inputs.exp), (states.twice(of_states), states.exp)]
            interval = total(constant, parts, system.exp)
            if of_units:
                done = len(ranges)
                ranges += [table(u, a).ends() for u, a in zip(system.units[done:k], found[done:], strict=True)]
                later = [(None, None)] * (len(system.units) - k)
                interval = plus(interval, span([0, *of_units], unit, [*ranges, *later]))
        if each.op is None or None in interval:
            table(each, interval)  # refuses what must not be unbounded
        found.append(interval)
    return found


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
