"""Witnesses of the rules about fixed points: slopes, preconditioners, multipliers and trees.

Everything here is exact arithmetic, rounded to a few binary places, so that the same bytes come out on every machine.
The kernel builds the equations; what is found for them is only a suggestion, which its rules then check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

from tests.corpus.sheet import F, Json, Matrix, Sheet, dyadic, vector
from trm_verify.certificate import BOXES, Derivation
from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.claims import Conclusion, FixedPoints
from trm_verify.kernel.linear import Form
from trm_verify.kernel.relaxation import Functional, System, meet, system_of
from trm_verify.kernel.rules.fixed_point_answers import competitors, with_readout
from trm_verify.kernel.spans import forms_over, interval_arguments
from trm_verify.kernel.units import Interval, value
from trm_verify.provers.problem import Problem

BITS = 16  # of a multiplier


def concluded(sheet: Sheet, step: int) -> Conclusion:
    """What the kernel concludes from a step of a sheet and those before it."""
    tables = {**{name: sheet.boxes for name in BOXES}, "norm": sheet.norms}
    spelled = [{k: tables[k][v] if k in tables else v for k, v in raw.items()} for raw in sheet.steps[: step + 1]]
    return Problem(sheet.graph, sheet.weights).conclude(Derivation(tuple(spelled)))


def rational(*values: Any) -> Json:
    """Numerators over one denominator."""
    entries = [F(v) for v in values]
    below = lcm(*(v.denominator for v in entries))
    return {"numerators": vector([v * below for v in entries]), "denominator": dyadic(below)}


def rounded(value_: Fraction, bits: int = BITS) -> Fraction:
    return F(round(value_ * (1 << bits)), 1 << bits)


def solved(matrix: Matrix, right: list[Fraction]) -> list[Fraction]:
    """The solution of a square system. Raises `ValueError` when the matrix is singular."""
    n = len(matrix)
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for i in range(n):
        pivot = next((j for j in range(i, n) if rows[j][i]), None)
        if pivot is None:
            raise ValueError("expected a regular matrix, found a singular one")
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for j in range(n):
            if j != i and rows[j][i]:
                rows[j] = [p - rows[j][i] * q for p, q in zip(rows[j], rows[i], strict=True)]
    return [row[-1] for row in rows]


def inverse(matrix: Matrix, bits: int = BITS) -> Matrix:
    """Nearly the inverse."""
    n = len(matrix)
    columns = [solved(matrix, [F(i == j) for i in range(n)]) for j in range(n)]
    return [[rounded(columns[j][i], bits) for j in range(n)] for i in range(n)]


# the box test


def chord(unit: Unit, interval: Interval) -> Fraction:
    """The slope of a unit's chord over an interval; an end that is missing lies one from the other."""
    if unit.op is None:
        return F(0)
    lo, hi = interval
    if lo is None or hi is None or lo >= hi:
        lo, hi = (
            ((F(0) if hi is None else hi) if lo is None else lo) - 1,
            ((F(0) if lo is None else lo) if hi is None else hi) + 1,
        )
    (first, _), (last, _) = value(unit, lo), value(unit, hi)
    return (last - first) / (hi - lo)


def jacobian(forms: AffineForms, size: int, slopes: Sequence[Fraction]) -> Matrix:
    """That of the step in the state, when each unit has the given slope."""
    found: Matrix = []

    def row(form: Form, i: int) -> list[Fraction]:
        unit, own = F(2) ** form.exp, form.rows[i]
        total = [unit * v for v in own[1 : 1 + size]]
        for v, moved in zip(own[forms.first :], found, strict=False):
            total = [p + unit * v * q for p, q in zip(total, moved, strict=True)] if v else total
        return total

    for k, slope in enumerate(slopes):
        found.append([slope * v for v in row(forms.arguments, k)])
    return [row(forms.outputs, i) for i in range(size)]


