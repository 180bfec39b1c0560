"""The public calls: `verify_fixed_point`, `audit`, `check`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from multiprocessing import get_context
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box, exact_number
from trm_verify.certificate import Certificate, CertificateBuilder, Derivation
from trm_verify.claims import Claim, expectation_of
from trm_verify.encode import Json
from trm_verify.export import export
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Contraction, Convergence, Run
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import Expectation, describe, find
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.models.base import ConfiguredModel
from trm_verify.provers.answers import AnswerAttempt, point, prove_answer, prove_run
from trm_verify.provers.problem import NO_INPUT, Problem
from trm_verify.result import (
    PROVED, REFUTED, UNKNOWN, ClaimResult, Enclosure, Trial, VerificationResult, VerificationResults,
)  # fmt: skip
from trm_verify.verification import Progress, Verification, box_json, steps_to

MAX_WEIGHTS = 1 << 36
Input = torch.Tensor | np.ndarray | Box
Number = float | str | Fraction
NOT_YET = "answers at the fixed points of implicit models are not proved by this version"


@overload
def verify_fixed_point(model: nn.Module, x: Box | None = None, **options: Any) -> VerificationResult: ...
@overload
def verify_fixed_point(
    model: nn.Module, x: torch.Tensor | np.ndarray, **options: Any
) -> VerificationResult | VerificationResults: ...
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

    Without `x`: exactly one fixed point and convergence of the model's iteration, for every input of the domain. With `x`:
    the same for that input (with `eps`: for every input of the ball), and the answer after which no further step, and no
    input of the ball, can change it.

    Args:
        model: see `trm_verify.model`; a plain module or function goes through `tv.recursive` first.
        x: one input of the model's `input_shape`, a batch of them (one more axis in front), or a `Box` of inputs.
        eps: ℓ∞ radius of the ball about x, cut to the model's domain. A float means its exact binary value; strings,
            Fractions and Decimals are exact.
        answer: the label to prove (per output position, per row of a batch); default the model's own at the centre.
        domain: further bounds on x. region: bounds on z; then contraction is proved there, with the region's invariance.
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
        task = _Inputs.of(session, x, eps, answer)
        session.prove_global(norm, provers, deadline, report)
        if task is None:
            return _global_result(session)
        return _input_results(session, task, timeout, deadline, workers, report)


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
class _Inputs:
    """The inputs of a call: a box of inputs and the centre for each, and the labels asked for."""

    boxes: tuple[Box, ...]
    centres: torch.Tensor
    wanted: tuple[tuple[int, ...] | None, ...]
    batch: bool

    @classmethod
    def of(cls, session: Verification, x: Input | None, eps: Number | None, answer: Any) -> _Inputs | None:
        spec = session.spec
        if x is None:
            if eps is not None or answer is not None:
                raise ValueError("expected an input x to go with eps or answer, found none")
            return None
        if spec.input_shape is None:
            raise ValueError("expected no input x, since the model has none")
        shape, limit = spec.input_shape, session.domain_box
        if isinstance(x, Box):
            boxes, batch = [x.expand(shape)], False
        else:
            array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
            if array.shape not in (shape,) and array.shape[1:] != shape:
                raise ValueError(f"expected x of shape {shape} or (batch, *{shape}), found {array.shape}")
            batch = array.shape != shape
            boxes = [Box.point(row) for row in (array if batch else array[None])]
            if not boxes:
                raise ValueError("expected at least one input in the batch, found none")
        for row, box in enumerate(boxes):
            if limit is not None and not isinstance(x, Box) and not limit.contains(box):
                raise ValueError(f"expected inputs inside the model's domain, found row {row} outside it")
        if eps is not None:
            if isinstance(x, Box):
                raise ValueError("expected either a Box or a point with eps, found both")
            radius = exact_number(eps, "eps")
            if radius < 0:
                raise ValueError(f"expected eps >= 0, found {eps!r}")
            boxes = [Box.ball(np.array(box.lo, dtype=object).reshape(shape), radius) for box in boxes]
        if limit is not None:
            boxes = [box.intersect(limit) for box in boxes]
        centres = torch.from_numpy(np.stack([np.asarray(box.center(), dtype=np.float64) for box in boxes]))
        if not isinstance(x, Box):
            centres = torch.from_numpy((array if batch else array[None]).astype(np.float64))
        return cls(tuple(boxes), centres, cls._labels(session, answer, len(boxes), batch), batch)

    @staticmethod
    def _labels(session: Verification, answer: Any, rows: int, batch: bool) -> tuple[tuple[int, ...] | None, ...]:
        if answer is None:
            return (None,) * rows
        if session.problem.graph.readout is None:
            raise ValueError("expected a model with a readout(z) to go with answer=, found none")
        node = session.problem.graph.readout.nodes[session.problem.graph.readout.outputs[0]]
        positions, classes = int(np.prod(node.shape[:-1])), node.shape[-1]
        array = np.asarray(answer.cpu() if isinstance(answer, torch.Tensor) else answer)
        if array.size == positions * rows:
            array = array.reshape(rows, positions)
        elif array.size == positions:
            array = np.tile(array.reshape(1, positions), (rows, 1))
        else:
            raise ValueError(f"expected {positions} label(s) an input, found an answer of shape {array.shape}")
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
            raise ValueError(f"expected labels from 0 to {classes - 1}, found {answer!r}")
        return tuple(tuple(int(v) for v in row) for row in array)


def _trials(session: Verification) -> tuple[Trial, ...]:
    return tuple(
        Trial(a.prover, a.norm, None if a.rate is None else _up(a.rate), a.seconds, a.reason or "proved")
        for a in session.attempts
    )


def _up(value: Fraction) -> float:
    """A double ≥ value."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else float(np.nextafter(nearest, np.inf))


