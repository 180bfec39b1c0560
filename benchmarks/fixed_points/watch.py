"""Processor seconds of the searches inside a public call, apart from export, certificate and kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from trm_verify.provers.fixed_points import search as fixed_points
from trm_verify.provers.fixed_points.search import FixedPointAttempt, FixedPointSearch

# The prover reads the clock on the wall; on a machine that others use as well, the processor's says more.
PROCESSOR = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)


@dataclass
class Watch:
    """All searches made meanwhile: the search proper, and what confirms a counterexample."""

    attempts: list[FixedPointAttempt] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(a.seconds for a in self.attempts)

    @property
    def kernel(self) -> float:
        return sum(a.kernel for a in self.attempts)


@contextmanager
def watching(branch: bool = True) -> Iterator[Watch]:
    """Attempts report processor seconds meanwhile; with `branch` False no search branches."""
    watch = Watch()
    run = FixedPointSearch.run

    def watched(self: FixedPointSearch, *args: Any, **options: Any) -> FixedPointAttempt:
        given = signature(run).bind(self, *args, **options)
        if not branch:
            given.arguments["branch"] = False
        watch.attempts.append(run(*given.args, **given.kwargs))
        return watch.attempts[-1]

    with patch.object(fixed_points, "time", PROCESSOR), patch.object(FixedPointSearch, "run", watched):
        yield watch
