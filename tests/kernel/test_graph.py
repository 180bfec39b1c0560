"""The graph parser: what is no graph, and that a graph cannot mean less than it says."""

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import graph_json, kernel_graph, real
from tests.kernel.graphs import Json, Nodes, array, dyadic, vector
from trm_verify.kernel.document import digest
from trm_verify.kernel.errors import CheckError

STATE = {"op": "state", "in": [], "part": 0}
TOKENS = {"shape": [2], "kind": "integer", "size": 3}
ROWS = {"op": "constant", "in": [], "shape": [3, 1], "value": vector([1, 2, 3])}


def step(*nodes: Json, outputs: Any = None) -> Json:
    return {"nodes": list(nodes), "outputs": [len(nodes) - 1] if outputs is None else outputs}


def node(op: str, *args: Any, **attrs: Any) -> Json:
    return {"op": op, "in": list(args), **attrs}


def code(raw: Any, tensors: dict[str, Any] | None = None) -> str:
    with pytest.raises(CheckError) as caught:
        kernel_graph(raw, tensors)
    return caught.value.code


def constant(*values: Any, shape: list[int] | None = None) -> Json:
    return node("constant", shape=[len(values)] if shape is None else shape, value=vector(values))


GOOD = graph_json(step(STATE, node("scale", 0, num="1", den="2")))


def test_a_small_graph() -> None:
    graph = kernel_graph(GOOD)
    assert graph.size == 1 and graph.input_size == 0 and graph.digest == digest(GOOD)
    assert kernel_graph(graph_json(GOOD["step"], given=real(2, 3))).input_size == 6


STEPS: list[tuple[str, Json, str]] = [
    ("no state", step(constant(1, shape=[1]), node("scale", 0, num="1", den="0")), "FIELD"),
    ("unused node", step(STATE, STATE, node("relu", 0)), "GRAPH"),
    ("unused constant", step(STATE, constant(1), node("relu", 0)), "GRAPH"),
    ("a node after the outputs", step(STATE, node("relu", 0), node("relu", 1), outputs=[1]), "GRAPH"),
    ("forward reference", step(STATE, node("relu", 2), node("relu", 1)), "GRAPH"),
    ("itself", step(STATE, node("relu", 1)), "GRAPH"),
    ("negative reference", step(STATE, node("relu", -1)), "GRAPH"),
    ("bool reference", step(STATE, STATE, node("relu", True), outputs=[2, 0]), "GRAPH"),
    ("no outputs", step(STATE, outputs=[]), "GRAPH"),
    ("two outputs", step(STATE, outputs=[0, 0]), "SHAPE"),
    ("dangling output", step(STATE, outputs=[1]), "NUMBER"),
    ("negative output", step(STATE, outputs=[-1]), "NUMBER"),
    ("no nodes", {"nodes": [], "outputs": [0]}, "NUMBER"),
    ("another shape", step(STATE, node("reshape", 0, shape=[1, 1])), "SHAPE"),
    ("unknown operation", step(STATE, node("erf", 0)), "OPERATION"),
    ("exp is no operation", step(STATE, node("exp", 0)), "OPERATION"),
    ("operation is a list", step(STATE, node([], 0)), "FIELD"),
    ("unknown attribute", step(STATE, node("relu", 0, inplace=1)), "FIELD"),
    ("missing attribute", step(STATE, node("leaky_relu", 0)), "FIELD"),
    ("no arguments", step(node("relu")), "GRAPH"),
    ("too many arguments", step(STATE, node("relu", 0, 0)), "GRAPH"),
    ("too few arguments", step(STATE, node("add", 0)), "GRAPH"),
    ("a leaf with arguments", step(STATE, {"op": "state", "in": [0], "part": 0}), "GRAPH"),
    ("no such part", step({"op": "state", "in": [], "part": 1}), "NUMBER"),
    ("a negative part", step({"op": "state", "in": [], "part": -1}), "NUMBER"),
    ("an input that is not there", step(STATE, node("input"), node("add", 0, 1)), "GRAPH"),
    ("shapes that would broadcast", step(STATE, constant(1, 2), node("add", 0, 1)), "SHAPE"),
    ("a scalar that would broadcast", step(STATE, constant(1, shape=[]), node("mul", 0, 1)), "SHAPE"),
    ("weights of another width", step(STATE, constant(1, 2, shape=[1, 2]), node("linear", 0, 1)), "SHAPE"),
    ("weights that are a vector", step(STATE, constant(1), node("linear", 0, 1)), "SHAPE"),
    ("weights that vary", step(STATE, node("reshape", 0, shape=[1, 1]), node("linear", 0, 1)), "GRAPH"),
    ("a divisor that varies", step(STATE, node("div", 0, 0)), "GRAPH"),
    ("vectors in matmul", step(STATE, node("matmul", 0, 0)), "SHAPE"),
    ("the sum of a scalar", step(STATE, node("reshape", 0, shape=[]), node("sum", 1)), "SHAPE"),
    ("the softmax of a scalar", step(STATE, node("reshape", 0, shape=[]), node("softmax", 1)), "SHAPE"),
    ("a negative denominator", step(STATE, node("scale", 0, num="1", den="-2")), "FIELD"),
    ("a number with a sign", step(STATE, node("scale", 0, num="+1", den="2")), "NUMBER"),
    ("a number with a separator", step(STATE, node("scale", 0, num="1_0", den="2")), "NUMBER"),
    ("a steep leaky slope", step(STATE, node("leaky_relu", 0, slope=dyadic(F(9, 8)))), "FIELD"),
    ("a negative leaky slope", step(STATE, node("leaky_relu", 0, slope=dyadic(F(-1, 8)))), "FIELD"),
    ("an inverted clamp", step(STATE, node("clamp", 0, lo=dyadic(1), hi=dyadic(0))), "FIELD"),
    ("eps of zero", step(STATE, node("rms_norm", 0, eps=dyadic(0))), "FIELD"),
    ("negative eps", step(STATE, node("layer_norm", 0, eps=dyadic(-1))), "FIELD"),
    ("an embedded state", step(STATE, ROWS, node("embedding", 0, 1), node("reshape", 2, shape=[1])), "GRAPH"),
    ("a vector too short", step(STATE, node("constant", shape=[2], value=vector([1])), node("add", 0, 1)), "NUMBER"),
]


