"""Interval evaluation of a graph function: every node gets a `Tensor` that holds all its values."""

from __future__ import annotations

from math import prod

from trm_verify.kernel.graph import CONSTANT, Function, Graph, Node
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.tensor import Tensor


def _leaf(node: Node, graph: Graph, state: Tensor, given: Tensor) -> Tensor:
    if node.op == "tensor":
        shape, ints, exp = graph.weights.tensor(node.attrs["name"])
        return Tensor(shape, exp, ints, ints)
    if node.op == "constant":
        ints, exp = node.attrs["value"]
        return Tensor(node.shape, exp, ints, ints)
    if node.op == "input":
        return given.reshaped(node.shape)
    if not state.bounded:
        return Tensor(node.shape)
    start = sum(prod(s) for s in graph.state[: node.attrs["part"]])
    lo, hi = state.ends()
    low = lo[start : start + node.size]
    return Tensor(node.shape, state.exp, low, low if state.is_point else hi[start : start + node.size])


def constants(graph: Graph, function: Function) -> dict[int, Tensor]:
    """The values of the nodes that depend on neither state nor input, evaluated once per function of a graph."""

    def values() -> dict[int, Tensor]:
        nothing = Tensor((0,), 0, [], [])
        found: dict[int, Tensor] = {}
        for i, node in enumerate(function.nodes):
            if node.kind == CONSTANT:
                known = [found[j] for j in node.args]
                found[i] = apply_operation(node, known) if known else _leaf(node, graph, nothing, nothing)
        return found

    return graph.once(function, "constants", values)


def evaluate(graph: Graph, function: Function, state: Tensor, given: Tensor) -> list[Tensor]:
    """Enclosures of all nodes over state × input (flat tensors; unbounded ones are allowed)."""
    graph.charge(function.cost)
    known = constants(graph, function)
    values: list[Tensor] = []
    for i, node in enumerate(function.nodes):
        if i in known:
            values.append(known[i])
        elif node.args:
            values.append(apply_operation(node, [values[j] for j in node.args]))
        else:
            values.append(_leaf(node, graph, state, given))
    return values


def flatten(parts: list[Tensor]) -> Tensor:
    """The parts of a state, laid end to end."""
    if any(not p.bounded for p in parts):
        return Tensor((sum(p.size for p in parts),))
    exp = min(p.exp for p in parts)
    ends = [p.at(exp) for p in parts]
    lo = [v for low, _ in ends for v in low]
    if all(p.is_point for p in parts):
        return Tensor((len(lo),), exp, lo, lo)
    return Tensor((len(lo),), exp, lo, [v for _, high in ends for v in high])


def initial_state(graph: Graph, given: Tensor) -> Tensor:
    """init(x), or zeros."""
    if graph.init is None:
        zeros = [0] * graph.size
        return Tensor((graph.size,), 0, zeros, zeros)
    values = evaluate(graph, graph.init, Tensor((graph.size,)), given)
    return flatten([values[i] for i in graph.init.outputs])


def step(graph: Graph, state: Tensor, given: Tensor) -> Tensor:
    """f(z, x), flat."""
    values = evaluate(graph, graph.step, state, given)
    return flatten([values[i] for i in graph.step.outputs])
