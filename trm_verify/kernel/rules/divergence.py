"""Loops that run away: cones that the operator maps into each other while it stretches them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, Unit, affine_forms
from trm_verify.kernel.claims import Conclusion, Refuted
from trm_verify.kernel.context import Context, Witness, none, number, numbers
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.operators import Operator, apply, require_loop
from trm_verify.kernel.tensor import Tensor

MAX_CONES, MAX_STEPS, MAX_UNITS = 8, 1 << 12, 512
BOUNDED = {"tanh": (-1, 1), "sigmoid": (0, 1), "sin": (-1, 1), "cos": (-1, 1)}
Row = list[Fraction]
Ends = tuple[Fraction, Fraction]
ZERO = Fraction(0)


def product(row: Row, other: Row) -> Fraction:
    return sum((a * b for a, b in zip(row, other, strict=True) if a and b), ZERO)


def plus(a: Ends, b: Ends) -> Ends:
    return a[0] + b[0], a[1] + b[1]


def times(factor: Fraction, ends: Ends) -> Ends:
    return (factor * ends[0], factor * ends[1]) if factor >= 0 else (factor * ends[1], factor * ends[0])


@dataclass(frozen=True)
class Cone:
    """{s·M(1, y) : s ≥ least, |y_i| ≤ radii_i}; `columns` are those of M, the first one its axis, `rows` of N ≈ M⁻¹."""

    columns: list[Row]
    rows: list[Row]
    radii: Row
    least: Fraction

    @classmethod
    def parse(cls, raw: object, n: int, least: Fraction) -> Cone:
        fields = document.fields(raw, "matrix", "inverse", "radii", where="cone")
        matrix, inverse = (numbers(v, n * n, w) for v, w in zip(fields, ("matrix", "inverse"), strict=False))
        radii = numbers(fields[2], n - 1, "radii")
        if any(r < 0 for r in radii):
            raise CheckError("WITNESS", "radii ≥ 0", min(radii))
        cone = cls([matrix[j::n] for j in range(n)], [inverse[i * n : (i + 1) * n] for i in range(n)], radii, least)
        if not max(cone.errors) < 1:
            raise CheckError("INEQUALITY", "an inverse with ‖NM − I‖ < 1", max(cone.errors))
        return cone

    @cached_property
    def errors(self) -> Row:
        """Per row of NM − I, the sum of its absolute values."""
        return [
            sum((abs(product(row, column) - (i == j)) for j, column in enumerate(self.columns)), ZERO)
            for i, row in enumerate(self.rows)
        ]

    def span(self, row: Row) -> Ends:
        """The range of row · z / s over the cone."""
        middle, *rest = (product(row, column) for column in self.columns)
        reach = sum((abs(v) * r for v, r in zip(rest, self.radii, strict=True)), ZERO)
        return middle - reach, middle + reach

    def scale(self, image: list[Ends]) -> Fraction:
        """A lower bound of s, for points with Nz in these ranges, which are shown to be in the cone if s ≥ least."""
        errors = self.errors
        reach = max(max(-lo, hi) for lo, hi in image) / (1 - max(errors))
        least = image[0][0] - errors[0] * reach
        for (lo, hi), error, radius in zip(image[1:], errors[1:], self.radii, strict=True):
            if not max(-lo, hi) + error * reach <= radius * least:
                raise CheckError("INCLUSION", "every image inside the next cone", "one that is not shown to be")
        if not least > 0:
            raise CheckError("INCLUSION", "images on the positive side of the next cone's axis", least)
        return least


@dataclass(frozen=True)
class Linear:
    """row · z + remainder."""

    row: Row
    rest: Ends


def _unit(unit: Unit, argument: Linear, cone: Cone) -> Linear:
    """φ(a) on the cone, where it is linear, or bounded."""
    nothing = [ZERO] * len(argument.row)
    if unit.op is None:
        if unit.range is None:
            raise CheckError("UNSUPPORTED", "bounded values of every operation that is no activation", "unbounded")
        return Linear(nothing, unit.range)
    if unit.op in BOUNDED:
        lo, hi = BOUNDED[unit.op]
        return Linear(nothing, (Fraction(lo), Fraction(hi)))
    if unit.op == "clamp" and None not in (unit.attrs["lo"], unit.attrs["hi"]):
        return Linear(nothing, (unit.attrs["lo"], unit.attrs["hi"]))
    if unit.op == "scale":
        slope = unit.attrs["factor"]
    elif unit.op in ("relu", "leaky_relu", "abs"):
        low, high = cone.span(argument.row)
        below = {"relu": ZERO, "abs": Fraction(-1)}.get(unit.op)
        below = unit.attrs["slope"] if below is None else below
        if low >= 0 and cone.least * low + argument.rest[0] >= 0:
            slope = Fraction(1)
        elif high <= 0 and cone.least * high + argument.rest[1] <= 0:
            slope = below
        elif not any(argument.row):
            kinks = [v for v in (*argument.rest, ZERO) if argument.rest[0] <= v <= argument.rest[1]]
            values = [v if v >= 0 else below * v for v in kinks]
            return Linear(nothing, (min(values), max(values)))
        else:
            raise CheckError("INEQUALITY", f"an argument of {unit.op} with one sign all over the cone", "either sign")
    else:
        raise CheckError("UNSUPPORTED", "operations that are linear or bounded on a cone", unit.op)
    return Linear([slope * v for v in argument.row], times(slope, argument.rest))


def on_cone(forms: AffineForms, n: int, given: list[Ends], cone: Cone) -> list[Linear]:
    """The outputs of a step on a cone, as linear functions of the state with bounded remainders."""
    units: list[Linear] = []

    def linear(row: list[int], exp: int) -> Linear:
        values = [dyadic(v, exp) for v in row]
        states, rest = values[1 : 1 + n], (values[0], values[0])
        for v, ends in zip(values[1 + n : forms.first], given, strict=True):
            rest = plus(rest, times(v, ends)) if v else rest
        for v, unit in zip(values[forms.first :], units, strict=False):
            if v:
                states = [p + v * q for p, q in zip(states, unit.row, strict=True)]
                rest = plus(rest, times(v, unit.rest))
        return Linear(states, rest)

    for unit, row in zip(forms.units, forms.arguments.rows, strict=True):
        units.append(_unit(unit, linear(row, forms.arguments.exp), cone))
    return [linear(row, forms.outputs.exp) for row in forms.outputs.rows]


def growth(graph: Graph, operator: Operator, domain: Tensor, cones: list[Cone]) -> Fraction:
    """The least factor by which the operator stretches, from each cone into the next, the last one into the first."""
    n = graph.size
    forms = affine_forms(graph, graph.step, evaluate(graph, graph.step, Tensor((n,)), domain))
    if len(forms.units) > MAX_UNITS:
        raise CheckError("LIMIT", f"at most {MAX_UNITS} units", len(forms.units))
    graph.charge(64 * len(cones) * n * (len(forms.units) * (len(forms.units) + n) + 3 * n * n))
    given = [domain.fraction(i) for i in range(graph.input_size)]
    alphas, factors = operator.alpha or (Fraction(1),) * n, []
    for cone, following in zip(cones, [*cones[1:], cones[0]], strict=True):
        images = on_cone(forms, n, given, cone)
        rows = [
            [alpha * v + (1 - alpha) * (i == j) for j, v in enumerate(image.row)]
            for i, (image, alpha) in enumerate(zip(images, alphas, strict=True))
        ]
        rests = [times(alpha, image.rest) for image, alpha in zip(images, alphas, strict=True)]
        found = []
        for inverse in following.rows:
            low, high = cone.span([product(inverse, list(column)) for column in zip(*rows, strict=True)])
            rest: Ends = (ZERO, ZERO)
            for v, ends in zip(inverse, rests, strict=True):
                rest = plus(rest, times(v, ends))
            found.append((low + min(rest[0], ZERO) / cone.least, high + max(rest[1], ZERO) / cone.least))
        factors.append(following.scale(found))
    return min(factors)


def divergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """From every start of a box the iterates run away for ever, along cones. Sound if: proofs/divergence.md."""
    none(premises)
    raw = document.fields(witness, "operator", "domain", "start", "steps", "least", "cones", where="divergence")
    graph, operator, domain = context.graph, context.operator(raw[0]), context.box(raw[1], "input")
    require_loop(operator)
    state, steps = context.box(raw[2], "state"), document.integer(raw[3], 0, MAX_STEPS, "steps")
    start, least = state, number(raw[4], "least")
    listed = document.items(raw[5], "cones")
    if not least > 0 or not 1 <= len(listed) <= MAX_CONES:
        raise CheckError("WITNESS", f"least > 0, and 1 to {MAX_CONES} cones", len(listed))
    if not start.bounded or not domain.bounded:
        raise CheckError("BOX", "bounded starts and inputs", "all of them")
    graph.charge(64 * len(listed) * graph.size**3)
    cones = [Cone.parse(each, graph.size, least) for each in listed]
    factor = growth(graph, operator, domain, cones)
    if not factor > 1:
        raise CheckError("INEQUALITY", "a factor above 1", factor)
    for _ in range(steps):
        state = apply(graph, operator, state, domain)
    ends = [state.fraction(i) for i in range(graph.size)]
    image: list[Ends] = []
    for row in cones[0].rows:
        total: Ends = (ZERO, ZERO)
        for v, each in zip(row, ends, strict=True):
            total = plus(total, times(v, each))
        image.append(total)
    if not cones[0].scale(image) >= least:
        raise CheckError("INCLUSION", "the iterate inside the first cone", "one that is not far enough out")
    return Refuted("convergence", domain, start, operator=operator)
