"""Refusals of R5: existence by a box test, uniqueness, and one fixed point from two statements."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.duals import enclosing
from tests.corpus.good import local_sheet, with_constant
from tests.corpus.good_fixed_points import known, scalar_relu
from tests.corpus.sheet import F, Json, Nodes, Sheet, canonical, dyadic, graph, vector
from tests.corpus.traps import scalar, two_fixed_points

SIXTH, MONOTONE, LOCAL = "fixed_point_one_sixth", "monotone_rescaled", "local_contraction_located"
TANH, UNITS = "two_fixed_points_of_tanh", "mixed_units"


def three_fixed_points(readout: Json | None = None) -> Json:
    """clamp(1/2 + 3(z − 1/2), 1/4, 3/4): 1/4, 1/2 and 3/4 are fixed."""
    nodes = Nodes()
    line = nodes.add("sub", nodes.scale(nodes.state(), 3), nodes.constant([1]))
    return graph(nodes.function(nodes.clamp(line, F(1, 4), F(3, 4))), [[1]], None, None, readout)


def tested(model: Json, lo: Any, hi: Any, slopes: Any, matrix: Any, unique: bool = False, scale: Any = None) -> Sheet:
    """A model without input and one `enclosure` step on [lo, hi]: step 0."""
    sheet = Sheet(model)
    sheet.step(
        "enclosure", domain=sheet.nothing(), region=sheet.box([lo], [hi]), slopes=vector(slopes), unique=unique,
        matrix=vector([matrix]), scale=None if scale is None else vector([scale]),
    )  # fmt: skip
    return sheet


def claimed(sheet: Sheet, name: str, step: int = 0, region: int = 1, box: int | None = None) -> Sheet:
    fields = {} if box is None else {"box": box}
    sheet.claim(step, name, domain=0, region=region, **fields)
    return sheet


# the image of the box lies strictly inside


@refused("INCLUSION", "Y = 0 maps every box onto itself: z + 1 has no fixed point, and ≤ instead of < would pass")
def enclosure_without_preconditioner() -> Sheet:
    sheet = tested(scalar(lambda n, z: n.add("add", z, n.constant([1]))), 0, 1, [], 0)
    return claimed(sheet, "encloses_one", box=1)


@refused("INCLUSION", "f(z) = z: every point is fixed, and no Y moves the box inward")
def enclosure_of_the_identity() -> Sheet:
    sheet = tested(scalar(lambda n, z: n.scale(z, 1)), 0, 1, [], F(1, 2))
    return claimed(sheet, "encloses_the", box=1)


@refused("INCLUSION", "(z + 1)/2 on [0, 1]: the image [1/2, 1] touches the border")
def enclosure_touches_the_border() -> Sheet:
    half = scalar(lambda n, z: n.scale(n.add("add", z, n.constant([1])), 1, 2))
    return claimed(tested(half, 0, 1, [], 1), "encloses_one", box=1)


@refused("INCLUSION", "z/2 + 10 on [0, 1]: a contraction whose fixed point 20 lies elsewhere")
def enclosure_elsewhere() -> Sheet:
    moved = scalar(lambda n, z: n.add("add", n.scale(z, 1, 2), n.constant([10])))
    return claimed(tested(moved, 0, 1, [], 2, unique=True), "exactly_one")


edit("INCLUSION", "a slope that is not that of the box", "enclosure_wrong_slope", SIXTH, steps__1__slopes=vector([0]))
edit(
    "INCLUSION",
    "a preconditioner of the wrong sign",
    "enclosure_wrong_sign",
    SIXTH,
    steps__1__matrix=vector([F(-1, 8)]),
)
edit(
    "INCLUSION",
    "without rescaling, the monotone model's box does not map into itself",
    "enclosure_not_rescaled",
    MONOTONE,
    steps__1__scale=None,
)
edit(
    "UNSUPPORTED",
    "unbounded inputs give unbounded arguments",
    "enclosure_of_all_inputs",
    MONOTONE,
    steps__1__domain=1,
)
edit("BOX", "the box test needs a bounded region", "enclosure_everywhere", SIXTH, steps__1__region=1)
edit("BOX", "a region of inputs", "enclosure_of_inputs", MONOTONE, steps__1__region=0)
edit("BOX", "unique is true or false, not 1", "enclosure_unique_1", SIXTH, steps__1__unique=1)
edit("NUMBER", "a slope for every unit", "enclosure_no_slopes", SIXTH, steps__1__slopes=vector([]))
edit("NUMBER", "a square matrix", "enclosure_ragged_matrix", SIXTH, steps__1__matrix=vector([F(1, 8)] * 2))
edit("PREMISE", "the box test stands alone", "enclosure_with_premise", SIXTH, steps__1__premises=[0])


# existence is not uniqueness


@refused("INEQUALITY", "chords prove existence only: clamp(1/2 + 3(z − 1/2), 1/4, 3/4) has three fixed points")
def unique_of_three() -> Sheet:
    sheet = tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1, unique=True)
    return claimed(sheet, "exactly_one")


@refused("CLAIM", "exactly one fixed point from a test that shows one at least: there are three")
def exactly_one_from_existence() -> Sheet:
    return claimed(tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1), "exactly_one")


@refused("CLAIM", "at most one fixed point from the same test")
def at_most_one_from_existence() -> Sheet:
    return claimed(tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1), "at_most_one")


@refused("CLAIM", "the only one, from existence alone")
def the_one_from_existence() -> Sheet:
    return claimed(tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1), "encloses_the", box=1)


@refused("INEQUALITY", "tanh(2z) is steeper than 1 about 0, whatever the test's own slope")
def unique_with_a_smooth_bend() -> Sheet:
    bent = scalar(lambda n, z: n.add("tanh", n.scale(z, 2)))
    return claimed(tested(bent, -2, 2, [F(1, 4)], 1, unique=True), "exactly_one")


@refused("INEQUALITY", "ReLU(z) − 1/4 with the chord 1/2: two points of [−1, 1] may keep their distance exactly")
def unique_at_the_border() -> Sheet:
    bent = scalar(lambda n, z: n.add("sub", n.add("relu", z), n.constant([F(1, 4)])))
    return claimed(tested(bent, -1, 1, [F(1, 2)], 1, unique=True), "exactly_one")


edit(
    "UNSUPPORTED",
    "a product has no slope: uniqueness by this test is for activations only",
    "unique_with_a_product",
    LOCAL,
    steps__3__unique=True,
)


# rescaling


@refused("WITNESS", "α = −1 drops the fixed point 0 of ReLU(2z − 1)")
def scale_negative() -> Sheet:
    bent = scalar(lambda n, z: n.add("relu", n.add("sub", n.scale(z, 2), n.constant([1]))))
    sheet = tested(bent, F(-1, 2), 2, [1], F(-1, 2), unique=True, scale=-1)
    return claimed(sheet, "exactly_one")


@refused("WITNESS", "α = 0 makes every state a fixed point of ReLU(z)")
def scale_zero() -> Sheet:
    return claimed(tested(scalar(lambda n, z: n.add("relu", z)), 0, 1, [1], 1, scale=0), "encloses_one", box=1)


@refused("WITNESS", "leaky ReLU is no projection: z = φ(a) is not z = φ(z + α(a − z))")
def scale_of_a_leaky_relu() -> Sheet:
    def build(n: Nodes, z: int) -> int:
        moved = n.add("sub", n.constant([-1]), n.scale(z, 3))
        return n.add("leaky_relu", moved, slope=dyadic(F(1, 2)))

    sheet = tested(scalar(build), -1, 1, [F(1, 2)], 1, scale=F(1, 4))
    return claimed(sheet, "encloses_one", box=1)


@refused("WITNESS", "a ReLU that is not the state itself cannot be rescaled: here the state is twice the ReLU")
def scale_of_an_inner_unit() -> Sheet:
    twice = scalar(lambda n, z: n.scale(n.add("relu", n.add("sub", n.constant([1]), z)), 2))
    return claimed(tested(twice, 0, 2, [1], F(1, 4), scale=F(1, 2)), "encloses_one", box=1)


edit("NUMBER", "one scale for three states", "scale_too_short", MONOTONE, steps__1__scale=vector([F(1, 4)]))


# located: where there is at most one, and where there is one

edit("PREMISE", "one statement cannot locate", "located_alone", SIXTH, steps__2__premises=[1])
edit("PREMISE", "the second premise shows existence", "located_in_the_wrong_order", SIXTH, steps__2__premises=[1, 0])
edit(
    "PREMISE",
    "a contraction is no statement about a fixed point",
    "located_by_contraction",
    LOCAL,
    steps__4__premises=[0, 3],
)


@refused("PREMISE", "fixed points that may not exist locate nothing: z + 1 on [0, 1]")
def located_without_existence() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.add("add", z, n.constant([1]))))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    both = [sheet.step("fixed_points_in", domain=domain, region=region, scale=None) for _ in range(2)]
    known(sheet, sheet.step("located", *both), "the", domain, region, region)
    return sheet


@refused("INCLUSION", "at most one fixed point in [−1, 1], and the one that was found is 5")
def located_outside_the_region() -> Sheet:
    sheet, _, domain, region, contracts = local_sheet(two_fixed_points(), -1, 1, F(1, 2))
    one = sheet.step("at_most_one", contracts)
    near = enclosing(sheet, domain, sheet.box([4], [6]), unique=True)
    known(sheet, sheet.step("located", one, near), "the", domain, region, sheet.box([4], [6]))
    return sheet


@refused("INCLUSION", "all fixed points lie in [−2, 2], and one in [3/4, 9/8]: that is not all of them")
def located_among_many() -> Sheet:
    document, _ = base(TANH)
    sheet = Sheet(document["predicate"]["graph"])
    domain, region = sheet.box([F(-1, 4)], [F(1, 4)], "input"), sheet.box([-2], [2])
    outer = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    near = enclosing(sheet, domain, sheet.box([F(3, 4)], [F(9, 8)]), unique=True)
    known(sheet, sheet.step("located", outer, near), "the", domain, region, sheet.box([F(3, 4)], [F(9, 8)]))
    return sheet


@refused("INCLUSION", "two boxes with a fixed point each: neither statement is one of uniqueness")
def located_by_existence() -> Sheet:
    sheet = tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1)
    near = sheet.step("enclosure", **{k: v for k, v in sheet.steps[0].items() if k not in ("rule", "premises")})
    return claimed(sheet, "encloses_the", sheet.step("located", 0, near), box=1)


@refused("CONTEXT", "uniqueness on fewer inputs than existence")
def located_on_more_inputs() -> Any:
    document, weights = base(LOCAL)
    boxes = [*document["predicate"]["boxes"], {"space": "input", "lo": vector([0]), "hi": vector([F(1, 8)])}]
    document = changed(document, "predicate.boxes", boxes)
    for step in (0, 1):
        document = changed(document, f"predicate.steps.{step}.domain", len(boxes) - 1)
    document = changed(document, "predicate.claims.0.domain", len(boxes) - 1)
    return canonical(document), weights


# what such a step does not say

edit("CLAIM", "a box that is too small", "encloses_smaller_box", SIXTH, claims__1__box=5)
edit("CLAIM", "some fixed point of another region", "encloses_one_other_region", SIXTH, claims__1__region=6)
edit("CLAIM", "all fixed points of a larger region", "encloses_all_larger_region", TANH,
     claims__0={"step": 0, "claim": "encloses_all", "domain": 0, "region": 6, "box": 3})  # fmt: skip
edit("CLAIM", "for more inputs than were looked at", "encloses_more_inputs", TANH, claims__0__domain=5)
edit("CLAIM", "a unique fixed point of the box is none of a part of it", "exactly_one_part_of_the_box", SIXTH,
     claims__3__region=5)  # fmt: skip
edit("CLAIM", "at most one in more than the region", "at_most_one_larger_region", SIXTH, claims__4__region=6)
edit("CLAIM", "a fixed point does not make the loop converge", "convergence_from_an_enclosure", SIXTH,
     norms=[{"kind": "block", "runs": [[1, 1]], "weights": vector([1])}],
     claims__0={
         "step": 2, "claim": "convergence", "operator": "picard", "domain": 0, "start": 6, "norm": 0,
         "constant": dyadic(1), "rate": dyadic(F(7, 8)), "epsilon": None, "steps": None,
     })  # fmt: skip
edit("FIELD", "an enclosure without its box", "encloses_without_box", SIXTH, claims__1__box=...)
edit("BOX", "a box of inputs as an enclosure", "encloses_box_of_inputs", LOCAL, claims__1__box=0)


@refused("EXPECTED", "an enclosure of some fixed point, where the only one was wanted", "--expect", "encloses_the")
def expected_the_only_one() -> Sheet:
    sheet = tested(three_fixed_points(), F(1, 8), F(7, 8), [0], 1)
    return claimed(sheet, "encloses_one", box=1)


@refused("EXPECTED", "an enclosure as wide as the space", "--expect", "encloses_all(radius<=1)")
def expected_a_small_box() -> Sheet:
    sheet = scalar_relu(with_constant(1))
    domain, everywhere = sheet.nothing(), sheet.all()
    start = sheet.step("fixed_points_in", domain=domain, region=everywhere, scale=None)
    known(sheet, start, "all", domain, everywhere, everywhere)
    return sheet
