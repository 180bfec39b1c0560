"""Refusals of R7 and R9 at fixed points: answers there, answers of loops, domains joined."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.bad_enclosures import tested, three_fixed_points
from tests.corpus.bad_fixed_points import shifted
from tests.corpus.duals import answered, enclosing, tightened
from tests.corpus.good import with_constant
from tests.corpus.good_fixed_points import PICARD, scalar_relu
from tests.corpus.sheet import F, Json, Nodes, Sheet, canonical, dyadic, graph, real, stored, vector
from tests.corpus.traps import scalar, two_fixed_points

SIXTH, TANH, SPLIT, HALVES = "fixed_point_one_sixth", "continuity_of_a_damped_tanh", "case_split", "joined_halves"
MONOTONE, BISTABLE = "monotone_rescaled", "two_fixed_points_of_tanh"


def leaf(count: int = 1, width: int = 1) -> Json:
    """A witness of so many whole functionals with zero multipliers."""
    return {
        "splits": [-1] * count, "at": vector([]), "weights": vector([1] * count),
        "multipliers": vector([0] * (count * width)),
    }  # fmt: skip


# answers at fixed points


@refused("PREMISE", "all fixed points of z + 1 in [0, 1] answer everything: there is none")
def answer_where_nothing_is_fixed() -> Sheet:
    sheet, domain, region, start = shifted()
    sheet.graph["readout"] = with_constant(2)
    done = sheet.step("fixed_point_answer", start, answer=[0], **leaf() | {"multipliers": vector([3])})
    sheet.claim(done, "fixed_point_answer", domain=domain, region=region, answer=[0])
    return sheet


def half(readout: Json) -> tuple[Sheet, int, int, int]:
    """z ← z/2 with the fixed point 0 in a box: (sheet, domain, region, enclosure)."""
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1, 2)))
    sheet.graph["readout"] = readout
    domain, region = sheet.nothing(), sheet.box([-1], [1])
    return sheet, domain, region, enclosing(sheet, domain, region, unique=True)


@refused("MARGIN", "a tie at the fixed point is no answer: both logits are 0")
def fixed_point_tie() -> Sheet:
    sheet, domain, region, near = half(with_constant(0))
    done = sheet.step("fixed_point_answer", near, answer=[0], **leaf() | {"multipliers": vector([2])})
    sheet.claim(done, "fixed_point_answer", domain=domain, region=region, answer=[0])
    return sheet


@refused("SHAPE", "one class: there is no competitor")
def fixed_point_one_class() -> Sheet:
    nodes = Nodes()
    sheet, domain, region, near = half(nodes.function(nodes.scale(nodes.state(), 1)))
    done = sheet.step("fixed_point_answer", near, answer=[0], **leaf())
    sheet.claim(done, "fixed_point_answer", domain=domain, region=region, answer=[0])
    return sheet


@refused("MARGIN", "three fixed points in the region, and only one of them answers so")
def answer_of_one_of_three() -> Sheet:
    sheet = tested(three_fixed_points(with_constant(F(5, 8))), F(1, 8), F(7, 8), [0], 1)
    done = sheet.step("fixed_point_answer", 0, answer=[0], **leaf() | {"multipliers": vector([1])})
    sheet.claim(done, "fixed_point_answer", domain=0, region=1, answer=[0])
    return sheet


edit("MARGIN", "another answer than that of the fixed point", "fixed_point_wrong_answer", MONOTONE,
     steps__4__answer=[1], claims__3__answer=[1])  # fmt: skip
edit("MARGIN", "without cuts the bounds do not reach", "fixed_point_answer_uncut", SPLIT,
     **{f"steps__5__{k}": v for k, v in leaf(1, 4).items()})  # fmt: skip
edit(
    "MARGIN",
    "multipliers that fit nothing",
    "fixed_point_wild_multipliers",
    SIXTH,
    steps__3__multipliers=vector([-100]),
)
edit("UNSUPPORTED", "an answer of a model without readout", "fixed_point_answer_without_readout", MONOTONE,
     graph__readout=None, unused=["R"])  # fmt: skip
edit("SHAPE", "two labels for one position", "fixed_point_two_labels", MONOTONE, steps__4__answer=[0, 0])
edit("NUMBER", "a label beyond the classes", "fixed_point_label_2", MONOTONE, steps__4__answer=[2])
edit("NUMBER", "a tree for each competitor", "fixed_point_tree_missing", TANH, steps__4__splits=[-1])
edit("PREMISE", "an answer at the fixed points of a model, not of a step about them", "fixed_point_answer_of_a_model",
     SIXTH, steps__3__premises=[0])  # fmt: skip
edit("CLAIM", "the answer of another region's fixed points", "fixed_point_answer_everywhere", BISTABLE,
     boxes__6={"space": "state", "all": True}, claims__3__region=6)  # fmt: skip
edit("CLAIM", "the answer in part of the region, where no fixed point need be", "fixed_point_answer_in_a_part", SIXTH,
     claims__6__region=5)  # fmt: skip
edit(
    "CLAIM",
    "the answer for more inputs",
    "fixed_point_answer_more_inputs",
    BISTABLE,
    claims__3__domain=5,
)
edit("CLAIM", "another answer than the one that was shown", "fixed_point_answer_claimed", SIXTH, claims__6__answer=[1])
edit("CLAIM", "ReLU(1 − 5z) answers 0 at its fixed point, and its loop 1, 0, 1, 0, …", "loop_answer_from_fixed_point",
     SIXTH, claims__6={
         "step": 3, "claim": "answer", "operator": "picard", "domain": 0, "answer": [0], "steps": 1000,
     })  # fmt: skip
edit("CLAIM", "nor is it the answer of an implicit loop", "implicit_answer_from_fixed_point", SIXTH, claims__6={
    "step": 3, "claim": "answer", "operator": "implicit", "domain": 0, "answer": [0], "steps": 1000,
})  # fmt: skip


# the loop's answer by that of its fixed point


@refused("PREMISE", "ReLU(1 − 5z) is well posed, and its loop does not converge: 1, 0, 1, 0, …")
def loop_answer_without_convergence() -> Sheet:
    sheet = scalar_relu(with_constant(F(1, 8)))
    domain, everywhere = sheet.nothing(), sheet.all()
    posed = sheet.step("log_norm", domain=domain, vector=vector([1]))
    only = sheet.step("located", posed, enclosing(sheet, domain, sheet.box([F(1, 8)], [F(3, 16)])))
    done = answered(sheet, only, [0], domain, everywhere)
    loop = sheet.step("answer_by_fixed_point", posed, done, steps=1000)
    sheet.claim(loop, "answer", operator=PICARD, domain=domain, answer=[0], steps=1000)
    return sheet


@refused("CLAIM", "ReLU(1 − 5z) converges when it is damped by an eighth; the loop that is claimed is not damped")
def loop_answer_of_another_operator() -> Sheet:
    sheet = scalar_relu(with_constant(F(1, 8)))
    domain, everywhere = sheet.nothing(), sheet.all()
    posed = sheet.step("log_norm", domain=domain, vector=vector([1]))
    converges = sheet.step("log_norm_convergence", posed, alpha=vector([F(1, 8)]), rate=dyadic(F(7, 8)))
    only = sheet.step("located", posed, enclosing(sheet, domain, sheet.box([F(1, 8)], [F(3, 16)])))
    done = answered(sheet, only, [0], domain, everywhere)
    loop = sheet.step("answer_by_fixed_point", converges, done, steps=40)
    sheet.claim(loop, "answer", operator=PICARD, domain=domain, answer=[0], steps=40)
    return sheet


@refused("INCLUSION", "the loop converges to 0, and the fixed point that answers is 5")
def loop_answer_of_another_fixed_point() -> Sheet:
    sheet = Sheet(graph(two_fixed_points(), [[1]], None, None, with_constant(2)))
    norm, domain, inner = sheet.block([1]), sheet.nothing(), sheet.box([-1], [1])
    contracts = sheet.contraction(F(1, 2), norm, domain, inner)
    stays = sheet.step("invariant_box", operator=PICARD, domain=domain, region=inner)
    converges = sheet.step("convergence", contracts, stays, start=inner)
    around = sheet.box([4], [6])
    done = answered(sheet, enclosing(sheet, domain, around, unique=True), [0], domain, around)
    loop = sheet.step("answer_by_fixed_point", converges, done, steps=10)
    sheet.claim(loop, "answer", operator=PICARD, domain=domain, answer=[0], steps=10)
    return sheet


@refused("INCLUSION", "init lies outside the set from which the loop converges")
def loop_answer_from_outside() -> Sheet:
    init = Nodes()
    sheet = Sheet(graph(two_fixed_points(), [[1]], None, init.function(init.constant([6])), with_constant(2)))
    norm, domain, inner = sheet.block([1]), sheet.nothing(), sheet.box([-1], [1])
    contracts = sheet.contraction(F(1, 2), norm, domain, inner)
    stays = sheet.step("invariant_box", operator=PICARD, domain=domain, region=inner)
    converges = sheet.step("convergence", contracts, stays, start=inner)
    only = sheet.step("located", converges, enclosing(sheet, domain, inner))
    known_ = tightened(sheet, only, [(0, 1), (0, -1)])
    done = answered(sheet, known_, [1], domain, inner)
    loop = sheet.step("answer_by_fixed_point", converges, done, steps=10)
    sheet.claim(loop, "answer", operator=PICARD, domain=domain, answer=[1], steps=10)
    return sheet


edit(
    "MARGIN",
    "too few steps for the loop to be near",
    "loop_answer_too_early",
    TANH,
    steps__5__steps=0,
    claims__3__steps=0,
)
edit("CLAIM", "fewer steps than were shown", "loop_answer_claimed_early", TANH, claims__3__steps=7)
edit("NUMBER", "a negative number of steps", "loop_answer_negative", TANH, steps__5__steps=-1)
edit("PREMISE", "a loop without a fixed point that answers", "loop_answer_alone", TANH, steps__5__premises=[1])
edit("PREMISE", "the convergence comes first", "loop_answer_swapped", TANH, steps__5__premises=[4, 1])
edit("INCLUSION", "joined answers say nothing about where the fixed points are", "loop_answer_of_joined", HALVES,
     steps__13={"rule": "answer_by_fixed_point", "premises": [1, 12], "steps": 12})  # fmt: skip


@refused("CONTEXT", "the loop converges for fewer inputs than the fixed point answers")
def loop_answer_on_more_inputs() -> Sheet:
    nodes = Nodes()
    moved = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("input"))
    sheet = Sheet(graph(nodes.function(moved), [[1]], real(1), None, with_constant(8)))
    few, many, everywhere, norm = (
        sheet.box([0], [1], "input"),
        sheet.box([0], [2], "input"),
        sheet.all(),
        sheet.block([1]),
    )
    short, long = (sheet.contraction(F(1, 2), norm, domain) for domain in (few, many))
    only = sheet.step("located", sheet.step("exactly_one", long), enclosing(sheet, many, sheet.box([-4], [8])))
    done = answered(sheet, only, [1], many, everywhere)
    loop = sheet.step("answer_by_fixed_point", sheet.step("convergence", short, start=everywhere), done, steps=9)
    sheet.claim(loop, "answer", operator=PICARD, domain=many, answer=[1], steps=9)
    return sheet


@refused("UNSUPPORTED", "a softmax readout has no slope that the rule knows")
def loop_answer_through_softmax() -> Sheet:
    nodes = Nodes()
    both = nodes.add("concat", nodes.state(), nodes.constant([F(1, 2)]), axis=0)
    sheet, domain, region, near = half(nodes.function(nodes.add("softmax", both)))
    converges = sheet.step("convergence", sheet.contraction(F(1, 2), sheet.block([1]), domain), start=sheet.all())
    only = sheet.step("located", converges, near)
    done = answered(sheet, only, [1], domain, sheet.all())
    loop = sheet.step("answer_by_fixed_point", converges, done, steps=10)
    sheet.claim(loop, "answer", operator=PICARD, domain=domain, answer=[1], steps=10)
    return sheet


# domains joined


def halves(*boxes: tuple[list[Any], list[Any]], steps: tuple[int, int] = (9, 9), damped: bool = False) -> Sheet:
    """z/2 + x₀ − x₁ for x in two boxes, its loop's answers joined and claimed for [0, 1]²; the second loop `damped`."""
    nodes, readout = Nodes(), Nodes()
    moved = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.linear(nodes.add("input"), "U"))
    logits = readout.add("concat", readout.state(), readout.constant([F(-8)]), axis=0)
    model = graph(nodes.function(moved), [[1]], real(2), None, readout.function(logits))
    sheet = Sheet(model, {"U": stored([[1, -1]])})
    everywhere = sheet.all()
    contracts = sheet.contraction(F(1, 2), sheet.block([1]), sheet.all("input"))
    loops = [sheet.step("convergence", contracts, start=everywhere)]
    if damped:
        slower = sheet.step("damping", contracts, alpha=vector([F(1, 2)]))
        loops.append(sheet.step("convergence", slower, start=everywhere))
    found = []
    for (lo, hi), count, loop in zip(boxes, steps, (loops[0], loops[-1]), strict=True):
        domain = sheet.box(lo, hi, "input")
        only = sheet.step("located", loop, enclosing(sheet, domain, sheet.box([-4], [4])))
        done = answered(sheet, only, [0], domain, everywhere)
        found.append(sheet.step("answer_by_fixed_point", loop, done, steps=count))
    joined_ = sheet.step("joined_domains", *found)
    domain = sheet.box([0, 0], [1, 1], "input")
    sheet.claim(joined_, "answer", operator=PICARD, domain=domain, answer=[0], steps=min(steps))
    return sheet


