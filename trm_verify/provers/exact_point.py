"""The exact decision at a single input: no fixed point, one, or more; and what is answered there.

1  search for a fixed point; if there is none, the case split is the proof
2  look for another one: every argument is narrowed to a short interval about its value at the first, and what lies
   outside is shown to be empty, or holds a second fixed point. Near a fixed point a piecewise-linear step is linear on
   rays, so with a second one nearby there would be one outside as well: after this there is none
3  R5 on a small box around it says that one exists there, and only one
4  the margins are positive there, by case split, or not
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.encode import Json
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import ceil_at, dyadic, floor_at
from trm_verify.kernel.units import Interval, kinks
from trm_verify.provers.decision import Decision, Finding, TimeUp, Unprovable, why
from trm_verify.provers.margins import Margins, prove_margins
from trm_verify.provers.narrowing import Narrowing, tree_json
from trm_verify.provers.pieces import Point, Tree
from trm_verify.provers.preconditioned import BoxTest
from trm_verify.provers.problem import Problem
from trm_verify.provers.witnesses import FixedPoint, fixed_point, other_answer, two_fixed_points

FINEST = -224  # the kernel keeps boxes no finer than 2^-256
NONE = "there is no fixed point"
SEVERAL = "there are several fixed points"
TIED = "a fixed point where another class scores at least as high"
UNSAID = "there is no fixed point at all, and no rule concludes at_most_one from that"
BENT = "there is exactly one fixed point, found exactly, but units bend there and no rule shows that it exists"
SHARED = "every fixed point answers so, but there are several and no rule shows that there is one"


def neighbourhood(value: Fraction, exp: int) -> tuple[Fraction, Fraction]:
    """The nearest multiples of 2^exp on both sides, neither of them the value itself."""
    return dyadic(ceil_at(value, exp) - 1, exp), dyadic(floor_at(value, exp) + 1, exp)


def piece(unit: Unit, at: Fraction) -> Interval | None:
    """Between which kinks an argument lies; None at a kink."""
    ends = kinks(unit)
    if at in ends:
        return None
    return max((c for c in ends if c < at), default=None), min((c for c in ends if c > at), default=None)


class PointDecision:
    """The decision at one input.

    Raises:
        CheckError: UNSUPPORTED, when the step is not piecewise linear. TimeUp, Unprovable: from `run`, before a first
            fixed point was found.
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, answer: Sequence[int] | None, deadline: float
    ) -> None:
        self.problem, self.answer, self.deadline = problem, answer, deadline
        self.narrowing = Narrowing(problem, domain, region, deadline)

    def run(self) -> Decision:
        found = self.narrowing.cover({})
        if isinstance(found, Tree):
            return none_at_all(self.narrowing, found, self.answer is not None)
        first = self.witness(found)
        try:
            box = self._small_box(found)
            second = self._second(found, box)
        except (CheckError, TimeUp, Unprovable) as error:
            one = Finding.unknown(why(error))
            return self._decision(one, [first], one)
        if second is not None:
            return self._several(first, self.witness(second))
        return self._only(first, box)

    def witness(self, point: Point) -> FixedPoint:
        return fixed_point(self.problem, point.inputs, point.state(self.narrowing.system))

    def _small_box(self, point: Point) -> BoxTest:
        """A box about the fixed point in which no unit bends that does not bend there, of the best shape."""
        state = point.state(self.narrowing.system)
        for exp in range(-4, FINEST, -6):
            test = self._box(state, [Fraction(1)] * len(state), exp)
            bends = zip(self.narrowing.system.units, test.arguments, point.arguments, strict=True)
            if not any(_within(c, interval) and c != a for unit, interval, a in bends for c in kinks(unit)):
                break
        shape = test.shape() if any(test.spreads) else None
        return test if shape is None else self._box(state, [Fraction(max(r, 2.0**-10)) for r in shape[1]], exp)

    def _box(self, state: Sequence[Fraction], radii: Sequence[Fraction], exp: int) -> BoxTest:
        """A box with radii of about radii · 2^exp, each at most 1 · 2^exp."""
        middle = [dyadic(floor_at(z, exp - 20), exp - 20) for z in state]
        short = [dyadic(floor_at(r, -12), exp - 12) for r in radii]
        ends = [(c - r, c + r) for c, r in zip(middle, short, strict=True)]
        given = self.narrowing.known.domain
        return BoxTest(self.problem.graph, given, [lo for lo, _ in ends], [hi for _, hi in ends])

    def _second(self, point: Point, box: BoxTest) -> Point | None:
        """Another fixed point in the region; or None, once all of them are known to lie well inside the box."""
        steepest = max([Fraction(1), *(abs(s) + b for s, b in zip(box.slopes, box.spreads, strict=True))])
        small = min(hi - lo for lo, hi in box.ends) / (16 * steepest * self.narrowing.amplification())
        exp = small.numerator.bit_length() - small.denominator.bit_length() - 1
        near = {k: neighbourhood(point.arguments[k], exp) for k in self.narrowing.system.active}
        for k, interval in near.items():
            # First no more than is needed to know which piece of the unit this is: later searches are shorter for it.
            other = self.narrowing.pin({k: piece(self.narrowing.system.units[k], point.arguments[k]) or interval})
            if other is not None:
                return other
        other = self.narrowing.pin(near)
        if other is not None:
            return other
        pairs = zip(self.narrowing.system.kept, point.kept, strict=True)
        ends: dict[int, Interval] = {i: neighbourhood(z, exp) for i, z in pairs}
        return self.narrowing.pin_states(ends)

    def _only(self, first: FixedPoint, box: BoxTest) -> Decision:
        """The one fixed point exists, by R5, and is the only one."""
        try:
            done = self.narrowing.located(box)
        except (CheckError, Unprovable) as error:
            one = Finding.unknown(f"{BENT}: {why(error)}")
            return self._decision(one, [first], one)
        one = Finding.proved(done)
        if self.answer is None or not first.answers(self.answer):
            return self._decision(one, [first], one)
        try:
            found = prove_margins(self.problem, done, self.answer, self.deadline)
        except (CheckError, TimeUp) as error:
            return self._decision(one, [first], Finding.unknown(why(error)))
        if isinstance(found, Point):
            raise TypeError("expected the only fixed point to answer everywhere as it does at itself")
        return self._decision(one, [first], Finding.proved(found))

    def _several(self, first: FixedPoint, second: FixedPoint) -> Decision:
        refuted = Finding.refuted(two_fixed_points(self.problem, first, second), SEVERAL)
        found, otherwise = [first, second], Finding.unknown(SHARED)
        if self.answer is not None and all(p.answers(self.answer) for p in found):
            try:
                found += self._others(self.answer)
            except (CheckError, TimeUp, Unprovable) as error:
                otherwise = Finding.unknown(why(error))
        return self._decision(refuted, found, otherwise)

    def _others(self, answer: Sequence[int]) -> list[FixedPoint]:
        """A fixed point of the region that does not strictly answer so, if there is one."""
        margins = Margins(self.problem, self.narrowing.known, answer, self.deadline)
        for functional in margins.functionals:
            found = self.narrowing.cover({}, functional, pieces=margins.pieces, arguments=margins.arguments)
            if isinstance(found, Point):
                return [self.witness(found)]
        return []

    def _decision(self, one: Finding, found: list[FixedPoint], otherwise: Finding) -> Decision:
        """The decision with its answer: refuted by a fixed point that was found, or else what is said of it."""
        if self.answer is None:
            return Decision(one, one, None, tuple(found))
        wrong = next((p for p in found if not p.answers(self.answer)), None)
        if wrong is None:
            return Decision(one, one, otherwise, tuple(found))
        refuted = Finding.refuted(other_answer(self.problem, wrong, self.answer), TIED)
        return Decision(one, one, refuted, tuple(found), wrong)


def none_at_all(narrowing: Narrowing, tree: Tree, answered: bool) -> Decision:
    """No fixed point for any input: the tree shows it."""
    done = narrowing.derivation.then("no_fixed_point", **tree_json([tree], rounded=False))
    narrowing.problem.conclude(done)
    none = Finding.refuted(done, NONE)
    return Decision(none, Finding.unknown(UNSAID), none if answered else None)


def _within(kink: Fraction, interval: Interval) -> bool:
    lo, hi = interval
    return lo is not None and hi is not None and lo <= kink <= hi
