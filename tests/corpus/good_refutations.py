"""Certificates that must stay valid: exact witnesses that a claim is false."""

from __future__ import annotations

from tests.corpus.duals import (
    answered,
    enclosing,
    inverse,
    rational,
)
from tests.corpus.good import affine, good, whole, with_constant
from tests.corpus.good_fixed_points import PICARD, known, refuted
from tests.corpus.sheet import F, Json, Matrix, Nodes, Sheet, dyadic, graph, real, stored, vector

# several fixed points


@good
def two_fixed_points_of_tanh() -> Sheet:
    """tanh(2z) + x/8 keeps three fixed points for every x in a box; two boxes hold one each, with different answers."""
    nodes = Nodes()
    bent = nodes.add("tanh", nodes.scale(nodes.state(), 2))
    step = nodes.function(nodes.add("add", bent, nodes.scale(nodes.add("input"), 1, 8)))
    sheet = Sheet(graph(step, [[1]], real(1), None, with_constant(F(1, 2))))
    domain = sheet.box([F(-1, 4)], [F(1, 4)], "input")
    low, high = sheet.box([F(-9, 8)], [F(-3, 4)]), sheet.box([F(3, 4)], [F(9, 8)])
    below, above = enclosing(sheet, domain, low), enclosing(sheet, domain, high, unique=True)
    known(sheet, below, "one", domain, low)
    known(sheet, above, "the", domain, high)
    sheet.claim(above, "exactly_one", domain=domain, region=high)
    answered(sheet, above, [0], domain, high)
    wrong = sheet.step("other_answer", answered(sheet, below, [1], domain, low), answer=[0])
    refuted(sheet, wrong, "fixed_point_answer", domain, low, answer=[0])
    both = sheet.step("two_fixed_points", above, below)
    refuted(sheet, both, "at_most_one", sheet.box([-1], [1], "input"), sheet.box([-2], [2]))
    return sheet


@good
def two_rational_fixed_points() -> Sheet:
    """ReLU(2z − x) at x = 1/3: 0 and 1/3 are fixed, and at 0 the logits are tied, so that nothing is the answer."""
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.scale(nodes.state(), 2), nodes.add("input"))))
    sheet = Sheet(graph(step, [[1]], real(1), None, with_constant(0)))
    x = rational(F(1, 3))
    zero, third = (sheet.step("fixed_point_at", input=x, state=rational(z)) for z in (0, F(1, 3)))
    domain, region = sheet.box([0], [1], "input"), sheet.box([0], [F(1, 2)])
    refuted(sheet, sheet.step("two_fixed_points", zero, third), "at_most_one", domain, region)
    for place, answer in ((zero, [0]), (zero, [1]), (third, [1])):
        wrong = sheet.step("other_answer", place, answer=answer)
        refuted(sheet, wrong, "fixed_point_answer", domain, region, answer=answer)
    return sheet


@good
def fixed_points_at_a_point_and_in_a_box() -> Sheet:
    """clamp(3z − 1 + x, 1/4, 3/4): a box about 1/2 holds a fixed point for every x, and at x = 0 so does 3/4 itself."""
    nodes = Nodes()
    line = nodes.add("add", nodes.scale(nodes.state(), 3), nodes.add("sub", nodes.add("input"), nodes.constant([1])))
    sheet = Sheet(graph(nodes.function(nodes.clamp(line, F(1, 4), F(3, 4))), [[1]], real(1)))
    domain, region = sheet.box([F(-1, 32)], [F(1, 32)], "input"), sheet.box([F(7, 16)], [F(9, 16)])
    middle = enclosing(sheet, domain, region, unique=True)
    known(sheet, middle, "the", domain, region)
    top = sheet.step("fixed_point_at", input=rational(0), state=rational(F(3, 4)))
    both = sheet.step("two_fixed_points", middle, top)
    refuted(sheet, both, "at_most_one", domain, sheet.box([0], [1]))
    return sheet


# no fixed point


@good
def no_fixed_point_of_a_shift() -> Sheet:
    """z + 1 on [0, 1]: the equation 1 = 0 has no solution, and the box test that asks for existence cannot pass."""
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.state(), nodes.constant([1])))
    sheet = Sheet(graph(step, [[1]]))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    none = sheet.step("no_fixed_point", start, splits=[-1], at=vector([]), weights=vector([0]), multipliers=vector([1]))
    refuted(sheet, none, "exactly_one", domain, region)
    return sheet


