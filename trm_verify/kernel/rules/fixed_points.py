"""R6: where the fixed points are. Bounds by weak duality, and an enclosure that follows by continuity."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.bounding import NAMES, Tightening, tightened
from trm_verify.kernel.claims import Conclusion, Convergence, FixedPoints, WellPosed
from trm_verify.kernel.context import Context, Witness, none, numbers, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dot, dyadic, less, sqrt_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.relaxation import (
    System,
    meet,
    system_of,
    within,
)  # fmt: skip
from trm_verify.kernel.rules.invariance import ball_box, residual_bound
from trm_verify.kernel.spans import forms_over, interval_arguments, scale_of
from trm_verify.kernel.tensor import Tensor, contains, from_fractions, shorter
from trm_verify.kernel.units import Interval

SPARE = 16  # bits of the smallest width of the box about a start: more would only make the check of it slow


def fixed_points_in(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Where R6 begins: all fixed points in a region, with what interval arithmetic knows of their units.

    Sound if: proofs/duality.md.
    """
    none(premises)
    raw = document.fields(witness, "domain", "region", "scale", where="fixed_points_in")
    domain, region = context.box(raw[0], "input"), context.box(raw[1], "state")
    scale = scale_of(raw[2], context.graph.size)
    forms = forms_over(context.graph, domain, region, scale)
    arguments = tuple(interval_arguments(system_of(context.graph, forms, merge=False), domain, region))
    arguments = _within_states(system_of(context.graph, forms), region, arguments)
    return FixedPoints(domain, region, region, arguments, scale)


def _within_states(system: System, region: Tensor, arguments: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """A unit that is a state has its values in the region."""
    if not region.bounded:
        return arguments
    found = list(arguments)
    for i, k in system.slaved.items():
        found[k] = within(system.units[k], found[k], *region.fraction(i)) or found[k]
    return tuple(found)


def duality(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R6 (with R7): bounds of states and arguments at fixed points, by weak duality. Sound if: proofs/duality.md."""
    known = only(premises, FixedPoints)
    raw = document.fields(witness, *NAMES, where="duality")
    task = Tightening(context.graph, forms_over(context.graph, known.domain, known.box, known.scale), known, raw)
    return tightened(known, task)


def by_continuity(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The one fixed point moves continuously with x and cannot cross a boundary that no fixed point may touch.

    Sound if: proofs/by_continuity.md.
    """
    premise = premises[0] if len(premises) == 1 else None
    if not isinstance(premise, (Convergence, WellPosed)):
        raise CheckError("PREMISE", "one premise: a convergence, or a well-posed model", type(premise).__name__)
    raw = document.fields(
        witness, "domain", "region", "scale", "input", "center", "lo", "hi", *NAMES, where="by_continuity"
    )
    graph, domain, box = context.graph, context.box(raw[0], "input"), context.box(raw[1], "state")
    if not contains(premise.domain, domain) or not domain.bounded or not box.bounded:
        raise CheckError("CONTEXT", "a bounded domain inside the premise's, and a bounded region", "another")
    if graph.vocabulary is not None and not domain.is_point:
        raise CheckError("CONTEXT", "a domain in one piece", "a box of integers")
    if premise.region is None or not contains(premise.region, box):
        raise CheckError("INCLUSION", "a region inside the premise's", "one that is not")
    scale = scale_of(raw[2], graph.size)
    ints, exp = document.vector(raw[3], graph.input_size, "input")
    at, centre = Tensor((len(ints),), exp, ints, ints), context.state(raw[4])
    if not contains(domain, at):
        raise CheckError("INCLUSION", "the input inside the domain", "another")
    forms = forms_over(graph, domain, box, scale)
    lo, hi = numbers(raw[5], len(forms.units), "lo"), numbers(raw[6], len(forms.units), "hi")
    if any(less(q, p) for p, q in zip(lo, hi, strict=True)):
        raise CheckError("WITNESS", "lo ≤ hi for every argument", "an inverted interval")
    known = FixedPoints(domain, premise.region, box, tuple(zip(lo, hi, strict=True)), scale, True, True)
    task = Tightening(graph, forms, known, raw[7:], proved=False)
    system = task.system
    strict = {(target, sign) for target, sign, end in task.ends if _is_inside(target, sign, end, known)}
    needed = [*system.kept, *(graph.size + k for k in system.active)]
    if missing := [t for t in needed if not {(t, 1), (t, -1)} <= strict]:
        raise CheckError("INCLUSION", "every state and argument strictly inside its interval", f"variable {missing[0]}")
    for i, k in system.slaved.items():
        (low, high), (first, last), unit = known.box.fraction(i), task.tables[k].ends(), system.units[k]
        if first is None or last is None or less(first, low) or less(high, last):
            raise CheckError("INCLUSION", "the values of a unit inside the box of its state", f"state {i}")
        if unit.op is None and unit.varies and (low == first or last == high):  # its range is known inside the box only
            raise CheckError("INCLUSION", "the values of such a unit strictly inside the box", f"state {i}")
    _require_start(graph, forms, premise, known, at, centre)
    return tightened(known, task)


def _is_inside(target: int, sign: int, end: Fraction, known: FixedPoints) -> bool:
    """Whether a new end lies strictly inside the interval of its variable."""
    n = known.box.size
    lo, hi = known.box.fraction(target) if target < n else known.arguments[target - n]
    if lo is None or hi is None:
        return False
    return less(lo, end) if sign > 0 else less(end, hi)


def distance(graph: Graph, premise: Convergence | WellPosed, at: Tensor, centre: Tensor) -> Tensor:
    """A box around the exact point `centre` that holds the fixed point for the single input `at`."""
    if isinstance(premise, Convergence):
        return ball_box(premise.norm, centre, residual_bound(graph, premise, at, centre))
    error = difference(step(graph, centre, at), centre)
    magnitude, exp = error.magnitude(), error.exp
    if premise.norm is None:  # monotone: ‖z − z*‖ ≤ ‖e‖ + ‖We‖/m
        if premise.slack is None:
            raise CheckError("PREMISE", "a monotone or a log-norm model", "neither")
        rows, w_exp = premise.matrix
        image = [dot(map(abs, row), magnitude) for row in rows]
        own, other = (sqrt_up(dot(v, v) * dyadic(1, 2 * e)) for v, e in ((magnitude, exp), (image, exp + w_exp)))
        radius = own + other / premise.slack
        return from_fractions([(c - radius, c + radius) for c, _ in map(centre.fraction, range(graph.size))])
    raise CheckError("UNSUPPORTED", "a monotone model, or a convergence", "a log-norm model: cite its convergence")


def _require_start(
    graph: Graph, forms: AffineForms, premise: Convergence | WellPosed, known: FixedPoints, at: Tensor, centre: Tensor
) -> None:
    """At one input the fixed point and its arguments lie inside."""
    near = shorter(distance(graph, premise, at, centre), SPARE)
    if not contains(known.box, near):
        raise CheckError("INCLUSION", "the fixed point at one input inside the region", "one that is not shown to be")
    # the forms over the whole domain, so that the units are the same
    system = system_of(graph, forms, merge=False)
    for k, (lo, hi) in enumerate(interval_arguments(system, at, near)):
        if system.units[k].op is None:
            continue
        outer = known.arguments[k]
        if meet(outer, (lo, hi)) != (lo, hi):
            raise CheckError("INCLUSION", "the arguments at one input inside their intervals", f"unit {k}")
