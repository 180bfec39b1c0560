"""Processor seconds: of this process and of those it has waited for. Other people's load does not count."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager


def seconds() -> float:
    """Processor seconds so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
    """Adds what the block takes to `spent[name]`."""
    before = seconds()
    try:
        yield
    finally:
        spent[name] = round(spent.get(name, 0.0) + seconds() - before, 2)


def limit(count: int) -> None:
    """The kernel of the operating system ends this process after so many processor seconds."""
    spent = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + count, spent + count + 5))
