"""Where a linear form over the columns of a system lies, each column over its own set: exact, and mostly in integers.

Twice c·v over an interval [l, h] is c(l + h) ± |c|(h − l), and twice w·φ − v·a over two candidates of a unit is
likewise the sum of its values there ± their difference. So a few products do for all columns, but for units that have
another table. Proof: proofs/unit_bounds.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul, sub

from trm_verify.kernel.numbers import dot, dyadic
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, Table


@dataclass(frozen=True)
class Ends:
    """Sums and differences of the ends of a box, at 2^exp; None: no ends."""

    exp: int
    sums: list[int] | None
    widths: list[int] | None

    @classmethod
    def of(cls, box: Tensor) -> Ends:
        if not box.bounded:
            return cls(0, None, None)
        lo, hi = box.ends()
        if hi is lo:
            return cls(box.exp, [2 * v for v in lo], None)
        return cls(box.exp, [a + b for a, b in zip(lo, hi, strict=True)], [b - a for a, b in zip(lo, hi, strict=True)])

    def twice(self, row: list[int]) -> tuple[int, int] | None:
        """Twice the least and the largest value of row · v; None: there are none."""
        if self.sums is None:
            return None if any(row) else (0, 0)
        centre, reach = dot(row, self.sums), 0 if self.widths is None else dot(map(abs, row), self.widths)
        return centre - reach, centre + reach


class Units:
    """The tables of all units: those with at most two candidates together, the others one by one.

    Attributes:
        exp: of all integers here. several: (unit, more than two candidates as integers). others: no integers.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        found = [table.integral for table in tables]
        self.exp = min((each[0] for each in found if each is not None), default=0)
        self.tables = tables
        self.several: list[tuple[int, list[tuple[int, int]]]] = []
        self.others: list[int] = []
        pairs: list[tuple[int, int, int, int]] = []  # sum and difference of the arguments, then of the values
        for k, each in enumerate(found):
            points = [] if each is None else [(a << each[0] - self.exp, u << each[0] - self.exp) for a, u in each[1]]
            if each is None:
                self.others.append(k)
            elif len(points) > 2:
                self.several.append((k, points))
            if 1 <= len(points) <= 2:
                (a, u), (b, v) = points[0], points[-1]
                pairs.append((a + b, b - a, u + v, v - u))
            else:  # no part of the products
                pairs.append((0, 0, 0, 0))
        self.arguments, self.steps, self.values, self.rises = ([pair[i] for pair in pairs] for i in range(4))
        self.shifted: dict[int, list[int]] = {}  # the steps, times powers of two

    def twice(self, w: list[int], v: list[int], shift: int) -> tuple[int, int]:
        """Twice the least and the largest sum of w·φ − 2^shift v·a over all units but the `others`."""
        if shift not in self.shifted:
            self.shifted[shift] = [step << shift for step in self.steps]
        centre = dot(w, self.values) - (dot(v, self.arguments) << shift)
        reach = sum(map(abs, map(sub, map(mul, w, self.rises), map(mul, v, self.shifted[shift]))))
        least, most = centre - reach, centre + reach
        for k, points in self.several:
            p, q = w[k], v[k] << shift
            at = [p * phi - q * a for a, phi in points]
            least += 2 * min(at)
            most += 2 * max(at)
        return least, most


def total(constant: int, parts: Sequence[tuple[tuple[int, int] | None, int]], exp: int) -> Interval:
    """Where a sum lies, from twice the ends of each part at an exponent of its own; everything times 2^exp."""
    finest = min(0, *(own for _, own in parts))
    low = high = constant << 1 - finest
    for ends, own in parts:
        if ends is None:
            return None, None
        low += ends[0] << own - finest
        high += ends[1] << own - finest
    return dyadic(low, finest + exp - 1), dyadic(high, finest + exp - 1)


def plus(a: Interval, b: Interval) -> Interval:
    (p, q), (r, s) = a, b
    return None if p is None or r is None else p + r, None if q is None or s is None else q + s


@dataclass(frozen=True)
class Sets:
    """Where the columns of a system lie: the input's box, the box of the (whole) state, a table for each unit.

    `cut`: tables in place of those, for a few units.
    """

    inputs: Tensor
    states: Tensor
    tables: Sequence[Table]
    cut: Mapping[int, Table] = field(default_factory=dict)

    def shares(self, other: Sets) -> bool:
        """Whether all but the cuts are the very same objects."""
        return self.inputs is other.inputs and self.states is other.states and self.tables is other.tables


class Columns:
    """Sets as integers, for any number of forms; `kept` are the states that have columns."""

    def __init__(self, sets: Sets, kept: Sequence[int], units: Units) -> None:
        self.inputs, self.states, self.units = Ends.of(sets.inputs), Ends.of(part(sets.states, kept)), units
        self.kept = 1 + sets.inputs.size  # the first column of a state; then that of a unit
        self.first = self.kept + len(kept)

    def bounds(
        self, row: list[int], exp: int, slopes: list[int], slope_exp: int, cut: Mapping[int, Table], both: bool
    ) -> Interval:
        """The ends of row · (1, x, z, φ) − slopes · a; the upper one only where asked for.

        Row and slopes are integers at 2^exp and 2^slope_exp, exp ≤ slope_exp.
        """
        w, v, units, apart = row[self.first :], slopes, self.units, []
        if cut or units.others:
            v = v.copy()
            for k in {*units.others, *cut}:
                if w[k] or v[k]:
                    apart.append((cut.get(k, units.tables[k]), dyadic(w[k], exp), dyadic(v[k], slope_exp)))
                w[k] = v[k] = 0
        parts = [
            (self.inputs.twice(row[1 : self.kept]), self.inputs.exp),
            (self.states.twice(row[self.kept : self.first]), self.states.exp),
            (units.twice(w, v, slope_exp - exp), units.exp),
        ]  # fmt: skip
        found = total(row[0], parts, exp)
        for table, p, q in apart:
            most = table.least(-p, -q) if both else None
            found = plus(found, (table.least(p, q), None if most is None else -most))
        return found if both else (found[0], None)


def part(box: Tensor, entries: Sequence[int]) -> Tensor:
    if not box.bounded:
        return Tensor((len(entries),))
    lo, hi = box.ends()
    low = [lo[i] for i in entries]
    return Tensor((len(entries),), box.exp, low, low if hi is lo else [hi[i] for i in entries])
