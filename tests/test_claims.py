"""Expected claims: their text form means what the dataclass means, and the kernel finds just those that are proved."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import tanh_model
from trm_verify.claims import Claim, expectation_of
from trm_verify.kernel.check import check
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import FIELDS, Expectation, find, parse_expectation

c = tv.claims
X = torch.tensor([0.25, -0.5, 0.125])
ALL = [
    c.Contraction, c.AtMostOne, c.ExactlyOne, c.Invariant, c.Convergence, c.Answer, c.AnswerAt, c.Run, c.EnclosesAll,
    c.EnclosesOne, c.EnclosesThe, c.FixedPointAnswer, c.Lipschitz, c.Refutation, c.Settles, c.Commits,
]  # fmt: skip


def test_there_is_one_dataclass_a_claim_with_the_kernel_s_fields() -> None:
    assert {kind.name for kind in ALL} == set(FIELDS)
    for kind in ALL:
        assert {f.name for f in fields(kind)} == set(FIELDS[kind.name])


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (c.Contraction(rate=0.9, norm="linf"), "contraction(rate<=0.9,norm=linf)"),
        (c.Contraction(rate="9/10"), "contraction(rate<=9/10)"),
        (c.Contraction(rate=Fraction(1, 3), domain="all"), "contraction(rate<=1/3,domain=all)"),
        (c.ExactlyOne(domain=tv.Box(0, 1)), "exactly_one(domain=box(0,1))"),
        (c.ExactlyOne(domain=tv.Box([0, 0], ["1/3", "1/3"])), "exactly_one(domain=box(0,1/3))"),
        (c.Convergence(epsilon=1e-06, steps=40), "convergence(epsilon<=1e-06,steps<=40)"),
        (c.Answer(answer=7, steps=np.int64(40)), "answer(answer=7,steps<=40)"),
        (c.Answer(answer=torch.tensor([1, 2])), "answer(answer=1-2)"),
        (c.AnswerAt(answer=(0,), steps=3), "answer_at(answer=0,steps=3)"),
        (c.Run(radius=Decimal("0.5"), drift=0, final=3), "run(radius<=1/2,drift<=0,final<=3)"),
        (
            c.Commits(answer=[1, 0], rounds=3, committed=(1, 2), steps=20, threshold=0.5, blank=0),
            "commits(answer=1-0,rounds<=3,committed=1-2,steps<=20,threshold=1/2,blank=0)",
        ),
        (c.Commits(threshold=0.1), f"commits(threshold={Fraction(0.1)})"),
        (c.Commits(threshold="0.1"), "commits(threshold=1/10)"),
        (c.Invariant(), "invariant()"),
        (c.EnclosesAll(radius=0.25, domain="all"), "encloses_all(radius<=0.25,domain=all)"),
        (c.EnclosesOne(radius="1/3"), "encloses_one(radius<=1/3)"),
        (c.EnclosesThe(region=tv.Box(-1, 1)), "encloses_the(region=box(-1,1))"),
        (c.FixedPointAnswer(answer=[3, 1], region="all"), "fixed_point_answer(answer=3-1,region=all)"),
        (c.Lipschitz(constant=3.22), "lipschitz(constant<=3.22)"),
        (
            c.Refutation(of="contraction", rate=0.9, norm="linf", domain=tv.Box(0, 1)),
            "refutation(of=contraction,rate<=0.9,norm=linf,domain=box(0,1))",
        ),
        (c.Refutation(of="answer", answer=7, operator="picard"), "refutation(of=answer,answer=7,operator=picard)"),
    ],
)
def test_the_text_form_means_the_same(claim: Claim, text: str) -> None:
    assert str(claim) == text
    read, own = parse_expectation(text), expectation_of(claim)
    assert read.claim == own.claim and read.fields == own.fields


def test_floats_are_read_as_they_print() -> None:
    for ninety in (0.9, np.float64(0.9)):
        assert expectation_of(c.Contraction(rate=ninety)).fields == (("rate", Fraction(9, 10)),)
    assert str(c.Run(radius=1e20)) == "run(radius<=100000000000000000000)"


def test_a_box_with_different_sides_is_named_by_its_digest() -> None:
    text = str(c.ExactlyOne(domain=tv.Box([0, 0], [1, 2])))
    assert text.startswith("exactly_one(domain=sha256:") and parse_expectation(text).claim == "exactly_one"


@pytest.mark.parametrize("bad", ["contracts", "contraction(rate=0.9)", "contraction(speed<=1)", 7, None, object()])
def test_what_is_no_claim_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        expectation_of(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "half", [1]])
def test_bounds_are_finite_numbers(bad: Any) -> None:
    with pytest.raises(ValueError, match="finite numbers in rate"):
        expectation_of(c.Contraction(rate=bad))


@pytest.mark.parametrize("bad", ["parts", "tokens", "auto", 2])
def test_norms_are_those_that_claims_have(bad: Any) -> None:
    with pytest.raises(ValueError, match="expected a norm among linf, .*; got"):
        expectation_of(c.Contraction(norm=bad))


@pytest.mark.parametrize("bad", [-1, 1.5, "7", [], True])
def test_answers_are_labels(bad: Any) -> None:
    with pytest.raises(ValueError, match="labels"):
        expectation_of(c.Answer(answer=bad))


@pytest.fixture(scope="module")
def result() -> Any:
    return tv.verify_fixed_point(tanh_model(), X, eps="1/100")


def proved(result: Any) -> list[Claim]:
    return [
        c.Contraction(rate=result.rate, norm=result.norm, operator="picard", domain=tv.Box(-1, 1), region="all"),
        c.Contraction(rate=0.51, domain=tv.Box(0, "0.3"), region=tv.Box(-5, 5)),
        c.ExactlyOne(region="all", domain=tv.Box.ball(X, "1/100")),
        c.Convergence(rate=0.51, constant=1, start="all"),
        c.Convergence(epsilon=1e-6, steps=60, start="init"),
        c.Answer(answer=result.answer, steps=result.answer_steps, domain=tv.Box.ball(X, "1/100")),
        c.Answer(answer=result.answer[0], steps=result.answer_steps + 1, domain=tv.Box.ball(X, "1/200")),
    ]


def test_what_is_proved_is_found_in_both_spellings(result: Any) -> None:
    for claim in proved(result):
        assert result.proves(claim), claim
        if "sha256" not in str(claim):
            assert result.proves(str(claim)), claim


@pytest.mark.parametrize(
    "make",
    [
        lambda r: c.Contraction(rate=Fraction(r.rate) * Fraction(999, 1000)),
        lambda r: c.Contraction(domain="all"),
        lambda r: c.Contraction(domain=tv.Box(-1, "1.001")),
        lambda r: c.Contraction(norm="metric"),
        lambda r: c.Contraction(operator="implicit"),
        lambda r: c.ExactlyOne(region=tv.Box(-1, 1)),
        lambda r: c.Convergence(epsilon=1e-6, steps=3),
        lambda r: c.Answer(answer=(r.answer[0] + 1) % 4),
        lambda r: c.Answer(answer=r.answer, steps=r.answer_steps - 1),
        lambda r: c.Answer(answer=r.answer, domain=tv.Box.ball(X, "1/50")),
        lambda r: c.AnswerAt(answer=r.answer, steps=r.answer_steps),
        lambda r: c.Run(answer=r.answer),
        lambda r: c.Invariant(),
        lambda r: c.AtMostOne(),
    ],
)
def test_what_is_not_proved_is_not_found(result: Any, make: Any) -> None:
    assert not result.proves(make(result))


ROOT = Path(__file__).resolve().parent.parent / "certificates" / "good"


def meets(name: str, claim: Claim) -> bool:
    """Whether a good certificate proves the claim, in both spellings."""
    valid = check(*((ROOT / f"{name}.{end}").read_bytes() for end in ("trmcert.json", "safetensors")))
    found = []
    for expectation in (expectation_of(claim), expectation_of(str(claim))):
        try:
            found.append(find(valid, expectation) in valid.claims)
        except CheckError as error:
            assert error.code == "EXPECTED"
            found.append(False)
    assert found[0] == found[1]
    return found[0]


SIXTH, TANH, SPLIT = "fixed_point_one_sixth", "two_fixed_points_of_tanh", "case_split"
DOMINOES = "commits_one_after_the_other"
EXPANDING, SIDES, LOOP = "expanding_but_convergent", "no_fixed_point_on_either_side", "continuity_of_a_damped_tanh"


@pytest.mark.parametrize(
    ("name", "claim", "holds"),
    [
        (DOMINOES, c.Commits(answer=[0, 0, 1, 1], rounds=3, committed=[0, 1, 2, 0], threshold=1.0, blank=0), True),
        (DOMINOES, c.Commits(steps=12, rounds=4), True),
        (DOMINOES, c.Commits(rounds=2), False),
        (DOMINOES, c.Commits(committed=[0, 1, 1, 0]), False),
        (DOMINOES, c.Commits(threshold=0.5), False),
        (DOMINOES, c.Commits(domain="all"), False),
        (SIXTH, c.EnclosesThe(radius=0.001, region="all"), True),
        (SIXTH, c.EnclosesThe(radius=1e-5, region="all"), False),
        (SIXTH, c.EnclosesThe(region=tv.Box("1/8", "3/16")), False),
        (SIXTH, c.EnclosesOne(region=tv.Box("1/8", "3/16")), True),
        (SIXTH, c.EnclosesOne(region=tv.Box(0, 1)), False),
        (SIXTH, c.EnclosesAll(region=tv.Box("5/32", "11/64")), True),
        (SIXTH, c.EnclosesAll(region=tv.Box("21/128", "11/64")), True),
        (SIXTH, c.EnclosesAll(region=tv.Box("1/8", "3/16")), False),
        (SIXTH, c.FixedPointAnswer(answer=0, region="all"), True),
        (SIXTH, c.FixedPointAnswer(answer=1), False),
        (SIXTH, c.Answer(answer=0), False),
        (SIXTH, c.Refutation(of="convergence", operator="picard", region=tv.Box(0, 1)), True),
        (SIXTH, c.Refutation(of="convergence", operator="implicit"), False),
        (SIXTH, c.Refutation(of="convergence", region=tv.Box(0, 2)), False),
        (SIXTH, c.Refutation(of="fixed_point_answer", answer=1), True),
        (SIXTH, c.Refutation(of="fixed_point_answer", answer=0), False),
        (SPLIT, c.FixedPointAnswer(answer=0, domain=tv.Box(-1, 1)), True),
        (SPLIT, c.FixedPointAnswer(answer=0, domain=tv.Box("-1/2", "1/2")), True),
        (SPLIT, c.FixedPointAnswer(answer=0, domain=tv.Box(-1, 2)), False),
        (SPLIT, c.FixedPointAnswer(answer=0, region=tv.Box(-1, 1)), False),
        (TANH, c.Refutation(of="at_most_one", domain=tv.Box(-1, 1), region=tv.Box(-2, 2)), True),
        (TANH, c.Refutation(of="at_most_one", domain=tv.Box(-2, 2)), False),
        (TANH, c.Refutation(of="exactly_one"), False),
        (SIDES, c.Refutation(of="exactly_one", domain="all"), True),
        (SIDES, c.Refutation(of="exactly_one", domain=tv.Box(-1, 2)), False),
        (LOOP, c.Refutation(of="answer", answer=2, domain=tv.Box(-1, 1)), True),
        (LOOP, c.Refutation(of="answer", region="all"), False),
        (EXPANDING, c.Refutation(of="contraction", rate=0.9, norm="linf"), True),
        (EXPANDING, c.Refutation(of="contraction", rate="63/64", norm="linf", operator="picard"), True),
        (EXPANDING, c.Refutation(of="contraction", rate="1", norm="linf", operator="picard"), False),
        (EXPANDING, c.Refutation(of="contraction", rate=10, norm="l2"), True),
        (EXPANDING, c.Refutation(of="contraction", norm="mixed"), False),
        (EXPANDING, c.Contraction(norm="linf"), False),
    ],
)
def test_fixed_points_and_refutations_are_found(name: str, claim: Claim, holds: bool) -> None:
    assert meets(name, claim) == holds


def test_expectations_pass_as_they_are(result: Any) -> None:
    assert result.proves(Expectation("exactly_one"))
    with pytest.raises(ValueError, match="expected"):
        result.proves("exactly one")
