"""`verify_lipschitz`: a constant for all inputs, a smaller one on a ball, and what is said where there is none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from trm_verify.kernel.errors import CheckError
from trm_verify.verification import lipschitz


def monotone(**options: Any) -> tv.models.MonotoneEquilibrium:
    given: dict[str, Any] = {
        "state": 6,
        "inputs": 4,
        "classes": 3,
        "m": 2.0,
        "domain": (-2.0, 2.0),
        "seed": 1,
    } | options
    return tv.models.MonotoneEquilibrium(**given)


X = torch.tensor([0.5, -0.25, 0.125, 0.75])


@pytest.fixture(scope="module")
def everywhere() -> tv.LipschitzResult:
    return tv.verify_lipschitz(monotone())


@pytest.fixture(scope="module")
def nearby() -> tv.LipschitzResult:
    return tv.verify_lipschitz(monotone(), X, eps="1/64")


def test_everywhere(everywhere: tv.LipschitzResult) -> None:
    assert everywhere and everywhere.verdict is tv.PROVED and everywhere.constant is not None
    assert (everywhere.local, everywhere.varying, everywhere.reason) == (False, 6, "")
    assert everywhere.statement.startswith("lipschitz(constant<=") and "region=all" in everywhere.statement
    assert "float32 rounding not covered" in str(everywhere)
    assert set(everywhere.seconds) == {"one fixed point", "constant"}


def test_on_a_ball_it_is_smaller(everywhere: tv.LipschitzResult, nearby: tv.LipschitzResult) -> None:
    assert nearby and nearby.local and nearby.varying < 6
    assert nearby.constant is not None and everywhere.constant is not None and nearby.constant < everywhere.constant
    assert "at the fixed points of these inputs" in nearby.explain()


def test_samples_stay_below(everywhere: tv.LipschitzResult, nearby: tv.LipschitzResult) -> None:
    model = monotone()
    rng = np.random.default_rng(0)
    for result, centre, reach in ((everywhere, np.zeros(4), 2.0), (nearby, X.numpy(), 1 / 64)):
        x, y = (torch.tensor(centre + rng.uniform(-reach, reach, (200, 4)), dtype=torch.float32) for _ in range(2))
        with torch.no_grad():
            apart = (model.logits(x) - model.logits(y)).norm(dim=1) / (x - y).norm(dim=1)
        assert result.constant is not None and 0 < float(apart.max()) <= result.constant * 1.001


def test_the_certificate_says_so_to_anyone(everywhere: tv.LipschitzResult, nearby: tv.LipschitzResult) -> None:
    model = monotone()
    weights = lipschitz.Verification(model).deployed.weights
    bound = everywhere.constant
    assert bound is not None
    claim = tv.claims.Lipschitz(constant=bound, domain=tv.Box(-2, 2), region="all")
    done = tv.check(everywhere.certificate, weights, expect=claim, model=model)
    assert done.claims == (everywhere.statement,) and done.not_compared == ()
    ball = tv.Box.ball(X, "1/64")
    assert nearby.proves(tv.claims.Lipschitz(constant=nearby.constant, domain=ball))
    assert nearby.proves(f"lipschitz(constant<={nearby.constant})")
    for wrong in (
        tv.claims.Lipschitz(constant=Fraction(bound) * 99 / 100),
        tv.claims.Lipschitz(constant=bound, domain=tv.Box(-3, 3)),
        tv.claims.Lipschitz(region=tv.Box(-1, 1)),
        "exactly_one",
    ):
        assert not everywhere.proves(wrong)
    assert not nearby.proves(tv.claims.Lipschitz(domain=tv.Box(-2, 2)))
    with pytest.raises(CheckError, match="EXPECTED"):
        tv.check(nearby.certificate, weights, expect=f"lipschitz(constant<={nearby.constant}, domain=box(-2,2))")


def test_loops_that_contract() -> None:
    """tanh((z + x)/2) in two entries, logits z: the constant is that of z = (z + x)/2."""

    def step(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh((z + x) / 2)

    for iteration in ("picard", tv.Damped(0.5)):
        model = tv.recursive(step, state_shape=(2,), input_shape=(2,), readout=lambda z: z, iteration=iteration)
        result = tv.verify_lipschitz(model)
        assert result.constant == pytest.approx(1, rel=1e-4)
        assert tv.verify_lipschitz(model, torch.zeros(2), eps=0.25).constant == pytest.approx(1, rel=1e-4)


def test_a_log_norm_model() -> None:
    model = tv.models.LogNormEquilibrium(5, 3, 2, domain=None, seed=3)
    result = tv.verify_lipschitz(model)
    local = tv.verify_lipschitz(model, torch.zeros(3), eps="1/32")
    assert result and local and local.constant is not None and result.constant is not None
    assert local.constant <= result.constant * (1 + 1e-4)


def test_a_box_of_inputs_and_a_single_one() -> None:
    model = monotone()
    box = tv.verify_lipschitz(model, tv.Box.ball(X, "1/64"))
    point = tv.verify_lipschitz(model, X)
    assert box.constant == tv.verify_lipschitz(model, X, eps="1/64").constant
    assert point and point.varying == 0 and point.constant is not None and box.constant is not None
    assert point.constant <= box.constant * (1 + 1e-4)


def test_where_the_ball_does_not_close_the_constant_of_all_inputs_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        enclosure, reason = None, "the intervals did not close"

        def __init__(self, *_: object) -> None: ...

        def run(self, *_: object) -> Lost:
            return self

    monkeypatch.setattr(lipschitz, "FixedPointSearch", Lost)
    result = tv.verify_lipschitz(monotone(), X, eps="1/64")
    assert result and not result.local and result.varying == 6
    assert "did not close" in result.explain()
    assert result.proves(tv.claims.Lipschitz(domain=tv.Box.ball(X, "1/64")))


def two_layers(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(torch.relu(z / 2 + x) / 2)


def expanding(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(3 * z + x)


@pytest.mark.parametrize(("step", "reason"), [(two_layers, "another form"), (expanding, "exactly one fixed point")])
def test_unknown_says_why_and_what_would_help(step: Any, reason: str) -> None:
    model = tv.recursive(step, state_shape=(2,), input_shape=(2,), readout=lambda z: z)
    result = tv.verify_lipschitz(model)
    assert result.verdict is tv.UNKNOWN and not result and result.constant is None
    assert reason in result.reason and "what would help: one layer" in str(result)
    assert not result.proves("lipschitz")
    with pytest.raises(ValueError, match="nothing was proved"):
        result.certificate  # noqa: B018


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: tv.verify_lipschitz(m, torch.zeros(2, 4)), "a batch"),
        (lambda m: tv.verify_lipschitz(m, eps=0.1), "expected an input x"),
        (lambda m: tv.verify_lipschitz(m, torch.zeros(3)), "shape"),
        (lambda m: tv.verify_lipschitz(m, X + 9), "outside"),
        (lambda m: tv.verify_lipschitz(m, timeout=-1), "timeout >= 0"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(monotone())


@pytest.mark.parametrize("lacking", ["input_shape", "readout"])
def test_models_without_an_input_or_a_readout(lacking: str) -> None:
    given: dict[str, Any] = {"input_shape": (2,), "readout": lambda z: z, lacking: None}
    step = (lambda z: z / 2) if lacking == "input_shape" else (lambda z, x: z / 2 + x)
    with pytest.raises(ValueError, match="an input and a readout"):
        tv.verify_lipschitz(tv.recursive(step, state_shape=(2,), **given))