@refused("INCLUSION", "a gap between the boxes")
def joined_with_a_gap() -> Sheet:
    return halves(([0, 0], [F(1, 4), 1]), ([F(1, 2), 0], [1, 1]))


@refused("INCLUSION", "two corners of a square do not make the square")
def joined_corners() -> Sheet:
    return halves(([0, 0], [F(1, 2), F(1, 2)]), ([F(1, 2), F(1, 2)], [1, 1]))


@refused("CLAIM", "the union of the boxes, and no more")
def joined_claimed_larger() -> Sheet:
    return halves(([0, 0], [F(1, 2), 1]), ([F(1, 2), 0], [F(3, 4), 1]))


@refused("CLAIM", "the slower of the two loops counts")
def joined_steps_of_the_faster() -> Sheet:
    return halves(([0, 0], [F(1, 2), 1]), ([F(1, 2), 0], [1, 1]), steps=(9, 10))


def joined_edit(code: str, why: str, name: str, **steps: Json) -> None:
    """`joined_halves` with other steps, and its last claims without them."""

    def build() -> Any:
        document, weights = base(HALVES)
        for place, step in steps.items():
            document = changed(document, f"predicate.steps.{place.removeprefix('at_')}", step)
        return canonical(document), weights

    refused(code, why, name=name)(build)


