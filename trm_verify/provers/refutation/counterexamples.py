"""From orbits and pairs of states in doubles to refutations that the kernel's rules accept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, round_down, vector
from trm_verify.kernel.claims import FixedPoints, Refuted
from trm_verify.kernel.cycles import cycle_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import rounded_down
from trm_verify.kernel.operators import parse_operator
from trm_verify.kernel.tensor import contains
from trm_verify.provers.problem import Floats, Problem, floats
from trm_verify.provers.refutation.escape import Escape
from trm_verify.provers.refutation.expansion import Pair
from trm_verify.provers.refutation.krawczyk import box_tests
from trm_verify.provers.refutation.loops import Given
from trm_verify.provers.refutation.orbits import Orbit
from trm_verify.provers.witnesses import rationals

ESCAPES = 40  # cones that the kernel is asked about
TRIES = 12  # orbits that the kernel is asked about, for each claim
DENOMINATORS = (1, 64, 4096)  # of rational fixed points, where no box test closes
ROUNDED = (30, 20, 10)  # bits to which the ratio of a pair is rounded down: the kernel's bounds are a little wider


@dataclass(frozen=True, eq=False)
class Refutation:
    """A claim that the kernel's rules have shown to be false.

    Attributes:
        kind: the rule: "two_fixed_points", "cycle", "divergence" or "expanding_pair".
        of: the claim: "at_most_one", "convergence" or "contraction".
        derivation: the witness. fields: those of the claim `refutation` in a certificate.
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


