"""Witnesses of positive semidefiniteness: a rounded triangular R with M − RᵀR diagonally dominant."""

from __future__ import annotations

from math import frexp

import mpmath
import numpy as np
from scipy.linalg import LinAlgError, cholesky

from trm_verify.encode import Json, quantized
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import Rows, require_psd

Dense = np.ndarray


def as_floats(rows: Rows, exp: int) -> Dense:
    """Kernel rows as doubles; entries of any length are scaled before conversion."""
    largest = max((max(map(abs, row)) for row in rows), default=0).bit_length()
    shift = max(largest - 900, 0)
    return np.ldexp(np.array([[float(v >> shift) for v in row] for row in rows]), exp + shift)


def packed(upper: Dense, exp: int) -> Json:
    """The upper triangle row by row, rounded to multiples of 2^exp."""
    return quantized(upper[np.triu_indices(len(upper))], exp)


def factor(rows: Rows, exp: int, what: str = "matrix") -> Json:
    """A factor that the kernel accepts for the exact symmetric matrix `rows · 2^exp`.

    The factor is a Cholesky factor of the matrix less a small multiple of its diagonal scale: what is left over is then a
    positive diagonal that covers the rounding. Several margins and precisions are tried, doubles first.

    Raises:
        CheckError: none of them is accepted (the matrix may not be positive semidefinite).
    """
    matrix = as_floats(rows, exp)
    size = float(np.abs(matrix).max()) or 1.0
    eigenvalues = np.linalg.eigvalsh(matrix)
    slack = float(eigenvalues[0])
    if slack < -1e-9 * size:
        raise CheckError("DEFINITE", f"{what} to be positive semidefinite", f"smallest eigenvalue {slack:.3g}")
    last: CheckError | None = None
    for keep, extra in ((0.5, 0), (0.5, 12), (0.9, 12), (0.25, 20)):
        margin = keep * slack
        try:
            upper = cholesky(matrix - margin * np.eye(len(matrix)), lower=False) if margin > 0 else None
        except LinAlgError:
            upper = None
        if upper is None:
            break
        # rounding R by 2^q changes an entry of RᵀR by about 2^q · ‖R column‖₁; keep the row sums of that below the margin
        norm = float(np.abs(upper).sum(axis=0).max())
        grid = frexp(margin / (4 * len(matrix) * norm))[1] - extra
        witness = packed(upper, max(grid, frexp(norm)[1] - 53))
        try:
            require_psd(rows, exp, read_vector(witness, None, "factor"), what)
            return witness
        except CheckError as error:
            last = error
    return _precise(rows, exp, what, last)


def _precise(rows: Rows, exp: int, what: str, last: CheckError | None, bits: int = 300) -> Json:
    """The same with multiple precision, for badly scaled matrices."""
    n = len(rows)
    with mpmath.workprec(bits):
        matrix = mpmath.matrix(n, n)
        for i, row in enumerate(rows):
            for j, v in enumerate(row):
                matrix[i, j] = mpmath.ldexp(mpmath.mpf(v), exp)
        scale = max(abs(matrix[i, i]) for i in range(n)) or mpmath.mpf(1)
        for power in (20, 30, 40, 55, 70, 90, 120):
            shift = scale * mpmath.mpf(2) ** -power
            lower = _cholesky(matrix, shift)
            if lower is None:
                continue
            grid = int(mpmath.floor(mpmath.log(scale, 2))) - power * 2 - 2 * n.bit_length() - 8
            ints = [int(mpmath.nint(mpmath.ldexp(lower[j][i], -grid))) for i in range(n) for j in range(i, n)]
            try:
                require_psd(rows, exp, (ints, grid), what)
                return {"exp": grid, "int": " ".join(format(v, "x") for v in ints)}
            except CheckError as error:
                last = error
    raise last or CheckError("DEFINITE", f"{what} to be positive semidefinite", "no factor found")


def _cholesky(matrix: mpmath.matrix, shift: mpmath.mpf) -> list[list[mpmath.mpf]] | None:
    """Rows of the lower factor of matrix − shift·I, or None."""
    n = matrix.rows
    lower: list[list[mpmath.mpf]] = [[mpmath.mpf(0)] * n for _ in range(n)]
    for j in range(n):
        row = lower[j]
        pivot = matrix[j, j] - shift - mpmath.fsum(v * v for v in row[:j])
        if pivot <= 0:
            return None
        row[j] = mpmath.sqrt(pivot)
        for i in range(j + 1, n):
            dot = mpmath.fdot(zip(lower[i][:j], row[:j], strict=True))
            lower[i][j] = (matrix[i, j] - dot) / row[j]
    return lower
