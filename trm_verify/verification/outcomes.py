"""From what was proved to what the caller gets: results for the model, or for each input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from trm_verify.box import exact_number
from trm_verify.certificate import Filing
from trm_verify.encode import Json, box_json
from trm_verify.kernel.claims import Contraction, Convergence
from trm_verify.kernel.expect import describe
from trm_verify.kernel.tensor import from_fractions
from trm_verify.provers.answers import AnswerAttempt
from trm_verify.provers.problem import ALL_STATES, NO_INPUT
from trm_verify.result import (
    PROVED,
    REFUTED,
    UNKNOWN,
    Checked,
    ClaimResult,
    Trial,
    Verdict,
    VerificationResult,
    VerificationResults,
)
from trm_verify.verification.batch import Batch, Limits, Named
from trm_verify.verification.decide import NO_GROUND, Grounds, Question
from trm_verify.verification.facts import Facts, steps_to
from trm_verify.verification.findings import Finding, Record, answered_filing
from trm_verify.verification.inputs import Inputs, Row
from trm_verify.verification.locally import LOCAL, answer_from_init, local_facts
from trm_verify.verification.rounding import up
from trm_verify.verification.search import INTERRUPTED, LOST
from trm_verify.verification.session import Effort, Verification

NOT_ONE = "exactly one fixed point was not proved"
ANOTHER_ROW = "an input of the model's shape and domain, without NaN, in that row"
NO_COMPETITOR = "the readout has one class only, and an answer needs a competitor"
MORE_TIME = "a larger timeout= or budget="
MORE_MEMORY = "more memory for each worker (fewer workers=), a smaller eps, or a smaller timeout="
NO_BOUND = (
    "of inner damping the kernel does not follow the iterates; pass initial_error=, a bound on |z_0 - z*| (for an "
    "input x, result.enclosure says where z* lies)"
)
TOGETHER = 4096  # inputs whose states are looked for at a time
SMALLER_BALL = "a smaller eps, or a model whose logits are further apart"
WIDER_GAP = "a model whose logits are further apart at its fixed point (more training), or norm= another one"


def shared_fields(session: Verification, facts: Facts, domain: Json) -> dict[str, Any]:
    """What the results that rest on the same facts share."""
    known: Contraction | Convergence | None = facts.converging or facts.contracting or facts.reached
    return {
        "graph_digest": session.problem.graph.digest,
        "weights_digest": session.problem.graph.weights.sha256,
        "trials": tuple(
            Trial(a.prover, a.norm, None if a.rate is None else up(a.rate), a.seconds, a.reason or "proved")
            for a in facts.attempts
        ),
        "rate": None if known is None else up(known.rate),
        "norm": None if known is None else known.norm.family,
        "convergence_steps": _steps_function(facts, domain) if facts.reaching or facts.settled else None,
    }


def _steps_function(facts: Facts, domain: Json) -> Callable[[Any, Any], int]:
    settled = facts.settling
    if settled is not None:
        return lambda epsilon, initial_error: settled.steps  # exactly, whatever ε and wherever it starts

    def steps(epsilon: Any, initial_error: Any) -> int:
        concluded = facts.reached
        if concluded is None:
            raise ValueError("expected a proved rate of convergence, found none")
        if initial_error is None:
            bounded = facts.bounded(domain)
            initial = None if bounded is None else bounded.initial
            if initial is None:
                raise ValueError(
                    f"expected a bound on the initial error, found none: {NO_BOUND}"
                    if concluded.operator.kind == "inner_damped"
                    else "expected a bound on the initial error, found none: give the model domain=tv.Box(lo, hi), ask "
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
    """The answers, here or by several workers; nothing is said of an input before the kernel has accepted it."""
    known = [facts_of(session, facts, row, effort, limits) for row in task.rows]
    states = _states(session, task)
    domains = [NO_INPUT if row.box is None else box_json("input", row.box) for row in task.rows]
    asked, grounds = _questions(session, known, task, domains, states, effort)
    batch = Batch(session, grounds, dict(asked), limits, effort.progress)
    own = session.deployed.labels(states) if _has_answer(session) else None

    def rest() -> dict[int, Named]:
        """The rows that no question is asked of."""
        found = {
            i: _locally(session, each, row, states[i], None if own is None else own[i], effort, limits)
            for i, (row, each) in enumerate(zip(task.rows, known, strict=True))
            if i not in batch.questions and not row.error
        }
        return {i: named for i, named in found.items() if named is not None}

    common = [filing for each in dict.fromkeys(known) for _, filing in each.filings]
    answered = batch.run(common, rest)
    said: dict[Facts, dict[str, ClaimResult]] = {}
    count = 0
    for each in dict.fromkeys(known):
        said[each] = dict(each.claims) if answered.facts is None else _said(each, answered.facts, count)
        count += len(each.filings)
    results, filings = [], list(common)
    for i, (row, each) in enumerate(zip(task.rows, known, strict=True)):
        names, finding = answered.rows.get(i, ([], None))
        extra = () if finding is None else finding.record.filings
        filings += extra
        shared = shared_fields(session, each, domains[i])
        if row.error:
            bad = {"input": ClaimResult("input", UNKNOWN, reason=row.error, remedy=ANOTHER_ROW)}
            results.append(VerificationResult(UNKNOWN, bad, **shared))
            continue
        mine = [*(filing for _, filing in each.filings), *extra]
        if mine:
            now = None if task.batch else answered.whole
            shared["certified"] = cache(_later(session, mine)) if now is None else _now(now)
        claims = dict(said[each])
        if finding is not None:
            shared |= {"enclosure": finding.enclosure, "details": finding.details}
            named = zip(names, finding.statements, strict=True)
            claims |= {name: ClaimResult(name, PROVED, text) for name, text in named if name}
        results.append(_result(session, each, row, finding, claims, shared))
    if not task.batch:
        return results[0]
    certified = cache(_later(session, filings)) if answered.whole is None else _now(answered.whole)
    return VerificationResults(results, certified if filings else None)


def _later(session: Verification, filings: list[Filing]) -> Callable[[], Checked]:
    """A certificate that is made, and checked, when somebody asks for it."""
    return lambda: session.certify(filings)


def _now(checked: Checked) -> Callable[[], Checked]:
    return lambda: checked


def _states(session: Verification, task: Inputs) -> np.ndarray:
    """Likely fixed points of all rows, a few at a time. Shape: (rows, n)."""
    centres = task.centres
    parts = [None] if centres is None else [centres[i : i + TOGETHER] for i in range(0, len(centres), TOGETHER)]
    return np.concatenate([session.deployed.fixed_points(part) for part in parts])


def facts_of(session: Verification, facts: Facts, row: Row, effort: Effort, limits: Limits) -> Facts:
    """The facts over the whole domain; where they do not suffice, those over the input's own box if they say more."""
    if facts.complete or row.box is None or time.monotonic() > limits.deadline:
        return facts
    deadline = limits.now()
    norms = session.depends_on(row.box, deadline)
    own = session.facts(replace(effort, deadline=deadline, norms=norms), row.box)
    return own if len(own.filings) > len(facts.filings) or own.complete or own.refuted else facts


