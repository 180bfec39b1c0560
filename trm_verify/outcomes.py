"""From a verification to what the caller gets: results for the model, or for each input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from trm_verify.box import Box, exact_number
from trm_verify.certificate import Certificate, CertificateBuilder
from trm_verify.inputs import Inputs
from trm_verify.kernel.check import Valid
from trm_verify.kernel.claims import Contraction, Convergence
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.kernel.tensor import from_fractions
from trm_verify.provers.answers import AnswerAttempt, point
from trm_verify.result import (
    PROVED,
    REFUTED,
    UNKNOWN,
    ClaimResult,
    Enclosure,
    Trial,
    VerificationResult,
    VerificationResults,
)  # fmt: skip
from trm_verify.search import Call, Found, search
from trm_verify.verification import Progress, Verification, box_json, steps_to

NOT_YET = "answers at the fixed points of implicit models are not proved by this version"


def _trials(session: Verification) -> tuple[Trial, ...]:
    return tuple(
        Trial(a.prover, a.norm, None if a.rate is None else up(a.rate), a.seconds, a.reason or "proved")
        for a in session.attempts
    )


def up(value: Fraction) -> float:
    """A double ≥ value."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else float(np.nextafter(nearest, np.inf))


def common_fields(session: Verification) -> dict[str, Any]:
    """What every result of a session shares."""
    found: dict[str, Any] = {
        "graph_digest": session.problem.graph.digest, "weights_digest": session.problem.graph.weights.sha256,
        "trials": _trials(session),
    }  # fmt: skip
    known: Contraction | Convergence | None = session.converging
    if known is None and session.contraction is not None:
        known = session.problem.conclude_as(session.contraction, Contraction)
    if known is not None:
        found |= {"rate": up(known.rate), "norm": known.norm.family}
    found["convergence_steps"] = None if session.converging is None else _steps_function(session, session.converging)
    return found


def _steps_function(session: Verification, concluded: Convergence) -> Callable[[Any, Any], int]:
    def steps(epsilon: Any, initial_error: Any) -> int:
        if initial_error is None:
            bounded = session.initial_bound()
            initial = bounded.initial if bounded is not None else None
            if initial is None:
                raise ValueError(
                    "expected a bounded domain (give the model domain=tv.Box(lo, hi)) or initial_error=, found neither"
                )
        else:
            error = exact_number(initial_error, "initial_error")
            if error < 0:
                raise ValueError(f"expected initial_error >= 0, found {initial_error!r}")
            size = session.spec.state_size
            initial = concluded.norm.bound(from_fractions([(-error, error)] * size))
        target = exact_number(epsilon, "epsilon")
        if target <= 0:
            raise ValueError(f"expected epsilon > 0, found {epsilon!r}")
        found = steps_to(concluded, target, initial)
        if found is None:
            raise ValueError(f"more than 10**12 steps are needed to reach {epsilon}")
        return found

    return steps


def _stated(claims: dict[str, ClaimResult], valid: Valid) -> dict[str, ClaimResult]:
    """Proved claims with the kernel's own words for them."""
    words: dict[str, str] = {}
    for claim in valid.claims:
        text = describe(claim)
        words.setdefault(text.split("(")[0], text)
    return {n: replace(c, statement=words.get(n.split()[0], "")) if c else c for n, c in claims.items()}


def _required(session: Verification) -> list[str]:
    return ["exactly_one"] if session.operator == "implicit" else ["exactly_one", "convergence"]


def global_result(session: Verification) -> VerificationResult:
    claims = dict(session.claims)
    if session.builder.empty:
        return VerificationResult(UNKNOWN, claims, **common_fields(session))
    certificate, valid = session.certify()
    verdict = PROVED if all(claims[name] for name in _required(session)) else UNKNOWN
    return VerificationResult(verdict, _stated(claims, valid), certified=lambda: certificate, **common_fields(session))


