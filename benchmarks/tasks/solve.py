"""Methods whose loop is known: certified bounds on the error against the true one, on every instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import trm_verify as tv
from benchmarks.isolated import isolated
from benchmarks.table import Json
from benchmarks.tasks.clock import timed
from benchmarks.tasks.jobs import Job
from trm_verify.tasks import load_task
from trm_verify.verification.deployed import Deployed

STEPS = 90
INSTANCES, QUICK_INSTANCES = 32, 2
ROUNDED = 1e-6
"""Errors below this are those of float32, on which no rate has a say; ratios are taken above."""
TRUE_TO = 1e-14  # what the targets are known to, see the tasks


def run(job: Job, folder: Path) -> Iterator[Json]:
    """Audits of many right-hand sides of one system, and the proof that covers all of them."""
    spent: dict[str, float] = {}
    with timed(spent, "load"):
        task = load_task(job.task, **job.solver_options())
        solver = task.solver
    assert solver is not None
    with timed(spent, "certify"):
        whole = tv.verify_fixed_point(solver, norm="linf")
    yield {
        "parameters": sum(p.numel() for p in solver.parameters()), "size": task.difficulty,
        "verdict": str(whole.verdict), "rate": whole.rate, "norm": whole.norm, "seconds": dict(spent),
    }  # fmt: skip
    below, ratios, worst, kernel = 0, [], [], 0.0
    curves = []
    count = min(QUICK_INSTANCES if job.quick else INSTANCES, len(task.test))
    for x, y in zip(task.test.x[:count], task.test.y[:count], strict=True):
        with timed(spent, "audit"):
            audited = tv.audit(solver, x, steps=STEPS, norm="linf")
        errors = np.abs(audited.states - y.double().numpy()).max(axis=1)
        below += int((audited.distances + TRUE_TO < errors).sum())
        above = errors > ROUNDED
        ratios.append(float(np.median(audited.distances[above] / errors[above])))
        worst.append(float((audited.distances[above] / errors[above]).max()))
        curves.append({"error": errors.tolist(), "bound": audited.distances.tolist(), "final": audited.final})
    with timed(spent, "check"):
        kernel = isolated(whole.certificate.to_bytes(), Deployed.of(solver).weights)
    yield {
        "instances": count, "steps": STEPS, "bounds_below_the_error": below, "ratio_median": float(np.median(ratios)),
        "ratio_worst": max(worst), "curves": curves[:4], "seconds": spent, "kernel_seconds": round(kernel, 2),
        "final": [c["final"] for c in curves], "baseline": task.baseline(),
        "digits": {str(k): task.metric(solver.run(task.test.x, k), task.test.y) for k in (1, 30, 90, 450)},
    }  # fmt: skip