def _common(session: Verification) -> dict[str, Any]:
    """What every result of a session shares."""
    found: dict[str, Any] = {
        "graph_digest": session.problem.graph.digest, "weights_digest": session.problem.graph.weights.sha256,
        "trials": _trials(session),
    }  # fmt: skip
    if session.convergence is not None:
        concluded = session.problem.conclude(session.convergence)
        if isinstance(concluded, Convergence):
            found |= {"rate": _up(concluded.rate), "norm": concluded.norm.family}
    elif session.contraction is not None:
        contraction = session.problem.conclude(session.contraction)
        if isinstance(contraction, Contraction):
            found |= {"rate": _up(contraction.rate), "norm": contraction.norm.family}
    found["convergence_steps"] = None if session.convergence is None else _steps_function(session)
    return found


def _steps_function(session: Verification) -> Callable[[Any, Any], int]:
    def steps(epsilon: Any, initial_error: Any) -> int:
        derivation = session.convergence
        concluded = None if derivation is None else session.problem.conclude(derivation)
        if not isinstance(concluded, Convergence):
            raise ValueError("expected a proved rate of convergence, found none")
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
            initial = concluded.norm.bound(point_box(-error, error, size))
        target = exact_number(epsilon, "epsilon")
        if target <= 0:
            raise ValueError(f"expected epsilon > 0, found {epsilon!r}")
        found = steps_to(concluded, target, initial)
        if found is None:
            raise ValueError(f"more than 10**12 steps are needed to reach {epsilon}")
        return found

    return steps


def point_box(lo: Fraction, hi: Fraction, size: int) -> Any:
    from trm_verify.kernel.tensor import from_fractions

    return from_fractions([(lo, hi)] * size)


def _stated(claims: dict[str, ClaimResult], valid: Valid) -> dict[str, ClaimResult]:
    """Proved claims with the kernel's own words for them."""
    words: dict[str, str] = {}
    for claim in valid.claims:
        text = describe(claim)
        words.setdefault(text.split("(")[0], text)
    return {n: replace(c, statement=words.get(n.split()[0], "")) if c else c for n, c in claims.items()}


def _required(session: Verification) -> list[str]:
    return ["exactly_one"] if session.operator == "implicit" else ["exactly_one", "convergence"]


def _global_result(session: Verification) -> VerificationResult:
    claims = dict(session.claims)
    if session.builder.empty:
        return VerificationResult(UNKNOWN, claims, **_common(session))
    certificate, valid = session.certify()
    verdict = PROVED if all(claims[name] for name in _required(session)) else UNKNOWN
    return VerificationResult(verdict, _stated(claims, valid), certified=lambda: certificate, **_common(session))


def _input_results(
    session: Verification, task: _Inputs, timeout: float | None, deadline: float, workers: int, report: Progress | None
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
    attempts: list[tuple[AnswerAttempt | None, AnswerAttempt | None]] = [(None, None)] * len(jobs)
    if provable and states is not None:
        calls = []
        for row, box, wanted, labels in jobs:
            centre_box = box_json("input", Box.point(task.centres[row].numpy()))
            calls.append((box_json("input", box), centre_box, states[row], wanted, labels))
        attempts = list(_search(session, calls, timeout, deadline, workers, report))

    def extra(builder: CertificateBuilder, rows: Sequence[int]) -> None:
        for row in rows:
            for attempt in attempts[row]:
                if attempt is not None and attempt.derivation is not None:
                    last = attempt.derivation.steps[-1]
                    builder.claim(
                        builder.add(attempt.derivation), "answer", operator=session.operator, domain=last["domain"],
                        answer=last["answer"], steps=last["steps"],
                    )  # fmt: skip

    common = _common(session)
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
    concluded = None if session.convergence is None else session.problem.conclude(session.convergence)
    if not isinstance(concluded, Convergence):
        return None
    try:
        bound = residual_bound(
            session.problem.graph, concluded, session.problem.box(box_json("input", box)), point(state)
        )
    except CheckError:
        return None
    return Enclosure(state, np.array([_up(v) for v in concluded.norm.spread(bound)]))


Call = tuple[Json, Json, np.ndarray, tuple[int, ...], tuple[int, ...]]


def _search(
    session: Verification, calls: list[Call], timeout: float | None, deadline: float, workers: int,
    report: Progress | None,
) -> Iterator[tuple[AnswerAttempt | None, AnswerAttempt | None]]:  # fmt: skip
    if session.convergence is None:
        raise ValueError("expected a proved convergence")
    if workers == 1 or len(calls) == 1:
        for done, call in enumerate(calls, 1):
            yield _search_one(session.problem, session.convergence, call, timeout, deadline)
            if report is not None:
                report(done, len(calls), "answers")
        return
    problem = session.problem
    arguments = (problem.raw_graph, problem.weights, session.convergence)
    # spawn: forking a process in which torch has started threads can hang
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=arguments) as pool:
        left = deadline - time.monotonic()
        futures = [pool.submit(_work, call, timeout, left) for call in calls]
        for done, future in enumerate(futures, 1):
            yield future.result()
            if report is not None:
                report(done, len(calls), "answers")


