"""Lower bounds of linear functionals over the fixed points of a step (weak duality, R6).

The step is a system of equations over the columns (1, input, kept states, units): `f_i − z_i = 0` for each kept state
i, and `argument − a_k = 0` for each activation unit k, with u_k = φ_k(a_k). A state that equals one unit is not kept:
it is that unit. For *any* multipliers μ, a functional q equals q + μ·(equations) at every fixed point; each column then
takes its worst value over its own set, and each unit the least of w·φ(a) − v·a over the interval of its argument. So a
witness cannot be wrong, only weak. Proof: proofs/duality.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import add

from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.columns import Columns, Sets, Units
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import Packed, Rows, less, rescale
from trm_verify.kernel.units import Interval

PROJECTIONS = ("relu", "clamp")
MAX_CUTS = 1024


@dataclass(frozen=True)
class Functional:
    """Coefficients ints · 2^exp over all columns of a system, plus sign · 2^exp times the argument of `unit`, if any.

    `both`: to be bounded from above as well, by the same multipliers.
    """

    row: list[int]
    exp: int
    unit: int = -1
    sign: int = 0
    both: bool = False

    def times(self, weight: Fraction) -> Functional:
        """Multiplied by a binary fraction."""
        if weight == 1:
            return self
        m, exp = weight.numerator, self.exp + 1 - weight.denominator.bit_length()
        return Functional([v * m for v in self.row], exp, self.unit, self.sign * m, self.both)


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

    @cached_property
    def arguments(self) -> list[tuple[int, list[int], list[int], list[int]]]:
        """The rows of the active units, taken apart: the constant, inputs, kept states, and units if any is read."""
        first, last = 1 + self.inputs, self.first
        rows = self.rows[len(self.kept) :]
        return [(row[0], row[1:first], row[first:last], row[last:] if any(row[last:]) else []) for row in rows]

    @cached_property
    def packed(self) -> Packed:
        """The rows, ready for products."""
        return Packed(self.rows)

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

    def of_units(self, ints: list[int]) -> list[int]:
        """A number for each unit from those of the active ones; 0 for the others."""
        if len(self.active) == len(self.units):
            return ints.copy()
        found = [0] * len(self.units)
        for k, v in zip(self.active, ints, strict=True):
            found[k] = v
        return found

    def state_column(self, i: int) -> int:
        return self.first + self.slaved[i] if i in self.slaved else 1 + self.inputs + self.kept.index(i)

    def of_state(self, i: int, sign: int, both: bool = False) -> Functional:
        row = [0] * self.width
        row[self.state_column(i)] = sign
        return Functional(row, 0, both=both)

    def of_argument(self, k: int, sign: int, both: bool = False) -> Functional:
        return Functional([0] * self.width, 0, k, sign, both)


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
    own, last = tuple(scale), forms.derived.get("rescaled")
    if last is None or last[0] != own:  # one scale is kept: the rules of a certificate share it
        last = forms.derived["rescaled"] = own, _rescaled(forms, own)
    found: AffineForms = last[1]
    return found


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


def combined(
    system: System, functionals: Sequence[Functional], multipliers: Rows, exp: int
) -> tuple[Rows, int]:  # fmt: skip
    """The coefficients q + μ·(equations) of each functional, at one exponent."""
    low = min([system.exp + exp, *(f.exp for f in functionals)])
    rows = system.packed.after(multipliers) if system.rows else [[0] * system.width for _ in functionals]
    found = []
    for functional, row in zip(functionals, rows, strict=True):
        moved = rescale(row, system.exp + exp, low) if system.rows else row
        if any(functional.row):
            moved = list(map(add, moved, rescale(functional.row, functional.exp, low)))
        found.append(moved)
    return found, low


def bounds(
    system: System, sets: Iterable[Sets | None], functionals: Sequence[Functional], multipliers: Rows, exp: int,
) -> list[Interval | None]:  # fmt: skip
    """For each functional with its multipliers (· 2^exp) and its sets, its least and largest value at fixed points.

    None in place of sets, and then of the values: there are none. None in place of a value: no bound; above also where
    none is asked for. Sets are asked for one after the other, and not kept. Sound if: proofs/duality.md.
    """
    rows, low = combined(system, functionals, multipliers, exp)
    last: Sets | None = None  # most functionals share their sets, but for a few tables
    units, columns = Units(()), None
    found: list[Interval | None] = []
    for functional, row, own, each in zip(functionals, rows, multipliers, sets, strict=True):
        if each is None:
            found.append(None)
            continue
        if last is None or each.tables is not last.tables:
            units = Units(each.tables)
        if columns is None or last is None or not each.shares(last):
            columns = Columns(each, system.kept, units)
        last = each
        slope_exp = min(exp, functional.exp) if functional.sign else exp
        slopes = system.of_units(rescale(own[len(system.kept) :], exp, slope_exp))
        if functional.sign:
            slopes[functional.unit] -= functional.sign << functional.exp - slope_exp
        found.append(columns.bounds(row, low, slopes, slope_exp, each.cut, functional.both))
    return found


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
    (p, q), (r, s) = a, b
    lo = p if r is None or p is not None and less(r, p) else r
    hi = q if s is None or q is not None and less(q, s) else s
    return None if lo is not None and hi is not None and less(hi, lo) else (lo, hi)


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
