"""That a claim follows from the step it names: its sets and numbers by the solver, the rest by a plain comparison."""

from __future__ import annotations

from trm_verify.kernel.claims import (
    Answer,
    AtMostOne,
    Commits,
    Conclusion,
    Contraction,
    Convergence,
    Encloses,
    ExactlyOne,
    FixedPointAnswer,
    FixedPoints,
    Invariant,
    Lipschitz,
    Refuted,
    Run,
    Settled,
    WellPosed,
)  # fmt: skip
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.loops import stated_epsilon
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import NotExported, at_most, below, equal, number


def claim(scene: Scene, done: Conclusion, wanted: Conclusion) -> None:
    """Larger sets and smaller numbers in the conclusion than in the claim, and everything else equal."""
    if isinstance(done, WellPosed):
        done = ExactlyOne(done.domain, done.region)
    if isinstance(done, Convergence) and isinstance(wanted, ExactlyOne) and done.start and done.region:
        scene.inside(done.region, done.start, "the start holds the whole region")
        done = ExactlyOne(done.domain, done.region)
    if isinstance(done, Settled) and done.region is not None and not isinstance(wanted, Settled):
        done = ExactlyOne(done.domain, done.region)
    for name in ("of", "kind", "operator", "norm", "answer", "committed", "blank"):
        if hasattr(done, name) and hasattr(wanted, name) and getattr(done, name) != getattr(wanted, name):
            scene.script.show("false", f"the same {name}")
    if isinstance(wanted, Refuted):
        _refutation(scene, done, wanted)
        return
    if isinstance(done, FixedPoints):
        _fixed_points(scene, done, wanted)
        return
    if type(done) is not type(wanted):
        raise NotExported(f"the step concludes {type(done).__name__}, the claim says {type(wanted).__name__}")
    scene.inside(_box(wanted, "domain"), _box(done, "domain"), "the claim's domain lies in the conclusion's")
    if isinstance(wanted, (Contraction, AtMostOne)):
        scene.inside(wanted.region, _box(done, "region"), "the claim's region lies in the conclusion's")
    elif isinstance(wanted, (ExactlyOne, Invariant, FixedPointAnswer, Lipschitz)):
        scene.same(wanted.region, _box(done, "region"), "the claim's region is the conclusion's")
    _numbers(scene, done, wanted)


def _box(conclusion: Conclusion, name: str) -> Tensor:
    found: Tensor = getattr(conclusion, name)
    return found


def _no_larger(scene: Scene, done: Conclusion, wanted: Conclusion, *names: str) -> None:
    for name in names:
        scene.script.show(
            at_most(number(getattr(done, name)), number(getattr(wanted, name))), f"the {name} is no larger"
        )


def _numbers(scene: Scene, done: Conclusion, wanted: Conclusion) -> None:
    if isinstance(wanted, Contraction):
        _no_larger(scene, done, wanted, "rate")
        scene.script.show(below(number(wanted.rate), number(1)), "the rate is below 1")
    elif isinstance(wanted, Lipschitz):
        _no_larger(scene, done, wanted, "constant")
    elif isinstance(wanted, (Settled, Commits)):
        _no_larger(scene, done, wanted, "steps")
        if isinstance(wanted, Commits) and isinstance(done, Commits):
            scene.script.show(equal(number(done.threshold), number(wanted.threshold)), "the threshold is the same")
    elif isinstance(wanted, Answer) and isinstance(done, Answer):
        same = equal(number(done.steps), number(wanted.steps))
        scene.script.show(same if wanted.at else at_most(number(done.steps), number(wanted.steps)), "the steps suffice")
    elif isinstance(wanted, Convergence) and isinstance(done, Convergence):
        _no_larger(scene, done, wanted, "constant", "rate")
        if wanted.start is not None and done.start is not None:
            scene.inside(wanted.start, done.start, "the claim's start lies in the conclusion's")
        elif wanted.start is None and done.start is not None and done.start.bounded:
            scene.script.show("false", "convergence from init(x)")
        stated_epsilon(scene, done, wanted)
    elif isinstance(wanted, Run) and isinstance(done, Run):
        _no_larger(scene, done, wanted, "radius")
        scene.same(wanted.state, done.state, "the claim's state is the last one")
        for name in ("drifts", "distances"):
            for own, said in zip(getattr(done, name), getattr(wanted, name), strict=True):
                scene.script.show(at_most(number(own), number(said)), f"the {name} are no larger")


def _fixed_points(scene: Scene, done: FixedPoints, wanted: Conclusion) -> None:
    if isinstance(wanted, Encloses):
        said = done.says(wanted.kind)
        scene.inside(done.box, wanted.box, "the conclusion's box lies in the claim's")
    elif isinstance(wanted, (ExactlyOne, AtMostOne)):
        said = done.unique and (done.exists or isinstance(wanted, AtMostOne))
    else:
        raise NotExported(f"the step speaks of fixed points, the claim says {type(wanted).__name__}")
    if not said:
        scene.script.show("false", "as many fixed points as the step has shown")
    scene.inside(wanted.domain, done.domain, "the claim's domain lies in the conclusion's")
    if isinstance(wanted, AtMostOne) or (isinstance(wanted, Encloses) and wanted.kind == "all"):
        scene.inside(wanted.region, done.region, "the claim's region lies in the conclusion's")
    else:
        scene.same(wanted.region, done.region, "the claim's region is the conclusion's")


def _refutation(scene: Scene, done: Conclusion, wanted: Refuted) -> None:
    if not isinstance(done, Refuted):
        raise NotExported(f"the step concludes {type(done).__name__}, the claim is a refutation")
    if (done.region is None) != (wanted.region is None) or done.rate != wanted.rate or wanted.domain is None:
        scene.script.show("false", "the same region and rate, and a domain")
        return
    scene.inside(done.domain, wanted.domain, "the conclusion's domain lies in the claim's")
    if done.region is not None and wanted.region is not None:
        what = "the conclusion's region lies in the claim's"
        (scene.same if wanted.of == "exactly_one" else scene.inside)(done.region, wanted.region, what)
