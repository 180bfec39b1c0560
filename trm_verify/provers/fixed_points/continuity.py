"""Enclosures of the one fixed point by continuity (R6): self-consistent intervals of the units, as small as they get.

For intervals of all arguments the dual bounds every argument at fixed points inside them. Where those bounds lie
strictly inside, the intervals hold the fixed point of every input (proofs/by_continuity.md). The search alternates one
pass of dual ascent for all sides at once with moving the intervals to what the bounds say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, integers, vector, whole
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.context import numbers
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.linear import is_plain
from trm_verify.kernel.relaxation import PROJECTIONS, System, rescaled, slaved_states, system_of
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.units import PIECEWISE, table
from trm_verify.provers.fixed_points.enclosed import Enclosed
from trm_verify.provers.fixed_points.lean import enclose
from trm_verify.provers.fixed_points.newton import fixed_point, sensitivities
from trm_verify.provers.fixed_points.reduced import Linearised
from trm_verify.provers.fixed_points.relaxed import (
    Ascent,
    Chords,
    Dual,
    Functionals,
    Relaxed,
    apply,
    multipliers_json,
)
from trm_verify.provers.problem import ALL_STATES, Floats, Problem, floats

ROUNDS, INNER = 40, 6  # rounds of moving the intervals, steps of ascent in each
CHORDS = 4  # rounds without ascent, if less than the smallest intervals is asked for
INFLATE = 0.01  # how much wider the intervals are than what the bounds say
LEAST = 1e-7


def scale_of(forms: AffineForms, n: int) -> Json | None:
    """α_i = 1/(1 − W_ii), to eight bits, for states that are ReLU or clamp units; None where that changes nothing."""
    own = slaved_states(forms)
    if not own:
        return None
    scale = []
    for i in range(n):
        alpha = 1.0
        if i in own and forms.units[own[i]].op in PROJECTIONS:
            diagonal = float(floats([forms.arguments.rows[own[i]][1 + i]], forms.arguments.exp)[0])
            alpha = 1 / (1 - diagonal) if diagonal < 0.9 else 1.0
        mantissa, exponent = np.frexp(alpha)
        scale.append(float(np.ldexp(np.rint(mantissa * 256), exponent - 8)))
    return None if all(a == 1 for a in scale) else vector(scale)


class Consistent:
    """Intervals of the arguments, and of the kept states, with multipliers that show them to be self-consistent."""

    def __init__(self, relaxed: Relaxed, centre: tuple[Tensor, Tensor], spread: tuple[Tensor, Tensor]) -> None:
        self.relaxed, system = relaxed, relaxed.system
        self.kept, self.active = len(system.kept), len(system.active)
        count = self.kept + self.active
        (states, arguments), (state_reach, reach) = centre, spread
        self.box = torch.stack([states - state_reach, states + state_reach])
        self.lo, self.hi = arguments - reach, arguments + reach
        rows, shift = np.zeros((2 * count, system.width)), np.zeros((2 * count, len(system.units)))
        for side, sign in enumerate((1.0, -1.0)):
            at = side * count + np.arange(self.kept)
            rows[at, 1 + system.inputs + np.arange(self.kept)] = sign
            shift[side * count + self.kept + np.arange(self.active), list(system.active)] = sign
        self.functionals = Functionals.of(relaxed, rows, shift)
        self.count, self.strict = count, False
        self.multipliers = torch.zeros(2 * count, len(relaxed.rows), dtype=self.lo.dtype)
        self.bounds: tuple[Tensor, Tensor] = (self.ends[0], self.ends[1])

    def enclosed(self) -> Enclosed:
        sides = [(i, sign) for sign in (1, -1) for i in range(self.count)]
        return Enclosed(self.relaxed, self.lo, self.hi, self.box, *self.bounds, sides, self.multipliers.numpy())

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of all variables: kept states, then arguments. Shape: (count,) each."""
        active = self.relaxed.active
        return torch.cat([self.box[0], self.lo[active]]), torch.cat([self.box[1], self.hi[active]])

    def dual(self) -> Dual:
        """Each side of an argument that may have either sign looks at its own half only."""
        lo, hi = (end.expand(2 * self.count, -1).clone() for end in (self.lo, self.hi))
        active, first = self.relaxed.active, self.kept
        crossing = (self.lo[active] < 0) & (self.hi[active] > 0)
        rows = first + torch.nonzero(crossing).flatten()
        columns = active[crossing]
        hi[rows, columns] = 0.0
        lo[self.count + rows, columns] = 0.0
        relaxed = replace(self.relaxed, states=self.box)
        return Dual(relaxed, self.functionals, *relaxed.places(lo, hi))

    def linear(self, dual: Dual) -> Tensor:
        """The multipliers of chords and tangents."""
        return Chords(self.relaxed, self.lo, self.hi).best(dual, 1)

    def read(self, dual: Dual, multipliers: Tensor) -> None:
        """The ends that the bounds give, and whether they lie strictly inside."""
        found, _ = dual.bound(multipliers)
        low, high = found[: self.count].clone(), -found[self.count :]
        lo, hi = self.ends
        arguments = torch.arange(self.count, device=lo.device) >= self.kept
        crossing = arguments & (lo < 0) & (hi > 0)
        low = torch.where(crossing, low.clamp(max=0.0), low)
        high = torch.where(crossing, high.clamp(min=0.0), high)
        slack = LEAST / 8
        self.strict = bool(((low > lo + slack) & (high < hi - slack)).all())
        self.bounds = low, high

    def move(self, inflate: float) -> None:
        """Take the bounds, a little wider, as the next intervals."""
        low, high = self.bounds
        middle, reach = (low + high) / 2, (high - low).abs() / 2 * (1 + inflate) + LEAST
        low, high = middle - reach, middle + reach
        self.box = torch.stack([low[: self.kept], high[: self.kept]])
        self.lo, self.hi = self.lo.clone(), self.hi.clone()
        self.lo[self.relaxed.active], self.hi[self.relaxed.active] = low[self.kept :], high[self.kept :]

    def search(self, deadline: float, enough: Callable[[Enclosed], bool] | None = None, rounds: int = ROUNDS) -> bool:
        """Alternate ascent and moving until the intervals hold, and are small `enough` or shrink no more."""
        ascent, before, asked, ascending = Ascent(self.multipliers, 0.05, 0.99), torch.inf, 0, enough is None
        for count in range(3 * rounds):
            dual = self.dual()
            self.multipliers = self.linear(dual)  # the chords have moved
            if ascending:
                ascent.multipliers = dual.better(ascent.multipliers, self.multipliers)
                self.multipliers = ascent.multipliers = ascent.run(dual, INNER)
            self.read(dual, self.multipliers)
            size = float((self.bounds[1] - self.bounds[0]).mean())
            if not size < 1e6 or time.monotonic() > deadline:
                return False
            settled = abs(size - before) < 1e-3 * size
            if self.strict and ascending and (settled or count >= rounds):
                return True
            ascending = ascending or settled or count >= CHORDS  # what chords show costs least: it comes first
            if self.strict and enough is not None and count >= asked:
                asked = 2 * count + 2
                if enough(self.enclosed()):
                    return True
            before = size
            self.move(INFLATE if count < rounds else 3 * INFLATE)
        return False


