"""Narrowing what is known of the fixed points of a region, bound by bound (R6 with R7), by exact searches.

To show that an argument is at most t, one shows that the part of the fixed points where it is at least t is empty. The
multipliers of an empty leaf may be scaled freely, so they are exact, and intervals without an end do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, fractions
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.relaxation import Functional, meet, system_of
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.units import Interval
from trm_verify.provers.exact.decision import Unprovable
from trm_verify.provers.exact.hulls import ZERO
from trm_verify.provers.exact.pieces import Pieces, Point, Tree
from trm_verify.provers.exact.preconditioned import BoxTest
from trm_verify.provers.problem import Problem
from trm_verify.provers.witnesses import FixedPoint


def tree_json(trees: Sequence[Tree]) -> dict[str, Any]:
    """The trees of several functionals, one after the other, in the form of a witness.

    Every leaf is multiplied by a common denominator, so that all its numbers are integers.
    """
    whole = Tree()
    for tree in trees:
        whole.extend(tree)
    weights: list[Fraction] = []
    multipliers: list[Fraction] = []
    for weight, own in zip(whole.weights, whole.multipliers, strict=True):
        common = lcm(*(v.denominator for v in own))
        weights.append(Fraction(weight * common))
        multipliers += [v * common for v in own]
    return {
        "splits": whole.splits, "at": fractions(whole.at), "weights": fractions(weights),
        "multipliers": fractions(multipliers),
    }  # fmt: skip


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

    def cover(
        self, cuts: Mapping[int, Interval], functional: Functional | None = None, above: Fraction = ZERO,
        strict: bool = True, pieces: Pieces | None = None, arguments: Sequence[Interval] | None = None,
    ) -> Tree | Point:  # fmt: skip
        """As `Pieces.cover` of what is known, cut; a point that is returned lies in the region.

        Args:
            pieces, arguments: another system whose first units are these, with the intervals of all its units.
        """
        searched, known = pieces or self.pieces, list(self.known.arguments if arguments is None else arguments)
        for k, part in cuts.items():
            cut = meet(known[k], part)
            if cut is None:
                nothing = Tree()
                nothing.leaf(0, (ZERO,) * len(searched.system.rows))
                return nothing
            known[k] = cut
        return searched.cover(known, functional, above, strict)

    def pin(self, ends: Mapping[int, Interval]) -> Point | None:
        """Show that the arguments of some units lie between these ends, in one step of the derivation or two; or a
        fixed point in the region where one of them does not.
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
        """The same for the states that are no units of their own, all at once."""
        sides: list[tuple[int, int, Tree]] = []
        for i in self.system.kept:
            for sign, end in zip((1, -1), ends[i], strict=True):
                if end is not None:
                    found = self.cover({}, self.system.of_state(i, sign), sign * end, strict=False)
                    if isinstance(found, Point):
                        return found
                    sides.append((i, sign, found))
        if sides:
            self.bound(sides)
        return None

    def exhibited(self, at: FixedPoint) -> Derivation:
        """There is a fixed point: this one; and where all are known to lie close to it, it is the only one.

        Raises:
            CheckError: it is not in the region.
        """
        self.read_states()
        both, known, there = self.derivation.join(at.derivation)
        done = both.then("exhibited", [known, there])
        self.problem.conclude(done)
        return done

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
        witness = tree_json([tree for _, _, tree in sides])
        self.derivation = self.derivation.then(
            "duality", targets=[t for t, _, _ in sides], signs=[s for _, s, _ in sides], **witness
        )
        self.known = self.problem.conclude_as(self.derivation, FixedPoints)
