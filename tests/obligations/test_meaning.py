"""What scripts say of a model is what the model does: held against the oracle, which shares no code with the kernel."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.obligations.scripts import GOOD, answer, files, needs_z3
from tests.oracle.evaluate import HIGH, Evaluator, to_high
from tests.oracle.files import Model, read_tensors
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.rules.contraction import propagate
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations import contraction
from trm_verify.obligations.radius import RadiusPass
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import Script, between, number
from trm_verify.obligations.values import Refinement, Values

pytestmark = needs_z3

MODELS = sorted({GOOD[name]["weights"]: name for name in GOOD}.values())
NEAR = Fraction(1, 1 << 40)


def scene(name: str) -> tuple[Scene, Evaluator]:
    from trm_verify.kernel.context import Context
    from trm_verify.kernel.graph import parse
    from trm_verify.kernel.weights import Weights

    certificate, weights = files(name)
    raw = json.loads(certificate)["predicate"]["graph"]
    model = Model(raw, read_tensors(weights))
    return Scene(Context(parse(raw, Weights(weights)), (), ()), [], {}, None), Evaluator(model, HIGH)


def boxed(values: np.ndarray) -> Tensor:
    """The box of width 1/2 about a point with few digits."""
    middle = [int(v * 8) for v in values]
    return Tensor((len(middle),), -3, [v - 2 for v in middle], [v + 2 for v in middle])


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "cut"])
@pytest.mark.parametrize("name", MODELS)
def test_the_true_value_is_possible(name: str, exact: bool, tmp_path: Path) -> None:
    """Assumptions never exclude what the model really computes, and goals about ranges hold there."""
    rng = np.random.default_rng(len(name))
    found, oracle = scene(name)
    graph, script = found.graph, found.script
    z = rng.integers(-8, 9, graph.size) / 8
    integers = graph.vocabulary is not None
    x = rng.integers(0, graph.vocabulary, graph.input_size) if integers else rng.integers(-8, 9, graph.input_size) / 8
    region, domain = boxed(z), boxed(x)
    if integers:
        ints = [int(v) for v in x]
        domain = Tensor((len(ints),), 0, ints, ints)
    states, inputs = found.states(region), found.inputs(domain)
    ranges = evaluate(graph, graph.step, region, domain)
    values = Values(
        script, graph, graph.step, states, inputs, ranges, "f", Refinement() if exact else None
    )  # fmt: skip
    outputs = values.walk()
    true = oracle.step(to_high(z[None]), to_high(np.asarray(x, dtype=float)[None]))[0]
    for terms, at in ((states, z), (inputs, x)):
        for term, v in zip(terms, at, strict=True):
            script.assume(between(Fraction(float(v)), term, Fraction(float(v))))
    for term, v in zip(outputs, true, strict=True):
        middle = Fraction(int(v * 2**60), 2**60)
        script.assume(between(middle - NEAR, term, middle + NEAR))
    goals = [formula for _, formula in script.goals]
    script.goals.clear()
    script.show("false", "the true value is possible")
    for formula in goals:
        script.assume(formula)
    assert answer(script.text([]), tmp_path) == "sat"


PIECEWISE = ["answer_at_a_fixed_depth", "l2_two_layers", "linf_affine", "unused_and_integer_tensors", "monotone_relu"]


@pytest.mark.parametrize("name", PIECEWISE)
def test_no_other_value_is_possible(name: str, tmp_path: Path) -> None:
    """A piecewise-linear step is written out exactly."""
    rng = np.random.default_rng(7)
    found, oracle = scene(name)
    graph, script = found.graph, found.script
    z, x = rng.integers(-8, 9, graph.size) / 8, rng.integers(-8, 9, graph.input_size) / 8
    states, inputs = found.states(boxed(z)), found.inputs(boxed(x))
    ranges = evaluate(graph, graph.step, boxed(z), boxed(x))
    outputs = Values(script, graph, graph.step, states, inputs, ranges, "f", Refinement()).walk()
    for terms, at in ((states, z), (inputs, x)):
        for term, v in zip(terms, at, strict=True):
            script.assume(between(Fraction(float(v)), term, Fraction(float(v))))
    for term, v in zip(outputs, oracle.step(to_high(z[None]), to_high(x[None]))[0], strict=True):
        middle = Fraction(int(v * 2**60), 2**60)
        script.show(between(middle - NEAR, term, middle + NEAR), "the value of the oracle")
    assert answer(script.text([]), tmp_path) == "unsat"


RADII = [
    name for name in GOOD
    if any(s["rule"] == "radius_contraction" for s in json.loads(files(name)[0])["predicate"]["steps"])
]  # fmt: skip


@pytest.mark.parametrize("name", RADII)
def test_radii_are_those_of_the_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's own numbers: they decide nothing, and yet a pass that forgot a term would show here."""
    from trm_verify.obligations import export

    compared = []
    run = contraction.radius_contraction

    def compare(one: Scene) -> None:
        run(one)
        done = one.conclusion
        assert isinstance(done, Contraction)
        graph, norm = one.graph, done.norm
        ranges = evaluate(graph, graph.step, done.region, done.domain)
        over = (done.region, done.domain)
        kernel = propagate(graph, norm, ranges, one.premises, (list(norm.weights), norm.exp), over=over)
        values = Values(Script(), graph, graph.step, one.states(done.region), one.inputs(done.domain), ranges)
        passed = RadiusPass(values, contraction.bounds_of(one), contraction.gains_of(one, *over))
        weights = [number(norm.weight(g)) for g in range(len(norm.sizes))]
        own = passed.outputs(passed.run(contraction.state_parts(one, norm.groups, weights)), norm.groups)
        for term, v in zip(own.values, kernel.values, strict=True):
            theirs = dyadic(v, kernel.exp)
            assert term.value is not None and theirs * (1 - Fraction(1, 1 << 60)) <= term.value <= theirs
            compared.append(theirs)

    from trm_verify.obligations.export import CONDITIONS

    monkeypatch.setitem(CONDITIONS, "radius_contraction", compare)
    export(*files(name))
    assert compared
