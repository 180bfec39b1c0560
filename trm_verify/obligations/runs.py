"""Side conditions of the audits of one inference (R9)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Convergence, Invariant, Run, Settled
from trm_verify.kernel.operators import apply
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.obligations.loops import followed, premise_of
from trm_verify.obligations.points import point
from trm_verify.obligations.scene import MOST_STEPS, Scene
from trm_verify.obligations.terms import NotExported, Term, at_most, between, number, sub


def run(scene: Scene) -> None:
    """Drifts and distances have their bounds, and the margins hold at the states and on the last balls."""
    done, premise, script = _run(scene), premise_of(scene), scene.script
    states = _trace(scene, done, premise)
    for k, (state, distance) in enumerate(zip(states, done.distances, strict=True)):
        residual = scene.residual(premise, done.domain, state, f"c{k}.")
        script.show(at_most(residual, number(distance)), "N(T(z_k) − z_k)/(1 − ρ) is at most the stated distance")
    for k in {done.final, len(states) - 1}:
        reach = done.distances[k]
        if premise.start is not None and contains(premise.start, states[k]):
            scene.inside(states[k], premise.start, "the loop converges from the stored state")
            reach = reach if premise.constant == 1 else (1 + premise.constant) * reach
        elif premise.constant != 1:
            script.show("false", "a stored state from which the loop converges")
        elif premise.region is not None:
            scene.ball_inside(premise.norm, states[k], number(reach), premise.region, "the ball lies in the region")
        scene.ball_margins(premise.norm, states[k], reach, scene.leads(done.answer), f"b{k}.")


def settled_run(scene: Scene) -> None:
    """Drifts have their bounds, the settled state lies near every stored one, and the answer is kept until then.

    The settled state is enclosed as the iterate m of init(x), not part by part as the kernel does.
    """
    done, premise, script = _run(scene), scene.premises[0], scene.script
    if not isinstance(premise, Settled):
        raise NotExported("a premise that is no recursion which settles")
    states = _trace(scene, done, premise)
    end = followed(scene, premise.operator, done.domain, premise.steps)
    fixed = scene.states(end, "end.")
    for state, distance in zip(states, done.distances, strict=True):
        for term, own in zip(fixed, point(state), strict=True):
            script.show(between(-distance, sub(own, term), distance), "z* is within the stated distances")
    leads = scene.leads(done.answer)
    if len(scene.premises) > 1:
        box = scene.premises[1]
        if not isinstance(box, Invariant) or box.ball is not None:
            raise NotExported("a premise that is no invariant box")
        if box.operator != premise.operator:
            script.show("false", "the same operator")
        scene.inside(done.domain, box.domain, "the box is invariant for this input")
        for k in {done.final, len(states) - 1}:
            scene.inside(states[k], box.region, "the stored state lies in the invariant box")
        scene.box_margins(box.region, leads)
        return
    scene.box_margins(end, leads)
    for k in {done.final, len(states) - 1}:
        after, inputs = states[k], scene.inputs(done.domain)
        for j in range(1, premise.steps):
            image = scene.image(
                premise.operator, after, done.domain, scene.states(after, f"w{k}.{j}."), inputs, f"g{k}.{j}."
            )
            after = apply(scene.graph, premise.operator, after, done.domain)
            scene.keep(image, after, "each iterate lies in its box")
            scene.box_margins(after, leads, f"e{k}.{j}.")


def _run(scene: Scene) -> Run:
    if not isinstance(scene.conclusion, Run):
        raise NotExported("no run is stated")
    return scene.conclusion


def _trace(scene: Scene, done: Run, premise: Convergence | Settled) -> list[Tensor]:
    """The stored states, with drifts and answers that they have, from an input of the premise."""
    n, domain, script = scene.graph.size, done.domain, scene.script
    ints, exp = document.vector(scene.witness["states"], None, "states")
    states = [Tensor((n,), exp, part, part) for part in (ints[i : i + n] for i in range(0, len(ints), n))]
    if len(states) > MOST_STEPS:
        raise NotExported(f"more than {MOST_STEPS} states")
    if any(a != done.answer for a in done.answers[done.final :]):
        raise NotExported("another answer after the final step")
    scene.inside(domain, premise.domain, "the input lies in the premise's domain")
    scene.same(done.state, states[-1], "the result is the last state")
    script.show(at_most(number(done.distances[-1]), number(done.radius)), "the radius is the last distance")
    expected, _ = scene.start(domain)
    inputs = scene.inputs(domain)
    for k, (state, drift) in enumerate(zip(states, done.drifts, strict=True)):
        _near(scene, expected, state, drift)
        expected = scene.image(premise.operator, state, domain, point(state), inputs, f"f{k}.")
        answer = done.answers[k]
        if answer is not None:
            scene.box_margins(state, scene.leads(answer), f"a{k}.")
    return states


def _near(scene: Scene, expected: Sequence[Term], state: Tensor, drift: Fraction) -> None:
    for term, own in zip(expected, point(state), strict=True):
        scene.script.show(between(-drift, sub(own, term), drift), "stored states drift by at most the stated bounds")
