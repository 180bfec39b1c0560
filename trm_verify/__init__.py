"""Tiny recursive models whose loop is proved: one fixed point, reached at a known rate, with a known answer.

Importing the package imports nothing else: a public name is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trm_verify import claims, models, nn, tasks, train
    from trm_verify.api import (
        CommitResult,
        LipschitzResult,
        audit,
        check,
        verify_commit,
        verify_fixed_point,
        verify_lipschitz,
    )
    from trm_verify.auditing import attractors
    from trm_verify.kernel.errors import CheckError
    from trm_verify.model import Box, Damped, recursive
    from trm_verify.pretrained import from_pretrained, save_pretrained
    from trm_verify.result import (
        PROVED,
        REFUTED,
        UNKNOWN,
        Verdict,
        VerificationResult,
        VerificationResults,
    )

__version__ = "0.1.0"

__all__ = [
    "PROVED",
    "REFUTED",
    "UNKNOWN",
    "Box",
    "CheckError",
    "CommitResult",
    "Damped",
    "LipschitzResult",
    "Verdict",
    "VerificationResult",
    "VerificationResults",
    "attractors",
    "audit",
    "check",
    "claims",
    "from_pretrained",
    "models",
    "nn",
    "recursive",
    "save_pretrained",
    "tasks",
    "train",
    "verify_commit",
    "verify_fixed_point",
    "verify_lipschitz",
]

_NAMES = {
    "api": (
        "CommitResult",
        "LipschitzResult",
        "audit",
        "check",
        "verify_commit",
        "verify_fixed_point",
        "verify_lipschitz",
    ),
    "auditing": ("attractors",),
    "kernel.errors": ("CheckError",),
    "model": ("Box", "Damped", "recursive"),
    "pretrained": ("from_pretrained", "save_pretrained"),
    "result": ("PROVED", "REFUTED", "UNKNOWN", "Verdict", "VerificationResult", "VerificationResults"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # type checkers read the imports above, and see that there is no other name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'trm_verify' has no attribute {name!r}")
        if name not in _HOME:
            return import_module(f"trm_verify.{name}")
        value: object = getattr(import_module(f"trm_verify.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
