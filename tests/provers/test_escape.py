"""Loops that run away: proved where they do, and not where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from trm_verify.kernel.claims import Refuted
from trm_verify.provers.problem import ALL_STATES
from trm_verify.provers.refutation.search import search
from trm_verify.verification.session import Verification


def outcome(step: Any, n: int, **known: Any) -> Any:
    return tv.verify_fixed_point(tv.recursive(step, state_shape=(n,), **known))


@pytest.mark.parametrize(
    ("step", "known"),
    [
        (lambda z: 1.0001 * z, {}),
        (lambda z: 2 * z - 1, {}),
        (lambda z: -1.1 * z, {}),
        (lambda z: 2 * z - 1, {"iteration": tv.Damped(0.5)}),
    ],
    ids=["slowly", "from_its_fixed_point", "from_side_to_side", "damped"],
)
def test_loops_that_run_away_are_refuted(step: Any, known: Any) -> None:
    result = outcome(step, 1, **known)
    assert result.verdict is tv.REFUTED and result.claims["exactly_one"]
    assert "runs away" in result.claims["convergence"].reason


@pytest.mark.parametrize("step", [lambda z: z * 1.0, lambda z: z + 1.0, lambda z: -z], ids=["rest", "shift", "flip"])
def test_what_does_not_grow_by_a_factor_is_not_called_so(step: Any) -> None:
    result = outcome(step, 1)
    assert "runs away" not in result.claims["convergence"].reason


def directed(seed: int, n: int) -> torch.Tensor:
    """A matrix with the eigenvalue 1.4 on a direction of positive entries, and smaller ones beside it."""
    rng = np.random.default_rng(seed)
    basis = np.column_stack([rng.uniform(0.5, 1, n), rng.normal(size=(n, n - 1))])
    small = rng.uniform(-0.3, 0.3, n - 1)
    return torch.from_numpy(basis @ np.diag([1.4, *small]) @ np.linalg.inv(basis)).float()


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("act", ["relu", "leaky_relu", "abs", "residual"])
def test_networks_with_a_growing_direction(n: int, act: str) -> None:
    weight, bias = directed(n, n), torch.linspace(-1, 1, n)
    steps = {
        "relu": lambda z: torch.relu(z @ weight.T + bias),
        "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z @ weight.T + bias, 0.25),
        "abs": lambda z: torch.abs(z @ weight.T + bias),
        "residual": lambda z: z @ weight.T + 0.5 * torch.tanh(z @ weight.T + bias),
    }
    session = Verification(tv.recursive(steps[act], state_shape=(n,)))
    found = [r for r in search(session.problem, session.domain, ALL_STATES, "picard").refutations]
    away = [r for r in found if r.kind == "divergence"]
    assert away or any(r.kind == "cycle" for r in found), [r.kind for r in found]  # either will do
    if not away:
        return
    record = session.problem.conclude_as(away[0].derivation, Refuted)
    assert record.of == "convergence"
    z = torch.from_numpy(away[0].states).float().double()
    step = tv.recursive(steps[act], state_shape=(n,))
    for _ in range(200):
        z = step.step(z.float()).double()
    assert float(z.abs().max()) > 1e6


def test_a_contraction_has_no_way_out() -> None:
    weight = 0.5 * torch.eye(3)
    session = Verification(tv.recursive(lambda z: torch.relu(z @ weight + 1), state_shape=(3,)))
    assert not search(session.problem, session.domain, ALL_STATES, "picard").refutations
