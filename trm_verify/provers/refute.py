"""Refutations: exact witnesses that a claim about the loop is false, searched in doubles and proved by the kernel.

Two fixed points of one input refute that there is at most one; a cycle refutes that the loop converges from everywhere;
a pair of states that move apart refutes a contraction in the norm and at the rate in question, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, round_down, round_up, vector
from trm_verify.kernel.claims import Refuted
from trm_verify.kernel.cycles import cycle_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import parse_operator
from trm_verify.kernel.tensor import contains
from trm_verify.provers import expansion
from trm_verify.provers.krawczyk import box_tests
from trm_verify.provers.loops import Given, Loop, inputs_of
from trm_verify.provers.orbits import LEAVES, WANDERS, Orbit, Survey, draw, periodic, survey
from trm_verify.provers.problem import ALL_STATES, Floats, Problem
from trm_verify.provers.witnesses import rationals

INPUTS = 4  # of the domain that are tried, unless one of them has a refutation
STARTS, STEPS, SPREADS = 48, 512, (1.0, 0.1, 10.0)
LONGEST = 8  # period of the cycles that Newton's method looks for
TRIES = 12  # orbits that the kernel is asked about, for each claim
DENOMINATORS = (1, 64, 4096)  # of rational fixed points, where no box test closes


@dataclass(frozen=True, eq=False)
class Refutation:
    """A claim that the kernel's rules have shown to be false.

    Attributes:
        kind: the rule: "two_fixed_points", "cycle" or "expanding_pair".
        of: the claim: "at_most_one", "convergence" or "contraction".
        derivation: its witness. fields: those of the claim "refutation" in a certificate.
        sentence: what was found, in words.
        given: the input. Shape: (m,). states: the fixed points, the cycle, or the pair. Shape: (count, n).
        numbers: sizes in doubles, by name.
    """

    kind: str
    of: str
    derivation: Derivation
    fields: Json
    sentence: str
    given: Floats
    states: Floats
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Search:
    """What came of a search.

    Attributes:
        refutations: accepted by the kernel's rules.
        observations: what was seen in floating point and is not proved.
        reasons: why the kernel did not accept what was found.
    """

    refutations: tuple[Refutation, ...] = ()
    observations: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Expansion:
    """The largest expansion that was met, and the refutation if it exceeds the rate in question."""

    ratio: float
    refutation: Refutation | None = None


def refute(
    problem: Problem, domain: Json, region: Json = ALL_STATES, operator: object = "picard",
    deadline: float = float("inf"), seed: int = 0,
) -> list[Refutation]:  # fmt: skip
    """Refutations of `at_most_one` and of the operator's `convergence`; see `search`."""
    return list(search(problem, domain, region, operator, deadline, seed).refutations)


def search(
    problem: Problem, domain: Json, region: Json = ALL_STATES, operator: object = "picard",
    deadline: float = float("inf"), seed: int = 0,
) -> Search:  # fmt: skip
    """Look for two fixed points and for a cycle, at one input of the domain after the other.

    Args:
        domain, region: as certificates write them; a refutation needs one input, and states of the region.
        operator: of the loop; an implicit model has no loop that could run in a cycle.
        deadline: on the monotonic clock; the kernel's check of what was found may come on top.
    """
    observations: list[str] = []
    reasons: list[str] = []
    for given in inputs_of(problem, domain, INPUTS, seed):
        if time.monotonic() > deadline:
            break
        at = Witnesses(problem, domain, region, operator, given, deadline)
        loop = Loop(problem, operator, given)
        seen = survey(loop, draw(loop, region, STARTS, SPREADS, seed), STEPS, deadline=deadline)
        found = at.refutations(_candidates(loop, seen, 1, deadline), _cycles(loop, seen, deadline))
        observations += observed(seen)
        reasons += at.reasons
        if found:
            return Search(tuple(found), tuple(dict.fromkeys(observations)), tuple(reasons))
    return Search((), tuple(dict.fromkeys(observations)), tuple(dict.fromkeys(reasons)))


def _candidates(loop: Loop, seen: Survey, period: int, deadline: float) -> Iterator[Orbit]:
    """Orbits of one period: those in which starts have ended, then those that Newton's method finds."""
    met = [orbit for orbit in seen.orbits if orbit.period == period]
    yield from met
    last = seen.last[np.isfinite(seen.last).all(axis=1)]
    starts = torch.from_numpy(np.concatenate([seen.starts, last]))
    for orbit in periodic(loop, starts, period, deadline):
        if not any(orbit.meets(other) for other in met):
            yield orbit


