"""Narrowing what is known of the fixed points of a region, bound by bound (R6 with R7), by exact searches.

To show that an argument is at most t, one shows that the part of the fixed points where it is at least t is empty. The
multipliers of an empty leaf may be scaled freely, so they are exact, and intervals without an end do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, fractions
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.numbers import floor_at
from trm_verify.kernel.relaxation import Functional, System, meet, system_of
from trm_verify.kernel.rules.fixed_points import forms_over
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, value
from trm_verify.provers.decision import Unprovable
from trm_verify.provers.hulls import ZERO
from trm_verify.provers.pieces import Pieces, Point, Tree, meet_all
from trm_verify.provers.preconditioned import BoxTest, inverse, rational_matrix
from trm_verify.provers.problem import Problem

BITS = 160  # of a multiplier that is rounded, relative to the largest


def tree_json(trees: Sequence[Tree], rounded: bool) -> dict[str, Any]:
    """The trees of several functionals, one after the other, in the form of a witness.

    Args:
        rounded: round multipliers of leaves with weight 1 to binary fractions, which weakens a bound but a little
            where everything is bounded. Otherwise they have to be binary fractions.

    Raises:
        Unprovable: a multiplier is no binary fraction.
    """
    whole = Tree()
    for tree in trees:
        whole.extend(tree)
    multipliers: list[Fraction] = []
    for weight, own in zip(whole.weights, whole.multipliers, strict=True):
        multipliers += _rounded(own) if weight and rounded else own
    if any(v.denominator & (v.denominator - 1) for v in multipliers):
        raise Unprovable("the multipliers of a state without bounds are no binary fractions; give a bounded region")
    return {
        "splits": whole.splits, "at": fractions(whole.at), "weights": whole.weights,
        "multipliers": fractions(multipliers),
    }  # fmt: skip


def _rounded(values: Sequence[Fraction]) -> list[Fraction]:
    largest = max(map(abs, values), default=ZERO)
    exp = largest.numerator.bit_length() - largest.denominator.bit_length() - BITS
    return [Fraction(floor_at(v, exp)) * Fraction(2) ** exp for v in values]


def preimage(unit: Unit, lo: Fraction, hi: Fraction) -> Interval:
    """An interval that holds every argument with a value in [lo, hi]; exact for a unit that never falls."""
    if unit.op == "abs":
        return -hi, hi
    if unit.op == "scale":
        factor: Fraction = unit.attrs["factor"]
        ends = (lo / factor, hi / factor) if factor else None
        return (None, None) if ends is None else (min(ends), max(ends))

    def end(target: Fraction, sign: int) -> Fraction | None:
        """Where the value leaves the side of the target; None if it never does."""
        if unit.op == "leaky_relu":
            slope: Fraction = unit.attrs["slope"]
            return target if target >= 0 else target / slope if slope else None
        return target if value(unit, target - sign)[0] != value(unit, target)[0] else None

    return end(lo, 1), end(hi, -1)


class Narrowing:
    """A derivation of `FixedPoints` that grows, with exact searches in what it leaves open.

    Args:
        deadline: on the monotonic clock.

    Raises:
        CheckError: UNSUPPORTED, when the step is not piecewise linear over the region and domain.
    """

    def __init__(self, problem: Problem, domain: Json, region: Json, deadline: float = float("inf")) -> None:
        self.problem, self.domain, self.deadline = problem, domain, deadline
        given, box = problem.box(domain), problem.box(region)
        self.system = system_of(problem.graph, forms_over(problem.graph, given, box, None))
        self.pieces = Pieces(self.system, given, box, deadline)
        self.derivation = derive("fixed_points_in", domain=domain, region=region, scale=None)
        self.known = problem.conclude_as(self.derivation, FixedPoints)
        self.limits = _limits(self.system, self.known.region)

    def inside(self, point: Point) -> bool:
        """Whether a fixed point lies in the region."""
        region = self.known.region
        if not region.bounded:
            return True
        ends = map(region.fraction, range(region.size))
        return all(lo <= z <= hi for z, (lo, hi) in zip(point.state(self.system), ends, strict=True))

    def cover(
        self, cuts: Mapping[int, Interval], functional: Functional | None = None, above: Fraction = ZERO,
        strict: bool = True, pieces: Pieces | None = None, arguments: Sequence[Interval] | None = None,
    ) -> Tree | Point:  # fmt: skip
        """As `Pieces.cover` of what is known, cut; a point that is returned lies in the region.

        Args:
            pieces, arguments: another system whose first units are these, with the intervals of all its units.

        Raises:
            Unprovable: there is no such fixed point in the region, but one outside, which no rule tells apart.
        """
        searched, known = pieces or self.pieces, list(self.known.arguments if arguments is None else arguments)
        for k, part in cuts.items():
            cut = meet(known[k], part)
            if cut is None:
                nothing = Tree()
                nothing.leaf(0, (ZERO,) * len(searched.system.rows))
                return nothing
            known[k] = cut
        found = searched.cover(known, functional, above, strict)
        if isinstance(found, Tree) or self.inside(found):
            return found
        within = meet_all(known[: len(self.limits)], self.limits)
        if within is not None:
            rest = [*within, *known[len(self.limits) :]]
            other = searched.cover(rest, functional, above, strict)
            if isinstance(other, Point) and self.inside(other):
                return other
        raise Unprovable("a fixed point just outside the region; no rule keeps it apart from those inside")

    def pin(self, ends: Mapping[int, Interval]) -> Point | None:
        """Show that the arguments of some units lie between these ends, in one step of the derivation or two; or a
        fixed point in the region where one of them does not.

        Raises:
            Unprovable: as in `cover`.
        """
        while True:
            sides: list[tuple[int, int, Tree]] = []
            for k, interval in ends.items():
                for sign, end in zip((1, -1), interval, strict=True):
                    found = self._side(k, sign, end)
                    if isinstance(found, Point):
                        return found
                    sides += [] if found is None else [(self.problem.graph.size + k, sign, found)]
            if not sides:
                return None
            self.bound(sides)

    def _side(self, k: int, sign: int, end: Fraction | None) -> Tree | Point | None:
        """A tree that bounds an argument by an end (sign 1: from below); None where that is known already.

        The rule looks at one half only of an argument that may have either sign: its own side of zero. An end on the
        other side of zero takes a second step.
        """
        low, high = self.known.arguments[k]
        old = low if sign > 0 else high
        if end is None or old is not None and sign * old >= sign * end:
            return None
        whole = (low is None or low < 0) and (high is None or high > 0) and sign * end >= 0
        outer = ZERO if whole else end
        found = self.cover({k: (None, outer) if sign > 0 else (outer, None)})
        return found if whole or isinstance(found, Point) else self._beside(k, end, sign, found)

    def _beside(self, k: int, end: Fraction, sign: int, empty: Tree) -> Tree:
        """An empty tree on the far side of an end; on the near side the argument is its own bound."""
        near = (1, (ZERO,) * len(self.system.rows))
        tree = Tree()
        tree.cut(k, end)
        if sign < 0:
            tree.leaf(*near)
        tree.extend(empty)
        if sign > 0:
            tree.leaf(*near)
        return tree

    def pin_states(self, ends: Mapping[int, Interval]) -> Point | None:
        """The same for the states that are no units of their own, all at once, once the units are pinned.

        Raises:
            Unprovable: as in `cover`; or a state without bounds needs multipliers that are no binary fractions.
        """
        solved = None if self.known.box.bounded else self._determined()
        sides: list[tuple[int, int, Tree]] = []
        for place, i in enumerate(self.system.kept):
            for sign, end in zip((1, -1), ends[i], strict=True):
                if solved is not None:
                    tree = Tree()
                    tree.leaf(1, tuple(sign * v for v in solved[place]))
                    sides.append((i, sign, tree))
                    continue
                if end is None:
                    continue
                found = self.cover({}, self.system.of_state(i, sign), sign * end, strict=False)
                if isinstance(found, Point):
                    return found
                sides.append((i, sign, found))
        if sides:
            self.bound(sides)
        return None

    def amplification(self) -> Fraction:
        """By how much a kept state may move when every unit moves by 1, where `pin_states` goes by the units alone."""
        solved, largest = None if self.known.box.bounded else self._determined(), Fraction(1)
        for multipliers in solved or []:
            pairs = list(zip(multipliers, self.system.rows, strict=True))
            for_units = [
                sum((m * row[j] for m, row in pairs), ZERO) for j in range(self.system.first, self.system.width)
            ]
            largest = max(largest, sum(map(abs, for_units), ZERO) / self.pieces.hulls.unit)
        return largest

    def _determined(self) -> list[list[Fraction]] | None:
        """Multipliers that express each kept state by the units alone; None if these do not determine them."""
        kept, first = len(self.system.kept), 1 + self.system.inputs
        unit = Fraction(1, self.pieces.hulls.unit)
        block = [[v * unit for v in row[first : first + kept]] for row in self.system.rows[:kept]]
        solved = inverse(rational_matrix(block))
        rest = [ZERO] * len(self.system.active)
        return None if solved is None else [[*(-v for v in row), *rest] for row in solved]

    def located(self, box: BoxTest) -> Derivation:
        """Exactly one fixed point in the region: the only one of the box, in which all are known to lie.

        Raises:
            CheckError: the test of the box fails, or there may be fixed points outside it.
            Unprovable: the test has no preconditioner.
        """
        witness = box.witness()
        if witness is None:
            raise Unprovable("I − f′ has no inverse with the middle slopes")
        self.read_states()
        inner = derive("enclosure", domain=self.domain, region=box.region, scale=None, **witness, unique=True)
        both, known, there = self.derivation.join(inner)
        done = both.then("located", [known, there])
        self.problem.conclude(done)
        return done

    def read_states(self) -> None:
        """Where no step was needed to bound the units: let the rule read the states off them."""
        if len(self.derivation.steps) == 1:
            self.bound([])

    def bound(self, sides: Sequence[tuple[int, int, Tree]]) -> None:
        """One step of the derivation."""
        witness = tree_json([tree for _, _, tree in sides], self.known.box.bounded)
        self.derivation = self.derivation.then(
            "duality", targets=[t for t, _, _ in sides], signs=[s for _, s, _ in sides], **witness
        )
        self.known = self.problem.conclude_as(self.derivation, FixedPoints)


def _limits(system: System, region: Tensor) -> list[Interval]:
    """Where the argument of each unit lies when its state is in the region."""
    found: list[Interval] = [(None, None)] * len(system.units)
    for i, k in system.slaved.items() if region.bounded else ():
        both = meet(found[k], preimage(system.units[k], *region.fraction(i)))
        found[k] = found[k] if both is None else both
    return found
