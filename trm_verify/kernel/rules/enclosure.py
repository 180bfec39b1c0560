"""R5: a preconditioned box test that proves a fixed point, and, with slopes between any two points, only one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.claims import (
    AtMostOne,
    Conclusion,
    Convergence,
    ExactlyOne,
    FixedPoints,
    Reached,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.context import Context, Witness, none, numbers
from trm_verify.kernel.cycles import unrolled_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import STATE, Graph, Node
from trm_verify.kernel.linear import Form, stack
from trm_verify.kernel.numbers import ceil_at, dyadic, floor_at, matmul, rows_of
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.spans import forms_over, scale_of, span
from trm_verify.kernel.tensor import Tensor, contains, from_fractions
from trm_verify.kernel.units import BITS, Interval, table

MAX_UNROLLED = 1024  # steps of `reach`


class _Reduction:
    """Every unit as s·(its argument) + e, with one slope s a unit; everything then is affine in (1, z, x, e).

    `arguments`, `errors`: intervals of a and of e = φ(a) − s·a. `spread`: |Δe| ≤ spread·|Δa| between any two points.
    """

    def __init__(self, forms: AffineForms, chosen: list[Fraction], ends: list[Interval]) -> None:
        self.forms, self.chosen, self.ends = forms, chosen, ends
        self.arguments: list[Interval] = []
        self.errors: list[Interval] = []
        self.rows: list[Form] = []  # of the arguments, a form a unit
        self.values: list[Form] = []  # of the units themselves
        while len(self.values) < len(forms.units):
            self._add_block(len(self.values))

    def _add_block(self, start: int) -> None:
        """The longest run of units from `start` on whose arguments do not read each other."""
        rows, first, stop = self.forms.arguments.rows, self.forms.first, start + 1
        while stop < len(rows) and not any(rows[stop][first + start : first + stop]):
            stop += 1
        block = self.reduced(Form(rows[start:stop], self.forms.arguments.exp))
        for k, row in enumerate(block.rows, start):
            self._add(k, self.forms.units[k], Form([row], block.exp))

    def _add(self, k: int, unit: Unit, argument: Form) -> None:
        own = Form([[0] * (self.forms.first + k) + [1]], 0)
        self.rows.append(argument)
        if unit.op is None:
            if unit.range is None:
                raise CheckError("UNSUPPORTED", "bounded values of every operation that is no activation", "unbounded")
            self.arguments.append((None, None))
            self.errors.append(unit.range)
            self.values.append(own)
            return
        interval, slope = self.range(argument), self.chosen[k]
        known = table(unit, interval)
        low, high = known.least(Fraction(1), slope), known.least(Fraction(-1), -slope)
        if low is None or high is None:
            raise CheckError("UNSUPPORTED", "bounded arguments (a bounded region and domain)", "unbounded ones")
        self.arguments.append(interval)
        self.errors.append((low, -high))
        exp = argument.exp + 1 - slope.denominator.bit_length()
        self.values.append(_sum(Form([[v * slope.numerator for v in argument.rows[0]]], exp), own))

    def reduced(self, form: Form) -> Form:
        """Rows over (1, z, x, units) in terms of (1, z, x, e)."""
        first, count = self.forms.first, len(self.values)
        base = Form([row[:first] for row in form.rows], form.exp)
        used = [k for k in range(count) if any(row[first + k] for row in form.rows)]
        if not used:
            return base
        units = stack([self.values[k] for k in used])
        product = matmul([[row[first + k] for k in used] for row in form.rows], units.rows)
        return _sum(base, Form(product, form.exp + units.exp))

    def range(self, form: Form) -> Interval:
        return span(form.rows[0], dyadic(1, form.exp), [*self.ends, *self.errors])


def _sum(a: Form, b: Form) -> Form:
    both, half = stack([a, b]), len(a.rows)
    pairs = zip(both.rows[:half], both.rows[half:], strict=True)
    return Form([[p + q for p, q in zip(x, y, strict=True)] for x, y in pairs], both.exp)


def _spreads(forms: AffineForms, reduction: _Reduction) -> list[Fraction]:
    """Per unit, how far its slope between any two points can lie from the chosen one."""
    found = []
    for k, unit in enumerate(forms.units):
        lo, hi = reduction.arguments[k]
        if unit.op is None:
            if unit.varies:
                raise CheckError("UNSUPPORTED", "a step whose state meets activations only", "another operation")
            found.append(Fraction(0))
        elif unit.op == "scale":
            found.append(abs(unit.attrs["factor"] - reduction.chosen[k]))
        elif lo is None or hi is None:
            raise CheckError("UNSUPPORTED", "bounded arguments", "unbounded ones")
        else:
            given = Tensor((1,), -BITS, [floor_at(lo, -BITS)], [ceil_at(hi, -BITS)])
            low, high, exp = slopes(Node(unit.op, (0,), unit.attrs, (1,), STATE), given)
            ends = (low[0] * dyadic(1, exp), high[0] * dyadic(1, exp))
            found.append(max(abs(end - reduction.chosen[k]) for end in ends))
    return found


def reach(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Where the K-th iterate from init lies, by affine forms over all K steps at once. Sound if: proofs/reach.md."""
    none(premises)
    raw = document.fields(witness, "operator", "domain", "steps", "slopes", where="reach")
    operator, domain = context.operator(raw[0]), context.box(raw[1], "input")
    steps = document.integer(raw[2], 1, MAX_UNROLLED, "steps")
    graph = unrolled_graph(context.graph, operator, steps)
    forms = forms_over(graph, domain, Tensor((graph.size,)), None)
    chosen = numbers(raw[3], len(forms.units), "slopes")
    graph.charge((graph.size + len(forms.units)) * (1 + graph.input_size + len(forms.units)))
    inputs: list[Interval] = [domain.fraction(j) if domain.bounded else (None, None) for j in range(graph.input_size)]
    reduction = _Reduction(forms, chosen, [*([(None, None)] * graph.size), *inputs])
    out = reduction.reduced(forms.outputs)
    found = []
    for row in out.rows:
        lo, hi = reduction.range(Form([row], out.exp))
        if lo is None or hi is None:
            raise CheckError("UNSUPPORTED", "a bounded iterate (a bounded domain)", "an unbounded one")
        found.append((lo, hi))
    return Reached(operator, domain, steps, from_fractions(found))


