"""R7 and R9: the answer at every fixed point, by case split; from there the answer of a loop, or on a larger box."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, forms_of, joined
from trm_verify.kernel.bounding import TREES, Bounding
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    Convergence,
    FixedPointAnswer,
    FixedPoints,
    Refuted,
)  # fmt: skip
from trm_verify.kernel.context import Context, Witness, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.linear import Form, is_plain, linear_forms, require_activations
from trm_verify.kernel.norms import Norm
from trm_verify.kernel.numbers import dyadic, power_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.relaxation import Functional, Leaf, System, system_of
from trm_verify.kernel.rules.invariance import from_init
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.spans import forms_over, interval_arguments
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.kernel.units import Interval


def with_readout(graph: Graph, known: FixedPoints) -> tuple[System, list[Interval], Form]:
    """Step and readout as one system: (system, intervals of all arguments, rows of the logits in its columns)."""
    if graph.readout is None:
        raise CheckError("UNSUPPORTED", "a model with a readout", "none")
    graph.charge(graph.readout.cost)
    step = forms_over(graph, known.domain, known.box, known.scale)
    readout = forms_of(graph, graph.readout, known.box, known.domain)

    def both() -> tuple[AffineForms, System, Form]:
        forms, logits = joined(step, readout)
        system = system_of(graph, forms)
        return readout, system, Form([system.reduced(row) for row in logits.rows], logits.exp)

    # kept with the readout, whose id is the key; one that is made anew each time would be kept each time
    plain = is_plain(graph.readout)
    _, system, logits = step.once(("readout", id(readout)), both) if plain else both()
    return system, interval_arguments(system, known.domain, known.box, known.arguments), logits


def competitors(graph: Graph, answer: tuple[int, ...]) -> list[tuple[int, int]]:
    """(row of the label, row of the other) among the flattened logits, position by position."""
    if graph.readout is None:
        raise CheckError("UNSUPPORTED", "a model with a readout", "none")
    classes = graph.readout.nodes[graph.readout.outputs[0]].shape[-1]
    return [
        (position * classes + label, position * classes + other)
        for position, label in enumerate(answer)
        for other in range(classes)
        if other != label
    ]


def fixed_point_answer(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Every logit difference is positive at every fixed point. Sound if: proofs/fixed_point_answer.md."""
    known = only(premises, FixedPoints)
    raw_answer, *raw = document.fields(witness, "answer", *TREES, where="fixed_point_answer")
    if not known.exists:
        raise CheckError("PREMISE", "fixed points that are shown to exist", "a premise that may be empty")
    graph, answer = context.graph, context.answer(raw_answer)
    system, arguments, logits = with_readout(graph, known)
    pairs = competitors(graph, answer)
    functionals = [
        Functional([p - q for p, q in zip(logits.rows[own], logits.rows[other], strict=True)], logits.exp)
        for own, other in pairs
    ]
    task = Bounding(graph, known, system, arguments)
    margins = [least for least, _ in task.batch(functionals, [Leaf({}, {})] * len(functionals), raw)]
    for (own, other), bound, empty in zip(pairs, margins, task.empty, strict=True):
        if empty or bound is None or bound <= 0:
            raise CheckError("MARGIN", f"logit {own} above logit {other} at every fixed point", bound)
    found = tuple(bound for bound in margins if bound is not None)
    return FixedPointAnswer(known.domain, known.region, answer, found, known.box)


