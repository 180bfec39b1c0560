"""The graph of a periodic orbit: its step is one application of the operator to each state, moved on by one place."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random
from typing import Any

import pytest

from tests.kernel import graphs
from tests.kernel.certificates import graph_json, kernel_graph, real
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import EXACT, Nodes, vector
from tests.kernel.test_evaluate import EXACT_OPS, box, flat, inside, random_box, reference
from trm_verify.kernel.context import Context
from trm_verify.kernel.cycles import cycle_graph, unrolled_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state, step
from trm_verify.kernel.graph import STATE
from trm_verify.kernel.operators import IMPLICIT, PICARD, Operator, apply
from trm_verify.kernel.rules import RULES


def applied(model: Sample, alpha: list[F], z: list[F], x: list[F]) -> list[F]:
    """(1 − α)∘z + α∘f(z, x), by the reference evaluator."""
    image = graphs.outputs(model.graph["step"], reference(model, z, x, EXACT))
    return [(1 - a) * p + a * q for a, p, q in zip(alpha, z, image, strict=True)]


@pytest.mark.parametrize("period", [2, 3, 5])
@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_each_state_comes_from_the_one_before(seed: int, damped: bool, period: int) -> None:
    model = sample(110_000 + seed, EXACT_OPS, 8)
    rng, n = model.rng, model.size
    graph = kernel_graph(model.graph, model.tensors)
    alpha = [F(rng.randint(1, 8), 8) if damped else F(1) for _ in range(n)]
    operator = Operator("outer_damped", tuple(alpha)) if damped else PICARD
    orbit = cycle_graph(graph, operator, period)
    assert orbit.state == graph.state * period and orbit.size == n * period
    assert (orbit.input, orbit.vocabulary, orbit.init, orbit.readout) == (graph.input, graph.vocabulary, None, None)
    x = inside(rng, random_box(rng, model.input_size, model.vocabulary), model.vocabulary is not None)
    states = [inside(rng, random_box(rng, n)) for _ in range(period)]
    image = step(orbit, flat([v for z in states for v in z]), flat(x))
    found = [image.fraction(i) for i in range(n * period)]
    expected = [v for k in range(period) for v in applied(model, alpha, states[k - 1], x)]
    assert found == [(v, v) for v in expected]


@pytest.mark.parametrize("damped", [False, True])
def test_a_fixed_point_of_the_graph_is_an_orbit(damped: bool) -> None:
    """ReLU(1 − 5z): 0, 1, 0, … without damping, and 1/4, 1/8, 1/4, … with a half."""
    nodes = Nodes()
    moved = nodes.add("sub", nodes.constant([F(1)]), nodes.scale(nodes.state(), 5))
    graph = kernel_graph(graph_json(nodes.function(nodes.add("relu", moved))))
    operator = Operator("outer_damped", (F(1, 2),)) if damped else PICARD
    orbit = [F(1, 8), F(1, 4)] if damped else [F(0), F(1)]
    twice = cycle_graph(graph, operator, 2)
    for z in (orbit, orbit[::-1]):
        image = step(twice, flat(z), flat([]))
        assert [image.fraction(i)[0] for i in range(2)] == z
    four = cycle_graph(graph, operator, 4)
    image = step(four, flat(orbit * 2), flat([]))
    assert [image.fraction(i)[0] for i in range(4)] == orbit * 2


def test_every_damping_factor_stays_with_its_coordinate() -> None:
    """Two parts, zero steps: what is left of each state is 1 − α of its own."""
    nodes = Nodes()
    step_ = nodes.function(nodes.scale(nodes.state(0), 0), nodes.scale(nodes.state(1), 0))
    graph = kernel_graph(graph_json(step_, [[2], [1]]))
    operator = Operator("outer_damped", (F(1, 2), F(1, 4), F(1, 8)))
    image = step(cycle_graph(graph, operator, 2), flat([F(8)] * 6), flat([]))
    assert [image.fraction(i)[0] for i in range(6)] == [4, 6, 7] * 2


def test_work_is_counted_with_that_of_the_model() -> None:
    nodes = Nodes()
    graph = kernel_graph(graph_json(nodes.function(nodes.add("tanh", nodes.state()))))
    orbit = cycle_graph(graph, PICARD, 3)
    before = graph.spent.get("work", 0)
    orbit.charge(1000)
    assert graph.spent["work"] == before + 1000


def test_orbits_of_different_periods_are_different_graphs() -> None:
    rng = Random(1)
    nodes = Nodes()
    step_ = nodes.function(nodes.add("add", nodes.state(), nodes.add("input")))
    graph = kernel_graph(graph_json(step_, [[1]], real(1)))
    digests = {cycle_graph(graph, PICARD, p).digest for p in range(2, 8)} | {graph.digest}
    assert len(digests) == 7
    z, x = [F(rng.randint(-8, 8)) for _ in range(2)], [F(3)]
    image = step(cycle_graph(graph, PICARD, 2), flat(z), flat(x))
    assert [image.fraction(i)[0] for i in range(2)] == [z[1] + 3, z[0] + 3]


@pytest.mark.parametrize("operator", [IMPLICIT, Operator("inner_damped", (F(1, 2),))])
def test_only_loops_that_the_kernel_can_follow_have_orbits(operator: Any) -> None:
    nodes = Nodes()
    graph = kernel_graph(graph_json(nodes.function(nodes.scale(nodes.state(), 1))))
    with pytest.raises(CheckError) as caught:
        cycle_graph(graph, operator, 2)
    assert caught.value.code == "UNSUPPORTED"


# unrolled graphs


@pytest.mark.parametrize("seed", range(12))
def test_an_unrolled_graph_gives_the_iterate_from_init(seed: int) -> None:
    rng = Random(seed)
    nodes, init = Nodes(), Nodes()
    weights = [[F(rng.randint(-4, 4), 4) for _ in range(2)] for _ in range(2)]
    mixed = nodes.add("add", nodes.add("linear", nodes.state(), nodes.constant(weights)), nodes.add("input"))
    step_ = nodes.function(nodes.add(rng.choice(["relu", "abs"]), mixed))
    start = init.function(init.scale(init.add("input"), rng.randint(-3, 3))) if seed % 3 else None
    graph = kernel_graph(graph_json(step_, [[2]], real(2), start))
    operator = PICARD if seed % 2 else Operator("outer_damped", (F(1, 2), F(3, 4)))
    x = flat([F(rng.randint(-8, 8), 4) for _ in range(2)])
    state = initial_state(graph, x)
    for steps in range(1, 6):
        state = apply(graph, operator, state, x)
        anything = flat([F(rng.randint(-9, 9)) for _ in range(2)])
        assert step(unrolled_graph(graph, operator, steps), anything, x).ends() == state.ends()


def test_an_unrolled_graph_does_not_read_the_state() -> None:
    nodes = Nodes()
    graph = kernel_graph(graph_json(nodes.function(nodes.scale(nodes.state(), 2)), [[1]]))
    assert all(node.kind != STATE for node in unrolled_graph(graph, PICARD, 3).step.nodes)
    with pytest.raises(CheckError) as caught:
        unrolled_graph(graph, IMPLICIT, 2)
    assert caught.value.code == "UNSUPPORTED"


@pytest.mark.parametrize("seed", range(6))
def test_no_iterate_lies_outside_what_is_reached(seed: int) -> None:
    """Any slopes at all: the box holds the iterates of sampled inputs."""
    rng = Random(100 + seed)
    nodes, init = Nodes(), Nodes()
    weights = [[F(rng.randint(-4, 4), 4) for _ in range(2)] for _ in range(2)]
    mixed = nodes.add("add", nodes.add("linear", nodes.state(), nodes.constant(weights)), nodes.add("input"))
    step_ = nodes.function(nodes.add(["relu", "tanh", "sigmoid"][seed % 3], mixed))
    start = init.function(init.add("input"))
    graph = kernel_graph(graph_json(step_, [[2]], real(2), start))
    lo, hi = [F(-1, 4), F(1, 2)], [F(1, 4), F(3, 4)]
    domain = box(list(zip(lo, hi, strict=True)))
    slopes = [F(rng.randint(-2, 6), 4) for _ in range(8)]
    witness = {"operator": "picard", "domain": 0, "steps": 4, "slopes": vector(slopes)}
    found = RULES["reach"](Context(graph, (("input", domain),), ()), [], witness)
    for _ in range(20):
        x = flat([p + (q - p) * F(rng.randint(0, 16), 16) for p, q in zip(lo, hi, strict=True)])
        state = initial_state(graph, x)
        for _ in range(4):
            state = apply(graph, PICARD, state, x)
        for i in range(2):
            (a, b), (c, d) = found.box.fraction(i), state.fraction(i)
            assert a <= d and c <= b, "the enclosure of the iterate meets the box"
