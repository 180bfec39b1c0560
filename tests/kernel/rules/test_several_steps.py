"""`several_steps`: against pairs of orbits in exact arithmetic, and on loops of which the answer is known."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, kernel_graph
from tests.kernel.graphs import Json, Nodes, dyadic, vector
from tests.kernel.test_evaluate import flat
from trm_verify.kernel.check import _box
from trm_verify.kernel.claims import Convergence
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.rules.answers import orbit_radius
from trm_verify.kernel.rules.several_steps import gains


def squares(weights: list[list[F]], bias: list[F]) -> Json:
    """z ← W(z∘z) + b."""
    nodes = Nodes()
    z = nodes.state()
    square = nodes.add("linear", nodes.add("mul", z, z), nodes.constant(weights))
    return graph_json(nodes.function(nodes.add("add", square, nodes.constant(bias))), [[len(bias)]])


def ends(sheet: Sheet, index: int) -> Any:
    return _box(sheet.boxes[index], kernel_graph(sheet.graph))[1]


def norm_of(v: list[F], d: list[F]) -> F:
    return max(abs(a) / w for a, w in zip(v, d, strict=True))


def after(weights: list[list[F]], bias: list[F], alpha: list[F], z: list[F]) -> list[F]:
    image = [sum(w * v * v for w, v in zip(row, z, strict=True)) + b for row, b in zip(weights, bias, strict=True)]
    return [(1 - a) * p + a * q for a, p, q in zip(alpha, z, image, strict=True)]


@pytest.mark.parametrize("seed", range(40))
def test_pairs_of_orbits_come_together_as_fast_as_concluded(seed: int) -> None:
    draw = Random(seed)
    n = draw.randint(1, 3)
    weights = [[F(draw.randint(-6, 6), 8 if n == 1 else 16) for _ in range(n)] for _ in range(n)]
    bias = [F(draw.randint(-2, 2), 16) for _ in range(n)]
    alpha = [F(draw.randint(4, 8), 8) if seed % 2 else F(1) for _ in range(n)]
    d = [F(draw.randint(1, 4), 2) for _ in range(n)]
    sheet = Sheet(squares(weights, bias))
    region = sheet.box([F(-5, 4)] * n, [F(5, 4)] * n)
    graph = kernel_graph(sheet.graph)
    operator = Operator("outer_damped", tuple(alpha)) if seed % 2 else Operator("picard")
    norm = BlockNorm((1,) * n, tuple(int(2 * w) for w in d), -1)
    nothing = ends(sheet, sheet.point())
    try:
        found = gains(graph, operator, nothing, ends(sheet, region), norm, 6, [])
    except CheckError as error:
        assert error.code == "INCLUSION"  # some coordinate may leave the box
        reach = max(sum(map(abs, row)) * F(25, 16) + abs(b) for row, b in zip(weights, bias, strict=True))
        assert reach > F(5, 4)
        return
    assert found[0] == 1
    for _ in range(20):
        a, b = ([F(draw.randint(-80, 80), 64) for _ in range(n)] for _ in range(2))
        start = norm_of([p - q for p, q in zip(a, b, strict=True)], d)
        for gain in found:
            assert all(abs(v) <= F(5, 4) for v in (*a, *b))
            assert norm_of([p - q for p, q in zip(a, b, strict=True)], d) <= gain * start
            a, b = (after(weights, bias, alpha, z) for z in (a, b))


@pytest.mark.parametrize("seed", range(40))
def test_no_orbit_leaves_what_a_run_looks_at_about_its_start(seed: int) -> None:
    draw = Random(100 + seed)
    n = draw.randint(1, 3)
    weights = [[F(draw.randint(-6, 6), 8 if n == 1 else 16) for _ in range(n)] for _ in range(n)]
    bias = [F(draw.randint(-2, 2), 16) for _ in range(n)]
    alpha = [F(draw.randint(4, 8), 8) if seed % 2 else F(1) for _ in range(n)]
    sheet = Sheet(squares(weights, bias))
    region, nothing = ends(sheet, sheet.box([F(-5, 4)] * n, [F(5, 4)] * n)), ends(sheet, sheet.point())
    operator = Operator("outer_damped", tuple(alpha)) if seed % 2 else Operator("picard")
    norm = BlockNorm((1,) * n, (1,) * n, 0)
    try:
        found = gains(kernel_graph(sheet.graph), operator, nothing, region, norm, 6, [])
    except CheckError:
        return  # some coordinate may leave the box
    for steps in (m for m in range(1, 7) if found[m] < 1):
        rate = max(F(1, 8), F(int(float(found[steps]) ** (1 / steps) * 2**20) + 2, 2**20))
        if not rate < 1:
            continue
        constant = max(gain / rate**j for j, gain in enumerate(found[:steps]))
        premise = Convergence(operator, nothing, region, norm, constant, rate, region=region)
        for _ in range(5):
            z = [F(draw.choice([-5, 5, draw.randint(-5, 5)]), 4) for _ in range(n)]
            first, last = flat(z), after(weights, bias, alpha, z)
            distance = norm_of([p - q for p, q in zip(last, z, strict=True)], [F(1)] * n) * constant / (1 - rate)
            reach = orbit_radius(premise, first, distance)
            for _ in range(8):
                assert norm_of([p - q for p, q in zip(last, z, strict=True)], [F(1)] * n) <= reach
                last = after(weights, bias, alpha, last)


@pytest.mark.parametrize(("margin", "code"), [(F(1, 2**20), ACCEPTED), (F(-1, 2**20), "MARGIN")])
def test_a_run_looks_as_far_as_an_orbit_may_go(margin: F, code: str) -> None:
    """z ← z²/2 + 1/8 from 1: 3/8 in one step, so at most 3C to the fixed point, and (1 + C) times that in all."""
    rate, nodes = F(7, 8), Nodes()
    constant = F(145, 128) / rate**2
    threshold = 1 - (1 + constant) * 3 * constant - margin
    z = nodes.state()
    read = nodes.function(nodes.add("concat", z, nodes.constant([F(round(threshold * 2**30), 2**30)]), axis=0))
    sheet = Sheet({**squares([[F(1, 2)]], [F(1, 8)]), "readout": read})
    region = sheet.box([F(0)], [F(5, 4)])
    done = sheet.step("several_steps", operator="picard", domain=sheet.point(), region=region, norm=sheet.block(1),
                      steps=3, rate=dyadic(rate))  # fmt: skip
    sheet.step("run", done, domain=sheet.point(), states=vector([F(1)]), answers=[[0]], final=0)
    assert sheet.code() == code


def square(steps: int, rate: F, constant: F = F(15, 8), hi: F = F(5, 4), **change: Any) -> str:
    """The verdict on z ← z²/2 + 1/8 over [0, hi], with its claim of convergence."""
    sheet = Sheet(squares([[F(1, 2)]], [F(1, 8)]))
    region, norm, nothing = sheet.box([F(0)], [hi]), sheet.block(1), sheet.point()
    step = sheet.step(
        "several_steps", operator="picard", domain=nothing, region=region, norm=norm, steps=steps, rate=dyadic(rate)
    )
    fields = {"operator": "picard", "domain": nothing, "start": region, "norm": norm, "constant": dyadic(constant),
              "rate": dyadic(rate), "epsilon": None, "steps": None, **change}  # fmt: skip
    sheet.claim(step, "convergence", **fields)
    sheet.claim(step, "exactly_one", domain=nothing, region=region)
    return sheet.verdict()


def test_three_steps_contract_where_the_first_expands() -> None:
    assert square(3, F(7, 8)) == ACCEPTED
    assert square(1, F(63, 64), F(2)) == "INEQUALITY"
    assert square(2, F(63, 64), F(2)) == "INEQUALITY"


def test_the_constant_covers_the_steps_inside_a_block() -> None:
    # the gains are 1, 5/4, 145/128 and 0.607: C = max(1, (5/4)/σ, (145/128)/σ²)
    rate = F(7, 8)
    least = max(F(5, 4) / rate, F(145, 128) / rate**2)
    assert square(3, rate, F(int(least * 2**30) + 1, 2**30)) == ACCEPTED
    assert square(3, rate, F(int(least * 2**30) - 1, 2**30)) == "CLAIM"


def test_a_region_with_the_repelling_fixed_point_is_refused() -> None:
    # 1 + √(3/4) repels; up to it the interval is invariant, but no number of steps contracts
    assert square(32, F(1023, 1024), F(2**20), hi=F(1911, 1024)) in ("INEQUALITY", "INCLUSION")


def test_one_step_and_several_say_the_same_where_slopes_are_the_same() -> None:
    """clamp(3z, −1, 1)/4 over all of R: one step is enough, and five say no less."""
    nodes = Nodes()
    clamped = nodes.clamp(nodes.scale(nodes.state(), 3), -1, 1)
    out = nodes.scale(clamped, 1, 4)
    sheet = Sheet(graph_json(nodes.function(out), [[1]]))
    nothing, everywhere, norm = sheet.point(), sheet.all(), sheet.block(1)
    for steps, rate in ((1, F(3, 4)), (5, F(3, 4))):
        step = sheet.step("several_steps", operator="picard", domain=nothing, region=everywhere, norm=norm,
                          steps=steps, rate=dyadic(rate))  # fmt: skip
        sheet.claim(step, "exactly_one", domain=nothing, region=everywhere)
    assert sheet.verdict() == ACCEPTED


def test_images_shrink_from_all_states() -> None:
    """z ← ⅝·clamp(z, −1, 1)²: the slope is up to 5/4 over all of R; every image lies in [−⅝, ⅝], where it is less."""
    nodes = Nodes()
    w = nodes.clamp(nodes.state(), -1, 1)
    out = nodes.scale(nodes.add("mul", w, w), 5, 8)
    sheet = Sheet(graph_json(nodes.function(out), [[1]]))
    nothing, everywhere, norm = sheet.point(), sheet.all(), sheet.block(1)
    gain = gains(
        kernel_graph(sheet.graph), Operator("picard"), ends(sheet, nothing), ends(sheet, everywhere),
        BlockNorm((1,), (1,), 0), 3, [],
    )  # fmt: skip
    assert gain[1] == F(5, 4) and gain[3] < gain[1] / 2
    step = sheet.step("several_steps", operator="picard", domain=nothing, region=everywhere, norm=norm, steps=3,
                      rate=dyadic(F(7, 8)))  # fmt: skip
    sheet.claim(step, "exactly_one", domain=nothing, region=everywhere)
    assert sheet.verdict() == ACCEPTED


def test_residuals_carry_the_constant() -> None:
    """T(z) = (z_2/64, 4z_1): at c = (1, 4) the residual is 15/16, and c is 4 away from the fixed point 0."""
    nodes = Nodes()
    out = nodes.add("linear", nodes.state(), nodes.constant([[F(0), F(1, 64)], [F(4), F(0)]]))
    start = Nodes()
    sheet = Sheet(graph_json(nodes.function(out), [[2]], init=start.function(start.constant([F(1), F(4)]))))
    nothing, everywhere, norm, rate = sheet.point(), sheet.all(), sheet.block(1, 1), F(1, 4)
    step = sheet.step("several_steps", operator="picard", domain=nothing, region=everywhere, norm=norm, steps=2,
                      rate=dyadic(rate))  # fmt: skip
    point = sheet.point()
    bounded = sheet.step("initial_bound", step, domain=point, center=vector([F(1), F(4)]))
    common = {"operator": "picard", "domain": point, "norm": norm, "rate": dyadic(rate), "start": "init"}
    sheet.claim(bounded, "convergence", **common, constant=dyadic(16), epsilon=dyadic(F(5, 4)), steps=4)
    assert sheet.verdict() == ACCEPTED  # 16 · 4⁻⁴ · (16 · 15/16)/(3/4) = 5/4
    sheet.claims[0]["steps"] = 0
    sheet.claims[0]["epsilon"] = dyadic(F(3))  # less than the distance 4 that there is
    assert sheet.verdict() == "CLAIM"


# the cheapest false theorems that the rule could let through


def test_a_region_is_never_said_to_have_one_fixed_point_when_it_has_none_or_two() -> None:
    """z ← kz² + kpq has the fixed points p and q = 1/k − p: regions end at one of them, or close to it."""
    draw, accepted = Random(7), 0
    for _ in range(600):
        k = F(draw.choice((1, 2, 4, -2, -4)), 4)
        ends = F(draw.randint(-8, 8), 16), F(0)
        p, q = sorted((ends[0], 1 / k - ends[0]))
        edge = F(1, draw.choice((8, 64, 1 << 20)))
        lo = draw.choice((p, p - edge, p + edge, p - F(1, 4), F(0)))
        hi = draw.choice((q, q - edge, q + edge, p + (q - p) / 2, p + edge))
        if lo > hi:
            continue
        sheet = Sheet(squares([[k]], [k * p * q]))
        region, norm, point = sheet.box([lo], [hi]), sheet.block(1), sheet.point()
        steps, rate = draw.choice((1, 2, 8, 64)), 1 - F(1, draw.choice((64, 1 << 10, 1 << 30)))
        operator = "picard" if draw.random() < 0.5 else {"outer_damped": vector([F(draw.randint(1, 8), 8)])}
        step = sheet.step("several_steps", operator=operator, domain=point, region=region, norm=norm, steps=steps,
                          rate=dyadic(rate))  # fmt: skip
        sheet.claim(step, "exactly_one", domain=point, region=region)
        if sheet.verdict() == ACCEPTED:
            accepted += 1
            assert sum(lo <= v <= hi for v in (p, q)) == 1, (k, p, q, lo, hi, steps, operator)
    assert accepted > 10


def test_all_states_are_never_said_to_have_one_fixed_point_of_two() -> None:
    sheet = Sheet(squares([[F(1, 4)]], [F(0)]))  # 0 and 4
    step = sheet.step("several_steps", operator="picard", domain=sheet.point(), region=sheet.all(), norm=sheet.block(1),
                      steps=64, rate=dyadic(1 - F(1, 1 << 30)))  # fmt: skip
    sheet.claim(step, "exactly_one", domain=sheet.point(), region=sheet.all())
    assert sheet.verdict() != ACCEPTED


def test_an_answer_about_a_centre_that_only_seems_to_be_near() -> None:
    """T(z) = (z_2/64, 4z_1) from (1, 4): without the constant the ball about the start has radius 5/4, and not 20."""
    nodes, start, readout = Nodes(), Nodes(), Nodes()
    out = nodes.add("linear", nodes.state(), nodes.constant([[F(0), F(1, 64)], [F(4), F(0)]]))
    logits = readout.add("linear", readout.state(), readout.constant([[F(0), F(1)], [F(0), F(0)]]))
    logits = readout.add("sub", logits, readout.constant([F(2), F(0)]))
    graph = graph_json(
        nodes.function(out), [[2]], init=start.function(start.constant([F(1), F(4)])), readout=readout.function(logits)
    )
    for answer, centre, verdict in ((0, [F(1), F(4)], "MARGIN"), (1, [F(0), F(0)], ACCEPTED)):
        sheet = Sheet(graph)
        point = sheet.point()
        step = sheet.step("several_steps", operator="picard", domain=point, region=sheet.all(), norm=sheet.block(1, 1),
                          steps=2, rate=dyadic(F(1, 4)))  # fmt: skip
        done = sheet.step("answer_by_convergence", step, domain=point, center=vector(centre), answer=[answer], steps=60)
        sheet.claim(done, "answer", operator="picard", domain=point, answer=[answer], steps=60)
        assert sheet.verdict() == verdict


def test_nothing_is_said_of_a_start_that_is_no_number() -> None:
    start = Nodes()
    graph = squares([[F(1, 2)]], [F(1, 8)]) | {"init": start.function(start.add("tensor", name="one"))}
    for first, accepted in ((1.0, True), (float("nan"), False), (float("inf"), False)):
        sheet = Sheet(graph, {"one": np.array([first], dtype=np.float32)})
        region, norm, point = sheet.box([F(0)], [F(5, 4)]), sheet.block(1), sheet.point()
        step = sheet.step("several_steps", operator="picard", domain=point, region=region, norm=norm, steps=3,
                          rate=dyadic(F(7, 8)))  # fmt: skip
        bound = sheet.step("initial_bound", step, domain=point, center=vector([F(1, 8)]))
        sheet.claim(bound, "convergence", operator="picard", domain=point, start="init", norm=norm, constant=dyadic(2),
                    rate=dyadic(F(7, 8)), epsilon=None, steps=None)  # fmt: skip
        assert (sheet.verdict() == ACCEPTED) is accepted
