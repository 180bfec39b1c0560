"""Refusals of contractions over several steps: regions that are left, too few steps, constants too small."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good_several_steps import squares
from tests.corpus.sheet import F, Sheet, dyadic, stored, vector

SQUARE, GROUPS = "three_steps_of_a_square", "several_damped_steps_in_groups"

edit("INEQUALITY", "two steps of which the first expands", "several_steps_too_few", SQUARE, steps__0__steps=2)
edit("INEQUALITY", "a better rate than three steps show", "several_steps_at_another_rate", SQUARE,
     steps__0__rate=dyadic(F(13, 16)))  # fmt: skip
edit("RATE", "no rate at all", "several_steps_rate_0", SQUARE, steps__0__rate=dyadic(0))
edit("RATE", "a rate of 1", "several_steps_rate_1", SQUARE, steps__0__rate=dyadic(1))
edit("NUMBER", "no step", "several_steps_none", SQUARE, steps__0__steps=0)
edit("NUMBER", "more steps than the kernel follows", "several_steps_65", SQUARE, steps__0__steps=65)
edit("INCLUSION", "a region that the step leaves", "several_steps_leave_the_region", SQUARE,
     boxes__1__lo=vector([F(1, 2)]))  # fmt: skip
edit("INCLUSION", "a region that the step leaves upward", "several_steps_leave_the_region_upward", SQUARE,
     boxes__1__hi=vector([F(2)]))  # fmt: skip
edit("CLAIM", "the constant 1 over steps of which the first expands", "several_steps_constant_1", SQUARE,
     claims__0__constant=dyadic(1))  # fmt: skip
edit("CLAIM", "the undamped loop", "several_steps_of_another_loop", GROUPS, claims__0__operator="picard")
edit("OPERATOR", "a damping factor of 0", "several_steps_damped_by_0", GROUPS,
     steps__0__operator={"outer_damped": vector([F(1), F(0), F(1)])})  # fmt: skip
edit("UNSUPPORTED", "a loop that the kernel cannot follow", "several_steps_implicit", SQUARE,
     steps__0__operator="implicit")  # fmt: skip
edit("PREMISE", "a premise that bounds no matrix", "several_steps_of_themselves", SQUARE, steps__1__premises=[0, 0])


def contracting() -> tuple[Sheet, dict[str, Any], int]:
    """The step of z ← z²/2 + x/8 on [0, 5/4], and the fields of a claim about it."""
    sheet = squares({"W": stored([[F(1, 2)]]), "U": stored([[F(1, 8)]])}, 1, [[1]])
    domain, region = sheet.box([F(1, 2)], [F(1)], "input"), sheet.box([F(0)], [F(5, 4)])
    known = {"operator": "picard", "domain": domain, "norm": sheet.block([1]), "rate": dyadic(F(7, 8))}
    return sheet, known, sheet.step("several_steps", region=region, steps=3, **known)


@refused("CLAIM", "exactly one fixed point in a larger region, which holds 1 + √(1 − x/4) too")
def several_steps_one_of_a_larger_region() -> Sheet:
    sheet, known, step = contracting()
    sheet.claim(step, "exactly_one", domain=known["domain"], region=sheet.box([F(0)], [F(4)]))
    return sheet


@refused("CLAIM", "a start outside the region, from which the loop diverges")
def several_steps_from_outside() -> Sheet:
    sheet, known, step = contracting()
    sheet.claim(step, "convergence", **known, constant=dyadic(2), start=sheet.box([F(0)], [F(4)]), epsilon=None,
                steps=None)  # fmt: skip
    return sheet


@refused("INEQUALITY", "z ← z²/2 + 5/8 on [0, 5/4]: 1 ± √(−1/4), no fixed point, and the region is left")
def several_steps_without_a_fixed_point() -> Sheet:
    sheet = squares({"W": stored([[F(1, 2)]]), "U": stored([[F(5, 8)]])}, 1, [[1]])
    domain, region = sheet.box([F(0)], [F(3, 4)], "input"), sheet.box([F(0)], [F(5, 4)])
    step = sheet.step("several_steps", operator="picard", domain=domain, region=region, norm=sheet.block([1]), steps=8,
                      rate=dyadic(F(31, 32)))  # fmt: skip
    sheet.claim(step, "exactly_one", domain=domain, region=region)
    return sheet


@refused("MARGIN", "an answer as far as the fixed point may be, and not (1 + C) times as far, where the orbit may go")
def a_run_over_several_steps() -> Sheet:
    sheet, known, step = contracting()
    point = sheet.point([F(1)])
    run = sheet.step("run", step, domain=point, states=vector([F(41, 256)]), answers=[[1]], final=0)
    sheet.claim(run, "exactly_one", domain=point, region=sheet.box([F(0)], [F(5, 4)]))
    return sheet


@refused("NORM", "a metric norm")
def several_steps_in_a_metric() -> Sheet:
    sheet, known, step = contracting()
    sheet.steps[step]["norm"] = sheet.metric([[F(1)]], F(1))
    sheet.claim(step, "exactly_one", domain=known["domain"], region=sheet.box([F(0)], [F(5, 4)]))
    return sheet