def _cycles(loop: Loop, seen: Survey, deadline: float) -> Iterator[Orbit]:
    yield from (orbit for orbit in seen.orbits if orbit.period > 1)
    for period in range(2, LONGEST + 1):
        yield from _candidates(loop, seen, period, deadline)


def observed(seen: Survey) -> list[str]:
    """What became of the starts that ended in no orbit, in words."""
    total, words = len(seen.fates), []
    for fate, said in ((LEAVES, "move away without end"), (WANDERS, "neither settle nor leave")):
        count = seen.fates.count(fate)
        if count:
            words.append(f"{count} of {total} starts {said} (observed in floating point, not proved)")
    return words


class Witnesses:
    """From orbits in doubles to refutations, at one input.

    Attributes:
        reasons: why the kernel did not accept an orbit.
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, operator: object, given: Given,
        deadline: float = float("inf"),
    ) -> None:  # fmt: skip
        self.problem, self.operator, self.given, self.deadline = problem, operator, given, deadline
        self.domain, self.region = domain, region
        self.reasons: list[str] = []

    def refutations(self, fixed: Iterable[Orbit], cycles: Iterable[Orbit]) -> list[Refutation]:
        """Two fixed points and a cycle, as far as they can be proved."""
        found = [self.two_fixed_points(fixed), None if self.operator == "implicit" else self.cycle(cycles)]
        return [each for each in found if each is not None]

    def two_fixed_points(self, candidates: Iterable[Orbit]) -> Refutation | None:
        """Two of the fixed points, each proved to exist."""
        proved: list[tuple[Orbit, Derivation]] = []
        for orbit in self._tried(candidates):
            done = self._exists(orbit)
            for other, before in proved if done is not None else []:
                found = self._both(other, before, orbit, done)
                if found is not None:
                    return found
            if done is not None:
                proved.append((orbit, done))
        return None

    def cycle(self, candidates: Iterable[Orbit]) -> Refutation | None:
        """A cycle, proved to be one."""
        operator = parse_operator(self.operator, self.problem.graph.size)
        for orbit in self._tried(candidates):
            if orbit.period < 2:
                continue
            witness = {"operator": self.operator, "domain": self.given.box, "period": orbit.period}
            try:
                graph = cycle_graph(self.problem.graph, operator, orbit.period)
                for test in box_tests(graph, self.problem.box(self.given.box), orbit.states.ravel()):
                    done = derive("cycle", **witness, **test)
                    if self._holds(done, orbit):
                        return self._cycle(orbit, done)
            except CheckError as error:
                self._because(orbit, error)
        return None

    def _tried(self, candidates: Iterable[Orbit]) -> Iterator[Orbit]:
        """The candidates in the region, up to a number and until the time is used up."""
        box, count = self.problem.box(self.region), 0
        for orbit in candidates:
            if time.monotonic() > self.deadline or count >= TRIES:
                return
            if box.bounded:
                lo, hi = (np.array([float(box.fraction(i)[side]) for i in range(box.size)]) for side in (0, 1))
                if ((orbit.states < lo) | (orbit.states > hi)).any():
                    continue
            count += 1
            yield orbit

    def _exists(self, orbit: Orbit) -> Derivation | None:
        """The fixed point, by a box test, or exactly at rational coordinates."""
        try:
            for test in box_tests(self.problem.graph, self.problem.box(self.given.box), orbit.states[0]):
                region = {"space": "state", "lo": test["lo"], "hi": test["hi"]}
                done = derive(
                    "enclosure", domain=self.given.box, region=region, scale=None, slopes=test["slopes"],
                    matrix=test["matrix"], unique=False,
                )  # fmt: skip
                if self._holds(done, orbit):
                    return done
        except CheckError as error:
            self._because(orbit, error)
        return self._rational(orbit)

    def _rational(self, orbit: Orbit) -> Derivation | None:
        box, state = self.problem.box(self.given.box), orbit.states[0]
        x = rationals([box.fraction(i)[0] for i in range(box.size)])
        for most in DENOMINATORS:
            near = [Fraction(v).limit_denominator(most) for v in state.tolist()]
            if np.abs(np.array([float(v) for v in near]) - state).max() > 1e-9 * (1 + np.abs(state).max()):
                continue
            done = derive("fixed_point_at", input=x, state=rationals(near))
            if self._holds(done, orbit):
                return done
        return None

    def _both(self, a: Orbit, first: Derivation, b: Orbit, second: Derivation) -> Refutation | None:
        joined, one, other = first.join(second)
        done = joined.then("two_fixed_points", [one, other])
        if not self._holds(done, b):
            return None
        apart = float(np.abs(a.states - b.states).max())
        return Refutation(
            "two_fixed_points", "at_most_one", done, self._fields("at_most_one"),
            f"{self._where}there are two fixed points, {apart:.3g} apart in one coordinate",
            self.given.values, np.concatenate([a.states, b.states]),
            {"distance": apart, "growth_of_first": a.growth, "growth_of_second": b.growth},
        )  # fmt: skip

    def _cycle(self, orbit: Orbit, done: Derivation) -> Refutation:
        apart = float(np.abs(orbit.states - orbit.states[0]).max())
        return Refutation(
            "cycle", "convergence", done, self._fields("convergence", operator=self.operator),
            f"{self._where}the loop has a cycle of period {orbit.period}, whose states are {apart:.3g} apart in one "
            "coordinate: started there, it never settles",
            self.given.values, orbit.states,
            {"period": orbit.period, "distance": apart, "growth": orbit.growth},
        )  # fmt: skip

    def _fields(self, of: str, **known: object) -> Json:
        nothing = dict.fromkeys(("operator", "norm", "rate", "answer"))
        return {"of": of, **nothing, "domain": self.domain, "region": self.region, **known}

    @property
    def _where(self) -> str:
        return f"for the input {_words(self.given.values)} " if self.given.values.size else ""

    def _holds(self, done: Derivation, orbit: Orbit) -> bool:
        """Whether the kernel's rules accept it, with states of the region."""
        self.problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
        try:
            found = self.problem.conclude(done)
        except CheckError as error:
            self._because(orbit, error)
            return False
        return not (isinstance(found, Refuted) and found.region is not None) or contains(
            self.problem.box(self.region), found.region
        )

    def _because(self, orbit: Orbit, error: CheckError) -> None:
        name = "a fixed point" if orbit.period == 1 else f"a cycle of period {orbit.period}"
        self.reasons.append(f"{name} at {_words(orbit.states[0])} was found, and not proved: {error}")


