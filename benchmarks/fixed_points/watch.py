"""Processor seconds of the searches inside a public call, apart from export, certificate and kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from trm_verify.provers import fixed_points
from trm_verify.provers.fixed_points import FixedPointAttempt, FixedPointSearch

# The prover reads the clock on the wall; on a machine that others use as well, the processor's says more.
PROCESSOR = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)


@contextmanager
def watching(branch: bool = True) -> Iterator[list[FixedPointAttempt]]:
    """All attempts made meanwhile: the search, and what confirms a counterexample. Their seconds are processor time.

    Args:
        branch: False keeps every search from branching.
    """
    attempts: list[FixedPointAttempt] = []
    run = FixedPointSearch.run

    def watched(self: FixedPointSearch, *args: Any, **options: Any) -> FixedPointAttempt:
        given = signature(run).bind(self, *args, **options)
        if not branch:
            given.arguments["branch"] = False
        attempts.append(run(*given.args, **given.kwargs))
        return attempts[-1]

    with patch.object(fixed_points, "time", PROCESSOR), patch.object(FixedPointSearch, "run", watched):
        yield attempts
