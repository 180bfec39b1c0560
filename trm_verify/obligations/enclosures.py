"""Side conditions of R5: a preconditioned map takes a box into itself; and what follows from one fixed point there."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import (
    AtMostOne,
    Convergence,
    ExactlyOne,
    FixedPoints,
    Reached,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.context import numbers
from trm_verify.kernel.cycles import unrolled_graph
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import ACTIVATIONS, STATE, Graph, Node
from trm_verify.kernel.numbers import dyadic, rows_of
from trm_verify.kernel.relaxation import slaved_states
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.spans import forms_over, scale_of
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.kernel.units import Interval
from trm_verify.obligations.fixed_points import Model
from trm_verify.obligations.forms import Row
from trm_verify.obligations.reduction import Reduction
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Term,
    add,
    at_most,
    below,
    every,
    larger,
    negative,
    number,
    smaller,
    some,
    sub,
)
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import Walker, part_of_state


def enclosure(scene: Scene) -> None:
    """z + Y(f(z, x) − z) stays strictly inside the box, and in the box that is concluded."""
    witness, graph = scene.witness, scene.graph
    domain, region = scene.context.box(witness["domain"], "input"), scene.context.box(witness["region"], "state")
    scale = scale_of(witness["scale"], graph.size)
    done = scene.conclusion if isinstance(scene.conclusion, FixedPoints) and scene.conclusion.arguments else None
    scene.script.facts["Brouwer's theorem"] += 1
    if scene.large:
        _by_reduction(scene, domain, region, scale, done)
        return
    model = Model(scene, region, domain, scale, () if done is None else done.arguments)
    image = preconditioned(scene, witness["matrix"], model.states, model.outputs)
    strictly_inside(scene, image, region)
    if done is not None:
        scene.keep(image, done.box, "the image lies in the concluded box")
        model.show_arguments(done.arguments)
    if witness["unique"]:
        _unique(scene, model, region, [(None, None)] * len(model.units) if done is None else done.arguments)


def _by_reduction(
    scene: Scene, domain: Tensor, region: Tensor, scale: tuple[Fraction, ...] | None, done: FixedPoints | None
) -> None:  # fmt: skip
    """The same by computation alone, each unit as a line and what is left of it."""
    reduced = reduction_of(scene, scene.graph, domain, region, scale)
    images = reduced_images(scene, reduced)
    image = [reduced.term(row) for row in images]
    strictly_inside(scene, image, region)
    if done is not None:
        scene.keep(image, done.box, "the image lies in the concluded box")
        for (low, high), (first, last) in zip(reduced.arguments, done.arguments, strict=True):
            pairs = [(first, low), (high, last)]
            ends = [at_most(number(p), number(q)) for p, q in pairs if p is not None and q is not None]
            scene.script.show(every(ends), "arguments of units lie in their intervals")
    if scene.witness["unique"]:
        half = [(high - low) / 2 for low, high in map(region.fraction, range(region.size))]
        spreads = reduced.spreads(half)
        for row, size in zip(images, half, strict=True):
            what = "the map contracts between any two points of the box"
            scene.script.show(below(reduced.reach(row, half, spreads), number(size)), what)


def reduction_of(
    scene: Scene, graph: Graph, domain: Tensor, region: Tensor, scale: tuple[Fraction, ...] | None = None
) -> Reduction:  # fmt: skip
    """A step over region × domain, with the slopes of the witness."""
    scene.script.by_intervals = True
    ranges = evaluate(graph, graph.step, region, domain)
    values = Values(scene.script, graph, graph.step, scene.states(region), scene.inputs(domain), ranges)
    values.defined()
    moved: dict[int, tuple[Fraction, int]] = {}
    if scale is not None:
        own = slaved_states(forms_over(graph, domain, region, scale))
        moved = {own[i]: (factor, i) for i, factor in enumerate(scale) if factor != 1}
    slopes = numbers(scene.witness["slopes"], None, "slopes")
    return Reduction(values, [*_ends(region), *_ends(domain)], slopes, moved)


def _ends(box: Tensor) -> list[Interval]:
    return [box.fraction(i) if box.bounded else (None, None) for i in range(box.size)]


def reduced_images(scene: Scene, reduced: Reduction) -> list[Row]:
    """z + Y(f − z) as rows."""
    outputs = reduced.flat()
    n = len(outputs)
    ints, exp = document.vector(scene.witness["matrix"], n * n, "matrix")
    minus = negative(ONE)
    rest = [reduced.combine("residual", [(ONE, f), (minus, {1 + i: ONE})]) for i, f in enumerate(outputs)]
    found = []
    for i, row in enumerate(rows_of(ints, n)):
        moved = [(number(dyadic(y, exp)), r) for y, r in zip(row, rest, strict=True)]
        found.append(reduced.combine("image", [(ONE, {1 + i: ONE}), *moved]))
    return found


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


def reach(scene: Scene) -> None:
    """K applications of the operator from init(x), affine in x and what is left of each unit, end in the stated box."""
    done, graph = scene.conclusion, scene.graph
    if not isinstance(done, Reached):
        raise NotExported("no iterate is stated")
    unrolled = unrolled_graph(graph, done.operator, done.steps)
    reduced = reduction_of(scene, unrolled, done.domain, Tensor((graph.size,)))
    scene.keep([reduced.term(row) for row in reduced.flat()], done.box, "the iterate lies in the stated box")


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
