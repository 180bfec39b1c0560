"""Run certificates: the audit of one inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate, CertificateBuilder, Derivation
from trm_verify.encode import dyadic, fractions, integers, round_up
from trm_verify.inputs import Inputs
from trm_verify.kernel.claims import Run
from trm_verify.kernel.norms import coordinate_scale
from trm_verify.outcomes import common_fields, global_result, up
from trm_verify.provers.answers import prove_run
from trm_verify.provers.problem import NO_INPUT
from trm_verify.verification import Verification, box_json


@dataclass(frozen=True, eq=False)
class RunResult:
    """The audit of one inference.

    Attributes:
        states: the trace z_0 … z_N as it was computed. Shape: (N + 1, n).
        residuals: |z_{k+1} − z_k|_∞ along the trace. Shape: (N,).
        distances: certified bounds on |z_k − z*|_∞, rounded up. Shape: (N + 1,).
        drifts: certified bounds on how far each stored state is from the exact step of the one before.
        answers: the arg-max at each state, None where it is not strict.
        final: the step from which the answer can no longer change.
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
    rate: float
    norm: str
    certificate: Certificate


def audit(
    model: nn.Module, x: torch.Tensor | np.ndarray | None = None, *, steps: int = 30, norm: str = "auto",
    region: Box | None = None,
) -> RunResult:  # fmt: skip
    """Audit one inference: how far each step is from the fixed point, what it answers, and from where on that is final.

    The trace is the model's own, in its own floating point; its stored states are exact numbers, and the certificate
    speaks about those and about the real iterates that start from them.

    Shape: x (*input_shape).

    Raises:
        ValueError: x does not fit, the model has no readout, or its convergence was not proved.
        CheckError: the answer at the last state is not final (run more steps).
    """
    if steps < 1:
        raise ValueError(f"expected steps >= 1, found {steps}")
    session = Verification(model, None, region)
    if not session.has_readout:
        raise ValueError("expected a model with a readout(z), found none: there is no answer to audit")
    if (x is None) != (session.spec.input_shape is None):
        raise ValueError(f"expected an input of shape {session.spec.input_shape}, found {x if x is None else 'one'}")
    if x is not None:
        task = Inputs.of(session, x, None, None)
        if task is None or task.batch:
            raise ValueError(f"expected one input of shape {session.spec.input_shape}, found a batch")
    session.prove_global(norm, None, float("inf"), None)
    if session.convergence is None:
        raise ValueError(
            f"expected a model whose convergence can be proved, found:\n{global_result(session).explain()}"
        )
    states = session.trace(None if x is None else torch.as_tensor(x), steps)
    labels = session.labels(states)
    domain = NO_INPUT if x is None else box_json("input", Box.point(x))
    found: Sequence[Sequence[int]] = [[int(v) for v in row] for row in labels]
    derivation, run = prove_run(session.problem, session.convergence, domain, states, found)
    certificate, _ = session.certify(lambda builder: claim_run(builder, derivation, run, session))
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
        rate=common_fields(session)["rate"],
        norm=run.norm.family,
        certificate=certificate,
    )


def claim_run(builder: CertificateBuilder, derivation: Derivation, run: Run, session: Verification) -> None:
    """File the run's claim, its bounds rounded up to binary fractions."""
    last = derivation.steps[-1]
    contraction = session.contraction
    if contraction is None:
        raise ValueError("expected a contraction")
    norm = next(s["norm"] for s in contraction.steps if "norm" in s)
    states = last["states"]
    ints = [int(v, 16) for v in states["int"].split()][-session.spec.state_size :]
    builder.claim(
        builder.add(derivation), "run", operator=session.operator, domain=last["domain"], norm=norm,
        state=integers(ints, states["exp"]), radius=dyadic(round_up(run.radius)), answer=list(run.answer),
        final=run.final,
        drifts=fractions([round_up(d) for d in run.drifts]), distances=fractions([round_up(d) for d in run.distances]),
        answers=[None if a is None else list(a) for a in run.answers],
    )  # fmt: skip
