"""Recursions whose rate is known on paper (tests/test_known_answers.py has more of them)."""

from __future__ import annotations

import math
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from bench import Json, Row, linear
from torch import nn

import trm_verify as tv


def error(model: nn.Module, true: float, **options: object) -> float:
    """Relative distance of the certified rate from the truth; infinite when it lies below or nothing is proved."""
    rate = tv.verify_fixed_point(model, **options).rate  # type: ignore[arg-type]
    return float("inf") if rate is None or rate < true * (1 - 1e-12) else abs(rate / true - 1)


def value_iteration(gamma: float) -> nn.Module:
    """V ← max over actions of r + γ P V on a random Markov decision process."""
    rng = np.random.default_rng(0)
    future = linear(gamma * rng.dirichlet(np.full(30, 0.3), size=120))
    rewards = torch.from_numpy(rng.normal(size=(30, 4)))
    return tv.recursive(lambda z: (future(z).reshape(-1, 30, 4) + rewards).amax(-1), state_shape=(30,))


def pagerank(damping: float) -> nn.Module:
    """PageRank of the karate club."""
    adjacency = nx.to_numpy_array(nx.karate_club_graph())
    return tv.recursive(linear(damping * (adjacency / adjacency.sum(1, keepdims=True)).T), state_shape=(34,))


def conditioned(n: int, radius: float) -> tuple[nn.Module, float]:
    """An affine map whose eigenvectors have condition 1000."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    vectors = left @ np.diag(np.geomspace(1, 1e3, n)) @ right
    matrix = vectors @ np.diag(np.linspace(-radius, radius, n)) @ np.linalg.inv(vectors)
    return tv.recursive(linear(matrix), state_shape=(n,)), float(np.abs(np.linalg.eigvals(matrix)).max())


def dottie() -> float:
    """Certified distance of the last iterate of z ← cos z from its fixed point."""
    model = tv.recursive(
        torch.cos, state_shape=(1,), init=lambda rows: torch.zeros(rows, 1, dtype=torch.float64),
        readout=lambda z: torch.cat([z, 1 - z], dim=1),
    )  # fmt: skip
    return tv.audit(model, steps=200, region=tv.Box(0, 1)).radius


def run(out: Path) -> tuple[list[Row], Json]:
    """Relative errors of certified rates."""
    affine, radius = conditioned(64, 0.9)
    e = torch.tensor(0.6, dtype=torch.float64).item()
    kepler = tv.recursive(lambda z, m: m + e * torch.sin(z), state_shape=(1,), input_shape=(1,), domain=tv.Box(-3, 3))
    turn = 0.5 * (np.eye(2) + np.array([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]))
    cosine = tv.recursive(torch.cos, state_shape=(1,))
    found = {
        "value iteration, rate γ = 0.95": error(value_iteration(0.95), 0.95),
        "PageRank of the karate club, damping 0.85": error(pagerank(0.85), 0.85),
        "affine, n = 64, eigenvectors of condition 1000: spectral radius": error(affine, radius, norm="metric"),
        "Kepler's equation, eccentricity 0.6": error(kepler, 0.6),
        "cos z on [0, 1]: sin 1": error(cosine, math.sin(1), region=tv.Box(0, 1)),
        "averaged rotation: cos ½": error(tv.recursive(linear(turn), state_shape=(2,)), math.cos(0.5)),
    }
    rows = [Row("known", name, value, "", 1e-6, "relative error") for name, value in found.items()]
    return [*rows, Row("known", "Dottie number: certified distance", dottie(), "", 1e-12)], {}
