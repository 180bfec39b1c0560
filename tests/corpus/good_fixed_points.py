"""Certificates that must stay valid: where fixed points are, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.corpus.duals import (
    Cut,
    Empty,
    Leaf,
    all_sides,
    answered,
    bounds,
    continued,
    enclosing,
    equations,
    fixed_points,
    rational,
    tightened,
)
from tests.corpus.good import affine, first_steps, from_state, good, with_constant
from tests.corpus.sheet import (
    F,
    Json,
    Matrix,
    Nodes,
    Sheet,
    dyadic,
    graph,
    real,
    stored,
    vector,
)
from tests.corpus.witnesses import factor, minus, scaled_identity, transposed

PICARD = "picard"


def known(sheet: Sheet, step: int, kind: str, domain: int, region: int, box: int | None = None) -> None:
    """Claims what a step says about fixed points; the box is a little larger than the kernel's."""
    around = bounds(sheet, step) if box is None else box
    sheet.claim(step, f"encloses_{kind}", domain=domain, region=region, box=around)


def refuted(sheet: Sheet, step: int, of: str, domain: int, region: int | None = None, **rest: Any) -> None:
    fields: Json = {"operator": None, "norm": None, "rate": None, "answer": None} | rest
    sheet.claim(step, "refutation", of=of, domain=domain, region=region, **fields)


def everything(sheet: Sheet, premise: int, trees: Sequence[Any] | None = None) -> int:
    """A `duality` step that bounds every state and argument from both sides."""
    return tightened(sheet, premise, all_sides(equations(sheet, fixed_points(sheet, premise))), trees)


def scalar_relu(readout: Json | None = None) -> Sheet:
    """z ← ReLU(1 − 5z)."""
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.constant([1]), nodes.scale(nodes.state(), 5))))
    return Sheet(graph(step, [[1]], None, None, readout))


# one fixed point, and no loop that finds it


@good
def fixed_point_one_sixth() -> Sheet:
    """z ← ReLU(1 − 5z): its fixed point 1/6 exactly and its answer, while the loop goes 0, 1, 0, 1, …"""
    sheet = scalar_relu(with_constant(F(1, 8)))
    domain, everywhere, region = sheet.nothing(), sheet.all(), sheet.box([F(1, 8)], [F(3, 16)])
    posed = sheet.step("log_norm", domain=domain, vector=vector([1]))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    near = enclosing(sheet, domain, region, unique=True)
    known(sheet, near, "one", domain, region)
    known(sheet, near, "all", domain, sheet.box([F(5, 32)], [F(11, 64)]))
    sheet.claim(near, "exactly_one", domain=domain, region=region)
    sheet.claim(near, "at_most_one", domain=domain, region=sheet.box([F(1, 8)], [F(5, 32)]))
    only = sheet.step("located", posed, near)
    known(sheet, only, "the", domain, everywhere)
    answer = answered(sheet, only, [0], domain, everywhere)
    refuted(sheet, sheet.step("other_answer", answer, answer=[1]), "fixed_point_answer", domain, everywhere, answer=[1])
    exact = sheet.step("fixed_point_at", input=rational(), state=rational(F(1, 6)))
    at, inside = sheet.step("other_answer", exact, answer=[1]), sheet.box([0], [1])
    refuted(sheet, at, "fixed_point_answer", domain, inside, answer=[1])
    turns = sheet.step(
        "cycle", operator=PICARD, domain=domain, period=2, slopes=vector([0, 1]), matrix=vector([1, 0, -5, 1]),
        lo=vector([F(-1, 8), F(7, 8)]), hi=vector([F(1, 8), F(9, 8)]),
    )  # fmt: skip
    refuted(sheet, turns, "convergence", domain, inside, operator=PICARD)
    return sheet


# local proofs


@good
def local_contraction_located() -> Sheet:
    """z²/2 + x contracts on [−1/2, 1/2] only, and stays there: a smaller box holds the region's only fixed point."""
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.add("mul", z, z), 1, 2), nodes.add("input")))
    sheet = Sheet(graph(step, [[1]], real(1)))
    domain, norm = sheet.box([F(-1, 8)], [F(1, 8)], "input"), sheet.block([1])
    region, start = sheet.box([F(-1, 2)], [F(1, 2)]), sheet.box([F(-1, 4)], [F(1, 4)])
    contracts = sheet.contraction(F(1, 2), norm, domain, region)
    stays = sheet.step("invariant_box", operator=PICARD, domain=domain, region=region)
    converges = sheet.step("convergence", contracts, stays, start=region)
    sheet.claim_convergence(converges, start, norm, F(1, 2), domain)
    near = enclosing(sheet, domain, start)
    known(sheet, near, "one", domain, start)
    known(sheet, sheet.step("located", converges, near), "the", domain, region)
    return sheet


