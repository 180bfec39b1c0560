"""How a command ends: an exit code, one JSON object, and the same for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class Exit(IntEnum):
    """Exit codes of every command."""

    GOOD = 0  # proved, valid, done
    INVALID = 1  # refuted, or an invalid certificate or model file
    USAGE = 2  # wrong arguments, missing or unreadable file, a model that cannot be used
    UNKNOWN = 3  # neither proved nor refuted
    INTERNAL = 4  # a defect of this program
    NOTHING = 5  # nothing to check
    INTERRUPTED = 130


_KINDS = {
    Exit.INVALID: "invalid", Exit.USAGE: "usage", Exit.UNKNOWN: "unknown", Exit.INTERNAL: "internal",
    Exit.NOTHING: "nothing to check", Exit.INTERRUPTED: "interrupted",
}  # fmt: skip


def combined(codes: Iterable[int]) -> Exit:
    """The exit code of a batch: the first present of 4, 2, 1, 3, 0; without any item there is nothing to check."""
    present = set(codes)
    order = (Exit.INTERNAL, Exit.USAGE, Exit.INVALID, Exit.UNKNOWN, Exit.GOOD)
    return next((code for code in order if code in present), Exit.NOTHING)


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        code: the exit code.
        data: the JSON object, without `command` and `exit_code`.
        show: writes the same for people.
    """

    code: Exit
    data: dict[str, Any]
    show: Callable[[Console], None] = field(repr=False)


class Failure(Exception):
    """A command that ends early, with one line that says what was expected, what was found and what to do."""

    def __init__(self, code: Exit, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, " ".join(message.split())
        self.kind = kind or _KINDS[code]


def usage(message: str) -> Failure:
    """Wrong arguments, or a file that is missing or cannot be read or written."""
    return Failure(Exit.USAGE, message)


def cannot(action: str, error: OSError, advice: str = "") -> Failure:
    """An operating-system error as one line."""
    where = "" if error.filename is None else f" {str(error.filename)!r}"
    text = f"expected to {action}{where}, found: {error.strerror or error}"
    return usage(text + (f"; {advice}" if advice else ""))
