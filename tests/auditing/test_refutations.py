"""The search for refutations of a model: what it may be asked, and what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, gate_model, tanh_model
from trm_verify.auditing import refute
from trm_verify.verification.deployed import Deployed


def test_everything_in_one_certificate() -> None:
    model = autonomous(lambda z: 3.2 * z * (1 - z))
    found = refute(model, region=tv.Box(0, 1), norm="linf")
    assert found.verdict is tv.REFUTED
    assert [each.of for each in found.refutations] == ["at_most_one", "convergence", "contraction"]
    expected = [
        "refutation(of=at_most_one)", "refutation(of=convergence,operator=picard)",
        "refutation(of=contraction,norm=linf,rate<=3)",
    ]  # fmt: skip
    checked = tv.check(found.certificate, Deployed.of(model).weights, expect=expected, model=model)
    assert checked.claims == found.statements
    assert found.expansion == pytest.approx(3.2, rel=1e-2)
    with pytest.raises(tv.CheckError, match="EXPECTED"):
        tv.check(found.certificate, Deployed.of(model).weights, expect="refutation(of=contraction,rate<=3.3)")


def test_a_rate_is_refuted_and_no_more() -> None:
    model = autonomous(lambda z: 0.75 * z)
    assert refute(model, norm="l2", rate="0.7").verdict is tv.REFUTED
    nothing = refute(model, norm="l2", rate="0.76")
    assert nothing.verdict is tv.UNKNOWN and nothing.expansion == pytest.approx(0.75)
    assert "largest expansion that was met: 0.75" in str(nothing)
    with pytest.raises(ValueError, match="nothing was refuted"):
        nothing.certificate  # noqa: B018


def test_inputs_and_balls() -> None:
    model = tv.recursive(
        lambda z, x: torch.tanh(3 * x * z), state_shape=(1,), input_shape=(1,), domain=tv.Box(-1, 1)
    )  # fmt: skip
    assert refute(model).verdict is tv.REFUTED
    assert refute(model, np.array([0.25])).verdict is tv.UNKNOWN
    assert refute(model, np.array([0.25]), eps="1/4").verdict is tv.REFUTED
    assert refute(model, domain=tv.Box("-1/4", "1/4")).verdict is tv.UNKNOWN


def test_a_gate_expands_where_it_is_open() -> None:
    model = gate_model(domain=tv.Box(0, 2))
    found = refute(model, norm="linf")
    assert [each.of for each in found.refutations] == ["convergence", "contraction"]  # for x = 2 it runs away
    assert found.expansion == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "0.5"}, "norm to go with rate"), ({"norm": "l7"}, "linf, l2, parts, tokens"),
        ({"norm": "l2", "rate": -1}, "rate >= 0"), ({"norm": "l2", "rate": "fast"}, "finite numbers"),
        ({"timeout": -1}, "timeout >= 0"), ({"timeout": float("nan")}, "timeout >= 0"),
        ({"x": np.zeros((2, 3))}, "a batch"), ({"eps": "0.1"}, "input x"), ({"x": np.zeros(4)}, "shape"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refute(tanh_model(), **options)
