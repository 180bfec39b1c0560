"""Bounds of functionals over the fixed points that are known, tree by tree, and what is known after them (R6, R7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.columns import Sets
from trm_verify.kernel.context import numbers
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.linear import MAX_FORM
from trm_verify.kernel.numbers import MAX_SHIFT, dyadic, rows_of
from trm_verify.kernel.relaxation import (
    Functional,
    Leaf,
    System,
    bounds,
    leaves_of,
    meet,
    system_of,
    within,
)  # fmt: skip
from trm_verify.kernel.spans import tables_of
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.kernel.units import PIECES, ZERO, Interval, Table, table

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

    def batch(self, functionals: list[Functional], bases: list[Leaf], raw: Sequence[Any]) -> list[Interval]:
        """What each functional is at least over the leaves of its tree, and at most where that is asked for."""
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
        at_leaf: list[tuple[Leaf, Leaf]] = []
        used = 0
        for place, (functional, base, tree) in enumerate(zip(functionals, bases, trees, strict=True)):
            cuts = len(tree) // 2  # a tree of n cuts has n + 1 leaves
            for leaf in leaves_of(self.system, tree, at[used : used + cuts]):
                chosen.append(functional.times(weights[len(places)]))
                at_leaf.append((base, leaf))
                places.append(place)
            used += cuts
        rows = rows_of(ints, width) if width else [[] for _ in places]
        found = bounds(self.system, (self.sets(*each) for each in at_leaf), chosen, rows, exp)
        ends: list[list[Interval]] = [[] for _ in functionals]
        for place, weight, interval in zip(places, weights, found, strict=True):
            if interval is None:
                continue
            least, most = interval
            if weight:
                ends[place].append((_over(least, weight), _over(most, weight)))
            elif least is None or least <= 0:
                raise CheckError("INEQUALITY", "multipliers that show a leaf to be empty", least)
        self.empty = [not each for each in ends]
        return [(_all(min, [lo for lo, _ in each]), _all(max, [hi for _, hi in each])) for each in ends]

    def sets(self, base: Leaf, leaf: Leaf) -> Sets | None:
        """The sets of one leaf; None when it is plainly empty."""
        if self.nothing:
            return None
        if not leaf.arguments and not leaf.inputs and not base.arguments:
            return Sets(self.known.domain, self.known.box, self.tables)
        self.graph.charge(TABLE * (len(base.arguments) + len(leaf.arguments)) + self.known.domain.size)
        tables: dict[int, Table] = {}
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
        return Sets(domain, self.known.box, self.tables, tables)


def _over(bound: Fraction | None, weight: Fraction) -> Fraction | None:
    return bound if bound is None or weight == 1 else bound / weight


def _all(pick: Callable[[list[Fraction]], Fraction], ends: list[Fraction | None]) -> Fraction | None:
    """The least or largest of the ends; None where one is missing, or all."""
    finite = [end for end in ends if end is not None]
    return pick(finite) if finite and len(finite) == len(ends) else None


class Tightening(Bounding):
    """Bounds of single variables: `targets` (state i: i, unit k: n + k), `signs` (1: from below, −1: from above).

    A sign of "both" (0 in here): from both sides by one row of multipliers, over whole intervals.
    """

    def __init__(
        self, graph: Graph, forms: AffineForms, known: FixedPoints, raw: Sequence[Any], proved: bool = True
    ) -> None:
        system = system_of(graph, forms)
        super().__init__(graph, known, system, known.arguments, proved)
        n, units = graph.size, len(system.units)
        require_room(system, len(document.items(raw[0], "targets")))
        targets = [document.integer(v, 0, n + units - 1, "target") for v in document.items(raw[0], "targets")]
        signs = list(map(_sign, document.items(raw[1], "signs")))
        if len(signs) != len(targets):
            raise CheckError("WITNESS", f"{len(targets)} signs", len(signs))
        asked = list(zip(targets, signs, strict=True))
        halves = [self.half(*each) for each in asked]
        found = self.batch([self.functional(*each) for each in asked], halves, raw[2:])
        self.ends: list[tuple[int, int, Fraction]] = []  # target, sign, and the new end of the variable on that side
        for (target, sign), (least, most), half, empty in zip(asked, found, halves, self.empty, strict=True):
            sides = ((1, least), (-1, most)) if not sign else ((sign, least if sign > 0 or least is None else -least),)
            for side, bound in sides:
                end = self.end(bound, side, bool(half.arguments), empty)
                if end is not None:
                    self.ends.append((target, side, end))

    def functional(self, target: int, sign: int) -> Functional:
        n, both = self.graph.size, sign == 0
        if target >= n and self.system.units[target - n].op is None:
            raise CheckError("WITNESS", "a unit with an argument", target)
        if target < n:
            return self.system.of_state(target, sign or 1, both)
        return self.system.of_argument(target - n, sign or 1, both)

    def half(self, target: int, sign: int) -> Leaf:
        """An argument that may have either sign: its upper bound need be shown where it is ≥ 0 only, its lower ≤ 0.

        Both sides at once are shown on the whole interval.
        """
        k = target - self.graph.size
        if k < 0 or not sign or not self.crosses(k):
            return Leaf({}, {})
        return Leaf({k: (None, ZERO) if sign > 0 else (ZERO, None)}, {})

    def crosses(self, k: int) -> bool:
        lo, hi = self.arguments[k]
        return (lo is None or lo < 0) and (hi is None or hi > 0)

    def end(self, bound: Fraction | None, sign: int, halved: bool, empty: bool) -> Fraction | None:
        """The new end, widened to 0 where only one half was looked at; None: there is none."""
        if empty:
            return ZERO if halved else None
        if bound is None or not halved or sign * bound.numerator <= 0:
            return bound
        return ZERO


def _sign(raw: object) -> int:
    if raw == "both":
        return 0
    sign = document.integer(raw, -1, 1, "sign")
    if not sign:
        raise CheckError("WITNESS", 'a sign of 1, -1 or "both"', sign)
    return sign


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
    n = task.graph.size
    ends: list[Interval] = [known.box.fraction(i) if known.box.bounded else (None, None) for i in range(n)]
    arguments = list(known.arguments)
    for target, sign, end in task.ends:
        part: Interval = (end, None) if sign > 0 else (None, end)
        store, place = (ends, target) if target < n else (arguments, target - n)
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
