"""Where the questions of a call are answered: in this process, in processes of this machine, or on a Ray cluster.

An executor knows nothing of questions. It holds some workers, gives each the same job, and then a task at a time; it
says what came of a task, or that its worker was lost. What to do about that is the caller's business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from trm_verify.verification.executors.base import Executor, Job, Reply

__all__ = ["EXECUTORS", "Executor", "Job", "Reply", "cores", "executor_named"]

# Name to class, which takes the number of workers, or None for as many as there are cores, and names of modules that
# they will need. Imported when asked for.
EXECUTORS = {"process": "pool:Processes", "ray": "ray:Ray"}


def executor_named(name: str, workers: int | None, modules: Sequence[str] = ()) -> Executor:
    """The executor of that name, with so many workers (None: as many as there are cores).

    Its processes import the modules at once, if they can.

    Raises:
        ValueError: an unknown name.
        ImportError: what it needs is not installed; the message says how to install it.
    """
    if name not in EXECUTORS:
        raise ValueError(f"expected an executor among {', '.join(EXECUTORS)}; found {name!r}")
    module, _, found = EXECUTORS[name].partition(":")
    return cast(Executor, getattr(import_module(f"{__name__}.{module}"), found)(workers, modules))


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
