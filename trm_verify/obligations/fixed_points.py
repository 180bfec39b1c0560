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
    AtMostOne,
    Conclusion,
    Convergence,
    ExactlyOne,
    FixedPointAnswer,
    FixedPoints,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.context import numbers
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.graph import ACTIVATIONS, STATE, Node
from trm_verify.kernel.numbers import dyadic, rows_of
from trm_verify.kernel.operators import difference
from trm_verify.kernel.relaxation import slaved_states
from trm_verify.kernel.rules.fixed_points import distance, forms_over, scale_of
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.kernel.units import PIECEWISE, Interval, table
from trm_verify.obligations.contraction import implicit_matrix
from trm_verify.obligations.scene import LARGE, Scene
from trm_verify.obligations.terms import (
    ONE,
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
    larger,
    number,
    smaller,
    some,
    sub,
)
from trm_verify.obligations.values import Refinement, piecewise, point
from trm_verify.obligations.walker import Walker, part_of_state

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


# R5


def enclosure(scene: Scene) -> None:
    """z + Y(f(z, x) − z) stays strictly inside the box, and in the box that is concluded."""
    witness, graph = scene.witness, scene.graph
    domain, region = scene.context.box(witness["domain"], "input"), scene.context.box(witness["region"], "state")
    scale = scale_of(witness["scale"], graph.size)
    done = scene.conclusion if isinstance(scene.conclusion, FixedPoints) and scene.conclusion.arguments else None
    model = Model(scene, region, domain, scale, () if done is None else done.arguments)
    image = preconditioned(scene, witness["matrix"], model.states, model.outputs)
    strictly_inside(scene, image, region)
    if done is not None:
        scene.keep(image, done.box, "the image lies in the concluded box")
        model.show_arguments(done.arguments)
    if witness["unique"]:
        _unique(scene, model, region, [(None, None)] * len(model.units) if done is None else done.arguments)
    scene.script.facts["Brouwer's theorem"] += 1


def preconditioned(scene: Scene, raw: object, states: Sequence[Term], outputs: Sequence[Term]) -> list[Term]:
    """z + Y(f − z)."""
    n, script = len(states), scene.script
    ints, exp = document.vector(raw, n * n, "matrix")
    rest = [script.define("residual", sub(f, z)) for f, z in zip(outputs, states, strict=True)]
    return [
        script.combine("image", [(ONE, z), *((number(dyadic(y, exp)), r) for y, r in zip(row, rest, strict=True))])
        for z, row in zip(states, rows_of(ints, n), strict=True)
    ]


def strictly_inside(scene: Scene, image: Sequence[Term], region: Tensor) -> None:
    for i, term in enumerate(image):
        low, high = map(number, region.fraction(i))
        scene.script.show(every([below(low, term), below(term, high)]), "the image lies strictly inside the box")