class Equations:
    """A step's equations in rescaled coordinates: exactly, and in doubles."""

    def __init__(self, problem: Problem, domain: Json, region: Json) -> None:
        graph = problem.graph
        forms = forms_over(graph, problem.box(domain), problem.box(region), None)
        self.scale = scale_of(forms, graph.size)
        self.forms = rescaled(forms, None if self.scale is None else numbers(self.scale, graph.size, "scale"))
        self.system = system_of(graph, self.forms)
        self.relaxed = Relaxed.of(self.system, np.zeros((2, graph.input_size)), np.zeros((2, graph.size)))
        arguments = self.forms.arguments
        # in memory of torch's own, which is aligned: products of rows do not depend on where NumPy puts an array
        self.arguments = torch.tensor(floats(arguments.rows, arguments.exp)) if self.forms.units else None
        self.nested = self.arguments is not None and bool(self.arguments[:, self.forms.first :].any())

    @classmethod
    def of(cls, problem: Problem, domain: Json, region: Json) -> Equations:
        """They are the same for all boxes of inputs, and made once, for a step of linear maps and activations."""
        plain = is_plain(problem.graph.step)
        return problem.once("equations", None if plain else [domain, region], lambda: cls(problem, domain, region))


class Continuity:
    """The search over one box of inputs, from a premise that there is exactly one fixed point for each."""

    def __init__(self, problem: Problem, domain: Json, region: Json) -> None:
        self.problem, self.domain, self.region = problem, domain, region
        box = problem.box(domain)
        self.equations = Equations.of(problem, domain, region)
        self.forms, self.system = self.equations.forms, self.equations.system
        lo, hi = box.ends()
        self.inputs = np.array([floats(lo, box.exp), floats(hi, box.exp)]).reshape(2, -1)
        self.state: Floats = np.zeros(0)  # the fixed point in the middle of the inputs, once it is found
        self.middle = integers([a + b for a, b in zip(lo, hi, strict=True)], box.exp - 1)

    def lean(self, start: Floats, deadline: float) -> Enclosed | None:
        """Self-consistent intervals in little time, where few units bend."""
        relaxed = self.equations.relaxed.over(self.inputs, np.zeros((2, self.problem.graph.size)))
        try:
            about = Linearised.at(relaxed, self.unknown(relaxed, start)[0].numpy())
            if about is None:
                return None
            self.state = whole_state(self.system, relaxed, about.states, about.arguments)
            return enclose(about, deadline)
        except np.linalg.LinAlgError:
            return None

    def consistent(
        self, start: Floats, deadline: float, enough: Callable[[Enclosed], bool] | None = None
    ) -> Enclosed | str:
        """Self-consistent intervals, or why there are none."""
        n = self.problem.graph.size
        relaxed = self.equations.relaxed.over(self.inputs, np.zeros((2, n)))
        states, arguments, error = fixed_point(relaxed, relaxed.middle[None], self.unknown(relaxed, start))
        if not float(error) < 1e-6:
            return f"no fixed point was found in the middle of the inputs (residual {float(error):.3g})"
        moved = sensitivities(relaxed, arguments)[0].abs() @ relaxed.reach + 2 * LEAST
        kept = len(self.system.kept)
        reach = torch.zeros(len(self.system.units), dtype=moved.dtype)
        reach[relaxed.active] = moved[kept:]
        found = Consistent(relaxed, (states[0], arguments[0]), (moved[:kept], reach))
        self.state = whole_state(self.system, relaxed, states[0].numpy(), arguments[0].numpy())
        if not found.search(deadline, enough):
            return "the intervals of the units did not close (the inputs are too many, or the time was used up)"
        return found.enclosed()

    def unknown(self, relaxed: Relaxed, state: Floats) -> Tensor:
        """A start for Newton's method from a state: one evaluation of the arguments."""
        z = torch.tensor(state, dtype=torch.float64)
        row = torch.zeros(self.forms.first + len(self.forms.units), dtype=torch.float64)
        n, m = self.problem.graph.size, self.problem.graph.input_size
        row[0], row[1 : 1 + n], row[1 + n : 1 + n + m] = 1.0, z, relaxed.middle
        arguments, active = self.equations.arguments, relaxed.active
        kept = z[list(self.system.kept)]
        if arguments is None:
            return kept[None]
        if not self.equations.nested:
            return torch.cat([kept, arguments[active] @ row])[None]
        found = torch.zeros(len(self.forms.units), dtype=torch.float64)
        for k, unit in enumerate(self.forms.units):
            if unit.op is None:
                row[self.forms.first + k] = float(sum(unit.range or (0, 0)) / 2)
                continue
            found[k] = arguments[k] @ row
            row[self.forms.first + k] = apply(unit, found[k])
        return torch.cat([kept, found[active]])[None]

    def derivation(self, premise: Derivation, found: Enclosed) -> Derivation:
        """The kernel's step, with every number rounded to a short one."""
        n, units = self.problem.graph.size, self.system.units
        active = list(self.system.active)
        lo, hi = (end.numpy().copy() for end in (found.lo, found.hi))
        rest = np.setdiff1d(np.arange(len(units)), active)
        lo[rest], hi[rest] = 0.0, 0.0
        lo, hi = np.floor(np.ldexp(lo, PLACES)), np.ceil(np.ldexp(hi, PLACES))
        ends = np.zeros((2, n))
        ends[:, list(self.system.kept)] = found.box.numpy()
        _, values = found.relaxed.places(*(torch.from_numpy(np.ldexp(end, -PLACES)) for end in (lo, hi)))
        own = np.array(list(self.system.slaved.values()), dtype=int)
        ends[:, list(self.system.slaved)] = np.stack([values.amin(dim=0).numpy(), values.amax(dim=0).numpy()])[:, own]
        for i, k in self.system.slaved.items():
            if units[k].op not in PIECEWISE:  # between the points of the grid it may reach further
                interval = (Fraction(int(lo[k]), 1 << PLACES), Fraction(int(hi[k]), 1 << PLACES))
                ends[:, i] = [float(end or 0) for end in table(units[k], interval).ends()]
        ends = np.array([np.floor(np.ldexp(ends[0], PLACES)) - 1, np.ceil(np.ldexp(ends[1], PLACES)) + 1])
        state = {"space": "state", **{side: _short(v) for side, v in zip(("lo", "hi"), ends, strict=True)}}
        unknowns = [*self.system.kept, *(n + k for k in active)]
        return premise.then(
            "by_continuity", domain=self.domain, region=state, scale=self.equations.scale, input=self.middle,
            center=vector(self.state), lo=_short(lo), hi=_short(hi), targets=[unknowns[i] for i, _ in found.sides],
            signs=[sign or "both" for _, sign in found.sides], splits=[-1] * len(found.sides), at=vector([]),
            weights=vector([1] * len(found.sides)), multipliers=multipliers_json(found.multipliers, found.bits),
        )  # fmt: skip


