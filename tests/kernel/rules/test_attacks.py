"""Certificates that claim something false about fixed points, each built to slip past one check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, linear_model, real, zero_factor
from tests.kernel.graphs import Json, Nodes, dyadic, vector
from trm_verify.kernel import relaxation
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe, find, parse_expectation
from trm_verify.kernel.rules import fixed_points

HALF, EIGHTH, TINY = F(1, 2), F(1, 8), F(1, 2**60)
THREE = "three"  # clamp(½ + 3(z − ½), ¼, ¾): fixed points ¼, ½ and ¾


def three(readout: Json | None = None) -> Json:
    nodes = Nodes()
    out = nodes.add("add", nodes.scale(nodes.state(), 3), nodes.constant([F(-1)]))
    return graph_json(nodes.function(nodes.clamp(out, F(1, 4), F(3, 4))), readout=readout)


def two_logits() -> Json:
    """(z, ½)."""
    nodes = Nodes()
    return nodes.function(nodes.add("concat", nodes.state(), nodes.constant([HALF]), axis=0))


def follower(readout: Json | None = None, rate: F = HALF) -> Json:
    """z ← ρz + (1−ρ)x, whose only fixed point is x."""
    nodes = Nodes()
    z, x = nodes.state(), nodes.add("input")
    out = nodes.add("linear", z, nodes.constant([[rate]]))
    out = nodes.add("add", out, nodes.add("linear", x, nodes.constant([[1 - rate]])))
    return graph_json(nodes.function(out), given=real(1), readout=readout)


def bare(function: Any, given: Json | None = None, readout: Json | None = None, state: Any = ((1,),)) -> Json:
    nodes = Nodes()
    return graph_json(nodes.function(function(nodes)), state, given, readout=readout)


def trees(
    multipliers: Sequence[Any], splits: Sequence[int] = (-1,), at: Sequence[Any] = (), weights: Any = None
) -> Json:
    leaves = list(splits).count(-1)
    return {
        "splits": list(splits), "at": vector(at), "multipliers": vector(multipliers),
        "weights": vector([1] * leaves if weights is None else list(weights)),
    }  # fmt: skip


def sides(targets: Sequence[int], signs: Sequence[int], multipliers: Sequence[Any], **rest: Any) -> Json:
    return {"targets": list(targets), "signs": list(signs), **trees(multipliers, [-1] * len(targets), **rest)}


def start(sheet: Sheet, lo: Any, hi: Any, scale: Any = None, domain: int | None = None) -> int:
    domain = sheet.point() if domain is None else domain
    region = sheet.box(lo, hi) if lo is not None else sheet.all()
    return sheet.step("fixed_points_in", domain=domain, region=region, scale=scale and vector(scale))


def enclosure(
    sheet: Sheet, lo: Any, hi: Any, slopes: Sequence[Any] = (), matrix: Sequence[Any] = (1,), unique: Any = False,
    scale: Any = None, domain: int | None = None,
) -> int:  # fmt: skip
    return sheet.step(
        "enclosure", domain=sheet.point() if domain is None else domain, region=sheet.box(lo, hi),
        scale=scale and vector(scale), slopes=vector(slopes), matrix=vector(matrix), unique=unique,
    )  # fmt: skip


def converging(sheet: Sheet, domain: int, region: int | None = None, invariant: int | None = None) -> int:
    """Contraction at ½ in |·|, and convergence, from everywhere unless a region and an invariant box are given."""
    region = sheet.all() if region is None else region
    premises = [sheet.contraction(HALF, sheet.block(1), region, domain)]
    if invariant is not None:
        premises.append(sheet.step("invariant_box", operator="picard", domain=domain, region=invariant))
    return sheet.step("convergence", *premises, start=region if invariant is None else invariant)


def refutation(sheet: Sheet, step: int, of: str, domain: int, region: int | None = None, **rest: Any) -> Sheet:
    fields = dict.fromkeys(("operator", "norm", "rate", "answer")) | rest
    return sheet.claim(step, "refutation", of=of, domain=domain, region=region, **fields)


# what is known to begin with


def test_an_argument_reads_states_that_are_later_units() -> None:
    """z = relu(1 − 5z): in merged columns the argument is 1 − 5u, and u is not known yet. Its fixed point is 1/6."""
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    step = sheet.step("duality", start(sheet, 0, 3), **sides([], [], []))
    sheet.claim(step, "encloses_all", domain=sheet.point(), region=sheet.box(0, 3), box=sheet.box(1, 1))
    assert sheet.code() == "CLAIM"


def test_two_states_that_read_each_other_from_later_units() -> None:
    sheet = Sheet(linear_model([[F(0), F(-5)], [F(1), F(0)]], [F(1), F(0)], "relu"))  # (1/6, 1/6)
    step = sheet.step("duality", start(sheet, [0, 0], [3, 3]), **sides([], [], []))
    region = sheet.box([0, 0], [3, 3])
    sheet.claim(step, "encloses_all", domain=sheet.point(), region=region, box=sheet.box([HALF, 0], [3, 3]))
    assert sheet.code() == "CLAIM"


def test_arguments_of_the_readout_use_what_is_known_of_the_step() -> None:
    """Logits (relu(z), ½) at z = 1/6: the second wins, whatever is known of later units."""
    nodes = Nodes()
    logits = nodes.add("concat", nodes.add("relu", nodes.state()), nodes.constant([HALF]), axis=0)
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu", readout=nodes.function(logits)))
    known = enclosure(sheet, 0, 1, [1], [F(1, 8)])
    for label in (0, 1):
        sheet.steps[known + 1 :] = []
        cut = trees([1, 0, -F(11, 64), -1], [0, -1, -1], [0], [0, 1])  # where the argument is ≤ 0 there is none
        sheet.step("fixed_point_answer", known, answer=[label], **cut)
        assert sheet.code() == (ACCEPTED if label else "MARGIN")


def test_an_unbounded_region_bounds_no_argument() -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    step = sheet.step("duality", start(sheet, None, None), **sides([0], [-1], [0]))
    sheet.claim(step, "encloses_all", domain=sheet.point(), region=sheet.all(), box=sheet.box(0, 9))
    assert sheet.code() == "CLAIM"


# rescaling


@pytest.mark.parametrize(
    ("activation", "scale", "code"),
    [
        ("relu", [F(-1)], "WITNESS"),  # relu(2z − 1) has 0 and 1; rescaled by −1 it has 1 alone
        ("relu", [F(0)], "WITNESS"),
        ("relu", [HALF], ACCEPTED),
        ("tanh", [HALF], "WITNESS"),
        ("abs", [HALF], "WITNESS"),
        ("sigmoid", [F(2)], "WITNESS"),
        (None, [HALF], "WITNESS"),  # the state is no unit
        ("relu", [HALF, HALF], "NUMBER"),
    ],
)
def test_only_projections_are_rescaled_and_by_positive_factors(activation: str | None, scale: Any, code: str) -> None:
    sheet = Sheet(linear_model([[F(2)]], [F(-1)], activation))
    start(sheet, 0, 3, scale)
    assert sheet.code() == code


def test_a_unit_times_two_is_no_state_to_rescale() -> None:
    sheet = Sheet(bare(lambda n: n.scale(n.add("relu", n.scale(n.state(), -1, 2)), 2)))
    start(sheet, 0, 3, [HALF])
    assert sheet.code() == "WITNESS"


# trees


@pytest.mark.parametrize(
    ("splits", "at", "weights", "code"),
    [
        ([-1], [], [1], ACCEPTED),
        ([0, -1, -1], [0], [1, 1], ACCEPTED),
        ([0, -1], [0], [1], "WITNESS"),  # half a tree
        ([-1, -1], [], [1, 1], "WITNESS"),
        ([0, -1, -1], [], [1, 1], "NUMBER"),
        ([0, -1, -1], [0, 0], [1, 1], "NUMBER"),
        ([0, -1, -1], [0], [1], "NUMBER"),
        ([0, -1, -1], [0], [1, 0], "INEQUALITY"),  # a leaf said to be empty that is not shown to be
        ([0, -1, -1], [0], [1, -2], "NUMBER"),
        ([5, -1, -1], [0], [1, 1], "WITNESS"),
        ([-2, -1, -1], [0], [1, 1], "NUMBER"),
        ([0, 0, -1, -1, -1], [0, 1], [1, 1, 1], ACCEPTED),  # a threshold beyond the parent's part
    ],
)
def test_a_tree_is_whole(splits: list[int], at: list[int], weights: list[int], code: str) -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    leaves = splits.count(-1)
    sheet.step("duality", start(sheet, 0, 3), targets=[0], signs=[1], **trees([0] * leaves, splits, at, weights))
    assert sheet.code() == code


def test_both_sides_of_a_cut_count() -> None:
    """z = |z|/2 + 1 has fixed points 2 and nothing else; where z ≤ 0 it has none, which must be shown."""
    nodes = Nodes()
    out = nodes.add("add", nodes.scale(nodes.add("abs", nodes.state()), 1, 2), nodes.constant([F(1)]))
    sheet = Sheet(graph_json(nodes.function(out)))
    known = start(sheet, -4, 4)
    for weights, code in (([0, 1], ACCEPTED), ([1, 0], "INEQUALITY"), ([0, 0], "INEQUALITY")):
        sheet.steps[known + 1 :] = []
        sheet.step("duality", known, targets=[0], signs=[1], **trees([1, 1, 0, 0], [0, -1, -1], [0], weights))
        assert sheet.code() == code


def test_emptiness_is_strict() -> None:
    """0 ≥ 0 is no contradiction: the identity has a fixed point everywhere."""
    sheet = Sheet(bare(lambda n: n.scale(n.state(), 1)))
    sheet.step("no_fixed_point", start(sheet, 0, 1), **trees([1], weights=[0]))
    assert sheet.code() == "INEQUALITY"


def test_no_fixed_point_needs_every_leaf_to_be_empty() -> None:
    sheet = Sheet(three())
    sheet.step("no_fixed_point", start(sheet, 0, 1), **trees([0], weights=[1]))
    assert sheet.code() == "INEQUALITY"


def test_exactly_one_is_refuted_where_there_is_none_and_on_that_region_alone() -> None:
    sheet = Sheet(bare(lambda n: n.add("add", n.state(), n.constant([F(1)]))))
    step = sheet.step("no_fixed_point", start(sheet, 0, 1), **trees([1], weights=[0]))
    refutation(sheet, step, "exactly_one", sheet.point(), sheet.box(0, 1)).check()
    for region in (sheet.box(0, HALF), sheet.box(-1, 1), sheet.all(), None):
        sheet.claims.clear()
        assert refutation(sheet, step, "exactly_one", sheet.point(), region).code() == "CLAIM"


# the claims of an enclosure


def test_the_direction_of_every_containment() -> None:
    sheet = Sheet(three())
    every = start(sheet, 0, 1)
    one = enclosure(sheet, 0, 1, [0])
    only = enclosure(sheet, F(5, 8), F(7, 8), [0], unique=True)
    point, whole = sheet.point(), sheet.box(0, 1)
    image = sheet.box(F(1, 4), F(3, 4))
    cases = [
        (every, "encloses_all", whole, whole, ACCEPTED),
        (every, "encloses_all", sheet.box(HALF, 1), whole, ACCEPTED),
        (every, "encloses_all", sheet.box(0, 2), sheet.box(0, 2), "CLAIM"),
        (every, "encloses_one", whole, whole, "CLAIM"),
        (one, "encloses_one", whole, image, ACCEPTED),
        (one, "encloses_one", whole, sheet.box(F(1, 4), HALF), "CLAIM"),
        (one, "encloses_one", sheet.box(0, HALF), whole, "CLAIM"),
        (one, "encloses_one", sheet.all(), whole, "CLAIM"),
        (one, "encloses_the", whole, whole, "CLAIM"),
        (only, "encloses_the", sheet.box(F(5, 8), F(7, 8)), sheet.box(F(3, 4), F(3, 4)), ACCEPTED),
        (only, "encloses_the", whole, whole, "CLAIM"),
        (only, "encloses_the", sheet.box(F(11, 16), F(7, 8)), whole, "CLAIM"),
    ]
    for step, name, region, box, verdict in cases:
        sheet.claims[:] = []
        sheet.claim(step, name, domain=point, region=region, box=box)
        for other in (every, one, only):
            if other != step:
                sheet.claim(other, "encloses_all", domain=point, region=sheet.box(F(11, 16), F(3, 4)), box=whole)
        assert sheet.verdict() == verdict, (name, verdict)


def test_an_enclosure_is_neither_uniqueness_nor_convergence() -> None:
    sheet = Sheet(three())
    step = enclosure(sheet, 0, 1, [0])
    for name in ("exactly_one", "at_most_one"):
        sheet.claims.clear()
        assert sheet.claim(step, name, domain=sheet.point(), region=sheet.box(0, 1)).code() == "CLAIM"
    sheet = Sheet(three())
    enclosure(sheet, 0, 1, [0], unique=True)
    assert sheet.code() == "INEQUALITY"


@pytest.mark.parametrize(
    ("matrix", "lo", "hi"),
    [
        (F(0), F(0), F(1)),  # Y = 0 maps every box onto itself
        (F(1), F(1, 4), F(3, 4)),  # the image is the box
        (F(1), F(1, 4) + TINY, F(1)),
        (F(1), HALF, HALF),  # a point has no interior
    ],
)
def test_the_image_lies_strictly_inside(matrix: F, lo: F, hi: F) -> None:
    sheet = Sheet(three())
    enclosure(sheet, lo, hi, [0], [matrix])
    assert sheet.code() == "INCLUSION"


def test_a_singular_matrix_shows_nothing_in_two_dimensions() -> None:
    """Y = diag(1, 0): the second coordinate is never looked at."""
    nodes = Nodes()
    out = nodes.add("add", nodes.scale(nodes.state(), 0), nodes.constant([HALF, F(9)]))
    sheet = Sheet(graph_json(nodes.function(out), [[2]]))
    enclosure(sheet, [0, 0], [1, 1], [], [1, 0, 0, 0])
    assert sheet.code() == "INCLUSION"


def test_uniqueness_needs_slopes_of_every_operation() -> None:
    for square, code in ((False, ACCEPTED), (True, "UNSUPPORTED")):
        sheet = Sheet(bare(lambda n, s=square: n.scale(n.add("mul", n.state(), n.state()) if s else n.state(), 1, 4)))
        enclosure(sheet, F(-1, 2), F(1, 2), [0] * square, unique=True)
        assert sheet.code() == code


def test_located_needs_at_most_one_where_it_says_so() -> None:
    sheet = Sheet(three())
    around = enclosure(sheet, F(7, 16), F(9, 16), [1], [-HALF], unique=True)  # the repelling fixed point ½
    for outer, code in ((start(sheet, 0, 1), "INCLUSION"), (start(sheet, F(7, 16), F(9, 16)), ACCEPTED)):
        step = sheet.step("located", outer, around)
        assert sheet.code() == code
        sheet.steps.pop(step)


def test_located_keeps_to_the_region_and_domain_of_the_first_premise() -> None:
    sheet = Sheet(follower())
    wide, narrow = sheet.box(0, 8, "input"), sheet.box(0, 1, "input")
    local = sheet.box(-1, 2)
    contraction = sheet.contraction(HALF, sheet.block(1), local, narrow)
    one = sheet.step("at_most_one", contraction)
    for domain, lo, hi, code in ((narrow, -1, 2, ACCEPTED), (wide, -1, 9, "CONTEXT"), (narrow, -1, 9, ACCEPTED)):
        sheet.steps[one + 1 :] = []
        inside = enclosure(sheet, lo, hi, [], [2], domain=domain)
        sheet.step("located", one, inside)
        assert sheet.code() == code
    sheet.steps[one + 1 :] = []
    elsewhere = enclosure(sheet, 1, 9, [], [2], domain=sheet.box(2, 8, "input"))
    sheet.step("located", one, elsewhere)
    assert sheet.code() == "CONTEXT"
    sheet.steps[one + 1 :] = []
    sheet.step("located", one, start(sheet, -1, 2, domain=narrow))  # nothing says that there is one
    assert sheet.code() == "PREMISE"


# continuity


def continuity(
    sheet: Sheet, premise: int, lo: Any, hi: Any, at: Any, centre: Any, multipliers: Sequence[Any],
    units: tuple[Any, Any] = ((), ()), targets: Any = (0, 0), domain: int | None = None, scale: Any = None,
) -> int:  # fmt: skip
    return sheet.step(
        "by_continuity", premise, domain=sheet.box(0, 1, "input") if domain is None else domain,
        region=sheet.box(lo, hi), scale=scale, input=vector([at]), center=vector([centre]), lo=vector(units[0]),
        hi=vector(units[1]), **sides(targets, [1, -1] * (len(targets) // 2), multipliers),
    )  # fmt: skip


def test_the_fixed_point_is_enclosed_where_the_path_begins_inside() -> None:
    sheet = Sheet(follower())
    premise = converging(sheet, sheet.box(0, 1, "input"))
    step = continuity(sheet, premise, -1, 2, HALF, HALF, [2, -2])
    sheet.claim(step, "encloses_the", domain=sheet.box(0, 1, "input"), region=sheet.all(), box=sheet.box(0, 1)).check()
    sheet.claims.clear()
    sheet.claim(step, "encloses_the", domain=sheet.box(0, 1, "input"), region=sheet.all(), box=sheet.box(0, 1 - TINY))
    assert sheet.code() == "CLAIM"


def test_a_boundary_that_may_be_touched_encloses_nothing() -> None:
    """Multipliers of zero give back the box itself: z ≤ ½ while the fixed point goes to 1."""
    sheet = Sheet(follower())
    premise = converging(sheet, sheet.box(0, 1, "input"))
    continuity(sheet, premise, -1, HALF, 0, 0, [2, 0])
    assert sheet.code() == "INCLUSION"


def vacuous(sheet: Sheet, premise: int, at: Any = HALF, centre: Any = F(5, 2)) -> int:
    """On [2, 3] there is no fixed point, so that z > 2 and z < 3 are both shown there, by combining contradictions."""
    return continuity(sheet, premise, 2, 3, at, centre, [-F(1, 4), -F(1, 4)])


def test_without_a_start_inside_anything_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet(follower())
    vacuous(sheet, converging(sheet, sheet.box(0, 1, "input")))
    assert sheet.code() == "INCLUSION"
    monkeypatch.setattr(fixed_points, "_require_start", lambda *a: None)
    assert sheet.code() == ACCEPTED


@pytest.mark.parametrize(("at", "centre"), [(F(5, 2), F(5, 2)), (F(-1), F(5, 2)), (HALF, F(100))])
def test_the_start_is_an_input_of_the_domain(at: F, centre: F) -> None:
    sheet = Sheet(follower())
    vacuous(sheet, converging(sheet, sheet.box(0, 1, "input")), at, centre)
    assert sheet.code() == "INCLUSION"


def gate() -> Json:
    """z ← relu(x − 1)/2 + z/2: the fixed point is relu(x − 1)."""
    nodes = Nodes()
    shifted = nodes.add("add", nodes.add("input"), nodes.constant([F(-1)]))
    half = nodes.scale(nodes.add("relu", shifted), 1, 2)
    return graph_json(nodes.function(nodes.add("add", half, nodes.scale(nodes.state(), 1, 2))), given=real(1))


@pytest.mark.parametrize(
    ("lo", "hi", "targets", "code"),
    [
        (-2, 2, (0, 0, 1, 1), ACCEPTED),
        (-1, 1, (0, 0, 1, 1), "INCLUSION"),  # the argument goes to −1 and to 1: it touches
        (-2, 2, (0, 0), "INCLUSION"),  # nothing is said of the argument
        (1, 2, (0, 0, 1, 1), "INCLUSION"),  # it begins at 0
        (2, -2, (0, 0, 1, 1), "WITNESS"),
    ],
)
def test_every_argument_begins_and_stays_strictly_inside(lo: Any, hi: Any, targets: Any, code: str) -> None:
    """x from 0 to 2. With the argument held in [−2, 0] by mistake, the fixed point would be 0 throughout."""
    sheet = Sheet(gate())
    domain = sheet.box(0, 2, "input")
    premise = converging(sheet, domain)
    multipliers = [2, 0, -2, 0, 0, 1, 0, -1][: 2 * len(targets)]
    continuity(sheet, premise, -1, 4, 1, 0, multipliers, ([lo], [hi]), targets, domain)
    assert sheet.code() == code


def test_a_local_premise_encloses_in_its_region_only() -> None:
    sheet = Sheet(follower())
    domain = sheet.box(0, 1, "input")
    premise = converging(sheet, domain, sheet.box(0, 1), sheet.box(0, 1))
    continuity(sheet, premise, -1, 2, HALF, HALF, [2, -2])
    assert sheet.code() == "INCLUSION"


def test_a_domain_beyond_the_premise_is_another_path() -> None:
    sheet = Sheet(follower())
    premise = converging(sheet, sheet.box(0, 1, "input"))
    for domain in (sheet.box(0, 2, "input"), sheet.all("input")):
        step = continuity(sheet, premise, -1, 3, HALF, HALF, [2, -2], domain=domain)
        assert sheet.code() == "CONTEXT"
        sheet.steps.pop(step)


def test_integer_inputs_are_no_path() -> None:
    """z = table[x] takes 0 and 100; between the integers nothing is continuous."""
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.add("input"), nodes.constant([[F(0)], [F(100)]]))
    out = nodes.add("add", nodes.add("reshape", rows, shape=[1]), nodes.scale(nodes.state(), 1, 2))
    sheet = Sheet(graph_json(nodes.function(out), given={"shape": [1], "kind": "integer", "size": 2}))
    domain = sheet.box(0, 1, "input")
    premise = converging(sheet, domain)
    continuity(sheet, premise, -1, 1, 0, 0, [2, -2], ([0], [0]), domain=domain)
    assert sheet.code() == "CONTEXT"


def test_values_known_inside_the_box_only_stay_strictly_inside() -> None:
    """(z + 3)/x for x in [2, 4] maps [1, 3] onto itself: beyond the box its values are not known."""
    nodes = Nodes()
    out = nodes.add("div", nodes.add("add", nodes.state(), nodes.constant([F(3)])), nodes.add("input"))
    sheet = Sheet(graph_json(nodes.function(out), given=real(1)))
    domain = sheet.box(2, 4, "input")
    premise = converging(sheet, domain)
    for lo, hi, code in ((1, 3, "INCLUSION"), (F(7, 8), F(25, 8), ACCEPTED)):
        step = continuity(sheet, premise, lo, hi, 4, 1, [], ([0], [0]), (), domain)
        assert sheet.code() == code
        sheet.steps.pop(step)


def test_a_log_norm_model_has_no_start_of_its_own() -> None:
    sheet = Sheet(linear_model([[F(-1)]], [F(0)], "relu", given=real(1)))
    domain = sheet.box(0, 1, "input")
    for premise, code in (
        (sheet.step("log_norm", domain=domain, vector=vector([1])), "UNSUPPORTED"),
        (sheet.step("monotone", domain=domain, m=dyadic(HALF), factor=zero_factor(1)), ACCEPTED),
    ):
        step = continuity(sheet, premise, -1, 2, HALF, F(1, 4), [1, -1], ([-1], [2]), (1, 1), domain)
        assert sheet.code() == code
        sheet.steps.pop(step)


# answers


def test_an_answer_at_no_fixed_point_is_none() -> None:
    sheet = Sheet(bare(lambda n: n.add("add", n.state(), n.constant([F(1)])), readout=two_logits()))
    sheet.step("fixed_point_answer", start(sheet, 0, 1), answer=[0], **trees([9]))
    assert sheet.code() == "PREMISE"


def test_every_fixed_point_of_the_region_must_answer() -> None:
    sheet = Sheet(three(two_logits()))
    known = enclosure(sheet, 0, 1, [0])
    for label in (0, 1):
        step = sheet.step("fixed_point_answer", known, answer=[label], **trees([0]))
        assert sheet.code() == "MARGIN"  # ¼ answers 1, ½ ties, ¾ answers 0
        sheet.steps.pop(step)


def test_a_tie_is_no_answer() -> None:
    sheet = Sheet(bare(lambda n: n.add("add", n.scale(n.state(), 1, 2), n.constant([F(1, 4)])), readout=two_logits()))
    known = enclosure(sheet, 0, 1, [], [2])
    sheet.step("fixed_point_answer", known, answer=[0], **trees([-2]))
    assert sheet.code() == "MARGIN"


def test_a_fixed_point_answers_and_its_loop_does_not() -> None:
    """relu(1 − 5z) goes 0, 1, 0, 1, …; its fixed point is 1/6."""
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu", readout=two_logits()))
    answered = sheet.step(
        "fixed_point_answer", enclosure(sheet, 0, F(1, 4), [1], [F(1, 8)]), answer=[1], **trees([-EIGHTH])
    )
    assert sheet.code() == ACCEPTED
    sheet.claim(answered, "answer", operator="picard", domain=sheet.point(), answer=[1], steps=10)
    assert sheet.code() == "CLAIM"
    sheet.step("answer_by_fixed_point", answered, answered, steps=10)
    assert sheet.code() == "PREMISE"


def follower_answer(sheet: Sheet, lo: Any, hi: Any, label: int, region: tuple[Any, Any] = (-1, 2)) -> int:
    domain = sheet.box(lo, hi, "input")
    known = enclosure(sheet, *region, [], [2], domain=domain)
    return sheet.step("fixed_point_answer", known, answer=[label], **trees([-2 if label else 2]))


def test_iterates_answer_once_they_are_near_enough() -> None:
    """From 0 the loop is at 1 − 2⁻ᵏ of x; the answer is 0 where z > ½."""
    sheet = Sheet(follower(two_logits()))
    domain = sheet.box(F(3, 4), 1, "input")
    loop = converging(sheet, domain)
    answered = follower_answer(sheet, F(3, 4), 1, 0)
    assert sheet.code() == ACCEPTED
    local = sheet.step("answer_by_fixed_point", loop, answered, steps=3)
    assert sheet.code() == "INCLUSION"  # the answer speaks of [−1, 2], the loop of everything
    sheet.steps.pop(local)
    located = sheet.step("located", loop, 2)
    answered = sheet.step("fixed_point_answer", located, answer=[0], **trees([2]))
    for steps, code in ((1, "MARGIN"), (2, "MARGIN"), (3, ACCEPTED)):
        step = sheet.step("answer_by_fixed_point", loop, answered, steps=steps)
        assert sheet.code() == code, steps
        sheet.steps.pop(step)


def test_a_loop_on_fewer_inputs_does_not_answer_on_more() -> None:
    sheet = Sheet(follower(two_logits()))
    loop = converging(sheet, sheet.box(F(7, 8), 1, "input"))
    wide = converging(sheet, sheet.box(F(3, 4), 1, "input"))
    one = enclosure(sheet, -1, 2, [], [2], domain=sheet.box(F(3, 4), 1, "input"))
    answered = sheet.step("fixed_point_answer", sheet.step("located", wide, one), answer=[0], **trees([2]))
    for premise, code in ((loop, "CONTEXT"), (wide, ACCEPTED)):
        step = sheet.step("answer_by_fixed_point", premise, answered, steps=9)
        assert sheet.code() == code
        sheet.steps.pop(step)


def test_domains_are_joined_only_where_they_meet() -> None:
    for lo, hi, label, region, code in (
        (HALF, 1, 1, (-1, 2), "MARGIN"),
        (F(-1), F(-1, 2), 1, (-1, 2), ACCEPTED),
        (F(-1), F(-5, 8), 1, (-1, 2), "INCLUSION"),  # a gap
        (F(-1), F(-1, 2), 1, (-1, 3), "CONTEXT"),  # another region
    ):
        sheet = Sheet(follower(two_logits()))
        first = follower_answer(sheet, F(-1, 2), 0, 1, (-2, 3))
        sheet.steps[0]["region"] = sheet.box(-2, region[1])
        second = follower_answer(sheet, lo, hi, label, (-2, 2))
        sheet.step("joined_domains", first, second)
        assert sheet.code() == code, (lo, hi)


def test_boxes_that_differ_in_two_inputs_make_no_box() -> None:
    nodes = Nodes()
    out = nodes.add("linear", nodes.add("input"), nodes.constant([[F(1), F(1)]]))
    sheet = Sheet(graph_json(nodes.function(out), given=real(2), readout=two_logits()))
    answers = []
    for corner in ([0, 0], [EIGHTH, EIGHTH], [EIGHTH, 0]):
        domain = sheet.box(corner, [c + EIGHTH - TINY * (c > 0) for c in corner], "input")
        known = enclosure(sheet, -1, 2, domain=domain)
        answers.append(sheet.step("fixed_point_answer", known, answer=[1], **trees([F(-1)])))
    for second, code in ((answers[1], "INCLUSION"), (answers[2], ACCEPTED)):
        step = sheet.step("joined_domains", answers[0], second)
        assert sheet.code() == code
        sheet.steps.pop(step)


# refutations


def ratio(*values: F) -> Json:
    """Numerators over one denominator."""
    denominator = max(v.denominator for v in values) if values else 1
    return {"numerators": vector([v * denominator for v in values]), "denominator": dyadic(denominator)}


def at(sheet: Sheet, state: Sequence[F], given: Sequence[F] = ()) -> int:
    return sheet.step("fixed_point_at", input=ratio(*given), state=ratio(*state))


@pytest.mark.parametrize(
    ("state", "code"), [(F(1, 6), ACCEPTED), (F(1, 6) + F(1, 2**300), "INEQUALITY"), (F(-1, 6), "INEQUALITY")]
)
def test_a_fixed_point_is_exact(state: F, code: str) -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    at(sheet, [state])
    assert sheet.code() == code


def test_a_rational_point_is_evaluated_exactly_or_not_at_all() -> None:
    for op in ("tanh", "sin", "silu"):
        sheet = Sheet(linear_model([[F(1)]], [F(0)], op))
        at(sheet, [F(0)])
        assert sheet.code() == "UNSUPPORTED"
    sheet = Sheet(bare(lambda n: n.add("mul", n.add("input"), n.state()), given=real(1)))
    at(sheet, [F(5)], [F(1)])
    assert sheet.code() == ACCEPTED
    at(sheet, [F(0)], [F(1, 3)])  # 0 times an interval is 0
    assert sheet.code() == ACCEPTED
    at(sheet, [F(5)], [F(1, 3)])  # this product is known by an interval
    assert sheet.code() == "UNSUPPORTED"


@pytest.mark.parametrize("denominator", [F(0), F(-1)])
def test_a_denominator_is_positive(denominator: F) -> None:
    sheet = Sheet(three())
    sheet.step(
        "fixed_point_at", input=ratio(), state={"numerators": vector([0]), "denominator": dyadic(denominator)}
    )  # fmt: skip
    assert sheet.code() == "WITNESS"


def test_an_integer_input_is_an_integer() -> None:
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.add("input"), nodes.constant([[F(0)], [F(1)]]))
    given = {"shape": [1], "kind": "integer", "size": 2}
    out = nodes.add("add", nodes.add("reshape", rows, shape=[1]), nodes.scale(nodes.state(), 0))
    for x, code in ((F(1), ACCEPTED), (HALF, "BOX"), (F(2), "BOX"), (F(-1), "BOX")):
        sheet = Sheet(graph_json(nodes.function(out), given=given))
        at(sheet, [F(1)], [x])
        assert sheet.code() == code


def test_two_fixed_points_are_two_and_of_one_input() -> None:
    sheet = Sheet(three())
    points = [at(sheet, [F(k, 4)]) for k in (1, 2, 3)]
    step = sheet.step("two_fixed_points", points[0], points[2])
    point = sheet.point()
    refutation(sheet, step, "at_most_one", point, sheet.box(F(1, 4), F(3, 4)))
    sheet.claim(
        points[1], "encloses_all", domain=point, region=sheet.box(0, 1), box=sheet.box(0, 1)
    )  # not even a premise
    assert sheet.code() == "CLAIM"
    sheet.claims.pop()
    sheet.steps.pop(points[1])
    sheet.steps[-1]["premises"] = [0, 1]
    sheet.claims[0]["step"] = 2
    sheet.check()
    for of, region, code in (
        ("at_most_one", sheet.all(), ACCEPTED),
        ("at_most_one", sheet.box(F(1, 4), HALF), "CLAIM"),
        ("at_most_one", None, "CLAIM"),
        ("exactly_one", sheet.box(F(1, 4), F(3, 4)), "CLAIM"),
        ("convergence", sheet.box(F(1, 4), F(3, 4)), "CLAIM"),
    ):
        sheet.claims[:] = []
        assert refutation(sheet, 2, of, point, region).verdict() == code
    sheet.steps[-1]["premises"] = [0, 0]
    assert sheet.code() == "CONTEXT"


@pytest.mark.parametrize("swap", [False, True])
def test_a_third_and_a_binary_fraction_next_to_it_are_two_inputs(swap: bool) -> None:
    """z = 2³⁰⁰ x: at 1/3 and at the binary fraction below it the fixed points are far apart, and each is alone."""
    nodes = Nodes()
    sheet = Sheet(graph_json(nodes.function(nodes.scale(nodes.add("input"), 1 << 300)), given=real(1)))
    near = F(2**256 // 3, 2**256)
    exact = at(sheet, [F(2**300, 3)], [F(1, 3)])
    z = near * 2**300
    other = enclosure(sheet, z - 1, z + 1, domain=sheet.point(near))
    sheet.step("two_fixed_points", *([other, exact] if swap else [exact, other]))
    assert sheet.code() == "CONTEXT"


def test_boxes_of_two_fixed_points_do_not_meet() -> None:
    sheet = Sheet(three())
    point, box = at(sheet, [F(3, 4)]), enclosure(sheet, F(5, 8), F(7, 8), [0])
    other = enclosure(sheet, 0, F(3, 8), [0])
    for premises, code in (
        ((point, box), "INCLUSION"), ((box, box), "INCLUSION"), ((box, other), ACCEPTED), ((other, point), ACCEPTED),
        ((box,), "PREMISE"), ((start(sheet, 0, 1), other), "PREMISE"),
    ):  # fmt: skip
        step = sheet.step("two_fixed_points", *premises)
        assert sheet.code() == code
        sheet.steps.pop(step)


def test_fixed_points_of_different_domains_are_not_two() -> None:
    sheet = Sheet(follower())
    boxes = [
        enclosure(sheet, lo, lo + F(1, 2), [], [2], domain=sheet.box(lo + EIGHTH, lo + 3 * EIGHTH, "input"))
        for lo in (F(0), F(1))
    ]
    sheet.step("two_fixed_points", *boxes)
    assert sheet.code() == "CONTEXT"


def test_another_answer_is_another_one() -> None:
    sheet = Sheet(three(two_logits()))
    tie = at(sheet, [HALF])  # logits ½ and ½: neither label is the strict one
    low = at(sheet, [F(1, 4)])
    for premise, label, code in ((tie, 0, ACCEPTED), (tie, 1, ACCEPTED), (low, 0, ACCEPTED), (low, 1, "MARGIN")):
        step = sheet.step("other_answer", premise, answer=[label])
        assert sheet.code() == code
        sheet.steps.pop(step)
    sheet.steps.pop(low)
    step = sheet.step("other_answer", tie, answer=[1])
    point = sheet.point()
    for of, region, answer, code in (
        ("fixed_point_answer", sheet.box(0, 1), [1], ACCEPTED),
        ("fixed_point_answer", sheet.box(0, F(3, 8)), [1], "CLAIM"),
        ("fixed_point_answer", sheet.box(0, 1), [0], "CLAIM"),
        ("fixed_point_answer", None, [1], "CLAIM"),
        ("answer", sheet.box(0, 1), [1], "CLAIM"),
        ("answer_at", None, [1], "CLAIM"),
    ):
        sheet.claims[:] = []
        assert refutation(sheet, step, of, point, region, answer=answer).verdict() == code


def test_an_answer_fails_on_larger_domains_only() -> None:
    sheet = Sheet(follower(two_logits()))
    step = sheet.step("other_answer", follower_answer(sheet, F(0), F(1, 4), 1), answer=[0])
    for lo, hi, code in ((0, F(1, 4), ACCEPTED), (-1, 1, ACCEPTED), (0, EIGHTH, "CLAIM"), (HALF, 1, "CLAIM")):
        sheet.claims[:] = []
        domain = sheet.box(lo, hi, "input")
        assert refutation(sheet, step, "fixed_point_answer", domain, sheet.all(), answer=[0]).verdict() == code


def test_the_answer_of_a_loop_is_refuted_without_a_region() -> None:
    sheet = Sheet(linear_model([[HALF]], [F(0)], readout=two_logits()))
    invariant = sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=sheet.box(0, F(1, 4)))
    answer = sheet.step("answer_by_invariance", invariant, domain=sheet.point(), answer=[1], steps=0)
    step = sheet.step("other_answer", answer, answer=[0])
    for region, operator, code in (
        (None, "picard", ACCEPTED),
        (sheet.box(0, 1), "picard", "CLAIM"),
        (None, "implicit", "CLAIM"),
        (None, {"outer_damped": vector([HALF])}, "CLAIM"),
        (None, None, "CLAIM"),
    ):
        sheet.claims[:] = []
        refuted = refutation(sheet, step, "answer", sheet.point(), region, operator=operator, answer=[0])
        assert refuted.verdict() == code


def loop(sheet: Sheet, operator: Any = "picard", period: int = 2, **change: Any) -> int:
    """The orbit 0, 1, 0, 1, … of relu(1 − 5z)."""
    witness = {
        "lo": vector([F(7, 8), -F(1, 64)]), "hi": vector([F(9, 8), F(1, 64)]), "slopes": vector([1, 0]),
        "matrix": vector([1, -5, 0, 1]),
    }  # fmt: skip
    return sheet.step("cycle", operator=operator, domain=sheet.point(), period=period, **witness | change)


def test_a_cycle_leaves_its_first_box_and_refutes_what_starts_there() -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    step = loop(sheet)
    point, damped = sheet.point(), {"outer_damped": vector([HALF])}
    for region, operator, code in (
        (sheet.box(0, 1 + TINY), "picard", ACCEPTED),
        (sheet.all(), "picard", ACCEPTED),
        (sheet.box(0, HALF), "picard", "CLAIM"),  # the claim may start elsewhere
        (sheet.all(), damped, "CLAIM"),
        (sheet.all(), "implicit", "CLAIM"),
        (None, "picard", "CLAIM"),
    ):
        sheet.claims[:] = []
        assert refutation(sheet, step, "convergence", point, region, operator=operator).verdict() == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"period": 1}, "NUMBER"),
        ({"period": 65}, "NUMBER"),
        ({"operator": "implicit"}, "UNSUPPORTED"),
        ({"operator": {"inner_damped": dyadic(HALF)}}, "UNSUPPORTED"),
        ({"operator": {"outer_damped": vector([F(1, 4)])}}, "INCLUSION"),  # the damped loop converges
        ({"lo": vector([F(9, 8), 0])}, "INCLUSION"),
        ({"lo": vector([2, 0])}, "BOX"),
        ({"lo": vector([0])}, "NUMBER"),
        ({"matrix": vector([0, 0, 0, 0])}, "INCLUSION"),
    ],
)
def test_what_is_no_cycle(change: Json, code: str) -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    loop(sheet, **change)
    assert sheet.code() == code


def test_a_fixed_point_is_no_cycle() -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    matrix = [F(round(v * 2**20), 2**20) for v in (-F(1, 24), F(5, 24), F(5, 24), -F(1, 24))]  # (I − J)⁻¹
    loop(sheet, lo=vector([EIGHTH] * 2), hi=vector([F(3, 16)] * 2), slopes=vector([1, 1]), matrix=vector(matrix))
    assert sheet.code() == "INCLUSION"
    assert "disjoint" in str(sheet.refused())


def test_a_damped_cycle_is_of_the_damped_operator() -> None:
    """At α = ½ relu(1 − 9z) goes from 1/6 to 1/12 and back."""
    sheet = Sheet(linear_model([[F(-9)]], [F(1)], "relu"))
    damped = {"outer_damped": vector([HALF])}
    around = {"lo": vector([F(5, 32), F(5, 64)]), "hi": vector([F(11, 64), F(11, 128)])}
    inverse = [F(round(v * 64), 64) for v in (F(1, 3), -F(4, 3), F(1, 6), F(1, 3))]  # of [[1, 4], [−½, 1]], roughly
    step = loop(sheet, damped, slopes=vector([1, 0]), matrix=vector(inverse), **around)
    for operator, code in ((damped, ACCEPTED), ("picard", "CLAIM")):
        sheet.claims[:] = []
        refuted = refutation(sheet, step, "convergence", sheet.point(), sheet.box(0, 1), operator=operator)
        assert refuted.verdict() == code


@pytest.mark.parametrize(
    ("rate", "code"), [(F(5), "INEQUALITY"), (5 - TINY, ACCEPTED), (F(-1), "CONTEXT"), (F(6), "INEQUALITY")]
)
def test_a_pair_expands_by_more_than_the_rate(rate: F, code: str) -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)]))
    sheet.step(
        "expanding_pair", operator="picard", domain=sheet.point(), norm=sheet.block(1), rate=dyadic(rate),
        first=vector([0]), second=vector([1]),
    )  # fmt: skip
    assert sheet.code() == code


def test_a_pair_refutes_a_contraction_that_holds_both() -> None:
    sheet = Sheet(linear_model([[HALF, F(10)], [F(0), HALF]]))
    norm, other, region = sheet.block(1, 1), sheet.block(16, 1), sheet.box([0, 0], [0, 1])
    step = sheet.step(
        "expanding_pair", operator="picard", domain=sheet.point(), norm=norm, rate=dyadic(F(7, 8)),
        first=vector([0, 0]), second=vector([0, 1]),
    )  # fmt: skip
    point, rate = sheet.point(), dyadic(F(7, 8))
    for of, box, q, claimed, code in (
        ("contraction", region, norm, rate, ACCEPTED),
        ("contraction", sheet.all(), norm, rate, ACCEPTED),
        ("contraction", sheet.box([0, 0], [0, HALF]), norm, rate, "CLAIM"),
        ("contraction", region, other, rate, "CLAIM"),  # in which the map contracts
        ("contraction", region, norm, dyadic(F(15)), "CLAIM"),
        ("contraction", region, norm, None, "CLAIM"),
        ("contraction", region, None, rate, "CLAIM"),
        ("convergence", region, norm, rate, "CLAIM"),  # it does converge
    ):
        sheet.claims[:] = []
        assert refutation(sheet, step, of, point, box, operator="picard", norm=q, rate=claimed).verdict() == code


def test_equal_states_expand_nothing() -> None:
    sheet = Sheet(linear_model([[F(2)]], [F(0)], "tanh"))
    sheet.step(
        "expanding_pair", operator="picard", domain=sheet.point(), norm=sheet.block(1), rate=dyadic(0),
        first=vector([1]), second=vector([1]),
    )  # fmt: skip
    assert sheet.code() == "INEQUALITY"


# what a caller may conclude


def test_a_refutation_says_what_it_refutes() -> None:
    """At rate 0 every map that is not constant "expands": that is not the rate that was asked about."""
    sheet = Sheet(linear_model([[HALF]], [F(0)]))
    step = sheet.step(
        "expanding_pair", operator="picard", domain=sheet.point(), norm=sheet.block(1), rate=dyadic(F(1, 4)),
        first=vector([0]), second=vector([1]),
    )  # fmt: skip
    refutation(sheet, step, "contraction", sheet.point(), sheet.all(), operator="picard", norm=0, rate=dyadic(F(1, 4)))
    valid = sheet.check()
    assert "of=contraction" in describe(valid.claims[0])
    find(valid, parse_expectation("refutation(of=contraction,rate<=0.25)"))
    for wanted in ("refutation(of=contraction,rate<=0.9)", "refutation(of=convergence)", "refutation(answer=0)"):
        with pytest.raises(CheckError):
            find(valid, parse_expectation(wanted))


def test_an_unbounded_enclosure_has_no_radius() -> None:
    sheet = Sheet(three())
    step = start(sheet, None, None)
    sheet.claim(step, "encloses_all", domain=sheet.point(), region=sheet.all(), box=sheet.all())
    valid = sheet.check()
    assert describe(valid.claims[0])
    with pytest.raises(CheckError):
        find(valid, parse_expectation("encloses_all(radius<=1000)"))


# limits


def quick(sheet: Sheet, code: str) -> None:
    begun = time.perf_counter()
    assert sheet.code() == code
    assert time.perf_counter() - begun < 5


def test_long_thresholds_and_many_leaves_are_refused_at_once() -> None:
    sheet = Sheet(linear_model([[F(-5)]], [F(1)], "relu"))
    known = start(sheet, 0, 3)
    many = 300_000
    sheet.step(
        "duality", known, targets=[0], signs=[1], splits=[0] * many + [-1] * (many + 1),
        weights=vector([1] * (many + 1)),
        at={"exp": -20000, "int": " ".join(["1"] * many)}, multipliers={"exp": 0, "int": " ".join(["0"] * (many + 1))},
    )  # fmt: skip
    quick(sheet, "LIMIT")
    sheet.steps.pop()
    sheet.step(
        "duality", known, targets=[0] * (1 << 16), signs=[1] * (1 << 16), splits=[], weights=vector([]),
        at={"exp": 0, "int": ""}, multipliers={"exp": 0, "int": ""},
    )  # fmt: skip
    quick(sheet, "WITNESS")


def test_a_long_chain_of_cuts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaxation, "MAX_CUTS", 8)
    n = 10
    nodes = Nodes()
    out = nodes.add("relu", nodes.add("input"))
    sheet = Sheet(graph_json(nodes.function(out), [[n]], real(n)))
    domain = sheet.box([-1] * n, [1] * n, "input")
    known = start(sheet, [0] * n, [1] * n, domain=domain)
    sheet.step(
        "duality", known, targets=[0], signs=[1], **trees([0] * n * (n + 1), [*range(n), *[-1] * (n + 1)], [0] * n)
    )
    assert sheet.code() == "LIMIT"


def test_a_maximum_over_a_long_axis_is_counted() -> None:
    n = 20_000
    nodes = Nodes()
    out = nodes.add("reshape", nodes.add("amax", nodes.add("input")), shape=[1])
    sheet = Sheet(graph_json(nodes.function(out), given=real(n)))
    start(sheet, 0, 1, domain=sheet.point(*[0] * n))
    quick(sheet, "LIMIT")


def test_copies_of_a_large_step_are_counted() -> None:
    n = 1 << 20
    nodes = Nodes()
    out = nodes.state()
    for _ in range(2):
        out = nodes.add("relu", out)
    sheet = Sheet(graph_json(nodes.function(out), [[n]]))
    empty = {"exp": 0, "int": ""}
    sheet.step(
        "cycle", operator="picard", domain=sheet.point(), period=64, lo=empty, hi=empty, slopes=empty, matrix=empty
    )
    quick(sheet, "LIMIT")


def test_large_states_are_refused_before_their_numbers_are_laid_out() -> None:
    n = 20_000
    ones = {"exp": 20000, "int": " ".join(["1"] * n)}
    sheet = Sheet(bare(lambda nodes: nodes.scale(nodes.state(), 1), state=[[n]]))
    sheet.boxes.append({"space": "state", "all": True})
    for rule, witness in (
        ("fixed_points_in", {"domain": sheet.point(), "region": 0, "scale": ones}),
        ("fixed_point_at", {"input": ratio(), "state": {"numerators": ones, "denominator": dyadic(1)}}),
    ):
        step = sheet.step(rule, **witness)
        quick(sheet, "LIMIT")
        sheet.steps.pop(step)
