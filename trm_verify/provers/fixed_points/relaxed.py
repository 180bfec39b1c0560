"""A step's equations in doubles, and the ascent on their dual: what the searches for R6 and R7 work with.

The kernel's `System` holds the equations exactly; here they are matrices, and a batch of functionals is bounded at once
for any multipliers (see `kernel/relaxation.py`). Everything found here is a proposal.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from trm_verify.encode import Json, quantized
from trm_verify.kernel.affine import Unit, affine_forms
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.relaxation import System
from trm_verify.kernel.units import PIECEWISE, kinks
from trm_verify.provers.problem import ALL_STATES, Floats, Problem, floats

GRID = 16  # intervals of the grid that stands for a smooth unit
BITS, FEW_BITS = 28, 22  # of a multiplier in a certificate, relative to the largest; where few units bend
MOST_ADAPTED = 2**26  # numbers in the systems that adapt multipliers to their signs: half a gigabyte


def _grid_points(unit: Unit) -> int:
    return 2 + len(kinks(unit)) if unit.op in PIECEWISE else GRID + 1


@dataclass(frozen=True)
class Relaxed:
    """The equations M·(1, x, z, u) − (0, a) = 0 of a system, over a box of inputs and a box of the kept states.

    Shape: rows (E, 1 + m + kept + U); middle, reach (m,); states (2, kept); active (A,) unit indices. `kinds`: units of
    one kind together, (their indices, the kind).
    """

    system: System
    rows: Tensor
    middle: Tensor
    reach: Tensor
    states: Tensor
    active: Tensor
    points: int
    kinds: list[tuple[Tensor, Unit]]

    @classmethod
    def of(cls, system: System, domain: Floats, states: Floats, device: str = "cpu") -> Relaxed:
        """domain (2, m) and states (2, n): lower ends, then upper ends."""
        rows = floats(system.rows, system.exp) if system.rows else np.zeros((0, system.width))
        groups: dict[str, tuple[list[int], Unit]] = {}
        for k, unit in enumerate(system.units):
            groups.setdefault(repr((unit.op, sorted(unit.attrs.items()), unit.range)), ([], unit))[0].append(k)
        kinds = [(torch.tensor(found, device=device), unit) for found, unit in groups.values()]
        points = max((_grid_points(unit) for unit in system.units if unit.op is not None), default=2)
        matrix, empty = torch.tensor(rows, dtype=torch.float64, device=device), torch.zeros(0)
        active = torch.tensor(system.active, dtype=torch.long, device=device)
        return cls(system, matrix, empty, empty, empty, active, points, kinds).over(domain, states)

    def over(self, domain: Floats, states: Floats) -> Relaxed:
        """The same equations over other boxes; domain (2, m) and states (2, n): lower ends, then upper ends."""
        kept = states[:, list(self.system.kept)] if self.system.kept else np.zeros((2, 0))
        ends = (domain[0] + domain[1]) / 2, (domain[1] - domain[0]) / 2, kept
        middle, reach, box = (torch.tensor(end, dtype=torch.float64, device=self.rows.device) for end in ends)
        return replace(self, middle=middle, reach=reach, states=box)

    @property
    def inputs(self) -> int:
        return self.system.inputs

    @property
    def first(self) -> int:
        return self.system.first

    def places(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates (argument, value) of every unit whose argument lies between `lo` and `hi`.

        Shape: lo, hi (…, U); each result (points, …, U).
        """
        if self.only is not None and self.only.op in PIECEWISE:
            arguments = torch.stack(self._ends(self.only, lo, hi))
            return arguments, apply(self.only, arguments)
        arguments = torch.empty((self.points, *lo.shape), dtype=lo.dtype, device=lo.device)
        values = torch.empty_like(arguments)
        for k, unit in self.kinds:
            low, high = lo[..., k], hi[..., k]
            if unit.op is None:
                first, last = unit.range or (Fraction(0), Fraction(0))
                ends = torch.tensor([float(first), float(last)], dtype=lo.dtype, device=lo.device)
                arguments[..., k] = 0.0
                values[..., k] = ends[0]
                values[-1, ..., k] = ends[1]
                continue
            if unit.op in PIECEWISE:
                arguments[..., k] = torch.stack(self._ends(unit, low, high))
            else:
                share = torch.linspace(0, 1, self.points, dtype=lo.dtype, device=lo.device)
                arguments[..., k] = low + share.reshape(-1, *[1] * low.dim()) * (high - low)
            values[..., k] = apply(unit, arguments[..., k])
        return arguments, values

    def _ends(self, unit: Unit, low: Tensor, high: Tensor) -> list[Tensor]:
        """Both ends and the kinks between them; as many as all units have, the last one again and again."""
        at = [low, *(torch.minimum(low.clamp(min=float(c)), high) for c in kinks(unit))]
        return at + [high] * (self.points - len(at))

    @property
    def only(self) -> Unit | None:
        """The kind of all units, if there is only one: then nothing needs to be picked out and put back."""
        return self.kinds[0][1] if len(self.kinds) == 1 else None

    def values(self, a: Tensor) -> Tensor:
        """φ(a); a unit without an argument has the middle of its range. Shape: (…, U)."""
        if self.only is not None and self.only.op is not None:
            return apply(self.only, a)
        found = torch.zeros_like(a)
        for k, unit in self.kinds:
            if unit.op is not None:
                found[..., k] = apply(unit, a[..., k])
            elif unit.range is not None:
                found[..., k] = float(sum(unit.range) / 2)
        return found