class Witnesses:
    """What can be proved at one input, for claims about a domain that holds it, and about a region.

    Attributes:
        reasons: why the kernel did not accept what was found.
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, operator: object, given: Given,
        deadline: float = float("inf"),
    ) -> None:  # fmt: skip
        self.problem, self.operator, self.given, self.deadline = problem, operator, given, deadline
        self.domain, self.region = domain, region
        self.reasons: list[str] = []

    def two_fixed_points(self, candidates: Iterable[Orbit]) -> Refutation | None:
        """Two of the fixed points, each proved to exist."""
        proved: list[tuple[Orbit, Derivation]] = []
        for orbit in self._tried(candidates):
            done = self._exists(orbit)
            if done is None:
                continue
            for other, before in proved:
                found = self._both(other, before, orbit, done)
                if found is not None:
                    return found
            proved.append((orbit, done))
        return None

    def cycle(self, candidates: Iterable[Orbit]) -> Refutation | None:
        """One of the cycles; a fixed point is none, and an implicit model has no loop to run through one."""
        if self.operator == "implicit":
            return None
        operator, given = parse_operator(self.operator, self.problem.graph.size), self.problem.box(self.given.box)
        for orbit in self._tried(candidates):
            try:
                graph = cycle_graph(self.problem.graph, operator, orbit.period)
                for test in box_tests(graph, given, orbit.states.ravel()):
                    done = derive(
                        "cycle", operator=self.operator, domain=self.given.box, period=orbit.period, **test
                    )  # fmt: skip
                    if self._holds(done, orbit):
                        return self._cycle(orbit, done)
            except CheckError as error:
                self._because(orbit, error)
        return None

    def divergence(self, candidates: Iterable[Escape]) -> Refutation | None:
        """A start that runs away; an implicit model has no loop that could."""
        if self.operator == "implicit":
            return None
        box = self.problem.box(self.region)
        lo, hi = (floats(end, box.exp) for end in box.ends()) if box.bounded else (-np.inf, np.inf)
        tried = 0
        for escape in candidates:
            if time.monotonic() > self.deadline or tried >= ESCAPES:
                break
            if not ((escape.start >= lo) & (escape.start <= hi)).all():
                continue
            tried += 1
            done = derive("divergence", operator=self.operator, domain=self.given.box, **escape.witness)
            if self._holds(done, None, "a path that leaves"):
                said = (
                    f"{self._where}the loop runs away from {words(escape.start)}: after {escape.steps} steps it grows "
                    f"by a factor of about {escape.factor:.6g} a step, for ever"
                )
                numbers = {"factor": escape.factor, "steps": float(escape.steps)}
                return self._refutation("convergence", done, said, escape.start[None], numbers, operator=self.operator)
        return None

    def expanding(self, pair: Pair, norm: Json, rate: Fraction) -> Refutation | None:
        """A pair of states that refutes at least this rate."""
        for bits in ROUNDED:
            share = 1 - Fraction(1, 1 << bits)
            refuted = max(round_down(Fraction(pair.ratio) * share, bits) if pair.ratio > 0 else rate, rate)
            done = derive(
                "expanding_pair", operator=self.operator, domain=self.given.box, norm=norm, rate=dyadic(refuted),
                first=vector(pair.first), second=vector(pair.second),
            )  # fmt: skip
            if self._holds(done, None):
                return self._expanding(pair, norm, refuted, done)
        return None

    def _tried(self, candidates: Iterable[Orbit]) -> Iterator[Orbit]:
        """The candidates in the region, up to a number of them and until the time is used up."""
        box, count = self.problem.box(self.region), 0
        lo, hi = (floats(end, box.exp) for end in box.ends()) if box.bounded else (-np.inf, np.inf)
        for orbit in candidates:
            if time.monotonic() > self.deadline or count >= TRIES:
                return
            if ((orbit.states >= lo) & (orbit.states <= hi)).all():
                count += 1
                yield orbit

    def _exists(self, orbit: Orbit) -> Derivation | None:
        """The fixed point, by a box test, or exactly at rational coordinates."""
        try:
            for test in box_tests(self.problem.graph, self.problem.box(self.given.box), orbit.states[0]):
                done = derive(
                    "enclosure", domain=self.given.box, region={"space": "state", "lo": test["lo"], "hi": test["hi"]},
                    scale=None, slopes=test["slopes"], matrix=test["matrix"], unique=False,
                )  # fmt: skip
                if self._holds(done, orbit):
                    return done
        except CheckError as error:
            self._because(orbit, error)
        return self._rational(orbit)

    def _rational(self, orbit: Orbit) -> Derivation | None:
        """A piecewise-linear step may bend at its fixed point, where a box test never closes."""
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

    def _holds(self, done: Derivation, orbit: Orbit | None, what: str = "a pair of states") -> bool:
        """Whether the kernel's rules accept it, for states of the region."""
        self.problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
        try:
            found = self.problem.conclude(done)
        except CheckError as error:
            self._because(orbit, error, what)
            return False
        place = found.box if isinstance(found, FixedPoints) else found.region if isinstance(found, Refuted) else None
        return place is None or contains(self.problem.box(self.region), place)

    def _because(self, orbit: Orbit | None, error: CheckError, what: str = "a pair of states") -> None:
        if orbit is not None:
            what = "a fixed point" if orbit.period == 1 else f"a cycle of period {orbit.period}"
            what += f" at {words(orbit.states[0])}"
        self.reasons.append(f"{what} was found, and not proved: {error}")

    def _both(self, a: Orbit, first: Derivation, b: Orbit, second: Derivation) -> Refutation | None:
        joined, one, other = first.join(second)
        done = joined.then("two_fixed_points", [one, other])
        if not self._holds(done, b):
            return None
        apart = float(np.abs(a.states - b.states).max())
        said = f"{self._where}there are two fixed points, {apart:.3g} apart in one coordinate"
        numbers = {"distance": apart, "growth_of_first": a.growth, "growth_of_second": b.growth}
        return self._refutation("at_most_one", done, said, np.concatenate([a.states, b.states]), numbers, operator=None)

    def _cycle(self, orbit: Orbit, done: Derivation) -> Refutation:
        apart = float(np.abs(orbit.states - orbit.states[0]).max())
        said = (
            f"{self._where}the loop has a cycle of period {orbit.period}, with states {apart:.3g} apart in one "
            "coordinate: started there, it never settles"
        )
        numbers = {"period": orbit.period, "distance": apart, "growth": orbit.growth}
        return self._refutation("convergence", done, said, orbit.states, numbers, operator=self.operator)

    def _expanding(self, pair: Pair, norm: Json, rate: Fraction, done: Derivation) -> Refutation:
        family, apart = self.problem.norm(norm).family, float(np.abs(pair.first - pair.second).max())
        said = (
            f"{self._where}one application takes two states to {rounded_down(rate)} times their distance in {family}: "
            "no smaller rate holds in that norm"
        )
        numbers = {"rate": float(rate), "ratio": pair.ratio, "distance": apart}
        states, known = np.stack([pair.first, pair.second]), {"norm": norm, "rate": dyadic(rate)}
        return self._refutation("contraction", done, said, states, numbers, operator=self.operator, **known)

    def _refutation(
        self, of: str, done: Derivation, said: str, states: Floats, numbers: Mapping[str, float], **known: object
    ) -> Refutation:
        fields = {"of": of, "domain": self.domain, "region": self.region, "norm": None, "rate": None, "answer": None}
        kind: str = done.steps[-1]["rule"]
        return Refutation(kind, of, done, {**fields, **known}, said, self.given.values, states, numbers)

    @property
    def _where(self) -> str:
        return f"for the input {words(self.given.values)} " if self.given.values.size else ""


def words(values: Floats, most: int = 4) -> str:
    """A point, cut after a few coordinates."""
    shown = ", ".join(f"{v:.4g}" for v in values[:most])
    return f"({shown}{', …' if len(values) > most else ''})"
