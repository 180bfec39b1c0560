"""Exact arithmetic: Kronecker products against naive ones, outward roundings, the test of positive semidefiniteness."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trm_verify.kernel import numbers
from trm_verify.kernel.errors import CheckError

steady = settings(max_examples=60, derandomize=True)
fractions = st.builds(
    lambda p, q, e: F(p, q) * F(2) ** e, st.integers(0, 10**40), st.integers(1, 10**40), st.integers(-300, 300)
)
wide_integers = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 2**64, -(2**64), 2**63 - 1, -(2**63), 255, 256, -256, 2**1000, -(2**1000)]),
)


def naive(a: list[list[int]], b: list[list[int]]) -> list[list[int]]:
    columns = len(b[0])
    return [[sum(row[k] * b[k][j] for k in range(len(b))) for j in range(columns)] for row in a]


@st.composite
def factors(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    return tuple(  # type: ignore[return-value]
        [[draw(wide_integers) for _ in range(columns)] for _ in range(rows)] for rows, columns in ((m, k), (k, n))
    )


@steady
@given(factors())
@example(([[0]], [[0]]))
@example(([[-1, -1, -1]], [[-128], [-128], [-128]]))
@example(([[2**1000, -1]], [[1, -(2**1000)], [-(2**1000), 0]]))
def test_packed_products_equal_naive_ones(pair: tuple[list[list[int]], list[list[int]]]) -> None:
    a, b = pair
    assert numbers.matmul(a, b) == naive(a, b)
    assert numbers.gram(b) == naive(numbers.transpose(b), b)


@pytest.mark.parametrize("bits", range(1, 26))
def test_slots_hold_the_extreme_products_of_every_width(bits: int) -> None:
    """All entries at the ends of their range, every sign: where a slot one bit too small would overflow."""
    top = (1 << bits) - 1
    for inner in (1, 2, 3, 4, 7, 8, 15, 16):
        for p, q in ((top, top), (top, -top), (-top, -top), (-top - 1, -top - 1), (-top - 1, top)):
            a, b = [[p] * inner, [q] * inner, [0] * inner], [[q, -q, 0, q]] * inner
            assert numbers.matmul(a, b) == naive(a, b)


def test_larger_products() -> None:
    rng = Random(3)
    a, b = (
        [[rng.randint(-(2**90), 2**90) * rng.randint(0, 1) for _ in range(20)] for _ in range(20)] for _ in range(2)
    )
    assert numbers.matmul(a, b) == naive(a, b)


def test_columns_of_zeros_stay_where_they_are() -> None:
    """Products leave such columns out; the others keep their places, whatever their number."""
    rng = Random(4)
    for width, used in ((1, 0), (4, 0), (5, 1), (9, 4), (9, 5), (40, 3)):
        places = rng.sample(range(width), used)
        b = [[rng.randint(-(2**70), 2**70) * (j in places) for j in range(width)] for _ in range(6)]
        a = [[rng.randint(-(2**30), 2**30) for _ in range(6)] for _ in range(3)]
        assert numbers.matmul(a, b) == naive(a, b)
        assert numbers.matmul([], b) == []


@pytest.mark.parametrize("entries", [1, 3])
def test_a_product_of_lengths_that_do_not_fit_is_refused(entries: int) -> None:
    """Leaving out what has no counterpart would be a smaller number, and a smaller bound."""
    with pytest.raises(ValueError, match="rows of 2 entries"):
        numbers.matmul([[1] * entries], [[5, 1], [7, 1]])


def test_empty_products() -> None:
    assert numbers.matmul([[], []], []) == [[], []]
    assert numbers.matmul([[1, 2]], [[], []]) == [[]]


@steady
@given(fractions, st.integers(-400, 400), st.booleans())
def test_floor_and_ceiling_at_an_exponent(value: F, exp: int, negative: bool) -> None:
    value = -value if negative else value
    low, high, unit = numbers.floor_at(value, exp), numbers.ceil_at(value, exp), F(2) ** exp
    assert low * unit <= value < (low + 1) * unit
    assert (high - 1) * unit < value <= high * unit


@steady
@given(st.lists(st.integers(-(2**80), 2**80)), st.integers(0, 90))
def test_shifts_round_outward(values: list[int], shift: int) -> None:
    for v, down, up in zip(values, numbers.shift_down(values, shift), numbers.shift_up(values, shift), strict=True):
        assert down * 2**shift <= v <= up * 2**shift
        assert 0 <= up - down <= 1 and (up == down) == (v % 2**shift == 0)


def test_dyadics_and_rescaling() -> None:
    assert numbers.dyadic(-31, -3) == F(-31, 8) and numbers.dyadic(3, 4) == 48 and numbers.dyadic(0, -9) == 0
    assert numbers.rescale([1, -2], 3, 1) == [4, -8] and numbers.rescale([5], 2, 2) == [5]


@steady
@given(fractions)
def test_roots_and_roundings_are_upper_bounds_and_close(value: F) -> None:
    root = numbers.sqrt_up(value)
    assert root >= 0 and root * root >= value
    assert root * root <= value * (1 + F(1, 2**90))
    up = numbers.round_up(value)
    assert value <= up <= value * (1 + F(1, 2**180))


@pytest.mark.parametrize("value", [F(0), F(1), F(4), F(9, 16), F(25, 4), F(2**200), F(1, 2**200)])
def test_short_squares_have_exact_roots(value: F) -> None:
    assert numbers.sqrt_up(value) ** 2 == value


def test_the_root_of_a_negative_number_is_refused() -> None:
    with pytest.raises(CheckError) as caught:
        numbers.sqrt_up(F(-1, 2**300))
    assert caught.value.code == "INEQUALITY"


@steady
@given(st.fractions(0, 1, max_denominator=10**30), st.integers(0, 300))
def test_powers_are_upper_bounds_and_close(base: F, exponent: int) -> None:
    found, exact = numbers.power_up(base, exponent), base**exponent
    assert exact <= found <= exact * (1 + F(1, 2**150)) + F(1, 2**10000)


def test_powers_of_zero_and_one() -> None:
    assert numbers.power_up(F(0), 0) == 1 and numbers.power_up(F(0), 5) == 0
    assert numbers.power_up(F(1), 10**12) == 1 and numbers.power_up(F(3, 4), 1) == F(3, 4)


@pytest.mark.parametrize("base", [F(1, 2), F(9, 10), 1 - F(1, 2**60), F(1, 10**40)])
def test_power_of_a_huge_exponent_stays_small(base: F) -> None:
    found = numbers.power_up(base, 10**12)
    assert 0 < found < 1 and found.denominator.bit_length() < 10**6
    assert numbers.power_up(base, 10**6) >= found


# positive semidefiniteness


def triangle(matrix: np.ndarray, bits: int = 40) -> tuple[list[int], int]:
    n = len(matrix)
    return [round(float(matrix[i, j]) * 2**bits) for i in range(n) for j in range(i, n)], -bits


def verdict(matrix: list[list[int]], exp: int, factor: tuple[list[int], int]) -> bool:
    try:
        numbers.require_psd(matrix, exp, factor, "it")
    except CheckError as error:
        assert error.code == "DEFINITE"
        return False
    return True


def is_psd(matrix: list[list[int]]) -> bool:
    """Exactly, by symmetric elimination over the rationals."""
    m = [[F(v) for v in row] for row in matrix]
    n = len(m)
    for k in range(n):
        if m[k][k] < 0 or (m[k][k] == 0 and any(m[k][j] for j in range(k, n))):
            return False
        if m[k][k] == 0:
            continue
        for i in range(k + 1, n):
            ratio = m[i][k] / m[k][k]
            for j in range(k, n):
                m[i][j] -= ratio * m[k][j]
    return True


def test_the_oracle_of_these_tests() -> None:
    assert is_psd([[1, 1], [1, 1]]) and not is_psd([[1, 2], [2, 1]]) and not is_psd([[0, 1], [1, 0]]) and is_psd([[0]])


@pytest.mark.parametrize("seed", range(120))
def test_only_semidefinite_matrices_are_accepted(seed: int) -> None:
    """Random factors of any kind, matrices near the boundary: acceptance implies semidefiniteness, exactly decided."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    square = rng.integers(-40, 41, (n, max(1, n - int(rng.integers(0, 2)))))
    matrix = square @ square.T + int(rng.integers(-30, 31)) * np.eye(n, dtype=int)
    if rng.random() < 0.4:
        i, j = rng.integers(0, n, 2)
        matrix[i, j] += 1
        matrix[j, i] = matrix[i, j]
    rows = [[int(v) for v in row] for row in matrix]
    shift = max(0.0, -np.linalg.eigvalsh(matrix)[0]) + 10.0 ** float(rng.integers(-9, 2))
    good = np.linalg.cholesky(matrix + shift * np.eye(n)).T
    for factor in (good, good * 0.99, good * 1.01, good + rng.standard_normal((n, n)), np.zeros((n, n)), -good):
        assert not verdict(rows, 0, triangle(factor)) or is_psd(rows)