PLACES = 30


def _short(scaled: Floats) -> Json:
    return whole(scaled, -PLACES)


def solve(problem: Problem, x: Floats) -> Floats:
    """A fixed point for one input, in doubles, by Newton's method from zero; NaN where none is found.

    Shape: x (m,), result (n,).
    """
    at = {"space": "input", "point": vector(x)}
    try:
        equations = Equations.of(problem, at, ALL_STATES)
        system, relaxed = equations.system, equations.relaxed.over(np.stack([x, x]), np.zeros((2, problem.graph.size)))
        states, arguments, error = fixed_point(relaxed, relaxed.middle[None])
    except CheckError:
        return np.full(problem.graph.size, np.nan)
    if not float(error) < 1e-6:
        return np.full(problem.graph.size, np.nan)
    return whole_state(system, relaxed, states[0].numpy(), arguments[0].numpy())


def whole_state(system: System, relaxed: Relaxed, states: Floats, arguments: Floats) -> Floats:
    """All entries of a state, those kept and those that are units. Shape: states (kept,), arguments (U,) to (n,)."""
    values, whole = relaxed.values(torch.from_numpy(arguments)).numpy(), np.zeros(system.states)
    whole[list(system.kept)] = states
    whole[list(system.slaved)] = values[list(system.slaved.values())]
    return whole
