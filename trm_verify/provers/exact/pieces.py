"""The fixed points of a piecewise-linear step, piece by piece: exact case splits over exact linear programs.

The relaxation of the kernel's rule R6 puts every unit into the convex hull of its graph over its interval. A node of
the search is that relaxation over some intervals, solved exactly; its dual *is* the witness of a leaf. A solution in
which every unit lies on its graph is a fixed point, exactly; another one says which unit to cut at a kink. Between
kinks hull and graph agree, so the search ends, with a tree or with a fixed point, and without an UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from math import gcd, lcm

from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.relaxation import Functional, System
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, kinks, value
from trm_verify.provers.exact.hulls import ONE, ZERO, Column, Hulls
from trm_verify.provers.exact.simplex import Empty, Optimum, solve

Values = tuple[Fraction, ...]


@dataclass(frozen=True)
class Point:
    """A solution of the equations: inputs, kept states, and of each unit its argument and its value."""

    inputs: Values
    kept: Values
    arguments: Values
    values: Values

    def state(self, system: System) -> Values:
        """The whole state. Shape: (n,)."""
        place = {i: self.kept[j] for j, i in enumerate(system.kept)}
        return tuple(self.values[system.slaved[i]] if i in system.slaved else place[i] for i in range(system.states))

    def moved(self, along: Point, length: Fraction) -> Point:
        """This point plus `length` times a direction."""

        def add(a: Values, b: Values) -> Values:
            return tuple(p + length * q for p, q in zip(a, b, strict=True))

        return Point(
            add(self.inputs, along.inputs), add(self.kept, along.kept),
            add(self.arguments, along.arguments), add(self.values, along.values),
        )  # fmt: skip


@dataclass(frozen=True)
class Node:
    """What a relaxation gave: `multipliers` if it is empty (`point` None) or bounded, else a `direction` downwards."""

    point: Point | None
    value: Fraction | None = None
    multipliers: Values = ()
    direction: Point | None = None


@dataclass
class Tree:
    """A case split in the form of a witness: preorder, −1 for a leaf, the part below a threshold first."""

    splits: list[int] = field(default_factory=list)
    at: list[Fraction] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    multipliers: list[Values] = field(default_factory=list)

    def leaf(self, weight: int, multipliers: Values) -> None:
        self.splits.append(-1)
        self.weights.append(weight)
        self.multipliers.append(multipliers)

    def cut(self, unit: int, threshold: Fraction) -> None:
        self.splits.append(unit)
        self.at.append(threshold)

    def extend(self, other: Tree) -> None:
        self.splits += other.splits
        self.at += other.at
        self.weights += other.weights
        self.multipliers += other.multipliers

    @property
    def leaves(self) -> int:
        return len(self.weights)


class Pieces:
    """Searches over one system, with its inputs in a box and its kept states in another.

    Args:
        deadline: on the monotonic clock, for every search.

    Raises:
        CheckError: UNSUPPORTED, a unit that is not piecewise linear. TimeUp, from every search: the deadline passed.
    """

    def __init__(self, system: System, domain: Tensor, box: Tensor, deadline: float = float("inf")) -> None:
        self.system, self.deadline, self.hulls = system, deadline, Hulls(system, domain, box)

    def relax(self, arguments: Sequence[Interval], functional: Functional | None = None) -> Node:
        """The least value of a functional (any solution, without one) over the relaxation at these intervals."""
        hulls = self.hulls.all(arguments)
        if hulls is None:
            return Node(None, multipliers=(ZERO,) * len(self.system.rows))
        size, wide = len(self.system.rows), [h for h in hulls if len(h.corners) > 1]
        scale = lcm(*(h.corners[0].scale for h in hulls if len(h.corners) == 1))
        right = [-v * scale for v in self.hulls.constant]
        for h in hulls:
            if len(h.corners) == 1:
                times = scale // h.corners[0].scale
                right = [b - times * v for b, v in zip(right, h.corners[0].entries, strict=True)]
        chosen: list[tuple[int, Column]] = []
        columns: list[list[int]] = []
        convex = 0
        for part, h in enumerate(hulls):
            for c in h.corners if len(h.corners) > 1 else []:
                own = [0] * len(wide)
                own[convex] = c.scale
                chosen.append((part, c))
                columns.append(c.entries + own)
            convex += len(h.corners) > 1
            for c in h.rays:
                chosen.append((part, c))
                columns.append(c.entries + [0] * len(wide))
        costs = [c.scale * self._cost(functional, part, c) for part, c in chosen]
        common = lcm(*(c.denominator for c in costs))
        cost = None if functional is None else [int(c * common) for c in costs]
        found = solve(columns, right + [scale] * len(wide), cost, self.deadline)
        if isinstance(found, Empty):
            return Node(None, multipliers=_shortest(found.duals[:size]))
        fixed = [(part, h.corners[0], ONE) for part, h in enumerate(hulls) if len(h.corners) == 1]
        point = self._point(chain(fixed, _weighted(chosen, found.values, scale)))
        if isinstance(found, Optimum):
            multipliers = tuple(-v * self.hulls.unit / common for v in found.duals[:size])
            return Node(point, None if functional is None else self.at(functional, point), multipliers)
        return Node(point, None, (), self._point(_weighted(chosen, found.direction, 1)))

    def _cost(self, functional: Functional | None, part: int, column: Column) -> Fraction:
        if functional is None:
            return ZERO
        cost = functional.row[1 + part] * column.value * dyadic(1, functional.exp)
        return cost + functional.sign * column.argument if part - len(self.hulls.boxed) == functional.unit else cost

    def _point(self, weighted: Iterator[tuple[int, Column, Fraction]]) -> Point:
        values, arguments = ([ZERO] * (len(self.hulls.boxed) + len(self.system.units)) for _ in range(2))
        for part, column, weight in weighted:
            values[part] += weight * column.value
            arguments[part] += weight * column.argument
        m, first = self.system.inputs, len(self.hulls.boxed)
        return Point(tuple(values[:m]), tuple(values[m:first]), tuple(arguments[first:]), tuple(values[first:]))

    def at(self, functional: Functional, point: Point) -> Fraction:
        """The value of a functional."""
        columns = (ONE, *point.inputs, *point.kept, *point.values)
        total = sum((v * c for v, c in zip(functional.row, columns, strict=True) if v), ZERO)
        shift = functional.sign * point.arguments[functional.unit] if functional.sign else ZERO
        return total * dyadic(1, functional.exp) + shift

    def bent(
        self, point: Point, arguments: Sequence[Interval], among: Collection[int] = ()
    ) -> tuple[int, Fraction] | None:
        """The unit furthest from its graph, with the kink inside its interval to cut at; None at a fixed point.

        Args:
            among: units that go first.
        """
        worst, found = ZERO, None
        for k in among or self.system.active:
            a, u = point.arguments[k], point.values[k]
            lo, hi = self.hulls.limits.get(k, (u, u))
            error = max(abs(value(self.system.units[k], a)[0] - u), lo - u, u - hi)
            if error > worst:
                inside = [(abs(c - a), c) for c in kinks(self.system.units[k]) if _strictly_inside(c, arguments[k])]
                worst, found = error, (k, min(inside)[1])
        return self.bent(point, arguments) if found is None and among else found

    def cover(
        self, arguments: Sequence[Interval], functional: Functional | None = None, above: Fraction = ZERO,
        strict: bool = True, among: Collection[int] = (),
    ) -> Tree | Point:  # fmt: skip
        """A tree that shows that a functional exceeds `above` at every fixed point within the intervals; or a fixed
        point where it does not. Without a functional: that there is no fixed point.

        Args:
            strict: False when the functional may equal `above`.
            among: units that are cut before all others.
        """
        tree, stack = Tree(), [list(arguments)]
        while stack:
            here = stack.pop()
            node = self.relax(here, functional)
            if node.point is None:
                tree.leaf(0, node.multipliers)
                continue
            if node.value is not None and (node.value > above or node.value == above and not strict):
                tree.leaf(1, node.multipliers)
                continue
            point = node.point if node.direction is None else self._far(node, functional, above)
            cut = self.bent(point, here, among)
            if cut is None:
                return point
            tree.cut(*cut)
            k, threshold = cut
            lo, hi = here[k]
            stack += [[*here[:k], part, *here[k + 1 :]] for part in ((threshold, hi), (lo, threshold))]
        return tree

    def least(self, arguments: Sequence[Interval], functional: Functional) -> tuple[Fraction | None, Point | None]:
        """The least value of a functional at fixed points within the intervals, and where; (None, a fixed point far
        out) if it is unbounded, (None, None) if there is no fixed point."""
        best: Fraction | None = None
        where: Point | None = None
        stack = [list(arguments)]
        while stack:
            here = stack.pop()
            node = self.relax(here, functional)
            if node.point is None or best is not None and node.value is not None and node.value >= best:
                continue
            point = node.point if node.direction is None else self._far(node, functional, best or ZERO)
            cut = self.bent(point, here)
            if cut is None and node.direction is not None:
                return None, point
            if cut is None:
                best, where = node.value, point
                continue
            k, threshold = cut
            lo, hi = here[k]
            stack += [[*here[:k], part, *here[k + 1 :]] for part in ((threshold, hi), (lo, threshold))]
        return best, where

    def _far(self, node: Node, functional: Functional | None, below: Fraction) -> Point:
        """A point along the direction of an unbounded relaxation where the functional is less than `below`."""
        if node.point is None or node.direction is None or functional is None:
            raise TypeError("expected an unbounded relaxation")
        without_constant = replace(functional, row=[0, *functional.row[1:]])
        here, fall = self.at(functional, node.point), self.at(without_constant, node.direction)
        length = max(ONE, (here - below) / -fall + 1)
        return node.point.moved(node.direction, Fraction(-(-length.numerator // length.denominator)))


def _weighted(
    chosen: Sequence[tuple[int, Column]], weights: Values, scale: int
) -> Iterator[tuple[int, Column, Fraction]]:
    """The generators with the weights that a solution gives them."""
    for (part, column), weight in zip(chosen, weights, strict=True):
        if weight:
            yield part, column, weight * column.scale / scale


def _strictly_inside(kink: Fraction, interval: Interval) -> bool:
    lo, hi = interval
    return (lo is None or lo < kink) and (hi is None or kink < hi)


def _shortest(duals: Values) -> Values:
    """A positive multiple of the negated duals, in small integers."""
    common = lcm(*(v.denominator for v in duals))
    ints = [-int(v * common) for v in duals]
    shared = gcd(*ints) or 1
    return tuple(Fraction(v // shared) for v in ints)
