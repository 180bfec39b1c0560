"""z3 in a process of its own: a query that takes too long is killed, and a crash of z3 is no crash of ours.

Queries are SMT-LIB 2 text; an answer is `sat` with rationals, `unsat` with a core, or `unknown` with a reason.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO

MISSING = 'z3 is not installed: pip install "trm-verify[smt]"'
GRACE = 2.0  # seconds beyond the solver's own limit, after which it is killed
START = 30.0  # seconds for the process to begin

_WORKER = """
import json, sys
import z3
print("{}", flush=True)
for line in sys.stdin:
    query = json.loads(line)
    answer = {}
    try:
        solver = z3.Solver()
        solver.set("timeout", query["milliseconds"])
        solver.from_string(query["text"])
        status = solver.check(*[z3.Bool(name) for name in query["assumptions"]])
        answer["status"] = str(status)
        if status == z3.sat:
            model = solver.model()
            found = [model.eval(z3.Real(name), model_completion=True) for name in query["names"]]
            answer["values"] = [[hex(v.numerator_as_long()), hex(v.denominator_as_long())] for v in found]
        elif status == z3.unsat:
            answer["core"] = [str(name) for name in solver.unsat_core()]
        else:
            answer["reason"] = solver.reason_unknown()
    except (z3.Z3Exception, AttributeError) as error:
        answer = {"status": "unknown", "reason": f"z3 failed: {error}"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Verdict:
    """`sat` with the values of the names that were asked for; `unsat` with the assumptions it needed; or neither, and
    why. Nobody has to believe either: values are replayed exactly, and an `unsat` alone proves nothing.
    """

    status: str
    values: dict[str, Fraction] = field(default_factory=dict)
    core: tuple[str, ...] = ()
    reason: str = ""


class Z3:
    """A z3 process that is started with the first query, and again after one that was killed. Close it when done."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Z3:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def ask(self, text: str, names: Sequence[str], seconds: float, assumptions: Sequence[str] = ()) -> Verdict:
        """One query, with a hard limit.

        Args:
            text: declarations and assertions.
            names: real constants whose values are wanted.
            seconds: at most; a little more until a process that does not listen is killed.
            assumptions: Boolean constants that are assumed, for the core.
        """
        if importlib.util.find_spec("z3") is None:
            return Verdict("unknown", reason=MISSING)
        if seconds <= 0:
            return Verdict("unknown", reason="the time for z3 was used up")
        query = {
            "text": text, "names": list(names), "assumptions": list(assumptions),
            "milliseconds": int(1000 * seconds) + 1,
        }  # fmt: skip
        try:
            into, out = self._running()
            into.write(json.dumps(query) + "\n")
            into.flush()
            line = _read(out, seconds + GRACE)
        except OSError as error:
            self.close()
            return Verdict("unknown", reason=f"z3 ended unexpectedly: {error}")
        if not line:
            self.close()
            late = f"z3 did not answer within {seconds:.3g} s and was killed"
            return Verdict("unknown", reason=late if line is None else "z3 ended unexpectedly")
        answer = json.loads(line)
        values = (Fraction(int(a, 16), int(b, 16)) for a, b in answer.get("values", []))
        return Verdict(
            answer["status"], dict(zip(names, values, strict=False)), tuple(answer.get("core", ())),
            answer.get("reason", ""),
        )  # fmt: skip

    def _running(self) -> tuple[IO[str], IO[str]]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            if self._process.stdout is None or not _read(self._process.stdout, START):
                raise OSError("it did not start")
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("no pipes")
        return self._process.stdin, self._process.stdout


def _read(stream: IO[str], seconds: float) -> str | None:
    """One line; empty at the end of the stream, None when it takes too long."""
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(seconds)
    return found[0] if found else None
