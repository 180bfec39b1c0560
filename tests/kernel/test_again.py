"""Rows taken from an evaluation before are those that a fresh one gives, to the last bit."""

from __future__ import annotations

from random import Random

import pytest

from tests.kernel.certificates import graph_json, kernel_graph
from tests.kernel.generator import sample
from tests.kernel.graphs import Nodes, vector
from tests.kernel.test_evaluate import EVERY_OP, box, flat, inside, random_box
from trm_verify.kernel import again, evaluate
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.tensor import Tensor

ROWS = ["linear", "softmax", "rms_norm", "layer_norm", "concat", "relu", "add", "reshape", "slice", "permute"]


def changed(rng: Random, state: Tensor, entries: int) -> Tensor:
    """The same box but for some entries, which move or widen."""
    (low, high), point = (end.copy() for end in state.ends()), state.is_point
    for i in rng.sample(range(state.size), entries):
        low[i] += rng.randint(-1 << 60, 1 << 60)
        high[i] = max(low[i], high[i]) if not point else low[i]
    return Tensor(state.shape, state.exp, low, low if point else high)


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.exp, a.bounded) == (b.shape, b.exp, b.bounded)
        assert not a.bounded or (a.ends(), a.is_point) == (b.ends(), b.is_point)


@pytest.mark.parametrize("seed", range(60))
def test_a_second_evaluation_is_the_same_with_the_first_at_hand(seed: int) -> None:
    model = sample(4000 + seed, ROWS if seed % 2 else EVERY_OP, 12)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    given = box(inputs)
    last_state = flat(inside(rng, states)) if seed % 3 == 0 else box(states)
    last = evaluate.evaluate(graph, graph.step, last_state, given)
    for entries in (0, 1, 1, min(2, model.size)):
        state = changed(rng, last_state, entries)
        fresh = evaluate.evaluate(graph, graph.step, state, given)
        found = evaluate.evaluate(graph, graph.step, state, given, last)
        assert_same(found, fresh)
        assert_same(evaluate.evaluate(graph, graph.step, state, given, again.kept(graph.step, last)), fresh)
        last_state, last = state, found


@pytest.mark.parametrize("seed", range(20))
def test_the_first_may_have_been_of_another_input_at_another_exponent(seed: int) -> None:
    model = sample(5000 + seed, ROWS, 12)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    given, other = (box(random_box(rng, model.input_size, model.vocabulary)) for _ in range(2))
    state = box(random_box(rng, model.size))
    zeros = [0] * model.size
    for start in (Tensor((model.size,), 0, zeros, zeros), Tensor((model.size,)), state):
        last = evaluate.evaluate(graph, graph.step, start, other)
        expected = evaluate.evaluate(graph, graph.step, state, given)
        assert_same(evaluate.evaluate(graph, graph.step, state, given, last), expected)


def test_only_rows_that_have_changed_are_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = next(m for m in (sample(seed, ["linear"], 6) for seed in range(99)) if m.shapes == [[2, 3]])
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    given = box(random_box(rng, model.input_size, model.vocabulary))
    state = box(random_box(rng, model.size))
    last = evaluate.evaluate(graph, graph.step, state, given)
    rows: list[int] = []

    def spy(node, args):  # type: ignore[no-untyped-def]
        if node.op == "linear":
            rows.append(args[0].size // args[0].shape[-1])
        return apply_operation(node, args)

    monkeypatch.setattr(again, "apply_operation", spy)
    evaluate.evaluate(graph, graph.step, state, given, last)
    assert not rows
    low, high = (end.copy() for end in state.ends())
    low[0] -= 1
    evaluate.evaluate(graph, graph.step, Tensor(state.shape, state.exp, low, high), given, last)
    assert rows and set(rows) == {1}


def test_equal_ends_that_are_no_point_stay_so() -> None:
    """A matrix takes a point to another exponent than a box, and what rounds later depends on it."""
    nodes = Nodes()
    first = nodes.add("linear", nodes.state(), nodes.add("constant", shape=[2, 2], value=vector([1, 0, 0, 1])))
    second = nodes.add("linear", first, nodes.add("constant", shape=[2, 2], value=vector([1, 0, 0, 1])))
    graph = kernel_graph(graph_json(nodes.function(nodes.scale(second, 1, 3)), [[2, 2]]))
    nothing = Tensor((0,), 0, [], [])
    before, after = (Tensor((4,), 0, [1, 0, k, 0], [1, 0, k, 0]) for k in (0, 1))  # two lists each
    last = evaluate.evaluate(graph, graph.step, before, nothing)
    fresh = evaluate.evaluate(graph, graph.step, after, nothing)
    assert_same(evaluate.evaluate(graph, graph.step, after, nothing, last), fresh)
