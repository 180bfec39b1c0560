"""A function as an affine map of its state and of its units (proofs/linear_forms.md), coefficients as terms."""

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
from trm_verify.obligations.walker import Walker, part_of_state, varies

Row = dict[int, Term]  # column to coefficient: states first, then units


@dataclass(frozen=True)
class FormUnit:
    """An entry of a node that is not linear: of which node, and the rows of what it reads."""

    node: int
    entry: int
    arguments: tuple[Row, ...]


class Forms(Walker[Row]):
    """Rows of every node that varies with the state; `values` gives the coefficients."""

    def __init__(self, values: Values) -> None:
        super().__init__(values.graph, values.function)
        self.values, self.script = values, values.script
        self.zero: Row = {}
        self.units: list[FormUnit] = []
        for i in range(len(self.nodes)):  # in graph order, so that units have their numbers
            self.of(i)

    def name(self, i: int, entry: int) -> str:
        return f"q{i}.{entry}"

    def coefficients(self, i: int) -> list[Term] | None:
        return self.values.coefficients(i)

    def operation(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        return super().operation(i, node, args) if varies(node) else [{}] * node.size

    def leaf(self, i: int, node: Node) -> list[Row]:
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
        first = self.graph.size + len(self.units)
        for entry in range(node.size):
            read = args[0] if node.op in ACTIVATIONS else []
            self.units.append(FormUnit(i, entry, (read[entry],) if read else ()))
        return [{first + entry: ONE} for entry in range(node.size)]

    def sector(self, unit: FormUnit) -> tuple[Fraction, Fraction]:
        """The slopes of an activation unit between any two points."""
        return sector(self.values, unit.node, unit.entry)

    @property
    def width(self) -> int:
        return self.graph.size + len(self.units)


def entry_of(row: Row, column: int) -> Term:
    return row.get(column, ZERO)


def sector(values: Values, i: int, entry: int) -> tuple[Fraction, Fraction]:
    """Slopes of one entry of an activation node: over all reals, or over the range of its argument if that is less."""
    node = values.nodes[i]
    everywhere = _slopes(node, Tensor(node.shape), entry)
    given = values.ranges[node.args[0]]
    own = _slopes(node, given, entry) if given.bounded else everywhere
    values.script.facts[f"slopes of {node.op}"] += 1
    if own != everywhere:
        values.interval(node.args[0], entry)
    return own


def _slopes(node: Node, given: Tensor, entry: int) -> tuple[Fraction, Fraction]:
    one = Tensor((1,), given.exp, *([end[entry]] for end in given.ends())) if given.bounded else Tensor((1,))
    low, high, exp = slopes(Node(node.op, node.args, node.attrs, (1,), node.kind), one)
    return dyadic(low[0], exp), dyadic(high[0], exp)
