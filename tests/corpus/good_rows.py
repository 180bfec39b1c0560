"""Certificates that must stay valid: row gains of tokenwise blocks, where no product of layer norms is below 1."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tests.corpus.good import good, whole
from tests.corpus.sheet import F, Matrix, Nodes, Sheet, draw, graph, real, stored, vector
from tests.corpus.witnesses import factor, minus, scaled_identity, times, transposed

HADAMARD: Matrix = [[F(1), F(1)], [F(1), F(-1)]]
PSI = (F(1), F(4))
Sector = tuple[Fraction, Fraction]
UNIT: Sector = (F(0), F(1))


def block(outer: Fraction, *inner: Fraction) -> tuple[Matrix, Matrix]:
    """W₁ = Ψ⁻¹ (a₁H … a_kH) and W₂ = eHΨ: at Λ = λΨ² their gains γ hold iff λ ≥ e² + λ² Σ a_i²/γ_i²."""
    first = [[a * h / psi for a in inner for h in row] for psi, row in zip(PSI, HADAMARD, strict=True)]
    return first, [[outer * h * psi for h, psi in zip(row, PSI, strict=True)] for row in HADAMARD]


def scaled(weight: Fraction) -> list[Fraction]:
    """Λ = λΨ²."""
    return [weight * psi * psi for psi in PSI]


def gain_of(first: Matrix, second: Matrix, squares: Sequence[Fraction], multipliers: Sequence[Fraction],
            sectors: Sequence[Sector]) -> Matrix:  # fmt: skip
    """diag(γ²) − |W₂φ|² − Σ 2λ(φ − sv)(tv − φ) over (inputs, φ), with v = W₁ · inputs."""
    n, count = len(first[0]), len(first)
    outputs = [[F(0)] * n + row for row in second]
    total = minus(scaled_identity(n + count, 0), times(transposed(outputs), outputs))
    for i, square in enumerate(squares):
        total[i][i] += square
    for k, (row, weight, (low, high)) in enumerate(zip(first, multipliers, sectors, strict=True)):
        total[n + k][n + k] += 2 * weight
        for i in range(n):
            total[n + k][i] -= weight * (low + high) * row[i]
            total[i][n + k] -= weight * (low + high) * row[i]
            for j in range(n):
                total[i][j] += 2 * weight * low * high * row[i] * row[j]
    return total


def row_gain(
    sheet: Sheet, domain: int, region: int, places: Sequence[tuple[Sequence[int], int]], gains: Sequence[Fraction],
    weights: tuple[Matrix, Matrix], multipliers: Sequence[Fraction], sectors: Sequence[Sector] = (),
) -> int:  # fmt: skip
    """A `row_gain` step; all inputs have rows of the same width."""
    width = len(weights[0][0]) // len(gains)
    squares = [g * g for g in gains for _ in range(width)]
    matrix = gain_of(*weights, squares, multipliers, sectors or [UNIT] * len(multipliers))
    return sheet.step(
        "row_gain", domain=domain, region=region, places=[{"inputs": list(i), "output": o} for i, o in places],
        gains=vector(gains), multipliers=vector(multipliers), factor=factor(matrix),
    )  # fmt: skip


@good
def tokens_attend_then_sandwich() -> Sheet:
    """Three tokens mixed by softmax weights of the input, then a tokenwise block whose norms multiply to 2.8."""
    weights = block(F(33, 64), F(11, 16))
    nodes = Nodes()
    attention = nodes.add("softmax", nodes.linear(nodes.add("input"), "Q"))
    mixed = nodes.add("matmul", attention, nodes.state())
    hidden = nodes.add("add", nodes.linear(mixed, "W1"), nodes.linear(nodes.add("input"), "U"))
    out = nodes.linear(nodes.add("relu", hidden), "W2")
    last = nodes.add("add", out, nodes.linear(nodes.add("input"), "c"))
    tensors = {
        "Q": stored(draw(91, 3, 3, 2)), "U": stored(draw(92, 2, 3)), "c": stored(draw(93, 2, 3)),
        "W1": stored(weights[0]), "W2": stored(weights[1]),
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(last), [[3, 2]], real(3, 3)), tensors)
    domain, gain = sheet.all("input"), F(23, 32)
    cited = row_gain(sheet, domain, sheet.all(), [([mixed], out)], [gain], weights, scaled(F(17, 32)))
    whole(sheet, gain, sheet.block([1] * 3, [[3, 2]]), domain, premises=[cited])
    return sheet


def two_timescales(inner: int, low: tuple[Matrix, Matrix], high: tuple[Matrix, Matrix]) -> tuple[Sheet, dict[str, Any]]:
    """`inner` times z_L ← L(z_L, z_H, x), then z_H ← H(z_H, z_L): two tokens of two features each."""
    nodes = Nodes()
    answer, latent = nodes.state(0), nodes.state(1)
    drive = nodes.linear(nodes.add("input"), "U")
    places = []
    for _ in range(inner):
        joined = nodes.add("concat", latent, answer, axis=1)
        hidden = nodes.add("relu", nodes.add("add", nodes.linear(joined, "L1"), drive))
        out = nodes.linear(hidden, "L2")
        places.append(([latent, answer], out))
        latent = nodes.add("sub", out, drive)
    own, other = nodes.linear(answer, "H1"), nodes.linear(latent, "H2")
    final = nodes.linear(nodes.add("tanh", nodes.add("add", own, other)), "H3")
    tensors = {
        "L1": stored(low[0]), "L2": stored(low[1]), "U": stored(draw(94, 2, 2)),
        "H1": stored([row[:2] for row in high[0]]), "H2": stored([row[2:] for row in high[0]]), "H3": stored(high[1]),
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(final, latent), [[2, 2], [2, 2]], real(2, 2)), tensors)
    return sheet, {"low": places, "high": [([answer, latent], final)]}


LOW, HIGH = block(F(1, 2), F(5, 8), F(1, 4)), block(F(1, 2), F(3, 8), F(1, 2))
LOW_GAINS, HIGH_GAINS = (F(3, 4), F(1, 2)), (F(1, 2), F(13, 16))


@good
def two_timescales_by_row_gains() -> Sheet:
    """Two parts, two inner steps: one inequality for both copies of the inner block, one for the outer block."""
    sheet, places = two_timescales(2, LOW, HIGH)
    domain, everywhere = sheet.all("input"), sheet.all()
    low = row_gain(sheet, domain, everywhere, places["low"], LOW_GAINS, LOW, scaled(F(1, 2)))
    high = row_gain(sheet, domain, everywhere, places["high"], HIGH_GAINS, HIGH, scaled(F(1, 2)))
    whole(sheet, F(7, 8), sheet.block([1] * 4, [[4, 2]]), domain, premises=[low, high])
    whole(sheet, F(7, 8), sheet.block([1, 1], [[2, 4]]), domain, premises=[low, high])
    return sheet


BIASES = [[F(3, 2)], [F(2)]]  # of two tokens: the slopes of both matter
HULL = (F(13, 512), F(27, 64))  # holds the slopes of tanh on [1, 5/2]


@good
def a_row_gain_where_slopes_are_small() -> Sheet:
    """2 tanh(z + b_t) − c_t expands at 0 and contracts where both tokens stay."""
    nodes = Nodes()
    z = nodes.state()
    hidden = nodes.add("tanh", nodes.add("add", z, nodes.tensor("b")))
    out = nodes.scale(hidden, 2)
    final = nodes.add("sub", out, nodes.constant([[F(29, 16)], [F(31, 16)]]))
    sheet = Sheet(graph(nodes.function(final), [[2, 1]]), {"b": stored(BIASES)})
    domain, region = sheet.nothing(), sheet.box([F(-1, 2)] * 2, [F(1, 2)] * 2)
    norm, gain = sheet.block([1, 1]), F(15, 16)
    cited = row_gain(
        sheet, domain, region, [([z], final)], [gain], ([[F(1)]], [[F(2)]]), [F(4)], [HULL]
    )  # fmt: skip
    contracts = sheet.contraction(gain, norm, domain, region, [cited])
    sheet.claim_contraction(contracts, gain, norm, domain, region)
    stays = sheet.step("invariant_radius", cited, operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", contracts, stays), "exactly_one", domain=domain, region=region)
    sheet.claim(stays, "invariant", operator="picard", domain=domain, region=region)
    return sheet
