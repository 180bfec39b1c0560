"""Side conditions of the rules about invariant sets, convergence, answers and runs (R8, R9)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import (
    Answer,
    Contraction,
    Convergence,
    FixedPointAnswer,
    Invariant,
    Reached,
    Settled,
)  # fmt: skip
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import Operator, apply, difference
from trm_verify.kernel.rules.invariance import midpoint
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.contraction import bounds_of, gains_of, state_parts
from trm_verify.obligations.points import applied, point
from trm_verify.obligations.radius import RadiusPass
from trm_verify.obligations.scene import MOST_STEPS, Scene
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Script,
    Term,
    add,
    at_most,
    below,
    between,
    every,
    number,
    sub,
)


def _invariant(scene: Scene) -> Invariant:
    if not isinstance(scene.conclusion, Invariant):
        raise NotExported("no invariant set is stated")
    return scene.conclusion


def invariant_box(scene: Scene) -> None:
    """No state of the box leaves it, for any input of the domain."""
    done = _invariant(scene)
    states, inputs = scene.states(done.region), scene.inputs(done.domain)
    image = scene.image(done.operator, done.region, done.domain, states, inputs)
    scene.keep(image, done.region, "the image stays in the box")


def invariant_radius(scene: Scene) -> None:
    """|f(c, x) − c| + (radius pass of the half-widths) ≤ r, damped where the operator is."""
    done, graph, script = _invariant(scene), scene.graph, scene.script
    centre = midpoint(done.region)
    image = scene.image(done.operator, centre, done.domain, point(centre), scene.inputs(done.domain, "y"), "c")
    moved = difference(apply(graph, done.operator, centre, done.domain), centre)
    values = scene.values(
        graph.step, done.region, done.domain, scene.states(done.region), scene.inputs(done.domain)
    )  # fmt: skip
    radii = [number((high - low) / 2) for low, high in map(done.region.fraction, range(graph.size))]
    passed = RadiusPass(values, bounds_of(scene), gains_of(scene, done.region, done.domain))
    out = passed.outputs(passed.run(state_parts(scene, list(range(graph.size)), radii)), None)
    alphas = done.operator.alpha or (Fraction(1),) * graph.size
    for i, (value, radius, alpha) in enumerate(zip(out.values, radii, alphas, strict=True)):
        low, high = moved.fraction(i)
        away = max(-low, high)
        script.show(between(-away, sub(image[i], point(centre)[i]), away), "|T(c, x) − c|")
        rest = [script.mul(number(alpha), value), script.mul(number(1 - alpha), radius)]
        script.show(at_most(add([number(away), *rest]), radius), "|T(c, x) − c| + α·(radius pass) + (1 − α)r ≤ r")


def invariant_ball(scene: Scene) -> None:
    """N(T(c, x) − c) ≤ (1 − ρ)R, and the ball lies inside the contraction's region."""
    done, premise, script = _invariant(scene), scene.premises[0], scene.script
    if not isinstance(premise, Contraction) or done.ball is None:
        raise NotExported("a premise that is no contraction")
    norm, centre, radius = done.ball
    script.show(at_most(ZERO, number(radius)), "R ≥ 0")
    scene.inside(done.domain, premise.domain, "the domain lies in the contraction's")
    scene.ball_inside(norm, centre, number(radius), premise.region, "the ball lies in the contraction's region")
    residual = scene.residual(premise, done.domain, centre, "c")
    script.show(at_most(residual, number(radius)), "N(T(c) − c)/(1 − ρ) ≤ R")


def several_steps(scene: Scene) -> None:
    """m radius passes over the images of the region, which stay in it, take d to at most σᵐd."""
    done, graph, script = _convergence(scene), scene.graph, scene.script
    region, norm = done.region, done.norm
    if region is None or not isinstance(norm, BlockNorm):
        raise NotExported("no region, or a norm of another kind")
    steps = document.integer(scene.witness["steps"], 1, 64, "steps")
    bounds, rows = bounds_of(scene), gains_of(scene, region, done.domain)
    weights = [number(norm.weight(g)) for g in range(len(norm.sizes))]
    script.show(every([below(ZERO, d) for d in weights]), "the weights d are positive")
    script.show(every([below(ZERO, number(done.rate)), below(number(done.rate), ONE)]), "0 < σ < 1")
    inputs, box, values, constant = scene.inputs(done.domain), region, weights, done.constant
    for j in range(steps):
        most = [script.mul(number(constant * done.rate**j), d) for d in weights]
        script.show(
            every([at_most(*pair) for pair in zip(values, most, strict=True)]),
            "the radii after j < m steps are at most C·σʲd",
        )
        states = scene.states(box, f"z{j}.")
        found = scene.values(graph.step, box, done.domain, states, inputs, f"f{j}.")
        passed = RadiusPass(found, bounds, rows)
        after = passed.outputs(passed.run(state_parts(scene, norm.groups, values)), norm.groups).values
        values = _damped(script, done.operator, norm, values, after)
        if box.bounded or not done.operator.alpha:
            image = apply(graph, done.operator, box, done.domain)
            scene.keep(applied(script, done.operator.alpha, states, found.flat(), f"f{j}.next"), image, "the image")
            scene.inside(image, region, "the image lies in the region")
            box = image
    last = [script.mul(number(done.rate**steps), d) for d in weights]
    script.show(
        every([at_most(*pair) for pair in zip(values, last, strict=True)]), "the radii after m steps are at most σᵐd"
    )


