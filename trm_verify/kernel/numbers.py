"""Exact arithmetic: scalars are `Fraction`, vectors and matrices are integers with one shared binary exponent.

Nothing here rounds to nearest. Where a result cannot be exact (square roots, powers cut to a readable length)
the function says in which direction it errs.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import compress
from math import isqrt
from operator import mul
from struct import Struct

from trm_verify.kernel.errors import CheckError

Rows = list[list[int]]

MAX_SHIFT = 1 << 32  # bits that one change of exponent may add
MAX_MATRIX_BITS = 1 << 31
MAX_FACTOR = 4096  # rows of a matrix whose positivity is checked
FINEST = -20_000  # no bound is kept finer than this, however small it is
PRECISION = 192  # bits kept where a value is rounded outward


def dyadic(mantissa: int, exp: int) -> Fraction:
    """mantissa · 2^exp."""
    return Fraction(mantissa << exp) if exp >= 0 else Fraction(mantissa, 1 << -exp)


def less(a: Fraction, b: Fraction) -> bool:
    """a < b, in a quarter of the time that the operator takes."""
    return a.numerator * b.denominator < b.numerator * a.denominator


def require_bits(size: int, bits: int) -> None:
    """A square matrix whose entries are that much longer than they need to be is refused before it is made."""
    if size * size * bits > MAX_MATRIX_BITS:
        raise CheckError("LIMIT", f"a matrix of at most {MAX_MATRIX_BITS} more bits", size * size * bits)


def rescale(ints: list[int], exp: int, to: int) -> list[int]:
    """The same values at the exponent `to` ≤ `exp`."""
    if (exp - to) * len(ints) > MAX_SHIFT:
        raise CheckError("LIMIT", "exponents that lie closer together", exp - to)
    return ints if exp == to else [v << (exp - to) for v in ints]


def shift_down(ints: Iterable[int], shift: int) -> list[int]:
    return [v >> shift for v in ints]


def shift_up(ints: Iterable[int], shift: int) -> list[int]:
    return [-(-v >> shift) for v in ints]


def floor_at(value: Fraction, exp: int) -> int:
    """Largest integer m with m · 2^exp ≤ value."""
    return (value.numerator << max(-exp, 0)) // (value.denominator << max(exp, 0))


def ceil_at(value: Fraction, exp: int) -> int:
    return -floor_at(-value, exp)


def _exponent_for(value: Fraction) -> int:
    """An exponent at which a positive value has about PRECISION bits."""
    return value.numerator.bit_length() - value.denominator.bit_length() - PRECISION


def round_up(value: Fraction) -> Fraction:
    """A bound ≥ value ≥ 0 of about PRECISION bits."""
    if value.numerator.bit_length() + value.denominator.bit_length() <= 2 * PRECISION:
        return value
    exp = max(_exponent_for(value), FINEST)
    return dyadic(ceil_at(value, exp), exp)


def sqrt_up(value: Fraction) -> Fraction:
    """A bound ≥ √value, exact when value is the square of a short dyadic."""
    if value < 0:
        raise CheckError("INEQUALITY", "a non-negative number under a square root", value)
    if value == 0:
        return value
    exp = _exponent_for(value) // 2 - PRECISION // 2
    scaled = ceil_at(value, 2 * exp)
    root = isqrt(scaled)
    return dyadic(root + (root * root < scaled), exp)


def power_up(base: Fraction, exponent: int) -> Fraction:
    """A bound ≥ base^exponent, for base ≥ 0 and exponent ≥ 0."""
    result, square = Fraction(1), round_up(base)
    while exponent:
        if exponent & 1:
            result = round_up(result * square)
        exponent >>= 1
        if exponent:
            square = round_up(square * square)
    return result


def dot(a: Iterable[int], b: Iterable[int]) -> int:
    return sum(map(mul, a, b))


def identity(n: int) -> Rows:
    return [[int(i == j) for j in range(n)] for i in range(n)]


def transpose(rows: Rows) -> Rows:
    return [list(column) for column in zip(*rows, strict=True)]


def rows_of(ints: list[int], width: int) -> list[list[int]]:
    return [ints[i : i + width] for i in range(0, len(ints), width)]


def width_of(rows: Rows) -> int:
    """Bits of the largest magnitude."""
    return max((max(max(row), -min(row)).bit_length() for row in rows if row), default=0)


def matmul(a: Rows, b: Rows) -> Rows:
    """The exact product. Forms of one token read few of a state's entries: mostly columns of zeros are left out."""
    width = len(b[0]) if b else 0
    used = [j for j, column in enumerate(zip(*b, strict=True)) if any(column)]
    if 2 * len(used) < width:
        narrow = Packed([[row[j] for j in used] for row in b]).after(a)
        return [_spread(row, used, width) for row in narrow]
    return Packed(b).after(a)


