"""What a model answers along its loop, long after it was trained to stop."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.table import Json
from trm_verify.model import flatten_state, initial_state
from trm_verify.models import ConfiguredModel, iteration
from trm_verify.nn import cached_weights
from trm_verify.tasks import Task
from trm_verify.tasks.base import one_hot
from trm_verify.train.levels import inputs

ROWS_AT_ONCE = 256
EVERY = 40  # each of the first steps is measured, up to this one
GROWTH = 1.15  # from step to step after them
SHOWN = 24  # states of the item that is drawn
LARGEST_ITEM = 400  # output positions of an item that is worth drawing
SMOOTH = "psnr_mean"  # a metric of the numbers behind the labels, of tasks that have it


def marks(steps: int) -> list[int]:
    """1, K, 2K and 5K, without repetition."""
    return sorted({1, steps, 2 * steps, 5 * steps})


def ladder(steps: int) -> list[int]:
    """The steps at which the metric is taken: all of the first ones, then in geometric steps to 5K."""
    taken, last = set(range(1, min(EVERY, 5 * steps) + 1)) | set(marks(steps)), float(EVERY)
    while (last := last * GROWTH) < 5 * steps:
        taken.add(round(last))
    return sorted(taken)


@dataclass
class _Taken:
    """What is kept along the loop: labels everywhere, logits and residuals at the marks."""

    labels: dict[int, list[Tensor]]
    logits: dict[int, list[Tensor]]
    residuals: dict[int, list[Tensor]]


@torch.no_grad()
def along(model: ConfiguredModel, task: Task, steps: int) -> Json:
    """Metrics and residuals of the deployed model on the test split, up to 5K steps.

    The residual at step k is the largest coordinate of `f(z_k) − z_k`: of the worst row, and in the median over rows.
    A loop that has come to rest, bit for bit, is not run on.
    """
    taken = _run(model, task, steps)
    y = task.test.y
    labels = {k: torch.cat(values) for k, values in taken.labels.items()}
    residuals = {k: torch.cat(values) for k, values in taken.residuals.items()}
    named = {name: metric for name, metric in task.metrics.items() if metric is not task.metric}
    at: Json = {}
    for k in marks(steps):
        logits = torch.cat(taken.logits[k])
        at[str(k)] = {
            "metric": task.metric(logits, y),
            **{name: metric(logits, y) for name, metric in named.items()},
            "residual": _number(residuals[k].max()),
            "residual_median": _number(residuals[k].median()),
            "changed_since_K": float((labels[k] != labels[steps]).reshape(len(y), -1).any(dim=1).double().mean()),
        }
    return {
        "K": steps, "rows": len(y), "at": at,
        "curve": {str(k): task.metric(one_hot(values, task.classes), y) for k, values in labels.items()},
        "smooth": _smooth(model, task, list(labels)), "item": _item(task, labels),
    }  # fmt: skip


def _smooth(model: ConfiguredModel, task: Task, kept: Sequence[int]) -> Json | None:
    """The metric before the answer is rounded to labels, if the task has one; of the model in doubles."""
    metric = task.metrics.get(SMOOTH)
    if metric is None:
        return None
    exact = deepcopy(model).double()
    logits: dict[int, list[Tensor]] = {k: [] for k in kept}
    with cached_weights(exact):
        for x in torch.split(inputs(exact, task.test.x), ROWS_AT_ONCE):
            once, z = iteration(exact, x), initial_state(exact, x)
            for k in range(1, max(kept) + 1):
                z = once(z)
                if k in logits:
                    logits[k].append(exact.readout(z))
    return {str(k): metric(torch.cat(values), task.test.y) for k, values in logits.items()}


def _run(model: ConfiguredModel, task: Task, steps: int) -> _Taken:
    kept, at = ladder(steps), marks(steps)
    taken = _Taken({k: [] for k in kept}, {k: [] for k in at}, {k: [] for k in at})
    with cached_weights(model):
        for x in torch.split(inputs(model, task.test.x), ROWS_AT_ONCE):
            once, z = iteration(model, x), initial_state(model, x)
            after, rest = once(z), False
            for k in range(1, kept[-1] + 1):
                if not rest:  # after = f(z), and z moves on to it
                    z, after = after, once(after)
                    rest = torch.equal(flatten_state(z), flatten_state(after))
                if k in taken.labels:
                    logits = model.readout(z)
                    taken.labels[k].append(logits.argmax(dim=-1))
                if k in taken.logits:
                    taken.logits[k].append(logits)
                    taken.residuals[k].append((flatten_state(after) - flatten_state(z)).abs().amax(dim=1).double())
    return taken


def _number(value: Tensor) -> float | str:
    """A number that JSON can hold."""
    return float(value) if bool(value.isfinite()) else str(float(value))


def _item(task: Task, labels: dict[int, Tensor]) -> Json | None:
    """The first test item, with the answer at each of the steps up to the one after which nothing changes."""
    answers: dict[int, list[Any]] = {k: values[0].tolist() for k, values in labels.items()}
    if not 1 < labels[1][0].numel() <= LARGEST_ITEM:
        return None
    kept = list(answers)
    last = max((k for k in kept if answers[k] != answers[kept[-1]]), default=1)
    shown = [k for k in kept if k <= last or k == kept[-1]]
    if len(shown) > SHOWN:
        shown = [shown[round(i * (len(shown) - 1) / (SHOWN - 1))] for i in range(SHOWN)]
    x = task.test.x[0]
    return {"x": x.tolist(), "y": task.test.y[0].tolist(), "answers": {str(k): answers[k] for k in shown}}