def _damped(
    script: Script, operator: Operator, norm: BlockNorm, before: Sequence[Term], after: Sequence[Term]
) -> list[Term]:
    """max(1 − α)·r + max α·s in each group, as literals where both radii are."""
    if not operator.alpha:
        return list(after)
    mixed = []
    for g, (p, q) in enumerate(zip(before, after, strict=True)):
        own = [alpha for alpha, group in zip(operator.alpha, norm.groups, strict=True) if group == g]
        total = add([script.mul(number(max(1 - a for a in own)), p), script.mul(number(max(own)), q)])
        mixed.append(script.define("r", total))
    return mixed


def at_most_one(scene: Scene) -> None:
    """Nothing to compute: a contraction has at most one fixed point."""


def _with_invariance(scene: Scene) -> Invariant | None:
    contraction, *rest = scene.premises
    if not isinstance(contraction, Contraction):
        raise NotExported("a first premise that is no contraction")
    if not rest:
        if contraction.region.bounded:
            scene.script.show("false", "a local contraction needs an invariant set")
        return None
    invariant = rest[0]
    if not isinstance(invariant, Invariant):
        raise NotExported("a second premise that is no invariant set")
    if invariant.operator != contraction.operator:
        raise NotExported("an invariant set of another operator")
    scene.inside(invariant.domain, contraction.domain, "the invariant set's domain lies in the contraction's")
    scene.inside(invariant.region, contraction.region, "the invariant set lies in the contraction's region")
    return invariant


def exactly_one(scene: Scene) -> None:
    """The invariant set lies in the contraction's region."""
    _with_invariance(scene)


def convergence(scene: Scene) -> None:
    """The start lies in the invariant set, which lies in the contraction's region."""
    done = _convergence(scene)
    invariant = _with_invariance(scene)
    if invariant is None or done.start is None:
        return
    if invariant.ball is None:
        scene.inside(done.start, invariant.region, "the start lies in the invariant box")
        return
    norm, centre, radius = invariant.ball
    starts = scene.states(done.start, "s")
    moved = [sub(s, c) for s, c in zip(starts, point(centre), strict=True)]
    size = scene.norm_of(norm, moved, difference(done.start, centre), "N(start − c)")
    scene.script.show(at_most(size, number(radius)), "the start lies in the invariant ball")


def _convergence(scene: Scene) -> Convergence:
    if not isinstance(scene.conclusion, Convergence):
        raise NotExported("no convergence is stated")
    return scene.conclusion


def premise_of(scene: Scene) -> Convergence:
    premise = scene.premises[0]
    if not isinstance(premise, Convergence):
        raise NotExported("a premise that is no convergence")
    return premise


def _from_init(scene: Scene, premise: Convergence, domain: Tensor, centre: Tensor) -> tuple[Term, Term]:
    """Literals R ≥ N(c − z*) and A ≥ N(init(x) − c)."""
    initial, box = scene.initial(premise, domain)
    residual = scene.residual(premise, domain, centre, "c")
    moved = [sub(a, c) for a, c in zip(initial, point(centre), strict=True)]
    return residual, scene.norm_of(premise.norm, moved, difference(box, centre), "N(init(x) − c) has this bound")


def initial_bound(scene: Scene) -> None:
    """N(init(x) − c) + N(T(c) − c)/(1 − ρ) is at most the stated bound."""
    done, premise = _convergence(scene), premise_of(scene)
    residual, away = _from_init(scene, premise, done.domain, scene.context.state(scene.witness["center"]))
    if done.initial is not None:
        scene.script.show(at_most(add([away, residual]), number(done.initial)), "N(init(x) − z*) has the stated bound")


def later_radius(scene: Scene, premise: Convergence, domain: Tensor, centre: Tensor, steps: int) -> Fraction:
    """R + Cρᴷ(N(init(x) − c) + R)."""
    residual, away = _from_init(scene, premise, domain, centre)
    later = scene.script.mul(number(premise.constant), scene.power(premise.rate, steps), add([away, residual]))
    return scene.script.ceiling(add([residual, later]), "the radius of the ball").value or Fraction(0)


