"""Refutations: exact witnesses that a claim is false. Each conclusion says: it fails for some x of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, affine_forms, require_small
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    FixedPointAnswer,
    FixedPointAt,
    FixedPoints,
    Refuted,
)  # fmt: skip
from trm_verify.kernel.context import Context, Witness, none, number, numbers
from trm_verify.kernel.cycles import cycle_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Function, Graph
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dyadic, rows_of
from trm_verify.kernel.operators import apply, difference
from trm_verify.kernel.rules.enclosure import enclose
from trm_verify.kernel.tensor import Tensor, contains, from_fractions
from trm_verify.kernel.units import PIECEWISE, value

MAX_PERIOD = 64


def _rationals(raw: object, size: int, where: str) -> list[Fraction]:
    """`size` numerators over one positive denominator."""
    require_small(size)
    above, below = document.fields(raw, "numerators", "denominator", where=where)
    denominator = number(below, where)
    if denominator <= 0:
        raise CheckError("WITNESS", "a positive denominator", denominator)
    return [v / denominator for v in numbers(above, size, where)]


def around(values: Sequence[Fraction]) -> Tensor:
    """The least box of short numbers that holds a rational point; the point itself if it is a binary fraction."""
    box = from_fractions([(v, v) for v in values])
    return Tensor(box.shape, box.exp, box.lo, box.lo) if box.lo == box.hi else box


def _exact(graph: Graph, function: Function, states: Sequence[Fraction], inputs: Sequence[Fraction]) -> list[Fraction]:
    """The outputs of a piecewise-linear function at one rational point."""
    ranges = evaluate(graph, function, around(states), around(inputs))
    forms: AffineForms = affine_forms(graph, function, ranges)
    known = [Fraction(1), *states, *inputs]

    def at(row: list[int], exp: int) -> Fraction:
        return sum((v * c for v, c in zip(row, known, strict=False) if v), Fraction(0)) * dyadic(1, exp)

    for unit, row in zip(forms.units, forms.arguments.rows, strict=True):
        if unit.range is not None and unit.range[0] == unit.range[1]:  # a row of a table, for example
            known.append(unit.range[0])
            continue
        if unit.op not in PIECEWISE:
            raise CheckError("UNSUPPORTED", "piecewise-linear operations at a rational point", unit.op)
        known.append(value(unit, at(row, forms.arguments.exp))[0])
    return [at(row, forms.outputs.exp) for row in forms.outputs.rows]


def fixed_point_at(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """f(z, x) = z, evaluated exactly at rational points. Sound if: proofs/fixed_point_at.md."""
    none(premises)
    raw_x, raw_z = document.fields(witness, "input", "state", where="fixed_point_at")
    graph = context.graph
    x, z = _rationals(raw_x, graph.input_size, "input"), _rationals(raw_z, graph.size, "state")
    if graph.vocabulary is not None and not all(v.denominator == 1 and 0 <= v < graph.vocabulary for v in x):
        raise CheckError("BOX", f"integers from 0 to {graph.vocabulary - 1}", "another input")
    if _exact(graph, graph.step, z, x) != z:
        raise CheckError("INEQUALITY", "f(z, x) = z exactly", "another value")
    labels: tuple[tuple[int, ...], ...] = ()
    if graph.readout is not None:
        logits = _exact(graph, graph.readout, z, x)
        classes = graph.readout.nodes[graph.readout.outputs[0]].shape[-1]
        rows = [logits[i : i + classes] for i in range(0, len(logits), classes)]
        labels = tuple(tuple(k for k, v in enumerate(row) if v == max(row)) for row in rows)
    return FixedPointAt(tuple(x), tuple(z), labels)


def _place(premise: Conclusion) -> tuple[Tensor, Tensor]:
    """(inputs for each of which there is a fixed point, the box that it lies in)."""
    if isinstance(premise, FixedPointAt):
        return around(premise.x), around(premise.z)
    if isinstance(premise, FixedPoints) and premise.exists:
        return premise.domain, premise.box
    raise CheckError("PREMISE", "fixed points that are shown to exist", type(premise).__name__)


def two_fixed_points(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Two fixed points for one input, in disjoint boxes. Sound if: proofs/two_fixed_points.md."""
    document.fields(witness, where="two_fixed_points")
    if len(premises) != 2:
        raise CheckError("PREMISE", "two premises", len(premises))
    a, b = premises
    (outer, first), (inner, second) = _place(a), _place(b)
    if isinstance(a, FixedPointAt) and isinstance(b, FixedPointAt):
        if a.x != b.x or a.z == b.z:
            raise CheckError("CONTEXT", "two fixed points of the same input", "one, or two inputs")
    elif any(isinstance(p, FixedPointAt) and not x.is_point for p, x in ((a, outer), (b, inner))):
        raise CheckError("CONTEXT", "an input that is a binary fraction, beside a box", "another rational")
    elif not contains(outer, inner):
        raise CheckError("CONTEXT", "the second premise's inputs among the first's", "others")
    elif not _disjoint(first, second):
        raise CheckError("INCLUSION", "disjoint boxes", "boxes that meet")
    return Refuted("at_most_one", inner, _hull([first, second]))