@pytest.mark.parametrize("seed", range(20))
def test_definite_matrices_have_an_accepted_factor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    square = rng.integers(-40, 41, (n, n))
    rows = [[int(v) for v in row] for row in square @ square.T + np.eye(n, dtype=int)]
    for exp in (-7, 0, 9):
        scaled = np.array(rows, dtype=float) * 2.0**exp
        factor = np.linalg.cholesky(scaled - np.linalg.eigvalsh(scaled)[0] / 2 * np.eye(n)).T
        assert verdict(rows, exp, triangle(factor))
        assert not verdict([[-v for v in row] for row in rows], exp, triangle(factor))


def test_the_boundary_is_exact() -> None:
    big = 2**200
    assert verdict([[big, big], [big, big]], -400, ([0, 0, 0], 0))
    assert not verdict([[big, big + 1], [big + 1, big]], -400, ([0, 0, 0], 0))
    assert not verdict([[big, big], [big, big - 1]], -400, ([0, 0, 0], 0))
    # [[1, 1], [1, 1]] = RᵀR with R = [[1, 1], [0, 0]]: nothing is left over
    assert verdict([[4, 4], [4, 4]], -2, ([1, 1, 0], 0))
    assert not verdict([[4, 4], [4, 4]], -2, ([1, 1, 1], 0))
    assert not verdict([[4, 4], [4, 4]], -2, ([2, 2, 0], 0))


