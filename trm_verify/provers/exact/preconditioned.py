"""The witness of R5 over one box: slopes of the units, and the inverse of what they make of I − f′.

With the units as s·a + e the step is affine in (z, x, e). A unit that bends inside the box gets the middle of its
slopes; what is left of it is the error e, which moves by at most (half the bend)·|Δa|.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trm_verify.encode import Json, fractions
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic, floor_at
from trm_verify.kernel.relaxation import system_of
from trm_verify.kernel.spans import forms_over, interval_arguments
from trm_verify.kernel.tensor import Tensor, parse_box
from trm_verify.kernel.units import Interval, kinks, value
from trm_verify.provers.problem import Floats

BITS = 96  # of the entries of the matrix, and of a slope that is no binary fraction
ROUNDS = 200

Exact = NDArray[np.object_]


def slopes_over(unit: Unit, interval: Interval) -> tuple[Fraction, Fraction]:
    """The least and the largest slope of a piecewise-linear unit between two points of a bounded interval."""
    lo, hi = interval
    if unit.op is None or lo is None or hi is None:
        return Fraction(0), Fraction(0)
    ticks = [lo, *sorted(c for c in kinks(unit) if lo < c < hi), max(hi, lo + 1) if hi == lo else hi]
    found = [(value(unit, b)[0] - value(unit, a)[0]) / (b - a) for a, b in zip(ticks, ticks[1:], strict=False)]
    return min(found), max(found)


def rational_matrix(rows: Sequence[Sequence[Fraction]]) -> Exact:
    """Shape: (n, n), n = 0 included."""
    return np.array(rows, dtype=object).reshape(len(rows), len(rows))


def _identity(n: int) -> Exact:
    return rational_matrix([[Fraction(int(i == j)) for j in range(n)] for i in range(n)])


def inverse(matrix: Exact) -> Exact | None:
    """By Gauss-Jordan elimination in rationals; None for a singular matrix. Shape: (n, n)."""
    n = len(matrix)
    work = np.concatenate([matrix, _identity(n)], axis=1)
    for c in range(n):
        r = next((r for r in range(c, n) if work[r, c]), None)
        if r is None:
            return None
        work[[c, r]] = work[[r, c]]
        work[c] = work[c] / work[c, c]
        for i in range(n):
            if i != c and work[i, c]:
                work[i] = work[i] - work[i, c] * work[c]
    return work[:, n:]


class BoxTest:
    """R5 over one bounded box of states and one of inputs.

    Args:
        given: the inputs.
        lo, hi: ends of the box, binary fractions. Shape: (n,).

    Attributes:
        region: the box in the certificate's form.
        arguments: intervals of the units' arguments over it.
        slopes, spreads: the chosen slope of each unit, and how far another one over the box can lie from it.

    Raises:
        CheckError: UNSUPPORTED, when the step has no slopes there.
    """

    def __init__(self, graph: Graph, given: Tensor, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> None:
        self.n, self.ends = graph.size, list(zip(lo, hi, strict=True))
        self.lo, self.hi = fractions(lo), fractions(hi)
        self.region: Json = {"space": "state", "lo": self.lo, "hi": self.hi}
        box = parse_box(self.region, {"state": graph.size})[1]
        self.forms = forms_over(graph, given, box, None)
        self.arguments = interval_arguments(system_of(graph, self.forms, merge=False), given, box)
        ranges = [slopes_over(unit, end) for unit, end in zip(self.forms.units, self.arguments, strict=True)]
        self.slopes = [_short((least + most) / 2) for least, most in ranges]
        self.spreads = [max(most - s, s - least) for s, (least, most) in zip(self.slopes, ranges, strict=True)]

    def _linear(self) -> tuple[Exact, Exact, Exact, Exact]:
        """(da/dz, da/de, df/dz, df/de) with the chosen slopes."""
        n, first, units = self.n, self.forms.first, len(self.forms.units)

        def matrix(rows: Sequence[Sequence[int]], exp: int) -> tuple[Exact, Exact]:
            scaled = np.array([[v * dyadic(1, exp) for v in row] for row in rows], dtype=object)
            scaled = scaled.reshape(len(rows), first + units)
            return scaled[:, 1 : 1 + n], scaled[:, first:]

        by_state, by_unit = matrix(self.forms.arguments.rows, self.forms.arguments.exp)
        a_z, a_e = by_state.copy(), by_unit.copy()
        s = np.array(self.slopes, dtype=object)
        for k in range(units):  # the units come in an order in which each reads earlier ones only
            moved = by_unit[k, :k] * s[:k]
            a_z[k] = by_state[k] + moved @ a_z[:k]
            a_e[k] = by_unit[k] + moved @ a_e[:k]
        f_z, f_u = matrix(self.forms.outputs.rows, self.forms.outputs.exp)
        return a_z, a_e, f_z + (f_u * s) @ a_z, f_u + (f_u * s) @ a_e

    @cached_property
    def linear(self) -> tuple[Exact, Exact, Exact, Exact]:
        return self._linear()

    @cached_property
    def preconditioner(self) -> Exact | None:
        """The inverse of I − df/dz, rounded; None if that is singular."""
        exact = inverse(_identity(self.n) - self.linear[2])
        if exact is None:
            return None
        return rational_matrix([[_short(v) for v in row] for row in exact])

    def shape(self) -> tuple[float, Floats] | None:
        """(ratio, radii): by how much the preconditioned step shrinks a box with these radii, at best; None if there is
        no preconditioner. A ratio of 1 or more means that the test fails at a box of any shape. Shape: radii (n,)."""
        y = self.preconditioner
        if y is None:
            return None
        n = self.n
        a_z, a_e, f_z, f_e = self.linear
        rest = np.abs(_identity(n) - y @ (_identity(n) - f_z)).astype(float)
        size_z, size_e, out = np.abs(a_z).astype(float), np.abs(a_e).astype(float), np.abs(y @ f_e).astype(float)
        spreads = np.array([float(v) for v in self.spreads])
        radii, ratio = np.ones(n), 0.0
        for _ in range(ROUNDS):
            errors = np.zeros(len(spreads))
            for k, spread in enumerate(spreads):
                errors[k] = spread * (size_z[k] @ radii + size_e[k] @ errors)
            image = rest @ radii + out @ errors
            ratio = float((image / radii).max())
            if not image.max() > 0:
                break
            radii = 0.5 * radii + 0.5 * np.maximum(image / image.max(), 1e-3)  # half a step: the map may be periodic
        return ratio, radii / radii.max()

    def witness(self) -> dict[str, Json] | None:
        """Slopes and matrix of the kernel's step; None if there is no preconditioner."""
        y = self.preconditioner
        if y is None:
            return None
        return {"slopes": fractions(self.slopes), "matrix": fractions([v for row in y for v in row])}


def _short(value: Fraction) -> Fraction:
    """The value itself if it is a short binary fraction, else one near it."""
    if value.denominator & (value.denominator - 1) == 0 and value.denominator.bit_length() <= BITS:
        return value
    exp = min(value.numerator.bit_length() - value.denominator.bit_length(), 0) - BITS
    return dyadic(floor_at(value, exp), exp)
