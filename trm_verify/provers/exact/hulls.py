"""Where the variables of a relaxation lie: boxes, and convex hulls of the graphs of piecewise-linear units, exactly.

Each is the convex hull of a few corners plus the cone of a few rays, whose contributions to the equations of a system
are columns of a linear program. They are kept as integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.relaxation import System, within
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import PIECEWISE, Interval, Piecewise, Ranged, table

ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Column:
    """One generator, times `scale` > 0 so that its entries are integers; `argument` and `value` without the scale."""

    entries: list[int]
    scale: int
    argument: Fraction
    value: Fraction


@dataclass(frozen=True)
class Hull:
    """Where one variable lies: the convex hull of corners, plus the cone of rays."""

    corners: list[Column]
    rays: list[Column]


def require_piecewise(system: System) -> None:
    """Every unit is piecewise linear, or has one value.

    Raises:
        CheckError: UNSUPPORTED.
    """
    for unit in system.units:
        if unit.op not in PIECEWISE and (unit.range is None or unit.range[0] != unit.range[1]):
            what = unit.op or "a product or another operation that is not piecewise linear here"
            raise CheckError("UNSUPPORTED", "piecewise-linear operations for an exact decision", what)


class Hulls:
    """Of one system, with its inputs in a box and its states in another.

    Attributes:
        unit: what all equations are multiplied by, so that they are made of integers.
        constant: the constants of the equations.
        boxed: the inputs and the kept states.
        limits: the values of the units that are states.

    Raises:
        CheckError: UNSUPPORTED, a unit that is not piecewise linear.
    """

    def __init__(self, system: System, domain: Tensor, box: Tensor) -> None:
        require_piecewise(system)
        self.system, self.unit = system, 1 << -system.exp
        self.place = {k: len(system.kept) + j for j, k in enumerate(system.active)}
        self.columns = [list(column) for column in zip(*system.rows, strict=True)] or [[] for _ in range(system.width)]
        ends = [*_intervals(domain, range(system.inputs)), *_intervals(box, system.kept)]
        self.boxed = [self._free(1 + j, end) for j, end in enumerate(ends)]
        self.limits = {k: box.fraction(i) for i, k in system.slaved.items()} if box.bounded else {}
        self._known: dict[tuple[int, Interval], Hull | None] = {}

    @property
    def constant(self) -> list[int]:
        return self.columns[0]

    def _column(self, place: int, k: int, argument: Fraction, phi: Fraction) -> Column:
        scale = lcm(argument.denominator, phi.denominator)
        factor = int(phi * scale)
        entries = [v * factor for v in self.columns[place]]
        if k in self.place:
            entries[self.place[k]] -= int(argument * scale) * self.unit
        return Column(entries, scale, argument, phi)

    def _free(self, place: int, interval: Interval) -> Hull:
        corners = sorted({end for end in interval if end is not None}) or [ZERO]
        rays = [sign for sign, end in zip((-ONE, ONE), interval, strict=True) if end is None]
        made = [[self._column(place, -1, ZERO, v) for v in each] for each in (corners, rays)]
        return Hull(made[0], made[1])

    def all(self, arguments: Sequence[Interval]) -> list[Hull] | None:
        """The hulls of inputs, kept states and units; None when a unit is nowhere."""
        found = list(self.boxed)
        for k, interval in enumerate(arguments):
            hull = self.of(k, interval)
            if hull is None:
                return None
            found.append(hull)
        return found

    def of(self, k: int, interval: Interval) -> Hull | None:
        """The graph of unit k over an interval of its argument, where its state is in the box; None if it never is."""
        if (k, interval) not in self._known:
            self._known[k, interval] = self._made(k, interval)
        return self._known[k, interval]

    def _made(self, k: int, interval: Interval) -> Hull | None:
        part = within(self.system.units[k], interval, *self.limits[k]) if k in self.limits else interval
        if part is None:
            return None
        place, known = self.system.first + k, table(self.system.units[k], part)
        corners, rays = [], []
        if isinstance(known, Ranged):
            corners = [(ZERO, known.lo)]
        elif isinstance(known, Piecewise):
            corners = list(known.candidates)
            rays += [(-ONE, -known.left)] if known.left is not None else []
            rays += [(ONE, known.right)] if known.right is not None else []
        made = [[self._column(place, k, a, phi) for a, phi in each] for each in (corners, rays)]
        return Hull(made[0], made[1])


def _intervals(box: Tensor, entries: Sequence[int]) -> list[Interval]:
    return [box.fraction(i) if box.bounded else (None, None) for i in entries]
