"""R6: `fixed_points_in`, `duality` and `by_continuity`, number by number on models that can be solved by hand."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, linear_model, real
from tests.kernel.graphs import Json, Nodes, array, dyadic, vector

ULP = F(1, 2**60)


def steep() -> Json:
    """z ← ReLU(1 − 5z): one fixed point, 1/6. Unit 0 is the state itself; its equation is 1 − 5u − a = 0."""
    nodes = Nodes()
    moved = nodes.add("sub", nodes.constant([F(1)]), nodes.scale(nodes.state(), 5))
    return graph_json(nodes.function(nodes.add("relu", moved)))


def region(sheet: Sheet, lo: Any, hi: Any, domain: int | None = None, scale: Any = None) -> int:
    """A `fixed_points_in` step; lo None: all states."""
    place = sheet.all() if lo is None else sheet.box(lo, hi)
    at = sheet.point() if domain is None else domain
    return sheet.step(
        "fixed_points_in", domain=at, region=place, scale=None if scale is None else vector(scale)
    )  # fmt: skip


def duality(
    sheet: Sheet, premise: int, sides: Sequence[tuple[int, int]], multipliers: Sequence[Any],
    splits: Sequence[int] | None = None, at: Sequence[Any] = (), weights: Sequence[int] | None = None,
) -> int:  # fmt: skip
    trees = [-1] * len(sides) if splits is None else list(splits)
    return sheet.step(
        "duality", premise, targets=[t for t, _ in sides], signs=[s for _, s in sides], splits=trees, at=vector(at),
        weights=vector([1] * trees.count(-1) if weights is None else list(weights)), multipliers=vector(multipliers),
    )  # fmt: skip


def all_in(sheet: Sheet, step: int, lo: Any, hi: Any, domain: int | None = None, where: Any = (0, 1)) -> str:
    """Whether the step shows that all fixed points of a region lie in a box."""
    at = sheet.point() if domain is None else domain
    place = sheet.all() if where is None else sheet.box(*where)
    return sheet.claim(step, "encloses_all", domain=at, region=place, box=sheet.box(lo, hi)).verdict()


# fixed_points_in: what is known of arguments before anything is bounded


@pytest.mark.parametrize(
    ("lo", "hi", "low", "high"), [(0, 1, -4, 1), (F(1, 8), F(1, 4), F(1, 8), F(1, 4)), (0, F(1, 2), F(-3, 2), F(1, 2))]
)
def test_arguments_are_those_of_the_states_of_the_region(lo: Any, hi: Any, low: F, high: F) -> None:
    """1 − 5z over the region, and a value in the region. An interval is read off by cutting beside it.

    A leaf whose cut leaves nothing of the interval needs no multipliers; one that meets it does.
    """
    for cut, beside in ((low - ULP, True), (low, False), (high, False), (high + ULP, True)):
        sheet = Sheet(steep())
        start = region(sheet, lo, hi)
        duality(sheet, start, [(0, 1)], [0, 0], [0, -1, -1], [cut], [0, 1] if cut <= low else [1, 0])
        assert sheet.code() == (ACCEPTED if beside else "INEQUALITY"), cut


def test_states_that_are_later_units_are_not_forgotten() -> None:
    """Three ReLUs of each other: an argument reads states that are units after it, and all of them count."""
    w = [[F(0), F(2), F(-3)], [F(1), F(0), F(4)], [F(-5), F(1), F(0)]]
    for unit, (low, high) in enumerate(((-3, 2), (0, 5), (-5, 1))):
        for cut, code in (
            (low - ULP, ACCEPTED),
            (low, "INEQUALITY"),
            (min(high, 1), "INEQUALITY"),
            (1 + ULP, ACCEPTED),
        ):
            sheet = Sheet(linear_model(w, [F(0)] * 3, "relu"))
            start = region(sheet, [0] * 3, [1] * 3)  # a ReLU that is a state of [0, 1] has an argument of at most 1
            below = cut <= low
            duality(sheet, start, [(0, 1)], [0] * 6, [unit, -1, -1], [cut], [0, 1] if below else [1, 0])
            assert sheet.code() == code, (unit, cut)


@pytest.mark.parametrize("op", ["tanh", "sigmoid", "silu", "gelu", "sin", "cos", "softplus"])
def test_smooth_units_need_a_bounded_region(op: str) -> None:
    nodes = Nodes()
    model = graph_json(nodes.function(nodes.add(op, nodes.state())))
    for lo, hi, code in ((None, None, "UNSUPPORTED"), (-1, 1, ACCEPTED)):
        sheet = Sheet(model)
        region(sheet, lo, hi)
        assert sheet.code() == code


def test_other_operations_need_a_bounded_region_too() -> None:
    nodes = Nodes()
    z = nodes.state()
    model = graph_json(nodes.function(nodes.add("mul", z, z)))
    for lo, hi, code in ((None, None, "UNSUPPORTED"), (-1, 1, ACCEPTED)):
        sheet = Sheet(model)
        region(sheet, lo, hi)
        assert sheet.code() == code


def test_piecewise_linear_steps_may_be_unbounded() -> None:
    """ReLU(1 − 5z) over all states: from below by a line; from above one has to cut, since ReLU has no upper line."""
    for splits, at, weights, multipliers, code in (
        ([-1, 0, -1, -1], [0], [1, 0, 1], [F(1, 8), 1, F(-11, 64)], ACCEPTED),
        ([-1, -1], [], [1, 1], [F(1, 8), F(-1, 8)], "CLAIM"),
    ):
        sheet = Sheet(steep())
        step = duality(sheet, region(sheet, None, None), [(0, 1), (0, -1)], multipliers, splits, at, weights)
        assert sheet.code() == ACCEPTED
        assert all_in(sheet, step, F(1, 8), F(11, 64), where=None) == code


@pytest.mark.parametrize("name", ["encloses_one", "encloses_the", "exactly_one", "at_most_one"])
def test_a_region_says_nothing_about_existence_or_number(name: str) -> None:
    sheet = Sheet(steep())
    start = region(sheet, 0, 1)
    place = sheet.box(0, 1)
    fields = {"box": place} if name.startswith("encloses") else {}
    assert sheet.claim(start, name, domain=sheet.point(), region=place, **fields).verdict() == "CLAIM"


# duality


@pytest.mark.parametrize(
    ("multiplier", "least"),
    [(0, 0), (F(1, 16), F(1, 16)), (F(1, 8), F(1, 8)), (F(3, 16), F(1, 16)), (F(1, 2), F(-3, 2)), (-1, -5)],
)
def test_a_bound_is_what_its_multiplier_gives(multiplier: F, least: F) -> None:
    """u + μ(1 − 5u − a) over a ∈ [−4, 1]: the least of μ + max(a, 0)(1 − 5μ) − μa, at −4, 0 or 1."""
    m = F(multiplier)
    expected = min(m + (1 - 5 * m) * max(a, 0) - m * a for a in (F(-4), F(0), F(1)))
    assert expected == least
    for lo, code in ((max(least, F(0)), ACCEPTED), (max(least, F(0)) + ULP, "CLAIM")):
        sheet = Sheet(steep())
        step = duality(sheet, region(sheet, 0, 1), [(0, 1)], [m])
        assert all_in(sheet, step, lo, 1) == code


def test_bounds_meet_what_was_known() -> None:
    """A weak bound does not widen the box, and two bounds of one side both hold."""
    sheet = Sheet(steep())
    step = duality(sheet, region(sheet, F(1, 8), F(1, 4)), [(0, 1), (0, 1), (0, -1)], [-9, F(1, 8), 0])
    assert all_in(sheet, step, F(1, 8), F(1, 4), where=(F(1, 8), F(1, 4))) == ACCEPTED


@pytest.mark.parametrize(
    ("splits", "at", "weights", "multipliers", "hi", "code"),
    [
        ([-1], [], [1], [F(-1, 8)], F(5, 8), ACCEPTED),
        ([-1], [], [1], [F(-1, 8)], F(5, 8) - ULP, "CLAIM"),
        # a ≤ 0 is impossible (there z = 0 and a = 1); above, z = a and 1 − 5a − a = 0
        ([0, -1, -1], [0], [0, 1], [1, F(-11, 64)], F(11, 64), ACCEPTED),
        ([0, -1, -1], [0], [0, 1], [1, F(-11, 64)], F(11, 64) - ULP, "CLAIM"),
        (
            [0, -1, -1],
            [0],
            [1, 1],
            [0, F(-11, 64)],
            F(11, 64),
            ACCEPTED,
        ),  # without that, z = 0 is allowed for: no worse
        ([0, -1, -1], [0], [0, 1], [0, F(-11, 64)], F(11, 64), "INEQUALITY"),
        ([0, -1, -1], [0], [1, 0], [0, 1], 1, "INEQUALITY"),
        ([0, -1, -1], [F(1, 4)], [1, 0], [F(-11, 64), -1], F(11, 64), "CLAIM"),
        ([0, -1, -1], [F(1, 4)], [1, 0], [0, F(-1, 8)], F(1, 4), ACCEPTED),
    ],
)
def test_trees(splits: Any, at: Any, weights: Any, multipliers: Any, hi: F, code: str) -> None:
    """An upper bound of z, over a tree that cuts the unit's argument."""
    sheet = Sheet(steep())
    step = duality(sheet, region(sheet, 0, 1), [(0, -1)], multipliers, splits, at, weights)
    assert all_in(sheet, step, 0, hi) == code