def expanding(
    problem: Problem, domain: Json, region: Json, norm: Json, rate: Fraction = Fraction(1),
    operator: object = "picard", deadline: float = float("inf"), seed: int = 0,
) -> Expansion:  # fmt: skip
    """Look for two states that the operator does not bring together at the rate, in a block norm.

    The refutation says the largest rate that was met, rounded down: what fails at it fails at every smaller one.

    Args:
        norm: as certificates write it. rate: at least this rate is to be refuted; 1 refutes every contraction.

    Raises:
        ValueError: a metric norm, for which there is no such rule.
    """
    parsed = problem.norm(norm)
    if not isinstance(parsed, BlockNorm):
        raise ValueError(f"expected a block norm, found a {parsed.family} one")
    stated = "picard" if operator == "implicit" else operator
    pair = expansion.search(problem, domain, region, stated, parsed, deadline, seed)
    states = np.stack([pair.first, pair.second])
    least = round_up(rate, 32)
    for bits in (30, 24, 16, 10):
        refuted = (
            round_down(Fraction(pair.ratio) * (1 - Fraction(1, 1 << bits)), bits) if pair.ratio > 0 else Fraction(0)
        )
        if refuted < least:
            refuted = least
        done = derive(
            "expanding_pair", operator=stated, domain=pair.given.box, norm=norm, rate=dyadic(refuted),
            first=vector(pair.first), second=vector(pair.second),
        )  # fmt: skip
        problem.graph.spent.clear()
        try:
            found = problem.conclude_as(done, Refuted)
        except CheckError:
            continue
        if found.region is None or not contains(problem.box(region), found.region):
            break
        fields = {
            "of": "contraction", "operator": stated, "domain": domain, "region": region, "norm": norm,
            "rate": dyadic(refuted), "answer": None,
        }  # fmt: skip
        where = f"for the input {_words(pair.given.values)} " if pair.given.values.size else ""
        sentence = (
            f"{where}two states move apart {float(refuted):.6g}-fold in {parsed.family}: the loop contracts there at no "
            "smaller rate"
        )
        numbers = {
            "ratio": pair.ratio,
            "rate": float(refuted),
            "distance": float(np.abs(pair.first - pair.second).max()),
        }
        refutation = Refutation(
            "expanding_pair", "contraction", done, fields, sentence, pair.given.values, states, numbers
        )
        return Expansion(pair.ratio, refutation)
    return Expansion(pair.ratio)


def _words(values: Floats, most: int = 4) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values[:most])
    return f"({shown}{', …' if len(values) > most else ''})"
