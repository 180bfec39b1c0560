"""Interval evaluation against the reference evaluator: every operation, points and boxes, bounded or not."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import pytest

from tests.kernel import graphs
from tests.kernel.certificates import graph_json, kernel_graph
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import ALL_OPS, EXACT, HIGH, REFERENCE_ERROR, Array, Nodes, array, dyadic, mpf, to_real
from trm_verify.kernel import evaluate as kernel
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.operations import EVALUATE
from trm_verify.kernel.tensor import Tensor

EXACT_OPS = [
    *graphs.LAYOUT_OPS,
    *graphs.PIECEWISE,
    *(op for op in graphs.ALGEBRA if op != "matmul"),
    "matmul",
    "embedding",
]
EVERY_OP = [*EXACT_OPS, *graphs.SMOOTH, *graphs.ROW_NORMS, "div"]


def flat(values: list[Fraction]) -> Tensor:
    ends = [Fraction(v) for v in values]
    return box(list(zip(ends, ends, strict=True)))


def box(bounds: list[tuple[Fraction, Fraction]]) -> Tensor:
    exp = -64
    lo, hi = ([int(b[k] * (1 << -exp)) for b in bounds] for k in (0, 1))
    return Tensor((len(bounds),), exp, lo, lo if lo == hi else hi)


def random_box(rng: Random, size: int, vocabulary: int | None = None) -> list[tuple[Fraction, Fraction]]:
    bounds = []
    for _ in range(size):
        if vocabulary is not None:
            lo = rng.randrange(vocabulary)
            bounds.append((Fraction(lo), Fraction(rng.randrange(lo, vocabulary))))
            continue
        lo = Fraction(rng.randint(-32, 32), 16)
        bounds.append((lo, lo + rng.choice([0, Fraction(1, 64), Fraction(rng.randint(0, 48), 16)])))
    return bounds


def inside(rng: Random, bounds: list[tuple[Fraction, Fraction]], whole: bool = False) -> list[Fraction]:
    """A point of a box, often on its boundary."""
    point = []
    for lo, hi in bounds:
        weight = Fraction(rng.choice([0, 16, rng.randint(0, 16)]), 16)
        value = lo + weight * (hi - lo)
        point.append(Fraction(int(value)) if whole else value)
    return point


def reference(sample: Sample, state: list[Fraction], given: list[Fraction], numbers: graphs.Field) -> list[Array]:
    parts = graphs.split([numbers.of(v) for v in state], sample.shapes)
    return graphs.run(
        sample.graph["step"], parts, sample.given([numbers.of(v) for v in given]), sample.tensors, numbers
    )


def assert_encloses(value: Tensor, truth: Array, slack: Any = 0) -> None:
    assert value.shape == truth.shape
    if not value.bounded:
        return
    for i, v in enumerate(truth.ravel()):
        lo, hi = value.fraction(i)
        if slack:
            lo, hi, slack_here = to_real(lo), to_real(hi), slack * (1 + abs(v))
        else:
            slack_here = 0
        assert lo - slack_here <= v <= hi + slack_here, (i, float(lo), float(v), float(hi))


@pytest.mark.parametrize("seed", range(60))
def test_piecewise_linear_points_are_exact(seed: int) -> None:
    model = sample(seed, EXACT_OPS, 12)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    state = inside(rng, random_box(rng, model.size))
    given = inside(rng, random_box(rng, model.input_size, model.vocabulary), model.vocabulary is not None)
    truth = reference(model, state, given, EXACT)
    values = kernel.evaluate(graph, graph.step, flat(state), flat(given))
    for value, exact in zip(values, truth, strict=True):
        assert value.shape == exact.shape
        assert [value.fraction(i) for i in range(value.size)] == [(v, v) for v in exact.ravel()]
    out = kernel.step(graph, flat(state), flat(given))
    assert [out.fraction(i)[0] for i in range(out.size)] == graphs.outputs(model.graph["step"], truth)


@pytest.mark.parametrize("seed", range(40))
def test_piecewise_linear_boxes_enclose_exactly(seed: int) -> None:
    model = sample(1000 + seed, EXACT_OPS, 12)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    values = kernel.evaluate(graph, graph.step, box(states), box(inputs))
    for _ in range(12):
        truth = reference(model, inside(rng, states), inside(rng, inputs, model.vocabulary is not None), EXACT)
        for value, exact in zip(values, truth, strict=True):
            assert_encloses(value, exact)


@pytest.mark.parametrize("seed", range(60))
def test_every_operation_encloses_points_and_boxes(seed: int) -> None:
    model = sample(2000 + seed, EVERY_OP, 10)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    whole = model.vocabulary is not None
    values = kernel.evaluate(graph, graph.step, box(states), box(inputs))
    for _ in range(3):
        state, given = inside(rng, states), inside(rng, inputs, whole)
        truth = reference(model, state, given, HIGH)
        at_point = kernel.evaluate(graph, graph.step, flat(state), flat(given))
        for value, point, exact in zip(values, at_point, truth, strict=True):
            assert_encloses(value, exact, REFERENCE_ERROR)
            assert_encloses(point, exact, REFERENCE_ERROR)


@pytest.mark.parametrize("seed", range(40))
def test_unbounded_states_and_inputs_are_enclosed(seed: int) -> None:
    ops = [op for op in EVERY_OP if op != "div"]
    model = sample(3000 + seed, ops, 10)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    whole = model.vocabulary is not None
    inputs = random_box(rng, model.input_size, model.vocabulary)
    given = Tensor((model.input_size,)) if seed % 2 and not whole else box(inputs)
    values = kernel.evaluate(graph, graph.step, Tensor((model.size,)), given)
    for scale in (1, 50, 1000):
        state = [scale * v for v in inside(rng, random_box(rng, model.size))]
        truth = reference(model, state, inside(rng, inputs, whole), HIGH)
        for value, exact in zip(values, truth, strict=True):
            assert_encloses(value, exact, REFERENCE_ERROR)


def test_the_random_graphs_use_every_operation() -> None:
    used: set[str] = set()
    for seed in range(60):
        used |= {node["op"] for node in sample(2000 + seed, EVERY_OP, 10).graph["step"]["nodes"]}
    assert used == ALL_OPS == set(EVALUATE) - {"exp", "log", "sqrt"} | {"state", "input", "tensor", "constant"}


# one operation at a time


def value_of_op(op: str, args: list[tuple[tuple[int, ...], list[tuple[Any, Any]] | None]], **attrs: Any) -> Tensor:
    """The enclosure of one operation over boxes of its arguments (None: all reals), each a part of the state."""
    nodes = Nodes()
    parts = [nodes.state(k) for k in range(len(args))]
    out = nodes.add(op, *parts, **attrs)
    shapes = [list(shape) for shape, _ in args]
    # the outputs only have to have the shapes of the parts: pass the arguments through, plus 0 times the result
    size = kernel_size(op, shapes, attrs)
    flat_out = nodes.add("reshape", out, shape=[size])
    zero = nodes.scale(nodes.add("sum", flat_out), 0)
    lifted = [nodes.add("expand", nodes.add("reshape", zero, shape=[1] * len(s)), shape=s) for s in shapes]
    outs = [nodes.add("add", p, z) for p, z in zip(parts, lifted, strict=True)]
    graph = kernel_graph(graph_json(nodes.function(*outs), shapes))
    bounds: list[tuple[Any, Any]] | None = []
    for _, given in args:
        bounds = None if bounds is None or given is None else bounds + given
    state = Tensor((graph.size,)) if bounds is None else box([(Fraction(a), Fraction(b)) for a, b in bounds])
    return kernel.evaluate(graph, graph.step, state, Tensor((0,), 0, [], []))[out]


def kernel_size(op: str, shapes: list[list[int]], attrs: dict[str, Any]) -> int:
    zeros = [array([Fraction(0)] * len(list(_cells(s))), s) for s in shapes]
    node = {"op": op, "in": list(range(len(shapes))), **attrs}
    if op in (*graphs.SMOOTH, *graphs.ROW_NORMS):
        return int(zeros[0].size)
    leaves = [{"op": "state", "in": [], "part": k} for k in range(len(shapes))]
    return int(graphs.run({"nodes": [*leaves, node]}, zeros, None, {}, EXACT)[-1].size)


def _cells(shape: list[int]) -> range:
    total = 1
    for s in shape:
        total *= s
    return range(total)


def ends(value: Tensor) -> list[tuple[Fraction, Fraction]]:
    return [value.fraction(i) for i in range(value.size)]


F = Fraction
TIGHT = [
    ("relu", [((2,), [(-1, 2), (-3, -1)])], {}, [(0, 2), (0, 0)]),
    ("abs", [((3,), [(-1, 2), (-3, -1), (F(1, 4), 1)])], {}, [(0, 2), (1, 3), (F(1, 4), 1)]),
    ("leaky_relu", [((2,), [(-4, 2), (-4, -2)])], {"slope": dyadic(F(1, 4))}, [(-1, 2), (-1, F(-1, 2))]),
    ("leaky_relu", [((1,), [(-4, 2)])], {"slope": dyadic(1)}, [(-4, 2)]),
    (
        "clamp",
        [((3,), [(-4, 0), (0, 9), (5, 9)])],
        {"lo": dyadic(-1), "hi": dyadic(F(3, 2))},
        [(-1, 0), (0, F(3, 2)), (F(3, 2), F(3, 2))],
    ),
    ("clamp", [((1,), [(-4, 9)])], {"lo": None, "hi": dyadic(1)}, [(-4, 1)]),
    ("clamp", [((1,), [(-4, 9)])], {"lo": dyadic(1), "hi": None}, [(1, 9)]),
    ("clamp", [((1,), None)], {"lo": dyadic(-1), "hi": dyadic(1)}, [(-1, 1)]),
    ("add", [((1,), [(-1, 2)]), ((1,), [(3, 5)])], {}, [(2, 7)]),
    ("sub", [((1,), [(-1, 2)]), ((1,), [(3, 5)])], {}, [(-6, -1)]),
    ("mul", [((2,), [(-1, 2), (-3, -2)]), ((2,), [(-3, 5), (-1, 4)])], {}, [(-6, 10), (-12, 3)]),
    ("max", [((1,), [(-1, 2)]), ((1,), [(0, 1)])], {}, [(0, 2)]),
    ("min", [((1,), [(-1, 2)]), ((1,), [(0, 1)])], {}, [(-1, 1)]),
    ("amax", [((2, 2), [(-1, 2), (0, 1), (-5, -4), (-9, -1)])], {}, [(0, 2), (-5, -1)]),
    ("sum", [((2, 2), [(-1, 2), (0, 1), (-5, -4), (-9, -1)])], {}, [(-1, 3), (-14, -5)]),
    ("matmul", [((1, 2), [(-1, 1), (2, 3)]), ((2, 1), [(1, 2), (-1, 1)])], {}, [(-5, 5)]),
    ("scale", [((1,), [(-1, 2)])], {"num": "-3", "den": "4"}, [(F(-3, 2), F(3, 4))]),
    ("reshape", [((2,), [(-1, 2), (3, 4)])], {"shape": [2, 1]}, [(-1, 2), (3, 4)]),
    ("pad", [((1,), [(-1, 2)])], {"pads": [[1, 1]]}, [(0, 0), (-1, 2), (0, 0)]),
]


@pytest.mark.parametrize(("op", "args", "attrs", "expected"), TIGHT)
def test_interval_hulls_of_one_operation_are_exact(op: str, args: Any, attrs: Any, expected: Any) -> None:
    assert ends(value_of_op(op, args, **attrs)) == [(F(a), F(b)) for a, b in expected]


@pytest.mark.parametrize("op", graphs.SMOOTH)
def test_smooth_values_are_tight_at_points(op: str) -> None:
    for v in (F(-7, 2), F(-1, 8), F(0), F(1, 4), F(9)):
        ((lo, hi),) = ends(value_of_op(op, [((1,), [(v, v)])]))
        truth = HIGH.functions[op](to_real(v))
        assert to_real(lo) - REFERENCE_ERROR <= truth <= to_real(hi) + REFERENCE_ERROR
        assert hi - lo <= F(1, 2**124)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("tanh", (-1, 1)), ("sigmoid", (0, 1)), ("sin", (-1, 1)), ("cos", (-1, 1))],
)
def test_bounded_activations_of_everything(op: str, expected: tuple[int, int]) -> None:
    assert ends(value_of_op(op, [((1,), None)])) == [tuple(map(F, expected))]


@pytest.mark.parametrize("op", ["softplus", "silu", "gelu", "relu", "abs"])
def test_unbounded_activations_of_everything(op: str) -> None:
    assert not value_of_op(op, [((1,), None)]).bounded


def test_softmax_is_tight_at_points_and_within_zero_and_one() -> None:
    values = ends(value_of_op("softmax", [((1, 3), [(0, 0), (1, 1), (-300, 900)])]))
    assert all(0 <= lo <= hi <= 1 for lo, hi in values)
    assert values[2][1] > F(999, 1000) and values[0][0] < F(1, 10**9)
    exact = ends(value_of_op("softmax", [((2,), [(3, 3), (3, 3)])]))
    assert all(lo <= F(1, 2) <= hi and hi - lo < F(1, 2**120) for lo, hi in exact)
    assert ends(value_of_op("softmax", [((2,), None)])) == [(0, 1), (0, 1)]
    assert ends(value_of_op("softmax", [((1,), [(-5, 5)])]))[0][1] == 1


@pytest.mark.parametrize("op", ["rms_norm", "layer_norm"])
def test_row_norms_at_points(op: str) -> None:
    values = [F(1), F(-2), F(1, 2), F(3)]
    found = ends(value_of_op(op, [((4,), [(v, v) for v in values])], eps=dyadic(F(1, 8))))
    node = {"op": op, "in": [0], "eps": dyadic(F(1, 8))}
    leaf = {"op": "state", "in": [], "part": 0}
    truth = graphs.run({"nodes": [leaf, node]}, [array([to_real(v) for v in values], (4,))], None, {}, HIGH)[-1]
    for (lo, hi), v in zip(found, truth, strict=True):
        assert to_real(lo) - REFERENCE_ERROR <= v <= to_real(hi) + REFERENCE_ERROR
        assert hi - lo < F(1, 2**118)


def test_row_norm_of_everything_is_within_the_square_root_of_the_size() -> None:
    for op in ("rms_norm", "layer_norm"):
        for lo, hi in ends(value_of_op(op, [((4,), None)], eps=dyadic(1))):
            assert lo <= -2 and hi >= 2


def test_scaling_by_a_third_is_enclosed_to_the_grid() -> None:
    ((lo, hi),) = ends(value_of_op("scale", [((1,), [(1, 1)])], num="1", den="3"))
    assert lo <= F(1, 3) <= hi and lo < hi and hi - lo <= F(1, 2**120)
    ((lo, hi),) = ends(value_of_op("scale", [((1,), [(-1, 2)])], num="-1", den="3"))
    assert F(-2, 3) - F(1, 2**120) <= lo <= F(-2, 3) and F(1, 3) <= hi <= F(1, 3) + F(1, 2**120)


def test_zero_times_everything_stays_enclosed() -> None:
    assert_encloses(value_of_op("scale", [((1,), None)], num="0", den="1"), array([F(0)], (1,)))


def divided(lo: Any, hi: Any, unbounded: bool = False) -> Tensor:
    """1 / x over an input box."""
    nodes = Nodes()
    one = nodes.constant([F(1)])
    out = nodes.add("div", one, nodes.add("input"))
    step = nodes.function(nodes.add("add", out, nodes.scale(nodes.state(), 0)))
    graph = kernel_graph(graph_json(step, [[1]], {"shape": [1], "kind": "real"}))
    given = Tensor((1,)) if unbounded else box([(F(lo), F(hi))])
    return kernel.evaluate(graph, graph.step, Tensor((1,)), given)[out]


def test_division() -> None:
    ((lo, hi),) = ends(divided(2, 3))
    assert lo <= F(1, 3) < F(1, 2) <= hi and hi - lo < F(1, 6) + F(1, 2**120)
    ((lo, hi),) = ends(divided(-3, F(-1, 4)))
    assert lo <= -4 and F(-1, 3) <= hi < F(-1, 3) + F(1, 2**120)


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 1), (-1, 0), (0, 0)])
def test_division_by_what_may_vanish_is_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(CheckError) as caught:
        divided(*bounds)
    assert caught.value.code == "UNSUPPORTED"


def test_division_by_an_unbounded_input_is_refused() -> None:
    with pytest.raises(CheckError) as caught:
        divided(0, 0, unbounded=True)
    assert caught.value.code == "UNSUPPORTED"


def test_embedding_encloses_all_rows_between_the_ends() -> None:
    nodes = Nodes()
    table = nodes.constant(array([F(v) for v in (1, 10, -5, 2, 3, 0)], (3, 2)))
    rows = nodes.add("embedding", nodes.add("input"), table)
    out = nodes.add("add", nodes.add("reshape", rows, shape=[2]), nodes.scale(nodes.state(), 0))
    graph = kernel_graph(graph_json(nodes.function(out), [[2]], {"shape": [1], "kind": "integer", "size": 3}))

    def over(lo: int, hi: int) -> list[tuple[Fraction, Fraction]]:
        return ends(kernel.evaluate(graph, graph.step, Tensor((2,)), box([(F(lo), F(hi))]))[rows])

    assert over(1, 1) == [(-5, -5), (2, 2)]
    assert over(0, 2) == [(-5, 3), (0, 10)]
    for lo, hi in ((F(1, 2), F(1, 2)), (0, F(3, 2)), (-1, 0), (1, 3)):
        with pytest.raises(CheckError) as caught:
            over(lo, hi)  # type: ignore[arg-type]
        assert caught.value.code == "BOX"


def test_a_linear_map_needs_an_exact_matrix() -> None:
    nodes = Nodes()
    third = nodes.scale(nodes.constant(array([F(1)], (1, 1))), 1, 3)
    graph = kernel_graph(graph_json(nodes.function(nodes.add("linear", nodes.state(), third))))
    with pytest.raises(CheckError) as caught:
        kernel.step(graph, flat([F(1)]), Tensor((0,), 0, [], []))
    assert caught.value.code == "UNSUPPORTED"


def test_init_defaults_to_zeros_and_is_evaluated_otherwise() -> None:
    step = Nodes()
    shrink = step.function(step.scale(step.state(), 1, 2))
    given = {"shape": [2], "kind": "real"}
    nodes = Nodes()
    init = nodes.function(nodes.scale(nodes.add("input"), 3))
    plain, own = kernel_graph(graph_json(shrink, [[2]])), kernel_graph(graph_json(shrink, [[2]], given, init))
    assert ends(kernel.initial_state(plain, Tensor((0,), 0, [], []))) == [(0, 0), (0, 0)]
    assert ends(kernel.initial_state(own, box([(F(1), F(2)), (F(-1), F(0))]))) == [(3, 6), (-3, 0)]


def test_parts_are_laid_end_to_end() -> None:
    nodes = Nodes()
    a, b = nodes.state(0), nodes.state(1)
    step = nodes.function(nodes.scale(a, 2), nodes.scale(b, -1, 4))
    graph = kernel_graph(graph_json(step, [[2], [1]]))
    out = kernel.step(graph, flat([F(1), F(-3), F(5)]), Tensor((0,), 0, [], []))
    assert ends(out) == [(2, 2), (-6, -6), (F(-5, 4), F(-5, 4))]


def test_fine_exponents_are_rounded_outward_to_the_grid() -> None:
    """Squaring 2^-100 (1 + 2^-60) three times leaves the grid of 2^-256; the enclosure must still hold the value."""
    nodes = Nodes()
    z = nodes.state()
    for _ in range(3):
        z = nodes.add("mul", z, z)
    graph = kernel_graph(graph_json(nodes.function(z)))
    v = -(F(1, 2**100) + F(1, 2**160))
    at = Tensor((1,), -160, [int(v * 2**160)], [int(v * 2**160)])
    out = kernel.step(graph, at, Tensor((0,), 0, [], []))
    lo, hi = out.fraction(0)
    assert lo <= v**8 <= hi and lo < hi
    assert value_of(out.lo[0], out.exp) == lo  # type: ignore[index]
    assert mpf(2) ** -255 >= to_real(hi - lo)