class Packed:
    """A matrix b for exact products a·b, by Kronecker packing: a row of b becomes one integer, with a slot per entry.

    Row i of the product is `Σ_k a_ik · packed(b_k)`. A slot of `bits(a) + bits(b) + bits(k) + 1` bits holds any entry
    of the product with its sign, so that slots never overlap; a constant added to each makes them non-negative to read.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.width, self.packed = rows, width_of(rows), (0, [0])  # bytes of a slot, rows packed that way

    def after(self, a: Rows) -> Rows:
        """a·b."""
        b = self.rows
        if not b or not b[0]:
            return [[] for _ in a]
        if any(len(row) != len(b) for row in a):  # `dot` would leave the rest out
            raise ValueError(f"expected rows of {len(b)} entries to multiply with, found {[len(row) for row in a][:9]}")
        slot = (width_of(a) + self.width + len(b).bit_length()) // 8 + 1
        columns = len(b[0])
        half = 1 << (8 * slot - 1)
        offset = int.from_bytes(half.to_bytes(slot, "little") * columns, "little")
        if self.packed[0] != slot:
            joined = (b"".join([(v + half).to_bytes(slot, "little") for v in row]) for row in b)
            self.packed = slot, [int.from_bytes(row, "little") - offset for row in joined]
        slots = Struct(f"{slot}s" * columns)
        sums = (dot(filter(None, row), compress(self.packed[1], row)) for row in a)  # a sum with zero is a long one
        raw = ((total + offset).to_bytes(slot * columns, "little") for total in sums)
        read = int.from_bytes  # looked up once, not for each entry
        return [[read(entry, "little") - half for entry in slots.unpack(row)] for row in raw]


def _spread(entries: list[int], places: list[int], width: int) -> list[int]:
    """A row of zeros but for some entries."""
    row = [0] * width
    for j, v in zip(places, entries, strict=True):
        row[j] = v
    return row


def gram(rows: Rows) -> Rows:
    """rowsᵀ · rows."""
    return matmul(transpose(rows), rows)


def upper_triangle(ints: list[int], n: int) -> Rows:
    """The n×n upper triangular matrix whose rows, without the zeros below the diagonal, are listed in `ints`."""
    rows, start = [], 0
    for i in range(n):
        rows.append([0] * i + ints[start : start + n - i])
        start += n - i
    return rows


def require_psd(matrix: Rows, exp: int, factor: tuple[list[int], int], what: str) -> None:
    """Accept a symmetric matrix M when M − RᵀR is diagonally dominant with a non-negative diagonal.

    Sound if: proofs/psd_test.md. M is exactly symmetric: callers build it so, or check it.
    """
    n = len(matrix)
    if n > MAX_FACTOR:
        raise CheckError("LIMIT", f"a matrix of at most {MAX_FACTOR} rows", n)
    ints, factor_exp = factor
    product = gram(upper_triangle(ints, n))
    low = min(exp, 2 * factor_exp)
    for i, (row, square) in enumerate(zip(matrix, product, strict=True)):
        rest = [(m << (exp - low)) - (s << (2 * factor_exp - low)) for m, s in zip(row, square, strict=True)]
        if 2 * rest[i] < sum(map(abs, rest)):  # a negative diagonal entry fails this too
            raise CheckError(
                "DEFINITE", f"{what} minus its factor's square to be diagonally dominant", f"row {i} is not"
            )