def test_one_batch_has_a_tree_for_each_functional() -> None:
    sheet = Sheet(steep())
    start = region(sheet, 0, 1)
    step = duality(
        sheet, start, [(0, 1), (0, -1)], [0, F(11, 64) - F(1, 64), 1, F(-11, 64)], [0, -1, -1, 0, -1, -1], [0, 0],
        [1, 1, 0, 1],
    )  # fmt: skip
    assert all_in(sheet, step, 0, F(11, 64)) == ACCEPTED


def test_inputs_can_be_cut() -> None:
    """z ← |x| − x for x ∈ [−1, 1], which is at most 2, on the whole and on both halves."""
    nodes = Nodes()
    x = nodes.add("input")
    both = nodes.add("add", nodes.add("abs", x), nodes.scale(x, -1))
    step_ = nodes.function(nodes.add("add", both, nodes.scale(nodes.state(), 0)))
    for splits, at, multipliers, code in (
        ([-1], [], [-1, 0], ACCEPTED),  # −z with μ = −1: −|x| + x ≥ −2
        ([1, -1, -1], [0], [-1, 0, -1, -1], ACCEPTED),
        ([1, -1, -1], [2], [-1, 0, 0, 0], ACCEPTED),  # a cut outside the domain leaves one side empty
        ([2, -1, -1], [0], [-1, 0, -1, 0], "WITNESS"),
    ):
        sheet = Sheet(graph_json(step_, given=real(1)))
        domain = sheet.box(-1, 1, "input")
        start = region(sheet, -8, 8, domain)
        step = duality(sheet, start, [(0, -1)], multipliers, splits, at)
        assert sheet.code() == code
        if code == ACCEPTED:
            assert all_in(sheet, step, -8, 2, domain, (-8, 8)) == ACCEPTED