def enclosure(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """z + Y(f(z, x) − z) maps the box into its interior. Sound if: proofs/enclosure.md."""
    none(premises)
    raw = document.fields(witness, "domain", "region", "scale", "slopes", "matrix", "unique", where="enclosure")
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    return enclose(context.graph, domain, region, scale_of(raw[2], context.graph.size), raw[3:])


def enclose(
    graph: Graph, domain: Tensor, region: Tensor, scale: tuple[Fraction, ...] | None, raw: Sequence[object]
) -> FixedPoints:
    """The box test; `raw` holds slopes, matrix and unique."""
    n = graph.size
    if not region.bounded or type(raw[2]) is not bool:
        raise CheckError("BOX", "a bounded region, and unique: true or false", raw[2])
    forms = forms_over(graph, domain, region, scale)
    chosen = numbers(raw[0], len(forms.units), "slopes")
    ints, exp = document.vector(raw[1], n * n, "matrix")
    graph.charge((n + len(forms.units)) * n * (1 + n + graph.input_size + len(forms.units)))
    states = [region.fraction(i) for i in range(n)]
    inputs: list[Interval] = [domain.fraction(j) if domain.bounded else (None, None) for j in range(graph.input_size)]
    reduction = _Reduction(forms, chosen, [*states, *inputs])
    residual = _sum(reduction.reduced(forms.outputs), Form([[0] * (1 + i) + [-1] for i in range(n)], 0))
    moved = Form(matmul(rows_of(ints, n), residual.rows), residual.exp + exp)
    image = _sum(moved, Form([[0] * (1 + i) + [1] for i in range(n)], 0))
    found = []
    for i, row in enumerate(image.rows):
        lo, hi = reduction.range(Form([row], image.exp))
        if lo is None or hi is None or not states[i][0] < lo or not hi < states[i][1]:
            raise CheckError("INCLUSION", "the image strictly inside the box", f"coordinate {i}")
        found.append((lo, hi))
    if raw[2]:
        _require_unique(forms, reduction, image, region)
    box, arguments = from_fractions(found), tuple(reduction.arguments)
    return FixedPoints(domain, region, box, arguments, scale, exists=True, unique=bool(raw[2]))


def _require_unique(forms: AffineForms, reduction: _Reduction, image: Form, region: Tensor) -> None:
    """In the norm whose unit ball has the shape of the box, the map z + Y(f − z) contracts between any two points."""
    n = region.size
    half = [(hi - lo) / 2 for lo, hi in map(region.fraction, range(n))]
    spreads = _spreads(forms, reduction)
    errors: list[Fraction] = []

    def reach(row: list[int], exp: int) -> Fraction:
        unit, first = dyadic(1, exp), forms.first
        states = sum((abs(v) * r for v, r in zip(row[1 : 1 + n], half, strict=False)), Fraction(0))
        return unit * (states + sum((abs(v) * e for v, e in zip(row[first:], errors, strict=False)), Fraction(0)))

    for spread, form in zip(spreads, reduction.rows, strict=True):
        errors.append(spread * reach(form.rows[0], form.exp))
    for i, row in enumerate(image.rows):
        if reach(row, image.exp) >= half[i]:
            raise CheckError("INEQUALITY", "a contraction between any two points of the box", f"coordinate {i}")


def located(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The only fixed point of a larger region is the one that exists here. Sound if: proofs/located.md."""
    document.fields(witness, where="located")
    if len(premises) != 2 or not isinstance(premises[1], FixedPoints) or not premises[1].exists:
        raise CheckError("PREMISE", "two premises, the second of them fixed points that exist", len(premises))
    outer, inner = premises[0], premises[1]
    if not isinstance(outer, (WellPosed, ExactlyOne, AtMostOne, Convergence, FixedPoints)) or outer.region is None:
        raise CheckError("PREMISE", "at most one fixed point, or all of them, in a region", type(outer).__name__)
    if not contains(outer.domain, inner.domain):
        raise CheckError("CONTEXT", "a domain inside the first premise's", "one that is not")
    if not contains(outer.region, inner.box):
        raise CheckError("INCLUSION", "the box inside the first premise's region", "one that is not")
    alone = inner.unique and isinstance(outer, FixedPoints) and contains(inner.region, outer.box)
    if isinstance(outer, FixedPoints) and not outer.unique and not alone:
        raise CheckError("INCLUSION", "all fixed points where there is only one", "a smaller region")
    return FixedPoints(inner.domain, outer.region, inner.box, inner.arguments, inner.scale, exists=True, unique=True)
