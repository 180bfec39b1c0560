"""Certificates that must stay valid: how far the logits at the fixed point move with the input."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tests.corpus.duals import concluded, continued, enclosing
from tests.corpus.good import affine, from_state, good, whole
from tests.corpus.good_fixed_points import SCALE, everything, monotone_sheet
from tests.corpus.sheet import F, Matrix, Sheet, dyadic, graph, real, stored, vector
from tests.corpus.witnesses import factor, scaled_identity
from trm_verify.kernel.rules.lipschitz import Layer, layer_of, lipschitz_matrix
from trm_verify.provers.problem import Problem

BITS = 10  # of a constant


def moved(sheet: Sheet, premise: int, gamma: Any, rows: Matrix, domain: int, region: int | None = None) -> int:
    """A `lipschitz` step with the factor that its matrix needs, and its claim."""
    given = factor(matrix(layer(sheet, premise), F(gamma), rows))
    step = sheet.step("lipschitz", premise, gamma=dyadic(gamma), multipliers=vector(rows), factor=given)
    claimed(sheet, step, gamma, domain, region)
    return step


def claimed(sheet: Sheet, step: int, gamma: Any, domain: int, region: int | None = None) -> None:
    sheet.claim(
        step, "lipschitz", domain=domain, region=sheet.all() if region is None else region, constant=dyadic(gamma)
    )


def layer(sheet: Sheet, premise: int) -> Layer:
    return layer_of(Problem(sheet.graph, sheet.weights).graph, concluded(sheet, premise))[0]


def matrix(own: Layer, gamma: Fraction, rows: Matrix) -> Matrix:
    """The matrix of the rule, as fractions."""
    found, exp = lipschitz_matrix(own, gamma, ([[int(v * (1 << 20)) for v in row] for row in rows], -20))
    return [[v * F(2) ** exp for v in row] for row in found]


def least(sheet: Sheet, premise: int, rows: Matrix) -> Fraction:
    """The smallest multiple of 2^-BITS that these multipliers show."""
    own, low, high = layer(sheet, premise), 0, 64 << BITS
    while high - low > 1:
        middle = (low + high) // 2
        try:
            factor(matrix(own, F(middle, 1 << BITS), rows))
            high = middle
        except ValueError:
            low = middle
    return F(high, 1 << BITS)


def hinges(op: str = "relu", **attrs: Any) -> Sheet:
    """z₀ = φ(x + 1), z₁ = φ(x − 1); the logits are z₀ + z₁ and 0."""
    model = graph(affine("W", "b", op, "U", **attrs), [[2]], real(1), None, from_state("R"))
    tensors = {
        "W": stored([[0, 0], [0, 0]]), "b": stored([1, -1]), "U": stored([[1], [1]]), "R": stored([[1, 1], [0, 0]])
    }  # fmt: skip
    return Sheet(model, tensors)


def near(sheet: Sheet, domain: int, unique: bool = False) -> int:
    """An enclosure of the hinges' fixed points for |x| ≤ 1/4."""
    return enclosing(sheet, domain, sheet.box([F(1, 2), F(-1, 4)], [F(3, 2), F(1, 4)]), unique=unique)


@good
def lipschitz_of_two_hinges() -> Sheet:
    """Exact constants: 2 everywhere, where both units may be on; 1 for |x| ≤ 1/4, where one is on and one is off."""
    sheet = hinges()
    posed = sheet.step("log_norm", domain=sheet.all("input"), vector=vector([1, 1]))
    moved(sheet, posed, 2, scaled_identity(2, 2), sheet.all("input"))
    domain = sheet.box([F(-1, 4)], [F(1, 4)], "input")
    only = sheet.step("located", posed, near(sheet, domain))
    moved(sheet, only, 1, [[F(1), F(0)], [F(0), F(0)]], domain)
    return sheet


@good
def lipschitz_of_a_monotone_model() -> Sheet:
    """Three ReLUs: a constant for all inputs, and a smaller one on a ball, where one unit is on (with a whole row)."""
    sheet, domain, posed, _ = monotone_sheet()
    rows = [[F(9, 32), F(0), F(0)], [F(0), F(9, 16), F(0)], [F(0), F(0), F(5, 8)]]
    moved(sheet, posed, least(sheet, posed, rows), rows, sheet.all("input"))
    box = sheet.box([F(1, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 2)])
    only = continued(
        sheet, posed, domain, box, [0, 0], [F(1, 2), 0, 0], [F(1, 8), F(-1, 2), -3], [1, F(1, 2), F(1, 4)], SCALE
    )
    only = everything(sheet, only)
    rows = [[F(1, 4), F(-1, 8), F(0)], [F(0), F(1, 4), F(0)], [F(0), F(0), F(0)]]
    moved(sheet, only, least(sheet, only, rows), rows, domain)
    return sheet


@good
def lipschitz_of_a_loop() -> Sheet:
    """A Picard iteration that contracts, smooth, over a box of inputs."""
    w = [[F(1, 4), F(-3, 8)], [F(1, 2), F(1, 8)]]
    model = graph(affine(activation="tanh", given="U"), [[2]], real(3), None, from_state("R", "r"))
    tensors = {
        "W": stored(w), "b": stored([F(1, 4), 0]), "U": stored([[1, F(1, 4), 0], [-1, F(1, 2), F(1, 2)]]),
        "R": stored([[1, 0], [F(1, 2), 1]]), "r": stored([F(3, 8), 0]),
    }  # fmt: skip
    sheet = Sheet(model, tensors)
    domain = sheet.box([-1] * 3, [1] * 3, "input")
    converges = whole(sheet, F(5, 8), sheet.block([1, 1]), domain)
    rows = scaled_identity(2, F(11, 8))
    moved(sheet, converges, least(sheet, converges, rows), rows, domain)
    return sheet
