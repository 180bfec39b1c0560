"""Golden certificates as scripts, and solvers' answers to them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trm_verify.obligations import EXPORTED, Obligation, Obligations, export
from trm_verify.obligations.export import SMALL
from trm_verify.obligations.solve import available, solve

ROOT = Path(__file__).resolve().parents[2] / "certificates"
CORPUS: list[dict[str, Any]] = json.loads((ROOT / "corpus.json").read_text(encoding="utf-8"))
GOOD = {Path(c["certificate"]).name.removesuffix(".trmcert.json"): c for c in CORPUS if c["code"] is None}
BAD = {Path(c["certificate"]).name.removesuffix(".trmcert.json"): c for c in CORPUS if c["code"] is not None}
SECONDS = 120.0  # far more than a script needs on an idle machine

needs_z3 = pytest.mark.skipif("z3" not in available(), reason="z3 is not installed")
needs_cvc5 = pytest.mark.skipif("cvc5" not in available(), reason="cvc5 is not installed")


def files(name: str) -> tuple[bytes, bytes]:
    """Certificate and weights of a golden case."""
    case = GOOD.get(name) or BAD[name]
    return (ROOT / case["certificate"]).read_bytes(), (ROOT / case["weights"]).read_bytes()


@cache
def exported(name: str, small: int = SMALL) -> Obligations:
    return export(*files(name), small)


def scripts(made: Obligations) -> list[Obligation]:
    return [item for item in made.items if item.status == EXPORTED]


def answer(text: str, folder: Path, solver: str = "z3") -> str:
    """What a solver says to a script; an error with its text."""
    path = folder / "script.smt2"
    path.write_text(text, encoding="utf-8")
    verdict = solve(solver, path, SECONDS)
    return verdict.answer if verdict.answer != "error" else f"error: {verdict.note}"


def answer_here(text: str, solver: str = "z3") -> str:
    """The same from the solver's library in this process: to start another for each script takes longer than most
    answers.
    """
    if solver == "z3":
        import z3

        context = z3.Context()
        limited = f"(set-option :timeout {int(1000 * SECONDS)})\n{text}"
        found: str = z3.Z3_eval_smtlib2_string(context.ref(), limited).strip()
        return found
    import cvc5

    engine = cvc5.Solver()
    engine.setOption("tlimit-per", str(int(1000 * SECONDS)))
    parser = cvc5.InputParser(engine)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "script")
    said = []
    while not (command := parser.nextCommand()).isNull():
        said.append(command.invoke(engine, parser.getSymbolManager()))
    return "".join(said).strip()


def assumptions(text: str) -> str:
    """The script without the assertion that a goal fails: satisfiable unless the assumptions contradict each other."""
    return text[: text.rindex("(assert (not ")] + text[text.rindex("(check-sat)") :]
