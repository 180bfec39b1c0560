"""What holds for all inputs of one domain: contraction, exactly one fixed point, convergence of the stated iteration.

Provers propose and the kernel's rules conclude, step by step; what is filed here becomes a verdict only after the whole
certificate has been checked.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from trm_verify.certificate import Derivation, Filing
from trm_verify.encode import Json, block_json, dyadic, refutation_json, round_up, state_json, vector
from trm_verify.kernel.claims import Contraction, Convergence, Invariant, Refuted, Settled
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.norms import coordinate_scale
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.operators import difference, parse_operator
from trm_verify.provers.contraction import wellposed
from trm_verify.provers.contraction.local import prove_invariant
from trm_verify.provers.contraction.several_steps import prove_several_steps
from trm_verify.provers.contraction.spectral import spectral_bounds
from trm_verify.provers.exact import decide as exact
from trm_verify.provers.fixed_points.relaxed import units_of
from trm_verify.provers.problem import ALL_STATES, Attempt, Problem
from trm_verify.provers.refutation import search as refute
from trm_verify.result import PROVED, REFUTED, UNKNOWN, ClaimResult

DEFAULT_EPSILON = Fraction(1, 1 << 20)  # the ε of the K(ε) that every certificate over a bounded domain states
MOST_STEPS = 10**12
MOST_UNITS = 12  # of a step that is decided exactly, by cases
ONE: Json = {"exp": 0, "int": "1"}


class Facts:
    """What is proved over one domain of inputs, and what was tried.

    Attributes:
        domain, region, operator: what the facts are about, as certificates write it.
        attempts: what every prover gave.
        claims: a result per claim, by name.
        filings: the proved claims for the certificate, each with the name of its result.
        contraction: of the stated iteration if damping keeps it, else of the step.
        convergence: of the stated iteration.
        reaching: the convergence that steps are counted for: the stated iteration's; for an implicit model, which
            states none, that of an iteration which reaches its fixed point (its step's own, or a damped one).
        anchor: that there is one fixed point for each input, which moves continuously: some convergence, or R4.
        settled: that the loop is at its only fixed point, exactly, after so many steps from anywhere (R12).
    """

    def __init__(
        self, problem: Problem, domain: Json, region: Json, operator: object, guess: Callable[[], np.ndarray]
    ) -> None:
        self.problem, self.domain, self.region, self.operator = problem, domain, region, operator
        self._guess = guess  # a likely fixed point of some input of the domain
        self.attempts: list[Attempt] = []
        self.claims: dict[str, ClaimResult] = {}
        self.filings: list[tuple[str, Filing]] = []
        self.contraction: Derivation | None = None
        self.convergence: Derivation | None = None
        self.reaching: Derivation | None = None
        self.anchor: Derivation | None = None
        self.settled: Derivation | None = None
        self.observations: tuple[str, ...] = ()
        self._banach = False  # the fixed point is known to lie where the contraction holds

    @property
    def required(self) -> tuple[str, ...]:
        """The claims that a PROVED verdict needs."""
        return ("exactly_one",) if self.operator == "implicit" else ("exactly_one", "convergence")

    @property
    def complete(self) -> bool:
        return all(name in self.claims and self.claims[name] for name in self.required)

    @property
    def contracting(self) -> Contraction | None:
        """The proved contraction, of the stated iteration (of the step, for an implicit model)."""
        if self.contraction is None:
            return None
        found = self.problem.conclude_as(self.contraction, Contraction)
        stated = "picard" if self.operator == "implicit" else self.operator
        return found if found.operator == parse_operator(stated, self.problem.graph.size) else None

    @property
    def converging(self) -> Convergence | None:
        """The proved convergence of the stated iteration."""
        return None if self.convergence is None else self.problem.conclude_as(self.convergence, Convergence)

    @property
    def reached(self) -> Convergence | None:
        """The proved convergence that steps are counted for."""
        return None if self.reaching is None else self.problem.conclude_as(self.reaching, Convergence)

    @property
    def settling(self) -> Settled | None:
        """The proved end of a loop that settles exactly."""
        return None if self.settled is None else self.problem.conclude_as(self.settled, Settled)

    @property
    def enclosing(self) -> Derivation | None:
        """A premise whose region is known to hold the fixed points, so that a residual bounds the distance to them."""
        return self.convergence or (self.contraction if self._banach and self.contracting is not None else None)

    def bounded(self, domain: Json) -> Convergence | None:
        """What is `reached`, from init over a domain inside this one, with a bound on the initial error if there is."""
        derivation = None if self.reaching is None else self._initial_bound(self.reaching, domain)
        return None if derivation is None else self.problem.conclude_as(derivation, Convergence)

    def _prove(self, name: str, derivation: Derivation, **fields: Any) -> None:
        """File a proved claim under its name (the first word of which is the kernel's)."""
        self.filings.append((name, Filing(derivation, name.split()[0], fields)))
        self.claims[name] = ClaimResult(name, PROVED)

    def _unknown(self, name: str, reason: str, remedy: str) -> None:
        self.claims[name] = ClaimResult(name, UNKNOWN, reason=reason, remedy=remedy)

    def from_contraction(self, contraction: Derivation) -> None:
        """Everything that follows from one contraction of the step."""
        norm: Json = contraction.steps[-1]["norm"]
        operator: object = "picard"
        if isinstance(self.operator, dict):
            damped = contraction.then("damping", alpha=self.operator["outer_damped"])
            try:
                self.problem.conclude(damped)
                contraction, operator = damped, self.operator
            except CheckError as error:
                reason = f"the step contracts, but damping was not shown to keep that in this norm: {error}"
                self._unknown("convergence", reason, ONE_FACTOR)
        concluded = self.problem.conclude_as(contraction, Contraction)
        self.contraction = contraction
        common = {"operator": operator, "domain": self.domain, "norm": norm, "rate": dyadic(concluded.rate)}
        self._prove("contraction", contraction, region=self.region, **common)
        premises, joined = self._with_invariance(contraction, operator)
        if premises is None:
            self._prove("at_most_one", contraction.then("at_most_one"), domain=self.domain, region=self.region)
            return
        self._prove("exactly_one", joined.then("exactly_one", premises), domain=self.domain, region=self.region)
        self._banach = True
        self.anchor = self._start(joined, premises)[1]
        if "convergence" not in self.claims:
            start, convergence = self._start(joined, premises)
            self._converges(self._named("picard"), convergence, start=start, **common)

    def _named(self, kind: str) -> str:
        """The name of the convergence of an iteration that an implicit model does not state, and others do."""
        return f"convergence of {kind}" if self.operator == "implicit" else "convergence"

    def _converges(self, name: str, convergence: Derivation, **fields: Any) -> None:
        """File convergence, with K(ε) from init where the domain is bounded."""
        fields = {"constant": ONE, **fields, "epsilon": None, "steps": None}
        self._prove(name, convergence, **fields)
        if name == "convergence" or self.operator == "implicit":
            self.reaching = convergence
        if name != "convergence":
            return
        self.convergence = convergence
        bounded = self._initial_bound(convergence, self.domain)
        if bounded is not None:
            steps = steps_to(self.problem.conclude_as(bounded, Convergence), DEFAULT_EPSILON)
            if steps is not None:
                fields |= {"start": "init", "epsilon": dyadic(DEFAULT_EPSILON), "steps": steps}
                self.filings.append(("", Filing(bounded, "convergence", fields)))

    def from_settling(self, settled: Derivation) -> None:
        """Everything that follows from a loop that settles exactly: its convergence needs no norm and no rate."""
        self.settled = settled
        steps = self.problem.conclude_as(settled, Settled).steps
        fields = {"operator": "picard", "domain": self.domain, "steps": steps}
        if self.claims.get("convergence"):  # at a rate; then this is said beside it
            self._prove("settles", settled, **fields)
            return
        self._prove("exactly_one", settled, domain=self.domain, region=ALL_STATES)
        self.filings.append(("convergence", Filing(settled, "settles", fields)))
        self.claims["convergence"] = ClaimResult("convergence", PROVED)

    def _with_invariance(self, contraction: Derivation, operator: object) -> tuple[list[int] | None, Derivation]:
        """Premises for Banach's theorem: the contraction, and an invariant set when the region is a box."""
        if self.region == ALL_STATES:
            return [len(contraction.steps) - 1], contraction
        bounds = spectral_bounds(self.problem, self.domain)
        invariant, reason = prove_invariant(
            self.problem, contraction, self.domain, self.region, operator, bounds, self._guess()
        )
        if invariant is None:
            for name in self.required:
                self._unknown(name, f"no invariant set was found in the region: {reason}", OTHER_REGION)
            return None, contraction
        if invariant.steps[-1]["rule"] == "invariant_ball":
            invariant = self._wider(contraction, invariant)
        else:
            self._prove("invariant", invariant, operator=operator, domain=self.domain, region=self.region)
        joined, first, last = contraction.join(invariant)
        return [first, last], joined

    def _wider(self, contraction: Derivation, ball: Derivation) -> Derivation:
        """The ball, widened to hold init(X) if that still fits into the region."""
        last, found = ball.steps[-1], self.problem.conclude_as(ball, Invariant).ball
        premise = self.problem.conclude_as(contraction, Contraction)
        if found is None:
            raise TypeError("expected an invariant ball")
        _, centre, radius = found
        try:
            initial = initial_state(self.problem.graph, self.problem.box(self.domain))
            reach = round_up(premise.norm.bound(difference(initial, centre)))
            if reach <= radius:
                return ball
            wider = contraction.then("invariant_ball", domain=self.domain, center=last["center"], radius=dyadic(reach))
            self.problem.conclude(wider)
        except CheckError:  # the least ball proves existence all the same
            return ball
        return wider

    def _start(self, joined: Derivation, premises: list[int]) -> tuple[Json, Derivation]:
        """Where convergence starts: the whole invariant set if it is a box, else init(X), else the ball's centre."""
        last = joined.steps[-1]
        if last["rule"] != "invariant_ball":
            return self.region, joined.then("convergence", premises, start=self.region)
        centre: Json = {"space": "state", "point": last["center"]}
        try:
            start = state_json(initial_state(self.problem.graph, self.problem.box(self.domain)))
            derivation = joined.then("convergence", premises, start=start)
            self.problem.conclude(derivation)
        except CheckError:  # init(X) is unbounded, or lies outside the ball
            return centre, joined.then("convergence", premises, start=centre)
        return start, derivation

    def _initial_bound(self, convergence: Derivation, domain: Json) -> Derivation | None:
        """The better bound of two centres: the origin (often init itself) and a likely fixed point."""
        if not self.problem.box(domain).bounded:
            return None
        best: tuple[Fraction, Derivation] | None = None
        for centre in (np.zeros(self.problem.graph.size), self._guess()):
            bounded = convergence.then("initial_bound", domain=domain, center=vector(centre))
            try:
                initial = self.problem.conclude_as(bounded, Convergence).initial
            except CheckError:  # the centre or init(X) lies outside, or the rule does not know the operator
                continue
            if initial is not None and (best is None or initial < best[0]):
                best = (initial, bounded)
        return None if best is None else best[1]

    def from_well_posedness(self) -> None:
        """R4, for implicit models and for steps that contract in no norm."""
        for prove in (wellposed.prove_log_norm, wellposed.prove_monotone):
            attempt = prove(self.problem, self.domain)
            self.attempts.append(attempt)
            if attempt.derivation is None:
                continue
            if not self.claims.get("exactly_one"):
                self._prove("exactly_one", attempt.derivation, domain=self.domain, region=ALL_STATES)
            own = self.operator["outer_damped"] if isinstance(self.operator, dict) else None
            self.anchor = attempt.derivation if attempt.prover == "monotone" else self.anchor
            converging = wellposed.prove_convergence(self.problem, self.domain, attempt, own)
            if converging.derivation is None:
                self.attempts.append(converging)
                continue
            concluded = self.problem.conclude_as(converging.derivation, Convergence)
            self.anchor = self.anchor or converging.derivation
            alpha = converging.derivation.steps[-1]["alpha"]
            name = "convergence" if own is not None else f"convergence of {concluded.operator.kind}"
            self._converges(
                name, converging.derivation,
                operator={"outer_damped" if attempt.prover == "log_norm" else "inner_damped": alpha},
                domain=self.domain, start=ALL_STATES, norm=block_json(concluded.norm, self.problem.graph.size),
                rate=dyadic(concluded.rate),
            )  # fmt: skip
            return

    def from_several_steps(self) -> None:
        """R8, for loops that contract over several steps on a region that they do not leave."""
        operator = "picard" if self.operator == "implicit" else self.operator
        attempt = prove_several_steps(self.problem, self.domain, self.region, operator)
        self.attempts.append(attempt)
        if attempt.derivation is None:
            return
        if not self.claims.get("exactly_one"):
            self._prove("exactly_one", attempt.derivation, domain=self.domain, region=self.region)
        self.anchor = self.anchor or attempt.derivation
        concluded = self.problem.conclude_as(attempt.derivation, Convergence)
        self._converges(
            self._named("picard"), attempt.derivation, operator=operator, domain=self.domain, start=self.region,
            norm=attempt.derivation.steps[-1]["norm"], rate=dyadic(concluded.rate),
            constant=dyadic(round_up(concluded.constant)),
        )  # fmt: skip

    def from_cases(self, deadline: float) -> None:
        """The exact decision of small piecewise-linear steps: how many fixed points there are."""
        if self.claims.get("exactly_one") or units_of(self.problem, self.domain) > MOST_UNITS:
            return
        found = exact.decide(self.problem, self.domain, self.region, None, deadline=deadline).exactly_one
        if found.verdict is PROVED and found.derivation is not None:
            self._prove("exactly_one", found.derivation, domain=self.domain, region=self.region)
        elif found.verdict is REFUTED and found.derivation is not None:
            record = self.problem.conclude_as(found.derivation, Refuted)
            self._refute("exactly_one", found.derivation, refutation_json(record), found.reason)

    def from_counterexamples(self, deadline: float, seed: int) -> None:
        """Two fixed points of one input, or a cycle of the loop."""
        if any(claim.verdict is REFUTED for claim in self.claims.values()):
            return
        found = refute.search(self.problem, self.domain, self.region, self.operator, deadline, seed)
        self.observations = found.observations
        for each in found.refutations:
            name = "exactly_one" if each.of == "at_most_one" else each.of
            if name in self.required and not self.claims.get(name):
                self._refute(name, each.derivation, each.fields, each.sentence)

    def _refute(self, name: str, derivation: Derivation, fields: Json, reason: str) -> None:
        self.filings.append((name, Filing(derivation, "refutation", fields)))
        self.claims[name] = ClaimResult(name, REFUTED, reason=reason)

    @property
    def refuted(self) -> bool:
        """Whether a claim that was asked for is false."""
        return any(name in self.claims and self.claims[name].verdict is REFUTED for name in self.required)

    def fill(self) -> None:
        """A reason and a remedy for each claim that was asked for and not proved."""
        contracts, posed = self.contraction is not None, bool(self.claims.get("exactly_one"))
        for name in ("contraction", *self.required):
            if name in self.claims or self.settled is not None:
                continue
            if name == "convergence" and posed:
                seen = "".join(f"; observed, not proved: {text}" for text in self.observations)
                reason = f"the step contracts in no norm that was tried (see what was tried){seen}"
                self._unknown(name, reason, OTHER_LOOP)
            elif not contracts:
                remedy = CONTRACT if self.region == ALL_STATES else SMALLER_REGION
                self._unknown(name, "no norm was found in which the step contracts (see what was tried)", remedy)


ONE_FACTOR = 'one damping factor for all coordinates and norm="l2", or norm="linf"'
OTHER_REGION = (
    'another region= ("invariant", or one that the step maps into itself and that holds init), or a smaller domain'
)
OTHER_LOOP = 'stating an iteration that converges, iteration=tv.Damped(alpha), or iteration="implicit"'
CONTRACT = (
    "a contractive step (trm_verify.nn.SandwichStep), a smaller ‖W‖, or, for models that contract only where their "
    'loop goes, region="invariant" or a box of your own'
)
SMALLER_REGION = "a smaller region=, a contractive step (trm_verify.nn.SandwichStep), or a smaller ‖W‖"


def steps_to(convergence: Convergence, epsilon: Fraction, initial: Fraction | None = None) -> int | None:
    """The smallest K with C ρᴷ N0 c ≤ ε, c from the norm to plain ℓ∞; None above 10¹² or when N0 is unknown."""
    start = convergence.initial if initial is None else initial
    if start is None or epsilon <= 0:
        return None
    scale = convergence.constant * start * coordinate_scale(convergence.norm)

    def reached(k: int) -> bool:
        return power_up(convergence.rate, k) * scale <= epsilon

    if not reached(MOST_STEPS):
        return None
    low, high = -1, MOST_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
