"""Refusals of refutations: a witness that is none, and a refutation of more than was refuted."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.bad_fixed_points import shifted
from tests.corpus.duals import enclosing, rational
from tests.corpus.good import with_constant
from tests.corpus.good_fixed_points import PICARD, refuted, scalar_relu
from tests.corpus.sheet import F, Json, Nodes, Sheet, canonical, dyadic, graph, real, vector
from tests.corpus.traps import scalar

SIXTH, BISTABLE, RATIONAL = "fixed_point_one_sixth", "two_fixed_points_of_tanh", "two_rational_fixed_points"
BESIDE, SHIFT, SIDES = (
    "fixed_points_at_a_point_and_in_a_box",
    "no_fixed_point_of_a_shift",
    "no_fixed_point_on_either_side",
)
LOGISTIC, DAMPED, EXPANDING = "logistic_period_two", "cycle_of_a_damped_loop", "expanding_but_convergent"
LOOP = "continuity_of_a_damped_tanh"
HALF: Json = {"outer_damped": vector([F(1, 2)])}

# a rational fixed point

edit("INEQUALITY", "1/6 plus a little is not fixed", "fixed_point_at_nearly", SIXTH,
     steps__5__state=rational(F(1, 6) + F(1, 1 << 200)))  # fmt: skip
edit("INEQUALITY", "the nearest binary fraction to 1/6 is not fixed", "fixed_point_at_rounded", SIXTH,
     steps__5__state=rational(F((1 << 300) // 6, 1 << 300)))  # fmt: skip
edit("WITNESS", "a denominator of 0", "denominator_0", SIXTH,
     steps__5__state={"numerators": vector([1]), "denominator": dyadic(0)})  # fmt: skip
edit("WITNESS", "a negative denominator", "denominator_negative", SIXTH,
     steps__5__state={"numerators": vector([-1]), "denominator": dyadic(-6)})  # fmt: skip
edit("NUMBER", "a numerator for every entry", "numerators_missing", SIXTH,
     steps__5__state={"numerators": vector([]), "denominator": dyadic(6)})  # fmt: skip
edit("FIELD", "a rational point is numerators over one denominator", "rational_as_vector", SIXTH,
     steps__5__state=vector([F(1, 8)]))  # fmt: skip
edit("PREMISE", "a fixed point is evaluated, not derived", "fixed_point_at_with_premise", SIXTH, steps__5__premises=[0])
edit("CLAIM", "a fixed point at one rational is no enclosure", "encloses_from_a_rational", SIXTH,
     claims__8={"step": 5, "claim": "encloses_one", "domain": 0, "region": 6, "box": 6})  # fmt: skip


@refused("UNSUPPORTED", "tanh 0 = 0, but a smooth step has no exact value at a rational")
def fixed_point_at_of_tanh() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.add("tanh", z)))
    sheet.graph["readout"] = with_constant(1)
    at = sheet.step("fixed_point_at", input=rational(), state=rational(0))
    wrong = sheet.step("other_answer", at, answer=[0])
    refuted(sheet, wrong, "fixed_point_answer", sheet.nothing(), sheet.box([-1], [1]), answer=[0])
    return sheet


def integers(x: Any) -> Sheet:
    """table[x]/2 + z/2 at an integer x."""
    nodes = Nodes()
    table = nodes.add("embedding", nodes.add("input"), nodes.constant([[0], [8]]))
    both = nodes.add("add", nodes.state(), nodes.add("reshape", table, shape=[1]))
    step = nodes.function(nodes.scale(both, 1, 2))
    sheet = Sheet(graph(step, [[1]], {"shape": [1], "kind": "integer", "size": 2}, None, with_constant(1)))
    at = sheet.step("fixed_point_at", input=rational(x), state=rational(4))
    wrong = sheet.step("other_answer", at, answer=[1])
    refuted(sheet, wrong, "fixed_point_answer", sheet.all("input"), sheet.all(), answer=[1])
    return sheet


@refused("BOX", "an input between two integers")
def fixed_point_at_half_an_integer() -> Sheet:
    return integers(F(1, 2))


@refused("BOX", "an integer that the model does not know")
def fixed_point_at_integer_2() -> Sheet:
    return integers(2)


# two fixed points of one input

edit("CONTEXT", "one fixed point, twice", "two_equal_fixed_points", RATIONAL, steps__2__premises=[0, 0])
edit("PREMISE", "one fixed point is not two", "one_fixed_point", RATIONAL, steps__2__premises=[0])
edit("PREMISE", "a well-posed model is no fixed point", "two_fixed_points_of_statements", SIXTH,
     steps__4={"rule": "two_fixed_points", "premises": [0, 1]})  # fmt: skip
edit("INCLUSION", "two boxes that meet may hold the same fixed point", "two_boxes_that_meet", BISTABLE,
     steps__5__premises=[1, 1])  # fmt: skip
edit("INCLUSION", "a box and a point inside it", "a_point_in_the_box", BESIDE,
     steps__1__state=rational(F(1, 2)))  # fmt: skip
edit("CONTEXT", "the point's input is none of the box's", "point_of_another_input", BESIDE,
     steps__1__input=rational(F(1, 8)))  # fmt: skip
edit("CONTEXT", "a box for many inputs beside a point for one: for the others there is no second", "box_beside_a_point",
     BESIDE, steps__2__premises=[1, 0])  # fmt: skip


@refused("CONTEXT", "ReLU(2z − x): 0 is fixed for 1/3, and 1/2 is fixed for 1/2")
def fixed_points_of_two_inputs() -> Sheet:
    document, _ = base(RATIONAL)
    sheet = Sheet(document["predicate"]["graph"])
    places = ((F(1, 3), 0), (F(1, 2), F(1, 2)))
    both = [sheet.step("fixed_point_at", input=rational(x), state=rational(z)) for x, z in places]
    domain = sheet.box([0], [1], "input")
    refuted(sheet, sheet.step("two_fixed_points", *both), "at_most_one", domain, sheet.box([0], [1]))
    return sheet


def steep(swap: bool) -> Sheet:
    """clamp(2³⁰⁰(3x − 1), −1, 0): fixed at 0 for x = 1/3, and at −1 for the binary fraction just below."""
    nodes = Nodes()
    line = nodes.add("sub", nodes.scale(nodes.add("input"), 3), nodes.constant([1]))
    moved = nodes.add("add", nodes.scale(line, 1 << 300), nodes.scale(nodes.state(), 0))
    sheet = Sheet(graph(nodes.function(nodes.clamp(moved, -1, 0)), [[1]], real(1)))
    below = F((1 << 256) // 3, 1 << 256)
    domain, region = sheet.point([below]), sheet.box([F(-3, 2)], [F(-1, 2)])
    exact = sheet.step("fixed_point_at", input=rational(F(1, 3)), state=rational(0))
    near = enclosing(sheet, domain, region)
    both = sheet.step("two_fixed_points", *((near, exact) if swap else (exact, near)))
    refuted(sheet, both, "at_most_one", sheet.box([0], [1], "input"), sheet.box([-2], [1]))
    return sheet


@refused("CONTEXT", "1/3 is not the binary fraction just below it: the step is steep enough to tell them apart")
def fixed_point_at_a_third_beside_a_box() -> Sheet:
    return steep(swap=False)


@refused("CONTEXT", "the same with the box first")
def box_beside_a_fixed_point_at_a_third() -> Sheet:
    return steep(swap=True)


@refused("PREMISE", "two regions whose fixed points may not exist")
def two_fixed_points_without_existence() -> Sheet:
    sheet, domain, _, start = shifted()
    other = sheet.step("fixed_points_in", domain=domain, region=sheet.box([2], [3]), scale=None)
    refuted(sheet, sheet.step("two_fixed_points", start, other), "at_most_one", domain, sheet.box([0], [3]))
    return sheet


@refused("CONTEXT", "two fixed points for different halves of the inputs")
def two_fixed_points_of_two_halves() -> Sheet:
    nodes = Nodes()
    moved = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("input"))
    sheet = Sheet(graph(nodes.function(moved), [[1]], real(1)))
    below = enclosing(sheet, sheet.box([0], [F(1, 2)], "input"), sheet.box([F(-1, 2)], [F(3, 2)]))
    above = enclosing(sheet, sheet.box([2], [3], "input"), sheet.box([3], [7]))
    domain = sheet.box([0], [3], "input")
    refuted(sheet, sheet.step("two_fixed_points", below, above), "at_most_one", domain, sheet.box([-1], [7]))
    return sheet


# another answer

edit("MARGIN", "the claimed answer is the strict one at this fixed point", "refuted_true_answer", RATIONAL,
     steps__5__answer=[0], claims__3__answer=[0])  # fmt: skip
edit(
    "MARGIN", "the answer that was proved", "refuted_proved_answer", SIXTH, steps__4__answer=[0], claims__7__answer=[0]
)
edit("MARGIN", "the answer of the loop that was proved", "refuted_loop_answer", LOOP, steps__6__answer=[0],
     claims__4__answer=[0])  # fmt: skip
edit("PREMISE", "one fixed point exists: that says nothing about its answer", "other_answer_of_existence", SIXTH,
     steps__4__premises=[2])  # fmt: skip
edit("PREMISE", "one witness", "other_answer_alone", SIXTH, steps__4__premises=[])
edit("CLAIM", "a fixed point that answers otherwise does not refute the answer of the loop", "refuted_the_loop_instead",
     SIXTH, claims__7={
         "step": 4, "claim": "refutation", "of": "answer", "domain": 0, "region": None, "operator": "picard",
         "norm": None, "rate": None, "answer": [1],
     })  # fmt: skip
edit("CLAIM", "the answer of another loop was refuted", "refuted_another_loop", LOOP, claims__4__operator="picard")
edit("CLAIM", "a refutation for a domain that may not hold the witness", "refuted_smaller_domain", BISTABLE,
     boxes__5={"space": "input", "lo": vector([0]), "hi": vector([1])})  # fmt: skip
edit("CLAIM", "a refutation in a region that may not hold the witness", "refuted_smaller_region", BISTABLE,
     boxes__6={"space": "state", "lo": vector([0]), "hi": vector([2])})  # fmt: skip
edit("CLAIM", "a refutation of another answer", "refuted_another_answer", SIXTH, claims__7__answer=[0])
edit("CLAIM", "the answer of a loop has no region", "refuted_loop_in_a_region", LOOP, claims__4__region=1)


@refused("PREMISE", "the answer at one depth does not refute the answer of the loop")
def refuted_by_one_depth() -> Sheet:
    sheet = scalar_relu(with_constant(F(1, 2)))
    domain = sheet.nothing()
    at = sheet.step("answer_at", operator=PICARD, domain=domain, answer=[0], steps=1)
    wrong = sheet.step("other_answer", at, answer=[1])
    refuted(sheet, wrong, "answer", domain, operator=PICARD, answer=[1])
    return sheet


# no fixed point

edit("INEQUALITY", "multipliers that show nothing", "no_fixed_point_unshown", SHIFT, steps__1__multipliers=vector([0]))
edit(
    "INEQUALITY",
    "a sum of −1 is no contradiction",
    "no_fixed_point_wrong_sign",
    SHIFT,
    steps__1__multipliers=vector([-1]),
)
edit(
    "INEQUALITY",
    "a leaf that may hold a fixed point",
    "no_fixed_point_with_a_leaf",
    SIDES,
    steps__1__weights=vector([0, 1]),
)
edit("WITNESS", "one of two sides", "no_fixed_point_on_one_side", SIDES, steps__1__splits=[0, -1],
     steps__1__weights=vector([0]), steps__1__multipliers=vector([1, 2]))  # fmt: skip
edit("CLAIM", "none in [0, 1] is not none in [0, 2]", "no_fixed_point_larger_region", SIDES,
     boxes__2={"space": "state", "lo": vector([-4]), "hi": vector([2])},
     claims__0__domain=0, claims__0__region=2)  # fmt: skip
edit("CLAIM", "no fixed point refutes existence, not uniqueness", "no_fixed_point_at_most_one", SHIFT,
     claims__0__of="at_most_one")  # fmt: skip
edit("CLAIM", "for inputs of a smaller domain than was looked at", "no_fixed_point_smaller_domain", SIDES,
     boxes__2={"space": "input", "lo": vector([0]), "hi": vector([1])})  # fmt: skip


@refused("INEQUALITY", "ReLU(1 − 5z) has the fixed point 1/6: no tree and no multipliers can deny it")
def no_fixed_point_where_there_is_one() -> Sheet:
    sheet = scalar_relu()
    domain, region = sheet.nothing(), sheet.box([0], [1])
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    none = sheet.step(
        "no_fixed_point", start, splits=[0, -1, -1], at=vector([F(1, 6) // F(1, 64) * F(1, 64)]),
        weights=vector([0, 0]),
        multipliers=vector([F(-3, 16), F(3, 16)]),
    )  # fmt: skip
    refuted(sheet, none, "exactly_one", domain, region)
    return sheet


# cycles


@refused("INCLUSION", "z/2 from 0 to 0 to 0: a fixed point is no cycle")
def cycle_of_a_fixed_point() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1, 2)))
    domain, region = sheet.nothing(), sheet.box([-1], [1])
    turns = sheet.step(
        "cycle", operator=PICARD, domain=domain, period=2, lo=vector([-1, -1]), hi=vector([1, 1]), slopes=vector([]),
        matrix=vector([F(4, 4), F(1, 2), F(1, 2), 1]),
    )  # fmt: skip
    refuted(sheet, turns, "convergence", domain, region, operator=PICARD)
    return sheet


@refused("INCLUSION", "z/2 has no orbit of period 2 between 1/2 and 1")
def cycle_that_is_none() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1, 2)))
    domain = sheet.nothing()
    turns = sheet.step(
        "cycle", operator=PICARD, domain=domain, period=2, lo=vector([F(1, 4), F(3, 4)]),
        hi=vector([F(5, 8), F(5, 4)]), slopes=vector([]), matrix=vector([1, F(1, 2), F(1, 2), 1]),
    )  # fmt: skip
    refuted(sheet, turns, "convergence", domain, sheet.box([0], [1]), operator=PICARD)
    return sheet


edit("INCLUSION", "a box beside the orbit", "cycle_off_the_orbit", LOGISTIC,
     steps__0__hi=vector([F(2080, 4096), F(3307, 4096)]))  # fmt: skip
edit("NUMBER", "a period of 1", "cycle_of_period_1", DAMPED, steps__2__period=1, steps__2__lo=vector([0]),
     steps__2__hi=vector([F(1, 2)]), steps__2__slopes=vector([1]), steps__2__matrix=vector([F(1, 4)]))  # fmt: skip
edit("NUMBER", "a period beyond the limit", "cycle_of_period_65", DAMPED, steps__2__period=65)
edit("NUMBER", "a box for every state of the period", "cycle_box_missing", DAMPED, steps__2__lo=vector([0]))
edit("BOX", "an inverted box", "cycle_inverted", DAMPED, steps__2__lo=vector([F(1, 2), 0]))
edit("UNSUPPORTED", "no loop is named: an implicit operator has no orbit", "cycle_implicit", DAMPED,
     steps__2__operator="implicit", claims__1__operator="implicit")  # fmt: skip
edit("PREMISE", "a cycle is shown by itself", "cycle_with_premise", DAMPED, steps__2__premises=[1])
edit("CLAIM", "the cycle of the damped loop, claimed for the loop that is not damped", "cycle_of_another_loop", DAMPED,
     claims__1__operator="picard")  # fmt: skip
edit("CLAIM", "the loop that was proved to converge does not have that cycle", "cycle_of_the_slow_loop", DAMPED,
     claims__1__operator={"outer_damped": vector([F(1, 8)])})  # fmt: skip
edit("CLAIM", "starts that the orbit does not visit may all converge", "cycle_smaller_region", LOGISTIC,
     boxes__1={"space": "state", "lo": vector([0]), "hi": vector([F(1, 2)])})  # fmt: skip
edit("CLAIM", "a cycle does not refute that there is one fixed point", "cycle_against_uniqueness", LOGISTIC,
     claims__0__of="exactly_one")  # fmt: skip
edit("CLAIM", "no convergence of one kind of loop is a claim that was refuted", "refutation_of_nothing", LOGISTIC,
     claims__0__of="robustness")  # fmt: skip
edit("CLAIM", "a refutation somewhere", "refutation_without_domain", LOGISTIC, claims__0__domain=None)
edit("FIELD", "a refutation without its operator", "refutation_without_operator", LOGISTIC, claims__0__operator=...)


# pairs that expand

edit("INEQUALITY", "a pair whose images are exactly as far apart as the rate allows", "pair_at_the_rate", EXPANDING,
     steps__3__rate=dyadic(F(21, 2)), claims__3__rate=dyadic(F(21, 2)))  # fmt: skip
edit("INEQUALITY", "one state twice", "pair_of_one", EXPANDING, steps__3__second=vector([0, 0]))
edit("INEQUALITY", "a pair that comes closer", "pair_that_contracts", EXPANDING, steps__3__second=vector([1, 0]),
     steps__3__rate=dyadic(F(1, 2)), claims__3__rate=dyadic(F(1, 2)))  # fmt: skip
edit("CONTEXT", "a negative rate is exceeded by anything", "pair_negative_rate", EXPANDING, steps__3__rate=dyadic(-1),
     steps__3__second=vector([0, 0]), claims__3__rate=dyadic(-1))  # fmt: skip
edit("UNSUPPORTED", "an implicit operator moves nothing", "pair_implicit", EXPANDING, steps__3__operator="implicit",
     claims__3__operator="implicit")  # fmt: skip
edit("PREMISE", "a pair is evaluated, not derived", "pair_with_premise", EXPANDING, steps__3__premises=[0])
edit("NUMBER", "a state of another dimension", "pair_too_short", EXPANDING, steps__3__first=vector([0]))
edit("CLAIM", "the norm in which the map does contract", "pair_other_norm", EXPANDING, claims__3__norm=2)
edit("CLAIM", "a larger rate than the pair exceeds", "pair_larger_rate", EXPANDING, claims__3__rate=dyadic(11))
edit("CLAIM", "a smaller rate is another claim", "pair_smaller_rate", EXPANDING, claims__3__rate=dyadic(F(1, 2)))
edit("CLAIM", "a region without the pair", "pair_smaller_region", EXPANDING,
     boxes__2={"space": "state", "lo": vector([0, 0]), "hi": vector([F(1, 8), F(1, 8)])})  # fmt: skip
edit("CLAIM", "[[1/2, 10], [0, 1/2]] expands a pair and converges all the same", "pair_against_convergence", EXPANDING,
     claims__3={
         "step": 3, "claim": "refutation", "of": "convergence", "operator": "picard", "domain": 0, "region": 2,
         "norm": None, "rate": None, "answer": None,
     })  # fmt: skip


def gated(domain_of: Any, norm: Json | None = None) -> Sheet:
    """xz for an input x: expands for x = 2, contracts for x = 1/2."""
    nodes = Nodes()
    model = graph(nodes.function(nodes.add("mul", nodes.state(), nodes.add("input"))), [[1]], real(1))
    sheet = Sheet(model)
    plain = sheet.block([1]) if norm is None else sheet._index(sheet.norms, norm)
    domain = domain_of(sheet)
    pair = sheet.step(
        "expanding_pair", operator=PICARD, domain=domain, norm=plain, rate=dyadic(F(3, 2)), first=vector([0]),
        second=vector([1]),
    )  # fmt: skip
    refuted(sheet, pair, "contraction", domain, sheet.box([0], [1]), operator=PICARD, norm=plain, rate=dyadic(F(3, 2)))
    return sheet


@refused("CONTEXT", "a pair needs one input, not a box of them")
def pair_over_a_box() -> Sheet:
    return gated(lambda sheet: sheet.box([F(7, 4)], [2], "input"))


@refused("CONTEXT", "a metric norm, whose lower bounds the rule does not know")
def pair_in_a_metric() -> Sheet:
    return gated(lambda sheet: sheet.point([2]), {"kind": "metric", "matrix": vector([1]), "floor": dyadic(1)})


@refused("INEQUALITY", "at another input the pair does not expand")
def pair_at_another_input() -> Sheet:
    return gated(lambda sheet: sheet.point([F(1, 2)]))


# a refutation of something else than what was wanted

edit("EXPECTED", "contraction was refuted in two norms, and not in a third", "expected_other_norm", EXPANDING,
     "--expect", "refutation(of=contraction,norm=mixed)")  # fmt: skip
edit("EXPECTED", "uniqueness for one domain was refuted, and not for every one", "expected_other_domain", BISTABLE,
     "--expect", "refutation(of=at_most_one,domain=all)")  # fmt: skip


@refused("EXPECTED", "refuting the rate 1/4 does not refute 1/2", "--expect", "refutation(of=contraction,rate<=1/2)")
def expected_a_larger_rate() -> Any:
    document, weights = base(EXPANDING)
    predicate = document["predicate"]
    quarter: Json = {**predicate["steps"][3], "rate": dyadic(F(1, 4))}
    claim: Json = {**predicate["claims"][3], "step": 0, "rate": dyadic(F(1, 4))}
    document = changed(changed(document, "predicate.steps", [quarter]), "predicate.claims", [claim])
    return canonical(document), weights
