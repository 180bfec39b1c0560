"""Affine forms: a function written exactly over a constant, its state, its input and its *units*.

Columns: 1, the n state entries, the m input entries, the units in graph order. A unit is one entry of a nonlinear
operation. An activation unit has an argument, itself an affine form in earlier units; any other unit is known by its
range only. Maxima are written with ReLU units: max(a, b) = a + relu(b − a). Proof: proofs/affine_forms.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Any, TypeVar

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import ACTIVATIONS, CONSTANT, STATE, Function, Graph
from trm_verify.kernel.linear import MAX_FORM, Builder, Form, is_plain, padded, stack
from trm_verify.kernel.numbers import Rows, dyadic
from trm_verify.kernel.tensor import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """`op` None: not an activation; then `range` holds its values, and `varies` says whether they depend on the state.

    `scale` (attribute factor) is a unit where the factor is no binary fraction.
    """

    op: str | None
    attrs: dict[str, Any] = field(default_factory=dict)
    range: tuple[Fraction, Fraction] | None = None
    varies: bool = True


@dataclass(frozen=True)
class AffineForms:
    """Rows over (1, state, input, units): of the outputs, and of the argument of each unit (zero without one)."""

    outputs: Form
    units: tuple[Unit, ...]
    arguments: Form
    first: int  # column of the first unit
    derived: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What follows from these forms alone, made once: the rules of one certificate ask for the same again."""
        if key not in self.derived:
            self.derived[key] = make()
        found: T = self.derived[key]
        return found


class _AffineBuilder(Builder):
    def __init__(self, graph: Graph, function: Function, ranges: list[Tensor]) -> None:
        super().__init__(graph, function, ranges, 1 + graph.size + graph.input_size)
        self.kinds: list[Unit] = []

    def of(self, i: int) -> Form:
        form = self.forms[i]
        if form is not None:
            return form
        return Form([[v] for v in self.ranges[i].ends()[0]], self.ranges[i].exp)

    def node(self, i: int) -> Form | None:
        node = self.nodes[i]
        if node.kind == CONSTANT and self.ranges[i].is_point:
            return None  # a matrix is rarely read as a form of its own: `of` makes it then
        self.charge(i)
        if node.op in ("state", "input"):
            return self.columns(i, 1 if node.op == "state" else 1 + self.graph.size)
        return self.operation(i)

    def operation(self, i: int) -> Form:
        node = self.nodes[i]
        if node.op == "max":
            return self.larger(*map(self.of, node.args))
        if node.op == "min":  # min(a, b) = a − relu(a − b)
            a, b = map(self.of, node.args)
            return self.plus(a, self.relu(self.plus(a, b, -1)), -1)
        if node.op == "amax":
            form, width = self.of(node.args[0]), self.nodes[node.args[0]].shape[-1]
            best = Form(form.rows[::width], form.exp)
            for column in range(1, width):
                best = self.larger(best, Form(form.rows[column::width], form.exp))
            return best
        if node.op == "div" and self.ranges[node.args[1]].is_point and self.nodes[node.args[1]].kind == CONSTANT:
            factors = [1 / self.ranges[node.args[1]].fraction(entry)[0] for entry in range(node.size)]
            return self.append([Unit("scale", {"factor": factor}) for factor in factors], self.of(node.args[0]))
        if node.op == "mul" and all(self.nodes[j].kind != CONSTANT for j in node.args):
            return self.product(i, *node.args)
        return super().operation(i)

    def product(self, i: int, left: int, right: int) -> Form:
        """ab = a₀b + b₀a − a₀b₀ + (a − a₀)(b − b₀), about the middles of the ranges; the last term is a unit."""
        a, b = self.ranges[left], self.ranges[right]
        if not (a.bounded and b.bounded) or (a.is_point or b.is_point):
            return super().operation(i)
        rest: list[Unit] = []
        terms: list[Form] = []
        for entry in range(self.nodes[i].size):
            (p, q), (r, s) = a.fraction(entry), b.fraction(entry)
            reach = (q - p) * (s - r) / 4
            rest.append(Unit(None, {}, (-reach, reach), self.nodes[i].kind == STATE))
            middles = ((p + q) / 2, (r + s) / 2)
            exp = min(1 - v.denominator.bit_length() for v in (middles[0] * middles[1], *middles))
            scaled = [int(v / dyadic(1, exp)) for v in (*middles, middles[0] * middles[1])]
            by_a, by_b = (self.times(self.of(j), entry, v, exp) for j, v in zip((right, left), scaled, strict=False))
            terms.append(self.plus(self.plus(by_a, by_b), Form([[-scaled[2]]], exp)))
        return self.plus(stack(terms), self.append(rest, Form([[] for _ in rest], 0)))

    @staticmethod
    def times(form: Form, entry: int, factor: int, exp: int) -> Form:
        """One row of a form times factor · 2^exp."""
        return Form([[v * factor for v in form.rows[entry]]], form.exp + exp)

    def fresh(self, i: int) -> Form:
        node = self.nodes[i]
        if node.op in ACTIVATIONS or node.op == "scale":
            return self.append([Unit(node.op, node.attrs)] * node.size, self.of(node.args[0]))
        values, varies = self.ranges[i], node.kind == STATE
        ends = [values.fraction(entry) if values.bounded else None for entry in range(node.size)]
        return self.append([Unit(None, {}, end, varies) for end in ends], Form([[] for _ in ends], 0))

    def append(self, units: list[Unit], arguments: Form) -> Form:
        start = self.base + len(self.kinds)
        self.kinds += units
        self.units += [(0, 0, unit.op is not None) for unit in units]
        self.arguments.append(arguments)
        return Form([[0] * (start + entry) + [1] for entry in range(len(units))], 0)

    def relu(self, argument: Form) -> Form:
        self.charge_rows(len(argument.rows))
        return self.append([Unit("relu")] * len(argument.rows), argument)

    def charge_rows(self, count: int) -> None:
        """What one node brings in beyond its own entries: a maximum over an axis has a unit for each comparison."""
        self.total += count * (self.base + len(self.kinds) + count)
        if self.total > MAX_FORM:
            raise CheckError("LIMIT", f"affine forms of at most {MAX_FORM} coefficients in all", self.total)

    def larger(self, a: Form, b: Form) -> Form:
        return self.plus(a, self.relu(self.plus(b, a, -1)))

    @staticmethod
    def plus(a: Form, b: Form, sign: int = 1) -> Form:
        both, half = stack([a, b]), len(a.rows)
        pairs = zip(both.rows[:half], both.rows[half:], strict=True)
        return Form([[p + sign * q for p, q in zip(x, y, strict=True)] for x, y in pairs], both.exp)


