"""Terminal tables: every verdict and reason is there, and hostile text is not obeyed."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console

from trm_verify.report import fields, print_certificate, print_check, print_results, print_run
from trm_verify.result import PROVED, UNKNOWN, ClaimResult, Trial, VerificationResult

DIGEST = "ab" * 32


def printed(call: Any, *args: Any, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=100, markup=False, highlight=False, emoji=False)
    call(console, *args, **options)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def result(verdict: Any = PROVED, **options: Any) -> VerificationResult:
    claims = {
        "exactly_one": ClaimResult("exactly_one", PROVED, f"exactly_one(domain=sha256:{DIGEST})"),
        "answer": ClaimResult("answer", verdict, "answer 3", "" if verdict else "MARGIN: too close"),
    }
    trials = (Trial("spectral", "l2", 0.9000001, 0.1, "proved"), Trial("radius", "linf", None, 0.2, "not below 1"))
    return VerificationResult(verdict, claims, DIGEST, DIGEST, rate=0.9000001, norm="l2", trials=trials, **options)


def test_results_of_one_model() -> None:
    text = printed(print_results, [result(answer=(3,), answer_steps=8)], "PROVED", batch=False)
    assert text.startswith("PROVED  (real arithmetic; float32 rounding not covered)")
    assert "exactly_one(domain=sha256:abababababab…)" in text
    assert "0.900000100" in text and "not below 1" in text


def test_a_line_for_each_input() -> None:
    rows = [result(answer=(3,), answer_steps=8), result(UNKNOWN)]
    text = printed(print_results, rows, "UNKNOWN", batch=True)
    assert "8 steps" in text and "MARGIN: too close" in text
    assert "1 of 2 inputs proved" in text


def test_unknown_says_what_would_help() -> None:
    claims = {"exactly_one": ClaimResult("exactly_one", UNKNOWN, reason="no norm was found", remedy="a smaller step")}
    text = printed(print_results, [VerificationResult(UNKNOWN, claims, DIGEST, DIGEST)], "UNKNOWN", batch=False)
    assert "no norm was found" in text and "what would help: a smaller step" in text


def run(steps: int, final: int) -> SimpleNamespace:
    return SimpleNamespace(
        answers=[None] + [(7,)] * steps, residuals=np.full(steps, 0.01), distances=np.full(steps + 1, 0.12345),
        drifts=np.zeros(steps + 1), final=final, answer=(7,), rate=0.9, norm="l2",
    )  # fmt: skip


def test_a_run_shows_each_step_up_to_the_final_one() -> None:
    text = printed(print_run, run(30, 5))
    assert "answer 7 is final from step 5 on" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["0", "–", "–", "<=", "0.124"] in lines
    assert any(line[:1] == ["5"] and "final" in line for line in lines)
    assert [line[0] for line in lines if line and line[0].isdigit()] == [*map(str, range(14)), "29", "30"]


def report(**changes: Any) -> dict[str, Any]:
    claims = ["contraction(rate<=0.9)"] + [f"answer(answer={i})" for i in range(9)]
    return {
        "certificate": "a.trmcert.json", "verdict": "VALID", "not_compared": ["claim", "graph"], "semantics": "real",
        "weights": DIGEST, "graph": DIGEST, "unused": ["\x1b[2J"], "claims": claims, **changes,
    }  # fmt: skip


def test_a_valid_certificate_names_what_was_not_compared() -> None:
    text = printed(print_check, report())
    assert text.startswith("VALID (claim and graph not compared)  a.trmcert.json")
    assert DIGEST in text and "\x1b" not in text
    assert "and 3 more of answer (--json lists all)" in text
    assert "not compared: contraction.domain" in printed(print_check, report(not_compared=["contraction.domain"]))


def test_an_invalid_one_says_why() -> None:
    text = printed(print_check, report(verdict="INVALID", message="RATE: expected\n\x1b[31m less"))
    assert "INVALID" in text and "RATE: expected ?[31m less" in text and "proved" not in text


def test_an_unchecked_one_is_labelled() -> None:
    inside: dict[str, Any] = {"nodes": {"step": 3}, "operations": {"relu": 2}, "norms": [], "rules": {}, "claimed": {}}
    inside |= dict.fromkeys(("produced_by", "subject", "weights_sha256", "state", "input"), "?")
    data = report(verdict="NOT CHECKED", message="the weights are not there", certificate_bytes=10, contents=inside)
    text = printed(print_certificate, data)
    assert text.startswith("NOT CHECKED") and "true or not" in text and "VALID" not in text
    assert "2 × relu" in text and "10 bytes" in text


def test_fields_are_aligned() -> None:
    text = printed(lambda console: console.print(fields({"a": 1, "long name": "x"})))
    assert [line.rstrip() for line in text.splitlines()] == ["a          1", "long name  x"]


def test_claims_that_inputs_do_not_share_are_not_said_of_all() -> None:
    own = result(answer=(3,), answer_steps=8)
    other = VerificationResult(PROVED, {"exactly_one": ClaimResult("exactly_one", PROVED, "elsewhere")}, DIGEST, DIGEST)
    assert "claims of input 0" in printed(print_results, [own, other], "PROVED", batch=True)
    assert "claims of input 0" not in printed(print_results, [own, own], "PROVED", batch=True)