def _questions(
    session: Verification,
    known: Sequence[Facts],
    task: Inputs,
    domains: Sequence[Json],
    states: np.ndarray,
    effort: Effort,
) -> tuple[list[tuple[int, Question]], list[Grounds]]:
    """The question of each row for which there is a ground to look for an answer, and the grounds."""
    own = session.deployed.labels(states) if _has_answer(session) else None
    grounded = list(dict.fromkeys(f for f in known if f.convergence or f.anchor or f.settled))
    place = {facts: i for i, facts in enumerate(grounded)}
    asked: list[tuple[int, Question]] = []
    for i, (row, facts) in enumerate(zip(task.rows, known, strict=True)):
        if facts in place and not row.error:
            at = None if own is None else tuple(int(v) for v in own[i])
            domain, centre = domains[i], None
            if row.box is None or row.box.is_point:
                centre = domain
            elif row.centre_box is not None:
                centre = box_json("input", row.centre_box)
            wanted = None if at is None else row.wanted or at
            asked.append((i, Question(place[facts], domain, centre, states[i], wanted, at, effort.branch)))
    return asked, [Grounds(f.operator, f.convergence, f.anchor, f.region, f.settled, f.enclosing) for f in grounded]


def _locally(
    session: Verification, facts: Facts, row: Row, state: np.ndarray, own: np.ndarray | None, effort: Effort,
    limits: Limits,
) -> Named | None:  # fmt: skip
    """What holds near the state that the loop ends in, where nothing is known of all states: names, and claims."""
    if facts.operator == "implicit" or not (facts.region == ALL_STATES or session.finds_region):
        return None
    domain = NO_INPUT if row.box is None else box_json("input", row.box)
    local = local_facts(session, facts, domain, state, replace(effort, deadline=limits.now()))
    if local is None:
        return None
    proof = AnswerAttempt(None, reason=NO_GROUND)
    answer = row.wanted or (() if own is None else tuple(int(v) for v in own))
    if own is not None:
        proof = answer_from_init(session, local, domain, answer, state)
    named = [(name + LOCAL, filing) for name, filing in local.filings if name]
    if proof.derivation is None:
        record = Record(tuple(filing for _, filing in named), proof.reason)
        return [name for name, _ in named], Finding(UNKNOWN, record)
    first = answered_filing(session.problem, facts.operator, proof.derivation)
    record = Record((first, *(filing for _, filing in named)))
    return ["", *(name for name, _ in named)], Finding(PROVED, record, answer=answer, steps=proof.steps)


