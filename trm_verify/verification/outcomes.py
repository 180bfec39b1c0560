"""From what was proved to what the caller gets: results for the model, or for each input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import nextafter
from typing import Any

import numpy as np

from trm_verify.box import exact_number
from trm_verify.certificate import Derivation
from trm_verify.encode import Json, box_json, state_json
from trm_verify.kernel.claims import Contraction, Convergence, FixedPointAnswer, FixedPoints, Refuted
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.provers.answers import AnswerAttempt
from trm_verify.provers.problem import ALL_STATES, NO_INPUT, point
from trm_verify.result import (
    PROVED,
    REFUTED,
    UNKNOWN,
    Checked,
    ClaimResult,
    Details,
    Enclosure,
    Trial,
    Verdict,
    VerificationResult,
    VerificationResults,
)
from trm_verify.verification.decide import NO_GROUND, Found, Grounds, Question
from trm_verify.verification.facts import Facts, Filing, refutation_json, steps_to
from trm_verify.verification.inputs import Inputs, Row
from trm_verify.verification.locally import LOCAL, answer_from_init, local_facts
from trm_verify.verification.search import INTERRUPTED, search
from trm_verify.verification.session import Effort, Verification

NOT_ONE = "exactly one fixed point was not proved"
ANOTHER_ROW = "an input of the model's shape and domain, without NaN, in that row"
NO_COMPETITOR = "the readout has one class only, and an answer needs a competitor"
MORE_TIME = "a larger timeout= or budget="
SMALLER_BALL = "a smaller eps, or a model whose logits are further apart"
WIDER_GAP = "a model whose logits are further apart at its fixed point (more training), or norm= another one"


@dataclass(frozen=True)
class Limits:
    """Seconds an input (None: no limit), the end of the call on the monotonic clock, processes for the answers."""

    timeout: float | None = None
    deadline: float = float("inf")
    workers: int = 1

    def now(self) -> float:
        """The deadline of an input that is begun now."""
        return self.deadline if self.timeout is None else min(self.deadline, time.monotonic() + self.timeout)


def up(value: Fraction) -> float:
    """A double ≥ value, whose shortest decimal form is ≥ value too, so that the number as printed is a bound."""
    try:
        nearest = float(value)
    except OverflowError:
        return float("inf") if value > 0 else -float(np.finfo(np.float64).max)
    while nearest < float("inf") and (Fraction(nearest) < value or Fraction(repr(nearest)) < value):
        nearest = nextafter(nearest, float("inf"))
    return nearest


def shared_fields(session: Verification, facts: Facts, domain: Json) -> dict[str, Any]:
    """What the results that rest on the same facts share."""
    known: Contraction | Convergence | None = facts.converging or facts.contracting
    return {
        "graph_digest": session.problem.graph.digest,
        "weights_digest": session.problem.graph.weights.sha256,
        "trials": tuple(
            Trial(a.prover, a.norm, None if a.rate is None else up(a.rate), a.seconds, a.reason or "proved")
            for a in facts.attempts
        ),
        "rate": None if known is None else up(known.rate),
        "norm": None if known is None else known.norm.family,
        "convergence_steps": _steps_function(facts, domain) if facts.convergence or facts.settled else None,
    }


def _steps_function(facts: Facts, domain: Json) -> Callable[[Any, Any], int]:
    settled = facts.settling
    if settled is not None:
        return lambda epsilon, initial_error: settled.steps  # exactly, whatever ε and wherever it starts

    def steps(epsilon: Any, initial_error: Any) -> int:
        concluded = facts.converging
        if concluded is None:
            raise ValueError("expected a proved rate of convergence, found none")
        if initial_error is None:
            bounded = facts.bounded(domain)
            initial = None if bounded is None else bounded.initial
            if initial is None:
                raise ValueError(
                    "expected a bound on the initial error, found none: give the model domain=tv.Box(lo, hi), ask "
                    "about an input x, or pass initial_error="
                )
        else:
            error = exact_number(initial_error, "initial_error")
            if error < 0:
                raise ValueError(f"expected initial_error >= 0, found {initial_error!r}")
            initial = concluded.norm.bound(from_fractions([(-error, error)] * facts.problem.graph.size))
        target = exact_number(epsilon, "epsilon")
        if target <= 0:
            raise ValueError(f"expected epsilon > 0, found {epsilon!r}")
        found = steps_to(concluded, target, initial)
        if found is None:
            raise ValueError(f"expected an epsilon that 10**12 steps can reach, found {epsilon!r}")
        return found

    return steps


def _said(facts: Facts, checked: Checked, first: int) -> dict[str, ClaimResult]:
    """The claims, the proved ones in the kernel's own words; the first filing is claim number `first`."""
    claims = dict(facts.claims)
    for place, (name, _) in enumerate(facts.filings, first):
        if name:
            said = describe(checked[1].claims[place])
            refuted = claims[name].verdict is REFUTED
            claims[name] = replace(claims[name], statement=f"refuted by {said}" if refuted else said)
    return claims