@pytest.mark.parametrize(("raw", "expected"), [(s, c) for _, s, c in STEPS], ids=[name for name, _, _ in STEPS])
def test_what_is_no_step(raw: Json, expected: str) -> None:
    assert code(graph_json(raw)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"state": []}, "SHAPE"),
        ({"state": [[0]]}, "NUMBER"),
        ({"state": [[-1]]}, "NUMBER"),
        ({"state": [1]}, "FIELD"),
        ({"input": {"shape": [1]}}, "FIELD"),
        ({"input": {"shape": [1], "kind": "complex"}}, "FIELD"),
        ({"input": {"shape": [0], "kind": "real"}}, "NUMBER"),
        ({"input": {"shape": [1], "kind": "integer"}}, "FIELD"),
        ({"input": {"shape": [1], "kind": "integer", "size": 0}}, "NUMBER"),
        ({"input": {"shape": [1], "kind": "real", "size": 3}}, "FIELD"),
        ({"step": None}, "FIELD"),
        ({"init": step(STATE)}, "GRAPH"),  # an initial state cannot read the state
        ({"init": step(constant(1, 2))}, "SHAPE"),
        ({"readout": step(STATE, node("sum", 0))}, "SHAPE"),  # no class axis
        ({"readout": step(node("input"), STATE, outputs=[0, 1])}, "GRAPH"),  # nor a readout the input
        ({"readout": step(STATE, outputs=[0, 0])}, "SHAPE"),
        ({"name": "x"}, "FIELD"),
    ],
)
def test_what_is_no_model(change: Json, expected: str) -> None:
    assert code(deepcopy(GOOD) | change) == expected


def test_a_readout_does_not_see_the_input() -> None:
    assert code(graph_json(GOOD["step"], given=real(1), readout=step(node("input")))) == "GRAPH"


def embedded(given: Json, rows: int, *path: Json) -> Json:
    """relu(z + table[x]), x reached by `path` from the input (node 0)."""
    nodes = [node("input"), *path]
    at = len(nodes)
    table = constant(*range(rows), shape=[rows, 1])
    tail = [
        table,
        node("embedding", at - 1, at),
        node("reshape", at + 1, shape=[2]),
        STATE,
        node("add", at + 2, at + 3),
    ]
    return graph_json(step(*nodes, *tail), [[2]], given)


@pytest.mark.parametrize("path", [(), (node("reshape", 0, shape=[2]),), (node("select", 0, axis=0, indices=[1, 0]),)])
def test_embeddings_read_the_integer_input(path: tuple[Json, ...]) -> None:
    assert kernel_graph(embedded(TOKENS, 3, *path)).vocabulary == 3
    assert kernel_graph(embedded(TOKENS, 9, *path)).vocabulary == 3


@pytest.mark.parametrize(
    ("given", "rows", "path"),
    [
        (TOKENS, 2, ()),  # a token without a row
        (real(2), 3, ()),
        (TOKENS, 3, (node("scale", 0, num="1", den="2"),)),
        (TOKENS, 3, (node("relu", 0),)),
        (TOKENS, 3, (node("add", 0, 0),)),
        ({"shape": [1], "kind": "integer", "size": 3}, 3, (node("pad", 0, pads=[[0, 1]]),)),
    ],
)
def test_embeddings_of_anything_else_are_refused(given: Json, rows: int, path: tuple[Json, ...]) -> None:
    assert code(embedded(given, rows, *path)) == "GRAPH"


def test_stored_tensors_have_their_own_shape_and_name() -> None:
    nodes = Nodes()
    out = nodes.add("linear", nodes.state(), nodes.add("tensor", name="W"))
    raw = graph_json(nodes.function(out), [[2]])
    weights = np.array([[0.5, 0.25], [0.0, -1.0]], dtype=np.float32)
    assert kernel_graph(raw, {"W": weights}).tensors == {"W"}
    assert code(raw, {"W": weights[:1]}) == "SHAPE"
    assert code(raw, {"V": weights}) == "WEIGHTS"
    assert code(raw, {"W": np.zeros((0, 2), dtype=np.float32)}) == "NUMBER"


def test_kinds_follow_the_larger_argument() -> None:
    nodes = Nodes()
    fixed = nodes.constant(array([F(1)], (1,)))
    both = nodes.add("add", nodes.add("tanh", nodes.add("input")), fixed)
    out = nodes.add("mul", nodes.state(), both)
    graph = kernel_graph(graph_json(nodes.function(out), given=real(1)))
    assert [n.kind for n in graph.step.nodes] == [0, 1, 1, 1, 2, 2]
