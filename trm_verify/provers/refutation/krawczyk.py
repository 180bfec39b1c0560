"""Witnesses of R5 about one state, in doubles: a small box, slopes of the units there, and the inverse of I − f′.

The box test is Krawczyk's: z + Y(f(z) − z) maps the box into its interior. With Y near (I − f′)⁻¹ that map is almost
constant, whether the fixed point attracts or repels. So a box a little larger than the error of the doubles passes,
where the step is smooth, or linear, and I − f′ is not close to singular.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import frexp

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from trm_verify.encode import Json, integers, quantized
from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.fixed_points.relaxed import apply
from trm_verify.provers.problem import Floats, floats

REACHES = (-26, -34, -18, -12, -8)  # radii of the box to try, as powers of two, relative to the largest coordinate
PLACES = 20  # binary places of the centre below the radius
BITS = 44  # of a slope, and of an entry of the matrix relative to the largest
MOST_WORK = 1 << 28  # multiplications of a box test that is worth trying


def box_tests(graph: Graph, given: Tensor, centre: Floats) -> Iterator[Json]:
    """Witnesses (`lo`, `hi`, `slopes`, `matrix`) for boxes about a state, the most promising first.

    Args:
        graph: the step, or the cycle graph. given: one input. centre: a fixed point, up to rounding. Shape: (n,).

    Raises:
        CheckError: the step has no affine forms there, or the test would take too long.
    """
    scale = frexp(float(np.abs(centre).max(initial=0.0)))[1] if centre.any() else 0
    for reach in REACHES:
        try:
            witness = _Box(graph, given, centre, max(scale, 0) + reach).witness()
        except np.linalg.LinAlgError:
            continue
        if witness is not None:
            yield witness


class _Box:
    """The box of radius 2^exp about a state, rounded to a few binary places."""

    def __init__(self, graph: Graph, given: Tensor, centre: Floats, exp: int) -> None:
        self.size, self.exp, self.radius = graph.size, exp - PLACES, float(np.ldexp(1.0, exp))
        middle = np.rint(np.ldexp(centre, -self.exp))
        self.centre = np.ldexp(middle, self.exp)
        self.lo, self.hi = ([int(v) + sign * (1 << PLACES) for v in middle] for sign in (-1, 1))
        region = Tensor((self.size,), self.exp, self.lo, self.hi)
        self.forms = forms_over(graph, given, region, None)
        work = (self.size + len(self.forms.units)) * self.size * (self.forms.first + len(self.forms.units))
        if work > MOST_WORK:
            raise CheckError("LIMIT", f"a box test of at most {MOST_WORK} multiplications", work)
        self.known = np.concatenate([[1.0], self.centre, floats(given.ends()[0], given.exp)])

    def witness(self) -> Json | None:
        """The kernel's numbers; None when I − f′ has no inverse."""
        with np.errstate(over="ignore", invalid="ignore"):  # a step too steep for doubles has no inverse here, either
            slopes, derivative = _linearized(self.forms, self.known, self.size, self.radius)
        inverse = np.linalg.inv(np.eye(self.size) - derivative)
        if not np.isfinite(inverse).all():
            return None
        return {
            "lo": integers(self.lo, self.exp), "hi": integers(self.hi, self.exp),
            "slopes": quantized(slopes, -BITS),
            "matrix": quantized(inverse, frexp(float(np.abs(inverse).max()))[1] - BITS),
        }  # fmt: skip


def _linearized(forms: AffineForms, known: Floats, n: int, radius: float) -> tuple[Floats, Floats]:
    """Slopes of the units near a point, and the derivative of the step with these. Shape: (units,), (n, n)."""
    first, units = forms.first, len(forms.units)
    out = floats(forms.outputs.rows, forms.outputs.exp)
    if not units:
        return np.zeros(0), out[:, 1 : 1 + n]
    rows = floats(forms.arguments.rows, forms.arguments.exp)
    by_state, by_unit, base = rows[:, 1 : 1 + n], rows[:, first:], rows[:, :first] @ known
    slopes, values, reach = (np.zeros(units) for _ in range(3))
    kinds = _kinds(forms.units)
    for start, stop in _blocks(by_unit):
        argument = base[start:stop] + by_unit[start:stop, :start] @ values[:start]
        near = np.abs(by_state[start:stop]).sum(axis=1) * radius
        near += np.abs(by_unit[start:stop, :start]) @ reach[:start]
        for places, unit in kinds:
            at = places[(places >= start) & (places < stop)]
            if unit.op is not None and len(at):
                slopes[at], values[at] = _tangent(unit, argument[at - start], near[at - start])
        reach[start:stop] = np.abs(slopes[start:stop]) * near
    moved = solve_triangular(np.eye(units) - by_unit * slopes, by_state, lower=True, unit_diagonal=True)
    derivative: Floats = out[:, 1 : 1 + n] + (out[:, first:] * slopes) @ moved
    return slopes, derivative


def _kinds(units: tuple[Unit, ...]) -> list[tuple[NDArray[np.int64], Unit]]:
    """Equal units together, with their places."""
    groups: dict[str, tuple[list[int], Unit]] = {}
    for k, unit in enumerate(units):
        groups.setdefault(repr((unit.op, sorted(unit.attrs.items()))), ([], unit))[0].append(k)
    return [(np.array(places), unit) for places, unit in groups.values()]


def _blocks(by_unit: Floats) -> Iterator[tuple[int, int]]:
    """Runs of units, in order, that do not read each other."""
    start = 0
    for k in range(1, len(by_unit) + 1):
        if k == len(by_unit) or by_unit[k, start:k].any():
            yield start, k
            start = k


def _tangent(unit: Unit, argument: Floats, near: Floats) -> tuple[Floats, Floats]:
    """(slopes, values) at arguments; the slope is the middle of those at both ends of what is near."""
    ends = torch.from_numpy(np.stack([argument - near, argument + near])).requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(apply(unit, ends).sum(), ends)
    return slopes.mean(dim=0).numpy(), apply(unit, torch.from_numpy(argument)).numpy()
