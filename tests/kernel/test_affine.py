"""Affine forms: every node of a function exactly in terms of state, input and units, and the units in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel import graphs
from tests.kernel.certificates import graph_json, kernel_graph, real
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import EXACT, HIGH, Array, Json, Nodes, array, dyadic, mpf
from tests.kernel.test_evaluate import EVERY_OP, EXACT_OPS, box, flat, inside, random_box, reference
from trm_verify.kernel.affine import AffineForms, Unit, affine_forms, joined
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import ACTIVATIONS, Function, Graph
from trm_verify.kernel.linear import Form
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.relaxation import rescaled
from trm_verify.kernel.tensor import Tensor

CONSTANT, INPUT, STATE = range(3)
Found = tuple[str | None, Any, Any]  # (operation, argument, value) of a unit, by the reference


def kinds(function: Json) -> list[int]:
    """What each node depends on."""
    found: list[int] = []
    for node in function["nodes"]:
        leaf = {"state": STATE, "input": INPUT}.get(node["op"], CONSTANT)
        found.append(max((found[i] for i in node["in"]), default=leaf))
    return found


def reference_units(function: Json, values: Sequence[Array], ranges: Sequence[Tensor], number: Any) -> list[Found]:
    """The units of docs/format.md with their arguments and values, from the value of every node."""
    found: list[Found] = []
    kind = kinds(function)

    def relus(arguments: Sequence[Any]) -> None:
        found.extend(("relu", a, max(a, 0 * a)) for a in arguments)

    for i, node in enumerate(function["nodes"]):
        if kind[i] == CONSTANT and ranges[i].is_point:
            continue
        op, own = node["op"], list(values[i].ravel())
        args = [list(values[j].ravel()) for j in node["in"]]
        exact = [kind[j] != STATE and ranges[j].is_point for j in node["in"]]
        if op in ACTIVATIONS:
            found.extend(zip([op] * len(own), args[0], own, strict=True))
        elif op == "scale" and (den := F(int(node["num"], 16), int(node["den"], 16)).denominator) & (den - 1):
            found.extend(zip(["scale"] * len(own), args[0], own, strict=True))
        elif op == "max":
            relus([b - a for a, b in zip(*args, strict=True)])
        elif op == "min":
            relus([a - b for a, b in zip(*args, strict=True)])
        elif op == "amax":
            width = values[node["in"][0]].shape[-1]
            best = args[0][::width]
            for column in range(1, width):
                others = args[0][column::width]
                relus([b - a for a, b in zip(best, others, strict=True)])
                best = [max(pair) for pair in zip(best, others, strict=True)]
        elif op == "div" and exact[1] and kind[node["in"][1]] == CONSTANT:
            found.extend(zip(["scale"] * len(own), args[0], own, strict=True))
        elif op == "mul" and any(exact):
            continue
        elif op == "mul":
            pair = [ranges[j] for j in node["in"]]
            whole = all(r.bounded and not r.is_point for r in pair) and CONSTANT not in {kind[j] for j in node["in"]}
            middles = [[sum(r.fraction(e)) / 2 for e in range(r.size)] for r in pair] if whole else []
            rest = own
            if whole:
                terms = zip(*args, *middles, strict=True)
                rest = [(a - number(p)) * (b - number(q)) for a, b, p, q in terms]
            found.extend((None, None, v) for v in rest)
        elif op in ("softmax", "rms_norm", "layer_norm", "embedding", "div") or (op == "matmul" and not exact[0]):
            found.extend((None, None, v) for v in own)
    return found


def checked(
    forms: AffineForms, function: Json, values: Sequence[Array], ranges: Sequence[Tensor], known: list[Any],
    outputs: Callable[[], list[Any]], number: Any = F, slack: Any = 0,
) -> None:  # fmt: skip
    """The forms at one point: units in order, arguments and outputs equal to those of the reference."""
    units = reference_units(function, values, ranges, number)
    assert [u.op for u in forms.units] == [op for op, _, _ in units]
    assert all(len(row) == len(known) + len(units) for row in [*forms.outputs.rows, *forms.arguments.rows])
    point = [*known, *(value for _, _, value in units)]

    def at(form: Form, i: int) -> Any:
        return sum(
            (number(value_of(c, form.exp)) * p for c, p in zip(form.rows[i], point, strict=True) if c), number(F(0))
        )

    def same(a: Any, b: Any) -> bool:
        return bool(abs(a - b) <= slack * (1 + abs(b)))

    for k, ((op, argument, value), unit) in enumerate(zip(units, forms.units, strict=True)):
        if op is not None:
            assert same(at(forms.arguments, k), argument)
            assert not any(forms.arguments.rows[k][len(known) + k :])  # earlier units only
        elif unit.range is not None:
            assert number(unit.range[0]) - slack <= value <= number(unit.range[1]) + slack
            assert not any(forms.arguments.rows[k])
    for i, value in enumerate(outputs()):
        assert same(at(forms.outputs, i), value)


def step_at(
    model: Sample, graph: Graph, ranges: Sequence[Tensor], z: list[F], x: list[F], numbers: graphs.Field, slack: Any
) -> None:
    forms = affine_forms(graph, graph.step, list(ranges))
    values = reference(model, z, x, numbers)
    known = [numbers.of(F(1)), *map(numbers.of, z), *map(numbers.of, x)]
    outputs = lambda: graphs.outputs(model.graph["step"], values)  # noqa: E731
    checked(forms, model.graph["step"], values, ranges, known, outputs, numbers.of, slack)


@pytest.mark.parametrize("seed", range(70))
def test_piecewise_linear_functions_are_exact(seed: int) -> None:
    ops = EXACT_OPS if seed % 2 else [*EXACT_OPS, "mul", "max", "min", "amax", "div"]
    model = sample(70_000 + seed, ops, 10)
    rng, whole = model.rng, model.vocabulary is not None
    inputs, states = random_box(rng, model.input_size, model.vocabulary), random_box(rng, model.size)
    graph = kernel_graph(model.graph, model.tensors)
    given = flat(inside(rng, inputs, whole)) if seed % 5 == 0 else box(inputs)
    ranges = evaluate(graph, graph.step, box(states), given)
    for _ in range(3):
        x = [a for a, _ in map(given.fraction, range(given.size))] if seed % 5 == 0 else inside(rng, inputs, whole)
        step_at(model, graph, ranges, inside(rng, states), x, EXACT, 0)


@pytest.mark.parametrize("seed", range(40))
def test_smooth_functions_are_exact_in_their_units(seed: int) -> None:
    model = sample(80_000 + seed, EVERY_OP, 9)
    rng, whole = model.rng, model.vocabulary is not None
    inputs, states = random_box(rng, model.input_size, model.vocabulary), random_box(rng, model.size)
    graph = kernel_graph(model.graph, model.tensors)
    ranges = evaluate(graph, graph.step, box(states), box(inputs))
    for _ in range(2):
        step_at(model, graph, ranges, inside(rng, states), inside(rng, inputs, whole), HIGH, mpf(2) ** -200)


@pytest.mark.parametrize("seed", range(20))
def test_unbounded_states_keep_exact_forms(seed: int) -> None:
    """Without a box a product is a unit without range; everything else is as exact as before."""
    model = sample(90_000 + seed, [op for op in EXACT_OPS if op != "embedding"], 9)
    rng, whole = model.rng, model.vocabulary is not None
    inputs = random_box(rng, model.input_size, model.vocabulary)
    graph = kernel_graph(model.graph, model.tensors)
    ranges = evaluate(graph, graph.step, Tensor((model.size,)), box(inputs))
    for scale in (1, 1000):
        z = [scale * v for v in inside(rng, random_box(rng, model.size))]
        step_at(model, graph, ranges, z, inside(rng, inputs, whole), EXACT, 0)


# single operations, by hand


def forms_of(
    build: Any, shape: list[int], given: Json | None = None, region: Tensor | None = None, domain: Tensor | None = None
) -> AffineForms:
    nodes = Nodes()
    graph = kernel_graph(graph_json(nodes.function(build(nodes, nodes.state())), [shape], given))
    at = domain if domain is not None else Tensor((0,), 0, [], [])
    return affine_forms(graph, graph.step, evaluate(graph, graph.step, region or Tensor((graph.size,)), at))


def rows(form: Form) -> list[list[F]]:
    return [[value_of(v, form.exp) for v in row] for row in form.rows]


def test_a_maximum_is_its_first_argument_and_a_relu() -> None:
    forms = forms_of(lambda n, z: n.add("max", z, n.scale(z, -1)), [1])
    assert forms.units == (Unit("relu"),)
    assert rows(forms.arguments) == [[0, -2, 0]]  # −z − z
    assert rows(forms.outputs) == [[0, 1, 1]]


def test_a_minimum_is_its_first_argument_less_a_relu() -> None:
    forms = forms_of(lambda n, z: n.add("min", z, n.constant([F(3)])), [1])
    assert rows(forms.arguments) == [[-3, 1, 0]] and rows(forms.outputs) == [[0, 1, -1]]


def test_the_maximum_of_an_axis_compares_column_by_column() -> None:
    def build(n: Nodes, z: int) -> int:
        return n.add("expand", n.add("reshape", n.add("amax", z), shape=[2, 1]), shape=[2, 3])

    forms = forms_of(build, [2, 3])
    assert len(forms.units) == 4  # two rows, two comparisons each
    assert rows(forms.arguments)[:2] == [[0, -1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, -1, 1, 0, 0, 0, 0, 0]]
    assert rows(forms.arguments)[2] == [0, -1, 0, 1, 0, 0, 0, -1, 0, 0, 0]
    assert rows(forms.outputs)[0] == [0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0]


def test_scales_that_are_no_binary_fraction_are_units() -> None:
    forms = forms_of(lambda n, z: n.scale(n.scale(z, 1, 3), 3, 4), [1])
    assert forms.units == (Unit("scale", {"factor": F(1, 3)}),)
    assert rows(forms.outputs) == [[0, 0, F(3, 4)]] and rows(forms.arguments) == [[0, 1, 0]]


def test_division_by_a_constant_is_a_scale_by_its_reciprocal() -> None:
    forms = forms_of(lambda n, z: n.add("div", z, n.constant([F(3), F(-1, 2)])), [2])
    assert [u.attrs["factor"] for u in forms.units] == [F(1, 3), F(-2)]


def test_products_are_linear_about_the_middles_of_their_ranges() -> None:
    region = box([(F(0), F(2)), (F(1), F(5))])

    def build(n: Nodes, z: int) -> int:
        parts = [n.add("slice", z, axis=0, start=k, stop=k + 1, step=1) for k in (0, 1)]
        return n.add("concat", n.add("mul", *parts), parts[0], axis=0)

    forms = forms_of(build, [2], region=region)
    assert forms.units == (Unit(None, {}, (F(-2), F(2)), True),)  # reach (2 − 0)(5 − 1)/4
    assert rows(forms.outputs)[0] == [-3, 3, 1, 1]  # 3z₀ + 1z₁ − 3 + rest


@pytest.mark.parametrize("exact", [True, False])
def test_a_product_with_an_exact_input_has_no_unit(exact: bool) -> None:
    at = flat([F(3)]) if exact else box([(F(3), F(4))])
    forms = forms_of(lambda n, z: n.add("mul", z, n.add("input")), [1], real(1), box([(F(0), F(1))]), at)
    assert len(forms.units) == (0 if exact else 1)
    if exact:
        assert rows(forms.outputs) == [[0, 3, 0]]


def test_units_of_the_input_do_not_vary_with_the_state() -> None:
    both = {"shape": [1], "kind": "integer", "size": 3}

    def build(n: Nodes, z: int) -> int:
        table = n.add("embedding", n.add("input"), n.constant(array([F(1), F(5), F(2)], (3, 1))))
        return n.add("add", z, n.add("reshape", table, shape=[1]))

    forms = forms_of(build, [1], both, domain=box([(F(0), F(1))]))
    assert forms.units == (Unit(None, {}, (F(1), F(5)), False),)


def test_a_smooth_function_of_a_constant_is_a_unit_with_a_constant_argument() -> None:
    forms = forms_of(lambda n, z: n.add("add", z, n.add("tanh", n.constant([F(1, 2)]))), [1])
    assert [u.op for u in forms.units] == ["tanh"] and rows(forms.arguments) == [[F(1, 2), 0, 0]]


def test_constants_that_are_matrices_are_no_columns() -> None:
    forms = forms_of(lambda n, z: n.add("linear", z, n.constant(array([F(1), F(2), F(3), F(4)], (2, 2)))), [2])
    assert rows(forms.outputs) == [[0, 1, 2], [0, 3, 4]] and forms.units == ()


# readouts and rescaling


@pytest.mark.parametrize("seed", range(12))
def test_step_and_readout_share_one_set_of_units(seed: int) -> None:
    """A readout that is a second random function of the same state: its logits, over the units of both."""
    ops = ["linear", "add", "scale", "relu", "abs", "max", "reshape", "sum", "leaky_relu"]
    model = sample(95_000 + seed, ops, 8, "real")
    others = (sample(95_100 + 100 * seed + k, ops, 8, None) for k in range(100))
    other = next(o for o in others if o.shapes == model.shapes)
    rng = model.rng
    graph, second = (kernel_graph(m.graph, m.tensors) for m in (model, other))
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size)
    ranges = evaluate(graph, graph.step, box(states), box(inputs))
    more = evaluate(second, second.step, box(states), Tensor((0,), 0, [], []))
    step = affine_forms(graph, graph.step, ranges)
    readout = affine_forms(second, second.step, more)
    # the readout reads no input: its columns have none, so that of the step is put in
    width = model.input_size

    def wide(form: Form) -> Form:
        n = 1 + model.size
        return Form([[*row[:n], *[0] * width, *row[n:]] for row in form.rows], form.exp)

    moved = AffineForms(wide(readout.outputs), readout.units, wide(readout.arguments), step.first)
    forms, logits = joined(step, moved)
    z, x = inside(rng, states), inside(rng, inputs)
    values, seconds = reference(model, z, x, EXACT), reference(other, z, [], EXACT)
    units = [
        *reference_units(model.graph["step"], values, ranges, F),
        *reference_units(other.graph["step"], seconds, more, F),
    ]
    point = [F(1), *z, *x, *(v for _, _, v in units)]
    assert [u.op for u in forms.units] == [op for op, _, _ in units]
    for row, value in zip(rows(logits), graphs.outputs(other.graph["step"], seconds), strict=True):
        assert sum(c * p for c, p in zip(row, point, strict=True)) == value
    for row, (op, argument, _) in zip(rows(forms.arguments), units, strict=True):
        if op is not None:
            assert sum(c * p for c, p in zip(row, point, strict=True)) == argument


def relu_graph(op: str = "relu", **attrs: Any) -> Graph:
    nodes = Nodes()
    w = nodes.constant(array([F(-3), F(2), F(1), F(-7)], (2, 2)))
    moved = nodes.add("add", nodes.add("linear", nodes.state(), w), nodes.add("input"))
    return kernel_graph(graph_json(nodes.function(nodes.add(op, moved, **attrs)), [[2]], real(2)))


def of_graph(graph: Graph) -> AffineForms:
    function: Function = graph.step
    return affine_forms(graph, function, evaluate(graph, function, Tensor((2,)), Tensor((2,))))


def test_rescaling_moves_the_argument_along_the_state() -> None:
    forms = of_graph(relu_graph())
    alpha = (F(1, 4), F(1, 8))
    moved = rescaled(forms, alpha)
    assert moved.outputs == forms.outputs
    for i, (before, after) in enumerate(zip(rows(forms.arguments), rows(moved.arguments), strict=True)):
        state = [F(j == 1 + i) for j in range(len(before))]
        assert after == [s + alpha[i] * (a - s) for s, a in zip(state, before, strict=True)]
    assert rows(moved.arguments)[0][1] == 0 and rows(moved.arguments)[1][2] == 0  # 1/(1 − W_ii) clears the diagonal


@pytest.mark.parametrize("alpha", [(F(0), F(1)), (F(-1), F(1)), (F(1), F(-1, 2))])
def test_scales_are_positive(alpha: tuple[F, F]) -> None:
    with pytest.raises(CheckError) as caught:
        rescaled(of_graph(relu_graph()), alpha)
    assert caught.value.code == "WITNESS"


@pytest.mark.parametrize(
    ("op", "attrs", "fits"),
    [
        ("relu", {}, True),
        ("clamp", {"lo": dyadic(0), "hi": dyadic(1)}, True),
        ("clamp", {"lo": None, "hi": dyadic(1)}, True),
        ("leaky_relu", {"slope": dyadic(F(1, 2))}, False),
        ("abs", {}, False),
        ("tanh", {}, False),
        ("softplus", {}, False),
    ],
)
def test_only_projections_can_be_rescaled(op: str, attrs: Json, fits: bool) -> None:
    forms = of_graph(relu_graph(op, **attrs))
    if fits:
        assert rescaled(forms, (F(1, 2), F(2))).units == forms.units
    else:
        with pytest.raises(CheckError) as caught:
            rescaled(forms, (F(1, 2), F(1)))
        assert caught.value.code == "WITNESS"
    assert rescaled(forms, (F(1), F(1))).arguments.rows  # 1 changes nothing, whatever the unit


def test_the_reference_tells_a_wrong_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of this file notices a sign, so that its silence means something."""
    model = sample(70_001, EXACT_OPS, 10)
    rng = model.rng
    graph = kernel_graph(model.graph, model.tensors)
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    ranges = evaluate(graph, graph.step, box(states), box(inputs))
    real_forms = affine_forms(graph, graph.step, ranges)
    row = next(r for r in real_forms.outputs.rows if any(r))
    place = next(j for j, v in enumerate(row) if v)
    row[place] = -row[place]
    monkeypatch.setitem(globals(), "affine_forms", lambda *_: real_forms)
    with pytest.raises(AssertionError):
        for _ in range(5):
            step_at(
                model, graph, ranges, inside(rng, states), inside(rng, inputs, model.vocabulary is not None), EXACT, 0
            )