def test_an_argument_is_bounded_where_it_has_the_sign_in_question() -> None:
    """From below it is looked at where it is ≤ 0 only, so a bound above 0 counts as 0 and no more."""
    sheet = Sheet(steep())
    start = region(sheet, 0, 1)
    # there u = 0, hence a = 1 by the equation: a + μ(1 − 5u − a) with μ = 1 is at least 1, and what is kept is a ≥ 0
    known = duality(sheet, start, [(1, 1)], [1])
    # now a ∈ [0, 1] and z = a: −z with μ = −1/6 rounded: the bound 11/64 without a tree
    step = duality(sheet, known, [(0, -1)], [F(-11, 64)])
    assert all_in(sheet, step, 0, F(11, 64)) == ACCEPTED
    other = Sheet(steep())
    step = duality(other, region(other, 0, 1), [(0, -1)], [F(-11, 64)])
    assert all_in(other, step, 0, F(11, 64)) == "CLAIM"


def test_bounds_may_leave_no_room() -> None:
    for multiplier, code in ((1, ACCEPTED), (1 + ULP, "INCLUSION")):
        sheet = Sheet(linear_model([[F(1)]], [F(1)]))  # z + 1: the equation is 1 = 0
        duality(sheet, region(sheet, 0, 1), [(0, 1)], [multiplier])
        assert sheet.code() == code


