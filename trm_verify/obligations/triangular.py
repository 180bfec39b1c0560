"""Side conditions of the rules about recursions that settle exactly (R12): which parts each entry is made of."""

from __future__ import annotations

from collections.abc import Sequence

from trm_verify.kernel.claims import Invariant, Settled
from trm_verify.kernel.graph import ACTIVATIONS, ROW_NORMS, Node
from trm_verify.kernel.rules.triangular import parse_runs, parts_of
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import NotExported, Term, at_most, below, number
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import Walker, part_of_state, rows_of, varies

Parts = frozenset[int]


class Ingredients(Walker[Parts]):
    """The parts of the state that each entry of each node is made of, by their numbers."""

    zero: Parts = frozenset()

    def __init__(self, values: Values, parts: Sequence[int]) -> None:
        super().__init__(values.graph, values.function)
        self.values, self.parts = values, parts

    def coefficients(self, i: int) -> list[Term] | None:
        return self.values.coefficients(i)

    def combine(self, name: str, pairs: Sequence[tuple[Term, Parts]]) -> Parts:
        return self.zero.union(*(own for coefficient, own in pairs if coefficient.value != 0))

    def leaf(self, i: int, node: Node) -> list[Parts]:
        if node.op != "state":
            return [self.zero] * node.size
        return [frozenset([part]) for part in self.parts[part_of_state(self.graph, node)]]

    def operation(self, i: int, node: Node, args: list[list[Parts]]) -> list[Parts]:
        return super().operation(i, node, args) if varies(node) else [self.zero] * node.size

    def nonlinear(self, i: int, node: Node, args: list[list[Parts]]) -> list[Parts]:
        if node.op in ACTIVATIONS:
            return args[0]
        if node.op in ROW_NORMS or node.op == "amax":
            width = self.nodes[node.args[0]].shape[-1]
            rows = [self.zero.union(*row) for row in rows_of(args[0], width)]
            return rows if node.op == "amax" else [row for row in rows for _ in range(width)]
        if node.op == "matmul":
            return self._product(node, args)
        found = [a | b for a, b in zip(*args, strict=True)]
        if node.op == "mul":
            none = [self._is_zero(j) for j in node.args]
            found = [self.zero if p or q else own for p, q, own in zip(*none, found, strict=True)]
        return found

    def _is_zero(self, i: int) -> list[bool]:
        given = self.values.ranges[i]
        if not given.bounded:
            return [False] * self.nodes[i].size
        return [a == b == 0 for a, b in zip(*given.ends(), strict=True)]

    def _product(self, node: Node, args: list[list[Parts]]) -> list[Parts]:
        (count, inner), columns = self.nodes[node.args[0]].shape[-2:], node.shape[-1]
        none, left, right = self._is_zero(node.args[0]), *args
        found = []
        for t in range(node.size // columns):
            kept = [k for k in range(inner) if not none[t * inner + k]]
            own = self.zero.union(*(left[t * inner + k] for k in kept))
            first = t // count * inner
            found += [own.union(*(right[(first + k) * columns + c] for k in kept)) for c in range(columns)]
        return found


def triangular(scene: Scene) -> None:
    """Every entry of part p is made of parts below p."""
    done, graph = scene.conclusion, scene.graph
    if not isinstance(done, Settled) or done.region is None:
        raise NotExported("no settled recursion is stated")
    states, inputs = scene.states(done.region), scene.inputs(done.domain)
    values = scene.values(graph.step, done.region, done.domain, states, inputs)
    parts = parts_of(parse_runs(scene.witness["parts"], graph.size))
    for part, own in zip(parts, Ingredients(values, parts).flat(), strict=True):
        scene.script.show(below(number(max(own, default=0)), number(part)), "entries are made of earlier parts")
    for part in dict.fromkeys(parts):
        scene.script.show(at_most(number(part), number(done.steps)), "there are as many steps as parts")


def settled_in(scene: Scene) -> None:
    """The invariant box holds for inputs for which the recursion settles."""
    settled, invariant = scene.premises
    if not isinstance(settled, Settled) or not isinstance(invariant, Invariant) or invariant.ball is not None:
        raise NotExported("premises of other kinds")
    if settled.operator != invariant.operator:
        scene.script.show("false", "the same operator")
    scene.inside(invariant.domain, settled.domain, "the box's domain lies in that of the settled recursion")
