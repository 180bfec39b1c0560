"""Recursions whose rate, fixed point or divergence is known on paper, through the public calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv

TOLERANCE = 1e-6
GRAPHS = {
    "karate": nx.karate_club_graph,
    "miserables": nx.les_miserables_graph,
    "davis": nx.davis_southern_women_graph,
    "dangling": lambda: nx.gn_graph(40, seed=3),
}


def linear(matrix: np.ndarray, offset: float = 0.0) -> torch.nn.Linear:
    """z ↦ Az + offset in double precision."""
    layer = torch.nn.Linear(matrix.shape[1], len(matrix), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(matrix)))
        layer.bias.fill_(offset)
    return layer


def affine(matrix: np.ndarray) -> nn.Module:
    return tv.recursive(linear(matrix, 0.5), state_shape=(len(matrix),))


def scalar(step: Callable[[Tensor], Tensor], **options: Any) -> nn.Module:
    """A one-dimensional recursion in double precision, with two classes: whether z is above 1/2."""

    def init(rows: int) -> Tensor:
        return torch.zeros(rows, 1, dtype=torch.float64)

    def readout(z: Tensor) -> Tensor:
        return torch.cat([z, 1 - z], dim=1)

    return tv.recursive(step, state_shape=(1,), init=init, readout=readout, **options)


def certified(result: tv.VerificationResult) -> float:
    """The rate of a proved result."""
    assert result.verdict is tv.PROVED, result.explain()
    assert result.rate is not None
    return result.rate


def metric_rate(result: tv.VerificationResult) -> float:
    """The rate that the metric rule gave."""
    return next(t.rate for t in result.trials if t.prover == "metric" and t.rate is not None)


class ValueIteration(torch.nn.Module):
    """V ← max over actions of reward + γ P V."""

    def __init__(self, states: int, actions: int, gamma: float, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        transitions = rng.dirichlet(np.full(states, 0.3), size=actions * states)
        self.shape = (states, actions)
        self.future = linear(gamma * transitions)
        self.register_buffer("rewards", torch.from_numpy(rng.normal(size=(states, actions))))

    def forward(self, z: Tensor) -> Tensor:
        return (self.future(z).reshape(-1, *self.shape) + self.rewards).amax(dim=-1)


@pytest.mark.parametrize("gamma", [0.5, 0.95, 0.99])
def test_value_iteration_has_the_discount_as_its_rate(gamma: float) -> None:
    result = tv.verify_fixed_point(tv.recursive(ValueIteration(30, 4, gamma, seed=1), state_shape=(30,)))
    assert certified(result) == pytest.approx(gamma, rel=TOLERANCE)
    assert result.rate >= gamma * (1 - 1e-12)
    assert result.norm == "linf"


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("damping", [0.5, 0.85])
def test_pagerank_has_the_damping_as_its_rate(name: str, damping: float) -> None:
    adjacency = nx.to_numpy_array(GRAPHS[name]())
    out = adjacency.sum(axis=1, keepdims=True)
    dangling = out[:, 0] == 0
    assert (name == "dangling") == bool(dangling.any())
    rows = np.where(dangling[:, None], 1 / len(out), adjacency / np.where(out == 0, 1, out))
    model = tv.recursive(linear(damping * rows.T, (1 - damping) / len(rows)), state_shape=(len(rows),))
    result = tv.verify_fixed_point(model)
    assert certified(result) == pytest.approx(damping, rel=TOLERANCE)
    assert result.rate >= damping * (1 - 1e-12)
    found = model.run(None, 400)[0].detach().numpy()
    expected = nx.pagerank(GRAPHS[name](), alpha=damping, tol=1e-13, max_iter=2000)
    np.testing.assert_allclose(found, [expected[v] for v in GRAPHS[name]()], atol=1e-9)


def symmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    matrix = rng.normal(size=(n, n))
    return matrix + matrix.T


def rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    """Commuting plane rotations, each with its own scale, in random coordinates: normal."""
    blocks = np.zeros((n, n))
    for i in range(0, n, 2):
        angle, scale = rng.uniform(0, np.pi), rng.uniform(0.1, 1)
        blocks[i : i + 2, i : i + 2] = scale * rotation(angle)
    frame = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return frame @ blocks @ frame.T


def conditioned(rng: np.random.Generator, n: int) -> np.ndarray:
    """Real eigenvalues and complex pairs, eigenvectors of condition 1000."""
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    vectors = left @ np.diag(np.geomspace(1, 1e3, n)) @ right
    blocks = np.diag(rng.uniform(-1, 1, n))
    for i in range(0, n // 2, 2):
        blocks[i : i + 2, i : i + 2] = rng.uniform(0.2, 1) * rotation(rng.uniform(0, np.pi))
    return vectors @ blocks @ np.linalg.inv(vectors)


def rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize("kind", [symmetric, rotations, conditioned])
@pytest.mark.parametrize(("n", "radius"), [(4, 0.3), (16, 0.999), (64, 0.9)])
def test_affine_maps_reach_their_spectral_radius(kind: Any, n: int, radius: float) -> None:
    matrix = kind(np.random.default_rng(n), n)
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    result = tv.verify_fixed_point(affine(matrix), norm="metric")
    true = np.abs(np.linalg.eigvals(matrix)).max()
    assert certified(result) == pytest.approx(true, rel=TOLERANCE)
    assert result.rate >= true * (1 - 1e-12)


@pytest.mark.parametrize("n", [2, 8, 64])
@pytest.mark.parametrize("eigenvalue", [0.0, 0.5, 0.9])
def test_jordan_blocks_are_proved(n: int, eigenvalue: float) -> None:
    result = tv.verify_fixed_point(affine(eigenvalue * np.eye(n) + np.diag(np.ones(n - 1), 1)))
    assert eigenvalue <= certified(result) < 1
    assert eigenvalue == 0 or result.rate == pytest.approx(eigenvalue, rel=TOLERANCE)


@pytest.mark.parametrize("eccentricity", [0.1, 0.6, 0.967])
def test_keplers_equation_has_the_eccentricity_as_its_rate(eccentricity: float) -> None:
    exact = torch.tensor(eccentricity, dtype=torch.float64).item()
    model = tv.recursive(
        lambda anomaly, mean: mean + exact * torch.sin(anomaly),
        state_shape=(1,), input_shape=(1,), domain=tv.Box(-math.pi, math.pi),
    )  # fmt: skip
    result = tv.verify_fixed_point(model)
    assert certified(result) == pytest.approx(eccentricity, rel=TOLERANCE)
    assert result.rate >= eccentricity * (1 - 1e-15)
    assert result.steps("1e-6") >= 1


def test_the_cosine_on_the_unit_interval_and_the_dottie_number() -> None:
    model, region = scalar(torch.cos), tv.Box(0, 1)
    result = tv.verify_fixed_point(model, region=region)
    assert certified(result) == pytest.approx(math.sin(1), rel=TOLERANCE)
    run = tv.audit(model, steps=200, region=region)
    assert run.radius < 1e-12
    assert abs(float(run.states[-1, 0]) - 0.7390851332151607) <= run.radius + 1e-16
    assert run.answer == (0,)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5, 3.1])
def test_averaged_rotations_have_the_cosine_of_half_the_angle(angle: float) -> None:
    result = tv.verify_fixed_point(affine((np.eye(2) + rotation(angle)) / 2))
    assert certified(result) == pytest.approx(math.cos(angle / 2), rel=TOLERANCE)
    assert result.rate >= math.cos(angle / 2) * (1 - 1e-12)


NOT_CONTRACTIVE: dict[str, tuple[Callable[[], nn.Module], bool | None]] = {
    # True: exactly one fixed point (it may be proved); False: several or none (it must not be).
    "rotation": (lambda: affine(rotation(1.0)), True),
    "rotation by a right angle": (lambda: affine(rotation(math.pi / 2)), True),
    "scaling by 1 + 1e-9": (lambda: affine((1 + 1e-9) * np.eye(3)), True),
    "the identity": (lambda: tv.recursive(lambda z: z * 1.0, state_shape=(2,)), False),
    "a translation": (lambda: tv.recursive(lambda z: z + 1.0, state_shape=(2,)), False),
    "tanh(2z)": (lambda: scalar(lambda z: torch.tanh(2 * z)), False),
    "b - 2z": (lambda: affine(-2 * np.eye(2)), True),
    "-z": (lambda: affine(-np.eye(2)), True),
    "relu(1 - 5z)": (lambda: scalar(lambda z: torch.relu(1 - 5 * z)), True),
    "clamp to three fixed points": (lambda: scalar(lambda z: torch.clamp(0.5 + 3 * (z - 0.5), 0.25, 0.75)), False),
    "sin(3z)": (lambda: scalar(lambda z: torch.sin(3 * z)), False),
    "a Jordan block at 1": (lambda: affine(np.array([[1.0, 1.0], [0.0, 1.0]])), False),
}


@pytest.mark.parametrize("name", NOT_CONTRACTIVE)
def test_what_does_not_contract_is_never_proved_to(name: str) -> None:
    make, one = NOT_CONTRACTIVE[name]
    result = tv.verify_fixed_point(make())
    assert not result.claims["contraction"]
    assert not result.claims["convergence"]
    assert result.verdict is not tv.PROVED
    if one is False:
        assert not result.claims["exactly_one"]


@pytest.mark.parametrize("name", ["rotation", "b - 2z", "-z", "relu(1 - 5z)"])
def test_a_fixed_point_can_be_unique_where_the_iteration_diverges(name: str) -> None:
    result = tv.verify_fixed_point(NOT_CONTRACTIVE[name][0]())
    assert result.claims["exactly_one"], result.explain()
    assert not result.claims["convergence"]


@pytest.mark.parametrize("growth", [3.2, 3.6, 4.0])
def test_the_logistic_map_is_not_proved_on_its_interval(growth: float) -> None:
    model = scalar(lambda z: growth * z * (1 - z))
    for region in (None, tv.Box(0, 1)):
        result = tv.verify_fixed_point(model, region=region)
        assert not result.claims["contraction"] and not result.claims["convergence"]


def test_a_flat_logistic_map_is_proved_on_its_interval() -> None:
    growth = torch.tensor(0.45, dtype=torch.float64).item()
    result = tv.verify_fixed_point(scalar(lambda z: growth * z * (1 - z)), region=tv.Box(0, 1))
    # The largest slope is the growth; the product rule bounds z and 1 − z one by one and gives twice as much.
    assert growth <= certified(result) <= 2 * growth + TOLERANCE
