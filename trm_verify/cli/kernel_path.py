"""`trm-verify kernel-path`."""

from __future__ import annotations

from typing import Any

from trm_verify import archive
from trm_verify.cli.outcome import Exit, Outcome, cannot


def run(options: Any) -> Outcome:
    """The path of the kernel's zipapp."""
    try:
        path = str(archive.path())
    except OSError as error:
        raise cannot("write the kernel to", error, "set XDG_CACHE_HOME to a writable folder") from error
    return Outcome(Exit.GOOD, {"kernel_path": path}, lambda console: console.out(path, highlight=False))
