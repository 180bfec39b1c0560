"""R9: `answer_by_convergence`, `answer_by_invariance`, `answer_at`, `run`."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel import graphs
from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, identity_readout, linear_model, real
from tests.kernel.generator import Generator
from tests.kernel.graphs import Json, Nodes, array, dyadic, vector

ULP = F(1, 2**60)
HALVES = [[F(1, 2), F(0)], [F(0), F(1, 2)]]
BIAS = [F(1), F(1, 2)]  # z ↦ z/2 + (1, 1/2) from 0: z* = (2, 1); after k steps the gap is 1 − 2⁻ᵏ, the distance 2 · 2⁻ᵏ


def settled(readout: Json | None = None, init: Json | None = None, **rest: Any) -> Sheet:
    return Sheet(
        linear_model(HALVES, BIAS, readout=identity_readout(2) if readout is None else readout, init=init, **rest)
    )


def converging(sheet: Sheet) -> int:
    return sheet.step("convergence", sheet.contraction(F(1, 2), sheet.block(1, 1)), start=sheet.all())


def by_convergence(
    sheet: Sheet, premise: int, steps: Any = 3, answer: Any = (0,), centre: Any = (2, 1), domain: int | None = None
) -> int:
    return sheet.step(
        "answer_by_convergence",
        premise,
        domain=sheet.point() if domain is None else domain,
        center=vector(centre),
        answer=list(answer),
        steps=steps,
    )


def claim_answer(
    sheet: Sheet,
    step: int,
    steps: int,
    answer: Any = (0,),
    name: str = "answer",
    operator: Any = "picard",
    domain: int | None = None,
) -> Sheet:
    domain = sheet.point() if domain is None else domain
    return sheet.claim(step, name, operator=operator, domain=domain, answer=list(answer), steps=steps)


# answer_by_convergence


@pytest.mark.parametrize(
    ("steps", "code"), [(0, "MARGIN"), (1, "MARGIN"), (2, "MARGIN"), (3, ACCEPTED), (40, ACCEPTED), (10**12, ACCEPTED)]
)
def test_the_answer_holds_from_the_step_at_which_the_ball_is_small_enough(steps: int, code: str) -> None:
    """The ball of radius 2 · 2⁻ᴷ about (2, 1) keeps a gap of 1 − 4 · 2⁻ᴷ: at K = 2 it is a tie."""
    sheet = settled()
    by_convergence(sheet, converging(sheet), steps)
    assert sheet.code() == code


def test_the_answer_is_claimed_for_later_steps_only() -> None:
    sheet = settled()
    step = by_convergence(sheet, converging(sheet), 3)
    for steps, answer, name, operator, code in (
        (3, (0,), "answer", "picard", ACCEPTED),
        (9, (0,), "answer", "picard", ACCEPTED),
        (2, (0,), "answer", "picard", "CLAIM"),
        (3, (1,), "answer", "picard", "CLAIM"),
        (3, (0,), "answer_at", "picard", "CLAIM"),
        (3, (0,), "answer", "implicit", "CLAIM"),
        (3, (0,), "answer", {"outer_damped": vector([1])}, "CLAIM"),
    ):
        sheet.claims.clear()
        assert claim_answer(sheet, step, steps, answer, name, operator).verdict() == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"answer": (1,)}, "MARGIN"),
        ({"answer": (2,)}, "NUMBER"),
        ({"answer": (-1,)}, "NUMBER"),
        ({"answer": (False,)}, "FIELD"),
        ({"answer": (None,)}, "FIELD"),
        ({"answer": ()}, "SHAPE"),
        ({"answer": (0, 0)}, "SHAPE"),
        ({"steps": -1}, "NUMBER"),
        ({"steps": True}, "FIELD"),
        ({"steps": 10**13}, "NUMBER"),
        ({"centre": (2,)}, "NUMBER"),
        ({"centre": (9, 9)}, "MARGIN"),  # far off: the bound on N(c − z*) is honest
        ({"centre": (2 + F(1, 8), 1), "steps": 60}, ACCEPTED),
    ],
)
def test_answer_by_convergence_rejects(change: dict[str, Any], code: str) -> None:
    sheet = settled()
    by_convergence(sheet, converging(sheet), **change)
    assert sheet.code() == code


def test_a_tie_is_no_answer() -> None:
    sheet = Sheet(linear_model(HALVES, [F(1), F(1)], readout=identity_readout(2)))
    by_convergence(sheet, converging(sheet), 10**6, centre=(2, 2))
    assert sheet.code() == "MARGIN"


def readout_of(build: Any) -> Json:
    nodes = Nodes()
    return nodes.function(build(nodes, nodes.state()))


def test_a_readout_needs_competitors() -> None:
    for readout in (
        readout_of(lambda n, z: n.add("slice", z, axis=0, start=0, stop=1, step=1)),
        readout_of(lambda n, z: n.add("reshape", z, shape=[2, 1])),
    ):
        sheet = settled(readout)
        by_convergence(sheet, converging(sheet), answer=(0,) * (2 if readout["nodes"][1]["op"] == "reshape" else 1))
        assert sheet.code() == "SHAPE"


def test_an_answer_needs_a_readout() -> None:
    for rule in (by_convergence, None):
        sheet = Sheet(linear_model(HALVES, BIAS))
        if rule is None:
            at(sheet)
        else:
            by_convergence(sheet, converging(sheet))
        assert sheet.code() == "UNSUPPORTED"


def test_every_position_is_checked() -> None:
    """Two positions of two classes: the second compares (z₁, z₀)."""
    readout = readout_of(lambda n, z: n.add("reshape", n.add("select", z, axis=0, indices=[0, 1, 1, 0]), shape=[2, 2]))
    for answer, code in (((0, 1), ACCEPTED), ((0, 0), "MARGIN"), ((1, 1), "MARGIN"), ((1, 0), "MARGIN")):
        sheet = settled(readout)
        by_convergence(sheet, converging(sheet), answer=answer)
        assert sheet.code() == code


def test_every_competitor_is_checked() -> None:
    for third, code in ((F(3, 2), ACCEPTED), (F(7, 4), "MARGIN"), (F(5, 2), "MARGIN")):
        readout = readout_of(lambda n, z, third=third: n.add("concat", z, n.constant([third]), axis=0))
        sheet = settled(readout)
        by_convergence(sheet, converging(sheet), 3)
        assert sheet.code() == code


def test_answer_by_convergence_rejects_other_premises_and_domains() -> None:
    sheet = settled()
    by_convergence(sheet, sheet.contraction(F(1, 2), sheet.block(1, 1)))
    assert sheet.code() == "PREMISE"
    sheet = settled(given=real(2))
    step = sheet.step(
        "convergence",
        sheet.contraction(F(1, 2), sheet.block(1, 1), domain=sheet.box([-1, -1], [1, 1], "input")),
        start=sheet.all(),
    )
    by_convergence(sheet, step, 9, domain=sheet.box([0, 0], [F(1, 8), F(1, 8)], "input"))
    assert sheet.code() == ACCEPTED
    sheet.steps.pop()
    by_convergence(sheet, step, 9, domain=sheet.box([0, 0], [1, F(9, 8)], "input"))
    assert sheet.code() == "CONTEXT"
    sheet.steps.pop()
    by_convergence(sheet, step, 9, domain=sheet.box([0, 0], [F(1, 8), 1], "input"))
    assert sheet.code() == "MARGIN"  # some input answers otherwise


def two_basins(init: Any) -> tuple[Sheet, int]:
    """z/2 + 5/8 relu(z − 1) has the fixed points 0 and 5, and contracts on [-1, 1] only. Class 1 wins above 2."""
    nodes = Nodes()
    z = nodes.state()
    kink = nodes.scale(nodes.add("relu", nodes.add("sub", z, nodes.constant([F(1)]))), 5, 8)
    step = nodes.function(nodes.add("add", nodes.scale(z, 1, 2), kink))
    readout = readout_of(lambda n, z: n.add("concat", n.constant([F(2)]), z, axis=0))
    start = Nodes()
    sheet = Sheet(graph_json(step, readout=readout, init=start.function(start.constant([F(init)]))))
    region = sheet.box(-1, 1)
    contraction = sheet.contraction(F(1, 2), sheet.block(1), region)
    box = sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=region)
    return sheet, sheet.step("convergence", contraction, box, start=region)


@pytest.mark.parametrize(
    ("init", "centre", "answer", "code"),
    [(1, 0, 0, ACCEPTED), (1, 5, 1, "INCLUSION"), (5, 0, 0, "INCLUSION"), (5, 5, 1, "INCLUSION"), (1, 0, 1, "MARGIN")],
)
def test_the_centre_and_the_initial_state_lie_in_the_region(init: Any, centre: Any, answer: int, code: str) -> None:
    sheet, step = two_basins(init)
    by_convergence(sheet, step, 50, (answer,), (centre,))
    assert sheet.code() == code


def test_margins_of_a_nonlinear_readout_use_the_set() -> None:
    """Logits (relu(z₀ − 3/2), 1/8): at z* = (2, 1) the first is 1/2; once the ball dips below 13/8 it is not enough."""
    readout = readout_of(
        lambda n, z: n.add(
            "concat",
            n.add("relu", n.add("sub", n.add("slice", z, axis=0, start=0, stop=1, step=1), n.constant([F(3, 2)]))),
            n.constant([F(1, 8)]),
            axis=0,
        )
    )
    for steps, code in ((2, "MARGIN"), (3, ACCEPTED)):
        sheet = settled(readout)
        by_convergence(sheet, converging(sheet), steps)
        assert sheet.code() == code
    sheet = settled(readout)
    by_convergence(sheet, converging(sheet), 9, answer=(1,))
    assert sheet.code() == "MARGIN"


def accepted_margins(seed: int) -> int:
    """How many answers of a random readout are accepted on boxes; each is compared with sampled states of the box."""
    rng = Random(seed)
    ops = ["linear", "add", "relu", "tanh", "mul", "concat", "scale", "abs", "softmax", "max"]
    generator = Generator(rng, ops, [[3]], None)
    generator.grow(5)
    readout = generator.finish([[2, 2]])
    nodes = Nodes()
    hold = nodes.function(nodes.scale(nodes.state(), 1))
    centre = [F(rng.randint(-8, 8), 8) for _ in range(3)]
    start = Nodes()
    init = start.function(start.constant(array(centre, (3,))))
    accepted = 0
    for radius in (F(1, 1024), F(1, 32), F(1, 4)):
        lo, hi = [c - radius for c in centre], [c + radius for c in centre]
        for answer in ((0, 0), (0, 1), (1, 0), (1, 1)):
            sheet = Sheet(graph_json(hold, [[3]], init=init, readout=readout), generator.tensors)
            box = sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=sheet.box(lo, hi))
            sheet.step("answer_by_invariance", box, domain=sheet.point(), answer=list(answer), steps=0)
            code = sheet.code()
            assert code in (ACCEPTED, "MARGIN")
            if code == ACCEPTED:
                accepted += 1
                for _ in range(12):
                    z = [c + radius * F(rng.choice([-8, 8, rng.randint(-8, 8)]), 8) for c in centre]
                    values = graphs.run(
                        readout, [array([graphs.to_real(v) for v in z], (3,))], None, generator.tensors, graphs.HIGH
                    )
                    logits = np.array(graphs.outputs(readout, values), dtype=object).reshape(2, 2)
                    for row, label in zip(logits, answer, strict=True):
                        assert row[label] > row[1 - label]
    return accepted


def test_accepted_margins_hold_at_sampled_states() -> None:
    counts = [accepted_margins(seed) for seed in range(14)]
    assert sum(counts) >= 10 and max(counts) <= 3  # one answer a box at most


# answer_by_invariance


def flip() -> Sheet:
    """z ↦ 1 − z from 1/4 on [0, 1]: it oscillates for ever and never settles. Logits (2, z)."""
    nodes = Nodes()
    step = nodes.function(nodes.add("sub", nodes.constant([F(1)]), nodes.state()))
    start = Nodes()
    readout = readout_of(lambda n, z: n.add("concat", n.constant([F(2)]), z, axis=0))
    return Sheet(graph_json(step, readout=readout, init=start.function(start.constant([F(1, 4)]))))


def by_invariance(sheet: Sheet, premise: int, steps: Any = 0, answer: Any = (0,), domain: int | None = None) -> int:
    return sheet.step(
        "answer_by_invariance",
        premise,
        domain=sheet.point() if domain is None else domain,
        answer=list(answer),
        steps=steps,
    )


def invariant(sheet: Sheet, lo: Any, hi: Any, operator: Any = "picard") -> int:
    return sheet.step("invariant_box", operator=operator, domain=sheet.point(), region=sheet.box(lo, hi))


def test_an_answer_needs_no_contraction() -> None:
    sheet = flip()
    step = by_invariance(sheet, invariant(sheet, 0, 1))
    assert claim_answer(sheet, step, 0).check().claims
    sheet.claims.clear()
    assert claim_answer(sheet, step, 0, (1,)).code() == "CLAIM"


@pytest.mark.parametrize(
    ("bounds", "answer", "steps", "code"),
    [
        ((-1, 2), (0,), 0, "MARGIN"),  # touches the tie at z = 2
        ((-1 + ULP, 2 - ULP), (0,), 0, ACCEPTED),
        ((0, 1), (1,), 0, "MARGIN"),
        ((F(3, 8), F(5, 8)), (0,), 0, "INCLUSION"),  # the orbit 1/4, 3/4, … stays outside
        ((F(3, 8), F(5, 8)), (0,), 7, "INCLUSION"),
        ((0, 1), (0,), 7, ACCEPTED),
        ((0, 1), (0,), -1, "NUMBER"),
        ((0, 1), (0,), 10**9, "NUMBER"),
    ],
)
def test_answer_by_invariance(bounds: Any, answer: Any, steps: int, code: str) -> None:
    sheet = flip()
    by_invariance(sheet, invariant(sheet, *bounds), steps, answer)
    assert sheet.code() == code


def test_the_orbit_enters_the_box_at_the_named_step() -> None:
    """z/2 + (1, 1/2) from 0 enters [3/2, 5/2] × [1/2, 3/2] at k = 2: (3/2, 3/4)."""
    for steps, code in ((0, "INCLUSION"), (1, "INCLUSION"), (2, "MARGIN"), (3, "MARGIN")):
        sheet = settled()
        by_invariance(sheet, invariant(sheet, [F(3, 2), F(1, 2)], [F(5, 2), F(3, 2)]), steps)
        assert sheet.code() == code
    for steps, code in ((1, "INCLUSION"), (2, "INCLUSION"), (3, ACCEPTED)):
        sheet = settled()
        step = by_invariance(sheet, invariant(sheet, [F(7, 4), F(3, 4)], [F(9, 4), F(5, 4)]), steps)
        assert sheet.code() == code
    assert claim_answer(sheet, step, 3).check().claims
    sheet.claims.clear()
    assert claim_answer(sheet, step, 2).code() == "CLAIM"


def test_iterates_are_those_of_the_premises_operator() -> None:
    """Damped by 1/2 the orbit is slower: the box of the test above is entered at k = 8, not 3."""
    for steps, code in ((3, "INCLUSION"), (7, "INCLUSION"), (8, ACCEPTED)):
        sheet = settled()
        operator = {"outer_damped": vector([F(1, 2)])}
        step = by_invariance(sheet, invariant(sheet, [F(7, 4), F(3, 4)], [F(9, 4), F(5, 4)], operator), steps)
        assert sheet.code() == code
    assert claim_answer(sheet, step, 8, operator=operator).check().claims
    sheet.claims.clear()
    assert claim_answer(sheet, step, 8).code() == "CLAIM"


def test_answer_by_invariance_rejects_balls_other_premises_and_domains() -> None:
    sheet = settled()
    contraction = sheet.contraction(F(1, 2), sheet.block(1, 1))
    ball = sheet.step("invariant_ball", contraction, domain=sheet.point(), center=vector([2, 1]), radius=dyadic(4))
    by_invariance(sheet, ball)
    assert sheet.code() == "CONTEXT"
    sheet.steps = sheet.steps[:1]
    by_invariance(sheet, contraction)
    assert sheet.code() == "PREMISE"
    sheet = settled(given=real(2))
    narrow, wide = sheet.box([0, 0], [0, 0], "input"), sheet.box([0, 0], [0, ULP], "input")
    box = sheet.step("invariant_box", operator="picard", domain=narrow, region=sheet.box([-4, -4], [4, 4]))
    by_invariance(sheet, box, domain=wide)
    assert sheet.code() == "CONTEXT"


def test_margins_on_an_unbounded_box_are_refused() -> None:
    sheet = settled()
    by_invariance(sheet, sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=sheet.all()))
    assert sheet.code() == "UNSUPPORTED"


def test_the_whole_set_of_initial_states_counts() -> None:
    nodes = Nodes()
    init = nodes.function(nodes.scale(nodes.add("input"), 1))
    for top, code in ((1, ACCEPTED), (1 + ULP, "INCLUSION")):
        sheet = settled(readout_of(lambda n, z: n.add("add", z, n.constant([F(20), F(0)]))), given=real(2), init=init)
        domain = sheet.box([-top, -top], [top, top], "input")
        box = sheet.step("invariant_box", operator="picard", domain=domain, region=sheet.box([-1, -2], [5, 5]))
        by_invariance(sheet, box, domain=domain)
        assert sheet.code() == code


# answer_at


def at(
    sheet: Sheet, steps: Any = 1, answer: Any = (0,), operator: Any = "picard", domain: int | None = None, **rest: Any
) -> int:
    domain = sheet.point() if domain is None else domain
    return sheet.step("answer_at", operator=operator, domain=domain, answer=list(answer), steps=steps, **rest)


@pytest.mark.parametrize(
    ("steps", "answer", "code"),
    [
        (0, (0,), "MARGIN"),
        (0, (1,), "MARGIN"),
        (1, (0,), ACCEPTED),
        (1, (1,), "MARGIN"),
        (50, (0,), ACCEPTED),
        (10**9, (0,), "NUMBER"),
        (-1, (0,), "NUMBER"),
        (1, (2,), "NUMBER"),
    ],
)
def test_answer_at_one_depth(steps: int, answer: Any, code: str) -> None:
    sheet = settled()
    at(sheet, steps, answer)
    assert sheet.code() == code


def test_answer_at_says_nothing_about_other_depths() -> None:
    """z ↦ 1 − 2z from 0: 0, 1, −1, 3, −5, … the answer alternates."""
    nodes = Nodes()
    step = nodes.function(nodes.add("sub", nodes.constant([F(1)]), nodes.scale(nodes.state(), 2)))
    readout = readout_of(lambda n, z: n.add("concat", n.constant([F(1, 4)]), z, axis=0))
    for steps in range(6):
        sheet = Sheet(graph_json(step, readout=readout))
        label = steps % 2
        done = at(sheet, steps, (label,))
        assert claim_answer(sheet, done, steps, (label,), "answer_at").check().claims
        for other, name in ((steps + 1, "answer_at"), (steps, "answer")):
            sheet.claims.clear()
            assert claim_answer(sheet, done, other, (label,), name).code() == "CLAIM"
        sheet.steps[0]["answer"] = [1 - label]
        assert sheet.code() == "MARGIN"


def test_answer_at_of_a_damped_loop() -> None:
    """Fully damped it is the loop itself; damped by 1/4 the iterate of (2, 1)-bound orbit lags behind."""
    readout = readout_of(
        lambda n, z: n.add("concat", n.add("slice", z, axis=0, start=0, stop=1, step=1), n.constant([F(5, 4)]), axis=0)
    )
    for alpha, steps, answer, code in (
        (1, 2, 0, ACCEPTED),
        (F(1, 4), 2, 0, "MARGIN"),
        (F(1, 4), 2, 1, ACCEPTED),
        (F(1, 4), 9, 0, ACCEPTED),
    ):
        sheet = settled(readout)
        at(sheet, steps, (answer,), {"outer_damped": vector([alpha])})
        assert sheet.code() == code


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("operator", ["implicit", {"inner_damped": dyadic(F(1, 2))}])
def test_answer_at_names_a_loop(operator: Any, steps: int) -> None:
    nodes = Nodes()
    sheet = settled(init=nodes.function(nodes.constant([F(1), F(0)])))
    at(sheet, steps, operator=operator)
    assert sheet.code() == "UNSUPPORTED"


def test_answer_at_needs_a_single_input_and_no_premise() -> None:
    sheet = settled(given=real(2))
    at(sheet, domain=sheet.box([0, 0], [0, ULP], "input"))
    assert sheet.code() == "BOX"
    sheet.steps.clear()
    at(sheet, domain=sheet.all("input"))
    assert sheet.code() == "BOX"
    sheet.steps.clear()
    at(sheet, domain=sheet.box([0, 0], [0, 0], "input"))  # a box of one point is that point
    assert sheet.code() == ACCEPTED
    sheet = settled()
    first = at(sheet)
    sheet.steps.append(sheet.steps[0] | {"premises": [first]})
    assert sheet.code() == "PREMISE"


# run

ORBIT = [(F(0), F(0)), (F(1), F(1, 2)), (F(3, 2), F(3, 4)), (F(7, 4), F(7, 8)), (F(15, 8), F(15, 16))]
ANSWERS: list[Any] = [None, [0], [0], [0], [0]]
# distances 2 · 2⁻ᵏ; the gap at state k is 1 − 2⁻ᵏ, less 2 · 2 · 2⁻ᵏ over the ball: positive from k = 3 on


def run(
    sheet: Sheet, premise: int, states: Any = ORBIT, answers: Any = None, final: Any = 3, domain: int | None = None
) -> int:
    return sheet.step(
        "run",
        premise,
        domain=sheet.point() if domain is None else domain,
        states=vector([v for z in states for v in z]),
        answers=ANSWERS if answers is None else answers,
        final=final,
    )


def claim_run(sheet: Sheet, step: int, **change: Any) -> Sheet:
    fields = {
        "operator": "picard",
        "domain": sheet.point(),
        "norm": 0,
        "state": vector(ORBIT[-1]),
        "radius": dyadic(F(1, 8)),
        "answer": [0],
        "final": 3,
        "drifts": vector([0] * 5),
        "distances": vector([F(2, 2**k) for k in range(5)]),
        "answers": ANSWERS,
    }
    return sheet.claim(step, "run", **(fields | change))


def test_the_audit_of_an_exact_orbit() -> None:
    sheet = settled()
    assert claim_run(sheet, run(sheet, converging(sheet))).check().claims


@pytest.mark.parametrize(
    "change",
    [
        {"radius": dyadic(F(1, 8) - ULP)},
        {"answer": [1]},
        {"final": 2},
        {"final": 4},
        {"state": vector(ORBIT[-2])},
        {"distances": vector([F(2), F(1), F(1, 2), F(1, 4), F(1, 8) - ULP])},
        {"distances": vector([F(2)])},
        {"distances": vector([F(2)] * 6)},
        {"drifts": vector([0] * 4)},
        {"drifts": vector([0, 0, 0, 0, -1])},
        {"answers": [[0]] * 5},
        {"answers": [None] * 5},
        {"operator": "implicit"},
    ],
)
def test_a_run_says_no_more_than_was_shown(change: dict[str, Any]) -> None:
    sheet = settled()
    assert claim_run(sheet, run(sheet, converging(sheet)), **change).code() == "CLAIM"


def test_larger_bounds_may_be_claimed() -> None:
    sheet = settled()
    step = run(sheet, converging(sheet))
    change = {"radius": dyadic(1), "drifts": vector([1] * 5), "distances": vector([3] * 5)}
    assert claim_run(sheet, step, **change).check().claims


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"final": 2}, "MARGIN"),
        ({"final": 1}, "MARGIN"),
        ({"final": 0}, "WITNESS"),  # no answer there
        ({"final": 5}, "NUMBER"),
        ({"final": -1}, "NUMBER"),
        ({"answers": [None, [1], [0], [0], [0]]}, "MARGIN"),
        ({"answers": [[0], [0], [0], [0], [0]]}, "MARGIN"),  # a tie at the zero state
        ({"answers": [None, [0], [0], [0], None]}, "WITNESS"),
        ({"answers": [None, [0], [0], [1], [0]]}, "WITNESS"),
        ({"answers": [None, None, None, [0], [0]]}, ACCEPTED),
        ({"answers": ANSWERS[:4]}, "NUMBER"),
        ({"answers": [*ANSWERS, [0]]}, "NUMBER"),
        ({"states": []}, "NUMBER"),
        ({"states": [*ORBIT, (F(0),)]}, "NUMBER"),
        ({"states": ORBIT[:1], "answers": [None], "final": 0}, "WITNESS"),
    ],
)
def test_run_rejects(change: dict[str, Any], code: str) -> None:
    sheet = settled()
    run(sheet, converging(sheet), **change)
    assert sheet.code() == code


def test_every_stored_answer_from_the_final_step_on_is_the_last_one() -> None:
    longer = [*ORBIT, (F(31, 16), F(31, 32))]
    for between, code in (([0], ACCEPTED), (None, "WITNESS"), ([1], "WITNESS")):
        sheet = settled()
        run(sheet, converging(sheet), longer, [None, [0], [0], [0], between, [0]], 3)
        assert sheet.code() == code


def test_drifts_count_every_departure_from_the_orbit() -> None:
    """A trace that is no orbit is not refused: its drifts say how far it strays, the distances stay true."""
    states = [(F(1, 4), F(0)), (F(1), F(1, 2)), (F(2), F(1))]
    drifts = [F(1, 4), F(1, 8), F(1, 2)]
    distances = [F(7, 4), F(1), F(0)]
    sheet = settled()
    step = run(sheet, converging(sheet), states, [None, [0], [0]], 2)
    fields = {"state": vector(states[-1]), "radius": dyadic(0), "final": 2, "answers": [None, [0], [0]]}
    for k in range(3):
        assert claim_run(sheet, step, **fields, drifts=vector(drifts), distances=vector(distances)).check().claims
        for name, values in (("drifts", drifts), ("distances", distances)):
            if values[k] > 0:
                less = [v - (ULP if i == k else 0) for i, v in enumerate(values)]
                sheet.claims.clear()
                claim_run(
                    sheet,
                    step,
                    **(fields | {"drifts": vector(drifts), "distances": vector(distances), name: vector(less)}),
                )
                assert sheet.code() == "CLAIM"
        sheet.claims.clear()


def test_the_ball_about_a_stored_state_lies_inside_the_region() -> None:
    """f = 1 − 7/8 (z − 1) about z* = 1 from 0: the next iterate is 15/8, outside the ball of the true distance 1."""
    nodes = Nodes()
    step = nodes.function(nodes.add("sub", nodes.constant([F(15, 8)]), nodes.scale(nodes.state(), 7, 8)))
    readout = readout_of(lambda n, z: n.add("concat", n.constant([F(100)]), z, axis=0))
    for bounds, code in (
        ((-15, 15), ACCEPTED),
        ((-14, 15), "INCLUSION"),
        ((-15, 14), "INCLUSION"),
        ((-1, 3), "INCLUSION"),
    ):
        sheet = Sheet(graph_json(step, readout=readout))
        region = sheet.box(*bounds)
        contraction = sheet.contraction(F(7, 8), sheet.block(1), region)
        round_ = sheet.step("invariant_ball", contraction, domain=sheet.point(), center=vector([1]), radius=dyadic(1))
        done = sheet.step("convergence", contraction, round_, start=sheet.box(1, 1))
        run(sheet, done, [(F(0),)], [[0]], 0)
        assert sheet.code() == code  # (15/8) / (1/8) = 15, not 1


def test_run_rejects_other_premises_and_domains() -> None:
    sheet = settled()
    run(sheet, sheet.contraction(F(1, 2), sheet.block(1, 1)))
    assert sheet.code() == "PREMISE"
    sheet = settled(given=real(2))
    narrow = sheet.box([0, 0], [1, 1], "input")
    step = sheet.step("convergence", sheet.contraction(F(1, 2), sheet.block(1, 1), domain=narrow), start=sheet.all())
    for domain, code in (
        (sheet.point(0, 0), ACCEPTED),
        (sheet.point(0, 2), "BOX"),
        (narrow, "BOX"),
        (sheet.all("input"), "BOX"),
    ):
        sheet.steps = sheet.steps[:2]
        run(sheet, step, domain=domain)
        assert sheet.code() == code


def test_stored_states_lie_in_the_region() -> None:
    sheet, step = two_basins(1)
    for states, code in (
        ([(F(1),), (F(1, 2),)], "MARGIN"),  # the ball [0, 2] about 1 meets class 1, though the orbit does not
        ([(F(1, 4),), (F(1, 8),)], ACCEPTED),
        ([(F(5),), (F(0),)], "INCLUSION"),
    ):
        sheet.steps = sheet.steps[:3]
        run(sheet, step, states, [[0], [0]] if states[0] != (F(5),) else [[1], [0]], 1 if states[0] == (F(5),) else 0)
        assert sheet.code() == code


def test_a_ball_may_reach_out_of_the_region_about_a_state_from_which_the_loop_converges() -> None:
    """The same loop on [−1, 3], which it does not leave: from 0 it goes to 15/8 and stays within 15 of 0."""
    nodes = Nodes()
    step = nodes.function(nodes.add("sub", nodes.constant([F(15, 8)]), nodes.scale(nodes.state(), 7, 8)))
    for threshold, start, state, code in (
        (F(-16), (-1, 3), 0, ACCEPTED),
        (F(-15), (-1, 3), 0, "MARGIN"),  # a tie at the end of [−15, 15]
        (F(-16), (F(1, 2), 3), 0, "INCLUSION"),  # inside the region, and not where the premise starts
        (F(-16), (0, 3), 0, ACCEPTED),
        (F(-64), (-1, 3), -2, "INCLUSION"),
    ):
        readout = readout_of(lambda n, z, t=threshold: n.add("concat", z, n.constant([t]), axis=0))
        sheet = Sheet(graph_json(step, readout=readout))
        region = sheet.box(-1, 3)
        contraction = sheet.contraction(F(7, 8), sheet.block(1), region)
        box = sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=region)
        done = sheet.step("convergence", contraction, box, start=sheet.box(*start))
        run(sheet, done, [(F(state),)], [[0]], 0)
        assert sheet.code() == code


def test_a_premise_about_init_alone_says_nothing_about_other_states() -> None:
    """The ball of radius 1/2 about 1/2 lies in the region; that of radius 1 about 1 does not."""
    for state, code in ((F(1, 2), ACCEPTED), (F(1), "INCLUSION")):
        sheet, step = two_basins(F(1, 4))
        bounded = sheet.step("initial_bound", step, domain=sheet.point(), center=vector([0]))
        run(sheet, bounded, [(state,)], [[0]], 0)
        assert sheet.code() == code