class Differences(Walker[Term]):
    """The difference of two evaluations at one input: activations between their least and greatest slope."""

    zero = ZERO

    def __init__(self, model: Model, states: Sequence[Term], intervals: Sequence[Interval]) -> None:
        super().__init__(model.values.graph, model.values.function)
        self.model, self.script, self.states = model, model.scene.script, states
        self.ends = {u.place: interval for u, interval in zip(model.units, intervals, strict=True)}
        scale = model.values.refinement.scale if model.values.refinement is not None else {}
        which = {model.units[k].place: k for k in scale}
        owners = {k: i for i, k in model.slaved.items()}
        self.scaled = {place: (scale[k][0], states[owners[k]]) for place, k in which.items()}

    def name(self, i: int, entry: int) -> str:
        return f"d{i}.{entry}"

    def combine(self, name: str, pairs: Sequence[tuple[Term, Term]]) -> Term:
        return self.script.combine(name, pairs)

    def coefficients(self, i: int) -> list[Term] | None:
        return self.model.values.coefficients(i)

    def leaf(self, i: int, node: Node) -> list[Term]:
        return list(self.states[part_of_state(self.graph, node)]) if node.op == "state" else [ZERO] * node.size

    def operation(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        return super().operation(i, node, args) if node.kind == STATE else [ZERO] * node.size

    def nonlinear(self, i: int, node: Node, args: list[list[Term]]) -> list[Term]:
        if node.op in ACTIVATIONS:
            return [self._activation(i, entry, node, a) for entry, a in enumerate(args[0])]
        if node.op in ("max", "min"):
            return [self._between(i, entry, list(pair)) for entry, pair in enumerate(zip(*args, strict=True))]
        if node.op == "amax":
            width = self.nodes[node.args[0]].shape[-1]
            return [self._between(i, e, args[0][e * width : (e + 1) * width]) for e in range(node.size)]
        divisors = self.coefficients(node.args[1]) if node.op == "div" else None
        if divisors is None:
            raise NotExported(f"a state that meets {node.op}")
        inverses = [number(1 / b.value) for b in divisors if b.value]
        return [self.combine(self.name(i, e), [pair]) for e, pair in enumerate(zip(inverses, args[0], strict=True))]

    def _activation(self, i: int, entry: int, node: Node, a: Term) -> Term:
        script = self.script
        if (i, entry) in self.scaled:
            factor, z = self.scaled[i, entry]
            moved = add([script.mul(number(1 - factor), z), script.mul(number(factor), a)])
            a = script.define(f"scaled.d{i}.{entry}", moved)
        first, last = self.ends[i, entry]
        box = Tensor((1,)) if first is None or last is None else from_fractions([(first, last)])
        low, high, exp = slopes(Node(node.op, (0,), node.attrs, (1,), STATE), box)
        least, most = script.mul(number(dyadic(low[0], exp)), a), script.mul(number(dyadic(high[0], exp)), a)
        value = script.variable(self.name(i, entry))
        up, down = [at_most(least, value), at_most(value, most)], [at_most(most, value), at_most(value, least)]
        script.assume(some([every([at_most(ZERO, a), *up]), every([at_most(a, ZERO), *down])]), f"slopes of {node.op}")
        return value

    def _between(self, i: int, entry: int, terms: list[Term]) -> Term:
        """A maximum moves by something between what its arguments move by."""
        value, lowest, highest = self.script.variable(self.name(i, entry)), terms[0], terms[0]
        for term in terms[1:]:
            lowest, highest = smaller(lowest, term), larger(highest, term)
        fact = "a maximum moves between its arguments"
        self.script.assume(every([at_most(lowest, value), at_most(value, highest)]), fact)
        return value


def _unique(scene: Scene, model: Model, region: Tensor, intervals: Sequence[Interval]) -> None:
    """Two points at distance 1, in the norm whose unit ball has the box's shape, have images at distance below 1."""
    half = [(high - low) / 2 for low, high in map(region.fraction, range(region.size))]
    box = Tensor((region.size,), *_symmetric(half))
    states = scene.states(box, "dz")
    images = Differences(model, states, intervals).flat()
    moved = preconditioned(scene, scene.witness["matrix"], states, images)
    for term, size in zip(moved, half, strict=True):
        inside = every([below(number(-size), term), below(term, number(size))])
        scene.script.show(inside, "the map contracts between any two points of the box")


def _symmetric(half: Sequence[Fraction]) -> tuple[int, list[int], list[int]]:
    exp = min(1 - h.denominator.bit_length() for h in half)
    ints = [int(h / dyadic(1, exp)) for h in half]
    return exp, [-v for v in ints], ints


def located(scene: Scene) -> None:
    """The box of the second premise lies where the first one says that there is only one."""
    outer, inner = scene.premises
    if not isinstance(outer, (WellPosed, ExactlyOne, AtMostOne, Convergence, FixedPoints)) or outer.region is None:
        raise NotExported("a first premise that says nothing about how many fixed points there are")
    if not isinstance(inner, FixedPoints):
        raise NotExported("a second premise that locates no fixed point")
    scene.inside(inner.domain, outer.domain, "the domain lies in the first premise's")
    scene.inside(inner.box, outer.region, "the box lies in the first premise's region")
    if not inner.exists or (isinstance(outer, FixedPoints) and not (outer.unique or inner.unique)):
        raise NotExported("premises that do not show a fixed point, and one alone")
    if isinstance(outer, FixedPoints) and not outer.unique:
        scene.inside(outer.box, inner.region, "all fixed points lie where there is only one")


# answers


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


def no_fixed_point(scene: Scene) -> None:
    """There is no fixed point in the region."""
    _assumed(scene, _fixed_points(scene.premises[0]))
    scene.script.show("false", "there is no such fixed point")


def _in(box: Tensor, i: int, x: Term) -> str:
    low, high = box.fraction(i)
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
