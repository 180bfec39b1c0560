"""A function with every unit written as s·(its argument) + e, s a number: then all is affine in (1, z, x, e).

The coefficients are terms without variables, so that a solver only computes, at any size. The range of an argument
follows from those of earlier e; the range of e is shown for one argument at a time (proofs/enclosure.md, reach.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from trm_verify.kernel.affine import Unit
from trm_verify.kernel.graph import ACTIVATIONS, CONSTANT, Node
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.kernel.units import PIECEWISE, Interval, Smooth, Table, table
from trm_verify.obligations.forms import Row, slopes_of
from trm_verify.obligations.points import line, piecewise
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Term,
    absolute,
    add,
    at_most,
    between,
    every,
    larger,
    negative,
    number,
    smaller,
    some,
)
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import Walker, is_constant, part_of_state

ERRORS = "what is left of a unit beside its line lies in an interval"


class Reduction(Walker[Row]):
    """Rows over 1, the state, the input, and one column for the e of each unit.

    Attributes:
        arguments: intervals of the units' arguments, as numbers that are shown to be ends.
        errors: those of the e.
        rows: of the units' arguments (None: a unit that has none).
    """

    def __init__(
        self, values: Values, ends: Sequence[Interval], slopes: Sequence[Fraction],
        scale: Mapping[int, tuple[Fraction, int]],
    ) -> None:  # fmt: skip
        super().__init__(values.graph, values.function)
        self.values, self.script, self.ends, self.slopes, self.scale = values, values.script, list(ends), slopes, scale
        self.zero: Row = {}
        self.first = 1 + self.graph.size + self.graph.input_size
        self.arguments: list[Interval] = []
        self.errors: list[tuple[Fraction, Fraction]] = []
        self.rows: list[Row | None] = []
        self.units: list[Unit] = []
        self.free = self.script.real("t")
        for i in range(len(self.nodes)):
            self.of(i)

    def name(self, i: int, entry: int) -> str:
        return f"c{i}.{entry}"

    def combine(self, name: str, pairs: Sequence[tuple[Term, Row]]) -> Row:
        found: dict[int, list[tuple[Term, Term]]] = {}
        for coefficient, row in pairs:
            for column, entry in row.items():
                found.setdefault(column, []).append((coefficient, entry))
        sums = {column: self.script.combine(f"{name}.{column}", terms) for column, terms in found.items()}
        return {column: term for column, term in sums.items() if not term.is_zero}

    def coefficients(self, i: int) -> list[Term] | None:
        return self.values.coefficients(i) if is_constant(self.nodes[i]) else None

    def leaf(self, i: int, node: Node) -> list[Row]:
        if node.op == "state":
            place = part_of_state(self.graph, node)
            return [{1 + column: ONE} for column in range(place.start, place.stop)]
        if node.op == "input":
            return [{1 + self.graph.size + j: ONE} for j in range(node.size)]
        return [{0: term} for term in self.values.of(i)]

    def operation(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        exact = self.coefficients(i) if node.kind == CONSTANT else None
        if exact is not None:
            return [{0: term} for term in exact]
        factor = node.attrs.get("factor", Fraction(1))
        if node.op == "scale" and factor.denominator & (factor.denominator - 1):
            return [self.unit(Unit("scale", node.attrs), row) for row in args[0]]
        return super().operation(i, node, args)

    def nonlinear(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        if node.op in ACTIVATIONS:
            return [self.unit(Unit(node.op, node.attrs), row) for row in args[0]]
        if node.op in ("max", "min"):
            return [self._pick(a, b, node.op == "min") for a, b in zip(*args, strict=True)]
        if node.op == "amax":
            width = self.nodes[node.args[0]].shape[-1]
            best = args[0][::width]
            for column in range(1, width):
                best = [self._pick(a, b, False) for a, b in zip(best, args[0][column::width], strict=True)]
            return best
        if node.op == "mul" and all(self.nodes[j].kind != CONSTANT for j in node.args):
            raise NotExported("a product, whose factors both vary, of a large model")
        return [self._ranged(i, entry) for entry in range(node.size)]

    def _pick(self, a: Row, b: Row, least: bool) -> Row:
        """max(a, b) = a + relu(b − a), min(a, b) = a − relu(a − b)."""
        minus = negative(ONE)
        signs = (ONE, minus) if least else (minus, ONE)
        own = self.unit(Unit("relu"), self.combine("apart", list(zip(signs, (a, b), strict=True))))
        return self.combine("pick", [(ONE, a), (minus if least else ONE, own)])

    def _ranged(self, i: int, entry: int) -> Row:
        """A unit of which the range alone is known."""
        low, high = self.values.interval(i, entry)
        if low is None or high is None:
            raise NotExported("an unbounded operation that is no activation")
        self._file(Unit(None), None, (None, None), (low, high))
        return {self.first + len(self.rows) - 1: ONE}

    def _file(self, unit: Unit, row: Row | None, interval: Interval, error: tuple[Fraction, Fraction]) -> None:
        self.units.append(unit)
        self.rows.append(row)
        self.arguments.append(interval)
        self.errors.append(error)

    def unit(self, unit: Unit, row: Row) -> Row:
        """s·row + e, with e in an interval that is shown to hold it."""
        k = len(self.rows)
        if k >= len(self.slopes):
            raise NotExported("units in another order than the exporter's")
        if k in self.scale:
            factor, state = self.scale[k]
            row = self.combine("scaled", [(number(1 - factor), {1 + state: ONE}), (number(factor), row)])
        slope, interval = self.slopes[k], self.range(row, "arguments lie in the intervals that their units are cut for")
        known = table(unit, interval)
        low, high = known.least(Fraction(1), slope), known.least(Fraction(-1), -slope)
        if low is None or high is None:
            raise NotExported("an unbounded unit")
        self._show_error(unit, known, interval, slope, (low, -high))
        self._file(unit, row, interval, (low, -high))
        return self.combine(f"u{k}", [(number(slope), row), (ONE, {self.first + k: ONE})])

    def _show_error(
        self, unit: Unit, known: Table, interval: Interval, slope: Fraction, error: tuple[Fraction, Fraction]
    ) -> None:  # fmt: skip
        """error ∋ φ(t) − s·t for every t of the interval, for an activation by its pieces."""
        script, t, (low, high) = self.script, self.free, map(number, error)
        moved = script.mul(number(-slope), t)
        if unit.op in PIECEWISE:
            rest = add([_value(self.values, unit, t), moved])
            goals = [(interval, every([at_most(low, rest), at_most(rest, high)]))]
        elif isinstance(known, Smooth):
            script.facts[f"enclosures of {unit.op} on an interval"] += 1
            goals = []
            for k, (least, most) in enumerate(known.slopes):
                first, last = known.points[k], known.points[k + 1]
                (left_low, left_high), (right_low, right_high) = known.values[k], known.values[k + 1]
                under = [line(script, t, left_low, first, least), line(script, t, right_low, last, most)]
                over = [line(script, t, left_high, first, most), line(script, t, right_high, last, least)]
                above = some([at_most(low, add([end, moved])) for end in under])
                goals.append(((first, last), every([above, some([at_most(add([e, moved]), high) for e in over])])))
            if not known.slopes:  # one point
                at, (least, most) = number(known.points[0]), known.values[0]
                rest = script.mul(number(-slope), at)
                ends = at_most(low, add([number(least), rest])), at_most(add([number(most), rest]), high)
                goals = [((None, None), every(ends))]
        else:
            raise NotExported("a unit without an argument")
        for (first_end, last_end), formula in goals:
            script.show(f"(=> {between(first_end, t, last_end)} {formula})", ERRORS)

    # ranges of rows

    def range(self, row: Row, what: str) -> Interval:
        """The range of a row, as numbers; the goals say that they are outer ends."""
        low, high = self.bound(row, smaller), self.bound(row, larger)
        if low.value is None or high.value is None:
            raise NotExported("a range that depends on variables")
        self.script.show(every([at_most(number(low.value), low), at_most(high, number(high.value))]), what)
        return low.value, high.value

    def bound(self, row: Row, pick: Callable[[Term, Term], Term]) -> Term:
        """The least (`smaller`) or greatest (`larger`) value of a row."""
        parts = []
        columns = [*self.ends, *self.errors]
        for column, c in row.items():
            if column == 0:
                parts.append(c)
                continue
            low, high = columns[column - 1]
            if low is None or high is None:
                raise NotExported("a range over an unbounded set")
            if low == high:
                parts.append(self.script.mul(number(low), c))
                continue
            own = self.script.mul(number(low), c), self.script.mul(number(high), c)
            parts.append(self.script.define("end", pick(*own)))
        return self.script.define("range", add(parts))

    def term(self, row: Row) -> Term:
        """A row as a variable between its least and greatest value."""
        return Term("(row)", ends=(self.bound(row, smaller), self.bound(row, larger)))

    # differences of two points

    def spreads(self, half: Sequence[Fraction]) -> list[Term]:
        """Per unit, a bound of |Δe| between two points whose states differ by at most `half`."""
        found: list[Term] = []
        for k, (unit, row) in enumerate(zip(self.units, self.rows, strict=True)):
            if row is None or unit.op is None:
                raise NotExported("a state that meets another operation than activations")
            if unit.op == "scale":
                ends = [unit.attrs["factor"]] * 2
            else:
                ends = list(slopes_of(Node(unit.op, (0,), unit.attrs, (1,), 2), _box(self.arguments[k])))
                self.script.facts[f"slopes of {unit.op}"] += 1
            most = max(abs(end - self.slopes[k]) for end in ends)
            reached = self.script.mul(number(most), self.reach(row, half, found))
            found.append(self.script.define(f"spread{k}", reached))
        return found

    def reach(self, row: Row, half: Sequence[Fraction], spreads: Sequence[Term]) -> Term:
        """How far a row can move between two such points."""
        parts = [self.script.mul(absolute(row[1 + i]), number(h)) for i, h in enumerate(half) if 1 + i in row]
        parts += [
            self.script.mul(s, absolute(row[self.first + k])) for k, s in enumerate(spreads) if self.first + k in row
        ]
        return self.script.define("reach", add(parts)) if parts else ZERO


def _value(values: Values, unit: Unit, t: Term) -> Term:
    if unit.op == "scale":
        return values.script.mul(number(unit.attrs["factor"]), t)
    return piecewise(values.script, "phi", str(unit.op), unit.attrs, t)


def _box(interval: Interval) -> Tensor:
    low, high = interval
    return Tensor((1,)) if low is None or high is None else from_fractions([(low, high)])