def joined(*premises: int) -> Json:
    return {"rule": "joined_domains", "premises": list(premises)}


joined_edit("PREMISE", "statements of two kinds", "joined_kinds", at_12=joined(5, 11))
joined_edit("PREMISE", "one statement alone", "joined_alone", at_12=joined(5))
joined_edit("PREMISE", "contractions are no answers", "joined_contractions", at_12=joined(0, 0))
joined_edit("PREMISE", "enclosures would need a hull", "joined_enclosures", at_12=joined(4, 9))


@refused("CONTEXT", "the answers of two loops, one of them damped")
def joined_operators_differ() -> Sheet:
    return halves(([0, 0], [F(1, 2), 1]), ([F(1, 2), 0], [1, 1]), steps=(9, 40), damped=True)


@refused("CONTEXT", "fixed points of two regions")
def joined_regions_differ() -> Sheet:
    document, _ = base(BISTABLE)
    sheet = Sheet(document["predicate"]["graph"])
    found = []
    for lo, hi, region in ((F(-1, 4), F(0), (F(3, 4), F(9, 8))), (F(0), F(1, 4), (F(3, 4), F(5, 4)))):
        domain, around = sheet.box([lo], [hi], "input"), sheet.box([region[0]], [region[1]])
        found.append(answered(sheet, enclosing(sheet, domain, around), [0], domain, around))
    both = sheet.step("joined_domains", *found)
    sheet.claim(both, "fixed_point_answer", domain=0, region=1, answer=[0])
    return sheet


