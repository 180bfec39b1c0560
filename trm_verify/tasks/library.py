"""The text of Python's own standard library: what the tasks about code and characters are made of."""

from __future__ import annotations

import hashlib
import sysconfig
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def modules() -> tuple[tuple[str, str], ...]:
    """Name and source of every top-level module, by name. They differ a little from one Python version to the next.

    Raises:
        FileNotFoundError: an installation without sources.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    found = tuple((path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py")))
    if len(found) < 100:
        raise FileNotFoundError(
            f"expected the sources of the standard library, about 150 modules, found {len(found)} in {str(folder)!r}; "
            "use a Python that is installed with its .py files"
        )
    return found


def share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: which split a module is in is the same for every version."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
