"""One thread for the numerical libraries: faster on matrices as small as ours, and the same last bits everywhere.

OpenBLAS shares even a 100 × 100 Cholesky factor among all cores, which takes several times as long, and longer still
when other processes are at work on them. How sums are split among threads also decides how they round, so the same
question could get other multipliers on another machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for NumPy's and SciPy's linear algebra, and for torch if it has been imported."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(limits=1, user_api="blas"):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(threads)
