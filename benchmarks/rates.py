"""Certified rates of one-layer steps against the truth: spectral radius of |W| in weighted ℓ∞, singular value in ℓ2."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from bench import Json, Row, one_layer
from torch import nn

import trm_verify as tv

SIZES = (8, 16, 32, 64, 128, 256)
LIMITS = {"weighted linf": 1e-6, "l2": 1e-5}  # of the relative excess


def certified(model: nn.Module, norm: str) -> float:
    """The proved rate, or infinity."""
    rate = tv.verify_fixed_point(model, norm=norm).rate
    return float("inf") if rate is None else rate


def reducible() -> dict[str, tuple[np.ndarray, float]]:
    """Matrices without a positive Perron vector, with their spectral radius."""
    rng = np.random.default_rng(0)
    jordan = 0.99 * np.eye(256) + np.diag(np.full(255, 1.0), 1)
    blocks = np.triu(rng.uniform(0, 1e6, (240, 240)), 1)
    for i in range(0, 240, 8):
        part = rng.uniform(0, 1, (8, 8))
        blocks[i : i + 8, i : i + 8] = part * 0.95 / np.abs(np.linalg.eigvals(part)).max()
    return {
        "Jordan block, n = 256, radius 0.99": (jordan, 0.99),
        "nilpotent, n = 256, couplings 1e6": (np.diag(np.full(255, 1e6), 1), 0.0),
        "block triangular, n = 240, couplings up to 1e6": (blocks, 0.95),
        "permutation, n = 200, times 0.99": (0.99 * np.eye(200)[rng.permutation(200)], 0.99),
        "nilpotent, n = 1000": (np.diag(np.full(999, 1.0), 1), 0.0),
    }


def power_iteration() -> tuple[float, float, float]:
    """A spectrally normalised layer after 20 Adam steps: (its own norm, the true norm, the certified bound)."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 64, bias=False))
    optimiser, data = torch.optim.Adam(layer.parameters(), lr=0.05), torch.randn(128, 64)
    for _ in range(20):
        optimiser.zero_grad()
        ((layer(data) - data.roll(1, 1)) ** 2).mean().backward()
        optimiser.step()
    matrix = layer.eval().weight.detach().double().numpy()
    return 1.0, float(np.linalg.norm(matrix, 2)), 2 * certified(one_layer(matrix / 2), "l2")


def naive_row_sums(matrix: np.ndarray) -> tuple[float, float]:
    """The unweighted ℓ∞ norm with one Fraction an entry: (norm, processor seconds)."""
    started = time.process_time()
    norm = max(sum((abs(Fraction(v)) for v in row), Fraction(0)) for row in matrix.tolist())
    return float(norm), time.process_time() - started


def run(out: Path) -> tuple[list[Row], Json]:
    """Relative excess over the truth (never negative), on dense and on reducible matrices."""
    rng, rows = np.random.default_rng(1), []
    excess: dict[str, list[float]] = {name: [] for name in LIMITS}
    for n in SIZES:
        matrix = rng.normal(size=(n, n)) * rng.lognormal(0, 2, size=(n, 1))
        for name, norm, true in (
            ("weighted linf", "linf", float(np.abs(np.linalg.eigvals(np.abs(matrix))).max())),
            ("l2", "l2", float(np.linalg.norm(matrix, 2))),
        ):
            scaled = matrix * (0.9 / true)
            own = np.abs(np.linalg.eigvals(np.abs(scaled))).max() if norm == "linf" else np.linalg.norm(scaled, 2)
            excess[name].append(certified(one_layer(scaled), norm) / float(own) - 1)
    for name, limit in LIMITS.items():
        found = excess[name]
        rows.append(
            Row("rates", f"{name}: largest relative excess, n = {SIZES[0]} to {SIZES[-1]}", max(found), "", limit)
        )
        # the doubles of the comparison are right to about 1e-12
        rows.append(Row("rates", f"{name}: relative shortfall (must not be)", max(0.0, -min(found)), "", 1e-12))
    for name, (matrix, radius) in reducible().items():
        note = f"spectral radius {radius}; unweighted norm {np.abs(matrix).sum(axis=1).max():.3g}"
        rows.append(Row("rates", name, certified(one_layer(matrix), "linf"), "", float(np.nextafter(1, 0)), note))
    dense = np.abs(rng.normal(size=(512, 512))) * 0.8 / 512
    naive, seconds = naive_row_sums(dense)
    radius = float(np.abs(np.linalg.eigvals(dense)).max())
    rows.append(
        Row(
            "rates",
            "peer: row sums with Fractions, n = 512",
            seconds,
            "s",
            None,
            f"gives {naive:.4f}, truth {radius:.4f}",
        )
    )
    own, true, ours = power_iteration()
    note = f"the layer says {own}, SVD says {true:.6f}"
    rows.append(Row("rates", "peer: spectral_norm layer after 20 Adam steps, certified norm", ours, "", None, note))
    return rows, {name: {"sizes": SIZES, "excess": excess[name], "most": limit} for name, limit in LIMITS.items()}
