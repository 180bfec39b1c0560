"""Side conditions of refutations: exact witnesses, evaluated by the solver."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, FixedPointAt, FixedPoints, Refuted
from trm_verify.kernel.context import number as number_of
from trm_verify.kernel.context import numbers
from trm_verify.kernel.cycles import cycle_graph
from trm_verify.kernel.graph import Function
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import apply, difference
from trm_verify.kernel.rules.divergence import Cone, growth
from trm_verify.kernel.rules.enclosure import enclose
from trm_verify.kernel.rules.refutation import around
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.obligations.enclosures import preconditioned, reduced_images, reduction_of, strictly_inside
from trm_verify.obligations.points import literals, point
from trm_verify.obligations.scene import MOST_STEPS, Scene
from trm_verify.obligations.terms import (
    NotExported,
    Term,
    absolute,
    add,
    at_most,
    below,
    equal,
    every,
    negative,
    number,
    some,
    sub,
)
from trm_verify.obligations.values import Refinement


def _exact(scene: Scene, function: Function, z: Sequence[Fraction], x: Sequence[Fraction], name: str) -> list[Term]:
    return scene.values(function, around(z), around(x), literals(z), literals(x), name).flat()


def fixed_point_at(scene: Scene) -> None:
    """f(z, x) = z at this point, and the stated labels attain the largest logit."""
    done, script = scene.conclusion, scene.script
    if not isinstance(done, FixedPointAt):
        raise NotExported("no fixed point is stated")
    vocabulary = scene.graph.vocabulary
    if vocabulary is not None and not all(v.denominator == 1 and 0 <= v < vocabulary for v in done.x):
        raise NotExported("an input that is no admissible integer")
    images = _exact(scene, scene.graph.step, done.z, done.x, "f")
    for z, image in zip(literals(done.z), images, strict=True):
        script.show(equal(image, z), "f(z, x) = z")
    if scene.graph.readout is None or not done.labels:
        return
    logits = _exact(scene, scene.graph.readout, done.z, done.x, "g")
    classes = len(logits) // len(done.labels)
    for position, labels in enumerate(done.labels):
        row = logits[position * classes : (position + 1) * classes]
        best = row[labels[0]]
        same = [equal(row[k], best) if k in labels else below(row[k], best) for k in range(classes)]
        script.show(every(same), "exactly the stated labels attain the largest logit")


def _place(premise: Conclusion) -> tuple[Tensor, Tensor]:
    if isinstance(premise, FixedPointAt):
        return around(premise.x), around(premise.z)
    if isinstance(premise, FixedPoints) and premise.exists:
        return premise.domain, premise.box
    raise NotExported("premises that show no fixed point")


def two_fixed_points(scene: Scene) -> None:
    """The two fixed points belong to one input and are not the same."""
    a, b = scene.premises
    what = "the two fixed points differ in some coordinate"
    if isinstance(a, FixedPointAt) and isinstance(b, FixedPointAt):
        for p, q in zip(a.x, b.x, strict=True):
            scene.script.show(equal(number(p), number(q)), "both belong to one input")
        scene.script.show(some([f"(not {equal(number(p), number(q))})" for p, q in zip(a.z, b.z, strict=True)]), what)
        return
    (outer, first), (inner, second) = _place(a), _place(b)
    if any(isinstance(p, FixedPointAt) and not x.is_point for p, x in ((a, outer), (b, inner))):
        raise NotExported("an input that is no binary fraction, beside a box of inputs")
    scene.inside(inner, outer, "the second premise's inputs are among the first's")
    scene.script.show(_apart(first, second), what)


def _apart(a: Tensor, b: Tensor) -> str:
    pairs = [(a.fraction(i), b.fraction(i)) for i in range(a.size)]
    return some([side for p, q in pairs
                 for side in (below(number(p[1]), number(q[0])), below(number(q[1]), number(p[0])))])  # fmt: skip


def other_answer(scene: Scene) -> None:
    """At the fixed point, another label's logit is at least as large; labels themselves are compared by the kernel."""
    premise, script = scene.premises[0], scene.script
    if not isinstance(premise, FixedPointAt):
        return
    answer = scene.context.answer(scene.witness["answer"])
    logits = _exact(scene, scene.readout(), premise.z, premise.x, "g")
    script.show(
        some([at_most(logits[own], logits[other]) for own, other in scene.competitors(answer)]),
        "another logit is at least as large",
    )  # fmt: skip


def cycle(scene: Scene) -> None:
    """Z + Y(F(Z) − Z) stays strictly inside the boxes of the orbit, two of which are apart."""
    witness, graph = scene.witness, scene.graph
    operator, domain = scene.context.operator(witness["operator"]), scene.context.box(witness["domain"], "input")
    period, n = document.integer(witness["period"], 2, 64, "period"), graph.size
    lo, hi = (numbers(witness[key], period * n, key) for key in ("lo", "hi"))
    region = from_fractions(list(zip(lo, hi, strict=True)))
    whole = cycle_graph(graph, operator, period)
    if scene.large:
        reduced = reduction_of(scene, whole, domain, region)
        image = [reduced.term(row) for row in reduced_images(scene, reduced)]
    else:
        states, inputs = scene.states(region), scene.inputs(domain)
        images: list[Term] = []
        for copy in range(period):
            before = slice((copy - 1) % period * n, ((copy - 1) % period + 1) * n)
            box = from_fractions(list(zip(lo[before], hi[before], strict=True)))
            images += scene.image(operator, box, domain, states[before], inputs, f"f{copy}.", Refinement())
        image = preconditioned(scene, witness["matrix"], states, images)
    strictly_inside(scene, image, region)
    found = region
    if isinstance(scene.conclusion, Refuted):
        found = enclose(whole, domain, region, None, [witness["slopes"], witness["matrix"], False]).box
        scene.keep(image, found, "the orbit lies in the smaller boxes")
    parts = [from_fractions([found.fraction(k * n + i) for i in range(n)]) for k in range(period)]
    scene.script.show(some([_apart(parts[0], other) for other in parts[1:]]), "two boxes of the orbit are apart")
    scene.script.facts["Brouwer's theorem"] += 1


