"""What a step states, read off its fields when the kernel refuses it.

A second opinion has to be possible about refused steps too. Rules that conclude what they compute state nothing then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import (
    Answer,
    Commits,
    Conclusion,
    Contraction,
    Convergence,
    FixedPointAnswer,
    FixedPointAt,
    FixedPoints,
    Gain,
    Invariant,
    Refuted,
    Settled,
    Spectral,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.context import Context, Witness, number, numbers
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dot, dyadic
from trm_verify.kernel.operators import PICARD, Operator, parse_operator
from trm_verify.kernel.rules.refutation import _rationals
from trm_verify.kernel.rules.row_gains import _place
from trm_verify.kernel.rules.triangular import parse_runs
from trm_verify.kernel.rules.wellposed import PROJECTIONS, _implicit_form
from trm_verify.kernel.tensor import Tensor

Stated = Callable[[Context, list[Conclusion], Witness], Conclusion | None]


def _spectral(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    return Spectral(document.integer(witness["matrix"], 0, 1 << 40, "matrix"), number(witness["sigma"], "sigma"))


def _row_gain(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain, region = context.box(witness["domain"], "input"), context.box(witness["region"], "state")
    places = [_place(place, len(context.graph.step.nodes)) for place in witness["places"]]
    return Gain(domain, region, tuple(places), tuple(numbers(witness["gains"], None, "gains")))


def _triangular(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    runs = parse_runs(witness["parts"], context.graph.size)
    domain, everywhere = context.box(witness["domain"], "input"), Tensor((context.graph.size,))
    return Settled(PICARD, domain, max(part for _, part in runs), everywhere, runs)


def _contraction(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain, region = context.box(witness["domain"], "input"), context.box(witness["region"], "state")
    return Contraction(PICARD, domain, region, context.norm(witness["norm"]), number(witness["rate"], "rate"))


def _monotone(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain = context.box(witness["domain"], "input")
    rows, exp, ops = _implicit_form(context, domain)
    slack, everywhere = number(witness["m"], "m"), Tensor((context.graph.size,))
    return WellPosed(domain, everywhere, slack=slack, matrix=(rows, exp), projection=ops <= PROJECTIONS)


def _log_norm(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain, n = context.box(witness["domain"], "input"), context.graph.size
    rows, exp, _ = _implicit_form(context, domain)
    d, d_exp = document.vector(witness["vector"], n, "vector")
    measures = tuple(
        dyadic(row[i], exp) + dot(map(abs, row), d) * dyadic(1, exp) / d[i]
        - abs(dyadic(row[i], exp)) for i, row in enumerate(rows)
    )  # fmt: skip
    norm = BlockNorm((1,) * n, tuple(d), d_exp)
    diagonal = tuple(dyadic(row[i], exp) for i, row in enumerate(rows))
    return WellPosed(domain, Tensor((n,)), diagonal=diagonal, measures=measures, norm=norm)


def _monotone_convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    return _well_posed(context, premises, Operator("inner_damped", (number(witness["alpha"], "alpha"),)), witness)


def _log_norm_convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    return _well_posed(
        context, premises, parse_operator({"outer_damped": witness["alpha"]}, context.graph.size), witness
    )


def _well_posed(
    context: Context, premises: list[Conclusion], operator: Operator, witness: Witness
) -> Conclusion | None:
    (premise,) = premises
    if not isinstance(premise, WellPosed):
        return None
    everywhere, n = Tensor((context.graph.size,)), context.graph.size
    norm = premise.norm or BlockNorm((n,), (1,), 0)
    rate = number(witness["rate"], "rate")
    return Convergence(operator, premise.domain, everywhere, norm, Fraction(1), rate, region=everywhere)


def _invariant(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain, region = context.box(witness["domain"], "input"), context.box(witness["region"], "state")
    return Invariant(context.operator(witness["operator"]), domain, region)


def _ball(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    (premise,) = premises
    if not isinstance(premise, Contraction):
        return None
    ball = premise.norm, context.state(witness["center"]), number(witness["radius"], "radius")
    return Invariant(premise.operator, context.box(witness["domain"], "input"), premise.region, ball)


def _convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    first = premises[0]
    if not isinstance(first, Contraction):
        return None
    start, domain = context.box(witness["start"], "state"), getattr(premises[-1], "domain", first.domain)
    return Convergence(first.operator, domain, start, first.norm, Fraction(1), first.rate, region=first.region)


def _initial_bound(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    (premise,) = premises
    if not isinstance(premise, Convergence):
        return None
    return replace(premise, domain=context.box(witness["domain"], "input"), start=None, initial=None)


def _enclosure(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    domain, region = context.box(witness["domain"], "input"), context.box(witness["region"], "state")
    return FixedPoints(domain, region, region, exists=True, unique=witness["unique"] is True)


def _fixed_point_answer(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    (premise,) = premises
    if not isinstance(premise, FixedPoints):
        return None
    return FixedPointAnswer(premise.domain, premise.region, context.answer(witness["answer"]), (), premise.box)


def _answer_by_fixed_point(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    loop, answered = premises
    if not isinstance(loop, Convergence) or not isinstance(answered, FixedPointAnswer):
        return None
    steps = document.integer(witness["steps"], 0, 10**12, "steps")
    return Answer(loop.operator, answered.domain, answered.answer, steps)


def _no_fixed_point(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    (premise,) = premises
    return Refuted("exactly_one", premise.domain, premise.region) if isinstance(premise, FixedPoints) else None


def _fixed_point_at(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    x = _rationals(witness["input"], context.graph.input_size, "input")
    return FixedPointAt(tuple(x), tuple(_rationals(witness["state"], context.graph.size, "state")))


def _answer(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    operator = getattr(premises[0], "operator", None) if premises else context.operator(witness["operator"])
    if not isinstance(operator, Operator):
        return None
    steps = document.integer(witness["steps"], 0, 10**12, "steps")
    answer = context.answer(witness["answer"])
    return Answer(operator, context.box(witness["domain"], "input"), answer, steps, at=not premises)


def _commits(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion | None:
    operator = getattr(premises[0], "operator", None)
    if not isinstance(operator, Operator):
        return None
    committed = tuple(int(r) for r in witness["committed"])
    domain, answer = context.box(witness["domain"], "input"), context.answer(witness["answer"])
    steps = document.integer(witness["steps"], 0, 10**12, "steps")
    return Commits(
        operator, domain, answer, committed, steps, number(witness["threshold"], "threshold"), witness["blank"]
    )


STATED: dict[str, Stated] = {
    "spectral": _spectral, "spectral_abs": _spectral, "radius_contraction": _contraction,
    "row_gain": _row_gain,
    "triangular": _triangular,
    "metric_contraction": _contraction, "monotone": _monotone, "monotone_convergence": _monotone_convergence,
    "log_norm_convergence": _log_norm_convergence, "invariant_box": _invariant, "invariant_radius": _invariant,
    "invariant_ball": _ball, "convergence": _convergence, "answer_by_convergence": _answer,
    "answer_by_invariance": _answer,
    "commits": _commits, "answer_at": _answer, "log_norm": _log_norm, "initial_bound": _initial_bound,
    "enclosure": _enclosure, "fixed_point_answer": _fixed_point_answer, "no_fixed_point": _no_fixed_point,
    "answer_by_fixed_point": _answer_by_fixed_point, "fixed_point_at": _fixed_point_at,
}  # fmt: skip
