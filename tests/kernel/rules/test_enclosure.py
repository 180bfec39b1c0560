"""R5: `enclosure` and `located`. What is strict, what is shown for every input, and what existence does not give."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, linear_model, real, zero_factor
from tests.kernel.graphs import Json, Nodes, dyadic, vector

ULP = F(1, 2**60)


def line(slope: Any, offset: Any, /, given: bool = False, op: str | None = None, **attrs: Any) -> Json:
    """z ↦ φ(slope·z + offset (+ x)), in one dimension."""
    nodes, slope = Nodes(), F(slope)
    out = nodes.scale(nodes.state(), slope.numerator, slope.denominator)
    out = nodes.add("add", out, nodes.constant([F(offset)]))
    if given:
        out = nodes.add("add", out, nodes.add("input"))
    if op:
        out = nodes.add(op, out, **attrs)
    return graph_json(nodes.function(out), given=real(1) if given else None)


def enclosure(
    sheet: Sheet, lo: Any, hi: Any, matrix: Any = (1,), slopes: Sequence[Any] = (), unique: Any = False,
    scale: Any = None, domain: int | None = None,
) -> int:  # fmt: skip
    return sheet.step(
        "enclosure", domain=sheet.point() if domain is None else domain, region=sheet.box(lo, hi),
        scale=None if scale is None else vector(scale), slopes=vector(slopes), matrix=vector(matrix), unique=unique,
    )  # fmt: skip


def encloses(sheet: Sheet, step: int, kind: str, region: int, lo: Any, hi: Any, domain: int | None = None) -> str:
    at = sheet.point() if domain is None else domain
    return sheet.claim(step, f"encloses_{kind}", domain=at, region=region, box=sheet.box(lo, hi)).verdict()


# enclosure


@pytest.mark.parametrize(
    ("lo", "hi", "code"),
    [
        (0, 2, ACCEPTED),
        (1 - ULP, 1 + ULP, ACCEPTED),
        (1, 2, "INCLUSION"),  # the fixed point on the border
        (0, 1, "INCLUSION"),
        (1, 1, "INCLUSION"),
        (2, 3, "INCLUSION"),
        (-9, 1 - ULP, "INCLUSION"),
    ],
)
def test_the_image_lies_strictly_inside(lo: Any, hi: Any, code: str) -> None:
    """(z + 1)/2 with Y = 2: the image of every box is the fixed point 1."""
    sheet = Sheet(line(F(1, 2), F(1, 2)))
    enclosure(sheet, lo, hi, [2])
    assert sheet.code() == code


def test_what_is_enclosed_is_the_image() -> None:
    """(z + 1)/2 on [0, 4] with Y = 1/2: z + (1 − z)/4 lies between 1/4 and 13/4."""
    for lo, hi, code in ((F(1, 4), F(13, 4), ACCEPTED), (F(1, 4) + ULP, 4, "CLAIM"), (0, F(13, 4) - ULP, "CLAIM")):
        for kind in ("one", "all", "the"):
            sheet = Sheet(line(F(1, 2), F(1, 2)))
            step = enclosure(sheet, 0, 4, [F(1, 2)], unique=True)
            assert encloses(sheet, step, kind, sheet.box(0, 4), lo, hi) == code


@pytest.mark.parametrize(
    ("reach", "code"), [(F(1, 2) - ULP, ACCEPTED), (F(1, 2), "INCLUSION"), (2, "INCLUSION"), (None, "INCLUSION")]
)
def test_the_test_holds_for_every_input(reach: Any, code: str) -> None:
    sheet = Sheet(line(F(1, 2), 0, given=True))
    domain = sheet.all("input") if reach is None else sheet.box(-reach, reach, "input")
    enclosure(sheet, -1, 1, [2], domain=domain)
    assert sheet.code() == code


@pytest.mark.parametrize(
    ("slope", "code"), [(0, ACCEPTED), (F(1, 2), ACCEPTED), (1, "INCLUSION"), (5, "INCLUSION"), (-5, "INCLUSION")]
)
def test_any_slope_is_sound_and_bad_ones_prove_nothing(slope: Any, code: str) -> None:
    """ReLU(z)/2 + 1/4 on [−1, 1]."""
    nodes = Nodes()
    half = nodes.scale(nodes.add("relu", nodes.state()), 1, 2)
    sheet = Sheet(graph_json(nodes.function(nodes.add("add", half, nodes.constant([F(1, 4)])))))
    enclosure(sheet, -1, 1, [1], [slope])
    assert sheet.code() == code


@pytest.mark.parametrize("matrix", [0, -1, F(1, 1 << 70)])
def test_a_preconditioner_that_moves_nothing_inward_fails(matrix: Any) -> None:
    sheet = Sheet(line(1, 1))
    enclosure(sheet, 0, 1, [matrix])
    assert sheet.code() == "INCLUSION"


def test_products_are_bounded_about_the_middle() -> None:
    """z²/2 on [−r, r] has the image [−r²/2, r²/2]."""
    for r, code in ((2 - ULP, ACCEPTED), (2, "INCLUSION")):
        nodes = Nodes()
        z = nodes.state()
        sheet = Sheet(graph_json(nodes.function(nodes.scale(nodes.add("mul", z, z), 1, 2))))
        enclosure(sheet, -r, r, [1], [0])
        assert sheet.code() == code


def test_two_layers_are_reduced_through_each_other() -> None:
    """4 ReLU(ReLU(z) − 1/2) − 1 on [9/16, 19/16]: both layers have slope 1 there, and Y = −1/3 fits that alone."""
    nodes = Nodes()
    inner = nodes.add("sub", nodes.add("relu", nodes.state()), nodes.constant([F(1, 2)]))
    outer = nodes.scale(nodes.add("relu", inner), 4)
    model = graph_json(nodes.function(nodes.add("sub", outer, nodes.constant([F(1)]))))
    for slopes, code in (([1, 1], ACCEPTED), ([0, 1], "INCLUSION"), ([1, 0], "INCLUSION")):
        sheet = Sheet(model)
        enclosure(sheet, F(9, 16), F(19, 16), [F(-21, 64)], slopes, unique=True)
        assert sheet.code() == code


# uniqueness


@pytest.mark.parametrize(("slope", "code"), [(F(1, 2), ACCEPTED), (1 - ULP, ACCEPTED), (1, "INEQUALITY")])
def test_uniqueness_is_a_contraction_between_any_two_points(slope: F, code: str) -> None:
    """slope·ReLU(z) − 1/4 on [−1, 1] with chord 1/2: existence passes each time, and the reach is slope itself."""
    nodes = Nodes()
    bent = nodes.scale(nodes.add("relu", nodes.state()), slope.numerator, slope.denominator)
    model = graph_json(nodes.function(nodes.add("sub", bent, nodes.constant([F(1, 4)]))))
    for unique in (True, False):
        sheet = Sheet(model)
        enclosure(sheet, -1, 1, [1], [F(1, 2)], unique)
        assert sheet.code() == (code if unique else ACCEPTED)


@pytest.mark.parametrize(
    ("name", "fields", "unique", "code"),
    [
        ("exactly_one", {}, True, ACCEPTED),
        ("exactly_one", {}, False, "CLAIM"),
        ("at_most_one", {}, True, ACCEPTED),
        ("at_most_one", {}, False, "CLAIM"),
        ("encloses_one", {"box": (-1, 1)}, False, ACCEPTED),
        ("encloses_all", {"box": (-1, 1)}, False, ACCEPTED),
        ("encloses_the", {"box": (-1, 1)}, False, "CLAIM"),
        ("encloses_the", {"box": (-1, 1)}, True, ACCEPTED),
    ],
)
def test_existence_is_not_uniqueness(name: str, fields: Any, unique: bool, code: str) -> None:
    sheet = Sheet(line(F(1, 2), 0))
    step = enclosure(sheet, -1, 1, [2], unique=unique)
    boxes = {key: sheet.box(*ends) for key, ends in fields.items()}
    assert sheet.claim(step, name, domain=sheet.point(), region=sheet.box(-1, 1), **boxes).verdict() == code


@pytest.mark.parametrize("build", ["mul", "softmax", "rms_norm"])
def test_uniqueness_needs_slopes(build: str) -> None:
    """The same range for all points says nothing about two of them; for the input alone that is no matter."""
    for of_input in (False, True):
        nodes = Nodes()
        z = nodes.state()
        source = nodes.add("input") if of_input else z
        attrs = {"eps": dyadic(1)} if build == "rms_norm" else {}
        inner = nodes.add(build, source, source) if build == "mul" else nodes.add(build, source, **attrs)
        step = nodes.function(nodes.add("add", nodes.scale(z, 1, 4), nodes.scale(inner, 1, 64)))
        sheet = Sheet(graph_json(step, [[2]], real(2) if of_input else None))
        domain = sheet.box([0, 0], [F(1, 2)] * 2, "input") if of_input else sheet.point()
        enclosure(sheet, [-1, -1], [1, 1], [1, 0, 0, 1], [0, 0], True, domain=domain)
        assert sheet.code() == (ACCEPTED if of_input else "UNSUPPORTED")


@pytest.mark.parametrize(
    ("unique", "code"), [(1, "BOX"), (0, "BOX"), (None, "BOX"), ("true", "BOX"), (False, ACCEPTED)]
)
def test_unique_is_true_or_false(unique: Any, code: str) -> None:
    sheet = Sheet(line(F(1, 2), 0))
    enclosure(sheet, -1, 1, [2], unique=unique)
    assert sheet.code() == code


# rescaling


def test_rescaling_proves_what_the_plain_test_cannot() -> None:
    """ReLU(1 − 5z) on [0, 1]: with α = 1/8 the argument is z/4 + 1/8, and the image of ReLU is [1/8, 3/8]."""
    for scale, code in ((None, "INCLUSION"), ([F(1, 8)], ACCEPTED), ([1], "INCLUSION")):
        sheet = Sheet(line(-5, 1, op="relu"))
        step = enclosure(sheet, 0, 1, [1], [1], scale is not None, scale)
        assert sheet.code() == code
        if code == ACCEPTED:
            assert encloses(sheet, step, "the", sheet.box(0, 1), F(1, 8), F(3, 8)) == ACCEPTED


@pytest.mark.parametrize(
    ("op", "attrs", "scale", "code"),
    [
        ("relu", {}, F(1, 8), ACCEPTED),
        ("relu", {}, 0, "WITNESS"),
        ("relu", {}, F(-1, 8), "WITNESS"),
        ("clamp", {"lo": dyadic(0), "hi": dyadic(1)}, F(1, 8), ACCEPTED),
        ("leaky_relu", {"slope": dyadic(F(1, 2))}, F(1, 8), "WITNESS"),
        ("softplus", {}, F(1, 8), "WITNESS"),
        (None, {}, F(1, 8), "WITNESS"),
    ],
)
def test_only_projections_are_rescaled(op: str | None, attrs: Any, scale: Any, code: str) -> None:
    sheet = Sheet(line(-5, 1, op=op, **attrs))
    enclosure(sheet, 0, 1, [1], [1] if op else [], scale=[scale])
    assert sheet.code() == code


# located


def premises(sheet: Sheet, kind: str, region: int) -> list[int]:
    """Steps about ReLU(1/4 − z/2), whose fixed point is 1/6, the last of which is the first premise."""
    point = sheet.point()
    contracts = sheet.contraction(F(1, 2), sheet.block(1), region)
    if kind == "contraction":
        return [contracts]
    if kind == "at_most_one":
        return [sheet.step("at_most_one", contracts)]
    if kind in ("log_norm", "monotone"):
        sheet.steps.clear()
        if kind == "log_norm":
            return [sheet.step("log_norm", domain=point, vector=vector([1]))]
        return [sheet.step("monotone", domain=point, m=dyadic(F(1, 2)), factor=zero_factor(1))]
    stays = sheet.step("invariant_box", operator="picard", domain=point, region=region)
    if kind == "invariant":
        return [stays]
    if kind == "exactly_one":
        return [sheet.step("exactly_one", contracts, stays)]
    if kind == "convergence":
        return [sheet.step("convergence", contracts, stays, start=region)]
    sheet.steps.clear()
    if kind == "fixed_points_in":
        return [sheet.step("fixed_points_in", domain=point, region=region, scale=None)]
    return [enclosure(sheet, -1, 1, [1], [F(1, 2)], kind == "unique")]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("at_most_one", ACCEPTED),
        ("exactly_one", ACCEPTED),
        ("convergence", ACCEPTED),
        ("log_norm", ACCEPTED),
        ("monotone", ACCEPTED),
        ("unique", ACCEPTED),
        ("existence", "INCLUSION"),
        ("fixed_points_in", "INCLUSION"),
        ("contraction", "PREMISE"),
        ("invariant", "PREMISE"),
    ],
)
def test_what_can_locate_a_fixed_point(kind: str, code: str) -> None:
    sheet = Sheet(line(F(-1, 2), F(1, 4), op="relu"))
    region = sheet.box(-1, 1)
    (first,) = premises(sheet, kind, region)
    near = enclosure(sheet, F(1, 8), F(1, 4), [F(2, 3) // F(1, 64) * F(1, 64)], [1])
    step = sheet.step("located", first, near)
    assert sheet.code() == code
    if code == ACCEPTED:
        whole = sheet.all() if kind in ("log_norm", "monotone") else region
        assert encloses(sheet, step, "the", whole, F(1, 8), F(1, 4)) == ACCEPTED


@pytest.mark.parametrize(
    ("lo", "hi", "unique", "code"),
    [
        (-1, 1, True, ACCEPTED),  # the inner region holds all that is left of the outer
        (F(-1, 2), F(1, 2), True, "INCLUSION"),  # another fixed point might lie between the regions
        (-1, 1, False, "INCLUSION"),
        (-2, 2, True, "INCLUSION"),  # its box sticks out of the outer region
    ],
)
def test_all_fixed_points_and_the_only_one_of_them(lo: Any, hi: Any, unique: bool, code: str) -> None:
    sheet = Sheet(line(F(1, 2), 0))
    outer = sheet.step("fixed_points_in", domain=sheet.point(), region=sheet.box(F(-3, 4), F(3, 4)), scale=None)
    near = enclosure(sheet, lo, hi, [F(1, 4)] if lo == -2 else [2], unique=unique)
    located = sheet.step("located", outer, near)
    refused = sheet.refused()
    assert (refused.code, refused.step) == (code, None if code == ACCEPTED else located)


@pytest.mark.parametrize(
    ("outer", "inner", "code"),
    [
        ((-1, 1), (-1, 1), ACCEPTED),
        ((-1, 1), (0, F(1, 2)), ACCEPTED),
        ((0, F(1, 2)), (-1, 1), "CONTEXT"),
        ((-1, F(1, 2)), (0, 1), "CONTEXT"),
        (None, (0, 1), ACCEPTED),
    ],
)
def test_uniqueness_for_all_inputs_of_the_enclosure(outer: Any, inner: Any, code: str) -> None:
    sheet = Sheet(line(F(1, 2), 0, given=True))
    norm, everywhere = sheet.block(1), sheet.all()
    wide, narrow = (sheet.all("input") if ends is None else sheet.box(*ends, "input") for ends in (outer, inner))
    one = sheet.step("exactly_one", sheet.contraction(F(1, 2), norm, everywhere, wide))
    near = enclosure(sheet, -8, 8, [1], domain=narrow)
    step = sheet.step("located", one, near)
    assert sheet.code() == code
    if code == ACCEPTED:
        assert encloses(sheet, step, "the", everywhere, -8, 8, narrow) == ACCEPTED


@pytest.mark.parametrize("count", [0, 1, 3])
def test_located_has_two_premises(count: int) -> None:
    sheet = Sheet(line(F(1, 2), 0))
    near = enclosure(sheet, -1, 1, [2], unique=True)
    sheet.step("located", *[near] * count)
    assert sheet.code() == "PREMISE"


def test_an_enclosure_of_two_states() -> None:
    """A rotation by 90 degrees with gain 2 and an offset: Picard diverges, and the box test finds (1/5, 3/5)."""
    sheet = Sheet(
        linear_model([[F(0), F(-2)], [F(2), F(0)]], [F(7, 5) // F(1, 16) * F(1, 16), F(1, 5) // F(1, 16) / 16])
    )
    inverse = [F(1, 5), F(-2, 5), F(2, 5), F(1, 5)]
    step = enclosure(sheet, [0, 0], [1, 1], [v // F(1, 64) * F(1, 64) for v in inverse], unique=True)
    assert (
        sheet.claim(step, "exactly_one", domain=sheet.point(), region=sheet.box([0, 0], [1, 1])).verdict() == ACCEPTED
    )