@good
def integer_input_enclosed() -> Sheet:
    """ReLU(table[x] − z/2) for an integer x: the table is known by its range only, and the box test holds for all x."""
    nodes = Nodes()
    table = nodes.add("embedding", nodes.add("input"), nodes.tensor("E"))
    moved = nodes.add("sub", nodes.add("reshape", table, shape=[2]), nodes.scale(nodes.state(), 1, 2))
    model = graph(
        nodes.function(nodes.add("relu", moved)), [[2]], {"shape": [1], "kind": "integer", "size": 3}, None,
        with_constant(-1),
    )  # fmt: skip
    sheet = Sheet(model, {"E": stored([[1, F(1, 4)], [F(3, 4), F(1, 2)], [F(7, 8), 0]], "F16")})
    domain, few, everywhere = sheet.all("input"), sheet.box([0], [1], "input"), sheet.all()
    one = sheet.step("exactly_one", sheet.contraction(F(1, 2), sheet.block([1, 1]), domain))
    region = sheet.box([F(1, 4), F(-1, 2)], [1, 1])
    near = enclosing(sheet, domain, region)
    known(sheet, near, "one", domain, region)
    only = sheet.step("located", one, near)
    known(sheet, only, "the", few, everywhere)
    finer = everything(sheet, only)
    known(sheet, finer, "the", domain, everywhere)
    answered(sheet, finer, [0], few, everywhere)
    return sheet


# rescaled monotone models


def monotone_step(sheet: Sheet, domain: int, w: Matrix, m: Any) -> int:
    both = [[p + q for p, q in zip(x, y, strict=True)] for x, y in zip(w, transposed(w), strict=True)]
    gap = minus(scaled_identity(len(w), 2 - 2 * F(m)), both)
    return sheet.step("monotone", domain=domain, m=dyadic(m), factor=factor(gap))


def monotone_sheet() -> tuple[Sheet, int, int, Matrix]:
    """Three ReLUs with a strongly negative diagonal: (sheet, domain, monotone step, W)."""
    w = [[F(-3), F(2), F(0)], [F(-2), F(-7), F(1)], [F(1, 2), F(-1), F(-1)]]
    model = graph(affine(activation="relu", given="U"), [[3]], real(2), None, from_state("R"))
    tensors = {
        "W": stored(w), "b": stored([2, 1, -2]), "U": stored([[1, 0], [0, 1], [F(1, 2), F(1, 2)]]),
        "R": stored([[1, 0, 0], [0, 1, 1]]),
    }  # fmt: skip
    sheet = Sheet(model, tensors)
    return sheet, sheet.box([F(-1, 8)] * 2, [F(1, 8)] * 2, "input"), monotone_step(sheet, sheet.all("input"), w, 1), w


SCALE = [F(1, 4), F(1, 8), F(1, 2)]  # 1 / (1 − W_ii)


@good
def monotone_rescaled() -> Sheet:
    """A ReLU model with a strongly negative diagonal: the box test passes after rescaling each unit by 1/(1 − W_ii)."""
    sheet, domain, posed, _ = monotone_sheet()
    everywhere = sheet.all()
    region = sheet.box([F(1, 4), F(-1, 4), F(-1, 4)], [F(3, 4), F(1, 4), F(1, 4)])
    near = enclosing(sheet, domain, region, SCALE)
    known(sheet, near, "one", domain, region)
    only = sheet.step("located", posed, near)
    known(sheet, only, "the", domain, everywhere)
    finer = everything(sheet, only)
    known(sheet, finer, "the", domain, everywhere)
    answered(sheet, finer, [0], domain, everywhere)
    return sheet


@good
def monotone_by_continuity() -> Sheet:
    """The same model: from the fixed point at x = 0, no boundary can be crossed, in rescaled coordinates."""
    sheet, domain, posed, _ = monotone_sheet()
    everywhere = sheet.all()
    box = sheet.box([F(1, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 2)])
    only = continued(
        sheet, posed, domain, box, [0, 0], [F(1, 2), 0, 0], [F(1, 8), F(-1, 2), -3], [1, F(1, 2), F(1, 4)], SCALE
    )
    known(sheet, only, "the", domain, everywhere)
    known(sheet, only, "all", domain, sheet.box([0] * 3, [1] * 3))
    sheet.claim(only, "exactly_one", domain=domain, region=everywhere)
    answered(sheet, only, [0], domain, everywhere)
    return sheet


