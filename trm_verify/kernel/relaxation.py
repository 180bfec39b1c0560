"""Lower bounds of linear functionals over the fixed points of a step (weak duality, R6).

The step is a system of equations over the columns (1, input, kept states, units): `f_i − z_i = 0` for each kept state
i, and `argument − a_k = 0` for each activation unit k, with u_k = φ_k(a_k). A state that equals one unit is not kept:
it is that unit. For *any* multipliers μ, a functional q equals q + μ·(equations) at every fixed point; each column then
takes its worst value over its own set, and each unit the least of w·φ(a) − v·a over the interval of its argument. So a
witness cannot be wrong, only weak. Proof: proofs/duality.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import Rows, dot, dyadic, matmul, rescale
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, Table

PROJECTIONS = ("relu", "clamp")
MAX_CUTS = 1024


@dataclass(frozen=True)
class Functional:
    """Coefficients of ints · 2^exp over all columns of a system, plus `sign` times the argument of `unit`, if any."""

    row: list[int]
    exp: int
    unit: int = -1
    sign: int | Fraction = 0

    def times(self, weight: Fraction) -> Functional:
        """Multiplied by a binary fraction."""
        row = [v * weight.numerator for v in self.row]
        return Functional(row, self.exp + 1 - weight.denominator.bit_length(), self.unit, self.sign * weight)


@dataclass(frozen=True)
class System:
    """Rows of the equations over (1, input, kept states, units), at one exponent.

    Attributes:
        kept: indices of the states that have an equation of their own.
        slaved: the unit that another state equals.
        active: the units that have arguments, in the order of their equations.
    """

    rows: Rows
    exp: int
    inputs: int
    kept: tuple[int, ...]
    slaved: dict[int, int]
    active: tuple[int, ...]
    units: tuple[Unit, ...]
    states: int

    def reduced(self, row: list[int]) -> list[int]:
        """A row of affine forms, over (1, state, input, units), in the columns of the system."""
        n, m = self.states, self.inputs
        units = row[1 + n + m :]
        for i, k in self.slaved.items():
            units[k] += row[1 + i]
        return [row[0], *row[1 + n : 1 + n + m], *(row[1 + i] for i in self.kept), *units]

    @property
    def width(self) -> int:
        return 1 + self.inputs + len(self.kept) + len(self.units)

    @property
    def first(self) -> int:
        """Column of the first unit."""
        return 1 + self.inputs + len(self.kept)

    def state_column(self, i: int) -> int:
        return self.first + self.slaved[i] if i in self.slaved else 1 + self.inputs + self.kept.index(i)

    def of_state(self, i: int, sign: int) -> Functional:
        row = [0] * self.width
        row[self.state_column(i)] = sign
        return Functional(row, 0)

    def of_argument(self, k: int, sign: int) -> Functional:
        return Functional([0] * self.width, 0, k, sign)


def slaved_states(forms: AffineForms) -> dict[int, int]:
    """The states whose output is exactly one unit."""
    found = {}
    one = 1 << -forms.outputs.exp if forms.outputs.exp <= 0 else 0
    for i, row in enumerate(forms.outputs.rows):
        places = [j for j, v in enumerate(row) if v]
        if len(places) == 1 and places[0] >= forms.first and row[places[0]] == one:
            found[i] = places[0] - forms.first
    return found


def rescaled(forms: AffineForms, scale: Sequence[Fraction] | None) -> AffineForms:
    """Replace the argument a of a state's own unit by z + α(a − z), which has the same fixed points.

    Sound for units that project onto an interval, α > 0: proofs/rescaling.md.
    """
    if scale is None:
        return forms
    return forms.once(("rescaled", *scale), lambda: _rescaled(forms, scale))


def _rescaled(forms: AffineForms, scale: Sequence[Fraction]) -> AffineForms:
    own = slaved_states(forms)
    finest = min(1 - alpha.denominator.bit_length() for alpha in scale)
    exp = min(forms.arguments.exp, 0) + min(finest, 0)
    rows = [rescale(row, forms.arguments.exp, exp) for row in forms.arguments.rows]
    for i, alpha in enumerate(scale):
        if alpha == 1:
            continue
        if alpha <= 0 or i not in own or forms.units[own[i]].op not in PROJECTIONS:
            raise CheckError("WITNESS", "a positive scale, other than 1 only for a ReLU or clamp that is a state", i)
        raw = forms.arguments.rows[own[i]]
        shift = forms.arguments.exp - exp
        row = [v * alpha.numerator << shift >> alpha.denominator.bit_length() - 1 for v in raw]
        row[1 + i] += int((1 - alpha) * (1 << -exp))
        rows[own[i]] = row
    return AffineForms(forms.outputs, forms.units, type(forms.arguments)(rows, exp), forms.first)


def system_of(graph: Graph, forms: AffineForms, merge: bool = True) -> System:
    """The equations; without `merge` every state keeps its own (rule R5 speaks of states that are no fixed points)."""
    return forms.once(("system", merge), lambda: _system_of(graph, forms, merge))


def _system_of(graph: Graph, forms: AffineForms, merge: bool) -> System:
    n, m = graph.size, graph.input_size
    slaved = slaved_states(forms) if merge else {}
    kept = tuple(i for i in range(n) if i not in slaved)
    active = tuple(k for k, unit in enumerate(forms.units) if unit.op is not None)
    exp = min(forms.outputs.exp, forms.arguments.exp, 0)
    system = System([], exp, m, kept, slaved, active, forms.units, n)
    for i in kept:
        row = list(rescale(forms.outputs.rows[i], forms.outputs.exp, exp))
        row[1 + i] -= 1 << -exp
        system.rows.append(system.reduced(row))
    system.rows.extend(system.reduced(rescale(forms.arguments.rows[k], forms.arguments.exp, exp)) for k in active)
    return system


@dataclass(frozen=True)
class Sets:
    """Where the columns of a system lie: the input's box, the box of the (whole) state, a table for each unit."""

    inputs: Tensor
    states: Tensor
    tables: Sequence[Table]