def enclosing(
    sheet: Sheet, domain: int, region: int, scale: Sequence[Any] | None = None, unique: bool = False, bits: int = 8
) -> int:
    """An `enclosure` step with chord slopes over the region and the inverse of the Jacobian that they give."""
    problem = Problem(sheet.graph, sheet.weights)
    own = problem.box(sheet.boxes[domain]), problem.box(sheet.boxes[region])
    alpha = None if scale is None else [F(v) for v in scale]
    forms = forms_over(problem.graph, *own, alpha)
    arguments = interval_arguments(system_of(problem.graph, forms, merge=False), *own)
    slopes = [rounded(chord(*pair), bits) for pair in zip(forms.units, arguments, strict=True)]
    n = problem.graph.size
    steep = jacobian(forms, n, slopes)
    away = [[F(i == j) - steep[i][j] for j in range(n)] for i in range(n)]
    return sheet.step(
        "enclosure", domain=domain, region=region, scale=None if scale is None else vector(scale),
        slopes=vector(slopes), matrix=vector(inverse(away, bits)), unique=unique,
    )  # fmt: skip


# trees and multipliers


@dataclass(frozen=True)
class Cut:
    """A unit or input (counted after the units) cut at a threshold."""

    variable: int
    at: Any
    below: Any = None  # a Cut, a Leaf or None, or Empty
    above: Any = None


@dataclass(frozen=True)
class Leaf:
    """A leaf in which some units are taken for lines with other slopes than those of their chords."""

    slopes: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Empty:
    """A leaf that holds no fixed point; bounding this functional from below shows it."""

    target: int
    sign: int


@dataclass(frozen=True)
class Equations:
    """The system of a step, or of step and readout, with what is known of its arguments."""

    system: System
    arguments: Sequence[Interval]

    @property
    def matrix(self) -> Matrix:
        unit = F(2) ** self.system.exp
        return [[v * unit for v in row] for row in self.system.rows]

    def functional(self, target: int, sign: int) -> Functional:
        n = self.system.states
        return self.system.of_state(target, sign or 1) if target < n else self.system.of_argument(target - n, sign or 1)

    def slope(self, unit: int, cut: Interval) -> Fraction:
        """The chord slope of a unit over its interval, cut."""
        own = meet(self.arguments[unit], cut)
        return chord(self.system.units[unit], self.arguments[unit] if own is None else own)

    def multipliers(
        self, functional: Functional, cuts: dict[int, Interval], slopes: Mapping[int, Any]
    ) -> list[Fraction]:
        """Multipliers that cancel every state and unit, each unit taken for a line with its chord's slope.

        A unit's coefficient is w, its argument's −v; what is left is constant when v is the slope times w.
        """
        system, rows = self.system, self.matrix
        first, kept = 1 + system.inputs, len(system.kept)
        own = [v * F(2) ** functional.exp for v in functional.row]
        conditions: Matrix = [[row[first + i] for row in rows] for i in range(kept)]
        right = [-own[first + i] for i in range(kept)]
        for j, k in enumerate(system.active):
            slope = F(slopes[k]) if k in slopes else self.slope(k, cuts.get(k, (None, None)))
            column = system.first + k
            shift = functional.sign if functional.unit == k else 0
            conditions.append([slope * row[column] - (p == kept + j) for p, row in enumerate(rows)])
            right.append(-slope * own[column] - shift)
        return [rounded(v) for v in solved(conditions, right)]

    def witness(self, functionals: Sequence[Functional], trees: Sequence[Any] | None = None) -> Json:
        """`splits`, `at`, `weights` and `multipliers` for these functionals, each with its tree."""
        splits: list[int] = []
        at: list[Any] = []
        weights: list[int] = []
        found: list[list[Fraction]] = []

        def walk(functional: Functional, tree: Any, cuts: dict[int, Interval]) -> None:
            if isinstance(tree, Cut):
                splits.append(tree.variable)
                at.append(tree.at)
                lo, hi = cuts.get(tree.variable, (None, None))
                walk(functional, tree.below, {**cuts, tree.variable: (lo, F(tree.at))})
                walk(functional, tree.above, {**cuts, tree.variable: (F(tree.at), hi)})
                return
            empty = isinstance(tree, Empty)
            splits.append(-1)
            weights.append(0 if empty else 1)
            about = self.functional(tree.target, tree.sign) if empty else functional
            slopes = tree.slopes if isinstance(tree, Leaf) else {}
            found.append(self.multipliers(about, {k: v for k, v in cuts.items() if k < len(self.system.units)}, slopes))

        for functional, tree in zip(functionals, trees or [None] * len(functionals), strict=True):
            walk(functional, tree, {})
        return {"splits": splits, "at": vector(at), "weights": vector(weights), "multipliers": vector(found)}


