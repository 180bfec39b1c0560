"""The public calls: `verify_fixed_point`, `verify_lipschitz`, `verify_commit`, `audit`, `check`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack, overload

from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate
from trm_verify.claims import Claim, Labels, expectation_of
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import Expectation, describe, find
from trm_verify.result import VerificationResult, VerificationResults
from trm_verify.verification.batch import Limits
from trm_verify.verification.commits import CommitResult, verify_commit
from trm_verify.verification.deployed import Deployed
from trm_verify.verification.executors import EXECUTORS, Executor, executor_named
from trm_verify.verification.inputs import Input, Inputs, Number
from trm_verify.verification.lipschitz import LipschitzResult, verify_lipschitz
from trm_verify.verification.outcomes import global_result, input_results
from trm_verify.verification.runs import RunResult, audit
from trm_verify.verification.session import Effort, Progress, Region, Verification

__all__ = [
    "Checked",
    "CommitResult",
    "LipschitzResult",
    "RunResult",
    "audit",
    "check",
    "verify_commit",
    "verify_fixed_point",
    "verify_lipschitz",
]

MAX_WEIGHTS = 1 << 36
ANSWERING, BALLS = ["trm_verify.verification.answering"], ["trm_verify.provers.fixed_points.search"]
"""What worker processes import while they wait for their job: always, and where inputs are balls."""


class Options(TypedDict, total=False):
    """The keyword arguments of `verify_fixed_point`, for its overloads."""

    eps: Number | None
    answer: Labels | None
    domain: Box | None
    region: Region | None
    norm: str
    provers: Sequence[str] | None
    timeout: float | None
    budget: float | None
    workers: int | str | None
    executor: str | Executor
    ledger: str | os.PathLike[str] | None
    seed: int
    progress: bool | Progress | None


# A type checker cannot see whether an array holds one input or a batch; without x, or for a box, there is one result.
@overload
def verify_fixed_point(
    model: nn.Module | Deployed, x: Box | None = None, **options: Unpack[Options]
) -> VerificationResult: ...  # fmt: skip
@overload
def verify_fixed_point(
    model: nn.Module | Deployed, x: Input, **options: Unpack[Options]
) -> VerificationResult | VerificationResults: ...
def verify_fixed_point(
    model: nn.Module | Deployed,
    x: Input | None = None,
    *,
    eps: Number | None = None,
    answer: Labels | None = None,
    domain: Box | None = None,
    region: Region | None = None,
    norm: str = "auto",
    provers: Sequence[str] | None = None,
    timeout: float | None = None,
    budget: float | None = None,
    workers: int | str | None = None,
    executor: str | Executor = "process",
    ledger: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> VerificationResult | VerificationResults:
    """Prove what the model's recursion does: exactly one fixed point, convergence, and the answer that stays.

    Without `x`: exactly one fixed point and convergence of the model's iteration, for every input of the domain. With
    `x`: the same for that input (with `eps`: for every input of the ball), and the answer that no further step, and no
    input of the ball, can change. A model without input is its own single input.

    Args:
        model: see `trm_verify.model`; a plain module or function goes through `tv.recursive` first. What `Deployed.of`
            made of it serves as well.
        x: one input of the model's `input_shape`, a batch of them (one more axis in front), or a `Box` of inputs.
            Points must lie in the domain; a box is cut to it.
        eps: ℓ∞ radius of the ball about x, cut to the model's domain. A float means its exact binary value; strings,
            Fractions and Decimals are exact. Not for integer inputs.
        answer: the label to prove (per output position, per row of a batch); default the model's own at the centre.
        domain: further bounds on x.
        region: bounds on z; then contraction is proved there, with the region's invariance. "invariant": a box that
            holds init(x) and that the loop does not leave is looked for; where none is found, it is all states. What
            holds for all states anyway (R4) is said of these, `region=all`: the one fixed point may lie elsewhere.
        norm: "auto" or one of linf, l2, parts, tokens, metric.
        provers: the strategies to try, by the same names.
        timeout: seconds an input (the last prover that was started ends by itself).
        budget: seconds in all; inputs that are not reached are UNKNOWN. The kernel's check of what was found comes on
            top.
        workers: how many processes share the inputs of a batch. None or "auto": one for each core, once it is seen that
            the job takes long enough to pay for them; 1: this process alone.
        executor: where those processes are: "process" (this machine), "ray" (a Ray cluster, or this machine where none
            is running), or an object of your own, see `trm_verify.verification.executors`.
        ledger: a file in which each finished input is noted at once. The same call with the same file goes on where an
            earlier one was stopped; what the file says is checked again, like everything else.
        seed: of the random inputs on which the exported graph is compared with the model; every search is
            deterministic.
        progress: True for a bar on stderr, or a function of (done, total, what).

    Shape: x (*input_shape) gives a `VerificationResult`; x (batch, *input_shape) a `VerificationResults`.
    Norm: K(ε) and enclosures are in plain ℓ∞ coordinates; rates in the norm that the result names.

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: x, eps, answer, norm or model do not fit together.
        CheckError: the kernel rejects what the provers found, which is a defect of this library; nothing is PROVED.
        ModuleNotFoundError: executor="ray" without Ray; the message says how to install it.
        OSError: the ledger cannot be read and written.
        RuntimeError: worker processes cannot be started.
    """
    count = None if workers is None or workers == "auto" else workers
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f'expected workers >= 1, or "auto", found {workers!r}')
    for name, seconds in (("timeout", timeout), ("budget", budget)):
        if seconds is not None and not (isinstance(seconds, (int, float)) and seconds >= 0):
            raise ValueError(f"expected {name} >= 0 seconds, a number, found {seconds!r}")
    if domain is not None and not isinstance(domain, Box):
        raise ValueError(f"expected domain as a Box, such as tv.Box(lo, hi), found {domain!r}")
    if not isinstance(norm, str):
        raise ValueError(f"expected one name of a norm, found {norm!r}; provers= takes several")
    if ledger is not None:
        with open(ledger, "ab"):  # refused before any work if it cannot be written
            pass
    deadline = time.monotonic() + (float("inf") if budget is None else budget)
    Effort(norm, provers).names  # noqa: B018  (refuses unknown names before any work)
    with _progress(progress) as report, _executor(executor, count, x, eps) as where:
        limits = Limits(timeout, deadline, count, where, ledger)
        session = Verification(model, domain, region, seed)
        task = Inputs.of(session, x, eps, answer)
        if task is None and (ledger is not None or executor != "process"):
            raise ValueError("expected inputs x to go with ledger= or executor=, found none")
        deadline = limits.now() if task is None or not task.batch else limits.deadline
        effort = Effort(norm, provers, deadline, report, seed=seed)
        # what refutes the model for some input need not lie in the box that is asked about
        whole = task is None or session.spec.input_shape is None
        facts = session.facts(replace(effort, thorough=whole))
        if task is None:
            return global_result(session, facts)
        return input_results(session, facts, task, effort, limits)


@contextmanager
def _executor(
    executor: str | Executor, workers: int | None, x: Input | None, eps: Number | None
) -> Iterator[Executor | None]:
    """Who answers, if that is settled: processes start at once, while the model is exported here."""
    if not isinstance(executor, str):
        if workers is not None:
            raise ValueError(f"expected no workers= with an executor of your own, found {workers}")
        found: Executor | None = executor
    else:
        if executor not in EXECUTORS:
            raise ValueError(f"expected an executor among {', '.join(EXECUTORS)}, or an object; found {executor!r}")
        rows = 1 if x is None or isinstance(x, Box) or getattr(x, "ndim", 1) == 0 else len(x)
        plain = executor == "process" and (workers is None or min(workers, rows) == 1)
        count = workers if workers is None else min(workers, rows)
        modules = ANSWERING if eps is None else [*ANSWERING, *BALLS]
        found = None if plain or x is None else executor_named(executor, count, modules)
    try:
        yield found
    finally:
        if found is not None:
            found.close()


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
            task = bar.add_task("export")

            def show(done: int, total: int, what: str) -> None:
                bar.update(task, completed=done, total=total, description=what)

            yield show


@dataclass(frozen=True)
class Checked:
    """An accepted certificate.

    Attributes:
        claims: what it proves, in the kernel's words.
        graph_digest, weights_digest: SHA-256 of the graph and of the weights file that it is about.
        unused: tensors of the weights file that the graph does not use.
        not_compared: what was not compared with an expectation of the caller: "claim", "graph", or "claim.field".
    """

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
        model: re-exported; its graph and the values of its tensors must be those that the certificate is about.

    Raises:
        CheckError: the certificate is not valid, or proves something else (code EXPECTED).
        ValueError: an expected claim is no claim.
        ExportError: the model cannot be exported.
        OSError: a file cannot be read.
    """
    raw = certificate.to_bytes() if isinstance(certificate, Certificate) else read_file(certificate, MAX_BYTES)
    if expect is None or isinstance(expect, (Claim, Expectation, str)):
        expect = [] if expect is None else [expect]
    expectations = [expectation_of(item) for item in expect]
    valid = kernel_check(raw, weights if isinstance(weights, bytes) else read_file(weights, MAX_WEIGHTS))
    if model is not None:
        _compare(Deployed.of(model), valid)
    for expectation in expectations:
        find(valid, expectation)
    return Checked(
        claims=tuple(describe(claim) for claim in valid.claims),
        graph_digest=valid.graph.digest,
        weights_digest=valid.weights_digest,
        unused=valid.unused,
        not_compared=(
            *(() if expectations else ("claim",)),
            *(() if model is not None else ("graph",)),
            *(f"{expectation.claim}.{name}" for expectation in expectations for name in expectation.not_compared),
        ),
    )


def _compare(deployed: Deployed, valid: Valid) -> None:
    """The certificate is about this model: the same graph, over tensors of the same values.

    The graph's digest covers names, shapes and operations; the values are the weights file's.
    """
    if deployed.exported.digest != valid.graph.digest:
        raise CheckError("EXPECTED", f"the graph of the given model, {deployed.exported.digest}", valid.graph.digest)
    differs = deployed.differs_from(valid.graph.weights)
    if differs is not None:
        raise CheckError("EXPECTED", f"tensor {differs} as in the given model", "other values in the weights file")