def expanding_pair(scene: Scene) -> None:
    """N(T(a) − T(b)) > rate · N(a − b)."""
    witness, graph, script = scene.witness, scene.graph, scene.script
    operator, domain = scene.context.operator(witness["operator"]), scene.context.box(witness["domain"], "input")
    norm, rate = scene.context.norm(witness["norm"]), number(number_of(witness["rate"], "rate"))
    if not isinstance(norm, BlockNorm):
        raise NotExported("a metric norm")
    a, b = scene.context.state(witness["first"]), scene.context.state(witness["second"])
    inputs, images, boxes = scene.inputs(domain), [], []
    for name, state in (("a", a), ("b", b)):
        images.append(scene.image(operator, state, domain, point(state), inputs, name))
        boxes.append(apply(graph, operator, state, domain))
    before = [sub(p, q) for p, q in zip(point(a), point(b), strict=True)]
    size = scene.norm_of(norm, before, difference(a, b), "N(a − b) has this bound")
    hint = difference(*boxes)
    least: list[Term] = []
    for i, (p, q) in enumerate(zip(*images, strict=True)):
        low, high = hint.fraction(i)
        least.append(number(max(low, -high, Fraction(0))))
        moved = script.define("moved", sub(p, q))
        script.show(
            some([at_most(least[-1], moved), at_most(moved, negative(least[-1]))]), "the images are so far apart"
        )
    start, larger = 0, []
    for g, count in enumerate(norm.sizes):
        weight = number(norm.weight(g))
        own = add([script.mul(v, v) for v in least[start : start + count]])
        larger.append(below(script.mul(rate, rate, size, size, weight, weight), own))
        start += count
    script.show(every([at_most(number(0), rate), some(larger)]), "some group is further apart than the rate allows")


def divergence(scene: Scene) -> None:
    """In coordinates of the next cone every image lies inside, further out; the start gets into the first cone."""
    witness, graph, script = scene.witness, scene.graph, scene.script
    if scene.large:
        raise NotExported("more states and inputs than a solver can choose values of")
    operator, domain = scene.context.operator(witness["operator"]), scene.context.box(witness["domain"], "input")
    least, n = number_of(witness["least"], "least"), graph.size
    cones = [Cone.parse(each, n, least) for each in document.items(witness["cones"], "cones")]
    factor = number(growth(graph, operator, domain, cones))
    script.show(every([below(number(0), number(least)), below(number(1), factor)]), "σ > 0, λ > 1")
    for cone in cones:
        script.show(every([at_most(number(0), number(r)) for r in cone.radii]), "radii are not negative")
        _invertible(scene, cone)
    for j, (cone, following) in enumerate(zip(cones, [*cones[1:], cones[0]], strict=True)):
        scale = script.variable(f"s{j}.", least)
        rest = [script.real(f"t{j}.") for _ in cone.radii]
        for t, r in zip(rest, cone.radii, strict=True):
            reach = script.mul(number(r), scale)
            script.assume(every([at_most(negative(reach), t), at_most(t, reach)]))
        states = [
            script.combine(f"z{j}.{i}", [(number(c[i]), v) for c, v in zip(cone.columns, [scale, *rest], strict=True)])
            for i in range(n)
        ]
        inputs = scene.inputs(domain, f"x{j}.")
        image = scene.image(operator, Tensor((n,)), domain, states, inputs, f"f{j}.")
        _inside(scene, following, image, script.mul(factor, scale), f"g{j}.")
    box = scene.context.box(witness["start"], "state")
    steps = document.integer(witness["steps"], 0, MOST_STEPS, "steps")
    for k in range(steps):
        after = apply(graph, operator, box, domain)
        inputs = scene.inputs(domain, f"y{k}.")
        image = scene.image(operator, box, domain, scene.states(box, f"b{k}."), inputs, f"h{k}.")
        scene.keep(image, after, "each iterate lies in its box")
        box = after
    _inside(scene, cones[0], scene.states(box, "last"), number(least), "first.")


def _invertible(scene: Scene, cone: Cone) -> None:
    """Every absolute row sum of NM − I is below 1: then M has an inverse, and every vector has coordinates."""
    for i, row in enumerate(cone.rows):
        sums = []
        for j, column in enumerate(cone.columns):
            entry = add([scene.script.mul(number(a), number(b)) for a, b in zip(row, column, strict=True)])
            sums.append(absolute(sub(entry, number(int(i == j)))))
        scene.script.show(below(add(sums), number(1)), "the absolute row sums of NM − I are below 1")


def _inside(scene: Scene, cone: Cone, point: Sequence[Term], least: Term, name: str) -> None:
    """The coordinates g of a point, M g = point, satisfy g_0 ≥ least and |g_i| ≤ r_i g_0."""
    script = scene.script
    found = [script.real(name) for _ in cone.columns]
    for i, each in enumerate(point):
        own = [(number(column[i]), g) for column, g in zip(cone.columns, found, strict=True)]
        script.assume(equal(script.combine(f"{name}m", own), each))
    script.show(at_most(least, found[0]), "images lie so far out along the axis of the cone")
    for g, r in zip(found[1:], cone.radii, strict=True):
        reach = script.mul(number(r), found[0])
        script.show(every([at_most(negative(reach), g), at_most(g, reach)]), "images lie inside the cone")
