"""Linear programs over the integers, solved exactly: the simplex method without a single rounding.

The tableau keeps integers over one common denominator, the determinant of the basis, so that every division in a pivot
is exact (Edmonds' integer pivoting, Bareiss' elimination). Nothing here is fast for large programs, and nothing has a
tolerance: a program is empty, bounded or unbounded, and the multipliers that say so are rationals.

Source: Edmonds, Systems of distinct representatives and linear algebra (1967); Bland, New finite pivoting rules for the
simplex method (1977).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import mul

GREEDY = 40  # pivots by the steepest reduced cost; after these by Bland's rule, which cannot cycle


class TimeUp(Exception):
    """The deadline passed inside a search."""


@dataclass(frozen=True)
class Empty:
    """No y ≥ 0 has Σ y_j·columns_j = right: `duals`·columns_j ≤ 0 for every j, and `duals`·right > 0."""

    duals: tuple[Fraction, ...]


@dataclass(frozen=True)
class Optimum:
    """The least cost, where it is attained, and `duals` with duals·columns_j ≤ cost_j and duals·right = value."""

    value: Fraction
    values: tuple[Fraction, ...]
    duals: tuple[Fraction, ...]


@dataclass(frozen=True)
class Unbounded:
    """A solution, and a direction that keeps it one and lowers the cost without end."""

    values: tuple[Fraction, ...]
    direction: tuple[Fraction, ...]


class _Tableau:
    """`rows` are the equations in the basis, then the reduced costs of both phases; each ends in its right side."""

    def __init__(self, columns: Sequence[Sequence[int]], right: Sequence[int], cost: Sequence[int]) -> None:
        self.count, self.size = len(columns), len(right)
        self.signs = [-1 if b < 0 else 1 for b in right]
        self.rows: list[list[int]] = []
        for i, (b, sign) in enumerate(zip(right, self.signs, strict=True)):
            own = [int(i == j) for j in range(self.size)]
            self.rows.append([sign * column[i] for column in columns] + own + [sign * b])
        self.rows.append([-sum(column) for column in zip(*self.rows, strict=True)] if right else [0] * (self.count + 1))
        self.rows.append([*cost, *[0] * (self.size + 1)])
        self.basis = list(range(self.count, self.count + self.size))
        self.denominator = 1
        self.pivots = 0

    def pivot(self, r: int, c: int) -> None:
        row, d = self.rows[r], self.denominator
        p = row[c]
        for i, other in enumerate(self.rows):
            if i == r:
                continue
            f = other[c]
            if f:
                self.rows[i] = [(p * v - f * w) // d for v, w in zip(other, row, strict=True)]
            elif p != d:
                self.rows[i] = [p * v // d for v in other]
        self.basis[r], self.denominator = c, p
        self.pivots += 1
        if p < 0:
            self.rows, self.denominator = [[-v for v in each] for each in self.rows], -p

    def minimize(self, phase: int, deadline: float) -> int | None:
        """Pivot until the cost of the phase is least; the column along which it falls without end, if there is one."""
        while True:
            if time.monotonic() > deadline:
                raise TimeUp
            costs = self.rows[self.size + phase][: self.count]
            least = min(costs, default=0)
            if least >= 0:
                return None
            c = costs.index(least) if self.pivots < GREEDY else next(j for j, v in enumerate(costs) if v < 0)
            r = -1
            for i, row in enumerate(self.rows[: self.size]):
                if row[c] <= 0:
                    continue
                if r >= 0:
                    ahead = row[-1] * self.rows[r][c] - self.rows[r][-1] * row[c]
                    if ahead > 0 or ahead == 0 and self.basis[i] > self.basis[r]:
                        continue
                r = i
            if r < 0:
                return c
            self.pivot(r, c)

    def expel_artificial(self) -> None:
        """Artificial variables that are basic at zero leave; where none can take its place the row is redundant."""
        for r in range(self.size):
            if self.basis[r] >= self.count:
                c = next((j for j, v in enumerate(self.rows[r][: self.count]) if v), None)
                if c is not None:
                    self.pivot(r, c)

    def values(self) -> tuple[Fraction, ...]:
        found = [Fraction(0)] * self.count
        for row, j in zip(self.rows, self.basis, strict=False):
            if j < self.count:
                found[j] = Fraction(row[-1], self.denominator)
        return tuple(found)

    def duals(self, phase: int) -> tuple[Fraction, ...]:
        """From the artificial columns, whose own cost is left out of both rows of reduced costs."""
        reduced = self.rows[self.size + phase][self.count : -1]
        return tuple(Fraction(-sign * v, self.denominator) for sign, v in zip(self.signs, reduced, strict=True))

    def direction(self, c: int) -> tuple[Fraction, ...]:
        found = [Fraction(0)] * self.count
        found[c] = Fraction(1)
        for row, j in zip(self.rows, self.basis, strict=False):
            if j < self.count:
                found[j] = Fraction(-row[c], self.denominator)
        return tuple(found)


def solve(
    columns: Sequence[Sequence[int]], right: Sequence[int], cost: Sequence[int] | None = None,
    deadline: float = float("inf"),
) -> Empty | Optimum | Unbounded:  # fmt: skip
    """Minimize Σ cost_j·y_j over y ≥ 0 with Σ y_j·columns_j = right; without a cost, find any such y.

    Shape: every column has one entry for each entry of `right`.

    Args:
        deadline: on the monotonic clock.

    Raises:
        TimeUp: the deadline passed.
    """
    tableau = _Tableau(columns, right, [0] * len(columns) if cost is None else cost)
    tableau.minimize(0, deadline)
    if tableau.rows[tableau.size][-1] < 0:
        return Empty(tableau.duals(0))
    tableau.expel_artificial()
    if cost is None:
        return Optimum(Fraction(0), tableau.values(), (Fraction(0),) * len(right))
    falling = tableau.minimize(1, deadline)
    if falling is not None:
        return Unbounded(tableau.values(), tableau.direction(falling))
    found, duals = tableau.values(), tableau.duals(1)
    return Optimum(sum(map(mul, cost, found), Fraction(0)), found, duals)