def require_small(size: int) -> None:
    """Forms are quadratic in what they read: a larger space is refused before its numbers are laid out one by one."""
    if size * size > MAX_FORM:
        raise CheckError("LIMIT", f"states and inputs of affine forms with at most {isqrt(MAX_FORM)} entries", size)


def affine_forms(graph: Graph, function: Function, ranges: list[Tensor]) -> AffineForms:
    """The forms of a function; `ranges` enclose its nodes over the states and inputs in question."""
    builder = _AffineBuilder(graph, function, ranges)
    for i in range(len(function.nodes)):
        builder.forms.append(builder.node(i))
    outputs = stack([builder.of(i) for i in function.outputs])
    width = builder.base + len(builder.kinds)
    _charge(graph, function, width, len(builder.kinds))
    arguments = stack(builder.arguments) if builder.arguments else Form([], 0)

    def full(form: Form) -> Form:
        rows: Rows = padded(form.rows, width)
        return Form(rows, form.exp)

    return AffineForms(full(outputs), tuple(builder.kinds), full(arguments), builder.base)


def forms_of(graph: Graph, function: Function, state: Tensor, given: Tensor) -> AffineForms:
    """The forms of a function over states and inputs; made once for a function of linear maps and activations."""
    made: list[AffineForms] = []

    def forms() -> AffineForms:
        made.append(affine_forms(graph, function, evaluate(graph, function, state, given)))
        return made[0]

    if not is_plain(function):
        return forms()
    found = graph.once(function, "affine forms", forms)
    if not made:  # for what the rules do with them
        _charge(graph, function, found.first + len(found.units), len(found.units))
    return found


def _charge(graph: Graph, function: Function, width: int, units: int) -> None:
    """Packed products, then intervals of each row."""
    graph.charge((function.cost // 8 + 64 * units) * width)


def joined(step: AffineForms, readout: AffineForms) -> tuple[AffineForms, Form]:
    """One set of units for both functions, the step's first: (the step's forms over them all, the readout's rows)."""
    first, shift = step.first, len(step.units)
    width = first + shift + len(readout.units)

    def moved(form: Form) -> Form:
        return Form([[*row[:first], *[0] * shift, *row[first:]] for row in form.rows], form.exp)

    outputs = Form(padded(step.outputs.rows, width), step.outputs.exp)
    arguments = stack([Form(padded(step.arguments.rows, width), step.arguments.exp), moved(readout.arguments)])
    return AffineForms(outputs, (*step.units, *readout.units), arguments, first), moved(readout.outputs)