@pytest.mark.parametrize(("sign", "lo", "hi"), [("both", F(1, 4), F(1, 2)), (1, F(1, 4), 1), (-1, 0, F(1, 2))])
def test_one_row_bounds_both_sides(sign: Any, lo: Any, hi: Any) -> None:
    """z/2 + x + 1/8 has the fixed points 1/4 + 2x, x from 0 to 1/8. With multiplier 2 nothing of z is left."""
    for low, high, inside in ((lo, hi, True), (lo + ULP, hi, False), (lo, hi - ULP, False)):
        sheet = Sheet(linear_model([[F(1, 2)]], [F(1, 8)], given=real(1)))
        at = sheet.box(0, F(1, 8), "input")
        step = duality(sheet, region(sheet, 0, 1, at), [(0, sign)], [-2 if sign == -1 else 2])
        assert (all_in(sheet, step, low, high, at) == ACCEPTED) is inside


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"targets": [0, 2]}, "NUMBER"),
        ({"targets": [-1, 0]}, "NUMBER"),
        ({"targets": [0, "1"]}, "FIELD"),
        ({"targets": 0}, "FIELD"),
        ({"signs": [1, 0]}, "WITNESS"),
        ({"signs": [1]}, "WITNESS"),
        ({"signs": [1, 2]}, "NUMBER"),
        ({"signs": [1, True]}, "FIELD"),
        ({"signs": [1, "below"]}, "FIELD"),
        ({"signs": ["both"]}, "WITNESS"),
        ({"signs": ["both", 1, 1]}, "WITNESS"),
        ({"splits": [-1]}, "NUMBER"),
        ({"splits": [0, -1], "weights": vector([1]), "multipliers": vector([0]), "at": vector([0])}, "WITNESS"),
        ({"splits": [-1, -1, -1], "weights": vector([1] * 3), "multipliers": vector([0] * 3)}, "WITNESS"),
        ({"splits": [-1, "x"]}, "NUMBER"),
        ({"weights": vector([1, -2])}, "NUMBER"),
        ({"weights": [1, 1]}, "FIELD"),
        ({"weights": vector([1])}, "NUMBER"),
        ({"multipliers": vector([0])}, "NUMBER"),
        ({"multipliers": vector([0] * 3)}, "NUMBER"),
        ({"at": vector([0])}, "NUMBER"),
        ({"premises": []}, "PREMISE"),
        ({"premises": [0, 0]}, "PREMISE"),
        ({"note": 1}, "FIELD"),
    ],
)
def test_malformed_witnesses(change: Json, code: str) -> None:
    sheet = Sheet(steep())
    step = duality(sheet, region(sheet, 0, 1), [(0, 1), (0, -1)], [0, 0])
    assert sheet.code() == ACCEPTED
    sheet.steps[step] |= change
    assert sheet.code() == code


def test_a_unit_without_an_argument_has_no_bounds() -> None:
    nodes = Nodes()
    z = nodes.state()
    model = graph_json(nodes.function(nodes.scale(nodes.add("mul", z, z), 1, 2)))
    sheet = Sheet(model)
    duality(sheet, region(sheet, -1, 1), [(1, 1)], [0])
    assert sheet.code() == "WITNESS"