def global_result(session: Verification, facts: Facts) -> VerificationResult:
    """What holds for the model over its whole domain."""
    shared = shared_fields(session, facts, facts.domain)
    if not facts.filings:
        return VerificationResult(UNKNOWN, dict(facts.claims), **shared)
    checked = session.certify(filing for _, filing in facts.filings)
    verdict = _verdict(facts)
    return VerificationResult(verdict, _said(facts, checked, 0), certified=lambda: checked, **shared)


def _verdict(facts: Facts) -> Verdict:
    """Of the facts alone."""
    return PROVED if facts.complete else REFUTED if facts.refuted else UNKNOWN


def input_results(
    session: Verification, facts: Facts, task: Inputs, effort: Effort, limits: Limits
) -> VerificationResult | VerificationResults:
    """The answers, one input after the other (or in several processes), then one kernel check of all of them."""
    known = [facts_of(session, facts, row, effort, limits) for row in task.rows]
    states = session.deployed.fixed_points(task.centres)
    found = _answers(session, known, task, states, effort, limits)
    first: dict[Facts, int] = {}
    filings: list[Filing] = []
    for each in dict.fromkeys(known):
        first[each] = len(filings)
        filings += [filing for _, filing in each.filings]
    places = []
    for outcome in found:
        places.append(len(filings))
        filings += [filing for _, filing in _filings(session, outcome)]
    checked = session.certify(filings) if filings else None
    results = []
    for i, (row, each, outcome) in enumerate(zip(task.rows, known, found, strict=True)):
        extra = _filings(session, outcome)
        own = [filing for _, filing in (*each.filings, *extra)]
        certified: Callable[[], Checked] | None = None
        if own and checked is not None:
            certified = cache(_later(session, own)) if task.batch else _now(checked)
        domain = NO_INPUT if row.box is None else box_json("input", row.box)
        shared = {**shared_fields(session, each, domain), "certified": certified}
        claims = dict(each.claims) if checked is None else _said(each, checked, first[each])
        if row.error:
            bad = {"input": ClaimResult("input", UNKNOWN, reason=row.error, remedy=ANOTHER_ROW)}
            results.append(VerificationResult(UNKNOWN, bad, **shared_fields(session, each, domain)))
            continue
        if each.enclosing is not None or each.anchor is not None:
            shared["enclosure"] = _tighter(_enclosed(session, outcome), _enclosure(each, domain, states[i]))
        said = [] if checked is None else [describe(c) for c in checked[1].claims[places[i] :][: len(extra)]]
        claims |= {name: ClaimResult(name, PROVED, text) for (name, _), text in zip(extra, said, strict=True) if name}
        words = said[0] if said else ""
        results.append(_result(session, each, row, outcome, claims, words, shared))
    return VerificationResults(results, checked) if task.batch else results[0]


def _later(session: Verification, filings: list[Filing]) -> Callable[[], Checked]:
    """One input's own certificate, made and checked when somebody asks for it."""
    return lambda: session.certify(filings)


def _now(checked: Checked) -> Callable[[], Checked]:
    return lambda: checked


def facts_of(session: Verification, facts: Facts, row: Row, effort: Effort, limits: Limits) -> Facts:
    """The facts over the whole domain; where they do not suffice, those over the input's own box if they say more."""
    if facts.complete or row.box is None or time.monotonic() > limits.deadline:
        return facts
    norms = session.depends_on(row.box)
    own = session.facts(replace(effort, deadline=limits.now(), norms=norms), row.box)
    return own if len(own.filings) > len(facts.filings) or own.complete or own.refuted else facts