def _disjoint(a: Tensor, b: Tensor) -> bool:
    pairs = zip(map(a.fraction, range(a.size)), map(b.fraction, range(b.size)), strict=True)
    return any(p[1] < q[0] or q[1] < p[0] for p, q in pairs)


def _hull(boxes: Sequence[Tensor]) -> Tensor:
    ends = [[box.fraction(i) for box in boxes] for i in range(boxes[0].size)]
    return from_fractions([(min(lo for lo, _ in each), max(hi for _, hi in each)) for each in ends])


def other_answer(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """A fixed point, or all late iterates, where the claimed answer is not the strict one.

    Sound if: proofs/other_answer.md.
    """
    if len(premises) != 1:
        raise CheckError("PREMISE", "one premise", len(premises))
    (premise,) = premises
    (raw,) = document.fields(witness, "answer", where="other_answer")
    answer = context.answer(raw)
    if isinstance(premise, FixedPointAt):
        wrong = any(found != (label,) for found, label in zip(premise.labels, answer, strict=True))
        refuted = Refuted("fixed_point_answer", around(premise.x), around(premise.z), answer=answer)
    elif isinstance(premise, FixedPointAnswer):
        wrong = premise.answer != answer
        place = premise.region if premise.box is None else premise.box
        refuted = Refuted("fixed_point_answer", premise.domain, place, answer=answer)
    elif isinstance(premise, Answer) and not premise.at:
        wrong = premise.answer != answer
        refuted = Refuted("answer", premise.domain, operator=premise.operator, answer=answer)
    else:
        raise CheckError("PREMISE", "a fixed point, its answer, or the answer of a loop", type(premise).__name__)
    if not wrong:
        raise CheckError("MARGIN", "a position that does not strictly answer so", answer)
    return refuted


def cycle(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """A periodic orbit of the operator that is no fixed point: starts in the boxes do not all converge.

    Sound if: proofs/cycle.md.
    """
    none(premises)
    raw = document.fields(witness, "operator", "domain", "period", "lo", "hi", "slopes", "matrix", where="cycle")
    operator, domain = context.operator(raw[0]), context.box(raw[1], "input")
    period, n = document.integer(raw[2], 2, MAX_PERIOD, "period"), context.graph.size
    graph = cycle_graph(context.graph, operator, period)
    require_small(graph.size)
    lo, hi = numbers(raw[3], graph.size, "lo"), numbers(raw[4], graph.size, "hi")
    if any(p > q for p, q in zip(lo, hi, strict=True)):
        raise CheckError("BOX", "lo ≤ hi in every coordinate", "an inverted box")
    found = enclose(graph, domain, from_fractions(list(zip(lo, hi, strict=True))), None, [*raw[5:], False]).box
    low, high = (rows_of(end, n) for end in found.ends())
    boxes = [Tensor((n,), found.exp, a, b) for a, b in zip(low, high, strict=True)]
    if not any(_disjoint(boxes[0], other) for other in boxes[1:]):
        raise CheckError("INCLUSION", "two disjoint boxes of the orbit", "boxes that all meet the first")
    return Refuted("convergence", domain, boxes[0], operator=operator)


def expanding_pair(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Two states that the operator does not bring together at the rate. Sound if: proofs/expanding_pair.md."""
    none(premises)
    raw = document.fields(witness, "operator", "domain", "norm", "rate", "first", "second", where="expanding_pair")
    operator, domain, norm = context.operator(raw[0]), context.box(raw[1], "input"), context.norm(raw[2])
    rate = number(raw[3], "rate")
    a, b = context.state(raw[4]), context.state(raw[5])
    if not domain.is_point or not isinstance(norm, BlockNorm) or rate < 0:
        raise CheckError("CONTEXT", "a single input, a block norm and rate ≥ 0", norm.family)
    images = [apply(context.graph, operator, z, domain) for z in (a, b)]
    if not norm.exceeds(difference(*images), rate * norm.bound(difference(a, b))):
        raise CheckError("INEQUALITY", "images further apart than the rate allows", rate)
    return Refuted("contraction", domain, _hull([a, b]), operator, norm, rate)