def apply(unit: Unit, a: Tensor) -> Tensor:
    """φ(a) in doubles."""
    if unit.op == "clamp":
        ends = [None if e is None else float(e) for e in (unit.attrs["lo"], unit.attrs["hi"])]
        return a.clamp(min=ends[0], max=ends[1])
    if unit.op == "leaky_relu":
        return torch.where(a >= 0, a, a * float(unit.attrs["slope"]))
    if unit.op == "scale":
        return a * float(unit.attrs["factor"])
    if unit.op is None:
        raise ValueError("expected an activation")
    functions = {
        "relu": torch.relu, "abs": torch.abs, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin,
        "cos": torch.cos, "softplus": torch.nn.functional.softplus, "silu": torch.nn.functional.silu,
        "gelu": torch.nn.functional.gelu,
    }  # fmt: skip
    return functions[unit.op](a)


def slope(unit: Unit, a: Tensor) -> Tensor:
    """φ′(a) in doubles; at a kink, one of the slopes beside it, or one between."""
    one = torch.ones((), dtype=a.dtype, device=a.device)
    if unit.op == "relu":
        return (a > 0).to(a.dtype)
    if unit.op == "abs":
        return torch.sign(a)
    if unit.op == "leaky_relu":
        return torch.where(a >= 0, one, float(unit.attrs["slope"]))
    if unit.op == "scale":
        return torch.full_like(a, float(unit.attrs["factor"]))
    at = a.detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(apply(unit, at).sum(), at)
    return found


@dataclass
class Functionals:
    """A batch of functionals to bound from below.

    Shape: rows (F, 1 + m + kept + U), coefficients; shift (F, U), coefficients of the units' arguments.
    """

    rows: Tensor
    shift: Tensor

    @classmethod
    def of(cls, relaxed: Relaxed, rows: Floats, shift: Floats | None = None) -> Functionals:
        like = relaxed.rows
        units = len(relaxed.system.units)
        moved = np.zeros((len(rows), units)) if shift is None else shift
        return cls(torch.tensor(rows, dtype=like.dtype, device=like.device), torch.tensor(moved, device=like.device))


@dataclass
class Dual:
    """The dual function of a batch of functionals over candidates of the units."""

    relaxed: Relaxed
    functionals: Functionals
    arguments: Tensor
    values: Tensor

    def bound(self, multipliers: Tensor, gradient: bool = False) -> tuple[Tensor, Tensor | None]:
        """Lower bounds, and their (super)gradient in the multipliers. Shape: multipliers (F, E)."""
        r = self.relaxed
        total = self.functionals.rows + multipliers @ r.rows
        x, z, w = total[:, 1 : 1 + r.inputs], total[:, 1 + r.inputs : r.first], total[:, r.first :]
        v = -self.functionals.shift.clone()
        v[:, r.active] += multipliers[:, len(r.system.kept) :]
        terms = w * self.values - v * self.arguments  # (points, F, U)
        least, chosen = terms.min(dim=0)
        states = torch.where(z >= 0, r.states[0], r.states[1])
        found = total[:, 0] + x @ r.middle - x.abs() @ r.reach + (z * states).sum(1) + least.sum(1)
        if not gradient:
            return found, None
        at = torch.gather(self.arguments.expand_as(terms), 0, chosen[None])[0]
        image = torch.gather(self.values.expand_as(terms), 0, chosen[None])[0]
        inputs = r.middle - torch.sign(x) * r.reach
        slope = r.rows[:, 0] + inputs @ r.rows[:, 1 : 1 + r.inputs].T + states @ r.rows[:, 1 + r.inputs : r.first].T
        slope = slope + image @ r.rows[:, r.first :].T
        slope[:, len(r.system.kept) :] -= at[:, r.active]
        return found, slope

    def better(self, first: Tensor, second: Tensor) -> Tensor:
        """Functional by functional, the multipliers with the larger bound."""
        return torch.where((self.bound(second)[0] > self.bound(first)[0])[:, None], second, first)


