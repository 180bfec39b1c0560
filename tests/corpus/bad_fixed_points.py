"""Refusals of R6: bounds by weak duality, the trees of R7, and enclosures by continuity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.duals import continued
from tests.corpus.good_fixed_points import SCALE, known, monotone_sheet
from tests.corpus.sheet import F, Json, Nodes, Sheet, canonical, graph, real, vector
from tests.corpus.traps import half_plus, scalar

MONOTONE, CONTINUED, TANH = "monotone_rescaled", "monotone_by_continuity", "continuity_of_a_damped_tanh"
SPLIT, INTEGER, UNITS = "case_split", "integer_input_enclosed", "mixed_units"


def shifted() -> tuple[Sheet, int, int, int]:
    """z + 1 on [0, 1], which has no fixed point: (sheet, domain, region, fixed_points_in)."""
    sheet = Sheet(scalar(lambda n, z: n.add("add", z, n.constant([1]))))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    return sheet, domain, region, sheet.step("fixed_points_in", domain=domain, region=region, scale=None)


# what follows from looking at a region alone


@refused("CLAIM", "every fixed point of z + 1 in [0, 1] lies anywhere one likes; none is there")
def one_of_none() -> Sheet:
    sheet, domain, region, start = shifted()
    known(sheet, start, "one", domain, region, region)
    return sheet


@refused("CLAIM", "at most one fixed point, from a step that only names a region")
def at_most_one_of_a_region() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1)))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    sheet.claim(start, "at_most_one", domain=domain, region=region)
    return sheet


@refused("INCLUSION", "multipliers that leave no room in [0, 1]: z + 1 has no fixed point there, which is a refutation")
def bounds_without_room() -> Sheet:
    sheet, domain, region, start = shifted()
    step = sheet.step(
        "duality",
        start,
        targets=[0],
        signs=[1],
        splits=[-1],
        at=vector([]),
        weights=vector([1]),
        multipliers=vector([5]),
    )
    known(sheet, step, "all", domain, region, sheet.box([5], [6]))
    return sheet


@refused("UNSUPPORTED", "a smooth activation of an unbounded argument: nothing bounds its line")
def region_all_of_a_smooth_step() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.add("tanh", z)))
    domain, everywhere = sheet.nothing(), sheet.all()
    start = sheet.step("fixed_points_in", domain=domain, region=everywhere, scale=None)
    known(sheet, start, "all", domain, everywhere, everywhere)
    return sheet


def bounded_relu(lo: Any, hi: Any, box: tuple[Any, Any], premises: Sequence[int] = (), **fields: Any) -> Sheet:
    """z ← ReLU(1 − 5z) on [lo, hi], whose fixed point is 1/6, with a claim about its box."""
    sheet = Sheet(scalar(lambda n, z: n.add("relu", n.add("sub", n.constant([1]), n.scale(z, 5)))))
    domain, region = sheet.nothing(), sheet.box([lo], [hi])
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    witness: Json = {
        "targets": [1, 1], "signs": [1, -1], "splits": [-1, -1], "at": vector([]), "weights": vector([1, 1]),
        "multipliers": vector([F(1, 8), F(-1, 8)]),
    }  # fmt: skip
    step = sheet.step("duality", start, **witness | fields)
    known(sheet, step, "all", domain, region, sheet.box([box[0]], [box[1]]))
    return sheet


@refused("CLAIM", "a state that is a unit is not what its argument would be without it: 1 − 5z is not 1")
def argument_without_its_state() -> Sheet:
    return bounded_relu(0, 1, (F(1, 2), 1), multipliers=vector([1, -1]))


@refused("CLAIM", "every fixed point in [0, 1/8]: there is none, and all multipliers may bound is the interval itself")
def fixed_points_of_another_region() -> Sheet:
    sheet = bounded_relu(0, F(1, 4), (F(1, 16), F(1, 4)))
    sheet.claims[0]["region"] = sheet.box([0], [1])
    return sheet


@refused("PREMISE", "fixed points of a region stand alone")
def fixed_points_in_with_premise() -> Sheet:
    sheet, domain, region, start = shifted()
    step = sheet.step("fixed_points_in", start, domain=domain, region=region, scale=None)
    known(sheet, step, "all", domain, region, region)
    return sheet


edit("WITNESS", "a kept state is no unit that could be rescaled", "scale_of_a_sum", UNITS,
     steps__0__scale=vector([F(1, 2), 1, 1]))  # fmt: skip

# trees and multipliers

edit(
    "PREMISE", "bounds of the fixed points of a contraction", "duality_of_a_contraction", SPLIT, steps__4__premises=[0]
)
edit("PREMISE", "bounds without a premise", "duality_alone", SPLIT, steps__4__premises=[])
edit("WITNESS", "a side that is neither below nor above", "sign_0", SPLIT, steps__4__signs=[1, -1, 0, -1])
edit("NUMBER", "a sign of 2", "sign_2", SPLIT, steps__4__signs=[1, -1, 2, -1])
edit("WITNESS", "a sign for every target", "signs_missing", SPLIT, steps__4__signs=[1, -1, 1])
edit("NUMBER", "a variable that is not there", "target_beyond", SPLIT, steps__4__targets=[0, 0, 1, 2])
edit(
    "WITNESS",
    "an embedding has no argument to bound",
    "target_without_argument",
    INTEGER,
    steps__4__targets=[2, 4, 5, 5],
)
edit("WITNESS", "a tree without its second child", "tree_missing_child", SPLIT,
     steps__5__splits=[0, -1, 3, -1, 1, 2, -1, -1, 2, -1], steps__5__weights=vector([1, 0, 1, 1, 1]),
     steps__5__multipliers=vector([0] * 20))  # fmt: skip
edit("WITNESS", "a node after the last leaf", "tree_with_a_leaf_too_many", SPLIT,
     steps__5__splits=[0, -1, 3, -1, 1, 2, -1, -1, 2, -1, -1, -1], steps__5__weights=vector([1, 0, 1, 1, 1, 1, 1]),
     steps__5__multipliers=vector([0] * 28))  # fmt: skip
edit("NUMBER", "a cut without its threshold", "threshold_missing", SPLIT,
     steps__5__at=vector([0, F(-1, 8), 0, 0]))  # fmt: skip
edit("NUMBER", "a threshold without its cut", "threshold_too_many", SPLIT,
     steps__5__at=vector([0, F(-1, 8), 0, 0, 0, 0]))  # fmt: skip
edit("WITNESS", "a cut of a variable that is not there", "cut_beyond", SPLIT,
     steps__5__splits=[0, -1, 4, -1, 1, 2, -1, -1, 2, -1, -1])  # fmt: skip
edit("WITNESS", "an embedding has no argument to cut", "cut_without_argument", INTEGER,
     steps__5__splits=[0, -1, -1, -1], steps__5__at=vector([F(1, 2)]), steps__5__weights=vector([1, 1, 1]),
     steps__5__multipliers=vector([0] * 6))  # fmt: skip
edit("NUMBER", "a leaf without its weight", "weight_missing", SPLIT, steps__5__weights=vector([1, 0, 1, 1, 1]))
edit("NUMBER", "a negative weight", "weight_negative", SPLIT, steps__5__weights=vector([-1, 0, 1, 1, 1, 1]))
edit("NUMBER", "multipliers for all leaves but one", "multipliers_missing", SPLIT,
     steps__5__multipliers=vector([0] * 20))  # fmt: skip
edit("INEQUALITY", "a leaf called empty that holds fixed points", "leaf_not_empty", SPLIT,
     steps__5__weights=vector([0, 0, 1, 1, 1, 1]))  # fmt: skip
edit("INEQUALITY", "every leaf called empty", "all_leaves_empty", SPLIT, steps__5__weights=vector([0] * 6))
edit("CLAIM", "weak multipliers prove less", "weak_multipliers", MONOTONE, steps__3__multipliers=vector([0] * 18))


@refused("MARGIN", "a cut at another place: what was bounded is not the half that the multipliers are for")
def cut_elsewhere() -> Any:
    document, weights = base(SPLIT)
    return canonical(changed(document, "predicate.steps.5.at", vector([F(1, 2), F(-1, 8), 0, 0, 0]))), weights


# continuity: a premise with one fixed point for each input, that moves continuously


def moved(**changes: Any) -> Sheet:
    """The monotone model by continuity, with other intervals, box, input or centre."""
    sheet, domain, posed, _ = monotone_sheet()
    given: Json = {
        "box": ([F(1, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 2)]), "input": [0, 0], "center": [F(1, 2), 0, 0],
        "lo": [F(1, 8), F(-1, 2), -3], "hi": [1, F(1, 2), F(1, 4)], "signs": (1, -1),
    } | changes  # fmt: skip
    step = continued(
        sheet, posed, domain, sheet.box(*given["box"]), given["input"], given["center"], given["lo"], given["hi"],
        SCALE, given["signs"],
    )  # fmt: skip
    known(sheet, step, "the", domain, sheet.all(), sheet.box([0] * 3, [1] * 3))
    return sheet


@refused("INCLUSION", "the fixed point at the starting input is not inside the box")
def continuity_from_another_box() -> Sheet:
    return moved(box=([F(5, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 2)]), lo=[F(5, 8), F(-1, 2), -3])


@refused("INCLUSION", "the residual of the centre does not say where the fixed point is")
def continuity_from_a_bad_centre() -> Sheet:
    return moved(center=[F(3, 4), F(1, 4), 0])


@refused("INCLUSION", "the starting input is none of the domain")
def continuity_from_another_input() -> Sheet:
    return moved(input=[F(1, 4), 0])


@refused("INCLUSION", "an argument that may touch the end of its interval can cross it")
def continuity_touches() -> Sheet:
    return moved(hi=[F(17, 32), F(1, 2), F(1, 4)])


@refused("INCLUSION", "an argument that lies outside its interval at the start")
def continuity_of_other_arguments() -> Sheet:
    return moved(lo=[F(1, 8), F(-1, 2), -1])


@refused("INCLUSION", "a unit whose values do not fit in the box of its state")
def continuity_beyond_the_box() -> Sheet:
    return moved(box=([F(1, 8), F(-1, 8), F(-1, 8)], [1, F(1, 2), F(1, 8)]), hi=[1, F(1, 2), F(1, 4)])


@refused("INCLUSION", "bounded from both sides by one row, an argument that may touch the upper end")
def continuity_of_both_touches_above() -> Sheet:
    return moved(hi=[F(17, 32), F(1, 2), F(1, 4)], signs=(0,))


@refused("INCLUSION", "bounded from both sides by one row, an argument that may touch the lower end")
def continuity_of_both_touches_below() -> Sheet:
    return moved(lo=[F(15, 32), F(-1, 2), -3], signs=(0,))


edit("FIELD", "a side by another name", "sign_above", SPLIT, steps__4__signs=[1, -1, "above", -1])
edit("INCLUSION", "one side of one argument was not bounded", "continuity_one_side", CONTINUED,
     steps__1__targets=[3, 3, 4, 4, 5], steps__1__signs=[1, -1, 1, -1, 1], steps__1__splits=[-1] * 5,
     steps__1__weights=vector([1] * 5), steps__1__multipliers=vector([0] * 15))  # fmt: skip
edit("WITNESS", "an inverted interval holds no argument", "continuity_inverted", CONTINUED,
     steps__1__lo=vector([2, F(-1, 2), -3]))  # fmt: skip
edit("NUMBER", "an interval for every unit", "continuity_intervals_missing", CONTINUED, steps__1__lo=vector([0, 0]))
edit("CONTEXT", "a domain beyond the premise's", "continuity_more_inputs", TANH, steps__0__domain=0,
     steps__2__domain=5, claims__0__domain=0)  # fmt: skip
edit("CONTEXT", "all inputs: no bounded domain", "continuity_all_inputs", TANH, steps__2__domain=2)
edit("CONTEXT", "an unbounded region", "continuity_everywhere", TANH, steps__2__region=1)
edit("UNSUPPORTED", "a log-norm model says nothing about distances", "continuity_of_a_log_norm", TANH,
     steps__2__premises=[0])  # fmt: skip
edit("PREMISE", "continuity of nothing", "continuity_alone", TANH, steps__2__premises=[])
edit("PREMISE", "two premises", "continuity_of_two", TANH, steps__2__premises=[0, 1])


@refused("INCLUSION", "z/2 + x goes from −2 to 2 as x goes from −1 to 1, and so reaches the border of [−2, 2]")
def continuity_reaches_the_border() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("input")))
    sheet = Sheet(graph(step, [[1]], real(1)))
    domain, box = sheet.box([-1], [1], "input"), sheet.box([-2], [2])
    contracts = sheet.contraction(F(1, 2), sheet.block([1]), sheet.all("input"))
    converges = sheet.step("convergence", contracts, start=sheet.all())
    known(sheet, continued(sheet, converges, domain, box, [0], [0], [], []), "the", domain, sheet.all(), box)
    return sheet


@refused("PREMISE", "at most one fixed point need not be one: z/2 + 10 has none in [0, 1]")
def continuity_of_at_most_one() -> Sheet:
    sheet, _, domain, region, contracts = half_plus(10)
    one = sheet.step("at_most_one", contracts)
    step = sheet.step(
        "by_continuity", one, domain=domain, region=region, scale=None, input=vector([]), center=vector([0]),
        lo=vector([]), hi=vector([]), targets=[0, 0], signs=[1, -1], splits=[-1, -1], at=vector([]),
        weights=vector([1, 1]),
        multipliers=vector([1, -1]),
    )  # fmt: skip
    known(sheet, step, "the", domain, region, region)
    return sheet


@refused("CONTEXT", "integers are not connected: from 0 to 1 the fixed point jumps over the boundary")
def continuity_over_integers() -> Sheet:
    nodes = Nodes()
    table = nodes.add("embedding", nodes.add("input"), nodes.constant([[0], [8]]))
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("reshape", table, shape=[1])))
    sheet = Sheet(graph(step, [[1]], {"shape": [1], "kind": "integer", "size": 2}))
    norm, domain = sheet.block([1]), sheet.all("input")
    converges = sheet.step("convergence", sheet.contraction(F(1, 2), norm, domain), start=sheet.all())
    box = sheet.box([-1], [1])
    step_ = sheet.step(
        "by_continuity", converges, domain=domain, region=box, scale=None, input=vector([0]), center=vector([0]),
        lo=vector([0]), hi=vector([8]), targets=[0, 0], signs=[1, -1], splits=[-1, -1], at=vector([]),
        weights=vector([1, 1]),
        multipliers=vector([1, -1]),
    )  # fmt: skip
    known(sheet, step_, "the", domain, sheet.all(), box)
    return sheet


@refused("INCLUSION", "a region that sticks out of the local contraction's")
def continuity_beyond_the_contraction() -> Any:
    document, _ = base("local_contraction_located")
    model = document["predicate"]["graph"]
    sheet = Sheet(model)
    domain, norm = sheet.box([F(-1, 8)], [F(1, 8)], "input"), sheet.block([1])
    region, wide = sheet.box([F(-1, 2)], [F(1, 2)]), sheet.box([-1], [F(1, 4)])
    contracts = sheet.contraction(F(1, 2), norm, domain, region)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    converges = sheet.step("convergence", contracts, stays, start=region)
    step = continued(sheet, converges, domain, wide, [0], [0], [0], [0])
    known(sheet, step, "the", domain, region, sheet.box([-1], [1]))
    return sheet


@refused("INCLUSION", "the centre lies outside the region where the residual means something")
def continuity_centre_outside() -> Any:
    document, _ = base("local_contraction_located")
    sheet = Sheet(document["predicate"]["graph"])
    domain, norm = sheet.box([F(-1, 8)], [F(1, 8)], "input"), sheet.block([1])
    region, inner = sheet.box([F(-1, 2)], [F(1, 2)]), sheet.box([F(-1, 4)], [F(1, 4)])
    contracts = sheet.contraction(F(1, 2), norm, domain, region)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    converges = sheet.step("convergence", contracts, stays, start=region)
    step = continued(sheet, converges, domain, inner, [0], [2], [0], [0])
    known(sheet, step, "the", domain, region, inner)
    return sheet
