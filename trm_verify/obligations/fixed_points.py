"""Side conditions of the rules about fixed points (R5 to R7): z = f(z, x) is written out, and a counterexample sought.

What a premise says of all fixed points is assumed, and has a script of its own; trees and multipliers are not used at
all, so a solver's answer owes nothing to weak duality.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    Convergence,
    FixedPointAnswer,
    FixedPointAt,
    FixedPoints,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.context import numbers
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.operators import difference
from trm_verify.kernel.relaxation import slaved_states
from trm_verify.kernel.rules.fixed_points import distance
from trm_verify.kernel.spans import forms_over, scale_of
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import PIECEWISE, Interval, table
from trm_verify.obligations.contraction import implicit_matrix
from trm_verify.obligations.points import piecewise, point
from trm_verify.obligations.scene import LARGE, Scene
from trm_verify.obligations.terms import (
    ZERO,
    NotExported,
    Script,
    Term,
    absolute,
    add,
    at_most,
    below,
    between,
    equal,
    every,
    number,
    some,
    sub,
)
from trm_verify.obligations.values import Refinement

PREMISE = "what the premise says of all fixed points in its region, which has a script of its own"


class Model:
    """The step at one state and input, with its units, over what is known."""

    def __init__(
        self, scene: Scene, region: Tensor, domain: Tensor, scale: tuple[Fraction, ...] | None,
        known: Sequence[Interval], name: str = "z",
    ) -> None:  # fmt: skip
        graph = scene.graph
        self.scene, self.forms = scene, forms_over(graph, domain, region, scale)
        self.slaved = slaved_states(self.forms)
        self.states, self.inputs = scene.states(region, name), scene.inputs(domain, f"{name}.x")
        moved = {} if scale is None else {self.slaved[i]: (a, self.states[i]) for i, a in enumerate(scale) if a != 1}
        refinement = Refinement(known, moved)
        self.values = scene.values(graph.step, region, domain, self.states, self.inputs, f"{name}.f", refinement)
        self.outputs = self.values.walk()
        self.units = self.values.units
        plain = all(self.outputs[i] == self.units[k].value for i, k in self.slaved.items())
        if [u.op for u in self.units] != [u.op for u in self.forms.units] or not plain:
            raise NotExported("units in another order than the exporter's")
        if moved:
            scene.script.facts["rescaling keeps fixed points (proofs/rescaling.md)"] += len(moved)

    def is_fixed(self) -> None:
        """Assume z = f(z, x)."""
        for z, image in zip(self.states, self.outputs, strict=True):
            self.scene.script.assume(equal(z, image))

    def assume_arguments(self, intervals: Sequence[Interval]) -> None:
        for unit, (low, high) in zip(self.units, intervals, strict=False):
            if unit.argument is not None:
                self.scene.script.assume(between(low, unit.argument, high))
                _chord(self.scene.script, unit.op, unit.argument, unit.value, (low, high))

    def show_arguments(self, intervals: Sequence[Interval], before: Sequence[Interval] = ()) -> None:
        for k, (unit, (low, high)) in enumerate(zip(self.units, intervals, strict=True)):
            if unit.argument is not None and not (k < len(before) and before[k] == (low, high)):
                what = "arguments of units lie in their intervals"
                self.scene.script.show(between(low, unit.argument, high), what)


def _chord(script: Script, op: str | None, a: Term, value: Term | None, interval: Interval) -> None:
    """A ReLU lies below its chord: implied, but a solver then needs fewer case distinctions."""
    low, high = interval
    if op == "relu" and value is not None and low is not None and high is not None and low < 0 < high:
        slope = high / (high - low)
        script.assume(at_most(value, add([script.mul(number(slope), a), number(-slope * low)])))


def _assumed(scene: Scene, known: FixedPoints) -> Model:
    """Some fixed point, about which the premise is true."""
    model = Model(scene, known.box, known.domain, known.scale, known.arguments)
    model.is_fixed()
    model.assume_arguments(known.arguments)
    scene.script.facts[PREMISE] += 1
    return model


def _fixed_points(conclusion: Conclusion | None) -> FixedPoints:
    if not isinstance(conclusion, FixedPoints):
        raise NotExported("fixed points are not what is stated")
    return conclusion


def fixed_points_in(scene: Scene) -> None:
    """At every fixed point of the region, the units' arguments lie in the stated intervals."""
    done = _fixed_points(scene.conclusion)
    model = Model(scene, done.region, done.domain, done.scale, done.arguments)
    model.is_fixed()
    model.show_arguments(done.arguments)