@good
def monotone_by_continuity_of_both_sides() -> Sheet:
    """One row of multipliers keeps each argument off both ends of its interval, then bounds it by a tree, both ways."""
    sheet, domain, posed, _ = monotone_sheet()
    everywhere = sheet.all()
    box = sheet.box([F(1, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 2)])
    only = continued(
        sheet, posed, domain, box, [0, 0], [F(1, 2), 0, 0], [F(1, 8), F(-1, 2), -3], [1, F(1, 2), F(1, 4)], SCALE, (0,)
    )
    known(sheet, only, "the", domain, everywhere)
    finer = tightened(sheet, only, [(3, 0), (4, 0), (0, 0)], [None, Cut(1, 0), Cut(3, 0, Leaf(), Cut(1, 0))])
    known(sheet, finer, "the", domain, everywhere)
    answered(sheet, finer, [0], domain, everywhere)
    return sheet


# answers of loops by their fixed points


@good
def continuity_of_a_damped_tanh() -> Sheet:
    """A log-norm model by continuity, smooth: its fixed point answers, and so does the damped loop after a while."""
    w = [[F(-5), F(1, 2)], [F(1), F(-2)]]
    model = graph(affine(activation="tanh", given="U"), [[2]], real(1), None, from_state("R", "r"))
    tensors = {
        "W": stored(w), "b": stored([1, -1]), "U": stored([[1], [F(1, 2)]]),
        "R": stored([[2, -1], [0, 1], [-1, 0]]), "r": stored([0, F(1, 4), 0]),
    }  # fmt: skip
    sheet = Sheet(model, tensors)
    domain, everywhere = sheet.box([F(-1, 4)], [F(1, 4)], "input"), sheet.all()
    damped: Json = {"outer_damped": vector([F(1, 8), F(1, 4)])}
    posed = sheet.step("log_norm", domain=sheet.all("input"), vector=vector([1, 1]))
    rate = F(7, 8)
    converges = sheet.step("log_norm_convergence", posed, alpha=vector([F(1, 8), F(1, 4)]), rate=dyadic(rate))
    sheet.claim_convergence(converges, everywhere, sheet.block([1, 1]), rate, sheet.all("input"), damped)
    box = sheet.box([F(-1, 4), F(-3, 4)], [F(1, 2), F(1, 4)])
    only = continued(
        sheet, converges, domain, box, [0], [F(9, 64), F(-18, 64)], [F(-1, 4), F(-3, 4)], [F(1, 2), F(1, 4)]
    )
    known(sheet, only, "the", domain, everywhere)
    finer = everything(sheet, only)
    done = answered(sheet, finer, [0], domain, everywhere)

    def finish(sheet: Sheet, steps: int) -> None:
        loop = sheet.step("answer_by_fixed_point", converges, done, steps=steps)
        sheet.claim(loop, "answer", operator=damped, domain=domain, answer=[0], steps=steps)

    first_steps(sheet, finish)
    loop = len(sheet.steps) - 1
    other = sheet.step("other_answer", loop, answer=[2])
    refuted(sheet, other, "answer", sheet.box([-1], [1], "input"), operator=damped, answer=[2])
    return sheet


@good
def joined_halves() -> Sheet:
    """Two halves of a box of inputs, each with its own proof; joined, for the fixed point and for the loop."""
    w = [[F(1, 4), F(-1, 4)], [F(1, 8), F(-3, 8)]]
    model = graph(affine(activation="relu", given="U"), [[2]], real(2), None, from_state("R", "r"))
    tensors = {
        "W": stored(w), "b": stored([F(1, 4), 0]), "U": stored([[1, F(1, 4)], [-1, F(1, 2)]]),
        "R": stored([[1, 0], [0, 1]]), "r": stored([F(3, 8), 0]),
    }  # fmt: skip
    sheet = Sheet(model, tensors)
    norm, everywhere, all_inputs = sheet.block([1, 1]), sheet.all(), sheet.all("input")
    contracts = sheet.contraction(F(1, 2), norm, all_inputs)
    converges = sheet.step("convergence", contracts, start=everywhere)
    whole = sheet.box([0, 0], [1, 1], "input")
    answers, loops = [], []
    for lo, hi in ((F(0), F(1, 2)), (F(1, 2), F(1))):
        domain = sheet.box([lo, 0], [hi, 1], "input")
        near = enclosing(sheet, domain, sheet.box([-1, -1], [F(5, 2), F(3, 2)]))
        only = everything(sheet, sheet.step("located", converges, near))
        known(sheet, only, "the", domain, everywhere)
        done = answered(sheet, only, [0], domain, everywhere)
        answers.append(done)
        loops.append(sheet.step("answer_by_fixed_point", converges, done, steps=12))
    both = sheet.step("joined_domains", *answers)
    sheet.claim(both, "fixed_point_answer", domain=whole, region=everywhere, answer=[0])
    loop = sheet.step("joined_domains", *loops)
    sheet.claim(loop, "answer", operator=PICARD, domain=whole, answer=[0], steps=12)
    return sheet