# by_continuity


def moved(sheet: Sheet) -> tuple[int, int]:
    """z/2 + x, whose fixed point is 2x: (convergence, norm)."""
    norm = sheet.block(1)
    contracts = sheet.contraction(F(1, 2), norm, sheet.all(), sheet.all("input"))
    return sheet.step("convergence", contracts, start=sheet.all()), norm


def continuity(
    sheet: Sheet, premise: int, box: tuple[Any, Any], given: Any = (0,), center: Any = (0,), reach: Any = 1,
    domain: int | None = None, **change: Any,
) -> int:  # fmt: skip
    fields: Json = {
        "domain": sheet.box(-reach, reach, "input") if domain is None else domain,
        "region": sheet.box(*box), "scale": None, "input": vector(given), "center": vector(center),
        "lo": vector([]), "hi": vector([]), "targets": [0, 0], "signs": [1, -1], "splits": [-1, -1], "at": vector([]),
        "weights": vector([1, 1]), "multipliers": vector([2, -2]),
    } | change  # fmt: skip
    return sheet.step("by_continuity", premise, **fields)


LINE = linear_model([[F(1, 2)]], given=real(1))
BOTH: Json = {
    "targets": [0], "signs": ["both"], "splits": [-1], "weights": vector([1]), "multipliers": vector([2])
}  # fmt: skip


@pytest.mark.parametrize(
    ("half", "code"), [(2 + ULP, ACCEPTED), (2, "INCLUSION"), (F(3, 2), "INCLUSION"), (100, ACCEPTED)]
)
def test_the_fixed_point_stays_strictly_inside(half: F, code: str) -> None:
    sheet = Sheet(LINE)
    premise, _ = moved(sheet)
    step = continuity(sheet, premise, (-half, half))
    assert sheet.code() == code
    if code == ACCEPTED:
        at = sheet.box(-1, 1, "input")
        sheet.claim(step, "encloses_the", domain=at, region=sheet.all(), box=sheet.box(-2, 2))
        sheet.claim(step, "exactly_one", domain=at, region=sheet.all())
        sheet.claim(step, "encloses_all", domain=at, region=sheet.box(-1, 50), box=sheet.box(-2, 2))
        assert sheet.verdict() == ACCEPTED


@pytest.mark.parametrize(
    ("lo", "hi", "code"),
    [(-2 - ULP, 2 + ULP, ACCEPTED), (-2, 2 + ULP, "INCLUSION"), (-2 - ULP, 2, "INCLUSION"), (-100, 3, ACCEPTED)],
)
def test_one_row_keeps_it_off_both_sides(lo: Any, hi: Any, code: str) -> None:
    sheet = Sheet(LINE)
    premise, _ = moved(sheet)
    step = continuity(sheet, premise, (lo, hi), **BOTH)
    assert sheet.code() == code
    if code == ACCEPTED:
        at = sheet.box(-1, 1, "input")
        assert (
            sheet.claim(step, "encloses_the", domain=at, region=sheet.all(), box=sheet.box(-2, 2)).verdict() == ACCEPTED
        )


