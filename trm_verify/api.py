"""The public calls: `verify_fixed_point`, `audit`, `check`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate
from trm_verify.claims import Claim, expectation_of
from trm_verify.export import export
from trm_verify.inputs import Input, Inputs, Number
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import Expectation, describe, find
from trm_verify.models.base import ConfiguredModel
from trm_verify.outcomes import global_result, input_results
from trm_verify.result import VerificationResult, VerificationResults
from trm_verify.runs import RunResult, audit
from trm_verify.verification import Progress, Verification

__all__ = ["Checked", "RunResult", "audit", "check", "verify_fixed_point"]

MAX_WEIGHTS = 1 << 36


def verify_fixed_point(
    model: nn.Module,
    x: Input | None = None,
    *,
    eps: Number | None = None,
    answer: int | Sequence[int] | np.ndarray | torch.Tensor | None = None,
    domain: Box | None = None,
    region: Box | None = None,
    norm: str = "auto",
    provers: Sequence[str] | None = None,
    timeout: float | None = None,
    budget: float | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> VerificationResult | VerificationResults:
    """Prove what the model's recursion does: exactly one fixed point, convergence, and the answer that stays.

    Without `x`: exactly one fixed point and convergence of the model's iteration, for every input of the domain. With
    `x`: the same for that input (with `eps`: for every input of the ball), and the answer that no further step, and no
    input of the ball, can change.

    Args:
        model: see `trm_verify.model`; a plain module or function goes through `tv.recursive` first.
        x: one input of the model's `input_shape`, a batch of them (one more axis in front), or a `Box` of inputs.
        eps: ℓ∞ radius of the ball about x, cut to the model's domain. A float means its exact binary value; strings,
            Fractions and Decimals are exact.
        answer: the label to prove (per output position, per row of a batch); default the model's own at the centre.
        domain: further bounds on x.
        region: bounds on z; then contraction is proved there, with the region's invariance.
        norm: "auto" or one of linf, l2, parts, tokens, metric. provers: the strategies to try, by the same names.
        timeout: seconds an input. budget: seconds in all; inputs that are not reached are UNKNOWN.
        workers: processes that share the inputs of a batch.
        seed: of the searches (every search of this version is deterministic).
        progress: True for a bar on stderr, or a function of (done, total, what).

    Shape: x (*input_shape) gives a `VerificationResult`; x (batch, *input_shape) a `VerificationResults`.
    Norm: K(ε) and enclosures are in plain ℓ∞ coordinates; rates in the norm that the result names.

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: x, eps, answer, norm or model do not fit together.
    """
    if workers < 1:
        raise ValueError(f"expected workers >= 1, found {workers}")
    started = time.monotonic()
    deadline = started + (float("inf") if budget is None else budget)
    with _progress(progress) as report:
        session = Verification(model, domain, region)
        task = Inputs.of(session, x, eps, answer)
        session.prove_global(norm, provers, deadline, report)
        if task is None:
            return global_result(session)
        return input_results(session, task, timeout, deadline, workers, report)


@contextmanager
def _progress(progress: bool | Progress | None) -> Iterator[Progress | None]:
    """A bar on stderr for True; a callable as it is."""
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            tasks: dict[int, Any] = {}

            def show(done: int, total: int, what: str) -> None:
                if total not in tasks:
                    tasks[total] = bar.add_task(what, total=total)
                bar.update(tasks[total], completed=done, description=what)

            yield show


@dataclass(frozen=True)
class Checked:
    """An accepted certificate: the claims it proves, in words, and what was not compared with the caller's wishes."""

    claims: tuple[str, ...]
    graph_digest: str
    weights_digest: str
    unused: tuple[str, ...]
    not_compared: tuple[str, ...]


def check(
    certificate: str | os.PathLike[str] | Certificate,
    weights: str | os.PathLike[str] | bytes,
    *,
    expect: Claim | Expectation | str | Sequence[Claim | Expectation | str] | None = None,
    model: nn.Module | None = None,
) -> Checked:
    """Re-check a certificate with the kernel, against what the caller expects.

    Args:
        certificate: a path or a `Certificate`.
        weights: the safetensors file or its bytes.
        expect: claims that must be proved (`tv.claims`, or their text form).
        model: re-exported; its graph must be the certificate's.

    Raises:
        CheckError: the certificate is not valid, or proves something else.
        OSError: a file cannot be read.
    """
    raw = certificate.to_bytes() if isinstance(certificate, Certificate) else read_file(certificate, MAX_BYTES)
    valid = kernel_check(raw, weights if isinstance(weights, bytes) else read_file(weights, MAX_WEIGHTS))
    wanted = [] if expect is None else list(expect) if isinstance(expect, (list, tuple)) else [expect]
    missing = [] if model is not None else ["graph"]
    if model is not None:
        exported = export(model.bake() if isinstance(model, ConfiguredModel) else model)
        if exported.digest != valid.graph.digest:
            raise CheckError("EXPECTED", f"the graph of the given model, {exported.digest}", valid.graph.digest)
    for item in wanted:
        expectation = expectation_of(item)  # type: ignore[arg-type]
        find(valid, expectation)
        missing += [f"{expectation.claim}.{name}" for name in expectation.not_compared]
    if not wanted:
        missing.insert(0, "claim")
    return Checked(
        tuple(describe(c) for c in valid.claims), valid.graph.digest, valid.weights_digest, valid.unused, tuple(missing)
    )