def answer_by_convergence(scene: Scene) -> None:
    """The margins hold on the ball in which all later iterates lie."""
    done, premise = _answer(scene), premise_of(scene)
    centre = scene.context.state(scene.witness["center"])
    radius = later_radius(scene, premise, done.domain, centre, done.steps)
    scene.ball_margins(premise.norm, centre, radius, scene.leads(done.answer), "g")


def _answer(scene: Scene) -> Answer:
    if not isinstance(scene.conclusion, Answer):
        raise NotExported("no answer is stated")
    return scene.conclusion


def followed(scene: Scene, operator: Operator, domain: Tensor, steps: int) -> Tensor:
    """Boxes that the first iterates lie in, each shown from the one before; the last one."""
    if steps > MOST_STEPS:
        raise NotExported(f"more than {MOST_STEPS} iterations")
    initial, box = scene.start(domain)
    scene.keep(initial, box, "init(x) lies in its box")
    inputs = scene.inputs(domain)
    for k in range(steps):
        after = apply(scene.graph, operator, box, domain)
        image = scene.image(operator, box, domain, scene.states(box, f"z{k}."), inputs, f"f{k}.")
        scene.keep(image, after, "each iterate lies in its box")
        box = after
    return box


def answer_by_invariance(scene: Scene) -> None:
    """K iterations end inside the invariant box, and the margins hold on it."""
    done, premise = _answer(scene), scene.premises[0]
    if not isinstance(premise, Invariant):
        raise NotExported("a premise that is no invariant box")
    scene.inside(done.domain, premise.domain, "the domain lies in the premise's")
    last = _reached(scene, done) if len(scene.premises) > 1 else followed(scene, done.operator, done.domain, done.steps)
    scene.inside(last, premise.region, "the iterate lies in the invariant box")
    scene.box_margins(premise.region, scene.leads(done.answer))


def _reached(scene: Scene, done: Answer) -> Tensor:
    """Where a premise says that the iterate lies."""
    found = scene.premises[1]
    if not isinstance(found, Reached) or found.operator != done.operator or found.steps != done.steps:
        raise NotExported("a second premise about another iterate")
    scene.inside(done.domain, found.domain, "the domain lies in that of the iterate")
    return found.box


def answer_when_settled(scene: Scene) -> None:
    """The iterate in which the loop settles, followed step by step, has these margins."""
    done, premise = _answer(scene), scene.premises[0]
    if not isinstance(premise, Settled) or (premise.operator, premise.steps) != (done.operator, done.steps):
        raise NotExported("a premise that is no recursion which settles there")
    scene.inside(done.domain, premise.domain, "the domain lies in the premise's")
    scene.box_margins(followed(scene, done.operator, done.domain, done.steps), scene.leads(done.answer))


def answer_at(scene: Scene) -> None:
    """The K-th iterate, followed step by step, has these margins."""
    done = _answer(scene)
    scene.box_margins(followed(scene, done.operator, done.domain, done.steps), scene.leads(done.answer))


def answer_by_fixed_point(scene: Scene) -> None:
    """Each margin at the fixed point is above reach · C ρᴷ N(init(x) − z*)."""
    done, loop, script = _answer(scene), premise_of(scene), scene.script
    answered = scene.premises[1]
    if not isinstance(answered, FixedPointAnswer) or answered.box is None or loop.region is None:
        raise NotExported("a premise that is no answer at located fixed points")
    scene.inside(loop.region, answered.region, "the loop's region lies in that of the fixed points")
    initial, box = scene.initial(loop, done.domain)
    fixed = scene.states(answered.box, "fixed")
    moved = [sub(a, z) for a, z in zip(initial, fixed, strict=True)]
    away = scene.norm_of(loop.norm, moved, difference(box, answered.box), "N(init(x) − z*) has this bound")
    later = script.mul(number(loop.constant), scene.power(loop.rate, done.steps), away)
    radius = script.ceiling(later, "the distance that is left")
    for margin, each in zip(answered.margins, scene.logit_reach(loop.norm, done.answer), strict=True):
        script.show(below(script.mul(radius, each), number(margin)), "the margin is above what the loop is still away")


def stated_epsilon(scene: Scene, done: Convergence, claim: Convergence) -> None:
    """C ρᴷ N0 bounds every coordinate by ε."""
    script = scene.script
    if claim.epsilon is None or claim.steps is None:
        return
    if done.initial is None:
        script.show("false", "a bound on the start")
        return
    reached = script.mul(number(done.constant), scene.power(done.rate, claim.steps), number(done.initial))
    literal = script.ceiling(reached, "what is left after K steps")
    for each in dict.fromkeys(scene.spread(done.norm)):
        script.show(at_most(script.mul(literal, each), number(claim.epsilon)), "every coordinate is within ε")
