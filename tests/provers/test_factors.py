"""Factors of positive definite matrices: the kernel's test accepts them, and there are none for indefinite matrices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from trm_verify.kernel.document import vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import Rows, gram, require_psd
from trm_verify.provers.factors import RELATIVE, factor, norm_witness, short_factor
from trm_verify.provers.problem import floats


def exact_matrix(n: int, condition: float, seed: int = 0) -> Rows:
    """Integers: RᵀR for a rounded R with singular values from 1 down to 1/√condition."""
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    scaled = frame * np.geomspace(1, condition**-0.5, n)[:, None]
    return gram([[int(v * 2**60) for v in row] for row in scaled.tolist()])


@pytest.mark.parametrize("n", [1, 2, 17, 64])
@pytest.mark.parametrize("condition", [1.0, 1e6, 1e12, 1e18, 1e24])
@pytest.mark.parametrize("exp", [-121, -120, 0, 7])
def test_the_kernel_accepts_the_factor(n: int, condition: float, exp: int) -> None:
    rows = exact_matrix(n, condition)
    found = vector(factor(rows, exp), n * (n + 1) // 2, "factor")
    require_psd(rows, exp, found, "the matrix")


def test_dead_rows_are_left_out() -> None:
    rows = [[4, 0, 1], [0, 0, 0], [1, 0, 3]]
    require_psd(rows, -2, vector(factor(rows, -2), 6, "factor"), "the matrix")


@pytest.mark.parametrize(
    "rows", [[[1, 2], [2, 1]], [[0, 1], [1, 5]], [[-1, 0], [0, 1]], [[1 << 200, 1 << 150], [1 << 150, 1]]]
)
def test_indefinite_matrices_have_none(rows: Rows) -> None:
    with pytest.raises(CheckError) as error:
        factor(rows, 0)
    assert error.value.code == "DEFINITE"


def test_a_slightly_indefinite_matrix_has_none() -> None:
    rows = exact_matrix(24, 1e18)
    smallest = np.linalg.eigh(floats(rows, -120))[1][:, :1]
    push = [[int(v) for v in row] for row in ((smallest @ smallest.T) * 2.0**66).tolist()]
    bent = [[a - b for a, b in zip(p, q, strict=True)] for p, q in zip(rows, push, strict=True)]
    with pytest.raises(CheckError) as error:
        factor(bent, -120)
    assert error.value.code == "DEFINITE"


def test_long_entries_do_not_overflow() -> None:
    assert floats([[1 << 3000, 0], [0, 3 << 2999]], -3000).tolist() == [[1.0, 0.0], [0.0, 1.5]]


@pytest.mark.parametrize("shape", [(3, 3), (90, 40), (128, 128)])
def test_norm_witnesses_are_close_and_short(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).normal(size=shape)
    sigma, witness = norm_witness(matrix)
    true = float(np.linalg.norm(matrix, 2))
    assert true < float(sigma) <= true * (1 + 1.01 * RELATIVE)
    assert max(len(token) for token in witness["int"].split()) <= 10


def test_a_norm_witness_holds_over_the_rationals() -> None:
    matrix = np.random.default_rng(2).normal(size=(5, 4))
    sigma, witness = norm_witness(matrix)
    exact = [[Fraction(v) for v in row] for row in matrix.tolist()]
    entries = iter([Fraction(int(v, 16)) * Fraction(2) ** witness["exp"] for v in witness["int"].split()])
    upper = [[next(entries) if j >= i else Fraction(0) for j in range(4)] for i in range(4)]

    def square(rows: list[list[Fraction]], i: int, j: int) -> Fraction:
        return sum((row[i] * row[j] for row in rows), Fraction(0))

    for i in range(4):
        rest = [sigma**2 * (i == j) - square(exact, i, j) - square(upper, i, j) for j in range(4)]
        assert 2 * rest[i] >= sum(map(abs, rest))


def test_doubles_are_not_trusted_near_their_rounding() -> None:
    assert short_factor(np.diag([1.0, 1e-14]), 1e-14) is None
