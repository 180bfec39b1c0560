"""Refusals of recursions that settle: parts that depend on themselves, ways back, other orders, other operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good_triangular import (
    CHAIN_RUN,
    a_chain_settles_and_answers,
    audited,
    causal_tokens_settle,
    followed,
    gated,
    oscillation,
    settled,
    shifted,
)
from tests.corpus.sheet import F, Nodes, Sheet, dyadic, graph, real, stored, vector

CAUSAL, CHAIN, GATE = "causal_tokens_settle", "a_chain_settles_and_answers", "a_closed_gate_cuts_the_way_back"

edit("CLAIM", "fewer steps than the longest path", "settles_too_soon", CAUSAL, claims__0__steps=2)
edit("INEQUALITY", "three tokens in two parts", "settles_in_fewer_parts", CAUSAL, steps__0__parts=[[2, 1], [4, 2]],
     claims__0__steps=2)  # fmt: skip
edit("INEQUALITY", "the parts in the order of the state, which is not that of the chain", "settles_in_another_order",
     CHAIN, steps__0__parts=[[1, 1], [1, 2], [1, 3]])  # fmt: skip
edit("WITNESS", "a part for fewer entries than the state has", "settles_for_a_part_of_the_state", CAUSAL,
     steps__0__parts=[[2, 1], [2, 2]])  # fmt: skip
edit("WITNESS", "parts for more entries than the state has", "settles_for_more_than_the_state", CAUSAL,
     steps__0__parts=[[2, 1], [2, 2], [3, 3]])  # fmt: skip
edit("NUMBER", "part 0: nothing comes before it", "settles_from_part_zero", CAUSAL,
     steps__0__parts=[[2, 0], [2, 1], [2, 2]])  # fmt: skip
edit("FIELD", "runs of three numbers", "settles_by_other_runs", CAUSAL, steps__0__parts=[[2, 1, 1], [4, 2]])
edit("CLAIM", "the damped loop approaches its fixed point and does not reach it", "settles_damped", CAUSAL,
     claims__0__operator={"outer_damped": vector([F(1, 2)])})  # fmt: skip
edit("CLAIM", "a rate of convergence, of which nothing is known before the last step", "settles_is_no_rate", CHAIN,
     claims__0={"step": 0, "claim": "convergence", "operator": "picard", "domain": 0, "start": 1, "norm": 0,
                "constant": {"exp": 0, "int": "1"}, "rate": {"exp": -1, "int": "1"}, "epsilon": None, "steps": None},
     norms=[{"kind": "block", "runs": [[3, 1]], "weights": vector([1, 1, 1])}])  # fmt: skip
edit("EXPECTED", "the caller wanted fewer steps", "settles_expected_sooner", CAUSAL, "--expect", "settles(steps<=2)")


def step_of(make: Callable[[Nodes, int], int], tokens: int = 3) -> Sheet:
    """Three tokens of two features that are said to settle in order."""
    nodes = Nodes()
    out = make(nodes, nodes.state())
    sheet = Sheet(graph(nodes.function(out), [[tokens, 2]]))
    settled(sheet, [[2, t + 1] for t in range(tokens)], tokens, sheet.nothing())
    return sheet


@refused("INEQUALITY", "a residual connection: every token keeps half of itself")
def settles_with_a_residual() -> Sheet:
    return step_of(lambda n, z: n.add("add", shifted(n, z, 3), n.scale(z, 1, 2)))


@refused("INEQUALITY", "a shift in both directions")
def settles_in_both_directions() -> Sheet:
    def make(n: Nodes, z: int) -> int:
        ahead = n.add("slice", n.add("pad", z, pads=[[0, 1], [0, 0]]), axis=0, start=1, stop=4, step=1)
        return n.add("add", shifted(n, z, 3), ahead)

    return step_of(make)


@refused("INEQUALITY", "a roll: the first token sees the last")
def settles_around_a_ring() -> Sheet:
    return step_of(lambda n, z: n.add("select", z, axis=0, indices=[2, 0, 1]))


@refused("INEQUALITY", "a normalization across tokens: every one of them sees all")
def settles_through_a_normalization() -> Sheet:
    def make(n: Nodes, z: int) -> int:
        across = n.add("layer_norm", n.add("permute", z, axes=[1, 0]), eps={"exp": -4, "int": "1"})
        return shifted(n, n.add("permute", across, axes=[1, 0]), 3)

    return step_of(make)


@refused(
    "INEQUALITY", "softmax over the tokens before each one, and a mask behind it: the sum below the line has them all"
)
def settles_through_a_masked_softmax() -> Sheet:
    def make(n: Nodes, z: int) -> int:
        scores = n.add("matmul", z, n.add("permute", z, axes=[1, 0]))
        mask = n.constant([[0, 0, 0], [1, 0, 0], [1, 1, 0]])
        return n.add("matmul", n.add("mul", n.add("softmax", scores), mask), z)

    return step_of(make)


@refused("INEQUALITY", "a gate that is never exactly 0")
def settles_behind_a_sigmoid() -> Sheet:
    sheet = gated(lambda n, x: n.add("sigmoid", n.scale(x, -1000)))
    settled(sheet, [[4, 1], [4, 2]], 2, sheet.box([1] * 4, [2] * 4, "input"))
    return sheet


@refused("INEQUALITY", "a gate that is closed on half of the inputs")
def settles_behind_half_a_gate() -> Sheet:
    sheet = gated(lambda n, x: n.add("relu", n.scale(x, -1)))
    settled(sheet, [[4, 1], [4, 2]], 2, sheet.box([-1] * 4, [1] * 4, "input"))
    return sheet


@refused("INEQUALITY", "a diagonal entry of 2^-100")
def settles_but_for_a_little() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.linear(nodes.state(), "W"))
    sheet = Sheet(graph(step, [[2]]), {"W": stored([[F(1, 1 << 100), 0], [1, 0]], "F64")})
    settled(sheet, [[1, 1], [1, 2]], 2, sheet.nothing())
    return sheet


@refused("UNSUPPORTED", "a step that does not exist at x = 0")
def settles_where_it_is_not_defined() -> Sheet:
    nodes = Nodes()
    x = nodes.add("input")
    shift = nodes.add("div", shifted(nodes, nodes.state(), 3), nodes.add("expand", x, shape=[3, 2]))
    sheet = Sheet(graph(nodes.function(shift), [[3, 2]], real(1, 1)))
    settled(sheet, [[2, 1], [2, 2], [2, 3]], 3, sheet.box([-1], [1], "input"))
    return sheet


@refused("PREMISE", "premises of its own")
def settles_because_of_itself() -> Sheet:
    sheet = causal_tokens_settle()
    sheet.steps.append({**sheet.steps[0], "premises": [0]})
    for claim in sheet.claims:
        claim["step"] = 1
    return sheet


# where it ends


def ends(change: Callable[[Sheet], Any]) -> Sheet:
    sheet = a_chain_settles_and_answers()
    change(sheet)
    return sheet


@refused("INCLUSION", "a box that the step leaves")
def settles_outside_the_box() -> Sheet:
    def change(sheet: Sheet) -> None:
        sheet.boxes[3]["hi"] = vector([F(11, 4), F(17, 2), F(-1)])

    return ends(change)


@refused("CONTEXT", "an invariant box of the damped loop, which ends nowhere")
def settles_in_the_box_of_another_loop() -> Sheet:
    return ends(lambda sheet: sheet.steps[1].update(operator={"outer_damped": vector([F(1, 2)])}))


@refused("CONTEXT", "a recursion that settles for other inputs than those of the box")
def settles_for_other_inputs() -> Sheet:
    def change(sheet: Sheet) -> None:
        fewer = sheet.box([0, 0, 1], [0, 0, 1], "input")
        sheet.steps[0]["domain"] = fewer
        for claim in sheet.claims[:2]:
            claim["domain"] = fewer

    return ends(change)


@refused("PREMISE", "a box and nothing that settles")
def settled_in_without_a_recursion() -> Sheet:
    return ends(lambda sheet: sheet.steps[2].update(premises=[1, 1]))


@refused("CONTEXT", "the answer a step before the end")
def settles_one_step_early() -> Sheet:
    def change(sheet: Sheet) -> None:
        sheet.steps[3]["steps"] = sheet.claims[2]["steps"] = 2

    return ends(change)


@refused("MARGIN", "another answer than the one of the box")
def settles_elsewhere() -> Sheet:
    def change(sheet: Sheet) -> None:
        sheet.steps[3]["answer"] = sheet.claims[2]["answer"] = [0]

    return ends(change)


# followed to the end

STEEP = "a_steep_chain_is_followed"
edit("MARGIN", "another answer than where it ends", "followed_elsewhere", STEEP,
     steps__1__answer=[0, 1, 0, 1, 1], claims__2__answer=[0, 1, 0, 1, 1])  # fmt: skip
edit("CLAIM", "the answer of a step before it has settled", "followed_one_step_short", STEEP, claims__2__steps=4)
edit("CLAIM", "the answer of the damped loop, which goes elsewhere", "followed_damped", STEEP,
     claims__2__operator={"outer_damped": vector([F(1, 2)])})  # fmt: skip
edit("PREMISE", "nothing that settles", "followed_without_a_recursion", STEEP, steps__1__premises=[])


@refused("CONTEXT", "an input for which the recursion is not known to settle")
def followed_outside_the_domain() -> Sheet:
    sheet = followed()
    sheet.steps[0]["domain"] = elsewhere = sheet.point([0] * 5)
    for claim in sheet.claims[:2]:
        claim["domain"] = elsewhere
    return sheet


@refused("MARGIN", "a box of inputs, which the steps pull apart")
def followed_from_a_box() -> Sheet:
    sheet = followed()
    near = sheet.box([F(-1, 512)] + [F(0)] * 4, [F(-1, 2048)] + [F(2)] * 4, "input")
    sheet.steps[1]["domain"] = sheet.claims[2]["domain"] = near
    return sheet


@refused("PREMISE", "a convergence, which gets near its fixed point and never there")
def followed_while_it_converges() -> Sheet:
    """z ← x − z/2, read as (z, 0)."""
    nodes, readout = Nodes(), Nodes()
    out = nodes.add("sub", nodes.add("input"), nodes.scale(nodes.state(), 1, 2))
    logits = readout.add("concat", readout.state(), readout.constant([0]), axis=0)
    sheet = Sheet(graph(nodes.function(out), [[1]], real(1), None, readout.function(logits)))
    domain, norm = sheet.point([1]), sheet.block([1])
    ends = sheet.step("convergence", sheet.contraction(F(1, 2), norm, domain), start=sheet.all())
    done = sheet.step("answer_when_settled", ends, domain=domain, answer=[0])
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[0], steps=1)
    return sheet


# audits

RUN, STEEP_RUN = "a_run_of_a_chain_that_settles", "a_run_of_a_steep_chain"
edit("CLAIM", "a distance below the true one", "settled_run_nearer", RUN,
     claims__3__distances=vector([F(11, 2), F(11, 2), F(6), F(-1), F(0)]))  # fmt: skip
edit("CLAIM", "a radius in ℓ2, in which nothing was measured", "settled_run_in_another_norm", RUN,
     norms=[{"kind": "block", "runs": [[1, 3]], "weights": vector([1])}])  # fmt: skip
edit("CLAIM", "a final step before the one that was shown", "settled_run_final_sooner", STEEP_RUN, claims__3__final=4)
edit("PREMISE", "nothing that settles", "settled_run_without_a_recursion", STEEP_RUN, steps__2__premises=[])
edit("PREMISE", "an answer in place of an invariant box", "settled_run_by_an_answer", STEEP_RUN,
     steps__2__premises=[0, 1])  # fmt: skip
edit("BOX", "a box of inputs", "settled_run_over_a_box", RUN, steps__4__domain=2, claims__3__domain=2)
edit("MARGIN", "an answer that a stored state does not have", "settled_run_of_another_answer", RUN,
     steps__4__answers=[None, None, [1], [1], [1]])  # fmt: skip


def leaving(*states: list[F]) -> Sheet:
    """z_1 ← 0, z_2 ← 100 z_1, read off whether z_2 < ½: from (2⁻⁷, 0) the next z_2 is 100/128, then 0 again."""
    nodes, readout = Nodes(), Nodes()
    out = nodes.scale(nodes.linear(nodes.state(), "W"), 100)
    logits = readout.add("sub", readout.constant([F(1, 2), 0]), readout.linear(readout.state(), "R"))
    tensors = {"W": stored([[0, 0], [1, 0]]), "R": stored([[0, 1], [0, 0]])}
    sheet = Sheet(graph(nodes.function(out), [[2]], None, None, readout.function(logits)), tensors)
    step, far = settled(sheet, [[1, 1], [1, 2]], 2, sheet.nothing()), [F(1)] * len(states)
    answers = [[0]] * len(states)
    done = sheet.step("settled_run", step, domain=sheet.nothing(), states=vector(states), answers=answers, final=0)
    sheet.claim(
        done, "run", operator="picard", domain=sheet.nothing(), norm=sheet.block([1, 1]), state=vector(states[-1]),
        radius=dyadic(1), answer=[0], final=0, drifts=vector(far), distances=vector(far), answers=answers,
    )  # fmt: skip
    return sheet


@refused("MARGIN", "a state whose next iterate answers otherwise, although it settles where it answers so again")
def settled_run_that_leaves_its_answer() -> Sheet:
    return leaving([F(1, 128), F(0)])


@refused("MARGIN", "a final state whose next iterate answers otherwise, and a last one that keeps its answer")
def settled_run_whose_final_state_leaves_its_answer() -> Sheet:
    return leaving([F(1, 128), F(0)], [F(0), F(0)])


@refused("INCLUSION", "a final state outside the invariant box")
def settled_run_outside_the_box() -> Sheet:
    sheet = oscillation()
    states = [*CHAIN_RUN[:3], [F(1), F(11, 2), F(-1)], CHAIN_RUN[4]]
    drifts = [F(0), F(0), F(0), F(1), F(3)]
    return audited(sheet, [0, 1], sheet.point([0, 0, 1]), states, [None, None, [0], [1], [1]], 3, drifts)


@refused("CONTEXT", "a box that is invariant for other inputs")
def settled_run_in_the_box_of_other_inputs() -> Sheet:
    sheet = oscillation()
    x = [F(1, 2), F(0), F(1)]
    last = [F(3, 2), F(4), F(-1)]
    states = [[F(0)] * 3, [F(-1, 2), F(0), F(-1)], [F(3, 2), F(-2), F(-1)], last, last]
    return audited(sheet, [0, 1], sheet.point(x), states, [None, None, [0], [1], [1]], 3)


@refused("CONTEXT", "an invariant box of the damped loop")
def settled_run_in_the_box_of_another_loop() -> Sheet:
    sheet = oscillation()
    audited(sheet, [0, 1], sheet.point([0, 0, 1]), CHAIN_RUN, [None, None, [0], [1], [1]], 3)
    damped = sheet.step("invariant_box", operator={"outer_damped": vector([F(1, 2)])}, domain=2, region=3)
    sheet.steps[4]["premises"] = [0, damped]
    sheet.steps[4], sheet.steps[5] = sheet.steps[5], sheet.steps[4]
    sheet.steps[5]["premises"] = [0, 4]
    sheet.claims[3]["step"] = 5
    return sheet