def _answers(
    session: Verification, known: Sequence[Facts], task: Inputs, states: np.ndarray, effort: Effort, limits: Limits
) -> list[Found | None]:
    """What came of each row's answer; None where there was no ground to look for one."""
    found: list[Found | None] = [None] * len(task.rows)
    own = session.deployed.labels(states) if _has_answer(session) else None
    grounded = list(dict.fromkeys(f for f in known if f.convergence or f.anchor or f.settled))
    asked: dict[int, Question] = {}
    for i, (row, facts) in enumerate(zip(task.rows, known, strict=True)):
        if facts in grounded and not row.error:
            at = None if own is None else tuple(int(v) for v in own[i])
            domain = NO_INPUT if row.box is None else box_json("input", row.box)
            centre = (
                NO_INPUT if row.box is None else None if row.centre_box is None else box_json("input", row.centre_box)
            )
            wanted = None if at is None else row.wanted or at
            asked[i] = Question(grounded.index(facts), domain, centre, states[i], wanted, at, effort.branch)
    grounds = [Grounds(f.operator != "implicit", f.convergence, f.anchor, session.region, f.settled) for f in grounded]
    outcomes = search(
        session.problem, grounds, list(asked.values()), limits.timeout, limits.deadline, limits.workers,
        effort.progress,
    )  # fmt: skip
    for i, outcome in zip(asked, outcomes, strict=True):
        found[i] = outcome
    for i, (row, facts) in enumerate(zip(task.rows, known, strict=True)):
        if found[i] is None and not row.error:
            found[i] = _locally(session, facts, row, states[i], None if own is None else own[i], effort, limits)
    return found


def _locally(
    session: Verification, facts: Facts, row: Row, state: np.ndarray, own: np.ndarray | None, effort: Effort,
    limits: Limits,
) -> Found | None:  # fmt: skip
    """What holds near the state that the loop ends in, where nothing is known of all states."""
    if facts.operator == "implicit" or session.region != ALL_STATES:
        return None
    domain = NO_INPUT if row.box is None else box_json("input", row.box)
    local = local_facts(session, facts, domain, state, replace(effort, deadline=limits.now()))
    if local is None:
        return None
    proof = AnswerAttempt(None, reason=NO_GROUND)
    if own is not None:
        proof = answer_from_init(session, local, domain, row.wanted or tuple(int(v) for v in own), state)
    return Found(proof, local=local)


def _has_answer(session: Verification) -> bool:
    logits = session.deployed.logits_shape
    return logits is not None and logits[-1] >= 2


def _filings(session: Verification, found: Found | None) -> list[tuple[str, Filing]]:
    """The claim of an answer, or of what refutes it, first; then where the fixed points lie, and what holds locally.

    Each with the name under which it is reported beside the claims that were asked for, "" for none.
    """
    if found is None:
        return []
    filings: list[tuple[str, Filing]] = []
    if found.proof.derivation is not None:
        filings.append(("", _answered(session, found.proof.derivation)))
    elif found.refutation is not None and found.refutation.derivation is not None:
        filings.append(("", _refuted(session, found.refutation.derivation)))
        filings.append(("", _answered(session, Derivation(found.refutation.derivation.steps[:-1]))))
    if found.details is not None and found.details.enclosure is not None:
        enclosure = found.details.enclosure
        known = session.problem.conclude_as(enclosure, FixedPoints)
        fields = {"domain": enclosure.steps[-1]["domain"], "region": _states(known.region), "box": _states(known.box)}
        filings.append(("encloses_the", Filing(enclosure, "encloses_the", fields)))
    if found.local is not None:
        filings += [(name + LOCAL, filing) for name, filing in found.local.filings if name]
    return filings


def _states(box: Tensor) -> Json:
    return state_json(box) if box.bounded else ALL_STATES


def _answered(session: Verification, derivation: Derivation) -> Filing:
    last = derivation.steps[-1]
    if last["rule"] in ("answer_by_convergence", "answer_by_invariance"):
        fields = {name: last[name] for name in ("domain", "answer", "steps")}
        return Filing(derivation, "answer", {"operator": session.deployed.operator, **fields})
    answered = next(s for s in reversed(derivation.steps) if s["rule"] == "fixed_point_answer")
    domain = derivation.steps[answered["premises"][0]]["domain"]
    if last["rule"] == "fixed_point_answer":
        region = _states(session.problem.conclude_as(derivation, FixedPointAnswer).region)
        return Filing(derivation, "fixed_point_answer", {"domain": domain, "region": region, "answer": last["answer"]})
    fields = {"domain": domain, "answer": answered["answer"], "steps": last["steps"]}
    return Filing(derivation, "answer", {"operator": session.deployed.operator, **fields})


def _refuted(session: Verification, derivation: Derivation) -> Filing:
    """The refutation of an answer, at one input."""
    record = session.problem.conclude_as(derivation, Refuted)
    fields = refutation_json(
        replace(record, region=None if record.of == "answer" else session.problem.box(ALL_STATES)),
        derivation.steps[-1]["answer"], session.deployed.operator if record.of == "answer" else None,
    )  # fmt: skip
    return Filing(derivation, "refutation", fields)


