"""Refusals of loops that are said to run away: those that do not, cones that are left, inverses that are none."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good_divergence import cone, runs_away
from tests.corpus.sheet import F, Json, Nodes, Sheet, dyadic, graph, stored, vector

HINGES, RAYS = "a_growing_pair_of_hinges", "a_growing_oscillation"

edit("INCLUSION", "a start that does not get far enough out", "divergence_from_near", HINGES,
     steps__0__least=dyadic(F(1 << 20)))  # fmt: skip
edit("INCLUSION", "a start beside the cone", "divergence_from_beside", HINGES, steps__0__steps=0,
     boxes__1__hi=vector([F(41), F(60), F(1)]))  # fmt: skip
edit("WITNESS", "a cone down to the origin", "divergence_from_the_origin", RAYS, steps__0__least=dyadic(0))
edit("WITNESS", "no cone", "divergence_without_a_cone", RAYS, steps__0__cones=[])
edit("WITNESS", "nine cones", "divergence_along_nine_cones", RAYS, steps__0__cones=[cone([[F(1)]], [[F(1)]], [])] * 9)
edit("INCLUSION", "one ray, which the loop leaves at once", "divergence_along_one_ray", RAYS,
     steps__0__cones=[cone([[F(1)]], [[F(1)]], [])])  # fmt: skip
edit("INEQUALITY", "a matrix that has no inverse", "divergence_along_nothing", RAYS,
     steps__0__cones=[cone([[F(0)]], [[F(1)]], []), cone([[F(-1)]], [[F(-1)]], [])])  # fmt: skip
edit("INEQUALITY", "an inverse with the wrong sign", "divergence_with_another_inverse", RAYS,
     steps__0__cones=[cone([[F(1)]], [[F(-1)]], []), cone([[F(-1)]], [[F(-1)]], [])])  # fmt: skip
edit("NUMBER", "a radius too few", "divergence_of_a_flat_cone", HINGES, steps__0__cones__0__radii=vector([F(1, 4)]))
edit("WITNESS", "a negative radius", "divergence_of_a_negative_radius", HINGES,
     steps__0__cones__0__radii=vector([F(-1, 4), F(1, 8)]))  # fmt: skip
edit("INEQUALITY", "a cone in which a unit has either sign", "divergence_across_a_bend", HINGES,
     steps__0__cones__0__radii=vector([F(1, 4), F(4)]))  # fmt: skip
edit("INCLUSION", "a cone narrower than what shakes its images", "divergence_of_a_thin_cone", HINGES,
     steps__0__cones__0__radii=vector([F(1, 1 << 12), F(1, 8)]))  # fmt: skip
edit("CLAIM", "the loop without damping", "divergence_of_another_loop", RAYS, claims__0__operator="picard")
edit("CLAIM", "another claim: there is one fixed point all the same", "divergence_against_uniqueness", RAYS,
     claims__0__of="exactly_one", claims__0__operator=None)  # fmt: skip
edit("UNSUPPORTED", "a loop that the kernel cannot follow", "divergence_implicit", RAYS, steps__0__operator="implicit")
edit("PREMISE", "a premise", "divergence_with_a_premise", RAYS, steps__0__premises=[0])


def alone(slope: Any, offset: Any = 0, op: str | None = None, least: Any = 1, start: Any = 4) -> Sheet:
    """z ← φ(slope·z + offset) along the ray through 1."""
    nodes = Nodes()
    slope = F(slope)
    out = nodes.add("add", nodes.scale(nodes.state(), slope.numerator, slope.denominator), nodes.constant([F(offset)]))
    sheet = Sheet(graph(nodes.function(out if op is None else nodes.add(op, out)), [[1]]))
    runs_away(sheet, sheet.box([F(start)], [F(start)]), 0, F(least), [cone([[F(1)]], [[F(1)]], [])])
    return sheet


@refused("INEQUALITY", "the identity stays where it is")
def divergence_of_the_identity() -> Sheet:
    return alone(1)


@refused("INEQUALITY", "z + 1 runs away, but not by a factor")
def divergence_of_a_shift() -> Sheet:
    return alone(1, 1)


@refused("INEQUALITY", "2z − 1 keeps 1 where it is")
def divergence_from_a_fixed_point() -> Sheet:
    return alone(2, -1, start=1)


@refused("INEQUALITY", "relu(2z − 8) at 4: the argument is negative near the tip of the ray")
def divergence_of_a_hinge_too_near() -> Sheet:
    return alone(2, -8, "relu")


@refused("INCLUSION", "tanh(4z) is bounded")
def divergence_of_a_bounded_step() -> Sheet:
    return alone(4, 0, "tanh")


@refused("UNSUPPORTED", "silu(4z) runs away, but is neither linear nor bounded")
def divergence_of_a_smooth_step() -> Sheet:
    return alone(4, 0, "silu")


@refused("BOX", "every start")
def divergence_from_everywhere() -> Sheet:
    sheet = alone(2)
    sheet.steps[0]["start"] = sheet.all()
    return sheet


@refused("INCLUSION", "a rotation by 45° that grows has no axis")
def divergence_of_a_spiral() -> Sheet:
    nodes = Nodes()
    sheet = Sheet(graph(nodes.function(nodes.linear(nodes.state(), "W")), [[2]]),
                  {"W": stored([[F(1), F(-1)], [F(1), F(1)]])})  # fmt: skip
    ray: Json = cone([[F(1), F(0)], [F(0), F(1)]], [[F(1), F(0)], [F(0), F(1)]], [F(1, 2)])
    runs_away(sheet, sheet.box([F(4), F(0)], [F(4), F(0)]), 0, F(1), [ray])
    return sheet
