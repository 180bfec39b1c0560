"""Results: verdicts as truth values, explanations that say what was tried and what would help."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, tanh_model
from trm_verify.result import (
    CAVEAT,
    PROVED,
    REFUTED,
    UNKNOWN,
    ClaimResult,
    Trial,
    VerificationResult,
    VerificationResults,
)

X = torch.tensor([0.25, -0.5, 0.125])


def made(verdict: Any, **fields: Any) -> VerificationResult:
    return VerificationResult(verdict, {"answer": ClaimResult("answer", verdict)}, "graph", "weights", **fields)


def test_only_proved_is_true() -> None:
    assert PROVED and not REFUTED and not UNKNOWN
    assert made(PROVED) and not made(REFUTED) and not made(UNKNOWN)
    assert ClaimResult("answer", PROVED) and not ClaimResult("answer", REFUTED)
    assert [str(v) for v in (PROVED, REFUTED, UNKNOWN)] == ["PROVED", "REFUTED", "UNKNOWN"]


def test_a_batch_is_true_when_every_one_is_and_there_is_one() -> None:
    def results(*verdicts: Any) -> tv.VerificationResults:
        return tv.VerificationResults([made(v) for v in verdicts], None)

    assert results(PROVED, PROVED) and not results(PROVED, UNKNOWN) and not results(PROVED, REFUTED)
    assert not results(), "nothing proved is no proof"
    batch = results(PROVED, UNKNOWN, REFUTED)
    assert len(batch) == 3 and batch[1].verdict is UNKNOWN and [r.verdict for r in batch[1:]] == [UNKNOWN, REFUTED]
    assert batch.verdicts == [r.verdict for r in batch] == [PROVED, UNKNOWN, REFUTED]
    assert str(batch).startswith("1 PROVED, 1 REFUTED, 1 UNKNOWN") and CAVEAT in str(batch)


def test_without_a_proof_there_is_no_certificate() -> None:
    for result in (made(UNKNOWN), tv.VerificationResults([made(UNKNOWN)], None)):
        with pytest.raises(ValueError, match="nothing was proved"):
            result.certificate.to_bytes()
        assert not result.proves("exactly_one")
    with pytest.raises(ValueError, match="expected a proved rate"):
        made(UNKNOWN).steps(0.1)


def test_a_rejected_certificate_is_no_proof_and_no_silence() -> None:
    def rejected() -> Any:
        raise tv.CheckError("CLAIM", "another", "this")

    with pytest.raises(tv.CheckError):
        made(PROVED, certified=rejected).proves("exactly_one")


def test_an_explanation_rounds_rates_up() -> None:
    rate = 0.12345678949999
    text = made(UNKNOWN, trials=(Trial("radius", "linf", rate, 0.1),)).explain()
    assert "rate 0.12345679" in text and float("0.12345679") >= rate


SPIRAL = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])  # no direction of its own grows, so that no cone is found
UNPROVED: list[Any] = [
    pytest.param(lambda: tv.verify_fixed_point(autonomous(lambda z: z @ SPIRAL, 2)), id="spirals away"),
    pytest.param(lambda: tv.verify_fixed_point(autonomous(lambda z: z / 2 + 9), region=tv.Box(0, 1)), id="leaves"),
    pytest.param(
        lambda: tv.verify_fixed_point(autonomous(torch.sin, 2), region=tv.Box(-1, 1), norm="l2"), id="region too large"
    ),
    pytest.param(lambda: tv.verify_fixed_point(tanh_model(norm=3.0), X, norm="l2"), id="one norm only"),
    pytest.param(
        lambda: tv.verify_fixed_point(tanh_model(iteration=tv.Damped([1, 1, 1, 1, 0.5])), norm="l2"), id="damped"
    ),
]


@pytest.mark.parametrize("call", UNPROVED)
def test_unknown_says_what_was_tried_and_what_would_help(call: Any) -> None:
    result = call()
    assert result.verdict is UNKNOWN
    open_claims = [claim for claim in result.claims.values() if not claim]
    assert open_claims and all(claim.reason for claim in open_claims)
    assert any(claim.remedy for claim in open_claims)
    text = result.explain()
    assert CAVEAT in text and str(result) == text
    assert "  tried radius" in text or "  tried spectral" in text
    assert "  what would help: " in text


def test_a_proof_needs_no_help() -> None:
    text = tv.verify_fixed_point(tanh_model(), X).explain()
    assert text.startswith(f"PROVED ({CAVEAT})") and "would help" not in text
    assert text.count("  PROVED: ") == 4 and "answer(answer=" in text


def test_a_proof_without_a_norm_needs_no_help_either() -> None:
    """A contraction is an extra there: the claims that were asked for are proved."""
    result = tv.verify_fixed_point(autonomous(torch.cos))
    assert result.verdict is tv.PROVED and result.claims["contraction"].remedy
    assert "would help" not in result.explain()
    assert "would help" not in VerificationResults([result], None).explain()


def test_a_refutation_says_who_refutes() -> None:
    model = tanh_model()
    own = tv.verify_fixed_point(model, X).answer
    text = tv.verify_fixed_point(model, X, answer=(own[0] + 1) % 4).explain()
    assert text.startswith("REFUTED") and f"refuted by refutation(of=answer, answer={(own[0] + 1) % 4}" in text
    assert f"the centre answers {own} from step" in text