def duality(scene: Scene) -> None:
    """Every fixed point lies in the smaller box and within the smaller intervals."""
    done, known = _fixed_points(scene.conclusion), _fixed_points(scene.premises[0])
    model = _assumed(scene, known)
    scene.keep(model.states, done.box, "fixed points lie in the box")
    model.show_arguments(done.arguments, known.arguments)


def by_continuity(scene: Scene) -> None:
    """No fixed point touches the boundary of the box and intervals, and at one input it lies inside."""
    premise, witness, graph = scene.premises[0], scene.witness, scene.graph
    if not isinstance(premise, (Convergence, WellPosed)) or premise.region is None:
        raise NotExported("a premise that is no convergence or well-posed model")
    domain, box = scene.context.box(witness["domain"], "input"), scene.context.box(witness["region"], "state")
    scale = scale_of(witness["scale"], graph.size)
    ints, exp = document.vector(witness["input"], graph.input_size, "input")
    at, centre = Tensor((len(ints),), exp, ints, ints), scene.context.state(witness["center"])
    intervals: list[Interval] = list(
        zip(numbers(witness["lo"], None, "lo"), numbers(witness["hi"], None, "hi"), strict=True)
    )
    scene.inside(domain, premise.domain, "the domain lies in the premise's")
    scene.inside(box, premise.region, "the region lies in the premise's")
    scene.inside(at, domain, "the input lies in the domain")
    model = Model(scene, box, domain, scale, intervals)
    model.is_fixed()
    model.assume_arguments(intervals)
    _stays_inside(model, box, intervals)
    if isinstance(scene.conclusion, FixedPoints):
        scene.keep(model.states, scene.conclusion.box, "the fixed point lies in the box")
        model.show_arguments(scene.conclusion.arguments)
    near = _starts_near(scene, premise, at, centre)
    scene.inside(near, box, "at the one input, the fixed point lies inside the region")
    start = Model(scene, near, at, scale, (), "start")
    start.show_arguments(intervals)


def _stays_inside(model: Model, box: Tensor, intervals: Sequence[Interval]) -> None:
    """Strictly, what has an equation; a state that equals a unit, because the unit's values lie in its box."""
    script, what = model.scene.script, "a fixed point cannot touch the boundary"

    def show_strictly(term: Term, low: Fraction | None, high: Fraction | None) -> None:
        if low is None or high is None:
            raise NotExported("an interval without end")
        script.show(every([below(number(low), term), below(term, number(high))]), what)

    for i, z in enumerate(model.states):
        if i not in model.slaved:
            show_strictly(z, *box.fraction(i))
    for unit, interval in zip(model.units, intervals, strict=True):
        if unit.argument is not None:
            show_strictly(unit.argument, *interval)
    for i, k in model.slaved.items():
        (low, high), own = box.fraction(i), model.forms.units[k]
        if own.op is None:
            first, last = table(own, (None, None)).ends()
            strictly = below if own.varies else at_most
            if first is None or last is None:
                raise NotExported("an unbounded unit")
            script.show(every([strictly(number(low), number(first)), strictly(number(last), number(high))]), what)
            continue
        free = script.variable(f"free{k}")
        script.assume(between(intervals[k][0], free, intervals[k][1]))
        value = _unit_value(script, own, free, intervals[k])
        script.show(between(low, value, high), "a state's own unit has its values in the state's interval")


def _unit_value(script: Script, unit: Unit, a: Term, interval: Interval) -> Term:
    """φ at a free argument in the interval."""
    if unit.op == "scale":
        return script.mul(number(unit.attrs["factor"]), a)
    if unit.op in PIECEWISE:
        return piecewise(script, "free.value", unit.op, unit.attrs, a)
    ends, value = table(unit, interval).ends(), script.variable("free.value")
    script.assume(between(ends[0], value, ends[1]), f"enclosures of {unit.op} on an interval")
    return value


