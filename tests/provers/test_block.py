"""Contraction in block norms: known rates, tight and never below the truth, and the search's shortcuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.provers.steps import Array, Case, groups
from trm_verify.provers.contraction import spectral
from trm_verify.provers.contraction.norms import contraction_attempts
from trm_verify.provers.contraction.radius import prove_linf
from trm_verify.provers.contraction.spectral import prove_l2, prove_parts, prove_tokens, spectral_bounds
from trm_verify.provers.problem import Attempt


def weights(matrix: Array) -> nn.Linear:
    found = nn.Linear(matrix.shape[1], len(matrix), bias=False, dtype=torch.float64)
    with torch.no_grad():
        found.weight.copy_(torch.from_numpy(matrix))
    return found


def layer(matrix: Array) -> Case:
    a = weights(matrix)
    return Case(lambda z: torch.relu(a(z)), (len(matrix),))


def rate(attempt: Attempt) -> float:
    assert attempt.rate is not None, attempt.reason
    return float(attempt.rate)


def norm_of(attempt: Attempt) -> Any:
    assert attempt.derivation is not None
    return attempt.derivation.steps[-1]["norm"]


@pytest.mark.parametrize("n", [1, 2, 5, 33, 128])
def test_dense_layers_reach_the_spectral_radius_of_their_absolute_values(n: int) -> None:
    matrix = np.random.default_rng(n).normal(size=(n, n)) ** 3
    matrix *= 0.95 / np.abs(np.linalg.eigvals(np.abs(matrix))).max()
    true = float(np.abs(np.linalg.eigvals(np.abs(matrix))).max())
    assert true * (1 - 1e-12) <= rate(layer(matrix).prove(prove_linf)) <= true * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (40, 40), (128, 128)])
def test_dense_layers_reach_their_largest_singular_value(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(shape[0]).normal(size=shape)
    matrix *= 0.95 / np.linalg.norm(matrix, 2)
    true = float(np.linalg.norm(matrix, 2))
    assert true * (1 - 1e-12) <= rate(layer(matrix).prove(prove_l2)) <= true * (1 + 1e-5)


def test_non_negative_matrices_need_no_factor() -> None:
    matrix = np.random.default_rng(0).uniform(0.1, 1, (30, 30))
    case = layer(matrix * (0.9 / np.linalg.norm(matrix, 2)))
    (bound,) = spectral_bounds(case.problem, case.domain)
    assert bound.steps[-1]["rule"] == "spectral_abs"
    assert rate(case.prove(prove_l2)) == pytest.approx(0.9, rel=1e-5)


def test_equal_weights_are_kept_where_they_are_as_good() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(12), size=12)
    _, d = groups(norm_of(layer(0.75 * shares).prove(prove_linf)))
    assert set(d) == {1.0}


@pytest.mark.parametrize("coupling", [1.0, 1e6])
def test_reducible_layers_keep_a_rate_below_one(coupling: float) -> None:
    matrix = np.triu(np.full((40, 40), coupling), 1) + np.diag(np.linspace(-0.99, 0.99, 40))
    found = layer(matrix).prove(prove_linf)
    assert 0.99 <= rate(found) <= 0.99 * (1 + 1e-6)


def test_maxima_follow_the_branch_that_counts() -> None:
    """Two affine branches that contract in one scaling together, and two that contract in no common one."""
    first, second = weights(np.array([[0.5, 4.0], [0.0, 0.5]])), weights(np.array([[0.5, 2.0], [0.0, 0.25]]))
    found = Case(lambda z: torch.maximum(first(z), second(z)), (2,)).prove(prove_linf)
    assert 0.5 <= rate(found) <= 0.5 * (1 + 1e-6)
    clash = weights(np.array([[0.5, 0.0], [4.0, 0.5]]))
    assert Case(lambda z: torch.maximum(first(z), clash(z)), (2,)).prove(prove_linf).rate is None


def test_normalisations_go_through_the_kernels_own_pass() -> None:
    matrix, norm = weights(np.diag([0.125, 0.25, -0.125])), nn.LayerNorm(3, eps=1.0, dtype=torch.float64)
    found = Case(lambda z: norm(matrix(z)), (3,), region=(-1, 1))
    assert rate(found.prove(prove_l2)) <= 0.2501


class TwoParts(nn.Module):
    """A weak loop through two strong one-way couplings."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = weights(0.5 * np.eye(3)), weights(0.25 * np.eye(2))
        self.down, self.up = weights(8 * np.ones((3, 2)) / 6**0.5), weights(np.ones((2, 3)) / 64 / 6**0.5)

    def forward(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low, high = z
        return torch.tanh(self.low(low) + self.down(high)), self.high(high) + self.up(low)


def test_parts_are_weighed_against_each_other() -> None:
    case = Case(TwoParts(), ((3,), (2,)))
    gains = np.array([[0.5, 8.0], [1 / 64, 0.25]])
    true = float(np.abs(np.linalg.eigvals(gains)).max())
    found = case.prove(prove_parts)
    assert rate(found) == pytest.approx(true, rel=1e-5)
    sizes, d = groups(norm_of(found))
    assert sizes == [3, 2] and d[0] > 4 * d[1]
    assert case.prove(prove_l2).rate is None


def test_attention_by_the_input_has_the_norm_of_its_values() -> None:
    value, key = (
        weights(np.random.default_rng(4).normal(size=(4, 4))),
        weights(np.random.default_rng(5).normal(size=(3, 2))),
    )
    with torch.no_grad():
        value.weight.mul_(0.9 / torch.linalg.matrix_norm(value.weight, 2))

    def step(z: Tensor, x: Tensor) -> Tensor:
        return torch.softmax(key(x) @ key(x).transpose(-2, -1), dim=-1) @ value(z)

    case = Case(step, (5, 4), (5, 2))
    assert rate(case.prove(prove_tokens)) == pytest.approx(0.9, rel=1e-5)


def test_large_factors_are_made_only_for_a_better_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "CHEAP", 4)
    matrix = np.full((8, 8), 0.09)
    case = layer(matrix)
    attempts = list(contraction_attempts(case.problem, case.domain, case.region))
    assert attempts[0].rate is not None
    assert attempts[1].rate is None and "no better" in attempts[1].reason
    (asked,) = contraction_attempts(case.problem, case.domain, case.region, norm="l2")
    assert asked.rate is not None


def test_rates_of_one_or_more_say_so() -> None:
    for prover in (prove_linf, prove_l2):
        attempt = layer(1.25 * np.eye(3)).prove(prover)
        assert attempt.rate is None and "not below 1" in attempt.reason


def test_an_unbounded_product_is_a_reason() -> None:
    attempt = Case(lambda z: z * z, (2,)).prove(prove_linf)
    assert attempt.rate is None and "UNSUPPORTED" in attempt.reason