@good
def no_fixed_point_on_either_side() -> Sheet:
    """2|z| − z + x/4 + 1/2 for x ≥ −1: no z ≤ 0 and no z ≥ 0 is fixed, each for its own reason."""
    nodes = Nodes()
    z = nodes.state()
    line = nodes.add("sub", nodes.scale(nodes.add("abs", z), 2), z)
    moved = nodes.add("add", line, nodes.scale(nodes.add("input"), 1, 4))
    step = nodes.function(nodes.add("add", moved, nodes.constant([F(1, 2)])))
    sheet = Sheet(graph(step, [[1]], real(1)))
    domain, region = sheet.box([-1], [2], "input"), sheet.box([-2], [2])
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    none = sheet.step(
        "no_fixed_point",
        start,
        splits=[0, -1, -1],
        at=vector([0]),
        weights=vector([0, 0]),
        multipliers=vector([1, 2, 1, 2]),
    )
    refuted(sheet, none, "exactly_one", sheet.all("input"), region)
    return sheet


# loops that do not converge


@good
def logistic_period_two() -> Sheet:
    """The logistic map with r = 16/5 oscillates between 0.513 and 0.799: a scale that is no binary fraction."""
    nodes = Nodes()
    z = nodes.state()
    bump = nodes.add("mul", z, nodes.add("sub", nodes.constant([1]), z))
    sheet = Sheet(graph(nodes.function(nodes.scale(bump, 16, 5)), [[1]]))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    low, high, reach = F(513, 1000), F(7995, 10000), F(1, 128)
    slopes = [F(16, 5) * (1 - 2 * v) for v in (high, low)]  # part 0 comes from the upper point
    away: Matrix = [[F(1), -slopes[0]], [-slopes[1], F(1)]]
    ends = [[F(round((v + sign * reach) * 4096), 4096) for v in (low, high)] for sign in (-1, 1)]
    factor_ = F(819, 256)
    turns = sheet.step(
        "cycle", operator=PICARD, domain=domain, period=2, lo=vector(ends[0]), hi=vector(ends[1]),
        slopes=vector([0, factor_, 0, factor_]), matrix=vector(inverse(away)),
    )  # fmt: skip
    refuted(sheet, turns, "convergence", domain, region, operator=PICARD)
    return sheet


@good
def cycle_of_a_damped_loop() -> Sheet:
    """ReLU(x − 5z) damped by a half oscillates, between 1/8 and 1/4 at x = 1; damped by an eighth it converges."""
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.add("input"), nodes.scale(nodes.state(), 5))))
    sheet = Sheet(graph(step, [[1]], real(1)))
    everywhere, domain = sheet.all(), sheet.box([F(15, 16)], [F(17, 16)], "input")
    one = sheet.step("log_norm", domain=sheet.all("input"), vector=vector([1]))
    converges = sheet.step("log_norm_convergence", one, alpha=vector([F(1, 8)]), rate=dyadic(F(7, 8)))
    gentle: Json = {"outer_damped": vector([F(1, 8)])}
    sheet.claim_convergence(converges, everywhere, sheet.block([1]), F(7, 8), sheet.all("input"), gentle)
    half: Json = {"outer_damped": vector([F(1, 2)])}
    turns = sheet.step(
        "cycle", operator=half, domain=domain, period=2, lo=vector([F(7, 64), F(14, 64)]),
        hi=vector([F(9, 64), F(18, 64)]), slopes=vector([F(0), F(1)]),
        matrix=vector(inverse([[F(1), F(-1, 2)], [F(2), F(1)]])),
    )  # fmt: skip
    refuted(sheet, turns, "convergence", domain, sheet.box([0], [F(1, 2)]), operator=half)
    return sheet


# expansion


@good
def expanding_but_convergent() -> Sheet:
    """(z₀/2 + 10z₁, z₁/2) contracts in one norm and expands in two others: only these norms are refuted."""
    w = [[F(1, 2), F(10)], [F(0), F(1, 2)]]
    sheet = Sheet(graph(affine("W", None), [[2]]), {"W": stored(w)})
    domain, plain, round_ = sheet.nothing(), sheet.block([1, 1]), sheet.block([1], [[1, 2]])
    whole(sheet, F(3, 4), sheet.block([40, 1]), domain)
    half: Json = {"outer_damped": vector([F(1, 2)])}
    for operator, norm, rate in ((PICARD, plain, F(63, 64)), (PICARD, round_, F(10)), (half, plain, F(5))):
        pair = sheet.step(
            "expanding_pair", operator=operator, domain=domain, norm=norm, rate=dyadic(rate), first=vector([0, 0]),
            second=vector([F(1, 4), F(1, 4)] if norm == plain else [0, 1]),
        )  # fmt: skip
        sheet.claim(
            pair, "refutation", of="contraction", operator=operator, domain=domain, region=sheet.box([0, 0], [1, 1]),
            norm=norm, rate=dyadic(rate), answer=None,
        )  # fmt: skip
    return sheet
