"""Linear forms: Δ(output) = Q_z Δz + Q_u Δu exactly, for every pair of states, with the units in graph order."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel import graphs
from tests.kernel.certificates import graph_json, kernel_graph
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import EXACT, Nodes, array
from tests.kernel.test_evaluate import EVERY_OP, EXACT_OPS, box, flat, inside, random_box, reference
from trm_verify.kernel import affine
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import constants, evaluate
from trm_verify.kernel.graph import ACTIVATIONS
from trm_verify.kernel.linear import Forms, linear_forms, require_activations
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.tensor import Tensor

NOTHING = Tensor((0,), 0, [], [])


def affine_forms_of(graph: Any, function: Any, ranges: Any) -> Any:
    return affine.forms_of(graph, function, Tensor((graph.size,)), NOTHING)


def constants_of(graph: Any, function: Any, ranges: Any) -> Any:
    return constants(graph, function)


def _scaled(factor: int) -> Any:
    nodes = Nodes()
    weights = nodes.constant(array([F(factor), F(0), F(0), F(factor)], (2, 2)))
    return nodes.function(nodes.add("relu", nodes.add("linear", nodes.state(), weights)))


def forms_of(model: Sample, given: Tensor, region: Tensor | None = None) -> Forms:
    graph = kernel_graph(model.graph, model.tensors)
    ranges = evaluate(graph, graph.step, region or Tensor((model.size,)), given)
    return linear_forms(graph, graph.step, ranges)


@pytest.mark.parametrize("seed", range(80))
def test_differences_are_exactly_linear_in_state_and_units(seed: int) -> None:
    model = sample(50_000 + seed, EXACT_OPS, 10)
    rng, whole = model.rng, model.vocabulary is not None
    inputs, states = random_box(rng, model.input_size, model.vocabulary), random_box(rng, model.size)
    x = inside(rng, inputs, whole)
    given = flat(x) if seed % 2 else box(inputs)
    forms = forms_of(model, given, box(states) if seed % 3 else None)
    width = model.size + len(forms.units)
    assert all(len(row) == width for row in [*forms.outputs.rows, *forms.arguments.rows])
    for _ in range(3):
        a, b = inside(rng, states), inside(rng, states)
        first, second = reference(model, a, x, EXACT), reference(model, b, x, EXACT)
        units = [second[n].ravel()[e] - first[n].ravel()[e] for n, e, _ in forms.units]
        moved = [q - p for p, q in zip(a, b, strict=True)] + units
        ends = [graphs.outputs(model.graph["step"], v) for v in (first, second)]
        for row, p, q in zip(forms.outputs.rows, *ends, strict=True):
            assert sum(dyadic(c, forms.outputs.exp) * m for c, m in zip(row, moved, strict=True)) == q - p
        for (node, entry, active), row in zip(forms.units, forms.arguments.rows, strict=True):
            source = model.graph["step"]["nodes"][node]["in"][0]
            if active:
                found = sum(dyadic(c, forms.arguments.exp) * m for c, m in zip(row, moved, strict=True))
                assert found == second[source].ravel()[entry] - first[source].ravel()[entry]
            else:
                assert not any(row)


@pytest.mark.parametrize("seed", range(40))
def test_units_are_the_nonlinear_nodes_of_the_state_in_graph_order(seed: int) -> None:
    model = sample(60_000 + seed, [op for op in EVERY_OP if op not in ("div", "mul")], 10)
    rng = model.rng
    forms = forms_of(model, box(random_box(rng, model.input_size, model.vocabulary)), box(random_box(rng, model.size)))
    order = [(n, e) for n, e, _ in forms.units]
    assert order == sorted(order)
    for k, row in enumerate(forms.arguments.rows):
        assert not any(row[model.size + k :])  # an argument sees earlier units only
    for node, _, active in forms.units:
        assert active == (model.graph["step"]["nodes"][node]["op"] in ACTIVATIONS)


def single(build: Any, shape: list[int], given: Any = None, at: Tensor | None = None) -> Forms:
    nodes = Nodes()
    step = nodes.function(build(nodes, nodes.state()))
    graph = kernel_graph(graph_json(step, [shape], given))
    ranges = evaluate(graph, graph.step, Tensor((graph.size,)), at or Tensor((0,), 0, [], []))
    return linear_forms(graph, graph.step, ranges)


@pytest.mark.parametrize("op", ["mul", "add"])
def test_only_forms_that_no_box_changes_are_kept(op: str) -> None:
    """z·x has other forms at other inputs; the graph may keep those of linear maps and activations alone."""
    nodes = Nodes()
    out = nodes.add(op, nodes.add("tanh", nodes.state()), nodes.add("input"))
    document = graph_json(nodes.function(out), [[2]], {"shape": [2], "kind": "real"})
    kept = kernel_graph(document)
    for given in (flat([F(3), F(-2)]), flat([F(5), F(1)]), box([(F(3), F(4)), (F(0), F(1))])):
        found, fresh = (
            linear_forms(graph, graph.step, evaluate(graph, graph.step, Tensor((2,)), given))
            for graph in (kept, kernel_graph(document))
        )
        assert found == fresh


@pytest.mark.parametrize("kept", [linear_forms, affine_forms_of, constants_of])
def test_what_is_kept_of_a_function_is_never_read_as_anothers(kept: Any) -> None:
    """The cheapest false theorem about kept forms: one function takes the id, and so the weights, of another."""

    def model(factor: int) -> Any:
        return kernel_graph(graph_json(_scaled(factor), [[2]]))

    small, large = model(1), model(100)
    ranges = evaluate(small, small.step, Tensor((2,)), NOTHING)
    other = evaluate(large, large.step, Tensor((2,)), NOTHING)
    first, second = kept(small, small.step, ranges), kept(large, large.step, other)
    assert first != second
    for (what, _), held in list(small.cache.items()):
        small.cache[what, id(large.step)] = held  # as if the step of `small` were gone, and its place taken
    assert kept(small, large.step, other) == second
    assert kept(small, small.step, ranges) == first


def test_chains_of_tiny_weights_do_not_run_away() -> None:
    """Each product adds its exponent: a file of four kilobytes held arithmetic on millions of bits."""

    def chain(length: int) -> Any:
        def build(nodes: Nodes, z: int) -> int:
            tiny = nodes.constant(array([F(1, 1 << 20_000)], (1, 1)))
            for _ in range(length):
                z = nodes.add("linear", z, tiny)
            return nodes.add("relu", z)

        return build

    assert single(chain(3), [1]).arguments.exp == -60_000
    with pytest.raises(CheckError) as caught:
        single(chain(4), [1])
    assert caught.value.code == "LIMIT"


def test_a_linear_step_has_no_units() -> None:
    forms = single(
        lambda n, z: n.scale(n.add("linear", z, n.constant(array([F(1), F(2), F(3), F(4)], (2, 2)))), -3, 2), [2]
    )
    assert forms.units == ()
    rows = [[dyadic(v, forms.outputs.exp) for v in row] for row in forms.outputs.rows]
    assert rows == [[F(-3, 2), -3], [F(-9, 2), -6]]
    require_activations(forms)


def test_constants_and_inputs_have_no_form() -> None:
    forms = single(
        lambda n, z: n.add("add", n.scale(z, 0), n.add("tanh", n.add("input"))),
        [2],
        {"shape": [2], "kind": "real"},
        Tensor((2,)),
    )
    assert forms.units == () and not any(any(row) for row in forms.outputs.rows)


@pytest.mark.parametrize("exact", [True, False])
def test_a_product_with_the_input_is_linear_at_one_input_only(exact: bool) -> None:
    at = flat([F(3), F(-2)]) if exact else box([(F(3), F(4)), (F(0), F(1))])
    forms = single(lambda n, z: n.add("mul", z, n.add("input")), [2], {"shape": [2], "kind": "real"}, at)
    if exact:
        assert forms.units == () and [[dyadic(v, forms.outputs.exp) for v in r] for r in forms.outputs.rows] == [
            [3, 0],
            [0, -2],
        ]
    else:
        assert [active for _, _, active in forms.units] == [False, False]
        with pytest.raises(CheckError) as caught:
            require_activations(forms)
        assert caught.value.code == "UNSUPPORTED"


@pytest.mark.parametrize("op", ["amax", "softmax", "max", "min", "mul", "rms_norm", "layer_norm", "scale"])
def test_other_nonlinear_nodes_are_no_activations(op: str) -> None:
    def build(n: Nodes, z: int) -> int:
        if op == "amax":
            return n.add("expand", n.add("reshape", n.add("amax", z), shape=[1]), shape=[2])
        if op in ("max", "min", "mul"):
            return n.add(op, z, z)
        if op == "scale":
            return n.scale(z, 1, 3)
        return n.add(op, z, **({} if op == "softmax" else {"eps": graphs.dyadic(1)}))

    forms = single(build, [2])
    assert forms.units and not any(active for _, _, active in forms.units)
    with pytest.raises(CheckError) as caught:
        require_activations(forms)
    assert caught.value.code == "UNSUPPORTED"


def test_an_unused_unit_width_is_padded_everywhere() -> None:
    """Two parts, one linear and one not: both output rows have all columns."""
    nodes = Nodes()
    a, b = nodes.state(0), nodes.state(1)
    step = nodes.function(nodes.scale(b, 2), nodes.add("relu", a))
    graph = kernel_graph(graph_json(step, [[1], [1]]))
    forms = linear_forms(graph, graph.step, evaluate(graph, graph.step, Tensor((2,)), Tensor((0,), 0, [], [])))
    assert [[dyadic(v, forms.outputs.exp) for v in r] for r in forms.outputs.rows] == [[0, 2, 0], [0, 0, 1]]
    assert [[dyadic(v, forms.arguments.exp) for v in r] for r in forms.arguments.rows] == [[1, 0, 0]]
