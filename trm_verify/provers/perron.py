"""Positive weights d with A d ≤ ρ d for a non-negative matrix A, ρ as near to the spectral radius as their size allows.

An irreducible A has a positive Perron vector. A reducible one (triangular, nilpotent, zero rows) has none, but its
strongly connected components do, and between components the weights only have to grow fast enough. They can outgrow
doubles, so everything is kept as binary logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]

MOST_BITS = 50_000  # of one weight; the kernel's numbers end at 2^16 bits
GOOD_BITS = 1 << 22  # of all weights together, up to which a better rate is worth longer weights
GAPS = (1e-8, 1e-7, 4e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Weights:
    """Weights 2^log2, and a rate that max_i (A d)_i / d_i does not exceed (up to rounding)."""

    log2: Floats
    ratio: float


def _log2(values: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        found: Floats = np.log2(values)
    return found


def _row_sums(logs: Floats) -> Floats:
    """log2 Σ_j 2^(logs_ij), minus infinity for empty rows."""
    if not logs.shape[1]:
        return np.full(len(logs), -np.inf)
    top = logs.max(axis=1)
    shift = np.where(np.isfinite(top), top, 0.0)
    return _log2(np.exp2(logs - shift[:, None]).sum(axis=1)) + shift


def _balanced(logs: Floats, sweeps: int = 30) -> Floats:
    """Osborne's scaling: exponents that make the off-diagonal row and column sums about equal."""
    scale = np.zeros(len(logs))
    away = logs.copy()
    np.fill_diagonal(away, -np.inf)
    for _ in range(sweeps):
        moved = 0.0
        for i in range(len(logs)):
            out = float(_row_sums((away[i] + scale - scale[i])[None])[0])
            back = float(_row_sums((away[:, i] + scale[i] - scale)[None])[0])
            delta = (out - back) / 2
            scale[i] += delta
            moved = max(moved, abs(delta))
        if moved < 1:
            break
    return scale


def irreducible(matrix: Floats, iterations: int = 100) -> Weights:
    """The Perron vector of an irreducible matrix by Noda's iteration, in ever better scaled coordinates."""
    if len(matrix) == 1:
        return Weights(np.zeros(1), float(matrix[0, 0]))
    logs = _log2(matrix)
    spread = logs[np.isfinite(logs)]
    scale = _balanced(logs) if float(spread.max() - spread.min()) > 60 else np.zeros(len(matrix))
    best = Weights(scale, np.inf)
    for _ in range(iterations):
        with np.errstate(over="ignore"):
            scaled = np.exp2(logs + scale[None, :] - scale[:, None])
        sums = scaled.sum(axis=1)
        worst, least = float(sums.max()), float(sums.min())
        if not np.isfinite(worst):
            break
        improved = worst < best.ratio * (1 - 1e-15)
        if improved:
            best = Weights(scale - scale.min(), worst)
        if worst - least <= 1e-14 * worst or not improved:
            break
        found = _inverse_row_sums(scaled, worst, (0.03, 0.3, 0.7, 1.0) if worst > 4 * least else (1.0,))
        if found is None:
            break
        scale = scale + _log2(found / found.max())
    return best


def _inverse_row_sums(scaled: Floats, worst: float, shares: tuple[float, ...]) -> Floats | None:
    """(λI − A)⁻¹ 1, positive since λI − A is a non-singular M-matrix for λ above the spectral radius.

    Args:
        worst: the largest row sum, at which it surely is; λ is the smallest share of it that works.
    """
    for share in shares:
        shift = worst * share * (1 + 1e-15)
        try:
            found = np.linalg.solve(shift * np.eye(len(scaled)) - scaled, np.full(len(scaled), worst))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(found).all() and found.min() > 0:
            return np.asarray(found)
    return None


def components(matrix: Floats) -> list[NDArray[np.intp]]:
    """Strongly connected components of the graph of A, each after all those that its rows depend on."""
    count, labels = connected_components(csr_array(matrix > 0), directed=True, connection="strong")
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])
    rows, columns = np.nonzero(matrix)
    edges = np.unique(np.stack([labels[rows], labels[columns]], axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    waiting = np.bincount(edges[:, 0], minlength=count)
    users: list[list[int]] = [[] for _ in range(count)]
    for user, used in edges.tolist():
        users[used].append(user)
    ready = [c for c in range(count) if not waiting[c]]
    for c in ready:  # grows while it is read
        for user in users[c]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    return [members[c] for c in ready]


def positive_weights(matrix: Floats) -> Weights | None:
    """Weights for any non-negative matrix of spectral radius below 1, or None when none of a sensible size were found.

    Shape: matrix (n, n), non-negative; None where doubles were too small for an entry.
    """
    if not np.isfinite(matrix).all():
        return None
    parts = components(matrix)
    found = [irreducible(matrix[np.ix_(part, part)]) for part in parts]
    radius = max(w.ratio for w in found)
    if len(parts) == 1:
        return found[0]
    if not radius < 1:
        return None
    best: Weights | None = None
    logs = _log2(matrix)
    targets = [radius * (1 + gap) for gap in GAPS] if radius > 1e-3 else []
    targets += [t for t in (0.5, 0.9, (1 + radius) / 2, 0.25 + 0.75 * radius, 0.999) if t > radius]
    for target in targets:
        if not radius < target < 1:
            continue
        joined = _joined(logs, parts, found, target)
        bits = float(joined.max() - joined.min())
        if best is None or bits < float(best.log2.max() - best.log2.min()):
            best = Weights(joined, target)
        if bits * len(matrix) <= GOOD_BITS and bits <= MOST_BITS:
            return Weights(joined, target)
    return best if best is not None and float(best.log2.max()) <= MOST_BITS else None


def _joined(logs: Floats, parts: list[NDArray[np.intp]], found: list[Weights], target: float) -> Floats:
    """Each component's vector, scaled up until what it takes in from others fits below the target."""
    joined = np.zeros(len(logs))
    done = np.zeros(len(logs), dtype=bool)
    for part, own in zip(parts, found, strict=True):
        outside = np.flatnonzero(done)
        given = _row_sums(logs[np.ix_(part, outside)] + joined[outside][None, :])
        room = np.log2((target - own.ratio) * (1 - 1e-12))
        joined[part] = own.log2 + max(float((given - room - own.log2).max()), 0.0)
        done[part] = True
    shifted: Floats = joined - joined.min()
    return shifted
