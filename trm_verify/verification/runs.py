"""Run certificates: the audit of one inference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from torch import nn

from trm_verify.certificate import Certificate, Derivation, Filing
from trm_verify.display import Plotted
from trm_verify.encode import Json, block_json, box_json, dyadic, fractions, integers, round_up
from trm_verify.kernel.claims import Run
from trm_verify.kernel.norms import coordinate_scale
from trm_verify.provers.answers import NotFinal, prove_run
from trm_verify.provers.problem import NO_INPUT
from trm_verify.provers.settled import prove_settled_run
from trm_verify.verification.batch import Limits
from trm_verify.verification.facts import Facts
from trm_verify.verification.inputs import Input, Inputs
from trm_verify.verification.outcomes import facts_of, global_result
from trm_verify.verification.rounding import up
from trm_verify.verification.session import Effort, Region, Verification

STEPS = 30  # of a run, unless asked for otherwise


@dataclass(frozen=True, eq=False)
class RunResult(Plotted):
    """The audit of one inference.

    Attributes:
        states: the trace z_0 … z_N as it was computed. Shape: (N + 1, n).
        residuals: |z_{k+1} − z_k|_∞ along the trace. Shape: (N,).
        distances: certified bounds on |z_k − z*|_∞, rounded up. Shape: (N + 1,).
        drifts: certified bounds on how far each stored state is from the exact step of the one before.
        answers: the arg-max at each state, None where it is not strict.
        final: the step from which the answer can no longer change.
        rate: of the contraction in `norm`; None for a loop that is proved by its end alone, in plain ℓ∞.
        settles: steps after which the loop is exactly at rest, where that is proved.
        radius: certified distance of the last state from the fixed point, in plain ℓ∞.
        answer: the final answer, per output position.
    """

    states: np.ndarray
    residuals: np.ndarray
    distances: np.ndarray
    drifts: np.ndarray
    answers: tuple[tuple[int, ...] | None, ...]
    final: int
    radius: float
    answer: tuple[int, ...]
    rate: float | None
    norm: str
    settles: int | None
    certificate: Certificate


def audit(
    model: nn.Module, x: Input | None = None, *, steps: int | None = None, norm: str = "auto",
    region: Region | None = None,
) -> RunResult:  # fmt: skip
    """Audit one inference: how far each step is from the fixed point, what it answers, and from where on that is final.

    The trace is the model's own, in its own floating point; its stored states are exact numbers, and the certificate
    speaks about those and about the real iterates that start from them.

    Args:
        steps: how many; by default 30, or more where a loop that settles exactly takes more.
        norm: in which convergence is looked for, see `verify_fixed_point`.
        region: bounds on z, or "invariant", see `verify_fixed_point`. It must hold the states of the run.

    Shape: x (*input_shape).

    Raises:
        ValueError: x does not fit, the model has no readout or names no iteration, or its convergence was not proved.
        CheckError: the answer at the last state was not shown to be final; its `remedy` says what may help.
    """
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"expected steps >= 1, found {steps!r}")
    session = Verification(model, None, region)
    if session.deployed.logits_shape is None:
        raise ValueError("expected a model with a readout(z), found none: there is no answer to audit")
    if session.deployed.operator == "implicit":
        raise ValueError(
            'expected a model that says how it is iterated, found iteration="implicit": there is no run to audit; '
            "verify_fixed_point speaks of its fixed point, or set iteration=tv.Damped(…) to audit that loop"
        )
    task = Inputs.of(session, x, None, None)
    if task is None or task.batch:
        given = "a batch" if task else "none"
        raise ValueError(f"expected one input of shape {session.spec.input_shape}, found {given}")
    box = task.rows[0].box
    if box is not None and not (box.is_point and box.is_dyadic):
        raise ValueError("expected one input of binary fractions (an array or tensor of floats), found another")
    facts = facts_of(session, session.facts(Effort(norm)), task.rows[0], Effort(norm), Limits())
    if facts.convergence is None and facts.settled is None:
        why = global_result(session, facts).explain()
        raise ValueError(f"expected a model whose convergence can be proved, found:\n{why}")
    settles = None if facts.settling is None else facts.settling.steps
    states = session.deployed.trace(task.centres, steps or max(STEPS, settles or 0))
    if not np.isfinite(states).all():
        bad = int(np.flatnonzero(~np.isfinite(states).all(axis=1))[0])
        advice = "run the model in a wider type" if bad else "that is init(x), which does not exist in floats"
        raise ValueError(f"expected a finite trace, found NaN or an infinity in state {bad}; {advice}")
    domain = NO_INPUT if box is None else box_json("input", box)
    answers = [[int(v) for v in row] for row in session.deployed.labels(states)]
    derivation, run = _prove(facts, domain, states, answers)
    certificate, _ = session.certify([*(f for _, f in facts.filings), run_filing(derivation, run, facts)])
    by_rate = derivation.steps[-1]["rule"] == "run"
    scale = coordinate_scale(run.norm)
    return RunResult(
        states=states,
        residuals=np.abs(np.diff(states, axis=0)).max(axis=1),
        distances=np.array([up(d * scale) for d in run.distances]),
        drifts=np.array([up(d) for d in run.drifts]),
        answers=run.answers,
        final=run.final,
        radius=up(run.radius * scale),
        answer=run.answer,
        rate=up(facts.converging.rate) if by_rate and facts.converging is not None else None,
        norm=run.norm.family,
        settles=settles,
        certificate=certificate,
    )


def _prove(
    facts: Facts, domain: Json, states: np.ndarray, answers: Sequence[Sequence[int] | None]
) -> tuple[Derivation, Run]:
    """By where the loop settles, if it does: distances are exact then. Else, or if that is too little, by its rate."""
    if facts.settled is None:
        assert facts.convergence is not None
        return prove_run(facts.problem, facts.convergence, domain, states, answers)
    try:
        return prove_settled_run(facts.problem, facts.settled, domain, states, answers)
    except NotFinal:
        if facts.convergence is not None:
            with suppress(NotFinal):
                return prove_run(facts.problem, facts.convergence, domain, states, answers)
        raise


def run_filing(derivation: Derivation, run: Run, facts: Facts) -> Filing:
    """The run's claim, its bounds rounded up to binary fractions."""
    last = derivation.steps[-1]
    size = facts.problem.graph.size
    states = last["states"]
    ints = [int(v, 16) for v in states["int"].split()][-size:]
    own = next((f.fields.get("norm") for name, f in facts.filings if name == "convergence"), None)
    norm = block_json(run.norm, size) if last["rule"] == "settled_run" else own
    return Filing(derivation, "run", {
        "operator": facts.operator, "domain": last["domain"], "norm": norm, "state": integers(ints, states["exp"]),
        "radius": dyadic(round_up(run.radius)), "answer": list(run.answer), "final": run.final,
        "drifts": fractions([round_up(d) for d in run.drifts]),
        "distances": fractions([round_up(d) for d in run.distances]),
        "answers": [None if a is None else list(a) for a in run.answers],
    })  # fmt: skip
