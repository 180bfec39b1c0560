"""Every task and variant in one line: means over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.table import Json
from benchmarks.tasks.jobs import Job
from benchmarks.tasks.results import Results, average, scale, seconds, where

COLUMNS = (
    "task", "variant", "seeds", "size", "K", "parameters", "at 1", "at K", "at 2K", "at 5K", "residual at K, 2K, 5K",
    "loop", "rate", "answers", "train", "test", "prove",
)  # fmt: skip


def overview(jobs: Sequence[Job], known: dict[str, Json]) -> Table:
    """The metric after 1, K, 2K and 5K steps, in per cent (dB for denoise); the worst residual; processor seconds."""
    results = Results(jobs, known)
    table = Table(*COLUMNS, title="all variants, means over the seeds")
    previous = None
    for task, variant in dict.fromkeys((job.task, job.variant) for job in jobs):
        found = [k for k in results.of(task, variant) if "trained" in k.get("learn", {})]
        if not found:
            continue
        if previous not in (None, task):
            table.add_section()
        sizes = [False, True] if "deployed" in found[0]["learn"] else [False]
        for deployed in sizes:
            names = ("" if task == previous or deployed else task, "" if deployed else variant)
            table.add_row(*names, *_line(task, found, deployed, last=deployed == sizes[-1]))
        previous = task
    return table


def _line(task: str, found: Sequence[Json], deployed: bool, last: bool) -> list[str]:
    factor, _ = scale(task)
    at = [where(k, deployed) for k in found]
    steps = at[0]["K"]

    def mean(name: str, times: int) -> Any:
        values = [a["at"][str(times * a["K"] or 1)][name] for a in at]
        return average(values) if all(isinstance(v, float) for v in values) else None

    learned = found[0]["learn"]
    size = learned.get("deployed_size") if deployed else learned["size"]
    residuals = [max((a["at"][str(t * steps)]["residual"] for a in at), key=float) for t in (1, 2, 5)]
    line = [
        str(len(found)), "" if size is None else str(size), str(steps), str(learned["parameters"]),
        *(f"{factor * mean('metric', times):.2f}" for times in (0, 1, 2, 5)),
        ", ".join(f"{float(r):.1e}" for r in residuals),
    ]  # fmt: skip
    proofs = [k["prove"] for k in found if "prove" in k] if last else []
    rates = [p["rate"] for p in proofs if p.get("rate") is not None]
    answers = [p["answers"] for p in proofs if "answers" in p]
    spent = [average([seconds(k, *names) for k in found]) or 0.0
             for names in (("load", "train"), ("test",), ("certify", "check", "answers"))]  # fmt: skip
    return [
        *line,
        f"{sum(p.get('verdict') == 'PROVED' for p in proofs)} of {len(proofs)}" if proofs else "",
        f"{max(rates):.6g}" if rates else "",
        f"{sum(a['proved'] for a in answers)} of {sum(a['inputs'] for a in answers)}" if answers else "",
        *(f"{s:.0f} s" if last else "" for s in spent),
    ]
