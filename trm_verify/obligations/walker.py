"""One pass over a function of the graph, for whatever its entries stand for: terms, or rows of coefficients.

Only what is linear is said here; a subclass says what the rest does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Generic, TypeVar

from trm_verify.kernel.graph import CONSTANT, STATE, Function, Graph, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.obligations.terms import ONE, Term, negative, number

E = TypeVar("E")


class Walker(ABC, Generic[E]):
    """Entries of every node, made when they are asked for, in graph order."""

    zero: E

    def __init__(self, graph: Graph, function: Function) -> None:
        self.graph, self.function, self.nodes, self.outputs = graph, function, function.nodes, function.outputs
        self.done: dict[int, list[E]] = {}

    @abstractmethod
    def combine(self, name: str, pairs: Sequence[tuple[Term, E]]) -> E:
        """Σ coefficient · entry."""

    @abstractmethod
    def leaf(self, i: int, node: Node) -> list[E]:
        """The entries of a state, an input or a stored tensor."""

    @abstractmethod
    def nonlinear(self, i: int, node: Node, args: list[list[E]]) -> list[E]:
        """The entries of any operation that is not linear in its arguments."""

    @abstractmethod
    def coefficients(self, i: int) -> list[Term] | None:
        """The entries of node i as terms without variables, if it has none."""

    def name(self, i: int, entry: int) -> str:
        return f"n{i}.{entry}"

    def of(self, i: int) -> list[E]:
        """The entries of one node."""
        missing, stack = set(), [i]
        while stack:
            j = stack.pop()
            if j not in self.done and j not in missing:
                missing.add(j)
                stack += self.nodes[j].args
        for j in sorted(missing):
            node = self.nodes[j]
            args = [self.done[k] for k in node.args]
            self.done[j] = self.operation(j, node, args) if args else self.leaf(j, node)
        return self.done[i]

    def flat(self) -> list[E]:
        """The outputs of the function, end to end."""
        return [entry for i in self.outputs for entry in self.of(i)]

    def operation(self, i: int, node: Node, args: list[list[E]]) -> list[E]:
        if node.op in LAYOUTS or node.op == "concat":
            entries = [*(entry for arg in args for entry in arg), self.zero]
            return args[0] if node.layout is None else [entries[source] for source in node.layout]
        found = self.linear(node, args)
        if found is None:
            return self.nonlinear(i, node, args)
        return [self.combine(self.name(i, entry), pairs) for entry, pairs in enumerate(found)]

    def linear(self, node: Node, args: list[list[E]]) -> list[list[tuple[Term, E]]] | None:
        """Per entry, its coefficients with the entries they multiply; None where the operation is not linear."""
        if node.op in ("add", "sub"):
            second = ONE if node.op == "add" else negative(ONE)
            return [[(ONE, a), (second, b)] for a, b in zip(*args, strict=True)]
        if node.op == "scale":
            return [[(number(node.attrs["factor"]), a)] for a in args[0]]
        if node.op == "sum":
            width = self.nodes[node.args[0]].shape[-1]
            return [[(ONE, a) for a in row] for row in rows_of(args[0], width)]
        if node.op == "linear":
            weights = self.coefficients(node.args[1])
            if weights is None:
                return None
            matrix = rows_of(weights, self.nodes[node.args[1]].shape[1])
            return [list(zip(w, row, strict=True)) for row in rows_of(args[0], len(matrix[0])) for w in matrix]
        if node.op == "mul":
            for own, other in ((0, 1), (1, 0)):
                factors = self.coefficients(node.args[own])
                if factors is not None:
                    return [[(f, a)] for f, a in zip(factors, args[other], strict=True)]
        if node.op == "matmul":
            mixing = self.coefficients(node.args[0])
            if mixing is not None:
                (count, inner), columns = self.nodes[node.args[0]].shape[-2:], node.shape[-1]
                return [
                    [(mixing[(block * count + t) * inner + k], args[1][(block * inner + k) * columns + c])
                     for k in range(inner)]
                    for block in range(node.size // (count * columns)) for t in range(count) for c in range(columns)
                ]  # fmt: skip
        return None


def rows_of(entries: list[E], width: int) -> list[list[E]]:
    return [entries[i : i + width] for i in range(0, len(entries), width)]


def part_of_state(graph: Graph, node: Node) -> slice:
    """Where a state node lies in the flattened state."""
    start = sum(map(prod, graph.state[: node.attrs["part"]]))
    return slice(start, start + node.size)


def varies(node: Node) -> bool:
    return node.kind == STATE


def is_constant(node: Node) -> bool:
    return node.kind == CONSTANT
