"""A function as an affine map of its state and of its units (proofs/linear_forms.md), coefficients as terms.

With `inputs`, of its state, its input and its units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel.graph import ACTIVATIONS, Node
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.terms import ONE, ZERO, Term
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import Walker, is_constant, part_of_state, varies

Row = dict[int, Term]  # column to coefficient: states first, then units


@dataclass(frozen=True)
class FormUnit:
    """An entry of a node that is not linear: of which node, and the rows of what it reads."""

    node: int
    entry: int
    arguments: tuple[Row, ...]


class Forms(Walker[Row]):
    """Rows of every node that varies; `values` gives the coefficients."""

    def __init__(self, values: Values, inputs: bool = False) -> None:
        super().__init__(values.graph, values.function)
        self.values, self.script = values, values.script
        self.zero: Row = {}
        self.inputs = inputs
        self.first = self.graph.size + (self.graph.input_size if inputs else 0)  # column of the first unit
        self.units: list[FormUnit] = []
        self.walk()

    def walk(self) -> None:
        """All nodes in graph order, so that units have their numbers."""
        for i in range(len(self.nodes)):
            self.of(i)

    def name(self, i: int, entry: int) -> str:
        return f"q{i}.{entry}"

    def coefficients(self, i: int) -> list[Term] | None:
        return self.values.coefficients(i)

    def operation(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        moves = varies(node) or (self.inputs and not is_constant(node))
        return super().operation(i, node, args) if moves else [{}] * node.size

    def leaf(self, i: int, node: Node) -> list[Row]:
        if node.op == "input" and self.inputs:
            return [{self.graph.size + j: ONE} for j in range(node.size)]
        if node.op != "state":
            return [{}] * node.size
        place = part_of_state(self.graph, node)
        return [{column: ONE} for column in range(place.start, place.stop)]

    def combine(self, name: str, pairs: Sequence[tuple[Term, Row]]) -> Row:
        found: dict[int, list[tuple[Term, Term]]] = {}
        for coefficient, row in pairs:
            for column, entry in row.items():
                found.setdefault(column, []).append((coefficient, entry))
        sums = {column: self.script.combine(f"{name}.{column}", terms) for column, terms in found.items()}
        return {column: term for column, term in sums.items() if not term.is_zero}

    def nonlinear(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        first = self.first + len(self.units)
        for entry in range(node.size):
            read = args[0] if node.op in ACTIVATIONS else []
            self.units.append(FormUnit(i, entry, (read[entry],) if read else ()))
        return [{first + entry: ONE} for entry in range(node.size)]

    def sector(self, unit: FormUnit) -> tuple[Fraction, Fraction]:
        """The slopes of an activation unit between any two points."""
        return sector(self.values, unit.node, unit.entry)

    @property
    def width(self) -> int:
        return self.first + len(self.units)


def entry_of(row: Row, column: int) -> Term:
    return row.get(column, ZERO)


def sector(values: Values, i: int, entry: int) -> tuple[Fraction, Fraction]:
    """Slopes of one entry of an activation node: over all reals, or over the range of its argument if that is less."""
    node = values.nodes[i]
    everywhere, given = slopes_of(node, Tensor((1,))), values.ranges[node.args[0]]
    own = everywhere
    if given.bounded:
        own = slopes_of(node, Tensor((1,), given.exp, *([end[entry]] for end in given.ends())))
    values.script.facts[f"slopes of {node.op}"] += 1
    if own != everywhere:
        values.interval(node.args[0], entry)
    return own


def slopes_of(node: Node, given: Tensor) -> tuple[Fraction, Fraction]:
    """The slopes of an activation over one interval, by the kernel's proved bounds."""
    low, high, exp = slopes(Node(node.op, node.args, node.attrs, (1,), node.kind), given)
    return dyadic(low[0], exp), dyadic(high[0], exp)
