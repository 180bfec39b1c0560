"""The exact decision over a box of inputs, as far as rules can say it.

Refutations are complete for pairs of fixed points and for answers: the search runs over inputs and states together.
That some input has no fixed point is looked for at the centre and the corners. Proofs go through R5 on a box that holds
the fixed points of all inputs; for an answer the inputs may be split, and the parts joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, fractions
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import ceil_at, dyadic, floor_at
from trm_verify.kernel.relaxation import Functional, System
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval
from trm_verify.provers.exact.decision import Decision, Finding, TimeUp, Unprovable, why
from trm_verify.provers.exact.margins import Margins, prove_margins
from trm_verify.provers.exact.narrowing import Narrowing
from trm_verify.provers.exact.pieces import Pieces, Point, Tree
from trm_verify.provers.exact.point import NONE, SEVERAL, TIED, PointDecision, none_at_all
from trm_verify.provers.exact.preconditioned import BoxTest
from trm_verify.provers.problem import Problem
from trm_verify.provers.witnesses import FixedPoint, fixed_point, other_answer, two_fixed_points

CORNERS = 4  # inputs up to which all corners are looked at
HALVINGS = 6  # of the box of inputs, one after the other, for an answer
FINE = 12  # the box that holds all fixed points is wider than they need by at most 2^-FINE of its size
WIDER = (Fraction(17, 16), Fraction(3, 2), Fraction(3), Fraction(8))  # sizes of the box of R5 that are tried

GAP = "no two fixed points of one input were left by an exact search, but no rule shows that each input has one"


class BoxDecision:
    """The decision over a box of inputs, bounded or not.

    Raises:
        CheckError: UNSUPPORTED, when the step is not piecewise linear over the box. TimeUp, Unprovable: from `run`,
            before a first fixed point was found.
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, answer: Sequence[int] | None, deadline: float
    ) -> None:
        self.problem, self.domain, self.region = problem, domain, region
        self.answer, self.deadline = answer, deadline
        self.narrowing = Narrowing(problem, domain, region, deadline)

    def run(self) -> Decision:
        found = self.narrowing.cover({})
        if isinstance(found, Tree):
            return none_at_all(self.narrowing, found, self.answer is not None)
        met = [self.witness(self.narrowing.system, found)]
        one, most = self._uniqueness(met)
        if self.answer is None:
            return Decision(one, most, None, tuple(met))
        answered = one if one.reason == NONE else self._answer(self.answer, one, met)
        wrong = next((p for p in met if not p.answers(self.answer)), None)
        return Decision(one, most, answered, tuple(met), wrong)

    def witness(self, system: System, point: Point) -> FixedPoint:
        return fixed_point(self.problem, point.inputs, point.state(system))

    def _uniqueness(self, met: list[FixedPoint]) -> tuple[Finding, Finding]:
        """(exactly one, at most one); fixed points that are met on the way are added."""
        reasons: list[str] = []
        try:
            for x in self._samples():
                there = PointDecision(self.problem, x, self.region, None, self.deadline).run()
                met += there.fixed_points
                if there.exactly_one.derivation is not None and not there.exactly_one.verdict:
                    return there.exactly_one, there.at_most_one
            done = self._located(self.narrowing)
            return Finding.proved(done), Finding.proved(done)
        except (CheckError, TimeUp, Unprovable) as error:
            reasons.append(why(error))
        try:
            pair = self._pair()
        except (CheckError, TimeUp, Unprovable) as error:
            reasons.append(why(error))
        else:
            if pair is not None:
                met += pair
                refuted = Finding.refuted(two_fixed_points(self.problem, *pair), SEVERAL)
                return refuted, refuted
            reasons.insert(0, GAP)
        unknown = Finding.unknown("; ".join(reasons))
        return unknown, unknown

    def _samples(self) -> Iterator[Json]:
        """The centre and the corners of the inputs."""
        domain = self.narrowing.known.domain
        if not domain.bounded:
            return
        ends = [domain.fraction(j) for j in range(domain.size)]
        yield _point([(lo + hi) / 2 for lo, hi in ends])
        wide = [j for j, (lo, hi) in enumerate(ends) if lo < hi]
        for choice in product((0, 1), repeat=len(wide)) if len(wide) <= CORNERS else ():
            corner = [lo for lo, _ in ends]
            for j, side in zip(wide, choice, strict=True):
                corner[j] = ends[j][side]
            yield _point(corner)

    def _located(self, narrowing: Narrowing) -> Derivation:
        """Exactly one fixed point for each input of the narrowing's domain.

        Raises:
            CheckError, Unprovable: R5 does not show it.
        """
        self._narrow(narrowing)
        narrowing.read_states()
        box = narrowing.known.box
        ends = [box.fraction(i) for i in range(box.size)]
        middle = [_rounded((lo + hi) / 2, 1) for lo, hi in ends]
        reach = [max(hi - c, c - lo) for c, (lo, hi) in zip(middle, ends, strict=True)]
        floor = max(max(reach) / 64, Fraction(1, 64))
        radii = [max(r, floor) for r in reach]
        reason = "the units bend too much over the box of all fixed points for R5"
        for _ in range(2):  # the slopes over the box give its best shape, and the shape gives other slopes
            shape = self._test(narrowing, middle, radii).shape()
            if shape is None or shape[0] >= 1:
                raise Unprovable(reason)
            factor = max(r / Fraction(max(s, 1e-6)) for r, s in zip(reach, shape[1], strict=True))
            radii = [max(factor, floor) * Fraction(max(s, 1e-6)) for s in shape[1]]
            for wider in WIDER:
                try:
                    return narrowing.located(self._test(narrowing, middle, [wider * r for r in radii]))
                except CheckError as error:
                    reason = str(error)
        raise Unprovable(reason)

    def _test(self, narrowing: Narrowing, middle: Sequence[Fraction], radii: Sequence[Fraction]) -> BoxTest:
        short = [_rounded(r, 1) for r in radii]
        ends = [(c - r, c + r) for c, r in zip(middle, short, strict=True)]
        given = narrowing.known.domain
        return BoxTest(self.problem.graph, given, [lo for lo, _ in ends], [hi for _, hi in ends])

    def _narrow(self, narrowing: Narrowing) -> None:
        """Bound every argument, and every kept state, by its exact range over all fixed points, rounded outward."""
        for k in narrowing.system.active:
            narrowing.pin({k: self._range(narrowing, [narrowing.system.of_argument(k, s) for s in (1, -1)])})
        ends: dict[int, Interval] = {
            i: self._range(narrowing, [narrowing.system.of_state(i, s) for s in (1, -1)]) for i in narrowing.system.kept
        }
        narrowing.pin_states(ends)

    def _range(self, narrowing: Narrowing, sides: Sequence[Functional]) -> tuple[Fraction, Fraction]:
        (low, _), (high, _) = (narrowing.pieces.least(narrowing.known.arguments, side) for side in sides)
        if low is None or high is None:
            raise Unprovable("the fixed points of all inputs together are unbounded")
        least, most = low, -high
        slack = max(most - least, Fraction(1, 1 << 20)) / (1 << FINE)
        return _rounded(least - slack, -1), _rounded(most + slack, 1)

    def _pair(self) -> tuple[FixedPoint, FixedPoint] | None:
        """Two fixed points of one input, if there are any: a complete search over two copies of the step."""
        known, single = self.narrowing.known, self.narrowing.system
        system = twice(single)
        pieces = Pieces(system, known.domain, _doubled(known.box), self.deadline)
        for i in range(single.states):
            apart, other = system.of_state(i, 1), system.of_state(i + single.states, -1)
            row = [p + q for p, q in zip(apart.row, other.row, strict=True)]
            found = pieces.cover([*known.arguments] * 2, Functional(row, 0), strict=False)
            if isinstance(found, Point):
                state = found.state(system)
                halves = (state[: single.states], state[single.states :])
                first, second = (fixed_point(self.problem, found.inputs, z) for z in halves)
                if not all(self._inside(z) for z in halves):
                    raise Unprovable("two fixed points of one input, but not both of them in the region")
                return first, second
        return None

    def _inside(self, state: Sequence[Fraction]) -> bool:
        region = self.narrowing.known.region
        ends = [region.fraction(i) for i in range(region.size)] if region.bounded else []
        return all(lo <= z <= hi for z, (lo, hi) in zip(state, ends, strict=False))

    def _answer(self, answer: Sequence[int], one: Finding, met: list[FixedPoint]) -> Finding:
        try:
            if all(p.answers(answer) for p in met):
                met += self._others(answer)
            wrong = next((p for p in met if not p.answers(answer)), None)
            if wrong is not None:
                return Finding.refuted(other_answer(self.problem, wrong, answer), TIED)
            if one.verdict and one.derivation is not None:
                done = prove_margins(self.problem, one.derivation, answer, self.deadline)
                if isinstance(done, Derivation):
                    return Finding.proved(done)
            return Finding.proved(self._in_parts(self.domain, answer, HALVINGS))
        except (CheckError, TimeUp, Unprovable) as error:
            return Finding.unknown(f"no fixed point answers otherwise as far as was searched; {why(error)}")

    def _others(self, answer: Sequence[int]) -> list[FixedPoint]:
        """A fixed point of some input that does not strictly answer so, if there is one."""
        margins = Margins(self.problem, self.narrowing.known, answer, self.deadline)
        for functional in margins.functionals:
            found = self.narrowing.cover({}, functional, pieces=margins.pieces, arguments=margins.arguments)
            if isinstance(found, Point):
                return [self.witness(margins.system, found)]
        return []

    def _in_parts(self, domain: Json, answer: Sequence[int], halvings: int) -> Derivation:
        """The answer on a box of inputs, or on its halves.

        Raises:
            CheckError, Unprovable: on some part no rule shows that there is a fixed point.
        """
        try:
            located = self._located(Narrowing(self.problem, domain, self.region, self.deadline))
            done = prove_margins(self.problem, located, answer, self.deadline)
            if isinstance(done, Derivation):
                return done
            raise Unprovable("a fixed point outside the region answers otherwise")
        except (CheckError, Unprovable):
            box = self.problem.box(domain)
            if not halvings or not box.bounded:
                raise
        ends = [box.fraction(j) for j in range(box.size)]
        widest = max(range(box.size), key=lambda j: ends[j][1] - ends[j][0])
        lo, hi = ends[widest]
        parts = []
        for part in ((lo, (lo + hi) / 2), ((lo + hi) / 2, hi)):
            own = [*ends[:widest], part, *ends[widest + 1 :]]
            box_json: Json = {
                "space": "input", "lo": fractions([p for p, _ in own]), "hi": fractions([q for _, q in own])
            }  # fmt: skip
            parts.append(self._in_parts(box_json, answer, halvings - 1))
        both, first, second = parts[0].join(parts[1])
        done = both.then("joined_domains", [first, second])
        self.problem.conclude(done)
        return done


