"""Interval evaluation of a graph function: every node gets a `Tensor` that holds all its values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from trm_verify.kernel.again import apply_again
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import CONSTANT, Function, Graph, Node
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.tensor import Tensor

LONG, WORD = 1024, 256  # bits of a number above which its length counts; bits that take no more time than a few
MAX_LONG = 1 << 31  # bits in all long numbers of one evaluation


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


class _Lengths:
    """How long the numbers of each node are, and what that costs: work on them, and the memory that they take."""

    def __init__(self, graph: Graph, function: Function) -> None:
        self.graph, self.function = graph, function
        self.bits: dict[int, int] = {}
        self.held = 0

    def before(self, node: int) -> None:
        """Charge an operation on long numbers."""
        longest = max(self.bits[j] for j in self.function.nodes[node].args)
        if longest > LONG:
            self.graph.charge(self.function.costs[node] * (longest // WORD) ** 2)

    def after(self, node: int, bits: int) -> None:
        """Note what came of it."""
        self.bits[node] = bits
        self.held += self.function.nodes[node].size * bits if bits > LONG else 0
        if self.held > MAX_LONG:
            raise CheckError("LIMIT", f"long values of at most {MAX_LONG} bits in all nodes together", self.held)


def constants(graph: Graph, function: Function) -> dict[int, Tensor]:
    """The values of the nodes that depend on neither state nor input, evaluated once per function of a graph."""
    return _constants(graph, function)[0]


def _constants(graph: Graph, function: Function) -> tuple[dict[int, Tensor], dict[int, int]]:
    """These, and the bits of the longest number of each."""

    def values() -> tuple[dict[int, Tensor], dict[int, int]]:
        nothing = Tensor((0,), 0, [], [])
        found: dict[int, Tensor] = {}
        lengths = _Lengths(graph, function)
        for i, node in enumerate(function.nodes):
            if node.kind == CONSTANT:
                if node.args:
                    lengths.before(i)
                known = [found[j] for j in node.args]
                found[i] = apply_operation(node, known) if known else _leaf(node, graph, nothing, nothing)
                lengths.after(i, found[i].bits)
        return found, lengths.bits

    return graph.once(function, "constants", values)


def evaluate(
    graph: Graph, function: Function, state: Tensor, given: Tensor, last: Sequence[Tensor] = ()
) -> list[Tensor]:  # fmt: skip
    """Enclosures of all nodes over state × input (flat tensors; unbounded ones are allowed).

    Args:
        last: those over another pair, or what is `kept` of them: what they have in common is not worked out again.
    """
    graph.charge(function.cost)
    known, bits = _constants(graph, function)
    values: list[Tensor] = []
    lengths = _Lengths(graph, function)
    for i, node in enumerate(function.nodes):
        if i in known:
            values.append(known[i])
        elif node.args:
            lengths.before(i)
            args = [values[j] for j in node.args]
            if last:
                values.append(apply_again(node, args, [last[j] for j in node.args], last[i]))
            else:
                values.append(apply_operation(node, args))
        else:
            values.append(_leaf(node, graph, state, given))
        lengths.after(i, bits[i] if i in known else values[i].bits)
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