def _starts_near(scene: Scene, premise: Convergence | WellPosed, at: Tensor, centre: Tensor) -> Tensor:
    """A box around the centre that holds the fixed point at one input: the kernel's, shown again."""
    near, script, graph = distance(scene.graph, premise, at, centre), scene.script, scene.graph
    if isinstance(premise, Convergence):
        radius = scene.residual(premise, at, centre, "c")
        scene.ball_inside(premise.norm, centre, radius, near, "the ball about the centre lies in this box")
        return near
    if premise.slack is None:
        raise NotExported("a log-norm model: its convergence is cited instead")
    image = scene.values(graph.step, centre, at, point(centre), point(at), "c").flat()
    moved = difference(step(graph, centre, at), centre)
    sizes = []
    for i, (term, own) in enumerate(zip(image, point(centre), strict=True)):
        low, high = moved.fraction(i)
        most = max(-low, high)
        sizes.append(number(most))
        script.show(between(-most, sub(term, own), most), "the residual at the centre")
    w = implicit_matrix(scene, premise.domain)
    images = [add([script.mul(absolute(v), m) for v, m in zip(row, sizes, strict=True)]) for row in w]
    error, other = script.length(sizes, LARGE), script.length([script.define("we", t) for t in images], LARGE)
    m = number(premise.slack)
    for i in range(graph.size):
        low, high = near.fraction(i)
        reach = number(min(high - centre.fraction(i)[1], centre.fraction(i)[0] - low))
        reached = add([script.mul(m, error), other])
        script.show(at_most(reached, script.mul(m, reach)), "‖e‖ + ‖We‖/m is at most the box's half-width")
    return near


def fixed_point_answer(scene: Scene) -> None:
    """At every fixed point each logit difference is at least its stated margin, which is positive."""
    known = _fixed_points(scene.premises[0])
    model, script = _assumed(scene, known), scene.script
    if not known.exists:
        raise NotExported("a premise that may be about no fixed point")
    values = scene.values(scene.readout(), known.box, known.domain, model.states, [], "g", Refinement())
    logits = values.walk()
    done = scene.conclusion
    if not isinstance(done, FixedPointAnswer):
        raise NotExported("no answer is stated")
    margins = [number(m) for m in done.margins]
    for k, (own, other) in enumerate(scene.competitors(done.answer)):
        apart, what = sub(logits[own], logits[other]), "the answer's logit is the largest at every fixed point"
        script.show(
            every([at_most(margins[k], apart), below(ZERO, margins[k])]) if margins else below(ZERO, apart), what
        )


def exhibited(scene: Scene) -> None:
    """The fixed point at hand lies in the region; where it is said to be the only one, every other one equals it."""
    known, at = scene.premises
    done = _fixed_points(scene.conclusion)
    if not isinstance(known, FixedPoints) or not isinstance(at, FixedPointAt):
        raise NotExported("other premises")
    script = scene.script
    for i, x in enumerate(at.x):
        script.show(_in(known.domain, i, number(x)), "the premise is about the input of the fixed point")
        script.show(equal(*map(number, known.domain.fraction(i))), "the premise is about one input")
    for i, own in enumerate(at.z):
        script.show(_in(known.region, i, number(own)), "the fixed point lies in the region")
    if done.unique and not known.unique:
        model = _assumed(scene, known)
        for z, own in zip(model.states, at.z, strict=True):
            script.show(equal(z, number(own)), "every fixed point of the region is this one")


def no_fixed_point(scene: Scene) -> None:
    """There is no fixed point in the region."""
    _assumed(scene, _fixed_points(scene.premises[0]))
    scene.script.show("false", "there is no such fixed point")


def _in(box: Tensor, i: int, x: Term) -> str:
    low, high = box.fraction(i) if box.bounded else (None, None)
    return between(low, x, high)


def joined_domains(scene: Scene) -> None:
    """Every input of the joined box lies in one of the two."""
    a, b = scene.premises
    done = scene.conclusion
    if not isinstance(done, (Answer, FixedPointAnswer)) or not isinstance(a, (Answer, FixedPointAnswer)):
        raise NotExported("no answer is stated")
    inputs = scene.inputs(done.domain)
    parts = [
        every([_in(p.domain, i, x) for i, x in enumerate(inputs)])
        for p in (a, b) if isinstance(p, (Answer, FixedPointAnswer))
    ]  # fmt: skip
    scene.script.show(some(parts), "every input lies in one of the two boxes")
    if isinstance(done, FixedPointAnswer) and isinstance(a, FixedPointAnswer) and isinstance(b, FixedPointAnswer):
        for margin, *own in zip(done.margins, a.margins, b.margins, strict=True):
            least = every([at_most(number(margin), number(m)) for m in own])
            scene.script.show(least, "each margin is the smaller one")
