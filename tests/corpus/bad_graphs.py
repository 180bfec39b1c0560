"""Refusals of graphs."""

from __future__ import annotations

from tests.corpus.bad import edit, refused
from tests.corpus.good import whole
from tests.corpus.sheet import (
    F,
    Nodes,
    Sheet,
    dyadic,
    graph,
    identity_readout,
    real,
)
from tests.corpus.traps import scalar

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# graphs

_NODE = "graph__step__nodes__"
edit(
    "OPERATION", "an operation outside the closed table", "unknown_operation", A, **{f"{_NODE}2__op": "conv_transpose"}
)
edit("GRAPH", "a node that reads a later one", "forward_reference", A, **{f"{_NODE}2__in": [0, 4]})
edit("GRAPH", "a node that reads node -1", "negative_reference", A, **{f"{_NODE}2__in": [-1, 1]})
edit("GRAPH", "a node that nothing uses", "unused_node", A, graph__step__outputs=[2])
edit("GRAPH", "an operation with an argument too many", "arity", A, **{f"{_NODE}4__in": [2, 3, 3]})
edit("SHAPE", "shapes that would have to be broadcast", "broadcast", T, **{f"{_NODE}3__name": "U"})
edit("SHAPE", "a state without parts", "no_state", A, graph__state=[])
edit("SHAPE", "a step that changes the shape of the state", "state_shape", "l2_rotation", graph__state=[[2, 1]])
edit("FIELD", "a graph without its readout entry", "graph_without_readout", A, graph__readout=...)
edit("NUMBER", "an axis of size 0", "axis_of_size_0", A, graph__state=[[0]])
edit(
    "FIELD",
    "a leaky ReLU that is steeper than the identity",
    "steep_leaky_relu",
    "every_activation",
    **{"graph__step__nodes__23__slope": dyadic(2)},
)
edit(
    "BOX",
    "an input box on a model that reads integers, between them",
    "integer_box_between",
    "integer_embedding",
    boxes__3={"space": "input", "lo": {"exp": -2, "int": "1 1"}, "hi": {"exp": -2, "int": "3 3"}},
)
edit(
    "BOX",
    "an integer input beyond the vocabulary",
    "integer_box_beyond",
    "integer_embedding",
    boxes__3={"space": "input", "lo": {"exp": 0, "int": "0 3"}, "hi": {"exp": 0, "int": "2 5"}},
)
edit(
    "BOX",
    "a negative integer input, which would count from the end of the table",
    "integer_box_negative",
    "integer_embedding",
    boxes__2={"space": "input", "point": {"exp": 0, "int": "-1 4"}},
)
edit("GRAPH", "a table shorter than the vocabulary", "table_too_short", "integer_embedding", graph__input__size=6)
edit(
    "GRAPH",
    "an embedding of a real number",
    "embedding_of_reals",
    "integer_embedding",
    graph__input={"shape": [2], "kind": "real"},
)


@refused("GRAPH", "an embedding of the state: there is no step between the integers")
def embedding_of_the_state() -> Sheet:
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.state(), nodes.constant([[F(1, 4)], [F(3, 4)]]))
    sheet = Sheet(graph(nodes.function(nodes.add("reshape", rows, shape=[1])), [[1]]))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    step = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(step, "invariant", operator="picard", domain=domain, region=region)
    return sheet


@refused("GRAPH", "an embedding of half an integer")
def embedding_of_a_half() -> Sheet:
    nodes = Nodes()
    half = nodes.scale(nodes.add("input"), 1, 2)
    rows = nodes.add("reshape", nodes.add("embedding", half, nodes.constant([[1], [2], [3]])), shape=[1])
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), rows))
    sheet = Sheet(graph(step, [[1]], {"shape": [1], "kind": "integer", "size": 3}))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.all("input"))
    return sheet


@refused("GRAPH", "a division by the state")
def division_by_the_state() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.add("div", n.constant([1]), z)))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.nothing())
    return sheet


@refused("GRAPH", "an init that reads the state")
def init_reads_the_state() -> Sheet:
    model = scalar(lambda n, z: n.scale(z, 1, 2))
    model["init"] = identity_readout()
    sheet = Sheet(model)
    whole(sheet, F(1, 2), sheet.block([1]), sheet.nothing())
    return sheet


@refused("GRAPH", "a linear layer whose matrix depends on the input")
def linear_by_the_input() -> Sheet:
    nodes = Nodes()
    sheet = Sheet(graph(nodes.function(nodes.add("linear", nodes.state(), nodes.add("input"))), [[1]], real(1, 1)))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.all("input"))
    return sheet
