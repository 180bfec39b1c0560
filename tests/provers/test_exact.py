"""The exact decision against every activation pattern of tiny models, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.provers.patterns import Layer, Row, Tiny, patterns
from trm_verify.certificate import CertificateBuilder
from trm_verify.encode import Json
from trm_verify.kernel.check import check
from trm_verify.kernel.claims import Refuted
from trm_verify.provers.exact.decide import Decision, decide
from trm_verify.provers.exact.narrowing import Narrowing
from trm_verify.provers.exact.pieces import Pieces, Point, Tree
from trm_verify.provers.exact.simplex import Empty, Optimum, TimeUp, Unbounded, solve
from trm_verify.provers.problem import Problem
from trm_verify.result import PROVED, REFUTED, UNKNOWN

NO_WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"
F = Fraction
Draw = Callable[[], Fraction]


def single(value: int | Fraction, rng: np.random.Generator) -> Draw:
    """Small integers, where patterns are often degenerate, or float32 numbers."""
    if value:
        return lambda: F(int(rng.integers(-2, 3)))
    return lambda: F(float(np.float32(rng.normal())))


def affine(kind: str, rows: int, columns: int, draw: Draw) -> Layer:
    matrix = tuple(tuple(draw() for _ in range(columns)) for _ in range(rows))
    return Layer(kind, matrix, tuple(draw() for _ in range(rows)))


def relu_model(n: int, draw: Draw, **sets: Any) -> Tiny:
    return Tiny(n, (affine("affine", n, n, draw), Layer("relu")), affine("affine", 3, n, draw), **sets)


def other_model(kind: str, rng: np.random.Generator, draw: Draw, bounded: bool) -> Tiny:
    """A step of another architecture, with one or two states."""
    n = int(rng.integers(1, 3))
    first, second = affine("affine", n, n, draw), affine("affine", n, n, draw)
    layers: dict[str, tuple[Layer, ...]] = {
        "two layers": (first, Layer("relu"), second),
        "deep": (first, Layer("relu"), second, Layer("relu")),
        "residual": (first, Layer("relu"), Layer("add", source=0)),
        "leaky": (first, Layer("leaky_relu", slope=F(1, 4))),
        "clamp": (first, Layer("clamp", ends=(F(-1), F(1)))),
        "half": (first, Layer("clamp", ends=(None, F(1)))),
        "abs": (first, Layer("abs")),
        "max": (first, second, Layer("max", source=1)),
        "min": (first, Layer("min", source=0)),
        "amax": (affine("affine", 2 * n, n, draw), Layer("amax", slope=F(2))),
    }
    region = ((F(-4), F(4)),) * n if bounded else None
    return Tiny(n, layers[kind], affine("affine", 3, n, draw), region)


def problem_of(tiny: Tiny) -> Problem:
    return Problem(tiny.graph(), NO_WEIGHTS)


def decided(tiny: Tiny, answer: int) -> Decision:
    return decide(problem_of(tiny), *tiny.boxes(), [answer])


def sound(tiny: Tiny, answer: int, found: Decision) -> tuple[int, bool]:
    """What is true; whatever was decided agrees with it."""
    count = tiny.count()
    answers = count > 0 and tiny.answers(answer)
    for finding, truth in ((found.exactly_one, count == 1), (found.at_most_one, count < 2), (found.answer, answers)):
        assert finding is not None
        assert finding.verdict in (UNKNOWN, PROVED if truth else REFUTED), (tiny, answer, found)
        assert (finding.derivation is None) == (finding.verdict is UNKNOWN)
        assert finding.reason or finding.verdict is PROVED
    for point in found.fixed_points:
        assert list(point.z) == step_at(tiny, point.z, point.x)
    assert found.counterexample is None or not found.counterexample.answers([answer])
    return count, answers


def decisive(found: Decision) -> None:
    assert found.exactly_one.verdict is not UNKNOWN, found.exactly_one.reason
    assert found.answer is not None and found.answer.verdict is not UNKNOWN, found.answer


def step_at(tiny: Tiny, z: Sequence[Fraction], x: Sequence[Fraction] = ()) -> list[Fraction]:
    """The step at a rational point, by the pattern that holds there."""
    rows: list[Row] = [(v,) for v in z]
    for outputs, conditions in patterns(tiny.layers, rows, [(v,) for v in x]):
        if all(row[-1] >= 0 for row in conditions):
            return [row[-1] for row in outputs]
    raise AssertionError("no pattern holds")


def certificate(tiny: Tiny, answer: int, found: Decision) -> None:
    """Every derivation, as claims about the region that was asked for, passes the whole kernel."""
    domain, region = tiny.boxes()
    builder = CertificateBuilder(tiny.graph(), NO_WEIGHTS)
    problem, count = problem_of(tiny), 0
    for name, finding in (("exactly_one", found.exactly_one), ("fixed_point_answer", found.answer)):
        if finding is None or finding.derivation is None:
            continue
        concluded, step = problem.conclude(finding.derivation), builder.add(finding.derivation)
        fields: dict[str, Any] = {"domain": domain, "region": region}
        own: dict[str, Any] = {"answer": [answer]} if name == "fixed_point_answer" else {}
        if isinstance(concluded, Refuted):
            own = {"answer": [answer] if concluded.of == "fixed_point_answer" else None}
            fields |= {"of": concluded.of, "operator": None, "norm": None, "rate": None}
            name = "refutation"
        builder.claim(step, name, **fields, **own)
        count += 1
    if count:
        assert len(check(builder.build().to_bytes(), NO_WEIGHTS).claims) == count


@pytest.mark.parametrize("integers", [0, 1], ids=["float32", "integers"])
@pytest.mark.parametrize("seed", range(13))
def test_relu_models_on_all_states(seed: int, integers: int) -> None:
    """Existence, uniqueness and the answer, right in every case.

    UNKNOWN is said where the kernel has no rule yet: of the one fixed point where a unit bends in a way that R5 does
    not see through, and of an answer that several fixed points share.
    """
    rng = np.random.default_rng([seed, integers])
    draw = single(integers, rng)
    for trial in range(20):
        tiny, answer = relu_model(int(rng.integers(1, 5)), draw), int(rng.integers(3))
        found = decided(tiny, answer)
        sound(tiny, answer, found)
        decisive(found)
        if trial < 4:
            certificate(tiny, answer, found)


KINDS = ("two layers", "deep", "residual", "leaky", "clamp", "half", "abs", "max", "min", "amax")


@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures(kind: str) -> None:
    """Right wherever something is said, in bounded regions and in all of Rⁿ; never UNKNOWN."""
    rng = np.random.default_rng(KINDS.index(kind))
    for trial in range(24):
        tiny, answer = other_model(kind, rng, single(trial % 2, rng), trial % 3 == 0), int(rng.integers(3))
        found = decided(tiny, answer)
        sound(tiny, answer, found)
        decisive(found)
        if trial < 6:
            certificate(tiny, answer, found)


def test_single_inputs() -> None:
    """An input that is one point is a constant, and part of every witness."""
    rng = np.random.default_rng(0)
    for trial in range(20):
        n, m = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        draw = single(trial % 2, rng)
        layers = (affine("affine", n, n, draw), affine("drive", n, m, draw), Layer("relu"))
        x = tuple(draw() for _ in range(m))
        tiny = Tiny(n, layers, affine("affine", 3, n, draw), domain=tuple((v, v) for v in x))
        found = decided(tiny, 0)
        sound(tiny, 0, found)
        assert all(point.x == x for point in found.fixed_points)
        certificate(tiny, 0, found)


@pytest.mark.parametrize("integers", [0, 1], ids=["float32", "integers"])
def test_boxes_of_inputs(integers: int) -> None:
    """Refutations are exact for pairs and answers; what is proved is true for every input of the box."""
    rng = np.random.default_rng(integers)
    draw = single(integers, rng)
    said = 0
    for trial in range(30):
        n = int(rng.integers(1, 3))
        width = F(1, int(rng.choice([1, 4, 16])))
        layers = (affine("affine", n, n, draw), affine("drive", n, 1, draw), Layer("relu"))
        tiny = Tiny(n, layers, affine("affine", 3, n, draw), domain=((-width, width),))
        answer = int(rng.integers(3))
        found = decided(tiny, answer)
        pairs, everywhere = tiny.pairs(), tiny.everywhere()
        answers = everywhere and tiny.answers(answer)
        claims = [
            (found.exactly_one, everywhere and not pairs),
            (found.at_most_one, not pairs),
            (found.answer, answers),
        ]
        for finding, truth in claims:
            assert finding is not None and finding.verdict in (UNKNOWN, PROVED if truth else REFUTED), (tiny, found)
        for point in found.fixed_points:
            assert list(point.z) == step_at(tiny, point.z, point.x)
            assert all(lo <= v <= hi for v, (lo, hi) in zip(point.x, tiny.domain, strict=True))
        if pairs:
            assert found.exactly_one.verdict is REFUTED
        if not tiny.answers(answer):
            assert found.answer is not None and found.answer.verdict is REFUTED
        said += found.exactly_one.verdict is not UNKNOWN
        if trial < 10:
            certificate(tiny, answer, found)
    assert said >= 24


def scalar(weight: int, bias: int, kind: str = "relu", **sets: Any) -> Tiny:
    """z ← φ(weight · z + bias), with logits (z, 1)."""
    readout = Layer("affine", ((F(1),), (F(0),)), (F(0), F(1)))
    return Tiny(1, (Layer("affine", ((F(weight),),), (F(bias),)), Layer(kind)), readout, **sets)


def test_a_line_of_fixed_points_is_refuted_by_two_of_them() -> None:
    """z ← ReLU(z): every z ≥ 0."""
    found = decided(scalar(1, 0), 0)
    assert found.exactly_one.verdict is REFUTED and found.at_most_one.verdict is REFUTED
    assert found.answer is not None and found.answer.verdict is REFUTED
    assert len({point.z for point in found.fixed_points}) >= 2


def test_no_fixed_point_refutes_existence_and_answers() -> None:
    """z ← ReLU(z + 1) has none, in all of R."""
    found = decided(scalar(1, 1), 0)
    assert found.exactly_one.verdict is REFUTED and "no fixed point" in found.exactly_one.reason
    assert found.at_most_one.verdict is UNKNOWN
    assert found.answer is not None and found.answer.verdict is REFUTED
    certificate(scalar(1, 1), 0, Decision(found.exactly_one, found.at_most_one))


def test_a_tie_is_no_answer() -> None:
    """z ← ReLU(−z + 2) settles at 1, where both logits are 1."""
    for label in (0, 1):
        found = decided(scalar(-1, 2), label)
        assert found.exactly_one.verdict is PROVED
        assert found.answer is not None and found.answer.verdict is REFUTED
        assert found.counterexample is not None and found.counterexample.labels == ((0, 1),)


def test_a_fixed_point_that_no_perturbation_keeps() -> None:
    """z ← ReLU(2z) has only 0, though ReLU(2z − ε) has two fixed points and ReLU(2z + ε) none."""
    found = decided(scalar(2, 0), 1)
    assert found.exactly_one.verdict is PROVED and found.fixed_points[0].z == (F(0),)
    assert found.answer is not None and found.answer.verdict is PROVED


def test_an_answer_that_several_fixed_points_share() -> None:
    """z ← ReLU(z) at every z ≥ 0: the logits z + 2 and 1, over an unbounded line of them."""
    readout = Layer("affine", ((F(1),), (F(0),)), (F(2), F(1)))
    tiny = Tiny(1, scalar(1, 0).layers, readout)
    found = decided(tiny, 0)
    assert found.exactly_one.verdict is REFUTED
    assert found.answer is not None and found.answer.verdict is PROVED
    certificate(tiny, 0, found)


def test_expanding_steps_may_have_one_fixed_point() -> None:
    """z ← |−3z + 1|, with 1/4 and 1/2; z ← ReLU(−3z + 1), with 1/4 alone, which Picard iteration never reaches."""
    assert decided(scalar(-3, 1, "abs"), 0).exactly_one.verdict is REFUTED
    found = decided(scalar(-3, 1), 1)
    assert found.exactly_one.verdict is PROVED and found.fixed_points[0].z == (F(1, 4),)
    assert found.answer is not None and found.answer.verdict is PROVED


def test_a_region_decides_which_fixed_points_count() -> None:
    """z ← |−3z + 1|: 1/4 and 1/2."""
    near, far = (scalar(-3, 1, "abs", region=((F(lo), F(hi)),)) for lo, hi in ((0, F(3, 8)), (1, 2)))
    assert decided(near, 1).exactly_one.verdict is PROVED
    assert decided(far, 1).exactly_one.verdict is REFUTED


def test_what_is_not_piecewise_linear_is_left_alone() -> None:
    graph = scalar(1, 0).graph()
    graph["step"]["nodes"][-1]["op"] = "tanh"
    found = decide(Problem(graph, NO_WEIGHTS), *scalar(1, 0).boxes(), [0])
    for finding in (found.exactly_one, found.at_most_one, found.answer):
        assert finding is not None and finding.verdict is UNKNOWN and "piecewise-linear" in finding.reason


def test_the_deadline_ends_the_decision() -> None:
    found = decide(problem_of(scalar(-3, 1)), *scalar(-3, 1).boxes(), [0], deadline=time.monotonic() - 1)
    assert found.exactly_one.verdict is UNKNOWN and "time" in found.exactly_one.reason


def test_twelve_units_are_decided_soon() -> None:
    rng = np.random.default_rng(5)
    for _ in range(3):
        tiny = relu_model(12, lambda: single(0, rng)() / 4)
        found = decide(problem_of(tiny), *tiny.boxes(), [0], deadline=time.monotonic() + 60)
        assert found.exactly_one.verdict is not UNKNOWN
        assert found.answer is not None and found.answer.verdict is not UNKNOWN


def test_simplex_says_why() -> None:
    """Each outcome carries a proof that is checked here."""
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(400):
        rows, count = int(rng.integers(0, 5)), int(rng.integers(1, 8))
        columns = rng.integers(-4, 5, (count, rows)).tolist()
        right, cost = rng.integers(-4, 5, rows).tolist(), rng.integers(-3, 4, count).tolist()
        if rng.random() < 0.5:  # a program that has a solution
            right = [sum(column[i] for column in columns[: count // 2 + 1]) for i in range(rows)]
        found = solve(columns, right, cost)
        kinds.add(type(found))
        if isinstance(found, Empty):
            assert all(_dot(found.duals, column) <= 0 for column in columns) and _dot(found.duals, right) > 0
            continue
        assert min(found.values) >= 0 and _mixed(found.values, columns, rows) == right
        if isinstance(found, Optimum):
            assert all(_dot(found.duals, column) <= c for column, c in zip(columns, cost, strict=True))
            assert _dot(found.duals, right) == found.value == _dot(found.values, cost)
        else:
            assert min(found.direction) >= 0 and _mixed(found.direction, columns, rows) == [0] * rows
            assert _dot(found.direction, cost) < 0
    assert kinds == {Empty, Optimum, Unbounded}


def _dot(a: Sequence[Fraction], b: Sequence[int]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), F(0))


def _mixed(weights: Sequence[Fraction], columns: Sequence[Sequence[int]], rows: int) -> list[Fraction]:
    return [sum((w * column[i] for w, column in zip(weights, columns, strict=True)), F(0)) for i in range(rows)]


def test_a_late_simplex_stops() -> None:
    with pytest.raises(TimeUp):
        solve([[1], [-1]], [1], [0, 0], deadline=time.monotonic() - 1)


def test_a_cover_cuts_where_it_is_told_to() -> None:
    """The units that are named go first; the tree is whole in any case."""
    rng = np.random.default_rng(3)
    tiny = relu_model(3, single(0, rng))
    box: Json = {"space": "state", "all": True}
    narrowing = Narrowing(problem_of(tiny), tiny.boxes()[0], box)
    pieces: Pieces = narrowing.pieces
    found = pieces.cover(narrowing.known.arguments)
    if isinstance(found, Point):
        assert step_at(tiny, found.state(narrowing.system)) == list(found.state(narrowing.system))
    else:
        assert isinstance(found, Tree) and found.leaves >= 1
