"""The command line `trm-verify`. Importing it imports neither torch nor numpy: each command imports what it needs."""

from __future__ import annotations

from trm_verify.cli.run import main

__all__ = ["main"]
