"""Positive weights of non-negative matrices, against exact arithmetic and NumPy's eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from trm_verify.provers.contraction.block import Blocks, block_norm
from trm_verify.provers.perron import Floats, components, irreducible, positive_weights


def exact_ratio(matrix: Floats, log2: Floats) -> Fraction:
    """max_i (A d)_i / d_i with the weights as a certificate stores them."""
    raw = block_norm(Blocks((1,) * len(matrix), {}), log2)["weights"]
    d = [int(v, 16) for v in raw["int"].split()]
    assert min(d) > 0
    rows = ([(j, Fraction(float(row[j]))) for j in np.flatnonzero(row)] for row in matrix)
    return max((sum((v * d[j] for j, v in row), Fraction(0)) / d[i] for i, row in enumerate(rows)), default=Fraction(0))


def jordan(n: int, eigenvalue: float, coupling: float = 1.0) -> Floats:
    return eigenvalue * np.eye(n) + np.diag(np.full(n - 1, coupling), 1)


def triangular(n: int, block: int, radius: float, coupling: float) -> Floats:
    """Irreducible diagonal blocks of spectral radius up to `radius`, anything above them."""
    rng = np.random.default_rng(n + block)
    matrix = np.triu(rng.uniform(0, coupling, (n, n)), 1)
    for i in range(0, n, block):
        part = rng.uniform(0, 1, (block, block))
        matrix[i : i + block, i : i + block] = part * (radius / np.abs(np.linalg.eigvals(part)).max())
    order = rng.permutation(n)
    return matrix[np.ix_(order, order)]


def cycle(n: int, low: float, high: float) -> Floats:
    return np.roll(np.diag(np.where(np.arange(n) < n // 2, high, low)), 1, 0)


def sparse(n: int, density: float, most: float, lower: bool) -> Floats:
    rng = np.random.default_rng(n)
    matrix = np.where(rng.random((n, n)) < density, rng.uniform(0, most, (n, n)), 0.0)
    return np.tril(matrix, -1) if lower else matrix


def padded() -> Floats:
    return np.pad(np.random.default_rng(0).uniform(0, 0.02, (40, 40)), ((0, 10), (10, 0)))


# name -> (matrix, its spectral radius when that is known on paper)
REDUCIBLE: dict[str, tuple[Callable[[], Floats], float | None]] = {
    "jordan 16": (lambda: jordan(16, 0.9), 0.9),
    "jordan 256": (lambda: jordan(256, 0.9), 0.9),
    "jordan 256 at 0.99": (lambda: jordan(256, 0.99), 0.99),
    "jordan with huge couplings": (lambda: jordan(256, 0.9, 1e6), 0.9),
    "transposed jordan": (lambda: jordan(64, 0.5).T.copy(), 0.5),
    "nilpotent": (lambda: jordan(256, 0.0, 1e6), 0.0),
    "dense nilpotent": (lambda: np.triu(np.full((128, 128), 1e6), 1), 0.0),
    "block triangular": (lambda: triangular(96, 8, 0.95, 1e6), 0.95),
    "block triangular, small blocks": (lambda: triangular(128, 2, 0.99, 1e6), 0.99),
    "permutation": (lambda: 0.9 * np.eye(64)[np.random.default_rng(0).permutation(64)], 0.9),
    "zero": (lambda: np.zeros((20, 20)), 0.0),
    "zero rows and columns": (padded, None),
    "sparse": (lambda: sparse(300, 0.004, 0.6, lower=False), None),
    "sparse nilpotent": (lambda: sparse(400, 0.02, 1e3, lower=True), 0.0),
}


@pytest.mark.parametrize("name", REDUCIBLE)
def test_reducible_matrices_get_weights_near_their_spectral_radius(name: str) -> None:
    make, radius = REDUCIBLE[name]
    matrix = make()
    true = float(np.abs(np.linalg.eigvals(matrix)).max()) if radius is None else radius
    found = positive_weights(matrix)
    assert found is not None
    ratio = float(exact_ratio(matrix, found.log2))
    assert ratio <= found.ratio * (1 + 1e-9)
    assert true * (1 - 1e-12) <= ratio < 1
    assert ratio <= true * (1 + 1e-6) or true < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("coupling", [1.0, 1e6])
def test_a_nilpotent_chain_of_a_thousand(coupling: float) -> None:
    found = positive_weights(jordan(1000, 0.0, coupling))
    assert found is not None
    assert exact_ratio(jordan(1000, 0.0, coupling), found.log2) < 1


@pytest.mark.parametrize("n", [1, 2, 7, 60, 200])
def test_irreducible_matrices_get_their_perron_vector(n: int) -> None:
    matrix = np.random.default_rng(n).uniform(0, 1, (n, n)) ** 8 + 1e-9
    true = float(np.abs(np.linalg.eigvals(matrix)).max())
    found = irreducible(matrix)
    assert float(exact_ratio(matrix, found.log2)) == pytest.approx(true, rel=1e-10)


@pytest.mark.parametrize(("low", "high"), [(0.9e-3, 1e3), (0.5, 1.5), (0.8e-6, 1e6)])
def test_a_long_cycle_has_the_geometric_mean_as_its_radius(low: float, high: float) -> None:
    matrix = cycle(100, low, high)
    found = irreducible(matrix)
    assert float(exact_ratio(matrix, found.log2)) == pytest.approx((low * high) ** 0.5, rel=1e-9)


def test_components_come_after_what_they_depend_on() -> None:
    matrix = triangular(60, 4, 0.9, 1.0)
    parts = components(matrix)
    assert sorted(i for part in parts for i in part) == list(range(60))
    assert all(len(part) == 4 for part in parts)
    for k, part in enumerate(parts):
        later = [i for other in parts[k + 1 :] for i in other]
        assert not matrix[np.ix_(part, later)].any()


def test_a_radius_of_one_or_more_gets_no_reducible_weights() -> None:
    assert positive_weights(jordan(8, 1.0)) is None
    assert positive_weights(np.diag([0.5, 1.25])) is None


def test_entries_beyond_doubles_get_no_weights() -> None:
    assert positive_weights(np.array([[np.inf]])) is None
    assert positive_weights(np.array([[0.5, np.nan], [0.0, 0.5]])) is None
