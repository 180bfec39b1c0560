"""Personalized PageRank: the model is the solver, one step is one round of the random surfer."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Task, check_sizes, cut
from trm_verify.tasks.jacobi import METRICS, AffineSolver, digits_right, direct

_SIZES = (16, 32, 64, 128)
FOLLOW = 0.875
"""Probability of following a link; with 7/8 every weight is a short binary fraction."""
_TELEPORT = 1 << 16


def pagerank(size: int = 32, *, seed: int = 0, train: int = 256, validation: int = 64, test: int = 128) -> Task:
    """Rank the nodes of one random graph for many teleport distributions v: `u = 7/8 · P u + 1/8 · v`.

    The graph is in the *weights* of `task.solver` and v is its input, for the reason given at `jacobi`; other graphs
    are other seeds. Each node links to 1, 2, 4 or 8 others, more often to popular ones, and a random cycle through all
    nodes makes the graph strongly connected. P is column-stochastic: the loop contracts at 7/8 in ℓ1 and, which is what
    the kernel checks, at 7/8 in the ℓ∞ norm weighted with the graph's stationary distribution.

    The weights are exact in float32; the targets solve the stored system up to rounding of float64, and are therefore
    within 1e-14. The metric is the number of right decimal digits, see `jacobi`; the arg-max of the readout is the
    node of highest rank.

    Shape: x (rows, size) distributions, multiples of 2⁻¹⁶ that sum to 1; y (rows, size) float64.

    Raises:
        ValueError: fewer than 10 nodes, or no rows.
    """
    check_sizes("pagerank", size, 10, train=train, validation=validation, test=test)
    rng = np.random.default_rng([seed, size])
    weight = FOLLOW * _surfer(rng, size)
    x = _teleports(rng, train + validation + test, size)
    y = np.linalg.solve(np.eye(size) - weight, (1 - FOLLOW) * x.T).T
    scale = torch.full((size,), 1 - FOLLOW)
    solver = AffineSolver(torch.from_numpy(weight).float(), scale, Box(0, 1).expand((size,)))
    return Task(
        "pagerank",
        *cut(torch.from_numpy(x).float(), torch.from_numpy(np.ascontiguousarray(y)), train, validation, test),
        classes=size,
        domain=solver.domain,
        metric=digits_right,
        metrics=METRICS,
        difficulty=size,
        difficulties=_SIZES,
        sized=partial(pagerank, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("a direct solve in float32", direct),
        solver=solver,
    )


def _surfer(rng: np.random.Generator, size: int) -> np.ndarray:
    """The column-stochastic matrix of a random strongly connected graph. Shape: (size, size)."""
    matrix = np.zeros((size, size))
    cycle = rng.permutation(size)
    popularity = 1 / (1 + rng.permutation(size))
    for node, following in zip(cycle, np.roll(cycle, -1), strict=True):
        others = np.setdiff1d(np.arange(size), [node, following])
        degree = int(rng.choice([1, 2, 4, 8]))
        chance = popularity[others] / popularity[others].sum()
        linked = rng.choice(others, degree - 1, replace=False, p=chance)
        matrix[[following, *linked], node] = 1 / degree
    return matrix


def _teleports(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """Distributions over a few nodes to all nodes. Shape: (rows, size)."""
    concentration = 10 ** rng.uniform(-1.5, 1, (rows, 1))
    share = rng.gamma(concentration, size=(rows, size)) + 1e-12
    whole = np.floor(share / share.sum(axis=1, keepdims=True) * _TELEPORT)
    whole[np.arange(rows), whole.argmax(axis=1)] += _TELEPORT - whole.sum(axis=1)
    return np.asarray(whole / _TELEPORT)


def _text(x: Tensor, y: Tensor) -> str:
    order = y.argsort(descending=True)[:8].tolist()
    return "\n".join(
        f"node {node:>3}  rank {float(y[node]):.4f}  {'█' * round(40 * float(y[node] / y.max()))}"
        f"  (teleport {float(x[node]):.4f})"
        for node in order
    )
