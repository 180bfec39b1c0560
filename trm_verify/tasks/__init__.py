"""Tasks, one file each. `TASKS` is the table that the command line looks names up in."""

from __future__ import annotations

from collections.abc import Callable

from trm_verify.tasks.base import Split, Task, accuracy
from trm_verify.tasks.digits import digits

TASKS: dict[str, Callable[[], Task]] = {"digits": digits}


def load_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(sorted(TASKS))}; found {name!r}")
    return TASKS[name]()


__all__ = ["TASKS", "Split", "Task", "accuracy", "digits", "load_task"]
