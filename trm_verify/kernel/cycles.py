"""Graphs made of copies of a step, each fed by the one before.

The fixed points of a cycle graph are the periodic orbits; the step of an unrolled graph is the K-th iterate from init.
Proofs: proofs/cycle.md, proofs/reach.md.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from trm_verify.kernel.document import digest
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import CONSTANT, MAX_TOTAL, STATE, Function, Graph, Node
from trm_verify.kernel.operators import Operator, require_loop


def cycle_graph(graph: Graph, operator: Operator, period: int) -> Graph:
    """States z_0 … z_{p−1}; the step gives (T z_{p−1}, T z_0, …, T z_{p−2}) for the operator T.

    The copies share the constant nodes.
    """
    require_loop(operator)
    if period * sum(node.size for node in graph.step.nodes if node.kind != CONSTANT) > MAX_TOTAL:
        raise CheckError("LIMIT", f"at most {MAX_TOTAL} entries in all copies of the step", period)
    parts = len(graph.state)
    nodes: list[Node] = []
    outputs: list[int] = []
    place: dict[int, int] = {}
    for copy in range(period):
        source = (copy - 1) % period * parts
        for i, node in enumerate(graph.step.nodes):
            if copy and node.kind == CONSTANT:
                continue
            place[i] = len(nodes)
            attrs = {"part": node.attrs["part"] + source} if node.op == "state" else node.attrs
            nodes.append(replace(node, args=tuple(place[j] for j in node.args), attrs=attrs))
        images = [place[j] for j in graph.step.outputs]
        if operator.kind == "picard":
            outputs += images
            continue
        states = list(range(len(nodes), len(nodes) + parts))
        nodes += [Node("state", (), {"part": source + p}, shape, STATE) for p, shape in enumerate(graph.state)]
        outputs += _mixed(operator, nodes, states, images)
    step = Function(tuple(nodes), tuple(outputs))
    return Graph(
        graph.state * period, graph.input, graph.vocabulary, step, None, None, digest([graph.digest, period]),
        graph.tensors, graph.weights, graph.spent,
    )  # fmt: skip


def unrolled_graph(graph: Graph, operator: Operator, steps: int) -> Graph:
    """A graph whose step gives z_K = Tᴷ(init(x)) for K = `steps` ≥ 1, whatever the state. Constant nodes are shared."""
    require_loop(operator)
    if steps * sum(node.size for node in graph.step.nodes if node.kind != CONSTANT) > MAX_TOTAL:
        raise CheckError("LIMIT", f"at most {MAX_TOTAL} entries in all copies of the step", steps)
    nodes: list[Node] = []
    states = _initial(graph, nodes)
    place: dict[int, int] = {}
    for copy in range(steps):
        for i, node in enumerate(graph.step.nodes):
            if node.op == "state":
                place[i] = states[node.attrs["part"]]
            elif not copy or node.kind != CONSTANT:
                place[i] = _placed(nodes, node, place)
        images = [place[j] for j in graph.step.outputs]
        states = images if operator.kind == "picard" else _mixed(operator, nodes, states, images)
    step = Function(tuple(nodes), tuple(states))
    return Graph(
        graph.state, graph.input, graph.vocabulary, step, None, None, digest([graph.digest, steps]), graph.tensors,
        graph.weights, graph.spent,
    )  # fmt: skip


def _initial(graph: Graph, nodes: list[Node]) -> list[int]:
    """init(x), or zeros: the index of each part."""
    place: dict[int, int] = {}
    if graph.init is None:
        zeros = [Node("constant", (), {"value": ([0] * prod(shape), 0)}, shape, CONSTANT) for shape in graph.state]
        nodes += zeros
        return list(range(len(zeros)))
    for i, node in enumerate(graph.init.nodes):
        place[i] = _placed(nodes, node, place)
    return [place[j] for j in graph.init.outputs]


def _placed(nodes: list[Node], node: Node, place: dict[int, int]) -> int:
    """A copy of a node at the end, of the kind that its arguments have now."""
    args = tuple(place[j] for j in node.args)
    kind = max((nodes[j].kind for j in args), default=node.kind)
    nodes.append(replace(node, args=args, kind=kind))
    return len(nodes) - 1


def _mixed(operator: Operator, nodes: list[Node], states: list[int], images: list[int]) -> list[int]:
    """(1 − α)∘z + α∘f(z) for each part, from the indices of both."""
    found, start = [], 0
    exp = min(1 - a.denominator.bit_length() for a in operator.alpha)
    for state, image in zip(states, images, strict=True):
        shape, size = nodes[image].shape, nodes[image].size
        alpha = [int(a * (1 << -exp)) for a in operator.alpha[start : start + size]]
        start += size
        first, kind = len(nodes), max(nodes[state].kind, nodes[image].kind)
        nodes += [
            Node("constant", (), {"value": ([(1 << -exp) - a for a in alpha], exp)}, shape, CONSTANT),
            Node("constant", (), {"value": (alpha, exp)}, shape, CONSTANT),
            Node("mul", (first, state), {}, shape, kind),
            Node("mul", (first + 1, image), {}, shape, kind),
            Node("add", (first + 2, first + 3), {}, shape, kind),
        ]
        found.append(first + 4)
    return found
