"""Loops that contract over several steps only: verdicts of whole calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv
from trm_verify.model import RecursiveModel


class Squares(RecursiveModel):
    """z ← W(z∘z) + Ux from 1: on [0, 5/4]² the first step expands."""

    state_shape, input_shape = (2,), (1,)

    def __init__(self, weight: Any, iteration: Any = "picard") -> None:
        super().__init__()
        self.iteration = iteration
        self.inner = nn.Parameter(torch.tensor(weight))
        self.outer = nn.Parameter(torch.tensor([[0.125], [0.0625]]))

    def init(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1) * 0 + 1

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return nn.functional.linear(z * z, self.inner) + nn.functional.linear(x, self.outer)

    def readout(self, z: Tensor) -> Tensor:
        return torch.cat([z[:, :1], z[:, :1] * 0 + 0.5], 1)


SMALL = [[0.5, 0.0], [0.25, 0.25]]
REGION, DOMAIN = tv.Box(0, 1.25), tv.Box(0, 1)


def rules(result: Any) -> list[str]:
    import json

    return [step["rule"] for step in json.loads(result.certificate.to_bytes())["predicate"]["steps"]]


def test_a_loop_whose_first_step_expands_converges() -> None:
    result = tv.verify_fixed_point(Squares(SMALL), region=REGION, domain=DOMAIN)
    assert result.verdict is tv.PROVED and "several_steps" in rules(result)
    assert not result.claims["contraction"]
    steps = result.steps(1e-3)
    z, x = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    model = Squares(SMALL).double()
    orbit = [z]
    for _ in range(steps + 200):
        orbit.append(model.step(orbit[-1], x).detach())
    assert float((orbit[steps] - orbit[-1]).abs().max()) <= 1e-3


def test_answers_follow() -> None:
    result = tv.verify_fixed_point(Squares(SMALL), torch.tensor([0.5]), eps="0.1", region=REGION, domain=DOMAIN)
    assert result.verdict is tv.PROVED and result.claims["answer"]


def test_a_damped_loop() -> None:
    result = tv.verify_fixed_point(Squares(SMALL, tv.Damped(0.75)), region=REGION, domain=DOMAIN)
    assert result.verdict is tv.PROVED and result.claims["convergence"]


def test_an_implicit_model_has_one_fixed_point() -> None:
    result = tv.verify_fixed_point(Squares(SMALL, "implicit"), region=REGION, domain=DOMAIN)
    assert result.verdict is tv.PROVED and "convergence" not in result.claims
    assert result.claims["convergence of picard"] and result.steps("1e-6") > 0


def test_two_fixed_points_in_the_region_are_no_proof() -> None:
    # z_1 = z_1²/2 + x/8 has 1 ± √(1 − x/4), and both lie in [0, 2]
    result = tv.verify_fixed_point(Squares([[0.5, 0.0], [0.0, 0.25]]), region=tv.Box(0, 2), domain=tv.Box(0, 0))
    assert result.verdict is not tv.PROVED


@pytest.mark.parametrize("squarings", [6, 14])
def test_steps_too_steep_for_doubles_are_left_open_not_stumbled_over(squarings: int) -> None:
    """Sigmoids through the logistic map again and again: gains of the enclosures are beyond any double."""
    torch.manual_seed(0)
    inner, drive = nn.Linear(2, 2), nn.Linear(2, 2)

    def step(z: Tensor, x: Tensor) -> Tensor:
        y = torch.sigmoid(inner(z) + drive(x))
        for _ in range(squarings):
            y = 3.7 * y * (1 - y)
        return y

    model = tv.recursive(step, state_shape=(2,), input_shape=(2,), domain=tv.Box(0, 1))
    for region in (None, "invariant"):
        result = tv.verify_fixed_point(model, region=region, timeout=5)
        assert not result and not result.claims["contraction"]
