"""R6: where the fixed points are. Bounds by weak duality, and an enclosure that follows by continuity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, forms_of, require_small
from trm_verify.kernel.claims import Conclusion, Convergence, FixedPoints, WellPosed
from trm_verify.kernel.context import Context, Witness, none, numbers, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.linear import MAX_FORM
from trm_verify.kernel.numbers import MAX_SHIFT, dot, dyadic, rows_of, sqrt_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.relaxation import (
    Functional,
    Leaf,
    Sets,
    System,
    least_over,
    leaves_of,
    lower_bounds,
    meet,
    part,
    rescaled,
    system_of,
    within,
)  # fmt: skip
from trm_verify.kernel.rules.invariance import ball_box, residual_bound
from trm_verify.kernel.tensor import Tensor, contains, from_fractions
from trm_verify.kernel.units import PIECES, Interval, Table, table

Side = tuple[int, int]  # (variable, sign): sign · variable is to be minimised; states first, then units


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


def fixed_points_in(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Where R6 begins: all fixed points in a region, with what interval arithmetic knows of their units.

    Sound if: proofs/duality.md.
    """
    none(premises)
    raw = document.fields(witness, "domain", "region", "scale", where="fixed_points_in")
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    scale = scale_of(raw[2], context.graph.size)
    forms = forms_over(context.graph, domain, region, scale)
    arguments = tuple(interval_arguments(system_of(context.graph, forms, merge=False), domain, region))
    arguments = _within_states(system_of(context.graph, forms), region, arguments)
    return FixedPoints(domain, region, region, arguments, scale)


