"""Certify a trained model, re-check the certificates, and prove the answers of test inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import trm_verify as tv
from benchmarks.isolated import isolated
from benchmarks.table import Json
from benchmarks.tasks.clock import seconds, timed
from benchmarks.tasks.jobs import Job
from trm_verify.models import Stack
from trm_verify.naming import WEIGHTS
from trm_verify.pretrained import from_pretrained
from trm_verify.result import VerificationResult, VerificationResults
from trm_verify.tasks import Task
from trm_verify.tasks.base import one_hot
from trm_verify.train.levels import inputs
from trm_verify.train.run import ANSWERS, CERTIFICATE
from trm_verify.verification.session import Region

NORMS = {"tokens_l2": "tokens", "linf": "linf"}
"""The norm that a model is made to contract in, as the call names it: it is tried first."""
TIMEOUT, QUICK_TIMEOUT = 120.0, 20.0  # seconds a search
FIRST = 2  # inputs that show how long one takes
MOST, SPENT = 100, 150.0  # test inputs whose answers are proved: so many, or those for which the seconds suffice
QUICK_MOST, QUICK_SPENT = 1, 5.0


def run(job: Job, folder: Path) -> Iterator[Json]:
    """What there is to report, part after part: the loop first, then the answers."""
    model, weights = from_pretrained(folder), (folder / WEIGHTS).read_bytes()
    config = job.config()
    task = config.load()
    if config.size is not None and config.size != task.difficulty:
        task = task.at(config.size)
    spent: dict[str, float] = {}
    timeout = QUICK_TIMEOUT if job.quick else TIMEOUT
    region: Region | None = None
    with timed(spent, "certify"):
        norm = NORMS.get(model.norm, "auto") if model.rate is not None else "auto"
        norm = "tokens" if isinstance(model, Stack) and model.settles is None else norm
        whole = tv.verify_fixed_point(model, norm=norm, timeout=timeout)
        if not whole and norm != "auto" and not job.quick:
            norm = "auto"
            whole = tv.verify_fixed_point(model, norm=norm, timeout=timeout)
        if not whole and isinstance(model, Stack) and not job.quick:
            norm, region = "linf", "invariant"
            whole = tv.verify_fixed_point(model, norm=norm, region=region, timeout=timeout)
    assert isinstance(whole, VerificationResult)
    yield {
        "verdict": str(whole.verdict), "rate": whole.rate, "norm": whole.norm, "claims": _claims(whole),
        "seconds": dict(spent), "size": task.difficulty, "tried": [f"{t.prover}: {t.reason}" for t in whole.trials],
    }  # fmt: skip
    if any(whole.claims.values()):
        raw = whole.certificate.to_bytes()
        (folder / CERTIFICATE).write_bytes(raw)
        with timed(spent, "check"):
            tv.check(whole.certificate, weights, model=model)  # against the graph that the model has
        yield {"kernel_seconds": round(isolated(raw, weights), 2), "certificate_bytes": len(raw)}
    yield {"answers": _answers(job, model, task, norm, region, folder, weights, spent), "seconds": dict(spent)}


def _claims(result: VerificationResult) -> dict[str, Json]:
    return {name: {"verdict": str(c.verdict), "says": c.statement or c.reason} for name, c in result.claims.items()}


def _answers(
    job: Job, model: torch.nn.Module, task: Task, norm: str, region: Region | None, folder: Path, weights: bytes,
    spent: dict[str, float],
) -> Json:  # fmt: skip
    """Whose answers are proved, from which step on they are final, and how many inputs the seconds sufficed for."""
    most, budget, timeout = (QUICK_MOST, QUICK_SPENT, QUICK_TIMEOUT) if job.quick else (MOST, SPENT, TIMEOUT)
    x = inputs(model, task.test.x[:most])
    rows: list[VerificationResult] = []
    kernel = 0.0
    each = 0.0
    for first, end in ((0, min(FIRST, most)), (FIRST, most)):
        # from what the first ones took beyond what the loop takes alone, which every call does again
        last = min(end, first + int((budget - spent.get("answers", 0.0)) / each)) if each else end
        if last <= first:
            break
        before = seconds()
        with timed(spent, "answers"):
            found = tv.verify_fixed_point(model, x[first:last], norm=norm, region=region, timeout=timeout)
        assert isinstance(found, VerificationResults)
        each = max((seconds() - before - spent["certify"]) / len(found), 0.01)
        rows += found
        if any(any(row.claims.values()) for row in found):
            raw = found.certificate.to_bytes()
            kernel += isolated(raw, weights)
            (folder / (f"first.{ANSWERS}" if first == 0 else ANSWERS)).write_bytes(raw)
    return {**_summary(task, rows), "seconds_each": round(each, 3), "kernel_seconds": round(kernel, 2)}


def _summary(task: Task, rows: Sequence[VerificationResult]) -> Json:
    proved = [i for i, row in enumerate(rows) if row.answer is not None]
    exact = task.metrics.get("exact", task.metric)
    right = 0
    for i in proved:
        answer = torch.tensor(rows[i].answer).reshape(task.test.y[i].shape)
        right += exact(one_hot(answer, task.classes)[None], task.test.y[i][None]) == 1.0
    reasons = [c.reason for row in rows for c in row.claims.values() if c.reason and not c]
    return {
        "inputs": len(rows), "proved": len(proved), "proved_right": right,
        "final": [rows[i].answer_steps for i in proved], "open": reasons[0] if reasons else "",
    }  # fmt: skip
