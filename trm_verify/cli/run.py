"""`trm-verify`: parse, run one command, print what it found, exit with its code."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from trm_verify.cli.arguments import COMMANDS, Said, asks_for_json, parser
from trm_verify.cli.outcome import Exit, Failure, Outcome, cannot
from trm_verify.kernel.errors import CheckError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    as_json = asks_for_json(given)
    command = next((word for word in given if word in COMMANDS), None)
    try:
        options = parser().parse_args(given)
        as_json, command = options.json, options.command
        # Whatever a model prints while it is imported or run belongs to the logs: stdout is for the result.
        with redirect_stdout(sys.stderr):
            outcome = _run(command, options)
    except Said as said:
        text = str(said)
        outcome = Outcome(Exit.GOOD, {"text": text}, lambda console: console.out(text, end="", highlight=False))
    except Failure as failure:
        outcome = _failed(failure)
    except CheckError as error:
        outcome = _failed(Failure(Exit.INVALID, str(error)), code=error.code)
    except OSError as error:
        outcome = _failed(cannot("read or write", error))
    except KeyboardInterrupt:
        outcome = _failed(Failure(Exit.INTERRUPTED, "interrupted; files are whole or were not written"))
    except Exception as error:  # the last line of defence: exit code 4 is promised for whatever was not foreseen
        traceback.print_exc(file=sys.stderr)
        message = f"{type(error).__name__}: {error}; this is a defect of trm-verify, please report it"
        outcome = _failed(Failure(Exit.INTERNAL, message))
    _print(outcome, as_json, command)
    return int(outcome.code)


def _run(command: str, options: Any) -> Outcome:
    module = import_module(f"trm_verify.cli.{command.replace('-', '_')}")
    outcome: Outcome = module.run(options)
    return outcome


def _failed(failure: Failure, **more: str) -> Outcome:
    data = {"error": {"kind": failure.kind, "message": failure.message, **more}}

    def show(_: Any) -> None:
        # escaped, since a message may quote a hostile file
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in failure.message)
        print(f"trm-verify: {failure.kind}: {line}", file=sys.stderr)

    return Outcome(failure.code, data, show)


def _finite(value: Any) -> Any:
    """The same, with null for infinite bounds and NaN, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Plain:
    """What a command that needs nothing installed prints with, where rich is not there either."""

    def out(self, *objects: object, end: str = "\n", highlight: bool | None = None) -> None:
        print(*objects, end=end)


def _console() -> Any:
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return _Plain()
    return Console(markup=False, highlight=False, emoji=False)


def _print(outcome: Outcome, as_json: bool, command: str | None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "≤" gets "?" rather than a traceback
    try:
        if as_json:
            data = {"command": command, "exit_code": int(outcome.code), **outcome.data}
            print(json.dumps(_finite(data), allow_nan=False))
        else:
            outcome.show(_console())
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # `trm-verify show … | head` closed the pipe (rich turns that into SystemExit(1)); the exit code still tells
        # the result
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