def _within_states(system: System, region: Tensor, arguments: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """A unit that is a state has its values in the region."""
    if not region.bounded:
        return arguments
    found = list(arguments)
    for i, k in system.slaved.items():
        found[k] = within(system.units[k], found[k], *region.fraction(i)) or found[k]
    return tuple(found)


TREES = ("splits", "at", "weights", "multipliers")
NAMES = ("targets", "signs", *TREES)
TABLE = 100 * 2 * PIECES  # multiplications of a table of a smooth unit, roughly


def require_room(system: System, rows: int) -> None:
    if rows * system.width > MAX_FORM:
        raise CheckError("LIMIT", f"functionals and leaves of at most {MAX_FORM} coefficients in all", rows)


class Bounding:
    """Functionals over what is known of the fixed points, each with a tree of leaves, bounded in one batch.

    For all functionals, one after the other, a witness lists `splits` and `at` (see `leaves_of`), and for all leaves
    `weights` (what the functional is multiplied by; 0 for a leaf that is shown to be empty) and `multipliers`.
    """

    def __init__(
        self, graph: Graph, known: FixedPoints, system: System, arguments: Sequence[Interval], proved: bool = True
    ) -> None:
        """`proved`: the fixed points are known to lie in the box (by continuity, they only do so to begin with)."""
        self.graph, self.known, self.system, self.arguments = graph, known, system, list(arguments)
        own = system.slaved.items() if proved and known.box.bounded else ()
        self.limits = {k: known.box.fraction(i) for i, k in own}
        inside = {k: within(system.units[k], arguments[k], *limit) for k, limit in self.limits.items()}
        self.nothing = None in inside.values()  # there is no fixed point at all
        for k, interval in inside.items():
            self.arguments[k] = interval or arguments[k]
        self.tables = tables_of(system, self.arguments)
        self.empty: list[bool] = []

    def batch(self, functionals: list[Functional], bases: list[Leaf], raw: Sequence[Any]) -> list[Fraction | None]:
        """A lower bound of each functional: the least over the leaves of its tree."""
        splits = document.items(raw[0], "splits")
        cut_at, at_exp = document.vector(raw[1], None, "at")
        ints, exp = document.vector(raw[3], None, "multipliers")
        leaves, width = splits.count(-1), len(self.system.rows)
        weights = numbers(raw[2], leaves, "weights")
        if (len(ints), len(cut_at)) != (width * leaves, len(splits) - leaves) or min(weights, default=0) < 0:
            raise CheckError("NUMBER", f"{leaves} leaves with a weight ≥ 0 and {width} multipliers each", len(ints))
        require_room(self.system, leaves)
        if len(cut_at) * abs(at_exp) > MAX_SHIFT:
            raise CheckError("LIMIT", "thresholds that are shorter", at_exp)
        at = [dyadic(v, at_exp) for v in cut_at]
        bits = max(map(abs, ints), default=0).bit_length()
        self.graph.charge(leaves * (1 + width) * self.system.width * (1 + bits // 256))
        trees = _trees(splits, len(functionals))
        places: list[int] = []
        chosen: list[Functional] = []
        sets: list[Sets | None] = []
        used = 0
        for place, (functional, base, tree) in enumerate(zip(functionals, bases, trees, strict=True)):
            cuts = sum(split != -1 for split in tree)
            for leaf in leaves_of(self.system, tree, at[used : used + cuts]):
                chosen.append(functional.times(weights[len(places)]))
                sets.append(self.sets(base, leaf))
                places.append(place)
            used += cuts
        rows = rows_of(ints, width) if width else [[] for _ in places]
        live = [(j, own) for j, own in enumerate(sets) if own is not None]
        found = lower_bounds(
            self.system, [own for _, own in live], [chosen[j] for j, _ in live], [rows[j] for j, _ in live], exp
        )
        bounds: list[list[Fraction | None]] = [[] for _ in functionals]
        for (j, _), bound in zip(live, found, strict=True):
            if weights[j]:
                bounds[places[j]].append(None if bound is None else bound / weights[j])
            elif bound is None or bound <= 0:
                raise CheckError("INEQUALITY", "multipliers that show a leaf to be empty", bound)
        self.empty = [not each for each in bounds]
        finite = [[bound for bound in each if bound is not None] for each in bounds]
        return [min(b) if b and len(b) == len(each) else None for b, each in zip(finite, bounds, strict=True)]

    def sets(self, base: Leaf, leaf: Leaf) -> Sets | None:
        """The sets of one leaf; None when it is plainly empty."""
        if self.nothing:
            return None
        if not leaf.arguments and not leaf.inputs and not base.arguments:
            return Sets(self.known.domain, self.known.box, self.tables)
        self.graph.charge(TABLE * (len(base.arguments) + len(leaf.arguments)) + self.known.domain.size)
        tables = list(self.tables)
        for k in {*base.arguments, *leaf.arguments}:
            interval: Interval | None = self.arguments[k]
            for cut in (base.arguments.get(k), leaf.arguments.get(k)):
                interval = interval if interval is None or cut is None else meet(interval, cut)
            if interval is not None and k in self.limits:
                interval = within(self.system.units[k], interval, *self.limits[k])
            if interval is None:
                return None
            tables[k] = table(self.system.units[k], interval)
        domain = self.known.domain
        if leaf.inputs:
            ends = [domain.fraction(j) for j in range(domain.size)]
            for j, part in leaf.inputs.items():
                both = meet(ends[j], part)
                if both is None or both[0] is None or both[1] is None:
                    return None
                ends[j] = both[0], both[1]
            exp = min([domain.exp, *(1 - v.denominator.bit_length() for end in ends for v in end)])
            domain = from_fractions(ends, exp)
        return Sets(domain, self.known.box, tables)


class Tightening(Bounding):
    """Bounds of single variables: `targets` (state i: i, unit k: n + k), `signs` (1: from below, −1: from above)."""

    def __init__(
        self, graph: Graph, forms: AffineForms, known: FixedPoints, raw: Sequence[Any], proved: bool = True
    ) -> None:
        system = system_of(graph, forms)
        super().__init__(graph, known, system, known.arguments, proved)
        n, units = graph.size, len(system.units)
        require_room(system, len(document.items(raw[0], "targets")))
        targets = [document.integer(v, 0, n + units - 1, "target") for v in document.items(raw[0], "targets")]
        signs = [document.integer(v, -1, 1, "sign") for v in document.items(raw[1], "signs")]
        if len(signs) != len(targets) or 0 in signs:
            raise CheckError("WITNESS", f"{len(targets)} signs, 1 or -1", signs[:9])
        self.sides: list[Side] = list(zip(targets, signs, strict=True))
        functionals, halves = [self.functional(*s) for s in self.sides], [self.half(*s) for s in self.sides]
        self.bounds = self.batch(functionals, halves, raw[2:])

    def functional(self, target: int, sign: int) -> Functional:
        n = self.graph.size
        if target >= n and self.system.units[target - n].op is None:
            raise CheckError("WITNESS", "a unit with an argument", target)
        return self.system.of_state(target, sign) if target < n else self.system.of_argument(target - n, sign)

    def half(self, target: int, sign: int) -> Leaf:
        """An argument that may have either sign: its upper bound need be shown where it is ≥ 0 only, its lower ≤ 0."""
        k = target - self.graph.size
        if k < 0 or not self.crosses(k):
            return Leaf({}, {})
        return Leaf({k: (None, Fraction(0)) if sign > 0 else (Fraction(0), None)}, {})

    def crosses(self, k: int) -> bool:
        lo, hi = self.arguments[k]
        return (lo is None or lo < 0) and (hi is None or hi > 0)

    def end(self, side: int) -> Fraction | None:
        """The new end of a side's variable, widened to 0 where only one half was looked at; None: no bound."""
        (target, sign), bound = self.sides[side], self.bounds[side]
        crossing = target >= self.graph.size and self.crosses(target - self.graph.size)
        if self.empty[side]:
            return Fraction(0) if crossing else None
        if bound is None:
            return None
        return sign * (min(bound, Fraction(0)) if crossing else bound)


def _trees(splits: list[Any], count: int) -> list[list[int]]:
    """The preorder lists of `count` trees, taken apart."""
    trees: list[list[int]] = []
    at = 0
    for _ in range(count):
        start, open_nodes = at, 1
        while open_nodes:
            if at >= len(splits):
                raise CheckError("WITNESS", f"{count} whole trees", len(trees))
            open_nodes += 1 if document.integer(splits[at], -1, 1 << 40, "split") >= 0 else -1
            at += 1
        trees.append(splits[start:at])
    if at != len(splits):
        raise CheckError("WITNESS", f"{count} trees and no more", len(splits) - at)
    return trees


def tightened(known: FixedPoints, task: Tightening) -> FixedPoints:
    """What is known, cut by every bound that was found."""
    graph = task.graph
    ends: list[Interval] = [known.box.fraction(i) if known.box.bounded else (None, None) for i in range(graph.size)]
    arguments = list(known.arguments)
    for side, (target, sign) in enumerate(task.sides):
        bound = task.end(side)
        if bound is None:
            continue
        part: Interval = (bound, None) if sign > 0 else (None, bound)
        store, place = (ends, target) if target < graph.size else (arguments, target - graph.size)
        cut = meet(store[place], part)
        if cut is None:
            raise CheckError("INCLUSION", "bounds that leave room for a fixed point", "none: use no_fixed_point")
        store[place] = cut
    for i, k in task.system.slaved.items():
        cut = meet(ends[i], table(task.system.units[k], arguments[k]).ends())
        if cut is None:
            raise CheckError("INCLUSION", "bounds that leave room for a fixed point", "none: use no_fixed_point")
        ends[i] = cut
    return replace(known, box=_box(known.box, ends), arguments=tuple(arguments))


def _box(known: Tensor, ends: Sequence[Interval]) -> Tensor:
    whole = [(lo, hi) for lo, hi in ends if lo is not None and hi is not None]
    return from_fractions(whole) if len(whole) == len(ends) else known


def duality(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R6 (with R7): bounds of states and arguments at fixed points, by weak duality. Sound if: proofs/duality.md."""
    known = only(premises, FixedPoints)
    raw = document.fields(witness, *NAMES, where="duality")
    task = Tightening(context.graph, forms_over(context.graph, known.domain, known.box, known.scale), known, raw)
    return tightened(known, task)


def by_continuity(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The one fixed point moves continuously with x and cannot cross a boundary that no fixed point may touch.

    Sound if: proofs/by_continuity.md.
    """
    premise = premises[0] if len(premises) == 1 else None
    if not isinstance(premise, (Convergence, WellPosed)):
        raise CheckError("PREMISE", "one premise: a convergence, or a well-posed model", type(premise).__name__)
    raw = document.fields(
        witness, "domain", "region", "scale", "input", "center", "lo", "hi", *NAMES, where="by_continuity"
    )
    graph, domain, box = context.graph, context.box(raw[0], "input"), context.box(raw[1], "state")
    if not contains(premise.domain, domain) or not domain.bounded or not box.bounded:
        raise CheckError("CONTEXT", "a bounded domain inside the premise's, and a bounded region", "another")
    if graph.vocabulary is not None and not domain.is_point:
        raise CheckError("CONTEXT", "a domain in one piece", "a box of integers")
    if premise.region is None or not contains(premise.region, box):
        raise CheckError("INCLUSION", "a region inside the premise's", "one that is not")
    scale = scale_of(raw[2], graph.size)
    ints, exp = document.vector(raw[3], graph.input_size, "input")
    at, centre = Tensor((len(ints),), exp, ints, ints), context.state(raw[4])
    if not contains(domain, at):
        raise CheckError("INCLUSION", "the input inside the domain", "another")
    forms = forms_over(graph, domain, box, scale)
    lo, hi = numbers(raw[5], len(forms.units), "lo"), numbers(raw[6], len(forms.units), "hi")
    if any(p > q for p, q in zip(lo, hi, strict=True)):
        raise CheckError("WITNESS", "lo ≤ hi for every argument", "an inverted interval")
    known = FixedPoints(domain, premise.region, box, tuple(zip(lo, hi, strict=True)), scale, True, True)
    task = Tightening(graph, forms, known, raw[7:], proved=False)
    system = task.system
    strict = {side for place, side in enumerate(task.sides) if _is_inside(task, place, known)}
    needed = [*system.kept, *(graph.size + k for k in system.active)]
    if missing := [t for t in needed if not {(t, 1), (t, -1)} <= strict]:
        raise CheckError("INCLUSION", "every state and argument strictly inside its interval", f"variable {missing[0]}")
    for i, k in system.slaved.items():
        (low, high), (first, last), unit = known.box.fraction(i), task.tables[k].ends(), system.units[k]
        if first is None or last is None or not low <= first or not last <= high:
            raise CheckError("INCLUSION", "the values of a unit inside the box of its state", f"state {i}")
        if unit.op is None and unit.varies and (low == first or last == high):  # its range is known inside the box only
            raise CheckError("INCLUSION", "the values of such a unit strictly inside the box", f"state {i}")
    _require_start(graph, forms, premise, known, at, centre)
    return tightened(known, task)


def _is_inside(task: Tightening, place: int, known: FixedPoints) -> bool:
    (target, sign), bound = task.sides[place], task.end(place)
    n = task.graph.size
    lo, hi = known.box.fraction(target) if target < n else known.arguments[target - n]
    if bound is None or lo is None or hi is None:
        return False
    return bound > lo if sign > 0 else bound < hi


def distance(graph: Graph, premise: Convergence | WellPosed, at: Tensor, centre: Tensor) -> Tensor:
    """A box around the exact point `centre` that holds the fixed point for the single input `at`."""
    if isinstance(premise, Convergence):
        return ball_box(premise.norm, centre, residual_bound(graph, premise, at, centre))
    error = difference(step(graph, centre, at), centre)
    magnitude, exp = error.magnitude(), error.exp
    if premise.norm is None:  # monotone: ‖z − z*‖ ≤ ‖e‖ + ‖We‖/m
        if premise.slack is None:
            raise CheckError("PREMISE", "a monotone or a log-norm model", "neither")
        rows, w_exp = premise.matrix
        image = [dot(map(abs, row), magnitude) for row in rows]
        own, other = (sqrt_up(dot(v, v) * dyadic(1, 2 * e)) for v, e in ((magnitude, exp), (image, exp + w_exp)))
        radius = own + other / premise.slack
        return from_fractions([(c - radius, c + radius) for c, _ in map(centre.fraction, range(graph.size))])
    raise CheckError("UNSUPPORTED", "a monotone model, or a convergence", "a log-norm model: cite its convergence")


def _require_start(
    graph: Graph, forms: AffineForms, premise: Convergence | WellPosed, known: FixedPoints, at: Tensor, centre: Tensor
) -> None:
    """At one input the fixed point and its arguments lie inside."""
    near = distance(graph, premise, at, centre)
    if not contains(known.box, near):
        raise CheckError("INCLUSION", "the fixed point at one input inside the region", "one that is not shown to be")
    # the forms over the whole domain, so that the units are the same
    system = system_of(graph, forms, merge=False)
    for k, (lo, hi) in enumerate(interval_arguments(system, at, near)):
        if system.units[k].op is None:
            continue
        outer = known.arguments[k]
        if meet(outer, (lo, hi)) != (lo, hi):
            raise CheckError("INCLUSION", "the arguments at one input inside their intervals", f"unit {k}")
