"""The exact decision at a single input: no fixed point, one, or more; and what is answered there.

1  search for a fixed point; if there is none, the case split is the proof
2  look for another one: every argument is narrowed to a short interval about its value at the first, and what lies
   outside is shown to be empty, or holds a second fixed point
3  near a fixed point a piecewise-linear step is linear on rays, so with a second one nearby there would be one outside
   as well: after step 2 there is none, and the rule `exhibited` says so
4  the margins are positive at every fixed point, by case split, or not
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.certificate import Derivation
from trm_verify.encode import Json
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import ceil_at, dyadic, floor_at
from trm_verify.kernel.units import Interval, kinks
from trm_verify.provers.exact.decision import Decision, Finding, TimeUp, Unprovable, why
from trm_verify.provers.exact.margins import prove_margins
from trm_verify.provers.exact.narrowing import Narrowing, tree_json
from trm_verify.provers.exact.pieces import Point, Tree
from trm_verify.provers.problem import Problem
from trm_verify.provers.witnesses import FixedPoint, fixed_point, other_answer, two_fixed_points

WIDEST = -4  # intervals about a fixed point are of this width or less
NONE = "there is no fixed point"
SEVERAL = "there are several fixed points"
TIED = "a fixed point where another class scores at least as high"
UNSAID = "there is no fixed point at all, and no rule concludes at_most_one from that"


class PointDecision:
    """The decision at one input.

    Raises:
        CheckError: UNSUPPORTED, when the step is not piecewise linear. TimeUp, Unprovable: from `run`, before a first
            fixed point was found.
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, answer: Sequence[int] | None, deadline: float
    ) -> None:
        self.problem, self.domain, self.answer, self.deadline = problem, domain, answer, deadline
        self.narrowing = Narrowing(problem, domain, region, deadline)

    def run(self) -> Decision:
        found = self.narrowing.cover({})
        if isinstance(found, Tree):
            return none_at_all(self.narrowing, found, self.answer is not None)
        first = self.witness(found)
        try:
            met, one, known = self._count(found, first)
        except (CheckError, TimeUp, Unprovable) as error:
            met, one, known = [first], Finding.unknown(why(error)), None
        if self.answer is None:
            return Decision(one, one, None, tuple(met))
        return self._answered(self.answer, met, one, known)

    def witness(self, point: Point) -> FixedPoint:
        return fixed_point(self.problem, point.inputs, point.state(self.narrowing.system))

    def _count(self, point: Point, first: FixedPoint) -> tuple[list[FixedPoint], Finding, Derivation]:
        """(fixed points, the claim of exactly one, what is known of all of them)."""
        other = self._second(point)
        known = self.narrowing.exhibited(first)
        if other is None:
            if not self.problem.conclude_as(known, FixedPoints).unique:
                raise Unprovable("there is exactly one fixed point, but no rule shows that it is the only one")
            return [first], Finding.proved(known), known
        second = self.witness(other)
        refuted = Finding.refuted(two_fixed_points(self.problem, first, second), SEVERAL)
        return [first, second], refuted, known

    def _second(self, point: Point) -> Point | None:
        """Another fixed point in the region; or None, once all of them are known to lie close to the first."""
        near: dict[int, Interval] = {}
        for k in self.narrowing.system.active:
            a, bends = point.arguments[k], kinks(self.narrowing.system.units[k])
            near[k] = neighbourhood(a, min([abs(c - a) for c in bends if c != a], default=Fraction(1)))
            # First no more than is needed to know which piece of the unit this is: later searches are shorter for it.
            other = self.narrowing.pin({k: near[k] if a in bends else piece(bends, a)})
            if other is not None:
                return other
        other = self.narrowing.pin(near)
        if other is not None:
            return other
        pairs = zip(self.narrowing.system.kept, point.kept, strict=True)
        ends: dict[int, Interval] = {i: neighbourhood(z, Fraction(1)) for i, z in pairs}
        return self.narrowing.pin_states(ends)

    def _answered(
        self, answer: Sequence[int], met: list[FixedPoint], one: Finding, known: Derivation | None
    ) -> Decision:
        """The decision with its answer: refuted by a fixed point that was found, or proved at all of them."""
        found = Finding.unknown(one.reason)
        if known is not None and all(p.answers(answer) for p in met):
            try:
                done = prove_margins(self.problem, known, answer, self.deadline)
                if isinstance(done, Point):
                    met = [*met, self.witness(done)]
                else:
                    found = Finding.proved(done)
            except (CheckError, TimeUp) as error:
                found = Finding.unknown(why(error))
        wrong = next((p for p in met if not p.answers(answer)), None)
        if wrong is not None:
            found = Finding.refuted(other_answer(self.problem, wrong, answer), TIED)
        return Decision(one, one, found, tuple(met), wrong)


def piece(ends: Sequence[Fraction], at: Fraction) -> Interval:
    """Between which kinks an argument lies that is at none."""
    return max((c for c in ends if c < at), default=None), min((c for c in ends if c > at), default=None)


def neighbourhood(value: Fraction, gap: Fraction) -> tuple[Fraction, Fraction]:
    """Short binary fractions on both sides of a value, neither of them the value, and nearer than the gap."""
    exp = min(gap.numerator.bit_length() - gap.denominator.bit_length() - 2, WIDEST)
    return dyadic(ceil_at(value, exp) - 1, exp), dyadic(floor_at(value, exp) + 1, exp)


def none_at_all(narrowing: Narrowing, tree: Tree, answered: bool) -> Decision:
    """No fixed point for any input: the tree shows it."""
    done = narrowing.derivation.then("no_fixed_point", **tree_json([tree]))
    narrowing.problem.conclude(done)
    none = Finding.refuted(done, NONE)
    return Decision(none, Finding.unknown(UNSAID), none if answered else None)