@refused("BOX", "a union with all inputs")
def joined_unbounded() -> Sheet:
    nodes = Nodes()
    moved = nodes.add("add", nodes.state(), nodes.add("tanh", nodes.add("input")))
    sheet = Sheet(graph(nodes.function(nodes.scale(moved, 1, 4)), [[1]], real(1), None, with_constant(3)))
    domain, region = sheet.all("input"), sheet.box([-2], [2])
    stays = sheet.step("invariant_box", operator=PICARD, domain=domain, region=region)
    done = [sheet.step("answer_by_invariance", stays, domain=domain, answer=[1], steps=k) for k in range(2)]
    both = sheet.step("joined_domains", *done)
    sheet.claim(both, "answer", operator=PICARD, domain=domain, answer=[1], steps=1)
    return sheet


@refused("PREMISE", "an answer at one depth is none at every later one")
def joined_answers_at_a_depth() -> Sheet:
    nodes = Nodes()
    moved = nodes.add("sub", nodes.add("input"), nodes.state())
    sheet = Sheet(graph(nodes.function(moved), [[1]], real(1), None, with_constant(F(1, 2))))
    domain = sheet.point([1])
    done = [sheet.step("answer_at", operator=PICARD, domain=domain, answer=[0], steps=k) for k in (1, 3)]
    both = sheet.step("joined_domains", *done)
    sheet.claim(both, "answer", operator=PICARD, domain=domain, answer=[0], steps=3)
    return sheet