@pytest.mark.parametrize(
    ("given", "center", "code"),
    [
        (0, 0, ACCEPTED),
        (1, 2, ACCEPTED),
        (F(-1, 2), -1, ACCEPTED),
        (1 + ULP, 2, "INCLUSION"),  # no input of the domain
        (0, F(3, 2), ACCEPTED),  # residual 3/4, distance 3/2: [0, 3] lies inside
        (0, F(3, 2) + ULP, "INCLUSION"),
        (0, 2, "INCLUSION"),
        (0, 100, "INCLUSION"),
    ],
)
def test_it_starts_inside(given: Any, center: Any, code: str) -> None:
    sheet = Sheet(LINE)
    premise, _ = moved(sheet)
    continuity(sheet, premise, (-3, 3), (given,), (center,))
    assert sheet.code() == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"multipliers": vector([1, -1])}, ACCEPTED),  # z/2 + x lies between −5/2 and 5/2 on [−3, 3]
        ({"multipliers": vector([0, 0])}, "INCLUSION"),
        (
            {"targets": [0], "signs": [1], "splits": [-1], "weights": vector([1]), "multipliers": vector([2])},
            "INCLUSION",
        ),
        ({"targets": [0, 0], "signs": [1, 1]}, "INCLUSION"),
        ({"scale": vector([F(1, 2)])}, "WITNESS"),
        ({"scale": vector([1])}, ACCEPTED),
        ({"lo": vector([0])}, "NUMBER"),
        ({"input": vector([0, 0])}, "NUMBER"),
        ({"center": vector([])}, "NUMBER"),
        ({"splits": [-1]}, "NUMBER"),
    ],
)
def test_every_side_of_every_variable_is_shown(change: Json, code: str) -> None:
    sheet = Sheet(LINE)
    premise, _ = moved(sheet)
    step = continuity(sheet, premise, (-3, 3))
    sheet.steps[step] |= change
    assert sheet.code() == code


@pytest.mark.parametrize(
    ("reach", "domain", "code"), [(None, 1, ACCEPTED), (1, 1, ACCEPTED), (1, 2, "CONTEXT"), (2, None, "CONTEXT")]
)
def test_domains(reach: Any, domain: Any, code: str) -> None:
    sheet = Sheet(LINE)
    given = sheet.all("input") if reach is None else sheet.box(-reach, reach, "input")
    contracts = sheet.contraction(F(1, 2), sheet.block(1), sheet.all(), given)
    premise = sheet.step("convergence", contracts, start=sheet.all())
    at = sheet.all("input") if domain is None else sheet.box(-domain, domain, "input")
    continuity(sheet, premise, (-9, 9), domain=at)
    assert sheet.code() == code


def test_a_point_of_integers_is_in_one_piece() -> None:
    nodes = Nodes()
    table = nodes.add("embedding", nodes.add("input"), nodes.constant(array([F(0), F(8)], (2, 1))))
    out = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("reshape", table, shape=[1]))
    model = graph_json(nodes.function(out), given={"shape": [1], "kind": "integer", "size": 2})
    for box, code in ((None, "CONTEXT"), ((0, 1), "CONTEXT"), ((1, 1), ACCEPTED)):
        sheet = Sheet(model)
        premise, _ = moved(sheet)
        domain = sheet.all("input") if box is None else sheet.box(*box, "input")
        low, high = (0, 8) if box != (1, 1) else (8, 8)
        continuity(
            sheet, premise, (-1, 17), (1,), (16,), domain=domain, lo=vector([low]), hi=vector([high]),
            region=sheet.box(-1, 32),
        )  # fmt: skip
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("region_", "box", "code"),
    [
        ((-4, 4), (-3, 3), ACCEPTED),
        ((-4, 4), (-4, 4), ACCEPTED),
        ((-4, 4), (-5, 3), "INCLUSION"),
        ((-4, 4), None, "CONTEXT"),
    ],
)
def test_the_region_lies_inside_the_premise_s(region_: Any, box: Any, code: str) -> None:
    sheet = Sheet(LINE)
    at = sheet.box(-1, 1, "input")
    place = sheet.box(*region_)
    contracts = sheet.contraction(F(1, 2), sheet.block(1), place, at)
    stays = sheet.step("invariant_box", operator="picard", domain=at, region=place)
    premise = sheet.step("convergence", contracts, stays, start=place)
    step = continuity(sheet, premise, (-3, 3), region=sheet.all() if box is None else sheet.box(*box))
    assert sheet.code() == code
    if code == ACCEPTED:
        claim = sheet.claim(step, "encloses_the", domain=at, region=place, box=sheet.box(-2, 2))
        assert claim.verdict() == ACCEPTED


