"""Units over intervals of their arguments: the least value of w·φ(a) − v·a, for any w and v.

Piecewise-linear activations are exact: the least value is taken at an end or a breakpoint. Others are cut into pieces,
and on each the slopes of φ bound how far the function can dip between the ends. Proof: proofs/unit_bounds.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from trm_verify.kernel import enclosures
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import STATE, Node
from trm_verify.kernel.numbers import ceil_at, floor_at, less
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor

PIECEWISE = {"relu", "abs", "leaky_relu", "clamp", "scale"}
PIECES = 16
BITS = enclosures.BITS
MAX_EXPONENT = 1024  # of candidates as integers; finer ones stay fractions
ZERO = Fraction(0)
Interval = tuple[Fraction | None, Fraction | None]  # None: no end on that side
Integral = tuple[int, tuple[tuple[int, int], ...]]  # exponent ≤ 0, then (argument, value) of all candidates
Least = Callable[[Fraction, Fraction], Fraction | None]  # (w, v) ↦ a lower bound of w·φ − v·a; None: unbounded below


def kinks(unit: Unit) -> list[Fraction]:
    """Where the slope of a piecewise-linear activation changes."""
    if unit.op == "clamp":
        return [end for end in (unit.attrs["lo"], unit.attrs["hi"]) if end is not None]
    return [] if unit.op == "scale" else [ZERO]


def value(unit: Unit, at: Fraction) -> tuple[Fraction, Fraction]:
    """φ at one argument: both ends are equal, and exact, for a piecewise-linear activation."""
    exact: Fraction
    if unit.op == "relu":
        exact = at if at.numerator > 0 else ZERO
    elif unit.op == "abs":
        exact = abs(at)
    elif unit.op == "leaky_relu":
        exact = at if at.numerator >= 0 else at * unit.attrs["slope"]
    elif unit.op == "scale":
        exact = at * unit.attrs["factor"]
    elif unit.op == "clamp":
        lo, hi = unit.attrs["lo"], unit.attrs["hi"]
        exact = at if lo is None else max(at, lo)
        exact = exact if hi is None else min(exact, hi)
    else:
        given = Tensor((1,), -BITS, [floor_at(at, -BITS)], [ceil_at(at, -BITS)])
        return apply_operation(_node(unit, 1), [given]).fraction(0)
    return exact, exact


def _node(unit: Unit, size: int) -> Node:
    if unit.op is None:
        raise CheckError("UNSUPPORTED", "an activation", "another operation")
    return Node(unit.op, (0,), unit.attrs, (size,), STATE)


def _integral(candidates: tuple[tuple[Fraction, Fraction], ...]) -> Integral | None:
    """Candidates as integers, where all of them are binary fractions."""
    below = [end.denominator for pair in candidates for end in pair]
    finest = max(below, default=1)
    if finest.bit_length() - 1 > MAX_EXPONENT or any(d & (d - 1) for d in below):
        return None
    whole = ((a.numerator * (finest // a.denominator), u.numerator * (finest // u.denominator)) for a, u in candidates)
    return 1 - finest.bit_length(), tuple(whole)


@dataclass(frozen=True)
class Piecewise:
    """The candidates (argument, value) of a piecewise-linear unit, and the slopes beyond them where there is no end."""

    candidates: tuple[tuple[Fraction, Fraction], ...]
    left: Fraction | None
    right: Fraction | None

    def least(self, w: Fraction, v: Fraction) -> Fraction | None:
        if self.left is not None and w * self.left > v or self.right is not None and w * self.right < v:
            return None
        return min([w * phi - v * a for a, phi in self.candidates])

    @cached_property
    def integral(self) -> Integral | None:
        if self.left is not None or self.right is not None:
            return None
        return _integral(self.candidates)

    def ends(self) -> Interval:
        """The range of φ."""
        values = [phi for _, phi in self.candidates]
        if self.left not in (None, 0) or self.right not in (None, 0):
            down = (self.left or 0) > 0 or (self.right or 0) < 0
            up = (self.left or 0) < 0 or (self.right or 0) > 0
            return (None if down else min(values)), (None if up else max(values))
        return min(values), max(values)


@dataclass(frozen=True)
class Smooth:
    """Arguments in order with enclosures of their values, and the range of the slope between neighbours."""

    points: tuple[Fraction, ...]
    values: tuple[tuple[Fraction, Fraction], ...]
    slopes: tuple[tuple[Fraction, Fraction], ...]

    integral = None  # between neighbours the least value is no candidate

    def least(self, w: Fraction, v: Fraction) -> Fraction | None:
        at = [w * (lo if w >= 0 else hi) - v * a for a, (lo, hi) in zip(self.points, self.values, strict=True)]
        least = min(at)
        for k, (lo, hi) in enumerate(self.slopes):
            down, up = (w * lo - v, w * hi - v) if w >= 0 else (w * hi - v, w * lo - v)
            if down < 0 < up:  # the two lines that bound it from the ends meet here
                width = self.points[k + 1] - self.points[k]
                least = min(least, (up * at[k] - down * at[k + 1] + down * up * width) / (up - down))
        return least

    def ends(self) -> Interval:
        low, high = self.least(Fraction(1), Fraction(0)), self.least(Fraction(-1), Fraction(0))
        return low, None if high is None else -high


@dataclass(frozen=True)
class Ranged:
    """A unit that is no activation: its values alone."""

    lo: Fraction
    hi: Fraction

    def least(self, w: Fraction, v: Fraction) -> Fraction | None:
        return w * (self.lo if w >= 0 else self.hi)

    @cached_property
    def integral(self) -> Integral | None:
        return _integral(((Fraction(0), self.lo), (Fraction(0), self.hi)))

    def ends(self) -> Interval:
        return self.lo, self.hi


Table = Piecewise | Smooth | Ranged


def table(unit: Unit, interval: Interval) -> Table:
    """What is known of a unit whose argument lies in the interval."""
    if unit.op is None:
        if unit.range is None:
            raise CheckError("UNSUPPORTED", "bounded values of every operation that is no activation", "unbounded")
        return Ranged(*unit.range)
    lo, hi = interval
    if unit.op in PIECEWISE:
        inside = sorted([k for k in kinks(unit) if (lo is None or less(lo, k)) and (hi is None or less(k, hi))])
        at = [end for end in (lo, *inside, hi if hi != lo else None) if end is not None] or [ZERO]
        candidates = tuple([(a, value(unit, a)[0]) for a in at])
        left = None if lo is not None else candidates[0][1] - value(unit, at[0] - 1)[0]
        right = None if hi is not None else value(unit, at[-1] + 1)[0] - candidates[-1][1]
        return Piecewise(candidates, left, right)
    if lo is None or hi is None:
        raise CheckError("UNSUPPORTED", f"a bounded argument of {unit.op}", "an unbounded one")
    first, last = floor_at(lo, -BITS), ceil_at(hi, -BITS)
    ticks = sorted({first + (last - first) * k // PIECES for k in range(PIECES + 1)})
    given = Tensor((len(ticks),), -BITS, ticks, ticks)
    found = apply_operation(_node(unit, len(ticks)), [given])
    points = tuple(given.fraction(k)[0] for k in range(len(ticks)))
    values = tuple(found.fraction(k) for k in range(len(ticks)))
    if len(ticks) == 1:
        return Smooth(points, values, ())
    between = Tensor((len(ticks) - 1,), -BITS, ticks[:-1], ticks[1:])
    low, high, exp = slopes(_node(unit, len(ticks) - 1), between)
    one = Fraction(1, 1 << -exp)
    return Smooth(points, values, tuple((p * one, q * one) for p, q in zip(low, high, strict=True)))