def twice(system: System) -> System:
    """Two copies of a system over the same inputs; the second one's states and units come after the first one's."""
    m, kept, units, n = system.inputs, len(system.kept), len(system.units), system.states

    def row(raw: list[int], copy: int) -> list[int]:
        (a, b), (p, q) = ((0, kept), (0, units)) if copy else ((kept, 0), (units, 0))
        shared, own, values = raw[: 1 + m], raw[1 + m : 1 + m + kept], raw[1 + m + kept :]
        return [*shared, *[0] * b, *own, *[0] * a, *[0] * q, *values, *[0] * p]

    rows = [
        row(raw, copy) for part in (slice(0, kept), slice(kept, None)) for copy in (0, 1) for raw in system.rows[part]
    ]
    return System(
        rows, system.exp, m, (*system.kept, *(n + i for i in system.kept)),
        {**system.slaved, **{n + i: units + k for i, k in system.slaved.items()}},
        (*system.active, *(units + k for k in system.active)), system.units * 2, 2 * n,
    )  # fmt: skip


def _doubled(box: Tensor) -> Tensor:
    if not box.bounded:
        return Tensor((2 * box.size,))
    lo, hi = box.ends()
    return Tensor((2 * box.size,), box.exp, lo * 2, hi * 2)


def _point(values: Sequence[Fraction]) -> Json:
    return {"space": "input", "point": fractions(values)}


def _rounded(value: Fraction, direction: int) -> Fraction:
    """A short binary fraction, on the given side."""
    exp = min(value.numerator.bit_length() - value.denominator.bit_length(), 0) - 40
    return dyadic((ceil_at if direction > 0 else floor_at)(value, exp), exp)