_WORKER: dict[str, Any] = {}


def _start_worker(graph: Json, weights: bytes, convergence: Derivation) -> None:
    _WORKER.update(problem=Problem(graph, weights), convergence=convergence, started=time.monotonic())


def _work(call: Call, timeout: float | None, left: float) -> tuple[AnswerAttempt | None, AnswerAttempt | None]:
    return _search_one(_WORKER["problem"], _WORKER["convergence"], call, timeout, _WORKER["started"] + left)


def _search_one(
    problem: Problem, convergence: Derivation, call: Call, timeout: float | None, deadline: float
) -> tuple[AnswerAttempt | None, AnswerAttempt | None]:
    """The answer over the box; when another one is asked for than the centre gives, the centre's own as a refutation."""
    domain, centre_domain, state, wanted, own = call
    now = time.monotonic()
    if now > deadline:
        return AnswerAttempt(None, reason="not reached: the time budget was used up"), None
    limit = deadline if timeout is None else min(deadline, now + timeout)
    if wanted != own:
        refuting = prove_answer(problem, convergence, centre_domain, state, own, limit)
        return AnswerAttempt(None, reason=f"the model answers {own} at the centre, not {wanted}"), refuting
    return prove_answer(problem, convergence, domain, state, wanted, limit), None


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

    The trace is the model's own, in its own floating point; its stored states are exact numbers, and the certificate speaks
    about those and about the real iterates that start from them.

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
        task = _Inputs.of(session, x, None, None)
        if task is None or task.batch:
            raise ValueError(f"expected one input of shape {session.spec.input_shape}, found a batch")
    session.prove_global(norm, None, float("inf"), None)
    if session.convergence is None:
        raise ValueError(
            f"expected a model whose convergence can be proved, found:\n{_global_result(session).explain()}"
        )
    states = session.trace(None if x is None else torch.as_tensor(x), steps)
    labels = session.labels(states)
    domain = NO_INPUT if x is None else box_json("input", Box.point(x))
    found: Sequence[Sequence[int]] = [[int(v) for v in row] for row in labels]
    derivation, run = prove_run(session.problem, session.convergence, domain, states, found)
    certificate, _ = session.certify(lambda builder: claim_run(builder, derivation, run, session))
    scale = _up(_coordinate(run))
    return RunResult(
        states=states,
        residuals=np.abs(np.diff(states, axis=0)).max(axis=1),
        distances=np.array([_up(d * _coordinate(run)) for d in run.distances]),
        drifts=np.array([_up(d) for d in run.drifts]),
        answers=run.answers,
        final=run.final,
        radius=_up(run.radius) * scale,
        answer=run.answer,
        rate=_common(session)["rate"],
        norm=run.norm.family,
        certificate=certificate,
    )


def _coordinate(run: Run) -> Fraction:
    from trm_verify.kernel.norms import coordinate_scale

    return coordinate_scale(run.norm)


def claim_run(builder: CertificateBuilder, derivation: Derivation, run: Run, session: Verification) -> None:
    """File the run's claim, its bounds rounded up to binary fractions."""
    from trm_verify.encode import dyadic, fractions, integers, round_up

    last = derivation.steps[-1]
    contraction = session.contraction
    if contraction is None:
        raise ValueError("expected a contraction")
    norm = next(s["norm"] for s in contraction.steps if "norm" in s)
    states = last["states"]
    ints = [int(v, 16) for v in states["int"].split()][-session.spec.state_size :]
    builder.claim(
        builder.add(derivation), "run", operator=session.operator, domain=last["domain"], norm=norm,
        state=integers(ints, states["exp"]), radius=dyadic(round_up(run.radius)), answer=list(run.answer), final=run.final,
        drifts=fractions([round_up(d) for d in run.drifts]), distances=fractions([round_up(d) for d in run.distances]),
        answers=[None if a is None else list(a) for a in run.answers],
    )  # fmt: skip


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