def _has_answer(session: Verification) -> bool:
    logits = session.deployed.logits_shape
    return logits is not None and logits[-1] >= 2


def _result(
    session: Verification, facts: Facts, row: Row, finding: Finding | None, claims: dict[str, ClaimResult],
    shared: dict[str, Any],
) -> VerificationResult:  # fmt: skip
    if session.deployed.logits_shape is None:
        return VerificationResult(_verdict(facts), claims, **shared)
    name = "fixed_point_answer" if facts.operator == "implicit" else "answer"
    if finding is not None and finding.verdict is PROVED:
        claims[name] = ClaimResult(name, PROVED, statement=finding.statements[0])
        verdict = _verdict(facts)
        return VerificationResult(verdict, claims, answer=finding.answer, answer_steps=finding.steps, **shared)
    if finding is not None and finding.verdict is REFUTED and finding.counterexample is not None:
        steps = finding.steps
        when = "at its fixed point" if steps is None else f"from step {steps} on"
        where = "the centre" if finding.details is None else "an input of the box"
        reason = f"{where} answers {finding.answer} {when}, not {finding.refused}"
        claims[name] = ClaimResult(name, REFUTED, statement=f"refuted by {finding.statements[0]}", reason=reason)
        point = finding.counterexample.reshape(session.spec.input_shape or ())
        return VerificationResult(REFUTED, claims, counterexample=point, answer_steps=steps, **shared)
    claims[name] = _undecided(session, facts, row, name, None if finding is None else finding.reason)
    return VerificationResult(REFUTED if facts.refuted else UNKNOWN, claims, **shared)


def _undecided(session: Verification, facts: Facts, row: Row, name: str, found: str | None) -> ClaimResult:
    """Why the answer is not proved, and what would help."""
    logits = session.deployed.logits_shape
    if logits is not None and logits[-1] < 2:
        reason, remedy = NO_COMPETITOR, "a readout with at least two classes"
    elif found is None:
        reason, remedy = NO_GROUND if facts.operator != "implicit" else NOT_ONE, ""
    elif found.startswith(LOST[:40]):
        reason, remedy = found, MORE_MEMORY
    elif "time" in found or found == INTERRUPTED:
        reason, remedy = found, MORE_TIME
    else:
        reason, remedy = found, WIDER_GAP if row.box is None or row.box.is_point else SMALLER_BALL
    return ClaimResult(name, UNKNOWN, reason=reason, remedy=remedy)
