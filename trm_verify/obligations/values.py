"""A function of the graph as terms over its state and input: the meaning of the model, in SMT-LIB.

Piecewise-linear operations are exact. Of the others only proved facts are assumed, and only where the argument lies in
the interval for which they were proved, which is a goal: enclosures of transcendental functions (proofs/enclosures.md),
ranges of softmax and the normalisations (proofs/interval_evaluation.md), McCormick's four inequalities for products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from trm_verify.kernel.affine import Unit
from trm_verify.kernel.enclosures import BITS, GLOBAL_RANGE
from trm_verify.kernel.graph import ACTIVATIONS, ROW_NORMS, Function, Graph, Node
from trm_verify.kernel.numbers import ceil_at, dyadic, floor_at
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.relaxation import meet
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, Smooth, table
from trm_verify.obligations.points import line, piecewise
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Script,
    Term,
    add,
    at_most,
    below,
    between,
    choose,
    equal,
    every,
    larger,
    number,
    smaller,
    some,
    sub,
)
from trm_verify.obligations.walker import Walker, is_constant, part_of_state, varies

MOST_ENTRIES = 200_000  # of one tensor


@dataclass(frozen=True)
class UnitTerms:
    """One unit, in the order of proofs/affine_forms.md: its argument, and its value if an entry of a node is that."""

    op: str | None
    argument: Term | None = None
    value: Term | None = None
    place: tuple[int, int] | None = None  # of an activation: node and entry


@dataclass(frozen=True)
class Refinement:
    """What rules about fixed points know beyond the boxes.

    Attributes:
        known: intervals of the units' arguments, shown before.
        scale: per unit that a state equals, (α, that state): its argument a becomes z + α(a − z).
    """

    known: Sequence[Interval] = ()
    scale: Mapping[int, tuple[Fraction, Term]] = field(default_factory=dict)


class Values(Walker[Term]):
    """The entries of every node. `ranges` are the kernel's enclosures, or none where nothing needs them."""

    zero = ZERO

    def __init__(
        self, script: Script, graph: Graph, function: Function, states: Sequence[Term], inputs: Sequence[Term],
        ranges: Sequence[Tensor], name: str = "n", refinement: Refinement | None = None,
    ) -> None:  # fmt: skip
        super().__init__(graph, function)
        self.script, self.states, self.inputs, self.ranges, self.prefix = script, states, inputs, ranges, name
        self.refinement = refinement
        self.units: list[UnitTerms] = []
        self._exact: dict[int, list[Term] | None] = {}
        self._within: set[tuple[int, int]] = set()
        self._inverses: dict[tuple[int, int], tuple[Term, Interval]] = {}

    def name(self, i: int, entry: int) -> str:
        return f"{self.prefix}{i}.{entry}"

    def walk(self) -> list[Term]:
        """Every node in graph order, so that units have their numbers; returns the outputs."""
        for i in range(len(self.nodes)):
            self.of(i)
        return self.flat()

    def defined(self) -> None:
        """No division by zero anywhere, whether or not its result matters."""
        for i, node in enumerate(self.nodes):
            if node.op == "div":
                for entry in range(node.size):
                    self.inverse(i, entry)
            elif node.op == "embedding":
                self.of(i)

    def combine(self, name: str, pairs: Sequence[tuple[Term, Term]]) -> Term:
        return self.script.combine(name, pairs)

    def coefficients(self, i: int) -> list[Term] | None:
        if varies(self.nodes[i]):
            return None
        if i not in self._exact:
            terms = self.of(i)
            known = all(t.value is not None for t in terms)
            self._exact[i] = [self.script.exactly(t) for t in terms] if known else None
        return self._exact[i]

    def leaf(self, i: int, node: Node) -> list[Term]:
        if node.size > MOST_ENTRIES:
            raise NotExported(f"a tensor with more than {MOST_ENTRIES} entries")
        if node.op == "state":
            return list(self.states[part_of_state(self.graph, node)])
        if node.op == "input":
            return list(self.inputs)
        if node.op == "tensor":
            _, ints, exp = self.graph.weights.tensor(node.attrs["name"])
        else:
            ints, exp = node.attrs["value"]
        return [number(dyadic(v, exp)) for v in ints]

    def interval(self, i: int, entry: int) -> Interval:
        """The kernel's range of an entry, which it is then a goal to stay in."""
        box = self.ranges[i]
        if not box.bounded:
            return None, None
        low, high = box.fraction(entry)
        if (i, entry) not in self._within:
            self._within.add((i, entry))
            what = f"values of node {i} ({self.nodes[i].op}) lie in the intervals that the assumptions are made for"
            self.script.show(between(low, self.of(i)[entry], high), what)
        return low, high

    # operations that are not linear

    def nonlinear(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        if node.op in ACTIVATIONS:
            return [self._activation(i, entry, node, a) for entry, a in enumerate(args[0])]
        if node.op in ("max", "min"):
            pick = larger if node.op == "max" else smaller
            pairs = zip(*(args if node.op == "max" else args[::-1]), strict=True)
            picked = [self._pick(i, entry, pick(a, b), sub(b, a)) for entry, (a, b) in enumerate(pairs)]
            return [self._cut(i, entry, term) for entry, term in enumerate(picked)]
        if node.op == "amax":
            return self._amax(i, node, args[0])
        if node.op == "embedding":
            return self._embedding(i, node, args)
        if node.op in ROW_NORMS:
            return self._row_norm(i, node, args[0])
        if node.op == "div":
            return self._div(i, node, args)
        if node.op == "mul":
            return [self._product(i, entry, args, (entry, entry)) for entry in range(node.size)]
        if node.op == "matmul":
            return self._matmul(i, node, args)
        raise NotExported(f"the operation {node.op} with an argument that is not exact")

    def operation(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        found = super().operation(i, node, args)
        factor = node.attrs.get("factor", Fraction(1))
        if factor.denominator & (factor.denominator - 1):  # no binary fraction: such a product is a unit, too
            for a, value in zip(args[0], found, strict=True):
                self._file(i, UnitTerms("scale", a, value))
        return found

    def _is_unit(self, i: int) -> bool:
        """Whether the entries of node i count as units: not those of an exact constant."""
        return not (is_constant(self.nodes[i]) and self.ranges and self.ranges[i].is_point)

    def _file(self, i: int, unit: UnitTerms) -> None:
        if self._is_unit(i):
            self.units.append(unit)

    def _cut(self, i: int, entry: int, term: Term) -> Term:
        """A free variable in the range of the entry instead of its term, which is shown to lie there.

        Interval arithmetic forgets as much at every operation, and a solver then has one activation at a time to look
        at. Rules about fixed points need the term itself.
        """
        if self.refinement is not None or term.value is not None or not self.ranges[i].bounded:
            return term
        low, high = self.ranges[i].fraction(entry)
        self.script.show(between(low, term, high), f"values of node {i} ({self.nodes[i].op}) lie in their intervals")
        return self.script.variable(f"{self.name(i, entry)}.cut", low, high)

    def _enclosed(self, name: str, condition: str, ends: Interval, fact: str) -> Term:
        """A variable between these ends, by a proved fact that has a condition.

        The condition is a goal wherever this is used. Where values are equated (fixed points) it guards the fact, too:
        else a false fact could hide that its condition fails.
        """
        script = self.script
        if self.refinement is None:
            script.facts[fact] += 1
            return script.variable(name, *ends)
        value = script.variable(name)
        script.assume(_given(condition, between(ends[0], value, ends[1])), fact)
        return value

    def _pick(self, i: int, entry: int, picked: Term, argument: Term) -> Term:
        self._file(i, UnitTerms("relu", argument))  # max(a, b) = a + relu(b − a): the unit is only a part of it
        return self.script.define(self.name(i, entry), picked)

    def _amax(self, i: int, node: Node, a: list[Term]) -> list[Term]:
        width = self.nodes[node.args[0]].shape[-1]
        best = a[::width]
        for column in range(1, width):
            others = a[column::width]
            pairs = enumerate(zip(best, others, strict=True))
            best = [self._pick(i, row, larger(p, q), sub(q, p)) for row, (p, q) in pairs]
        return [self._cut(i, row, term) for row, term in enumerate(best)]

    def _activation(self, i: int, entry: int, node: Node, a: Term) -> Term:
        if self.refinement is not None and len(self.units) in self.refinement.scale and self._is_unit(i):
            factor, z = self.refinement.scale[len(self.units)]
            moved = add([self.script.mul(number(1 - factor), z), self.script.mul(number(factor), a)])
            a = self.script.define(f"scaled{i}.{entry}", moved)
        name = self.name(i, entry)
        if node.op in GLOBAL_RANGE:
            found = self._smooth(i, entry, node, a)
        else:
            found = self._cut(i, entry, piecewise(self.script, name, node.op, node.attrs, a))
        self._file(i, UnitTerms(node.op, a, found, (i, entry)))
        return found

    def _smooth(self, i: int, entry: int, node: Node, a: Term) -> Term:
        """A variable that lies where the enclosures of the function say."""
        op, name = node.op, self.name(i, entry)
        least, most = (None if end is None else dyadic(end, -BITS) for end in GLOBAL_RANGE[op])
        ends = self.interval(node.args[0], entry)
        if self.refinement is not None and len(self.units) < len(self.refinement.known):
            ends = meet(ends, self.refinement.known[len(self.units)]) or ends
        low, high = ends
        if low is None or high is None:
            self.script.facts[f"the range of {op}"] += 1
            return self.script.variable(name, least, most)
        box = Tensor((1,), -BITS, [floor_at(low, -BITS)], [ceil_at(high, -BITS)])
        bounds = apply_operation(Node(op, (0,), node.attrs, (1,), node.kind), [box]).fraction(0)
        inside = between(low, a, high)
        value = self._enclosed(name, inside, bounds, f"enclosures of {op} on an interval")
        if self.refinement is not None:
            self.script.assume(between(least, value, most))
            pieces = table(Unit(op, node.attrs), ends)
            facts = self._pieces(pieces, a, value) if isinstance(pieces, Smooth) else []
            self.script.assume(_given(inside, every(facts)))
        return value

    def _pieces(self, pieces: Smooth, a: Term, value: Term) -> list[str]:
        """On each piece the function lies between the lines of least and greatest slope from both ends."""
        found = []
        for k, (steep, steeper) in enumerate(pieces.slopes):
            first, last = pieces.points[k], pieces.points[k + 1]
            (low, high), (end_low, end_high) = pieces.values[k], pieces.values[k + 1]
            under = [line(self.script, a, low, first, steep), line(self.script, a, end_low, last, steeper)]
            over = [line(self.script, a, high, first, steeper), line(self.script, a, end_high, last, steep)]
            facts = [at_most(end, value) for end in under] + [at_most(value, end) for end in over]
            found.append(f"(=> {between(first, a, last)} {every(facts)})")
        return found

    def _embedding(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        rows, width = self.nodes[node.args[1]].shape
        found = []
        for place, x in enumerate(args[0]):
            box = self.ranges[node.args[0]]
            first, last = map(int, box.fraction(place)) if box.bounded else (0, rows - 1)
            self.script.show(between(Fraction(0), x, Fraction(rows - 1)), "indices lie inside the table")
            for column in range(width):
                entries = args[1][first * width + column : last * width + column + 1 : width]
                picked = self._picked(self.name(i, place * width + column), x, first, entries)
                found.append(self._plain(i, picked))
        return found

    def _picked(self, name: str, x: Term, first: int, entries: list[Term]) -> Term:
        """The entry that x counts, from `first` on."""
        if self.script.by_intervals:
            values = [t.value for t in entries if t.value is not None]
            found = self.script.variable(name, min(values), max(values))
            what = "entries of the table lie between the smallest and the largest"
            self.script.show(every([every([at_most(found.low, t), at_most(t, found.high)]) for t in entries]), what)
            return found
        value = entries[-1]
        for k in range(len(entries) - 2, -1, -1):
            value = choose(equal(x, number(first + k)), entries[k], value, None)
        return self.script.define(name, value)

    def _plain(self, i: int, value: Term) -> Term:
        """A unit of which the kernel knows the range alone."""
        self._file(i, UnitTerms(None, None, value))
        return value

    def _row_norm(self, i: int, node: Node, a: list[Term]) -> list[Term]:
        script, box, width = self.script, self.ranges[i], node.shape[-1]
        ends = [self.interval(node.args[0], entry) for entry in range(len(a))]
        found = []
        for start in range(0, node.size, width):
            row = range(start, start + width)
            inside = every([between(ends[e][0], a[e], ends[e][1]) for e in row])
            fact = f"enclosures of {node.op} on a box"
            value = [self._enclosed(self.name(i, e), inside, box.fraction(e), fact) for e in row]
            if node.op == "softmax" and not script.by_intervals:
                script.assume(equal(add(value), ONE), "a softmax sums to one")
            found += value
        return [self._plain(i, v) for v in found]

    def inverse(self, i: int, entry: int) -> tuple[Term, Interval]:
        """One over an entry of a divisor, which is shown not to be zero; with its range unless it is exact."""
        if (i, entry) not in self._inverses:
            self._inverses[i, entry] = self._inverse(i, entry, self.nodes[i].args[1])
        return self._inverses[i, entry]

    def _inverse(self, i: int, entry: int, divisor: int) -> tuple[Term, Interval]:
        script, b = self.script, self.of(divisor)[entry]
        script.show(some([below(b, ZERO), below(ZERO, b)]), "no division by zero")
        if b.value is not None:
            if b.value == 0:
                raise NotExported("a division by zero")
            exact = 1 / b.value
            return number(exact) if b.literal else Term(f"(/ 1.0 {b.text})", exact), (None, None)
        low, high = self.interval(divisor, entry)
        if low is None or high is None or low <= 0 <= high:
            raise NotExported("a divisor whose range is not known to exclude 0")
        ends = 1 / high, 1 / low
        return self._enclosed(f"{self.name(i, entry)}.inverse", between(low, b, high), ends, "the range of 1/x"), ends

    def _div(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        found = []
        for entry, a in enumerate(args[0]):
            inverse, ends = self.inverse(i, entry)
            name = self.name(i, entry)
            if inverse.value is None:
                product = self._mccormick(name, (a, inverse), (self.interval(node.args[0], entry), ends))
                found.append(self._plain(i, product))
                continue
            own = self.script.combine(name, [(inverse, a)])
            is_scale = is_constant(self.nodes[node.args[1]])
            self._file(i, UnitTerms("scale", a, own) if is_scale else UnitTerms(None, None, own))
            found.append(own)
        return found

    def _matmul(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        (count, inner), columns = self.nodes[node.args[0]].shape[-2:], node.shape[-1]
        found = []
        for entry in range(node.size):
            block, rest = divmod(entry, count * columns)
            t, c = divmod(rest, columns)
            products = [
                self._product(i, entry, args, ((block * count + t) * inner + k, (block * inner + k) * columns + c), k)
                for k in range(inner)
            ]
            found.append(self.script.define(self.name(i, entry), add(products)))
        return [self._plain(i, v) for v in found]

    def _product(self, i: int, entry: int, args: list[list[Term]], at: tuple[int, int], k: int = -1) -> Term:
        """The product of two entries of the arguments."""
        (a, b), nodes = (args[0][at[0]], args[1][at[1]]), self.nodes[i].args
        name = self.name(i, entry) + ("" if k < 0 else f".{k}")
        if a.value is not None or b.value is not None:
            own = self.script.define(name, self.script.mul(a, b))
        else:
            ranges = (self.interval(nodes[0], at[0]), self.interval(nodes[1], at[1]))
            own = self._mccormick(name, (a, b), ranges)
        return self._plain(i, own) if k < 0 else own

    def _mccormick(self, name: str, factors: tuple[Term, Term], ranges: tuple[Interval, Interval]) -> Term:
        """A variable for ab: (a − a₀)(b − b₀) ≥ 0 at the two outer corners of the box, ≤ 0 at the other two."""
        script, (a, b) = self.script, factors
        (p, q), (r, s) = ranges
        if p is None or q is None or r is None or s is None:
            raise NotExported("a product of unbounded factors")
        if script.by_intervals:
            corners = [script.mul(number(x), number(y)) for x in (p, q) for y in (r, s)]
            values = [t.value for t in corners if t.value is not None]
            found = script.variable(name, min(values), max(values))
            ends = [every([at_most(found.low, t), at_most(t, found.high)]) for t in corners]
            script.show(every(ends), "a product lies between the products of the corners")
            return found
        value = script.variable(name)

        def tangent(x: Fraction, y: Fraction) -> Term:
            return add([script.mul(number(y), a), script.mul(number(x), b), number(-x * y)])

        facts = [at_most(tangent(x, y), value) for x, y in ((p, r), (q, s))]
        facts += [at_most(value, tangent(x, y)) for x, y in ((p, s), (q, r))]
        inside = every([between(p, a, q), between(r, b, s)])
        script.assume(_given(inside, every(facts)), "McCormick's inequalities for a product")
        return value


def _given(condition: str, fact: str) -> str:
    return f"(=> {condition} {fact})"
