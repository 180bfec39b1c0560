"""R8: invariant sets, uniqueness, existence, convergence and initial bounds, with the counterexamples of each."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, linear_model, real
from tests.kernel.graphs import Json, Nodes, dyadic, vector

ULP = F(1, 2**60)
HALF: Json = {"outer_damped": vector([F(1, 2)])}


def piecewise(slope: Any, offset: Any, kink: Any = None, at: Any = 0, side: int = 1, init: Any = None) -> Json:
    """z ↦ slope·z + offset + kink·relu(side·(z − at)), in one dimension."""
    nodes = Nodes()
    z = nodes.state()
    slope = F(slope)
    out = nodes.add("add", nodes.scale(z, slope.numerator, slope.denominator), nodes.constant([F(offset)]))
    if kink is not None:
        moved = nodes.scale(nodes.add("sub", z, nodes.constant([F(at)])), side)
        kink = F(kink)
        out = nodes.add("add", out, nodes.scale(nodes.add("relu", moved), kink.numerator, kink.denominator))
    start = None
    if init is not None:
        constant = Nodes()
        start = constant.function(constant.constant([F(init)]))
    return graph_json(nodes.function(out), init=start)


def invariant_box(
    sheet: Sheet, region: int, operator: Any = "picard", domain: int | None = None, rule: str = "invariant_box"
) -> int:
    return sheet.step(rule, operator=operator, domain=sheet.point() if domain is None else domain, region=region)


def ball(sheet: Sheet, contraction: int, centre: Any, radius: Any, domain: int | None = None) -> int:
    centre = centre if isinstance(centre, list) else [centre]
    return sheet.step(
        "invariant_ball",
        contraction,
        domain=sheet.point() if domain is None else domain,
        center=vector(centre),
        radius=dyadic(radius),
    )


def convergence(sheet: Sheet, start: int, *premises: int) -> int:
    return sheet.step("convergence", *premises, start=start)


def claim_convergence(
    sheet: Sheet, step: int, rate: Any, start: Any, norm: int, operator: Any = "picard", **change: Any
) -> Sheet:
    fields = {"constant": dyadic(1), "epsilon": None, "steps": None} | change
    fields.setdefault("domain", None)
    if fields["domain"] is None:
        fields["domain"] = sheet.point()
    return sheet.claim(step, "convergence", operator=operator, start=start, norm=norm, rate=dyadic(rate), **fields)


# invariant_box and invariant_radius


@pytest.mark.parametrize("rule", ["invariant_box", "invariant_radius"])
@pytest.mark.parametrize(
    ("slope", "offset", "bounds", "code"),
    [
        (F(1, 2), 0, (-1, 1), ACCEPTED),
        (F(1, 2), F(1, 2), (0, 1), ACCEPTED),  # touches the boundary: the box is closed
        (F(1, 2), F(1, 2) + ULP, (0, 1), "INCLUSION"),
        (F(1, 2), 10, (0, 1), "INCLUSION"),
        (-1, 1, (0, 1), ACCEPTED),  # no contraction is needed
        (F(1, 2), -1, (-2, -2), ACCEPTED),  # a fixed point
        (F(1, 2), 0, (1, 1), "INCLUSION"),
        (2, 0, (-1, 1), "INCLUSION"),
    ],
)
def test_the_image_of_the_box_lies_in_the_box(rule: str, slope: Any, offset: Any, bounds: Any, code: str) -> None:
    for operator in ("picard", HALF):
        sheet = Sheet(piecewise(slope, offset))
        invariant_box(sheet, sheet.box(*bounds), operator, rule=rule)
        assert sheet.code() == code


@pytest.mark.parametrize("rule", ["invariant_box", "invariant_radius"])
@pytest.mark.parametrize("operator", ["implicit", {"inner_damped": dyadic(F(1, 2))}])
def test_only_loops_that_the_kernel_can_follow_have_invariant_boxes(rule: str, operator: Any) -> None:
    for half in (1, F(1, 4)):  # whether or not the image of the step lies inside
        sheet = Sheet(piecewise(F(1, 2), F(1, 4)))
        invariant_box(sheet, sheet.box(-half, half), operator, rule=rule)
        assert sheet.code() == "UNSUPPORTED"


def test_invariance_holds_for_every_input_of_the_domain() -> None:
    model = linear_model([[F(1, 2)]], given=real(1))
    for rule in ("invariant_box", "invariant_radius"):
        everything = "INCLUSION" if rule == "invariant_box" else "UNSUPPORTED"
        for top, code in ((F(1, 2), ACCEPTED), (F(1, 2) + ULP, "INCLUSION"), (None, everything)):
            sheet = Sheet(model)
            domain = sheet.all("input") if top is None else sheet.box(-top, top, "input")
            invariant_box(sheet, sheet.box(-1, 1), domain=domain, rule=rule)
            assert sheet.code() == code


def test_the_whole_space_is_invariant() -> None:
    sheet = Sheet(piecewise(5, 1))
    step = invariant_box(sheet, sheet.all())
    assert sheet.claim(step, "invariant", operator="picard", domain=sheet.point(), region=sheet.all()).check().claims


def test_invariance_is_claimed_for_its_own_region_and_operator() -> None:
    """[-1, 1] is invariant under z/2; [1/2, 1] is not."""
    sheet = Sheet(piecewise(F(1, 2), 0))
    whole, part = sheet.box(-1, 1), sheet.box(F(1, 2), 1)
    step = invariant_box(sheet, whole)
    for region, operator, code in ((part, "picard", "CLAIM"), (sheet.all(), "picard", "CLAIM"), (whole, HALF, "CLAIM")):
        sheet.claims.clear()
        assert sheet.claim(step, "invariant", operator=operator, domain=sheet.point(), region=region).code() == code
    sheet.claims.clear()
    assert sheet.claim(step, "invariant", operator="picard", domain=sheet.point(), region=whole).check().claims


def test_invariant_radius_needs_a_bounded_box_and_spectral_premises() -> None:
    sheet = Sheet(piecewise(F(1, 2), 0))
    invariant_box(sheet, sheet.all(), rule="invariant_radius")
    assert sheet.code() == "UNSUPPORTED"
    for rule in ("invariant_radius", "invariant_box"):
        sheet = Sheet(piecewise(F(1, 2), 0))
        first = invariant_box(sheet, sheet.box(-1, 1))
        sheet.step(rule, first, operator="picard", domain=sheet.point(), region=sheet.box(-1, 1))
        assert sheet.code() == "PREMISE"


# invariant_ball


def test_an_invariant_ball_has_exactly_the_radius_that_its_residual_allows() -> None:
    """f = z/2 + 1/4 about 0: N(f(0)) = 1/4 = (1 − 1/2)·1/2."""
    for radius, code in ((F(1, 2), ACCEPTED), (F(1, 2) - ULP, "INEQUALITY"), (F(0), "INEQUALITY"), (F(-1), "WITNESS")):
        sheet = Sheet(piecewise(F(1, 2), F(1, 4)))
        ball(sheet, sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-1, 1)), 0, radius)
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("centre", "radius", "code"),
    [(0, 1, ACCEPTED), (0, 1 + ULP, "INCLUSION"), (F(1, 2), 1, "INCLUSION"), (5, F(1, 8), "INCLUSION")],
)
def test_an_invariant_ball_lies_inside_the_region(centre: Any, radius: Any, code: str) -> None:
    sheet = Sheet(piecewise(F(1, 2), F(1, 4)))
    ball(sheet, sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-1, 1)), centre, radius)
    assert sheet.code() == code


def test_an_invariant_ball_on_a_domain_beyond_the_contraction() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]], given=real(1)))
    step = sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-9, 9), sheet.box(0, 1, "input"))
    ball(sheet, step, 0, 4, sheet.box(0, 1, "input"))
    assert sheet.code() == ACCEPTED
    sheet.steps.pop()
    ball(sheet, step, 0, 4, sheet.box(0, 1 + ULP, "input"))
    assert sheet.code() == "CONTEXT"


def test_an_invariant_ball_needs_a_contraction_and_is_no_invariant_box() -> None:
    sheet = Sheet(piecewise(F(1, 2), F(1, 4)))
    ball(sheet, invariant_box(sheet, sheet.box(-1, 1)), 0, 1)
    assert sheet.code() == "PREMISE"
    sheet = Sheet(piecewise(F(1, 2), F(1, 4)))
    region = sheet.box(-1, 1)
    step = ball(sheet, sheet.contraction(F(1, 2), sheet.block(1), region), 0, F(1, 2))
    assert sheet.claim(step, "invariant", operator="picard", domain=sheet.point(), region=region).code() == "CLAIM"


def test_the_residual_of_a_damped_step_is_divided_by_its_own_rate() -> None:
    """z/2 + 10 damped by 1/8: residual 5/4 at 0, rate 15/16, radius 20; with the undamped rate it would be 5/2."""
    for radius, code in ((F(20), ACCEPTED), (F(20) - ULP, "INEQUALITY"), (F(5, 2), "INEQUALITY")):
        sheet = Sheet(piecewise(F(1, 2), 10))
        step = sheet.step("damping", sheet.contraction(F(1, 2), sheet.block(1)), alpha=vector([F(1, 8)]))
        ball(sheet, step, 0, radius)
        assert sheet.code() == code


# at_most_one


def test_at_most_one_on_any_smaller_region() -> None:
    sheet = Sheet(piecewise(F(1, 2), 10))  # no fixed point in [0, 1]
    step = sheet.step("at_most_one", sheet.contraction(F(1, 2), sheet.block(1), sheet.box(0, 1)))
    for region, code in (
        (sheet.box(0, 1), ACCEPTED),
        (sheet.box(0, F(1, 2)), ACCEPTED),
        (sheet.box(0, 2), "CLAIM"),
        (sheet.all(), "CLAIM"),
    ):
        sheet.claims.clear()
        sheet.claim(step, "at_most_one", domain=sheet.point(), region=region)
        if code == ACCEPTED:
            assert sheet.check().claims
        else:
            assert sheet.code() == code
    sheet.claims.clear()
    assert sheet.claim(step, "exactly_one", domain=sheet.point(), region=sheet.box(0, 1)).code() == "CLAIM"


def test_at_most_one_needs_one_contraction() -> None:
    sheet = Sheet(piecewise(F(1, 2), 0))
    step = sheet.contraction(F(1, 2), sheet.block(1))
    for premises in ((), (step, step), (invariant_box(sheet, sheet.box(-1, 1)),)):
        sheet.steps = sheet.steps[:2]
        sheet.step("at_most_one", *premises)
        assert sheet.code() == "PREMISE"


# exactly_one


def test_banach_on_the_whole_space() -> None:
    sheet = Sheet(piecewise(F(1, 2), 10))
    step = sheet.step("exactly_one", sheet.contraction(F(1, 2), sheet.block(1)))
    assert sheet.claim(step, "exactly_one", domain=sheet.point(), region=sheet.all()).check().claims
    for region in (sheet.box(1, 2), sheet.box(-100, 100)):
        sheet.claims.clear()
        assert sheet.claim(step, "exactly_one", domain=sheet.point(), region=region).code() == "CLAIM"


def test_a_local_contraction_alone_proves_no_existence() -> None:
    sheet = Sheet(piecewise(F(1, 2), 10))
    sheet.step("exactly_one", sheet.contraction(F(1, 2), sheet.block(1), sheet.box(0, 1)))
    assert sheet.code() == "PREMISE"


def test_existence_comes_from_an_invariant_box_inside_the_region() -> None:
    for box, code in (((-1, 1), ACCEPTED), ((-2, 2), "CONTEXT"), ((F(-1, 2), F(1, 2)), ACCEPTED)):
        sheet = Sheet(piecewise(F(1, 2), 0))
        step = sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-1, 1))
        one = sheet.step("exactly_one", step, invariant_box(sheet, sheet.box(*box)))
        assert sheet.code() == code
        if code == ACCEPTED:
            assert sheet.claim(one, "exactly_one", domain=sheet.point(), region=sheet.box(-1, 1)).check().claims
            sheet.claims.clear()
            assert sheet.claim(one, "exactly_one", domain=sheet.point(), region=sheet.box(F(1, 2), 1)).code() == "CLAIM"


def test_invariance_under_another_operator_does_not_count() -> None:
    """Picard contracts on B at 7/8 and leaves it; the half-damped loop stays inside."""
    model = piecewise(F(-7, 8), 0, 100, F(-1, 2), -1)
    sheet = Sheet(model)
    step = sheet.contraction(F(7, 8), sheet.block(1), sheet.box(F(-1, 2), 1))
    nodes_box = sheet.box(F(-7, 16), F(1, 2))
    sheet.step("exactly_one", step, invariant_box(sheet, nodes_box, HALF))
    assert sheet.code() == "CONTEXT"
    sheet.steps = sheet.steps[:2]
    convergence(sheet, sheet.box(0, 0), 0, 1)
    assert sheet.code() == "CONTEXT"


def test_invariance_on_another_domain_does_not_count() -> None:
    model = linear_model([[F(1, 2)]], given=real(1))
    small, large = ((0, F(1, 4)), (0, F(1, 2)))
    for contracts, invariant, code in ((large, small, ACCEPTED), (small, large, "CONTEXT")):
        sheet = Sheet(model)
        domains = [sheet.box(*b, space="input") for b in (contracts, invariant)]
        step = sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-1, 1), domains[0])
        one = sheet.step("exactly_one", step, invariant_box(sheet, sheet.box(-1, 1), domain=domains[1]))
        assert sheet.code() == code
        if code == ACCEPTED:  # and the conclusion holds on the smaller domain only
            assert sheet.claim(one, "exactly_one", domain=domains[1], region=sheet.box(-1, 1)).check().claims
            sheet.claims.clear()
            assert sheet.claim(one, "exactly_one", domain=domains[0], region=sheet.box(-1, 1)).code() == "CLAIM"


def test_exactly_one_rejects_other_premises() -> None:
    sheet = Sheet(piecewise(F(1, 2), 0))
    step = sheet.contraction(F(1, 2), sheet.block(1), sheet.box(-1, 1))
    box = invariant_box(sheet, sheet.box(-1, 1))
    for premises in ((), (box,), (box, step), (step, step), (step, box, box)):
        sheet.steps = sheet.steps[:2]
        sheet.step("exactly_one", *premises)
        assert sheet.code() == "PREMISE"


def test_a_well_posed_model_lends_its_fixed_point_to_no_contraction() -> None:
    """relu(1 − 5z): one fixed point, 1/6. On [1, 2] it is 0, a contraction at rate 0; 1, 0, 1, 0, … never settles."""
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    posed = sheet.step("log_norm", domain=sheet.point(), vector=vector([1]))
    step = sheet.contraction(0, sheet.block(1), sheet.box(1, 2))
    for rule, witness in (("exactly_one", {}), ("convergence", {"start": sheet.box(1, 2)})):
        for premises in ((step,), (step, posed), (posed, step), (posed,)):
            sheet.steps = sheet.steps[:2]
            sheet.step(rule, *premises, **witness)
            assert sheet.code() == "PREMISE"


# convergence


def test_convergence_on_the_whole_space_from_anywhere() -> None:
    sheet = Sheet(piecewise(F(1, 2), 10))
    norm = sheet.block(1)
    step = convergence(sheet, sheet.all(), sheet.contraction(F(1, 2), norm))
    for start in (sheet.all(), sheet.box(-1000, 3), "init"):
        sheet.claims.clear()
        assert claim_convergence(sheet, step, F(1, 2), start, norm).check().claims
    for change in (
        {"constant": dyadic(F(1, 2))},
        {"constant": dyadic(-1)},
        {"epsilon": dyadic(1), "steps": 99},
        {"epsilon": dyadic(1)},
        {"steps": 9},
    ):
        sheet.claims.clear()
        assert claim_convergence(sheet, step, F(1, 2), "init", norm, **change).code() == "CLAIM"
    sheet.claims.clear()
    assert claim_convergence(sheet, step, F(1, 2) - ULP, "init", norm).code() == "CLAIM"
    sheet.claims.clear()
    assert claim_convergence(sheet, step, F(1), "init", norm).code() == "CLAIM"


LEAVES = (F(-7, 8), F(3, 32), -99, 0, -1)  # contracts on [0, 1] about z* = 1/20, but 1 ↦ −25/32 ↦ −77 ↦ …


def test_an_orbit_that_starts_in_the_region_but_not_in_the_ball_may_leave() -> None:
    """The fixed point exists by an invariant ball; from the far end of the region the orbit diverges all the same."""
    z = F(1)
    for _ in range(4):
        z = LEAVES[0] * z + LEAVES[1] + LEAVES[2] * max(-z, 0)
    assert abs(z) > 10**5
    sheet = Sheet(piecewise(*LEAVES[:3], at=0, side=-1))
    region = sheet.box(0, 1)
    step = sheet.contraction(F(7, 8), sheet.block(1), region)
    round_ = ball(sheet, step, F(13, 256), F(3, 64))
    one = sheet.step("exactly_one", step, round_)
    assert sheet.claim(one, "exactly_one", domain=sheet.point(), region=region).check().claims
    sheet.claims.clear()
    for start, code in (
        (sheet.box(F(1, 16), F(1, 16)), ACCEPTED),
        (sheet.box(F(1, 256), F(6, 64)), ACCEPTED),
        (region, "INCLUSION"),
        (sheet.box(1, 1), "INCLUSION"),
        (sheet.all(), "UNSUPPORTED"),
    ):
        sheet.steps = sheet.steps[:2]
        convergence(sheet, start, step, round_)
        assert sheet.code() == code


def test_the_corner_of_the_box_around_a_disc_lies_outside_the_disc() -> None:
    sheet = Sheet(linear_model([[F(1, 4), F(0)], [F(0), F(1, 4)]]))
    step = sheet.contraction(F(1, 2), sheet.l2(2), sheet.box([-1, -1], [1, 1]))
    disc = ball(sheet, step, [0, 0], 1)
    for start, code in (
        (sheet.box([-1, -1], [1, 1]), "INCLUSION"),
        (sheet.box([0, 0], [F(7, 8), F(7, 8)]), "INCLUSION"),
        (sheet.box([-1, 0], [1, 0]), ACCEPTED),
        (sheet.box([F(-1, 2)] * 2, [F(1, 2)] * 2), ACCEPTED),
    ):
        sheet.steps = sheet.steps[:2]
        convergence(sheet, start, step, disc)
        assert sheet.code() == code


def test_convergence_from_an_invariant_box() -> None:
    sheet = Sheet(piecewise(F(1, 2), 0))
    norm = sheet.block(1)
    step = sheet.contraction(F(1, 2), norm, sheet.box(-2, 2))
    box = invariant_box(sheet, sheet.box(-1, 1))
    for start, code in (((-1, 1), ACCEPTED), ((0, 1 + ULP), "INCLUSION"), ((-2, 2), "INCLUSION")):
        sheet.steps = sheet.steps[:2]
        done = convergence(sheet, sheet.box(*start), step, box)
        assert sheet.code() == code
        if code == ACCEPTED:
            assert claim_convergence(sheet, done, F(1, 2), sheet.box(0, 1), norm, domain=sheet.point()).check().claims
            sheet.claims.clear()
            for other in (sheet.box(-2, 2), sheet.all(), "init"):
                assert claim_convergence(sheet, done, F(1, 2), other, norm, domain=sheet.point()).code() == "CLAIM"
                sheet.claims.clear()


def test_a_local_contraction_without_invariance_does_not_converge() -> None:
    sheet = Sheet(piecewise(*LEAVES[:3], at=0, side=-1))
    convergence(sheet, sheet.box(0, 1), sheet.contraction(F(7, 8), sheet.block(1), sheet.box(0, 1)))
    assert sheet.code() == "PREMISE"


# initial_bound


def bounded(sheet: Sheet, premise: int, centre: Any, domain: int | None = None) -> int:
    return sheet.step(
        "initial_bound",
        premise,
        domain=sheet.point() if domain is None else domain,
        center=vector(centre if isinstance(centre, list) else [centre]),
    )


def test_the_initial_bound_gives_k_of_epsilon_exactly() -> None:
    """z/2 + 10 from 0, z* = 20: after K steps the distance is 20 / 2ᴷ, as the bound about 0 or 20 says."""
    for centre in (0, 20):
        sheet = Sheet(piecewise(F(1, 2), 10))
        norm = sheet.block(1)
        step = bounded(sheet, convergence(sheet, sheet.all(), sheet.contraction(F(1, 2), norm)), centre)
        for steps, epsilon, code in (
            (0, F(20), ACCEPTED),
            (0, F(20) - ULP, "CLAIM"),
            (3, F(5, 2), ACCEPTED),
            (3, F(5, 2) - ULP, "CLAIM"),
            (2, F(5, 2), "CLAIM"),
            (4, F(5, 2), ACCEPTED),
            (10, F(-1), "CLAIM"),
        ):
            sheet.claims.clear()
            claim_convergence(
                sheet, step, F(1, 2), "init", norm, domain=sheet.point(), epsilon=dyadic(epsilon), steps=steps
            )
            assert sheet.verdict() == code


def test_epsilon_is_a_distance_in_every_coordinate() -> None:
    """Weights 16: N is a sixteenth of the distance, and must be scaled back."""
    sheet = Sheet(piecewise(F(1, 2), 10))
    norm = sheet.block(16)
    step = bounded(sheet, convergence(sheet, sheet.all(), sheet.contraction(F(1, 2), norm)), 20)
    claim_convergence(sheet, step, F(1, 2), "init", norm, domain=sheet.point(), epsilon=dyadic(F(20, 16)), steps=0)
    assert sheet.code() == "CLAIM"
    sheet.claims.clear()
    assert (
        claim_convergence(sheet, step, F(1, 2), "init", norm, domain=sheet.point(), epsilon=dyadic(20), steps=0)
        .check()
        .claims
    )


def test_the_damped_bound_uses_the_damped_rate() -> None:
    sheet = Sheet(piecewise(F(1, 2), 10))
    norm, operator = sheet.block(1), {"outer_damped": vector([F(1, 8)])}
    step = sheet.step("damping", sheet.contraction(F(1, 2), norm), alpha=vector([F(1, 8)]))
    done = bounded(sheet, convergence(sheet, sheet.all(), step), 0)
    for epsilon, ok in ((F(20), True), (F(20) - ULP, False), (F(5, 2), False)):
        sheet.claims.clear()
        claim_convergence(
            sheet, done, F(15, 16), "init", norm, operator, domain=sheet.point(), epsilon=dyadic(epsilon), steps=0
        )
        assert sheet.verdict() == (ACCEPTED if ok else "CLAIM")


def local(init: Any) -> tuple[Sheet, int]:
    """z/2 + 5/8 relu(z − 1): rate 1/2 on [-1, 1] with z* = 0; 5 is another fixed point, outside."""
    sheet = Sheet(piecewise(F(1, 2), 0, F(5, 8), 1, 1, init))
    region = sheet.box(-1, 1)
    step = sheet.contraction(F(1, 2), sheet.block(1), region)
    return sheet, convergence(sheet, region, step, invariant_box(sheet, region))


@pytest.mark.parametrize(
    ("init", "centre", "code"),
    [
        (1, 0, ACCEPTED),
        (1, 5, "INCLUSION"),
        (1, 1 + ULP, "INCLUSION"),
        (1 + ULP, 0, "INCLUSION"),
        (5, 0, "INCLUSION"),
        (None, 0, ACCEPTED),
    ],
)
def test_the_initial_state_and_the_centre_lie_where_the_premise_speaks(init: Any, centre: Any, code: str) -> None:
    sheet, step = local(init)
    bounded(sheet, step, centre)
    assert sheet.code() == code


def test_a_missing_init_means_zeros() -> None:
    """[1/2, 2] is invariant under z/2 + 1, and does not hold the zero vector."""
    sheet = Sheet(piecewise(F(1, 2), 1))
    region = sheet.box(F(1, 2), 2)
    step = convergence(sheet, region, sheet.contraction(F(1, 2), sheet.block(1), region), invariant_box(sheet, region))
    bounded(sheet, step, 2)
    assert sheet.code() == "INCLUSION"


def test_initial_bounds_on_other_domains() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]], given=real(1)))
    norm = sheet.block(1)
    whole = convergence(sheet, sheet.all(), sheet.contraction(F(1, 2), norm, domain=sheet.all("input")))
    bounded(sheet, whole, 0, sheet.all("input"))
    assert sheet.code() == "UNSUPPORTED"  # no finite bound for every input
    sheet.steps.pop()
    done = bounded(sheet, whole, 0, sheet.box(-1, 2, "input"))
    claim_convergence(sheet, done, F(1, 2), "init", norm, domain=sheet.box(-1, 2, "input"), epsilon=dyadic(4), steps=0)
    assert sheet.check().claims
    sheet.claims.clear()
    claim_convergence(sheet, done, F(1, 2), "init", norm, domain=sheet.box(-1, 3, "input"), epsilon=dyadic(4), steps=0)
    assert sheet.code() == "CLAIM"
    sheet.claims.clear()
    bounded(sheet, done, 0, sheet.box(-1, 3, "input"))
    assert sheet.code() == "CONTEXT"


def test_an_initial_bound_needs_a_convergence() -> None:
    sheet = Sheet(piecewise(F(1, 2), 0))
    bounded(sheet, sheet.contraction(F(1, 2), sheet.block(1)), 0)
    assert sheet.code() == "PREMISE"
    sheet.steps.pop()
    sheet.step("initial_bound", domain=0, center=vector([0]))
    assert sheet.code() == "PREMISE"