def no_fixed_point(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Every leaf of a tree is empty, so there is no fixed point in the region. Sound if: proofs/no_fixed_point.md."""
    known = only(premises, FixedPoints)
    raw = document.fields(witness, *TREES, where="no_fixed_point")
    graph = context.graph
    system = system_of(graph, forms_over(graph, known.domain, known.box, known.scale))
    task = Bounding(graph, known, system, known.arguments)
    task.batch([Functional([0] * system.width, 0)], [Leaf({}, {})], raw)
    if not task.empty[0]:
        raise CheckError("INEQUALITY", "every leaf to be empty", "one that is not")
    return Refuted("exactly_one", known.domain, known.region)


def answer_by_fixed_point(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The margins at the fixed point outlast what the loop is still away from it.

    Sound if: proofs/answer_by_fixed_point.md.
    """
    (steps,) = document.fields(witness, "steps", where="answer_by_fixed_point")
    steps = document.integer(steps, 0, 10**12, "steps")
    if len(premises) != 2 or not isinstance(premises[0], Convergence) or not isinstance(premises[1], FixedPointAnswer):
        raise CheckError("PREMISE", "a convergence and a fixed-point answer", [type(p).__name__ for p in premises])
    loop, answered = premises[0], premises[1]
    if loop.region is None or not contains(answered.region, loop.region) or answered.box is None:
        raise CheckError("INCLUSION", "the fixed point of the loop among those that answer", "another region")
    graph, domain = context.graph, answered.domain
    away = loop.norm.bound(difference(from_init(graph, loop, domain), answered.box))
    radius = loop.constant * power_up(loop.rate, steps) * away
    reach = logit_reach(graph, loop.norm, competitors(graph, answered.answer))
    for margin, each in zip(answered.margins, reach, strict=True):
        if margin <= each * radius:
            raise CheckError("MARGIN", "margins above what the loop is still away", margin)
    return Answer(loop.operator, domain, answered.answer, steps)


def logit_reach(graph: Graph, norm: Norm, pairs: list[tuple[int, int]]) -> list[Fraction]:
    """Per pair of logits, how far their difference can move when the state moves by at most 1 in the norm."""
    if graph.readout is None:
        raise CheckError("UNSUPPORTED", "a model with a readout", "none")
    n = graph.size
    ranges = evaluate(graph, graph.readout, Tensor((n,)), Tensor((graph.input_size,)))
    forms = linear_forms(graph, graph.readout, ranges)
    require_activations(forms)
    moves: list[Fraction] = []

    def reach(row: list[int], exp: int) -> Fraction:
        units = sum((abs(v) * m for v, m in zip(row[n:], moves, strict=False)), Fraction(0))
        return norm.support(row[:n], exp) + units * dyadic(1, exp)

    for (node, _, _), row in zip(forms.units, forms.arguments.rows, strict=True):
        lo, hi, exp = slopes(graph.readout.nodes[node], Tensor((graph.readout.nodes[node].size,)))
        moves.append(max(-min(lo), max(hi)) * dyadic(1, exp) * reach(row, forms.arguments.exp))
    rows = forms.outputs.rows
    return [reach([p - q for p, q in zip(rows[a], rows[b], strict=True)], forms.outputs.exp) for a, b in pairs]


def joined_domains(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The same statement on two boxes that differ in one input only and meet there.

    Sound if: proofs/joined_domains.md.
    """
    document.fields(witness, where="joined_domains")
    if len(premises) != 2 or type(premises[0]) is not type(premises[1]):
        raise CheckError("PREMISE", "two premises of one kind", [type(p).__name__ for p in premises])
    a, b = premises
    if isinstance(a, Answer) and isinstance(b, Answer) and not a.at and not b.at:
        same = a.operator == b.operator and a.answer == b.answer
        merged: Conclusion = replace(a, domain=union(a.domain, b.domain), steps=max(a.steps, b.steps))
    elif isinstance(a, FixedPointAnswer) and isinstance(b, FixedPointAnswer):
        same = a.answer == b.answer and contains(a.region, b.region) and contains(b.region, a.region)
        margins = tuple(map(min, a.margins, b.margins))
        merged = FixedPointAnswer(union(a.domain, b.domain), a.region, a.answer, margins)
    else:
        raise CheckError("PREMISE", "answers, or answers at fixed points", type(a).__name__)
    if not same:
        raise CheckError("CONTEXT", "the same operator, region and answer", "another")
    return merged


def union(a: Tensor, b: Tensor) -> Tensor:
    """The union of two boxes that is itself a box."""
    if not a.bounded or not b.bounded or a.shape != b.shape:
        raise CheckError("BOX", "two bounded boxes of one space", "others")
    exp = min(a.exp, b.exp)
    (low, high), (lo, hi) = a.at(exp), b.at(exp)
    differ = [i for i in range(a.size) if (low[i], high[i]) != (lo[i], hi[i])]
    if len(differ) > 1 or any(max(low[i], lo[i]) > min(high[i], hi[i]) for i in differ):
        raise CheckError("INCLUSION", "boxes that differ in one coordinate and meet there", differ[:9])
    return Tensor(a.shape, exp, list(map(min, low, lo)), list(map(max, high, hi)))
