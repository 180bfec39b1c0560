"""Plain words: every kind of claim has some, and they bound from the side they must."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from trm_verify.kernel.check import check
from trm_verify.kernel.claims import Conclusion, Contraction
from trm_verify.kernel.expect import name_of
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.report.words import inputs, plain

GOOD = Path(__file__).parents[2] / "certificates" / "good"
NAMES = (
    "searched_audit", "answer_at_a_fixed_depth", "answer_of_an_oscillation", "commits_one_after_the_other",
    "fixed_point_one_sixth", "linf_affine",
    "lipschitz_of_two_hinges", "logistic_period_two", "no_fixed_point_of_a_shift", "two_fixed_points_of_tanh",
    "local_ball", "outer_damped", "fixed_points_at_a_point_and_in_a_box",
)  # fmt: skip


def claims(name: str) -> tuple[Conclusion, ...]:
    return check(
        (GOOD / f"{name}.trmcert.json").read_bytes(), (GOOD / f"{name}.safetensors").read_bytes()
    ).claims  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_said(name: str) -> None:
    for claim in claims(name):
        said = plain(claim)
        assert said[0].isupper() and said.endswith("."), name_of(claim)
        assert "Fraction" not in said and "Tensor" not in said and "  " not in said


def test_the_golden_certificates_above_hold_most_kinds() -> None:
    kinds = {name_of(claim) for name in NAMES for claim in claims(name)}
    assert {"contraction", "exactly_one", "convergence", "answer", "answer_at", "commits", "run", "refutation",
            "lipschitz", "invariant", "encloses_the"} <= kinds  # fmt: skip


def test_rates_are_rounded_up() -> None:
    everything = Tensor((1,))
    norm = BlockNorm((1,), (1,), 0)
    said = plain(Contraction(PICARD, everything, everything, norm, Fraction(2, 3)))
    assert "at most 0.666667 of what it was, for every input" in said
    assert Fraction("0.666667") >= Fraction(2, 3)


@pytest.mark.parametrize(
    "ends, said",
    [
        ([(0, 1), (0, 1)], "every input with values from 0 to 1"),
        ([(1, 1), (2, 2)], "one given input"),
        ([(0, 1), (0, 3)], "every input within 1.5 of a given one"),
    ],
)
def test_sets_of_inputs(ends: list[tuple[int, int]], said: str) -> None:
    box = from_fractions([(Fraction(a), Fraction(b)) for a, b in ends], 0)
    if box.lo == box.hi:
        box = Tensor(box.shape, box.exp, box.lo, box.lo)
    assert inputs(box) == said
