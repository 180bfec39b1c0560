"""Implicit models: exactly one fixed point by a log-norm or by monotonicity, and the damped loops that reach it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.provers.steps import Case
from trm_verify.kernel.claims import Convergence, WellPosed
from trm_verify.provers.contraction.wellposed import prove_convergence, prove_log_norm, prove_monotone


def case(matrix: list[list[float]] | np.ndarray, act: str = "relu") -> Case:
    values = torch.tensor(np.asarray(matrix), dtype=torch.float64)
    layer = nn.Linear(values.shape[1], len(values), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(values)
    return Case(lambda z: getattr(torch, act)(layer(z)), (len(values),))


TURN = [[0.0, -20.0], [20.0, 0.0]]


def test_a_strong_rotation_is_monotone_and_nothing_else() -> None:
    """W = [[0, −20], [20, 0]], m = 1: Picard and outer damping diverge, inner damping by a small α converges."""
    step = case(TURN)
    posed = prove_monotone(step.problem, step.domain)
    assert posed.derivation is not None and posed.rate is None
    record = step.problem.conclude(posed.derivation)
    assert isinstance(record, WellPosed) and record.slack is not None
    assert 1 - 1e-5 < float(record.slack) <= 1
    assert prove_log_norm(step.problem, step.domain).derivation is None
    found = prove_convergence(step.problem, step.domain, posed)
    assert found.derivation is not None and found.rate is not None
    concluded = step.problem.conclude(found.derivation)
    assert isinstance(concluded, Convergence) and concluded.operator.kind == "inner_damped"
    # the best rate for m = 1, L² = 401 is √(1 − 1/401)
    assert float(found.rate) == pytest.approx((1 - 1 / 401) ** 0.5, rel=1e-5)


def test_a_negative_diagonal_has_a_small_log_norm() -> None:
    """z ← relu(1 − 5z): log-norm −5; the largest damping factor is 1/6, its rate 5/6."""
    step = case([[-5.0]])
    posed = prove_log_norm(step.problem, step.domain)
    found = prove_convergence(step.problem, step.domain, posed)
    assert found.rate is not None
    assert float(found.rate) == pytest.approx(5 / 6, rel=1e-9)


def test_log_norm_weights_follow_the_couplings() -> None:
    for matrix in ([[0.5, 100.0], [0.0, 0.25]], [[-30.0, 1e6, 0.0], [0.0, 0.99, 1e6], [0.0, 0.0, 0.5]]):
        step = case(matrix)
        posed = prove_log_norm(step.problem, step.domain)
        assert posed.derivation is not None, posed.reason
        found = prove_convergence(step.problem, step.domain, posed)
        assert found.rate is not None and float(found.rate) < 1


@pytest.mark.parametrize("matrix", [[[2.0]], [[1.0]], [[0.0, 2.0], [2.0, 0.0]], [[1.0, -5.0], [5.0, 1.0]]])
def test_what_may_have_several_fixed_points_is_not_posed(matrix: list[list[float]]) -> None:
    step = case(matrix)
    for prove in (prove_log_norm, prove_monotone):
        attempt = prove(step.problem, step.domain)
        assert attempt.derivation is None and attempt.reason


@pytest.mark.parametrize("act", ["abs", "sin", "cos"])
def test_activations_that_are_not_monotone_are_refused(act: str) -> None:
    step = case([[-1.0]], act)
    for prove in (prove_log_norm, prove_monotone):
        attempt = prove(step.problem, step.domain)
        assert attempt.derivation is None and "UNSUPPORTED" in attempt.reason


def test_inner_damping_moves_the_fixed_points_of_other_activations() -> None:
    step = case(TURN, "tanh")
    posed = prove_monotone(step.problem, step.domain)
    assert posed.derivation is not None
    found = prove_convergence(step.problem, step.domain, posed)
    assert found.derivation is None and "projection" in found.reason


def test_larger_models() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 40)) / 4
    matrix = -0.5 * np.eye(40) - a.T @ a + b - b.T
    step = case(matrix)
    posed = prove_monotone(step.problem, step.domain)
    assert posed.derivation is not None, posed.reason
    assert prove_convergence(step.problem, step.domain, posed).rate is not None