class Ascent:
    """Adam on the multipliers, keeping the state between calls, so that the sets may change under it."""

    def __init__(self, multipliers: Tensor, rate: float, decay: float) -> None:
        self.multipliers, self.rate, self.decay = multipliers, rate, decay
        self.mean, self.square, self.count = torch.zeros_like(multipliers), torch.zeros_like(multipliers), 0

    def step(self, dual: Dual) -> Tensor:
        """One ascent step; returns the bounds before it."""
        found, slope = dual.bound(self.multipliers, gradient=True)
        if slope is None:
            raise TypeError("expected a gradient")
        self.count += 1
        self.mean.mul_(0.9).add_(slope, alpha=0.1)
        self.square.mul_(0.95).addcmul_(slope, slope, value=0.05)
        size = (self.square / (1 - 0.95**self.count)).sqrt_().add_(1e-12)
        self.multipliers = self.multipliers + self.rate * self.mean / (1 - 0.9**self.count) / size
        self.rate *= self.decay
        return found

    def run(self, dual: Dual, steps: int, enough: float = torch.inf) -> Tensor:
        """The multipliers of the best bounds met in some steps, functional by functional."""
        best, kept = (
            torch.full((len(self.multipliers),), -torch.inf, dtype=self.mean.dtype, device=self.mean.device),
            self.multipliers,
        )
        for _ in range(steps):
            before = self.multipliers
            found = self.step(dual)
            better = found > best
            best, kept = torch.where(better, found, best), torch.where(better[:, None], before, kept)
            if bool((best > enough).all()):
                return kept
        better = dual.bound(self.multipliers)[0] > best
        return torch.where(better[:, None], self.multipliers, kept)


def ascend(
    dual: Dual, start: Tensor, steps: int, rate: float = 0.05, decay: float = 0.97, enough: float = torch.inf
) -> tuple[Tensor, Tensor]:
    """The best bound met on the way, per functional, with its multipliers; ends early once all are above `enough`."""
    found = Ascent(start, rate, decay).run(dual, steps, enough)
    return dual.bound(found)[0], found


def secants(relaxed: Relaxed, lo: Tensor, hi: Tensor) -> Tensor:
    """Slope of each unit's chord over its interval, its slope in the middle when that is a point. Shape: (U,)."""
    arguments, values = relaxed.places(lo, hi)
    width = arguments[-1] - arguments[0]
    wide = width > 1e-9
    chord = (values[-1] - values[0]) / torch.where(wide, width, torch.ones_like(width))
    low, high = relaxed.places(lo - 1e-6, hi + 1e-6)
    near = (high[-1] - high[0]) / (low[-1] - low[0]).clamp(min=1e-12)
    found = torch.where(wide, chord, near)
    inactive = torch.tensor([u.op is None for u in relaxed.system.units], device=lo.device, dtype=torch.bool)
    return torch.where(inactive, torch.zeros_like(found), found)


