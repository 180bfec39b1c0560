"""What a new certificate has to prove so that it may replace an old one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.test_expect import (
    ALL,
    ANSWER,
    CONTRACTION,
    CONVERGENCE,
    EXPANDS,
    GRAPH,
    L2,
    MID,
    POINT,
    THE,
    WEIGHTED,
)
from trm_verify.cli.keeping import _proved
from trm_verify.kernel.check import Valid


def kept(old: Any, new: Any) -> bool:
    return _proved(old, Valid("0" * 64, GRAPH, (), "real", (new,)))


@pytest.mark.parametrize("claim", [CONTRACTION, CONVERGENCE, ANSWER, THE, EXPANDS])
def test_the_same_claim_is_no_loss(claim: Any) -> None:
    assert kept(claim, claim)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (replace(CONTRACTION, rate=F(1, 2)), CONTRACTION),
        (replace(CONVERGENCE, rate=F(1, 4), steps=12), CONVERGENCE),
        (replace(ANSWER, steps=3), ANSWER),
        (ANSWER, replace(ANSWER, domain=POINT)),
        (replace(CONTRACTION, region=ALL), CONTRACTION),
        (EXPANDS, replace(EXPANDS, rate=F(1, 2))),  # what fails at a rate fails at every smaller one
    ],
)
def test_a_better_bound_or_a_larger_set_is_none_and_the_other_way_one(better: Any, worse: Any) -> None:
    assert kept(worse, better) and not kept(better, worse)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CONTRACTION, replace(CONTRACTION, norm=L2)),
        (CONTRACTION, replace(CONTRACTION, norm=WEIGHTED)),
        (ANSWER, replace(ANSWER, answer=(3, 2))),
        (ANSWER, replace(ANSWER, at=True)),
        (replace(THE, box=MID), replace(THE, kind="one")),
    ],
)
def test_another_claim_is_a_loss(old: Any, new: Any) -> None:
    assert not kept(old, new)