# several layers, and case splits


@good
def mixed_units() -> Sheet:
    """Two parts, three layers of leaky ReLU, clamp, max, min, amax, tanh and a division: all fixed points of a box."""
    nodes = Nodes()
    z, y = nodes.state(0), nodes.state(1)
    hidden = nodes.add("leaky_relu", nodes.add("add", nodes.linear(z, "V"), nodes.add("input")), slope=dyadic(F(1, 4)))
    middle = nodes.clamp(nodes.linear(hidden, "M", "c"), F(-1, 2), F(3, 4))
    thirds = nodes.add("div", middle, nodes.constant([3, -4]))
    larger = nodes.add("max", thirds, nodes.scale(z, 1, 8))
    first = nodes.add("min", larger, nodes.constant([F(1, 2), F(1, 8)]))
    top = nodes.add("amax", nodes.add("concat", nodes.scale(first, 1, 3), nodes.scale(y, 1, 4), axis=0))
    second = nodes.add("tanh", nodes.add("reshape", top, shape=[1]))
    tensors = {
        "V": stored([[F(1, 2), F(-1, 4)], [F(1, 4), F(1, 2)]]), "M": stored([[1, F(-1, 2)], [F(1, 2), F(3, 4)]]),
        "c": stored([F(1, 8), F(-1, 4)]),
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(first, second), [[2], [1]], real(2)), tensors)
    domain, region = sheet.box([F(-1, 4)] * 2, [F(1, 4)] * 2, "input"), sheet.box([-2] * 3, [2] * 3)
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    known(sheet, start, "all", domain, sheet.box([-1] * 3, [1] * 3), region)
    all_of_them = everything(sheet, start)
    finer = everything(sheet, all_of_them)
    known(sheet, finer, "all", domain, region)
    around = sheet.box([F(-3, 4)] * 3, [F(3, 4)] * 3)
    near = enclosing(sheet, domain, around, unique=True)
    sheet.claim(near, "exactly_one", domain=domain, region=around)
    only = sheet.step("located", finer, near)
    known(sheet, only, "the", domain, region)
    sheet.claim(only, "exactly_one", domain=domain, region=region)
    return sheet


@good
def case_split() -> Sheet:
    """An answer that needs cuts of three units and of the input; one leaf is empty."""
    nodes, readout = Nodes(), Nodes()
    away = nodes.add("sub", nodes.add("input"), nodes.state())
    step = nodes.function(nodes.scale(nodes.add("relu", away), 1, 2))
    bent = readout.add("sub", readout.state(), readout.constant([F(1, 8)]))
    up = readout.scale(readout.add("relu", bent), 2)
    down = readout.add("relu", readout.scale(bent, 2))
    logit = readout.add("add", readout.add("sub", up, down), readout.constant([F(1, 8)]))
    logits = readout.add("concat", logit, readout.constant([0]), axis=0)
    sheet = Sheet(graph(step, [[1]], real(1), None, readout.function(logits)))
    domain, everywhere = sheet.box([-1], [1], "input"), sheet.all()
    one = sheet.step("exactly_one", sheet.contraction(F(1, 2), sheet.block([1]), sheet.all("input")))
    near = enclosing(sheet, domain, sheet.box([F(-1, 4)], [F(3, 4)]))
    hinge, left, right, given = 0, 1, 2, 3  # step's unit, readout's units, the input
    only = everything(sheet, sheet.step("located", one, near), [Leaf({hinge: 0}), None, None, None])
    flat = Leaf({left: 0})
    crossed = Cut(left, 0, Cut(right, 0, flat, Leaf({left: 1})), Cut(right, 0, flat))
    tree = Cut(hinge, 0, flat, Cut(given, F(-1, 8), Empty(1 + hinge, -1), crossed))
    answered(sheet, only, [0], domain, everywhere, [tree])
    return sheet
