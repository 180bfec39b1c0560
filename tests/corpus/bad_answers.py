"""Refusals of R9, and of proofs of something else than what was wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.good import whole, with_constant
from tests.corpus.sheet import (
    F,
    Nodes,
    Sheet,
    canonical,
    dyadic,
    graph,
    identity_readout,
    vector,
)
from tests.corpus.traps import half_plus, scalar, two_fixed_points_sheet

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# R9: answers and runs

edit("MARGIN", "another answer than the model's", "wrong_answer", T, steps__3__answer=[0], claims__3__answer=[0])
edit(
    "MARGIN", "too few steps for the answer to be certain", "answer_too_early", T, steps__3__steps=0, claims__3__steps=0
)
edit("CLAIM", "an answer claimed for fewer steps than were shown", "answer_claimed_early", T, claims__3__steps=0)
edit(
    "CLAIM",
    "an answer claimed for another operator",
    "answer_other_operator",
    T,
    claims__3__operator={"outer_damped": vector([1])},
)
edit("NUMBER", "label −1, which would be the last class", "label_negative", T, steps__3__answer=[-1])
edit("SHAPE", "two labels for one position", "two_labels", T, steps__3__answer=[1, 1])
edit(
    "BOX",
    "a fixed depth over a box of inputs",
    "answer_at_a_box",
    "answer_at_a_fixed_depth",
    boxes__0={"space": "input", "lo": vector([0] * 4), "hi": vector([1] * 4)},
)
edit(
    "UNSUPPORTED",
    "no loop is named: an implicit operator has no iterate",
    "answer_at_implicit",
    "answer_at_a_fixed_depth",
    steps__0__operator="implicit",
    steps__0__steps=0,
    claims__0__operator="implicit",
    claims__0__steps=0,
)
edit(
    "CLAIM",
    "a fixed depth says nothing about the next one",
    "answer_at_another_depth",
    "answer_at_a_fixed_depth",
    claims__0__steps=6,
)
edit(
    "MARGIN",
    "another answer at that depth",
    "answer_at_wrong",
    "answer_at_a_fixed_depth",
    steps__0__answer=[0, 1],
    claims__0__answer=[0, 1],
)
edit(
    "INCLUSION",
    "the first iterates lie outside the invariant box",
    "answer_before_entry",
    "answer_of_a_damped_bistable_loop",
    steps__1__steps=0,
    claims__1__steps=0,
)
edit(
    "MARGIN",
    "the box holds states that answer otherwise",
    "answer_on_the_box",
    "answer_of_an_oscillation",
    steps__1__answer=[0],
    claims__1__answer=[0],
)
edit(
    "UNSUPPORTED",
    "an answer of a model without readout",
    "answer_without_readout",
    "answer_at_a_fixed_depth",
    graph__readout=None,
)
edit(
    "PREMISE",
    "an answer by invariance from a contraction",
    "answer_from_contraction",
    T,
    steps__3={"rule": "answer_by_invariance", "premises": [0], "domain": 2, "answer": [1], "steps": 3},
)
edit(
    "PREMISE",
    "an answer by convergence from a contraction alone",
    "answer_without_convergence",
    T,
    steps__3__premises=[0],
)


@refused("MARGIN", "a tie is no answer")
def tie() -> Sheet:
    nodes, readout = Nodes(), Nodes()
    step = nodes.function(nodes.scale(nodes.state(), 1, 2))
    both = readout.add("concat", readout.state(), readout.state(), axis=0)
    sheet = Sheet(graph(step, [[1]], None, None, readout.function(both)))
    domain = sheet.nothing()
    done = sheet.step("answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    sheet.claim(done, "answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    return sheet


@refused("SHAPE", "one class: there is no competitor, and every state would answer")
def one_class() -> Sheet:
    model = scalar(lambda n, z: n.scale(z, 1, 2))
    model["readout"] = identity_readout()
    sheet = Sheet(model)
    domain = sheet.nothing()
    done = sheet.step("answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    sheet.claim(done, "answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    return sheet


@refused("CLAIM", "relu(1 − 5z): the damped loop converges, Picard from 0 goes 1, 0, 1, 0, …")
def answer_of_the_undamped_loop() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.constant([1]), nodes.scale(nodes.state(), 5))))
    sheet = Sheet(graph(step, [[1]], None, None, with_constant(F(1, 2))))
    domain = sheet.nothing()
    one = sheet.step("log_norm", domain=domain, vector=vector([1]))
    converges = sheet.step("log_norm_convergence", one, alpha=vector([F(1, 8)]), rate=dyadic(F(7, 8)))
    done = sheet.step(
        "answer_by_convergence", converges, domain=domain, center=vector([F(43, 256)]), answer=[1], steps=30
    )
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[1], steps=30)
    return sheet


def run_sheet(states: Sequence[Any], radius: Any, slope: tuple[int, int] = (-7, 8)) -> Sheet:
    """The audit of 1 + slope·(z − 1) at stored states, with a claimed radius for the last one."""
    nodes = Nodes()
    moved = nodes.scale(nodes.add("sub", nodes.state(), nodes.constant([1])), *slope)
    step = nodes.function(nodes.add("add", moved, nodes.constant([1])))
    sheet = Sheet(graph(step, [[1]], None, None, with_constant(64)))
    norm, domain, rate = sheet.block([1]), sheet.nothing(), F(abs(slope[0]), slope[1])
    contracts_ = sheet.contraction(rate, norm, domain)
    converges = sheet.step("convergence", contracts_, start=sheet.all())
    answers: list[Any] = [[1]] * len(states)
    done = sheet.step("run", converges, domain=domain, states=vector(states), answers=answers, final=0)
    sheet.claim(
        done, "run", operator="picard", domain=domain, norm=norm, state=vector(states[-1:]), radius=dyadic(radius),
        answer=[1], final=0, drifts=vector([8] * len(states)), distances=vector([64] * len(states)), answers=answers,
    )  # fmt: skip
    return sheet


@refused(
    "CLAIM", "1 − (7/8)(z − 1) at z = 0: the true distance 1 is no radius that the ball keeps; the residual gives 15"
)
def run_true_distance() -> Sheet:
    return run_sheet([0], 1)


edit("NUMBER", "a final step after the last state", "run_final_beyond", T, steps__4__final=13)
edit(
    "WITNESS",
    "an answer that changes after its final step",
    "run_answer_changes",
    T,
    steps__4__final=1,
    steps__4__answers__4=[0],
)
edit("WITNESS", "no answer at the last state", "run_no_last_answer", T, steps__4__answers__12=None)
edit("BOX", "a run over a box of inputs", "run_over_a_box", T, steps__4__domain=2)
edit("NUMBER", "states that do not come out whole", "run_ragged_states", T, steps__4__states=vector([1, 2, 3]))
edit("NUMBER", "an answer for a state that is not there", "run_answers_missing", T, steps__4__answers=[[1]])


def lowered(name: str, key: str, place: int, why: str) -> None:
    def build() -> Any:
        document, weights = base(T)
        raw = document["predicate"]["claims"][4][key]
        ints = [int(v, 16) for v in raw["int"].split()]
        ints[place] = ints[place] * 3 // 4
        lower = {"exp": raw["exp"], "int": " ".join(format(v, "x") for v in ints)}
        return canonical(changed(document, f"predicate.claims.4.{key}", lower)), weights

    refused("CLAIM", why, name=name)(build)


lowered("run_drift", "drifts", 3, "a drift that is larger than claimed: the trace is not the loop's")
lowered("run_distance", "distances", 5, "a distance that is larger than claimed")
edit("CLAIM", "the run of another state", "run_other_state", T, claims__4__state=vector([0] * 5))


@refused("INCLUSION", "a stored state outside the region: 5 has residual 0 and distance 5")
def run_outside_the_region() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet()
    done = sheet.step("run", converges, domain=domain, states=vector([5]), answers=[[0]], final=0)
    sheet.claim(
        done, "run", operator="picard", domain=domain, norm=norm, state=vector([5]), radius=dyadic(0), answer=[0],
        final=0, drifts=vector([5]), distances=vector([0]), answers=[[0]],
    )  # fmt: skip
    return sheet


@refused("UNSUPPORTED", "a monotone model's residual over m is no distance, and no loop of it can be followed")
def run_of_a_monotone_model() -> Sheet:
    document, weights = base("monotone_relu")
    step = {"rule": "initial_bound", "premises": [1], "domain": 2, "center": vector([0, 0, 0])}
    document = changed(document, "predicate.steps", [*document["predicate"]["steps"], step])
    box = {"space": "input", "lo": vector([0, 0]), "hi": vector([1, 1])}
    document = changed(document, "predicate.boxes", [*document["predicate"]["boxes"], box])
    return canonical(document), weights  # type: ignore[return-value]


# the wrong one for what was wanted


@refused(
    "EXPECTED",
    "a valid proof of z/2 instead of the model that was meant",
    "--expect",
    "exactly_one(domain=all)",
    "--graph",
    "0" * 64,
)
def trivial_graph() -> Sheet:
    document, weights = base("weighted_linf_tanh")
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1, 2)))
    sheet.graph["state"] = [[5]]
    domain = sheet.nothing()
    whole(sheet, F(1, 2), sheet.block([1] * 5), domain)
    statement = sheet.statement()
    statement["predicate"]["unused"] = sorted(["W", "b", "U", "I", "R"])
    statement["subject"] = document["subject"]
    return canonical(statement), weights  # type: ignore[return-value]


@refused("EXPECTED", "a valid proof of at most one fixed point where exactly one was wanted", "--expect", "exactly_one")
def trivial_claim() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    sheet.claim(sheet.step("at_most_one", step), "at_most_one", domain=domain, region=region)
    return sheet
