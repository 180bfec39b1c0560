"""Witnesses of positive semidefiniteness: a rounded triangular R with M − RᵀR diagonally dominant.

A Cholesky factor of M less a small part of its diagonal leaves a positive diagonal that covers the rounding of R.
Doubles are enough where the smallest eigenvalue is well above their rounding; elsewhere the factor is computed with
integers of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import frexp, isqrt

import numpy as np
from scipy.linalg import LinAlgError, cholesky

from trm_verify.encode import Json, integers, quantized, round_up
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import Rows, dot
from trm_verify.provers.problem import Floats, floats

RELATIVE = 2e-6  # how far above the true norm a certified bound lies: what a short witness needs
ROUNDING = 1e-10  # relative size of the smallest eigenvalue below which doubles are not trusted


def short_factor(matrix: Floats, slack: float) -> Json | None:
    """The factor with the fewest digits that doubles can find, or None when they cannot.

    Args:
        matrix: symmetric, right up to rounding. slack: its smallest eigenvalue, about.
    """
    size = float(np.abs(matrix).max())
    if not slack > ROUNDING * len(matrix) * size:
        return None
    try:
        upper = cholesky(matrix - slack / 2 * np.eye(len(matrix)), lower=False)
    except LinAlgError:
        return None
    largest = float(np.abs(upper).max())
    for exp in range(frexp(slack / largest)[1], frexp(slack / largest)[1] - 40, -1):
        rounded = np.ldexp(np.rint(np.ldexp(upper, -exp)), exp)
        rest = matrix - rounded.T @ rounded
        dominance = 2 * np.diag(rest) - np.abs(rest).sum(axis=1)
        if float(dominance.min()) > slack / 16:
            return quantized(rounded[np.triu_indices(len(rounded))], exp)
    return None


def factor(rows: Rows, exp: int, what: str = "matrix") -> Json:
    """A factor of the exact symmetric matrix `rows · 2^exp`.

    Raises:
        CheckError: DEFINITE, when the matrix is not positive semidefinite with a little room.
    """
    matrix = floats(rows, exp)
    slack = float(np.linalg.eigvalsh(matrix)[0])
    if slack < -1e-9 * (float(np.abs(matrix).max()) or 1.0):
        raise CheckError("DEFINITE", f"{what} to be positive semidefinite", f"smallest eigenvalue {slack:.3g}")
    return short_factor(matrix, slack) or _long_factor(rows, exp, what)


def _long_factor(rows: Rows, exp: int, what: str) -> Json:
    """The same with integers of any length: M less 2^-k of its diagonal, for the smallest k that leaves it definite."""
    diagonal = [row[i] for i, row in enumerate(rows)]
    if min(diagonal) < 0 or any(any(row) for row, d in zip(rows, diagonal, strict=True) if d == 0):
        raise CheckError("DEFINITE", f"{what} to be positive semidefinite", "a diagonal entry that is not positive")
    positive = [d for d in diagonal if d] or [1]
    least, most = min(positive).bit_length() - 1, max(positive).bit_length()
    for bits in (6, 12, 18, 24, 30, 36, 44, 52, 64, 80, 100, 130):
        # Integer division leaves an entry of RᵀR off by less than a pivot √M_ii; n of them must fit into 2^-bits M_jj.
        grid = min(exp + least - bits - (len(rows) + 2).bit_length() - (exp + most) // 2 - 1, exp // 2)
        shift = exp - 2 * grid
        columns = _upper_columns([[v << shift for v in row] for row in rows], [d << shift >> bits for d in diagonal])
        if columns is not None:
            return integers([columns[j][i] for i in range(len(rows)) for j in range(i, len(rows))], grid)
    raise CheckError("DEFINITE", f"{what} to be positive semidefinite", "no factor found")


def _upper_columns(rows: Rows, less: Sequence[int]) -> Rows | None:
    """Columns (down to the diagonal) of an integer R, RᵀR ≈ rows − diag(less); None when a pivot is not positive."""
    columns: Rows = []
    for j, row in enumerate(rows):
        column: list[int] = []
        for i in range(j):
            pivot = columns[i][i]
            column.append((row[i] - dot(columns[i][:i], column)) // pivot if pivot else 0)
        rest = row[j] - less[j] - dot(column, column)
        if rest <= 0 and row[j]:
            return None
        columns.append([*column, isqrt(max(rest, 0))])
    return columns


def norm_witness(matrix: Floats, relative: float = RELATIVE) -> tuple[Fraction, Json]:
    """σ slightly above ‖W‖₂, with a factor of σ²I − WᵀW.

    Shape: matrix (rows, columns) with rows ≥ columns.

    Raises:
        CheckError: DEFINITE, when no factor was found.
    """
    true = float(np.linalg.norm(matrix, 2))
    sigma = round_up(Fraction(true * (1 + relative)), 40)
    square = float(sigma) ** 2
    gap = square * np.eye(matrix.shape[1]) - matrix.T @ matrix
    witness = short_factor(gap, square - true**2)
    if witness is None:
        raise CheckError("DEFINITE", "σ²I − WᵀW to have a factor", f"none for σ = {float(sigma):.9g}")
    return sigma, witness