def clamped(sheet: Sheet) -> int:
    """clamp(z/2 + x, −1, 1): the state is a unit, whose argument has to stay inside an interval."""
    contracts = sheet.contraction(F(1, 2), sheet.block(1), sheet.all(), sheet.all("input"))
    return sheet.step("convergence", contracts, start=sheet.all())


def clamp_model() -> Json:
    nodes = Nodes()
    moved_ = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("input"))
    return graph_json(nodes.function(nodes.clamp(moved_, -1, 1)), given=real(1))


@pytest.mark.parametrize(
    ("box", "lo", "hi", "code"),
    [
        ((-1, 1), -2, 2, ACCEPTED),  # x ∈ [−1, 1]: the argument lies in [−3/2, 3/2]; the values fill the box
        ((-1, 1), F(-3, 2) - ULP, F(3, 2) + ULP, ACCEPTED),
        ((-1, 1), F(-3, 2), 2, "INCLUSION"),
        ((-1, 1), -2, F(3, 2), "INCLUSION"),
        ((-2, 2), -2, 2, ACCEPTED),
        ((F(-1, 2), F(1, 2)), -2, 2, "INCLUSION"),  # the values of the unit leave the box of its state
        ((-1, 1), 1, 2, "INCLUSION"),  # the argument at x = 0 is 0
        ((-1, 1), 2, -2, "WITNESS"),
    ],
)
def test_units_stay_in_their_intervals(box: Any, lo: Any, hi: Any, code: str) -> None:
    sheet = Sheet(clamp_model())
    step = continuity(
        sheet, clamped(sheet), box, targets=[1, 1], lo=vector([lo]), hi=vector([hi]), multipliers=vector([1, -1])
    )
    assert sheet.code() == code
    if code == ACCEPTED:
        at = sheet.box(-1, 1, "input")
        claim = sheet.claim(step, "encloses_the", domain=at, region=sheet.all(), box=sheet.box(-1, 1))
        assert claim.verdict() == ACCEPTED


def test_the_distance_of_a_monotone_model() -> None:
    """ReLU(−3z + x): m = 1 gives at most ‖e‖ + ‖We‖/m = 4‖e‖ from the centre; the residual over m is none."""
    model = linear_model([[F(-3)]], [F(2)], "relu", given=real(1))
    for center, code in ((F(1, 2), ACCEPTED), (F(33, 64), ACCEPTED), (F(17, 32), "INCLUSION")):
        sheet = Sheet(model)
        posed = sheet.step("monotone", domain=sheet.all("input"), m=dyadic(1), factor=vector([2]))
        # at x = 0 the fixed point is 1/2; e = c − ReLU(2 − 3c), and the box leaves 7/16 on either side of 1/2
        error = center - max(2 - 3 * center, F(0))
        assert (abs(error) * 4 <= F(15, 16) - center) == (code == ACCEPTED)
        continuity(
            sheet, posed, (0, F(15, 16)), (0,), (center,), reach=F(1, 8), targets=[1, 1], scale=vector([F(1, 4)]),
            lo=vector([F(-1, 16)]), hi=vector([F(15, 16)]), multipliers=vector([1, -1]),
        )  # fmt: skip
        assert sheet.code() == code


@pytest.mark.parametrize("kind", ["log_norm", "at_most_one", "exactly_one", "contraction", "none", "two"])
def test_only_what_moves_continuously(kind: str) -> None:
    sheet = Sheet(LINE)
    given = sheet.all("input")
    if kind == "log_norm":
        premises = [sheet.step("log_norm", domain=given, vector=vector([1]))]
    else:
        contracts = sheet.contraction(F(1, 2), sheet.block(1), sheet.all(), given)
        premises = {"contraction": [contracts], "none": [], "two": [contracts, contracts]}.get(kind) or []
        if kind in ("at_most_one", "exactly_one"):
            premises = [sheet.step(kind, contracts)]
    step = continuity(sheet, 0, (-3, 3))
    sheet.steps[step]["premises"] = premises
    assert sheet.code() == ("UNSUPPORTED" if kind == "log_norm" else "PREMISE")