def _details(session: Verification, found: Found | None) -> Details | None:
    attempt = None if found is None else found.details
    if attempt is None:
        return None
    width = None
    if attempt.enclosure is not None:
        box = session.problem.conclude_as(attempt.enclosure, FixedPoints).box
        width = float(np.mean([float(hi - lo) for lo, hi in map(box.fraction, range(box.size))]))
    refuted = found is not None and found.refutation is not None
    return Details(
        attempt.margin, "counterexample" if refuted else attempt.rule, width, attempt.unstable, attempt.nodes,
        attempt.seconds, attempt.kernel, attempt.limit,
    )  # fmt: skip


def _result(
    session: Verification, facts: Facts, row: Row, found: Found | None, claims: dict[str, ClaimResult], words: str,
    shared: dict[str, Any],
) -> VerificationResult:  # fmt: skip
    shared["details"] = _details(session, found)
    if session.deployed.logits_shape is None:
        return VerificationResult(_verdict(facts), claims, **shared)
    name = "fixed_point_answer" if facts.operator == "implicit" else "answer"
    if found is not None and found.proof.derivation is not None:
        claims[name] = ClaimResult(name, PROVED, statement=words)
        verdict = _verdict(facts)
        answer = row.wanted or _answer_of(found.proof.derivation)
        return VerificationResult(verdict, claims, answer=answer, answer_steps=found.proof.steps, **shared)
    if found is not None and found.refutation is not None and found.refutation.derivation is not None:
        steps = found.refutation.steps
        when = "at its fixed point" if steps is None else f"from step {steps} on"
        where = "the centre" if found.details is None else "an input of the box"
        reason = f"{where} answers {found.labels} {when}, not {_wanted(found.refutation.derivation)}"
        claims[name] = ClaimResult(name, REFUTED, statement=f"refuted by {words}", reason=reason)
        point = None if found.counterexample is None else found.counterexample.reshape(session.spec.input_shape or ())
        return VerificationResult(REFUTED, claims, counterexample=point, answer_steps=steps, **shared)
    claims[name] = _undecided(session, facts, row, name, None if found is None else found.proof)
    return VerificationResult(REFUTED if facts.refuted else UNKNOWN, claims, **shared)


def _answer_of(derivation: Derivation) -> tuple[int, ...]:
    return tuple(next(s["answer"] for s in reversed(derivation.steps) if "answer" in s))


def _wanted(derivation: Derivation) -> tuple[int, ...]:
    return tuple(derivation.steps[-1]["answer"])


def _undecided(session: Verification, facts: Facts, row: Row, name: str, attempt: AnswerAttempt | None) -> ClaimResult:
    """Why the answer is not proved, and what would help."""
    logits = session.deployed.logits_shape
    if logits is not None and logits[-1] < 2:
        reason, remedy = NO_COMPETITOR, "a readout with at least two classes"
    elif attempt is None:
        reason, remedy = NO_GROUND if facts.operator != "implicit" else NOT_ONE, ""
    elif "time" in attempt.reason or attempt.reason == INTERRUPTED:
        reason, remedy = attempt.reason, MORE_TIME
    else:
        reason, remedy = attempt.reason, WIDER_GAP if row.box is None or row.box.is_point else SMALLER_BALL
    return ClaimResult(name, UNKNOWN, reason=reason, remedy=remedy)


def _tighter(a: Enclosure | None, b: Enclosure | None) -> Enclosure | None:
    return b if a is None else a if b is None or a.radius.sum() < b.radius.sum() else b


def _enclosed(session: Verification, found: Found | None) -> Enclosure | None:
    """The box that the search over the fixed points proved."""
    if found is None or found.details is None or found.details.enclosure is None:
        return None
    box = session.problem.conclude_as(found.details.enclosure, FixedPoints).box
    ends = [box.fraction(i) for i in range(box.size)]
    centre = np.array([float((lo + hi) / 2) for lo, hi in ends])
    reach = [max(hi - Fraction(c), Fraction(c) - lo) for (lo, hi), c in zip(ends, centre.tolist(), strict=True)]
    return Enclosure(centre, np.array([up(v) for v in reach]))


def _enclosure(facts: Facts, domain: Json, state: np.ndarray) -> Enclosure | None:
    """Where the fixed points of the inputs lie: N(z* − c) ≤ N(T(c) − c)/(1 − ρ), once there is exactly one for each."""
    premise = facts.enclosing
    if premise is None:
        return None
    try:
        bound = residual_bound(facts.problem.graph, premise, facts.problem.box(domain), point(state))
    except CheckError:  # the state lies outside the region of the contraction
        return None
    return Enclosure(state, np.array([up(v) for v in premise.norm.spread(bound)]))
