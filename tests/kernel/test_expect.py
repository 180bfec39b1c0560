"""Expectations: a valid proof of something else must not pass for the claim that the caller wants."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.certificates import kernel_graph, linear_model
from tests.kernel.test_evaluate import box, flat
from trm_verify.kernel.check import Valid
from trm_verify.kernel.claims import (
    Answer,
    AtMostOne,
    Commits,
    Conclusion,
    Contraction,
    Convergence,
    Encloses,
    ExactlyOne,
    FixedPointAnswer,
    Invariant,
    Refuted,
    Run,
)
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import (
    NORMS,
    Expectation,
    box_digest,
    describe,
    find,
    name_of,
    parse_expectation,
    parse_number,
    rounded_up,
)
from trm_verify.kernel.norms import BlockNorm, MetricNorm
from trm_verify.kernel.operators import IMPLICIT, PICARD, Operator
from trm_verify.kernel.tensor import Tensor

ALL = Tensor((2,))
MID = box([(F(-1), F(1)), (F(-1), F(1))])
POINT = flat([F(0), F(1, 4)])
LINF, WEIGHTED, L2 = BlockNorm((1, 1), (1, 1), 0), BlockNorm((1, 1), (1, 2), 0), BlockNorm((2,), (1,), 0)
MIXED, METRIC = BlockNorm((2, 2), (1, 1), 0), MetricNorm((1, 0, 0, 1), 0, F(1, 4), 2)

CONTRACTION = Contraction(PICARD, MID, MID, LINF, F(9, 10))
CONVERGENCE = Convergence(PICARD, MID, None, LINF, F(2), F(1, 2), epsilon=F(1, 1000), steps=30)
ANSWER = Answer(PICARD, MID, (3, 1), 40)
AT = Answer(PICARD, POINT, (3,), 40, at=True)
COMMITS = Commits(PICARD, MID, (3, 1), (2, 1), 40, F(1, 4), 0)
RUN = Run(PICARD, POINT, LINF, POINT, F(1, 8), (3,), 2, (F(0), F(1, 2)), (F(3), F(1, 8)), (None, (3,)))
THE, EVERY, SOME = (Encloses(kind, MID, ALL, MID) for kind in ("the", "all", "one"))
FIXED = FixedPointAnswer(MID, ALL, (3, 1))
EXPANDS = Refuted("contraction", MID, MID, PICARD, LINF, F(9, 10))
TURNS = Refuted("convergence", ALL, MID, PICARD)
GRAPH = kernel_graph(linear_model([[F(1, 2)]]))


def meets(claim: Conclusion, text: str | Expectation, vocabulary: int | None = None) -> bool:
    graph = replace(GRAPH, vocabulary=vocabulary)
    expectation = parse_expectation(text) if isinstance(text, str) else text
    try:
        return find(Valid("0" * 64, graph, (), "real", (claim,)), expectation) is claim
    except CheckError as error:
        assert error.code == "EXPECTED"
        return False


YES = [
    (CONTRACTION, "contraction"),
    (CONTRACTION, "contraction()"),
    (CONTRACTION, " contraction( rate <= 0.9 , norm = linf ) "),
    (CONTRACTION, "contraction(rate<=9/10)"),
    (CONTRACTION, "contraction(rate<=1)"),
    (CONTRACTION, "contraction(rate<=95e-2)"),
    (CONTRACTION, "contraction(norm=weighted_linf)"),
    (replace(CONTRACTION, norm=WEIGHTED), "contraction(norm=weighted_linf)"),
    (replace(CONTRACTION, norm=L2), "contraction(norm=l2)"),
    (replace(CONTRACTION, norm=MIXED), "contraction(norm=mixed)"),
    (replace(CONTRACTION, norm=METRIC), "contraction(norm=metric)"),
    (CONTRACTION, "contraction(operator=picard)"),
    (CONTRACTION, "contraction(domain=box(-1,1), region=box(-1,1))"),
    (CONTRACTION, "contraction(domain=box(0,1/2),region=box(-0.3,0.7))"),
    (replace(CONTRACTION, domain=ALL), "contraction(domain=all)"),
    (replace(CONTRACTION, domain=ALL), "contraction(domain=box(-9,9))"),
    (CONTRACTION, f"contraction(domain=sha256:{box_digest(MID)})"),
    (AtMostOne(MID, MID), "at_most_one(region=box(0,1))"),
    (ExactlyOne(MID, MID), "exactly_one(region=box(-1,1))"),
    (ExactlyOne(MID, ALL), "exactly_one(region=all)"),
    (Invariant(PICARD, MID, MID), "invariant(region=box(-1,1))"),
    (CONVERGENCE, "convergence(epsilon<=0.001,steps<=30,start=init)"),
    (replace(CONVERGENCE, start=ALL), "convergence(start=init)"),
    (replace(CONVERGENCE, start=ALL), "convergence(start=all)"),
    (replace(CONVERGENCE, start=MID), "convergence(start=box(0,1))"),
    (CONVERGENCE, "convergence(constant<=2,rate<=0.5)"),
    (ANSWER, "answer(answer=3-1,steps<=40)"),
    (ANSWER, "answer(steps<=41)"),
    (AT, "answer_at(answer=3,steps=40)"),
    (COMMITS, "commits(answer=3-1,committed=2-1,rounds<=3,steps<=40,threshold=0.25,blank=0,domain=box(0,1))"),
    (COMMITS, "commits(rounds<=4,threshold=1/4)"),
    (replace(COMMITS, committed=(0, 0)), "commits(rounds<=1,committed=0-0)"),
    (RUN, "run(answer=3,radius<=0.125)"),
    (THE, "encloses_the"),
    (THE, "encloses_the(radius<=1,domain=box(0,1),region=all)"),
    (EVERY, "encloses_all(radius<=1,region=all)"),
    (replace(EVERY, region=MID), "encloses_all(region=box(0,1))"),
    (replace(SOME, region=MID), "encloses_one(region=box(-1,1))"),
    (FIXED, "fixed_point_answer(answer=3-1,domain=box(0,1),region=all)"),
    (EXPANDS, "refutation"),
    (EXPANDS, "refutation(of=contraction,rate<=0.9,norm=linf,operator=picard)"),
    (EXPANDS, "refutation(rate<=0.1)"),
    (EXPANDS, "refutation(domain=box(-1,1),region=box(-1,1))"),
    (EXPANDS, f"refutation(domain=sha256:{box_digest(MID)})"),
    (TURNS, "refutation(of=convergence,domain=all)"),
]


@pytest.mark.parametrize(("claim", "text"), YES)
def test_expectations_that_are_met(claim: Conclusion, text: str) -> None:
    assert meets(claim, text)


NO = [
    (CONTRACTION, "exactly_one"),
    (CONTRACTION, "convergence"),
    (CONTRACTION, "contraction(rate<=0.8999999999999999999999)"),
    (CONTRACTION, "contraction(rate<=-1)"),
    (CONTRACTION, "contraction(norm=l2)"),
    (replace(CONTRACTION, norm=WEIGHTED), "contraction(norm=linf)"),
    (replace(CONTRACTION, norm=METRIC), "contraction(norm=l2)"),
    (replace(CONTRACTION, norm=MIXED), "contraction(norm=l2)"),
    (CONTRACTION, "contraction(operator=implicit)"),
    (replace(CONTRACTION, operator=IMPLICIT), "contraction(operator=picard)"),
    (replace(CONTRACTION, operator=Operator("outer_damped", (F(1), F(1)))), "contraction(operator=picard)"),
    (CONTRACTION, "contraction(domain=all)"),
    (CONTRACTION, "contraction(region=all)"),
    (CONTRACTION, "contraction(domain=box(-1.1,1))"),
    (CONTRACTION, "contraction(domain=sha256:" + "0" * 64 + ")"),
    (replace(CONTRACTION, domain=ALL), f"contraction(domain=sha256:{box_digest(MID)})"),
    (ExactlyOne(MID, MID), "exactly_one(region=box(0,1))"),
    (ExactlyOne(MID, ALL), "exactly_one(region=box(-1,1))"),
    (ExactlyOne(MID, MID), "exactly_one(region=all)"),
    (ExactlyOne(MID, MID), "at_most_one"),
    (AtMostOne(MID, MID), "exactly_one"),
    (Invariant(PICARD, MID, MID), "invariant(region=box(0,1))"),
    (Invariant(PICARD, MID, ALL), "invariant(region=box(-1,1))"),
    (CONVERGENCE, "convergence(epsilon<=0.0009)"),
    (CONVERGENCE, "convergence(steps<=29)"),
    (CONVERGENCE, "convergence(constant<=1)"),
    (CONVERGENCE, "convergence(start=all)"),
    (CONVERGENCE, "convergence(start=box(0,0))"),
    (replace(CONVERGENCE, start=MID), "convergence(start=init)"),
    (replace(CONVERGENCE, start=MID), "convergence(start=all)"),
    (replace(CONVERGENCE, epsilon=None, steps=None), "convergence(epsilon<=1)"),
    (replace(CONVERGENCE, epsilon=None, steps=None), "convergence(steps<=1000)"),
    (ANSWER, "answer(answer=3)"),
    (ANSWER, "answer(answer=1-3)"),
    (ANSWER, "answer(answer=31)"),
    (ANSWER, "answer(steps<=39)"),
    (ANSWER, "answer_at(steps=40)"),
    (AT, "answer"),
    (AT, "answer_at(steps=41)"),
    (AT, "answer_at(steps=39)"),
    (AT, "answer_at(domain=all)"),
    (COMMITS, "commits(rounds<=2)"),
    (COMMITS, "commits(steps<=39)"),
    (COMMITS, "commits(threshold=1/8)"),
    (COMMITS, "commits(threshold=1/2)"),
    (COMMITS, "commits(blank=1)"),
    (COMMITS, "commits(answer=3)"),
    (COMMITS, "commits(committed=1-2)"),
    (COMMITS, "commits(committed=21)"),
    (COMMITS, "commits(domain=all)"),
    (COMMITS, "commits(operator=implicit)"),
    (COMMITS, "answer"),
    (ANSWER, "commits"),
    (RUN, "run(radius<=0.124)"),
    (RUN, "run(answer=2)"),
    (RUN, "answer(answer=3)"),
    (THE, "encloses_one"),
    (THE, "encloses_all"),
    (SOME, "encloses_the"),
    (THE, "encloses_the(radius<=0.999)"),
    (THE, "encloses_the(domain=all)"),
    (THE, "encloses_the(region=box(-1,1))"),
    (replace(SOME, region=MID), "encloses_one(region=box(0,1))"),
    (replace(EVERY, region=MID), "encloses_all(region=all)"),
    (replace(EVERY, box=ALL), "encloses_all(radius<=1000)"),
    (FIXED, "answer"),
    (FIXED, "fixed_point_answer(answer=3)"),
    (FIXED, "fixed_point_answer(region=box(-1,1))"),
    (FIXED, "fixed_point_answer(domain=box(-2,1))"),
    (EXPANDS, "contraction"),
    (EXPANDS, "refutation(of=convergence)"),
    (EXPANDS, "refutation(rate<=0.91)"),
    (EXPANDS, "refutation(norm=l2)"),
    (EXPANDS, "refutation(domain=box(0,1))"),
    (EXPANDS, "refutation(domain=box(-2,2))"),
    (EXPANDS, "refutation(domain=all)"),
    (EXPANDS, "refutation(region=all)"),
    (EXPANDS, "refutation(answer=3)"),
    (TURNS, "refutation(rate<=0)"),
    (TURNS, "refutation(norm=linf)"),
    (TURNS, "refutation(domain=box(-1,1))"),
    (replace(TURNS, operator=IMPLICIT), "refutation(operator=picard)"),
]


@pytest.mark.parametrize(("claim", "text"), NO)
def test_expectations_that_are_not_met(claim: Conclusion, text: str) -> None:
    assert not meets(claim, text)


def test_radius_is_a_distance_in_every_coordinate() -> None:
    """Weights of 2^30 make any radius look tiny."""
    for norm in (BlockNorm((1, 1), (1, 1), 30), BlockNorm((2,), (1,), 30)):
        assert not meets(replace(RUN, norm=norm, radius=F(1, 8)), "run(radius<=0.125)")
        assert meets(replace(RUN, norm=norm, radius=F(1, 2**33)), "run(radius<=0.125)")
    assert not meets(replace(RUN, norm=METRIC), "run(radius<=0.125)") and meets(
        replace(RUN, norm=METRIC), "run(radius<=0.25)"
    )


def test_drifts_and_the_final_step_of_a_run() -> None:
    assert meets(RUN, "run(drift<=0.5)") and not meets(RUN, "run(drift<=0.4)")
    assert meets(RUN, "run(final<=2)") and not meets(RUN, "run(final<=1)")


def test_damping_factors_are_part_of_the_operator() -> None:
    half, other = (Operator("outer_damped", (a, a)) for a in (F(1, 2), F(1, 4)))
    claim = replace(CONTRACTION, operator=half)
    assert meets(claim, Expectation("contraction", (("operator", str(half)),)))
    assert not meets(claim, Expectation("contraction", (("operator", str(other)),)))


def test_all_integer_inputs_are_the_vocabulary() -> None:
    tokens = box([(F(0), F(4)), (F(0), F(4))])
    claim = replace(CONTRACTION, domain=tokens)
    assert meets(claim, "contraction(domain=all)", 5)
    assert not meets(claim, "contraction(domain=all)", 6) and not meets(claim, "contraction(domain=all)")
    assert not meets(replace(CONTRACTION, region=tokens), "contraction(region=all)", 5)


def test_boxes_may_be_given_as_tensors() -> None:
    for wanted, holds in ((MID, True), (POINT, True), (ALL, False)):
        assert meets(CONTRACTION, Expectation("contraction", (("domain", wanted),))) == holds
        assert meets(ExactlyOne(MID, MID), Expectation("exactly_one", (("region", wanted),))) == (wanted is MID)


def test_the_first_claim_that_meets_is_found() -> None:
    weak, strong = replace(CONTRACTION, rate=F(99, 100)), replace(CONTRACTION, rate=F(1, 2))
    valid = Valid("0" * 64, GRAPH, (), "real", (weak, strong))
    assert find(valid, parse_expectation("contraction(rate<=0.6)")) is strong
    assert find(valid, parse_expectation("contraction")) is weak


@pytest.mark.parametrize("other", [LINF, WEIGHTED, L2, MIXED, METRIC])
def test_names_of_norms_are_the_families_of_norms(other: Any) -> None:
    assert other.family in NORMS
    with pytest.raises(ValueError, match=f"linf, weighted_linf, .*{NORMS[-1]}.*; got 'l7'"):
        parse_expectation("contraction(norm=l7)")


def test_a_claim_in_another_norm_is_said_to_be_one() -> None:
    """Rates of different norms cannot be compared; who asked for one is told which norm there is."""
    valid = Valid("0" * 64, GRAPH, (), "real", (replace(CONTRACTION, norm=WEIGHTED),))
    with pytest.raises(CheckError) as error:
        find(valid, parse_expectation("contraction(rate<=0.95,norm=linf)"))
    assert error.value.code == "EXPECTED"
    assert str(error.value).endswith(
        "got one in another norm, weighted_linf; write norm=weighted_linf, or leave norm out"
    )
    for text in ("contraction(rate<=0.5,norm=linf)", "contraction(rate<=0.5)", "convergence(norm=linf)"):
        with pytest.raises(CheckError) as error:
            find(valid, parse_expectation(text))
        assert "another norm" not in str(error.value)


def test_what_was_left_out_is_reported() -> None:
    assert parse_expectation("contraction(rate<=0.5,norm=l2)").not_compared == ("operator", "domain", "region")
    assert parse_expectation("exactly_one(domain=all,region=all)").not_compared == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "contract",
        "contraction(",
        "contraction)",
        "contraction(rate)",
        "contraction(rate=0.9)",
        "contraction(rate<0.9)",
        "contraction(rate>=0.9)",
        "contraction(rate<=)",
        "contraction(rate<=nan)",
        "contraction(rate<=inf)",
        "contraction(rate<=1e99999)",
        "contraction(rate<=0x1)",
        "contraction(rate<=1_0)",
        "contraction(rate<=1/0)",
        "contraction(rate<=0.9,rate<=0.99)",
        "contraction(speed<=1)",
        "contraction(norm<=linf)",
        "contraction(norm=parts)",
        "contraction(norm=tokens)",
        "refutation(norm=auto)",
        "contraction(rate<=0.9 norm=linf)",
        "contraction(rate<=0.9);drop",
        "contraction(steps<=4)",
        "answer_at(steps<=40)",
        "answer(steps=40)",
        "exactly_one(rate<=1)",
        "contraction(rate<=0.9",
        "Contraction(rate<=0.9)",
        "contraction(rate<=\u0661)",
        "contraction(rate<=0.9,,norm=l2)",
        "answer_at(steps=1/0)",
        "commits(threshold<=1)",
        "commits(threshold=low)",
        "commits(rounds=3)",
        "commits(blank<=0)",
    ],
)
def test_malformed_expectations_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_expectation(text)


@pytest.mark.parametrize(
    "text",
    [
        "contraction(domain=everything)",
        "contraction(domain=box(1,0))",
        "contraction(domain=box(a,b))",
        "contraction(domain=init)",
    ],
)
def test_malformed_sets_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        meets(CONTRACTION, text)


def test_numbers() -> None:
    assert [parse_number(t) for t in ("0.9", "1e-6", "9/10", "-2", "1.5e2")] == [
        F(9, 10),
        F(1, 10**6),
        F(9, 10),
        -2,
        150,
    ]


def test_box_digests_name_the_set_and_not_its_spelling() -> None:
    assert box_digest(flat([F(1)])) == box_digest(Tensor((1,), 0, [1], [1])) == box_digest(Tensor((1,), -3, [8], [8]))
    names = [
        ALL,
        MID,
        POINT,
        flat([F(1, 4), F(0)]),
        box([(F(-1), F(1)), (F(-1), F(2))]),
        flat([F(0)]),
        flat([F(0)] * 3),
    ]
    assert len({box_digest(b) for b in names}) == len(names)


@pytest.mark.parametrize(
    "claim",
    [
        CONTRACTION,
        AtMostOne(MID, MID),
        ExactlyOne(MID, ALL),
        Invariant(PICARD, MID, MID),
        CONVERGENCE,
        replace(CONVERGENCE, start=ALL),
        ANSWER,
        AT,
        RUN,
        THE,
        EVERY,
        SOME,
        FIXED,
        replace(EXPANDS, answer=(1,)),
    ],
)
def test_descriptions_hold_every_field(claim: Conclusion) -> None:
    text = describe(claim)
    assert text.startswith(name_of(claim) + "(")
    for name in parse_expectation(name_of(claim)).not_compared:
        assert f"{name}=" in text or f"{name}<=" in text


@pytest.mark.parametrize(
    ("claim", "without"),
    [
        (EXPANDS, {"answer"}),
        (TURNS, {"answer", "rate", "norm"}),
        (Refuted("answer", MID, operator=PICARD, answer=(3,)), {"region", "rate", "norm"}),
        (replace(EVERY, box=ALL), {"radius"}),
    ],
)
def test_descriptions_leave_out_what_a_claim_does_not_have(claim: Conclusion, without: set[str]) -> None:
    text = describe(claim)
    for name in parse_expectation(name_of(claim)).not_compared:
        assert (f"{name}=" in text or f"{name}<=" in text) == (name not in without), (name, text)


@pytest.mark.parametrize("rate", [F(2, 3), 1 - F(1, 2**60), F(1, 2**80), F(0), F(12345678901, 7)])
def test_the_rate_of_a_refutation_is_not_rounded_up(rate: F) -> None:
    """What was refuted at a rate was refuted at the printed one: for a claim of contraction it is the other way."""
    refuted, proved = describe(replace(EXPANDS, rate=rate)), describe(replace(CONTRACTION, rate=rate))
    printed = [F(text.split("rate<=")[1].split(",")[0]) for text in (refuted, proved)]
    assert rate - F(1, 10**8) <= printed[0] <= rate <= printed[1]
    assert meets(replace(EXPANDS, rate=rate), f"refutation(rate<={printed[0].numerator}/{printed[0].denominator})")


@settings(max_examples=80, derandomize=True)
@given(st.fractions(min_value=F(1, 10**30), max_value=10**30))
def test_printed_bounds_are_bounds(value: F) -> None:
    text = rounded_up(value)
    assert value <= F(text) <= value * (1 + F(1, 10**7))


@pytest.mark.parametrize("value", [1 - F(1, 2**60), 1 - F(1, 2**200), F(999999999999, 10**12)])
def test_a_rate_below_one_is_not_printed_as_one(value: F) -> None:
    assert value <= F(rounded_up(value)) < 1


def test_printing_zero_and_what_is_out_of_reach() -> None:
    assert rounded_up(F(0)) == "0" and rounded_up(F(1, 2)) == "0.5" and rounded_up(F(3)) == "3"
    tiny: Any = rounded_up(F(1, 2**5000))
    exponent = int(tiny.removeprefix("2^"))
    assert -5000 <= exponent <= -4990
