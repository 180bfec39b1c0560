"""Witnesses without a linear algebra library: exact, or in correctly rounded operations."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isqrt, sqrt
from typing import Any

from tests.corpus.sheet import F, Json, Matrix, round_up, vector


def times(a: Matrix, b: Matrix) -> Matrix:
    return [
        [sum((p * q for p, q in zip(row, column, strict=True)), F(0)) for column in zip(*b, strict=True)] for row in a
    ]


def transposed(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def scaled_identity(n: int, value: Any) -> Matrix:
    return [[F(value) * (i == j) for j in range(n)] for i in range(n)]


def minus(a: Matrix, b: Matrix) -> Matrix:
    return [[p - q for p, q in zip(x, y, strict=True)] for x, y in zip(a, b, strict=True)]


def _root(value: Fraction, bits: int) -> Fraction:
    """A square root, rounded down to a multiple of 2^-bits."""
    return F(isqrt((value.numerator << (2 * bits)) // value.denominator), 1 << bits)


def _cholesky(matrix: Matrix, bits: int) -> Matrix | None:
    n = len(matrix)
    upper = scaled_identity(n, 0)
    for i in range(n):
        pivot = matrix[i][i] - sum((upper[k][i] ** 2 for k in range(i)), F(0))
        if pivot <= 0:
            return None
        upper[i][i] = _root(pivot, bits)
        if not upper[i][i]:
            return None
        for j in range(i + 1, n):
            value = matrix[i][j] - sum((upper[k][i] * upper[k][j] for k in range(i)), F(0))
            upper[i][j] = F(round(value / upper[i][i] * (1 << bits)), 1 << bits)
    return upper


def _dominant(matrix: Matrix) -> bool:
    return all(2 * row[i] >= sum(map(abs, row)) for i, row in enumerate(matrix)) and all(
        row[i] >= 0 for i, row in enumerate(matrix)
    )


def factor(matrix: Matrix) -> Json:
    """R with M − RᵀR diagonally dominant. Raises `ValueError` when none is found."""
    n = len(matrix)
    if _dominant(matrix):
        return vector([0] * (n * (n + 1) // 2))
    scale = max(matrix[i][i] for i in range(n))
    for power in (8, 12, 16, 20, 24, 30, 36, 44, 52):
        upper = _cholesky(minus(matrix, scaled_identity(n, scale / (1 << power))), power + 16)
        if upper is not None and _dominant(minus(matrix, times(transposed(upper), upper))):
            return vector([upper[i][j] for i in range(n) for j in range(i, n)])
    raise ValueError("expected a positive definite matrix, found no factor")


def norm_bound(matrix: Matrix, relative: float = 1e-5) -> Fraction:
    """Slightly above ‖W‖₂, by power iteration."""
    rows = [[float(v) for v in row] for row in matrix]
    v = [1.0 + i / 7 for i in range(len(rows[0]))]
    size = 0.0
    for _ in range(2000):
        image = [sum(p * q for p, q in zip(row, v, strict=True)) for row in rows]
        back = [sum(p * q for p, q in zip(column, image, strict=True)) for column in zip(*rows, strict=True)]
        size = sqrt(sum(b * b for b in back))
        v = [b / size for b in back]
    return round_up(sqrt(size) * (1 + relative), 30)


def norm_gap(matrix: Matrix, sigma: Fraction) -> Matrix:
    """σ²I − WᵀW, or the same for Wᵀ when that is smaller."""
    small = matrix if len(matrix) >= len(matrix[0]) else transposed(matrix)
    gram = times(transposed(small), small)
    return minus(scaled_identity(len(gram), sigma * sigma), gram)


def perron(image: Callable[[list[float]], list[float]], size: int) -> tuple[list[Fraction], Fraction]:
    """Positive weights d (multiples of 2^-20) and a rate ≥ max image(d)/d, for a monotone homogeneous map."""
    v = [1.0] * size
    for _ in range(3000):
        after = [a + 0.05 * b for a, b in zip(image(v), v, strict=True)]
        largest = max(after)
        v = [max(a / largest, 2.0**-12) for a in after]
    least = min(v)
    d = [round_up(a / least, 20) for a in v]
    after = image([float(a) for a in d])
    return d, round_up(max(a / float(b) for a, b in zip(after, d, strict=True)) + 2.0**-40, 36)


def absolute(matrix: Matrix) -> Callable[[list[float]], list[float]]:
    rows = [[abs(float(v)) for v in row] for row in matrix]
    return lambda v: [sum(p * q for p, q in zip(row, v, strict=True)) for row in rows]