def least_over(coefficients: list[int], box: Tensor) -> int | None:
    """Twice the least value of Σ c_i v_i over a box, at the exponents of both together; None when unbounded below."""
    if not box.bounded:
        return None if any(coefficients) else 0
    lo, hi = box.ends()
    if hi is lo:
        return 2 * dot(coefficients, lo)
    spread = sum(abs(c) * (b - a) for c, a, b in zip(coefficients, lo, hi, strict=True))
    return dot(coefficients, map(sum, zip(lo, hi, strict=True))) - spread


def combined(system: System, functionals: Sequence[Functional], multipliers: Rows, exp: int) -> tuple[Rows, int]:
    """The coefficients q + μ·(equations) of each functional, at one exponent."""
    low = min([system.exp + exp, *(f.exp for f in functionals)])
    rows = matmul(multipliers, system.rows) if system.rows else [[0] * system.width for _ in functionals]
    found = []
    for functional, row in zip(functionals, rows, strict=True):
        moved = rescale(row, system.exp + exp, low) if system.rows else row
        base = rescale(functional.row, functional.exp, low) if any(functional.row) else functional.row
        found.append(list(map(int.__add__, moved, base)))
    return found, low


def lower_bounds(
    system: System, sets: Sequence[Sets], functionals: Sequence[Functional], multipliers: Rows, exp: int,
) -> list[Fraction | None]:  # fmt: skip
    """For each functional with its multipliers (· 2^exp) and its sets, a lower bound at fixed points; None: none.

    Sound if: proofs/duality.md.
    """
    rows, low = combined(system, functionals, multipliers, exp)
    unit = dyadic(1, low)
    integral: dict[int, Integral] = {}  # most functionals share one list of tables
    found: list[Fraction | None] = []
    for functional, row, own, each in zip(functionals, rows, multipliers, sets, strict=True):
        given = least_over(row[1 : 1 + system.inputs], each.inputs)
        kept = least_over(row[1 + system.inputs : system.first], part(each.states, system.kept))
        if given is None or kept is None:
            found.append(None)
            continue
        boxes = given * dyadic(1, each.inputs.exp) + kept * dyadic(1, each.states.exp)
        if id(each.tables) not in integral:
            integral[id(each.tables)] = integral_of(each.tables)
        slopes = [0] * len(system.units)
        for k, v in zip(system.active, rescale(own[len(system.kept) :], exp, low), strict=True):
            slopes[k] = v
        units = _least_of_units(row[system.first :], slopes, unit, functional, each.tables, integral[id(each.tables)])
        found.append(None if units is None else (row[0] + boxes / 2) * unit + units)
    return found


Integral = tuple[int, list[tuple[tuple[int, int], ...] | None]]  # exponent, then candidates of each table that has them


def integral_of(tables: Sequence[Table]) -> Integral:
    """The candidates of all tables as integers at one exponent; None for a table that has another form."""
    each = [table.integral for table in tables]
    exp = min((found[0] for found in each if found is not None), default=0)
    return exp, [
        None if found is None else tuple((a << found[0] - exp, phi << found[0] - exp) for a, phi in found[1])
        for found in each
    ]