class Chords:
    """Multipliers that are exact when every unit is linear with the slope of its chord: implicit CROWN.

    The coefficients of the kept states vanish, and v = s·w for each active unit with coefficient w. `adapted` changes
    the slope of each ReLU of either sign to suit the side that a functional looks at, as CROWN does: a correction of
    low rank for each functional.
    """

    def __init__(self, relaxed: Relaxed, lo: Tensor, hi: Tensor) -> None:
        r, kept = relaxed, len(relaxed.system.kept)
        self.relaxed, self.kept = r, kept
        self.slopes = secants(r, lo, hi)
        self.keep = torch.cat([torch.arange(kept, device=r.rows.device), kept + r.active])
        columns = r.rows[:, 1 + r.inputs :]  # (E, kept + U)
        own = torch.zeros_like(columns)
        own[kept + torch.arange(len(r.active)), kept + r.active] = 1.0
        scale = torch.cat([torch.ones(kept, dtype=lo.dtype, device=lo.device), self.slopes])
        # unknown μ: for kept states Σ μ·column = −q; for units μ_k − shift_k = s_k (q_k + Σ μ·column)
        self.matrix = (columns * scale - own)[:, self.keep].T
        relu = torch.zeros(len(self.slopes), dtype=torch.bool, device=lo.device)
        for units, kind in r.kinds:
            relu[units] = kind.op == "relu"
        self.open = torch.nonzero(relu & (lo < 0) & (hi > 0)).flatten()
        self.lower = (hi[self.open] > -lo[self.open]).to(lo.dtype)  # of the two tangents at 0, the one nearer the graph

    def _right(self, functionals: Functionals) -> Tensor:
        r, kept = self.relaxed, self.kept
        right = functionals.rows[:, 1 + r.inputs :][:, self.keep].clone()
        right[:, kept:] = right[:, kept:] * self.slopes[r.active] + functionals.shift[:, r.active]
        return -right.T

    def multipliers(self, functionals: Functionals) -> Tensor:
        """Shape: (F, E)."""
        right = self._right(functionals)
        found, singular = torch.linalg.solve_ex(self.matrix, right)
        solved: Tensor = torch.linalg.lstsq(self.matrix, right).solution if bool(singular) else found
        return solved.T

    def best(self, dual: Dual, times: int) -> Tensor:
        """The better of both kinds, adapted so many times."""
        found = self.multipliers(dual.functionals)
        for _ in range(times if len(self.open) else 0):
            found = dual.better(found, self.adapted(dual.functionals, found))
        return found

    def adapted(self, functionals: Functionals, start: Tensor) -> Tensor:
        """Multipliers for the signs that the units' coefficients have with those of `start`, which are kept where
        the systems to solve, one a functional, would fill the memory. Shape: (F, E).
        """
        r, free = self.relaxed, self.open
        if not len(free) or len(start) * len(free) ** 2 > MOST_ADAPTED:
            return start
        weights = functionals.rows[:, r.first + free] + start @ r.rows[:, r.first + free]
        change = torch.where(weights > 0, self.lower - self.slopes[free], torch.zeros_like(weights))  # (F, O)
        place = torch.searchsorted(self.keep, self.kept + free)
        right = self._right(functionals)
        right[place] -= (functionals.rows[:, r.first + free] * change).T
        unit = torch.zeros(len(self.keep), len(free), dtype=right.dtype, device=right.device)
        unit[place, torch.arange(len(free))] = 1.0
        both, singular = torch.linalg.solve_ex(self.matrix, torch.cat([right, unit], dim=1))
        if bool(singular):
            return start
        base, spread = both[:, : len(start)], both[:, len(start) :]
        image = r.rows[:, r.first + free].T
        small = change[:, :, None] * (image @ spread) + torch.eye(len(free), dtype=right.dtype, device=right.device)
        moved, singular_each = torch.linalg.solve_ex(small, (change * (image @ base).T)[:, :, None])
        found = base.T - moved[:, :, 0] @ spread.T
        return torch.where((singular_each == 0)[:, None], found, start)


def multipliers_json(multipliers: Floats, bits: int = BITS) -> Json:
    """Multipliers rounded to a common exponent, for a certificate: any rounding is sound."""
    largest = float(np.abs(multipliers).max(initial=0.0))
    exp = int(np.floor(np.log2(largest))) - bits if largest > 0 else 0
    return quantized(multipliers, exp)


def units_of(problem: Problem, domain: Json) -> int:
    """Activation units of the step; a large number where it is not made of linear maps and activations."""
    graph = problem.graph
    try:
        ranges = evaluate(graph, graph.step, problem.box(ALL_STATES), problem.box(domain))
        units = affine_forms(graph, graph.step, ranges).units
    except CheckError:
        return sys.maxsize
    return len(units) if all(unit.op in PIECEWISE for unit in units) else sys.maxsize