def test_the_diagonal_must_not_be_negative() -> None:
    assert not verdict([[-1]], 0, ([0], 0))
    assert not verdict([[1, 0], [0, -1]], 0, ([0, 0, 0], 0))
    assert verdict([[0]], 0, ([0], 0))
    assert not verdict([[-5, 5], [5, -5]], 0, ([0, 0, 0], 0))


def test_factors_and_matrices_at_any_pair_of_exponents() -> None:
    for exp in (-6, 0, 5):
        for factor_exp in (-4, 0, 3):
            root = 2 ** (10 + exp + 2) if exp >= -6 else 0
            value = root * root << 40
            entry = root << 20
            matrix = [[value]]
            # value · 2^exp = (entry · 2^factor_exp)² exactly when 2 factor_exp = exp
            if exp == 2 * factor_exp:
                assert verdict(matrix, exp, ([entry], factor_exp))
                assert not verdict(matrix, exp, ([entry + 1], factor_exp))
            larger = F(2) ** (2 * factor_exp - exp)
            assert verdict(matrix, exp, ([entry], factor_exp)) == (larger <= 1)


def test_upper_triangles() -> None:
    assert numbers.upper_triangle([1, 2, 3, 4, 5, 6], 3) == [[1, 2, 3], [0, 4, 5], [0, 0, 6]]
    assert numbers.upper_triangle([7], 1) == [[7]]