def _least_of_units(
    weights: list[int], slopes: list[int], unit: Fraction, functional: Functional, tables: Sequence[Table],
    integral: Integral,
) -> Fraction | None:  # fmt: skip
    """The sum over all units of the least w·φ(a) − v·a, with w and v in multiples of `unit`; None: unbounded below."""
    exp, candidates = integral
    total, rest = 0, Fraction(0)
    for k, (w, v, points) in enumerate(zip(weights, slopes, candidates, strict=True)):
        if points is not None and k != functional.unit:
            if w or v:
                total += min([w * phi - v * a for a, phi in points])
            continue
        shift = functional.sign if k == functional.unit else 0
        if not w and not v and not shift:
            continue
        least = tables[k].least(w * unit, v * unit - shift)
        if least is None:
            return None
        rest += least
    return total * unit * dyadic(1, exp) + rest


def part(box: Tensor, entries: Sequence[int]) -> Tensor:
    if not box.bounded:
        return Tensor((len(entries),))
    lo, hi = box.ends()
    low = [lo[i] for i in entries]
    return Tensor((len(entries),), box.exp, low, low if hi is lo else [hi[i] for i in entries])


# Splitting: a binary tree whose leaves cut the interval of a unit's argument, or of an input, at given places.


@dataclass(frozen=True)
class Leaf:
    arguments: Mapping[int, Interval]  # units whose interval differs from the root's
    inputs: Mapping[int, Interval]


def leaves_of(system: System, splits: list[int], at: list[Fraction]) -> list[Leaf]:
    """The leaves of a tree in preorder: −1 for a leaf, else the unit, or (counted after the units) the input, to cut.

    The children of a cut are both closed at its threshold, so together they are the whole.
    """
    thresholds = iter(at)
    leaves: list[Leaf] = []
    stack = [Leaf({}, {})]
    for split in splits:
        if not stack:
            raise CheckError("WITNESS", "a tree that ends with its last leaf", "more nodes")
        here = stack.pop()
        if split == -1:
            leaves.append(here)
            continue
        if not 0 <= split < len(system.units) + system.inputs:
            raise CheckError("WITNESS", f"units or inputs from 0 to {len(system.units) + system.inputs - 1}", split)
        is_unit = split < len(system.units)
        if is_unit and system.units[split].op is None:
            raise CheckError("WITNESS", "a cut of a unit with an argument", split)
        threshold = next(thresholds, None)
        if threshold is None:
            raise CheckError("WITNESS", "a threshold for every cut", len(at))
        if len(here.arguments) + len(here.inputs) > MAX_CUTS:
            raise CheckError("LIMIT", f"at most {MAX_CUTS} units and inputs cut on the way to a leaf", split)
        known = here.arguments if is_unit else here.inputs
        place = split if is_unit else split - len(system.units)
        lo, hi = known.get(place, (None, None))
        below, above = {**known, place: (lo, threshold)}, {**known, place: (threshold, hi)}
        children = [Leaf(k, here.inputs) if is_unit else Leaf(here.arguments, k) for k in (above, below)]
        stack += children  # the part below comes first
    if stack or next(thresholds, None) is not None:
        raise CheckError("WITNESS", "a whole tree, with a threshold for every cut", "another")
    return leaves


def meet(a: Interval, b: Interval) -> Interval | None:
    """The intersection; None when it is empty."""
    lo = a[0] if b[0] is None else b[0] if a[0] is None else max(a[0], b[0])
    hi = a[1] if b[1] is None else b[1] if a[1] is None else min(a[1], b[1])
    return None if lo is not None and hi is not None and lo > hi else (lo, hi)


def within(unit: Unit, interval: Interval, lo: Fraction, hi: Fraction) -> Interval | None:
    """A part of an interval that holds every argument in it with φ in [lo, hi]; None when there is none."""
    part: Interval = (None, None)
    slope = unit.attrs.get("slope", unit.attrs.get("factor", Fraction(0)))
    if unit.op == "abs":
        if hi < 0:
            return None
        part = (-hi, hi)
        if lo > 0 and interval[0] is not None and interval[0] > -lo:
            part = (lo, hi)
        elif lo > 0 and interval[1] is not None and interval[1] < lo:
            part = (-hi, -lo)
    elif unit.op == "scale" and slope:
        part = (min(lo / slope, hi / slope), max(lo / slope, hi / slope))
    elif unit.op == "leaky_relu" and slope:
        part = (lo if lo >= 0 else lo / slope, hi if hi >= 0 else hi / slope)
    elif unit.op in (*PROJECTIONS, "leaky_relu", "scale"):  # a projection; a factor of zero projects onto zero
        zero, constant = Fraction(0), unit.op == "scale"
        floor = unit.attrs["lo"] if unit.op == "clamp" else zero
        ceiling = unit.attrs["hi"] if unit.op == "clamp" else zero if constant else None
        if floor is not None and hi < floor or ceiling is not None and lo > ceiling:
            return None
        # strictly between its ends φ is the identity
        part = (lo if floor is None or lo > floor else None, hi if ceiling is None or hi < ceiling else None)
    return meet(interval, part)
