"""Refusals of R8: invariance, existence, convergence."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.good import local_sheet
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    canonical,
    dyadic,
    graph,
    real,
    vector,
)
from tests.corpus.traps import half_plus, two_fixed_points_sheet

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# R8: invariance, existence, convergence


@refused("PREMISE", "z/2 + 10 contracts on [0, 1] and has no fixed point there")
def contraction_alone() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    sheet.claim(sheet.step("exactly_one", step), "exactly_one", domain=domain, region=region)
    return sheet


@refused("INCLUSION", "z/2 + 10 leaves [0, 1]")
def box_not_invariant() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=domain, region=region)
    return sheet


@refused("INCLUSION", "by radii as well: z/2 + 10 leaves [0, 1]")
def radius_not_invariant() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    stays = sheet.step("invariant_radius", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=domain, region=region)
    return sheet


edit(
    "UNSUPPORTED",
    "no loop is named: an implicit operator has no invariant box",
    "invariant_implicit",
    "answer_of_an_oscillation",
    steps__0__operator="implicit",
    claims__0__operator="implicit",
)


def claimed_on(good: str, claim: int, box: Json) -> Any:
    """A good certificate whose claim speaks of another region."""
    document, weights = base(good)
    boxes = [*document["predicate"]["boxes"], box]
    document = changed(document, "predicate.boxes", boxes)
    return canonical(changed(document, f"predicate.claims.{claim}.region", len(boxes) - 1)), weights


@refused("CLAIM", "z ↦ −z keeps [−3/2, 3/2], and not a smaller box that is not symmetric")
def invariant_smaller_box() -> Any:
    return claimed_on("answer_of_an_oscillation", 0, {"space": "state", "lo": vector([0, 0]), "hi": vector([1, 1])})


@refused("CLAIM", "a local contraction claimed everywhere")
def contraction_larger_region() -> Any:
    return claimed_on("local_ball", 0, {"space": "state", "all": True})


edit(
    "CLAIM",
    "exactly one fixed point in the whole space is not one in every box",
    "exactly_one_smaller_box",
    A,
    claims__1__region=2,
)
edit(
    "UNUSED",
    "an invariant box that the conclusion does not need",
    "box_not_cited",
    "local_cosine",
    steps__2={"rule": "at_most_one", "premises": [0]},
    steps__3={"rule": "at_most_one", "premises": [0]},
    steps__4={"rule": "at_most_one", "premises": [0]},
    claims=[{"step": 4, "claim": "at_most_one", "domain": 0, "region": 1}],
)


def leaving() -> Json:
    """−0.9z + 0.095 − 99.1 relu(−z), in binary fractions: contracts on [0, 1], z* inside, and z = 1 runs away."""
    nodes = Nodes()
    z = nodes.state()
    line = nodes.add("add", nodes.scale(z, -7, 8), nodes.constant([F(3, 32)]))
    return nodes.function(nodes.add("sub", line, nodes.scale(nodes.add("relu", nodes.scale(z, -1)), 99)))


@refused("INCLUSION", "an orbit may leave the region: existence came from a ball, and the start lies outside it")
def start_outside_the_ball() -> Sheet:
    sheet, norm, domain, region, step = local_sheet(leaving(), 0, 1, F(7, 8))
    ball = sheet.step("invariant_ball", step, domain=domain, center=vector([F(13, 256)]), radius=dyadic(F(1, 32)))
    converges = sheet.step("convergence", step, ball, start=region)
    sheet.claim_convergence(converges, region, norm, F(7, 8), domain)
    return sheet


@refused("INCLUSION", "the corner of the box around a disc lies outside the disc")
def start_at_the_corner() -> Sheet:
    document, weights = base("local_ball")
    corner = {"space": "state", "lo": vector([F(-1, 2), F(-1, 2)]), "hi": vector([F(1, 2), F(1, 2)])}
    index = document["predicate"]["steps"][4]["start"]
    return canonical(changed(document, f"predicate.boxes.{index}", corner)), weights  # type: ignore[return-value]


edit(
    "INEQUALITY",
    "a ball that is too small for its residual",
    "ball_too_small",
    "local_ball",
    steps__2__radius=dyadic(F(1, 8)),
)
edit("WITNESS", "a ball of negative radius is empty", "ball_negative", "local_ball", steps__2__radius=dyadic(F(-1, 2)))
edit(
    "INCLUSION",
    "a ball that sticks out of the region",
    "ball_sticks_out",
    "local_ball",
    steps__2__radius=dyadic(F(3, 4)),
)
edit(
    "INCLUSION",
    "a ball about a centre outside the region",
    "ball_elsewhere",
    "local_ball",
    steps__2__center=vector([3, 0]),
)
edit("PREMISE", "a ball without a contraction", "ball_without_contraction", "local_ball", steps__2__premises=[0])


@refused("CONTEXT", "the box is invariant for the damped loop only; Picard from 1 diverges")
def invariance_of_another_operator() -> Sheet:
    nodes = Nodes()
    z = nodes.state()
    kink = nodes.scale(nodes.add("relu", nodes.add("sub", nodes.scale(z, -1), nodes.constant([F(1, 2)]))), 100)
    step = nodes.function(nodes.add("add", nodes.scale(z, -7, 8), kink))
    sheet, norm, domain, region, contracts_ = local_sheet(step, F(-1, 2), 1, F(7, 8))
    stays = sheet.step(
        "invariant_radius",
        operator={"outer_damped": vector([F(1, 2)])},
        domain=domain,
        region=sheet.box([F(-1, 2)], [F(1, 2)]),
    )
    converges = sheet.step("convergence", contracts_, stays, start=region)
    sheet.claim_convergence(converges, region, norm, F(7, 8), domain)
    return sheet


@refused(
    "PREMISE", "relu(1 − 5z) has one fixed point by its log-norm and contracts on [1, 2]; 1, 0, 1, 0, … never settles"
)
def fixed_point_from_elsewhere() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.constant([1]), nodes.scale(nodes.state(), 5))))
    sheet, norm, domain, region, step_ = local_sheet(step, 1, 2, 0)
    one = sheet.step("log_norm", domain=domain, vector=vector([1]))
    converges = sheet.step("convergence", step_, one, start=region)
    sheet.claim_convergence(converges, region, norm, 0, domain)
    return sheet


@refused("CONTEXT", "the contraction holds on fewer inputs than the invariant box")
def contraction_on_fewer_inputs() -> Sheet:
    nodes = Nodes()
    gate = nodes.add("mul", nodes.state(), nodes.add("input"))
    sheet = Sheet(graph(nodes.function(gate), [[1]], real(1)))
    few, many = sheet.box([0], [F(1, 2)], "input"), sheet.box([0], [1], "input")
    region, norm = sheet.box([-1], [1]), sheet.block([1])
    step = sheet.contraction(F(1, 2), norm, few, region)
    stays = sheet.step("invariant_box", operator="picard", domain=many, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=many, region=region)
    return sheet


edit("PREMISE", "uniqueness without a contraction", "at_most_one_alone", A, steps__3__premises=[])
edit("PREMISE", "a bound on the start without convergence", "initial_bound_alone", A, steps__4__premises=[0])
edit("CLAIM", "fewer steps than the bound allows", "too_few_steps", A, claims__4__steps=40)
edit("CLAIM", "a constant below 1", "constant_below_one", A, claims__2__constant=dyadic(F(1, 2)))
edit(
    "CLAIM",
    "an ε without a bound on the start",
    "epsilon_without_bound",
    A,
    claims__2__epsilon=dyadic(F(1, 2)),
    claims__2__steps=60,
)
edit("CLAIM", "an ε without its number of steps", "epsilon_without_steps", A, claims__4__steps=None)
edit(
    "CLAIM",
    "convergence in another norm",
    "convergence_other_norm",
    A,
    norms=[{"kind": "block", "runs": [[4, 1]], "weights": vector([1, 1, 1, w])} for w in (1, 2)],
    claims__2__norm=1,
)


@refused("INCLUSION", "z/2 + (5/8)relu(z − 1): c = 5 has residual 0 and lies outside the region where z* = 0")
def centre_outside_the_region() -> Sheet:
    sheet, _, domain, converges = two_fixed_points_sheet()
    done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector([5]), answer=[0], steps=10)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[0], steps=10)
    return sheet


@refused("INCLUSION", "init lies outside the set from which convergence was proved")
def init_outside_the_start() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet(6)
    done = sheet.step("initial_bound", converges, domain=domain, center=vector([0]))
    sheet.claim_convergence(done, "init", norm, F(1, 2), domain, epsilon=1, steps=20)
    return sheet


@refused("INCLUSION", "the residual at 5 is 0, and 5 is another fixed point")
def bound_about_another_fixed_point() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet()
    done = sheet.step("initial_bound", converges, domain=domain, center=vector([5]))
    sheet.claim_convergence(done, "init", norm, F(1, 2), domain, epsilon=1, steps=20)
    return sheet


@refused("CLAIM", "the damped residual over 1 − ρ of the undamped step: z* = 20, and 2 would be claimed")
def damped_residual() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.constant([10])))
    sheet = Sheet(graph(step, [[1]]))
    norm, domain = sheet.block([1]), sheet.nothing()
    plain = sheet.contraction(F(1, 2), norm, domain)
    damped = sheet.step("damping", plain, alpha=vector([F(1, 8)]))
    converges = sheet.step("convergence", damped, start=sheet.all())
    bounded = sheet.step("initial_bound", converges, domain=domain, center=vector([0]))
    operator: Json = {"outer_damped": vector([F(1, 8)])}
    sheet.claim_convergence(bounded, "init", norm, F(15, 16), domain, operator, epsilon=2, steps=0)
    return sheet
