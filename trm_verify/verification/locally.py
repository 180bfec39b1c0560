"""What holds near a fixed point, where nothing holds for all states: in a region that is named in every statement."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from trm_verify.encode import Json
from trm_verify.provers.answers import AnswerAttempt, prove_answer
from trm_verify.provers.fixed_points.neighbourhood import prove_entry, regions
from trm_verify.verification.facts import Facts
from trm_verify.verification.session import Effort, Verification, prove_facts

LOCAL_NORMS = ("linf", "l2")  # what takes milliseconds a region
LOCAL = " in a region that was found"


def local_facts(session: Verification, facts: Facts, domain: Json, state: np.ndarray, effort: Effort) -> Facts | None:
    """Contraction, exactly one fixed point and convergence in a box about a state; None where none was found."""
    quick = replace(effort, provers=LOCAL_NORMS, norm="auto", progress=None, thorough=False)
    for region in regions(session.problem, domain, state):
        if time.monotonic() > effort.deadline:
            return None
        found = prove_facts(session.problem, domain, region, facts.operator, lambda: state, quick)
        if found.complete:
            return found
    return None


def answer_from_init(
    session: Verification, local: Facts, domain: Json, answer: tuple[int, ...], state: np.ndarray
) -> AnswerAttempt:
    """The answer of the loop, once its first iterates have entered the region for good, or at once."""
    if local.convergence is not None:
        attempt = prove_answer(session.problem, local.convergence, domain, state, answer)
        if attempt.derivation is not None:
            return attempt
    invariant = next((filing.derivation for name, filing in local.filings if name == "invariant"), None)
    if invariant is None:
        return AnswerAttempt(None, reason="the region that was found holds a ball about the fixed point, but not init")
    done, steps = prove_entry(session.problem, invariant, domain, answer)
    if done is None:
        return AnswerAttempt(None, reason="the loop was not shown to enter the region from init, with margins inside")
    return AnswerAttempt(done, steps)
