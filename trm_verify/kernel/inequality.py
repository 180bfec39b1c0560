"""The matrix inequality of R3 and of row gains: a quadratic form in (arguments of a function, activation units).

Proof: proofs/metric_contraction.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.linear import Forms
from trm_verify.kernel.numbers import MAX_FACTOR, Rows, matmul, require_bits, rescale, transpose


@dataclass(frozen=True)
class Sectors:
    """Bounds on the slope of every unit between any two points, in unit order, at one exponent."""

    lo: list[int]
    hi: list[int]
    exp: int


class Sum:
    """A symmetric matrix, accumulated exactly from terms with different exponents."""

    def __init__(self, size: int) -> None:
        self.rows: Rows = [[0] * size for _ in range(size)]
        self.exp = 0

    def add(self, rows: Rows, exp: int, sign: int = 1) -> None:
        low = min(exp, self.exp)
        require_bits(len(rows), max(exp, self.exp) - low)
        mine = [rescale(row, self.exp, low) for row in self.rows]
        other = [rescale(row, exp, low) for row in rows]
        self.rows = [[a + sign * b for a, b in zip(p, q, strict=True)] for p, q in zip(mine, other, strict=True)]
        self.exp = low


def _weighted(rows: Rows, weights: list[int]) -> Rows:
    return [[w * v for v in row] for w, row in zip(weights, rows, strict=True)]


def sector_matrix(
    allowed: tuple[Rows, int], metric: tuple[Rows, int], forms: Forms, sectors: Sectors,
    multipliers: tuple[list[int], int],
) -> tuple[Rows, int]:  # fmt: skip
    """allowed(Δz) − |Δout|²_metric − Σ 2λ_i(φ_i − a_i v_i)(b_i v_i − φ_i), exactly, over (Δz, φ)."""
    (weights, scale), (top, top_exp), (own, own_exp) = multipliers, allowed, metric
    n, count = len(top), len(forms.units)
    size = n + count
    if size > MAX_FACTOR:
        raise CheckError("LIMIT", f"at most {MAX_FACTOR} state entries and units", size)
    if len(weights) != count or any(v < 0 for v in weights):
        raise CheckError("WITNESS", f"{count} multipliers ≥ 0", f"{len(weights)}, or a negative one")
    require_bits(size, max((v.bit_length() for v in weights), default=0))
    total = Sum(size)
    total.add([row + [0] * count for row in top] + [[0] * size for _ in range(count)], top_exp)
    outputs = forms.outputs.rows
    total.add(matmul(transpose(outputs), matmul(own, outputs)), 2 * forms.outputs.exp + own_exp, -1)
    if count:
        lo, hi, sector_exp = sectors.lo, sectors.hi, sectors.exp
        arguments, argument_exp = forms.arguments.rows, forms.arguments.exp
        cross = _weighted(arguments, [m * (a + b) for m, a, b in zip(weights, lo, hi, strict=True)])
        block = [[0] * size for _ in range(n)] + cross
        total.add(block, scale + sector_exp + argument_exp, -1)  # −λ(a+b)φv, and its transpose
        total.add(transpose(block), scale + sector_exp + argument_exp, -1)
        diagonal = [[0] * size for _ in range(size)]
        for i, m in enumerate(weights):
            diagonal[n + i][n + i] = 2 * m
        total.add(diagonal, scale)
        curved = [2 * m * a * b for m, a, b in zip(weights, lo, hi, strict=True)]
        if any(curved):
            squares = matmul(transpose(arguments), _weighted(arguments, curved))
            total.add(squares, scale + 2 * sector_exp + 2 * argument_exp)
    return total.rows, total.exp