def equations(sheet: Sheet, known: FixedPoints, merge: bool = True) -> Equations:
    """The step's equations over what a step concluded."""
    graph = Problem(sheet.graph, sheet.weights).graph
    system = system_of(graph, forms_over(graph, known.domain, known.box, known.scale), merge)
    return Equations(system, known.arguments)


def fixed_points(sheet: Sheet, step: int) -> FixedPoints:
    known = concluded(sheet, step)
    if not isinstance(known, FixedPoints):
        raise TypeError(f"expected fixed points, found {type(known).__name__}")
    return known


def tightened(sheet: Sheet, premise: int, sides: Sequence[tuple[int, int]], trees: Sequence[Any] | None = None) -> int:
    """A `duality` step: (target, sign) for each bound, with its tree; sign 0 for both sides."""
    known = equations(sheet, fixed_points(sheet, premise))
    return sheet.step("duality", premise, **about(known, sides, trees))


def about(known: Equations, sides: Sequence[tuple[int, int]], trees: Sequence[Any] | None = None) -> Json:
    """`targets` and `signs` with the witness of their bounds."""
    targets, signs = [t for t, _ in sides], [s or "both" for _, s in sides]
    return {"targets": targets, "signs": signs, **known.witness([known.functional(*s) for s in sides], trees)}


def continued(
    sheet: Sheet, premise: int, domain: int, region: int, given: Sequence[Any], center: Sequence[Any],
    lo: Sequence[Any], hi: Sequence[Any], scale: Sequence[Any] | None = None, signs: Sequence[int] = (1, -1),
) -> int:  # fmt: skip
    """A `by_continuity` step that bounds every variable from both sides; signs (0,): by one row each."""
    problem = Problem(sheet.graph, sheet.weights)
    own = problem.box(sheet.boxes[domain]), problem.box(sheet.boxes[region])
    alpha = None if scale is None else [F(v) for v in scale]
    system = system_of(problem.graph, forms_over(problem.graph, *own, alpha))
    known = Equations(system, [(F(a), F(b)) for a, b in zip(lo, hi, strict=True)])
    return sheet.step(
        "by_continuity", premise, domain=domain, region=region, scale=None if scale is None else vector(scale),
        input=vector(given), center=vector(center), lo=vector(lo), hi=vector(hi),
        **about(known, all_sides(known, signs)),
    )  # fmt: skip


def all_sides(known: Equations, signs: Sequence[int] = (1, -1)) -> list[tuple[int, int]]:
    """Both sides of every state with an equation of its own and of every argument."""
    system = known.system
    targets = [*system.kept, *(system.states + k for k in system.active)]
    return [(t, sign) for t in targets for sign in signs]


def answered(
    sheet: Sheet, premise: int, answer: Sequence[int], domain: int, region: int, trees: Sequence[Any] | None = None
) -> int:
    """A `fixed_point_answer` step and its claim."""
    known = fixed_points(sheet, premise)
    graph = Problem(sheet.graph, sheet.weights).graph
    system, arguments, logits = with_readout(graph, known)
    functionals = [
        Functional([p - q for p, q in zip(logits.rows[own], logits.rows[other], strict=True)], logits.exp)
        for own, other in competitors(graph, tuple(answer))
    ]
    witness = Equations(system, arguments).witness(functionals, trees)
    done = sheet.step("fixed_point_answer", premise, answer=list(answer), **witness)
    sheet.claim(done, "fixed_point_answer", domain=domain, region=region, answer=list(answer))
    return done


def bounds(sheet: Sheet, step: int, places: int = 12) -> int:
    """A box around what a step encloses, its ends rounded outward to a few binary places."""
    box = fixed_points(sheet, step).box
    lo, hi = zip(*map(box.fraction, range(box.size)), strict=True)
    scale = 1 << places
    return sheet.box([F(v * scale // 1, scale) for v in lo], [F(-(-v * scale // 1), scale) for v in hi])