def input_results(
    session: Verification, task: Inputs, timeout: float | None, deadline: float, workers: int, report: Progress | None
) -> VerificationResult | VerificationResults:
    """The answers, one input after the other (or in several processes), then one kernel check of all of them."""
    session.claims.pop("answer", None)
    provable = session.convergence is not None and session.has_readout
    states = session.fixed_points(task.centres) if session.convergence is not None else None
    own = session.labels(states) if provable and states is not None else None
    jobs = []
    for row, box in enumerate(task.boxes):
        labels = None if own is None else tuple(int(v) for v in own[row])
        jobs.append((row, box, task.wanted[row] or labels, labels))
    attempts: list[Found] = [(None, None)] * len(jobs)
    if provable and states is not None and session.convergence is not None:
        calls: list[Call] = []
        for row, box, wanted, labels in jobs:
            centre_box = box_json("input", Box.point(task.centres[row].numpy()))
            calls.append((box_json("input", box), centre_box, states[row], wanted or (), labels or ()))
        attempts = list(search(session.problem, session.convergence, calls, timeout, deadline, workers, report))

    def extra(builder: CertificateBuilder, rows: Sequence[int]) -> None:
        for row in rows:
            for attempt in attempts[row]:
                if attempt is not None and attempt.derivation is not None:
                    last = attempt.derivation.steps[-1]
                    builder.claim(
                        builder.add(attempt.derivation), "answer", operator=session.operator, domain=last["domain"],
                        answer=last["answer"], steps=last["steps"],
                    )  # fmt: skip

    common = common_fields(session)
    if session.builder.empty:
        results = [VerificationResult(UNKNOWN, dict(session.claims), **common) for _ in jobs]
        return VerificationResults(results, None) if task.batch else results[0]
    joint, valid = session.certify(lambda builder: extra(builder, range(len(jobs))))
    stated = _stated(session.claims, valid)
    results = []
    for row, box, wanted, _ in jobs:
        certified = cache(_later(session, extra, row)) if task.batch else (lambda: joint)
        results.append(
            _one_result(session, stated, attempts[row], wanted, box, None if states is None else states[row],
                        task.centres[row].numpy(), {**common, "certified": certified})
        )  # fmt: skip
    return VerificationResults(results, lambda: joint) if task.batch else results[0]


def _later(session: Verification, extra: Callable[..., None], row: int) -> Callable[[], Certificate]:
    """One input's own certificate, made and checked when somebody asks for it."""
    return lambda: session.certify(lambda builder: extra(builder, [row]))[0]


def _one_result(
    session: Verification, stated: dict[str, ClaimResult], attempts: tuple[AnswerAttempt | None, AnswerAttempt | None],
    wanted: tuple[int, ...] | None, box: Box, state: np.ndarray | None, centre: np.ndarray, common: dict[str, Any],
) -> VerificationResult:  # fmt: skip
    claims, attempt, refuting = dict(stated), *attempts
    enclosure = None if state is None else _enclosure(session, box, state)
    if session.has_readout:
        name = "answer" if session.operator != "implicit" else "fixed_point_answer"
        if attempt is not None and attempt.derivation is not None:
            text = f"answer {wanted} from step {attempt.steps} on, for every input of the domain"
            claims[name] = ClaimResult(name, PROVED, statement=text)
        elif refuting is not None and refuting.derivation is not None:
            found = tuple(refuting.derivation.steps[-1]["answer"])
            reason = f"the centre answers {found} from step {refuting.steps} on, not {wanted}"
            claims[name] = ClaimResult(name, REFUTED, reason=reason)
            return VerificationResult(
                REFUTED, claims, enclosure=enclosure, counterexample=centre, answer_steps=refuting.steps, **common
            )
        else:
            reason = attempt.reason if attempt is not None else "convergence of the iteration was not proved"
            claims[name] = ClaimResult(name, UNKNOWN, reason=NOT_YET if session.operator == "implicit" else reason)
    required = _required(session) + ([name] if session.has_readout else [])
    verdict = PROVED if all(claims[n] for n in required) else UNKNOWN
    proved = attempt is not None and attempt.derivation is not None
    return VerificationResult(
        verdict, claims, enclosure=enclosure, answer=wanted if proved else None,
        answer_steps=attempt.steps if attempt is not None and proved else None, **common,
    )  # fmt: skip


def _enclosure(session: Verification, box: Box, state: np.ndarray) -> Enclosure | None:
    """Where the fixed points of the box of inputs lie: N(z* − c) ≤ N(T(c) − c)/(1 − ρ)."""
    concluded = session.converging
    if concluded is None:
        return None
    try:
        bound = residual_bound(
            session.problem.graph, concluded, session.problem.box(box_json("input", box)), point(state)
        )
    except CheckError:
        return None
    return Enclosure(state, np.array([up(v) for v in concluded.norm.spread(bound)]))
