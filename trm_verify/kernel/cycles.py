"""The graph whose fixed points are the periodic orbits of another: p copies of the step, each fed by the one before."""

from __future__ import annotations

from dataclasses import replace

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
        outputs += images if operator.kind == "picard" else _damped(graph, operator, nodes, images, source)
    step = Function(tuple(nodes), tuple(outputs))
    return Graph(
        graph.state * period, graph.input, graph.vocabulary, step, None, None, digest([graph.digest, period]),
        graph.tensors, graph.weights, graph.spent,
    )  # fmt: skip


def _damped(graph: Graph, operator: Operator, nodes: list[Node], images: list[int], source: int) -> list[int]:
    """(1 − α)∘z + α∘f(z) for each part."""
    found, start = [], 0
    exp = min(1 - a.denominator.bit_length() for a in operator.alpha)
    for part, image in enumerate(images):
        shape, size = nodes[image].shape, nodes[image].size
        alpha = [int(a * (1 << -exp)) for a in operator.alpha[start : start + size]]
        start += size
        first = len(nodes)
        kept = [(1 << -exp) - a for a in alpha]
        nodes += [
            Node("state", (), {"part": source + part}, shape, STATE),
            Node("constant", (), {"value": (kept, exp)}, shape, 0),
            Node("constant", (), {"value": (alpha, exp)}, shape, 0),
            Node("mul", (first + 1, first), {}, shape, STATE),
            Node("mul", (first + 2, image), {}, shape, STATE),
            Node("add", (first + 3, first + 4), {}, shape, STATE),
        ]
        found.append(first + 5)
    return found
