"""Tasks, one file each. `TASKS` is the table that the command line looks names up in.

    task = load_task("parity", length=16, seed=0)
    task.train.x, task.train.y      what to fit; targets equal to `IGNORE` do not count
    task.metric(logits, task.test.y), task.baseline(), task.metrics
    task.at(512)                    the same task at another size
    task.symbols()                  integers in place of one-hot channels
    print(task.show(task.test.x[0], task.test.y[0]))

Everything is generated from a seed, or read from packages that are installed; nothing is downloaded or cached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trm_verify.tasks.addition import addition
from trm_verify.tasks.arc import arc
from trm_verify.tasks.base import IGNORE, Baseline, Split, Task, accuracy, position_accuracy
from trm_verify.tasks.brackets import brackets
from trm_verify.tasks.characters import characters
from trm_verify.tasks.denoise import denoise
from trm_verify.tasks.digits import digits
from trm_verify.tasks.jacobi import jacobi
from trm_verify.tasks.mazes import mazes
from trm_verify.tasks.pagerank import pagerank
from trm_verify.tasks.parity import parity
from trm_verify.tasks.regions import regions
from trm_verify.tasks.snippets import snippets
from trm_verify.tasks.sudoku import sudoku
from trm_verify.tasks.sudoku9 import sudoku9

TASKS: dict[str, Callable[..., Task]] = {
    "addition": addition,
    "arc": arc,
    "brackets": brackets,
    "characters": characters,
    "denoise": denoise,
    "digits": digits,
    "jacobi": jacobi,
    "mazes": mazes,
    "pagerank": pagerank,
    "parity": parity,
    "regions": regions,
    "snippets": snippets,
    "sudoku": sudoku,
    "sudoku9": sudoku9,
}


def load_task(name: str, **options: Any) -> Task:
    """The task of that name.

    Args:
        options: what the task's own function takes, for example `length=32, seed=1` for parity.

    Raises:
        ValueError: unknown name or option; the message lists the known ones. Or an option's value out of range.
        ModuleNotFoundError: a package that the task reads its data from is not installed.
    """
    if name not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(sorted(TASKS))}; found {name!r}")
    known = inspect.signature(TASKS[name]).parameters
    if unknown := sorted(options.keys() - known.keys()):
        raise ValueError(f"task {name!r}: expected options among {', '.join(known)}; found {', '.join(unknown)}")
    return TASKS[name](**options)


__all__ = [
    "IGNORE",
    "TASKS",
    "Baseline",
    "Split",
    "Task",
    "accuracy",
    "addition",
    "arc",
    "brackets",
    "characters",
    "denoise",
    "digits",
    "load_task",
    "jacobi",
    "mazes",
    "pagerank",
    "parity",
    "position_accuracy",
    "regions",
    "snippets",
    "sudoku",
    "sudoku9",
]
