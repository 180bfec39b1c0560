"""Runs SMT solvers on script files, each in a process of its own that is killed when its time is over."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOLVERS = ("z3", "cvc5")
GRACE = 5.0  # seconds that a solver gets beyond its own limit to say that it gave up
INSTALL = 'pip install "trm-verify[smt]"'

# The cvc5 wheel ships no program.
_CVC5 = """
import sys, cvc5
solver = cvc5.Solver()
solver.setOption("tlimit-per", sys.argv[2])
parser = cvc5.InputParser(solver)
parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, sys.argv[1])
while not (command := parser.nextCommand()).isNull():
    print(command.invoke(solver, parser.getSymbolManager()), end="")
"""


@dataclass(frozen=True)
class Verdict:
    """`answer` is `unsat`, `sat`, `unknown`, `timeout` or `error`; `note` says more about the last three."""

    solver: str
    answer: str
    seconds: float
    note: str = ""


def _z3() -> str | None:
    """The program that the z3-solver wheel ships, or another one."""
    shipped = shutil.which("z3", path=sysconfig.get_path("scripts"))
    return shipped or shutil.which("z3")


def available() -> tuple[str, ...]:
    """The solvers that are installed."""
    found = {"z3": _z3() is not None, "cvc5": importlib.util.find_spec("cvc5") is not None}
    return tuple(name for name in SOLVERS if found[name])


def _command(solver: str, script: Path, seconds: float) -> Sequence[str]:
    if solver == "z3":
        return [_z3() or "z3", f"-t:{int(1000 * seconds)}", "-smt2", str(script)]
    return [sys.executable, "-I", "-c", _CVC5, str(script), str(int(1000 * seconds))]


def solve(solver: str, script: Path, seconds: float) -> Verdict:
    """The answer of one solver to one script. Anything but a plain answer, a parse error say, is an `error`."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            _command(solver, script, seconds), capture_output=True, text=True, timeout=seconds + GRACE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Verdict(solver, "timeout", time.monotonic() - start, f"killed after {seconds + GRACE:g} s")
    except OSError as error:
        return Verdict(solver, "error", time.monotonic() - start, str(error))
    spent, said = time.monotonic() - start, done.stdout.strip()
    if said in ("unsat", "sat"):
        return Verdict(solver, said, spent)
    if said in ("unknown", "timeout"):
        late = spent >= seconds
        return Verdict(solver, "timeout" if late else "unknown", spent, f"no answer in {seconds:g} s" if late else said)
    text = " ".join((said + " " + done.stderr).split())
    return Verdict(solver, "error", spent, text[-300:] or f"exit code {done.returncode} and no answer")
