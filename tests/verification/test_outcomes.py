"""Results for many inputs: time limits, workers, common and single certificates."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trm_verify as tv
from tests.small import gate_model, tanh_model
from trm_verify.kernel.check import check as kernel_check
from trm_verify.result import VerificationResult
from trm_verify.verification.outcomes import up

BATCH = torch.tensor([[0.25, -0.5, 0.125], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.5], [0.9, 0.8, -0.7]])


def told(result: VerificationResult) -> tuple[Any, ...]:
    """Everything about a result but the times."""
    enclosure = result.enclosure
    return (
        result.verdict, dict(result.claims), result.rate, result.norm, result.answer, result.answer_steps,
        None if enclosure is None else (enclosure.center.tobytes(), enclosure.radius.tobytes()),
        None if result.counterexample is None else result.counterexample.tobytes(),
    )  # fmt: skip


@given(st.fractions())
def test_up_is_a_bound_even_as_it_prints(value: Fraction) -> None:
    found = up(value)
    assert Fraction(found) >= value and Fraction(repr(found)) >= value
    assert found - float(value) <= 4e-16 * max(abs(found), 1e-300)


def test_up_of_what_no_double_reaches() -> None:
    assert up(Fraction(2) ** 2000) == float("inf")
    assert up(-(Fraction(2) ** 2000)) == -sys.float_info.max
    assert up(Fraction(1, 3)) > Fraction(1, 3) and up(Fraction(1, 4)) == 0.25
    assert up(Fraction(sys.float_info.max)) == float("inf"), "the largest double prints as a smaller number"


def test_a_common_certificate_holds_every_answer_and_each_result_has_its_own() -> None:
    model = tanh_model()
    results = tv.verify_fixed_point(model, BATCH)
    assert results and isinstance(results, tv.VerificationResults)
    assert [c["claim"] for c in results.certificate.predicate["claims"]].count("answer") == 4
    for row, result in zip(BATCH, results, strict=True):
        own = [c for c in result.certificate.predicate["claims"] if c["claim"] == "answer"]
        assert len(own) == 1 and own[0]["answer"] == list(result.answer or ())
        claim = tv.claims.Answer(answer=result.answer, steps=result.answer_steps, domain=tv.Box.point(row))
        assert results.proves(claim) and result.proves(claim)
        assert result.claims["answer"].statement in tv.check(result.certificate, weights(model)).claims


def weights(model: Any) -> bytes:
    from trm_verify.export import export

    return export(model).to_bytes()


def test_a_statement_is_the_claim_s_own() -> None:
    """Rows that rest on different facts each quote the right one of several claims of the same name."""
    results = tv.verify_fixed_point(gate_model(), torch.tensor([[0.5, 0.25], [0.125, 0.25]]))
    assert [r.rate for r in results] == [0.5, 0.25]
    for result in results:
        assert f"rate<={result.rate}" in result.claims["contraction"].statement
        assert f"rate<={result.rate}" in result.claims["convergence"].statement
        assert result.proves(result.claims["answer"].statement.replace("point of dimension 2 ", ""))


def test_rows_that_rest_on_the_whole_domain_share_its_claims_once() -> None:
    results = tv.verify_fixed_point(tanh_model(), BATCH)
    names = [c["claim"] for c in results.certificate.predicate["claims"]]
    assert names == ["contraction", "exactly_one", "convergence", "convergence", *["answer"] * 4]


@pytest.mark.slow
def test_two_workers_give_what_one_gives() -> None:
    """The same claims; the last bits of multipliers may depend on where a process has its arrays in memory."""
    model = tanh_model()
    one = tv.verify_fixed_point(model, BATCH, eps="1/100", answer=[3, 3, 0, 1])
    two = tv.verify_fixed_point(model, BATCH, eps="1/100", answer=[3, 3, 0, 1], workers=2)
    assert [told(r) for r in one] == [told(r) for r in two]
    claims = [r.certificate.predicate["claims"] for r in (one, two)]
    assert [(c["claim"], c.get("answer"), c.get("steps")) for c in claims[0]] == [
        (c["claim"], c.get("answer"), c.get("steps")) for c in claims[1]
    ]
    assert len({r.verdict for r in one}) > 1, "the batch has to hold more than one kind of outcome"


def test_a_budget_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    from trm_verify.verification import decide as module

    clock = {"now": 0.0}
    monkeypatch.setattr("trm_verify.verification.search.time.monotonic", lambda: clock["now"])
    true = module.prove_answer

    def slow(*args: Any) -> Any:
        clock["now"] += 4.0
        return true(*args)

    monkeypatch.setattr(module, "prove_answer", slow)
    results = tv.verify_fixed_point(tanh_model(), BATCH, budget=7, workers=1)
    assert [r.verdict for r in results] == [tv.PROVED, tv.PROVED, tv.UNKNOWN, tv.UNKNOWN]
    for result in results[2:]:
        assert "the time was used up" in result.claims["answer"].reason
        assert "budget" in result.claims["answer"].remedy and result.claims["exactly_one"]
    assert "input 2: UNKNOWN: answer" in results.explain() and "budget" in results.explain()
    assert [c["claim"] for c in results.certificate.predicate["claims"]].count("answer") == 2


def test_a_timeout_is_each_input_s_own() -> None:
    results = tv.verify_fixed_point(tanh_model(), BATCH, timeout=0)
    assert [r.verdict for r in results] == [tv.UNKNOWN] * 4 or any(results)
    for result in results:
        assert result or "time" in result.claims["answer"].reason


def test_a_readout_of_one_class_answers_nothing() -> None:
    model = tv.recursive(lambda z, x: z / 2 + x, state_shape=(1,), input_shape=(1,), readout=lambda z: z)
    result = tv.verify_fixed_point(model, torch.zeros(1))
    assert result.verdict is tv.UNKNOWN and "competitor" in result.claims["answer"].reason
    assert result.claims["answer"].remedy and result.answer is None and result.claims["convergence"]


def test_no_answer_is_sought_where_nothing_converges() -> None:
    model = tv.recursive(lambda z, x: 2 * z + x, state_shape=(2,), input_shape=(2,), readout=lambda z: z)
    results = tv.verify_fixed_point(model, torch.eye(2))
    for result in results:
        assert not result and result.answer is None and result.enclosure is None and result.rate is None
        assert result.claims["answer"].reason == "convergence of the iteration was not proved"


def test_mixed_outcomes_in_a_batch() -> None:
    model = tanh_model()
    own = [r.answer[0] for r in tv.verify_fixed_point(model, BATCH)]
    wanted = [own[0], (own[1] + 1) % 4, own[2], own[3]]
    results = tv.verify_fixed_point(model, BATCH, answer=wanted)
    assert [r.verdict for r in results] == [tv.PROVED, tv.REFUTED, tv.PROVED, tv.PROVED]
    assert np.array_equal(results[1].counterexample, BATCH[1]) and not results
    valid = kernel_check(results[1].certificate.to_bytes(), weights(model))
    assert any(f"answer={own[1]}" in s for s in map(str, tv.check(results[1].certificate, weights(model)).claims))
    assert results[1].proves(tv.claims.Refutation(of="answer", answer=wanted[1]))
    assert valid.claims


def test_an_enclosure_holds_the_fixed_points_of_the_ball() -> None:
    """One that can be solved by hand: z* = 2x."""
    model = tv.recursive(lambda z, x: z / 2 + x, state_shape=(2,), input_shape=(2,))
    result = tv.verify_fixed_point(model, torch.tensor([0.5, -0.25]), eps="1/8")
    assert result.enclosure is not None
    low, high = (result.enclosure.center + sign * result.enclosure.radius for sign in (-1, 1))
    assert np.all(low <= [0.75, -0.75]) and np.all(high >= [1.25, -0.25])
    np.testing.assert_allclose(result.enclosure.radius, 0.25, atol=1e-13)


def test_steps_of_an_input_are_counted_for_its_own_ball() -> None:
    model = tv.recursive(lambda z, x: z / 2 + x, state_shape=(1,), input_shape=(1,))
    result = tv.verify_fixed_point(model, torch.tensor([0.5]))
    # z* = 1 and z_k = 1 − 2^−k
    assert [result.steps(Fraction(1, 2**k)) for k in (1, 2, 10)] == [1, 2, 10]
    assert result.steps("1/2", initial_error=8) == 4
    everywhere = tv.verify_fixed_point(model)
    with pytest.raises(ValueError, match="initial error"):
        everywhere.steps(0.5)
    assert everywhere.steps(0.5, initial_error="8") == 4
    for bad in (0, -1, "nan", None):
        with pytest.raises(ValueError, match="epsilon"):
            result.steps(bad)
    with pytest.raises(ValueError, match="initial_error"):
        result.steps(0.5, initial_error=-1)
    slow = tv.recursive(lambda z, x: (1 - 2.0**-45) * z + x, state_shape=(1,), input_shape=(1,))
    with pytest.raises(ValueError, match="10\\*\\*12 steps"):
        tv.verify_fixed_point(slow).steps(1e-6, 1)
