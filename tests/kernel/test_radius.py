"""R1: sampled pairs never lie further apart than the radii say, at any node of any graph; known gains are met."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel import graphs
from tests.kernel.certificates import graph_json, kernel_graph
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import HIGH, REAL, REFERENCE_ERROR, Array, Nodes, array, mpf, to_real
from tests.kernel.test_evaluate import EVERY_OP, box, inside, random_box
from trm_verify.kernel.claims import Conclusion, Spectral
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.radii import Radii, by_gains, constant_times, regroup
from trm_verify.kernel.radius import Propagation
from trm_verify.kernel.rules.contraction import propagate, state_radii
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor

F = Fraction


def random_norm(rng: Random, size: int) -> BlockNorm:
    """Singletons, one group, or a random cut of the flattened state, parts ignored."""
    kind = rng.randrange(3)
    sizes = [1] * size if kind == 0 else [size]
    if kind == 2:
        sizes = []
        while sum(sizes) < size:
            sizes.append(rng.randint(1, min(3, size - sum(sizes))))
    return BlockNorm(tuple(sizes), tuple(rng.randint(1, 24) for _ in sizes), -3)


def length(values: list[Any]) -> Any:
    return REAL.sqrt(sum((v * v for v in values), mpf(0)))


def by_group(values: list[Any], groups: list[int] | None) -> dict[int, Any]:
    """The ℓ2 length of each group."""
    members: dict[int, list[Any]] = {}
    for i, v in enumerate(values):
        members.setdefault(i if groups is None else groups[i], []).append(v)
    return {g: length(m) for g, m in members.items()}


def assert_within(radii: Radii | None, difference: list[Any], factor: Any, where: Any) -> None:
    """Every group's difference is at most factor times its radius (homogeneity included)."""
    slack = REFERENCE_ERROR * (1 + length(difference))
    if radii is None:
        assert length(difference) <= slack, where
        return
    for g, size in by_group(difference, radii.groups).items():
        assert size <= factor * to_real(dyadic(radii.values[g], radii.exp)) + slack, (where, g)


def pair(rng: Random, bounds: list[tuple[Fraction, Fraction]], whole: bool = False) -> tuple[list[Any], list[Any]]:
    """Two points of a box: far apart, close, or different in one coordinate only."""
    a, b = inside(rng, bounds, whole), inside(rng, bounds, whole)
    kind = rng.randrange(3)
    if kind == 0 or whole:
        return a, b
    if kind == 1:
        return a, [p + (q - p) / 1024 for p, q in zip(a, b, strict=True)]
    keep = rng.randrange(max(len(a), 1))
    return a, [q if i == keep else p for i, (p, q) in enumerate(zip(a, b, strict=True))]


def values_at(model: Sample, state: list[Fraction], given: list[Fraction]) -> list[Array]:
    parts = graphs.split([to_real(v) for v in state], model.shapes)
    return graphs.run(model.graph["step"], parts, model.given([to_real(v) for v in given]), model.tensors, HIGH)


def true_norms(graph: Graph, ranges: list[Tensor]) -> dict[int, F]:
    """‖W‖₂ of every weight, as close from above as floats allow."""
    found = {}
    for w in {node.args[1] for node in graph.step.nodes if node.op == "linear"}:
        ints, _ = ranges[w].ends()
        matrix = np.array(ints, dtype=float).reshape(ranges[w].shape) * 2.0 ** ranges[w].exp
        found[w] = F(float(np.linalg.norm(matrix, 2)) * (1 + 1e-12))
    return found


def worst_pair(
    model: Sample, norm: BlockNorm, radii: list[Radii | None], bounds: list[tuple[F, F]], x: list[F]
) -> tuple[list[F], list[F]]:
    """Two close points of a box, moved apart in the direction that stretches one random group of one node most."""
    rng, step = model.rng, F(1, 2**40)
    a = [lo + (hi - lo) * F(rng.randint(1, 7), 8) for lo, hi in bounds]
    moved = [[v + step * (i == j) for i, v in enumerate(a)] for j in range(len(a))]
    base, others = values_at(model, a, x), [values_at(model, m, x) for m in moved]
    node = rng.choice([i for i, r in enumerate(radii) if r is not None])
    r = radii[node]
    entries = list(range(base[node].size))
    if r is not None and r.groups is not None:
        chosen = rng.choice(r.groups)
        entries = [e for e in entries if r.groups[e] == chosen]
    else:
        entries = [rng.choice(entries)]
    columns = [[float((o[node].ravel()[e] - base[node].ravel()[e]) * 2**40) for e in entries] for o in others]
    jacobian, groups = np.array(columns).T, np.array(norm.groups)
    d = np.array([float(norm.weight(g)) for g in groups])
    # alternate between the best functional of the group and the state direction that it likes best
    u = np.linalg.svd(jacobian * d)[0][:, 0]
    for _ in range(8):
        pull = jacobian.T @ u
        lengths = np.array([np.linalg.norm(pull[groups == g]) for g in groups])
        direction = np.where(lengths > 0, d * pull / np.where(lengths > 0, lengths, 1), 0)
        image = jacobian @ direction
        u = image / np.linalg.norm(image) if np.linalg.norm(image) else u
    ends = zip(a, direction, bounds, strict=True)
    return a, [min(max(v + F(round(t * 2**20), 2**20) * step, lo), hi) for v, t, (lo, hi) in ends]


def check_model(model: Sample, pairs: int, vary_input: bool, unbounded: bool = False) -> set[str]:
    """Propagates through a model and compares with sampled pairs. Returns the operations that had a radius."""
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    whole = model.vocabulary is not None
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    norm = random_norm(rng, model.size)
    region = Tensor((model.size,)) if unbounded else box(states)
    ranges = evaluate(graph, graph.step, region, box(inputs))
    given = Radii(None, [rng.randint(1, 16) for _ in range(model.input_size)], -3) if vary_input else None
    parts = state_radii(graph, norm, list(norm.weights), norm.exp)
    bounds = true_norms(graph, ranges) if rng.random() < 0.5 else {}
    radii = Propagation(graph.step, ranges, bounds).run(parts, given)
    premises: list[Conclusion] = [Spectral(node, bound) for node, bound in bounds.items()]
    out = propagate(graph, norm, ranges, premises, (list(norm.weights), norm.exp), given)
    for k in range(pairs):
        a, b = pair(rng, [(9 * p, 9 * q) for p, q in states] if unbounded else states)
        x, y = pair(rng, inputs, whole)
        if k % 2:
            a, b = worst_pair(model, norm, radii, states, x)
        y = y if vary_input else x
        first, second = values_at(model, a, x), values_at(model, b, y)
        moved = by_group([to_real(q - p) for p, q in zip(a, b, strict=True)], norm.groups)
        factor = max(v / to_real(norm.weight(g)) for g, v in moved.items())
        if given is not None:
            reach = [abs(to_real(q - p)) / to_real(dyadic(r, -3)) for p, q, r in zip(x, y, given.values, strict=True)]
            factor = max([factor, *reach])
        for i, (r, p, q) in enumerate(zip(radii, first, second, strict=True)):
            assert_within(
                r, [v - w for v, w in zip(q.ravel(), p.ravel(), strict=True)], factor, (i, graph.step.nodes[i].op)
            )
        ends = [graphs.outputs(model.graph["step"], v) for v in (first, second)]
        assert_within(out, [v - w for v, w in zip(*ends, strict=True)], factor, "output")
    return {node.op for node, r in zip(graph.step.nodes, radii, strict=True) if r is not None}


@pytest.mark.parametrize("seed", range(140))
def test_pairs_never_expand_beyond_the_radii(seed: int) -> None:
    check_model(sample(10_000 + seed, EVERY_OP, 9), 4, vary_input=False)


@pytest.mark.parametrize("seed", range(50))
def test_pairs_of_states_and_inputs_never_expand_beyond_the_radii(seed: int) -> None:
    ops = [op for op in EVERY_OP if op not in ("div", "embedding")]
    check_model(sample(20_000 + seed, ops, 9, "real"), 4, vary_input=True)


@pytest.mark.parametrize("seed", range(40))
def test_pairs_on_the_whole_space_never_expand_beyond_the_radii(seed: int) -> None:
    ops = [op for op in EVERY_OP if op not in ("mul", "matmul", "div")]
    check_model(sample(30_000 + seed, ops, 9), 3, vary_input=False, unbounded=True)


LINEAR_OPS = [*graphs.LAYOUT_OPS, "linear", "sum", "scale", "add", "sub"]


@pytest.mark.parametrize("seed", range(60))
def test_linear_graphs_against_their_exact_norms(seed: int) -> None:
    """For a linear step the largest expansion of a group is an operator norm, found without sampling."""
    model = sample(40_000 + seed, LINEAR_OPS, 8, None)
    graph, n = kernel_graph(model.graph, model.tensors), model.size
    zero = values_at(model, [F(0)] * n, [])
    columns = []
    for j in range(n):
        unit = values_at(model, [F(int(i == j)) for i in range(n)], [])
        columns.append(
            [float(p - q) for p, q in zip(*(graphs.outputs(model.graph["step"], v) for v in (unit, zero)), strict=True)]
        )
    jacobian = np.array(columns).T
    norm = random_norm(model.rng, n)
    ranges = evaluate(graph, graph.step, Tensor((n,)), Tensor((0,), 0, [], []))
    out = propagate(graph, norm, ranges, [], (list(norm.weights), norm.exp))
    groups = np.array(norm.groups)
    d = [float(norm.weight(g)) for g in range(len(norm.sizes))]
    for g in range(len(norm.sizes)):
        block = jacobian[groups == g]
        # the largest group norm over the unit ball, from below: each group aligned with the top singular vector
        u = np.linalg.svd(block)[0][:, 0]
        aligned = np.concatenate(
            [
                d[k] * w / np.linalg.norm(w) if np.linalg.norm(w) else np.zeros(len(w))
                for k in range(len(d))
                for w in [block[:, groups == k].T @ u]
            ]
        )
        bound = float(dyadic(out.values[g], out.exp))
        assert np.linalg.norm(block @ aligned) <= bound * (1 + 1e-12)
        whole_space = sum(np.linalg.norm(block[:, groups == k], 2) * d[k] for k in range(len(d)))
        assert bound >= whole_space * (1 - 1e-12) or len(d) > 1


def test_the_random_graphs_propagate_every_operation() -> None:
    used: set[str] = set()
    for seed in range(140):
        used |= check_model(sample(10_000 + seed, EVERY_OP, 9), 0, vary_input=False)
    assert used == graphs.ALL_OPS - {"input", "tensor", "constant", "embedding"}


# known gains


def radius_of(
    step: Any,
    state: list[list[int]],
    norm: BlockNorm,
    region: list[tuple[Any, Any]] | None = None,
    spectral: dict[int, Fraction] | None = None,
) -> list[Fraction]:
    """Output radii per group for the norm's weights."""
    graph: Graph = kernel_graph(graph_json(step, state))
    bounds = Tensor((graph.size,)) if region is None else box([(F(a), F(b)) for a, b in region])
    ranges = evaluate(graph, graph.step, bounds, Tensor((0,), 0, [], []))
    radii = Propagation(graph.step, ranges, spectral or {}).run(
        state_radii(graph, norm, list(norm.weights), norm.exp), None
    )
    (i,) = graph.step.outputs
    r = radii[i]
    assert r is not None
    r = regroup(r, norm.groups)
    return [dyadic(v, r.exp) for v in r.values]


def singles(*weights: int) -> BlockNorm:
    return BlockNorm((1,) * len(weights), weights, 0)


def test_weighted_row_sums_are_exact() -> None:
    rng = np.random.default_rng(0)
    w = rng.integers(-9, 10, (5, 5))
    d = rng.integers(1, 20, 5)
    nodes = Nodes()
    step = nodes.function(nodes.add("linear", nodes.state(), nodes.constant(w.astype(object))))
    assert radius_of(step, [[5]], singles(*map(int, d))) == [F(int(v)) for v in np.abs(w) @ d]


def test_one_group_takes_the_spectral_bound_where_it_is_smaller() -> None:
    nodes = Nodes()
    w = nodes.constant(array([F(v) for v in (3, 0, 0, 4)], (2, 2)))
    step = nodes.function(nodes.add("linear", nodes.state(), w))
    norm = BlockNorm((2,), (1,), 0)
    assert radius_of(step, [[2]], norm, None, {w: F(4)}) == [4]
    assert radius_of(step, [[2]], norm, None, {w: F(6)}) == [5]  # Frobenius
    (frobenius,) = radius_of(step, [[2]], norm)
    assert frobenius == 5
    # groups of one never need it: |W| d exactly
    assert radius_of(step, [[2]], singles(1, 1), None, {w: F(4)}) == [3, 4]


def test_a_spectral_bound_holds_only_for_its_own_matrix() -> None:
    nodes = Nodes()
    z = nodes.state()
    small, large = (nodes.constant(array([F(v), F(0), F(0), F(v)], (2, 2))) for v in (1, 8))
    step = nodes.function(nodes.add("linear", nodes.add("linear", z, small), large))
    (found,) = radius_of(step, [[2]], BlockNorm((2,), (1,), 0), None, {small: F(1)})
    assert found >= 8


def test_a_group_that_crosses_rows_takes_its_largest_gain() -> None:
    """Entry (0, 1) may move by all of the middle group's 100 and meets the weight 8; entry (1, 0) meets 1."""
    nodes = Nodes()
    w = nodes.constant(array([F(v) for v in (1, 8, 0, 0)], (2, 2)))
    step = nodes.function(nodes.add("linear", nodes.state(), w))
    assert max(radius_of(step, [[2, 2]], BlockNorm((1, 2, 1), (1, 100, 1), 0))) >= 800


def test_tokenwise_linear_keeps_the_mixed_norm() -> None:
    nodes = Nodes()
    w = nodes.constant(array([F(v) for v in (0, 2, -2, 0)], (2, 2)))
    step = nodes.function(nodes.add("linear", nodes.state(), w))
    assert radius_of(step, [[3, 2]], BlockNorm((2, 2, 2), (1, 5, 7), 0), None, {w: F(2)}) == [2, 10, 14]


def test_constants_beside_a_row_do_not_join_it_to_the_others() -> None:
    """[z, c] W for every token: what stands still beside z says nothing about another token."""
    nodes = Nodes()
    w = nodes.constant(array([F(v) for v in (0, 2, 5, -2, 0, 7)], (2, 3)))
    beside = nodes.constant(array([F(1)] * 3, (3, 1)))
    both = nodes.add("concat", nodes.state(), beside, axis=1)
    step = nodes.function(nodes.add("linear", both, w))
    found = radius_of(step, [[3, 2]], BlockNorm((2, 2, 2), (1, 5, 7), 0), None, {w: F(9)})
    least = [F(2) * d for d in (1, 5, 7)]
    assert all(a <= b <= a * F(3, 2) for a, b in zip(least, found, strict=True))


@pytest.mark.parametrize("tiny", [F(1, 1 << 300), F(1, 3**200)])
def test_a_radius_is_never_rounded_to_nothing(tiny: F) -> None:
    """The cheapest false rate: groups of radius 0 join no rows, so one that shrank must not become 0, nor be lost."""
    nodes = Nodes()
    small = nodes.scale(nodes.state(), tiny.numerator, tiny.denominator)
    beside = nodes.constant(array([F(1)] * 2, (2, 1)))
    w = nodes.constant(array([F(v) for v in (1, 0, 5, 0, 1, 5)], (2, 3)))
    moved = nodes.add("linear", nodes.add("concat", small, beside, axis=1), w)
    step = nodes.function(nodes.scale(moved, tiny.denominator, tiny.numerator))
    graph: Graph = kernel_graph(graph_json(step, [[2, 2]]))
    ranges = evaluate(graph, graph.step, Tensor((4,)), Tensor((0,), 0, [], []))
    norm = BlockNorm((4,), (1,), 0)  # one group across both rows: either entry may move by 1
    radii = Propagation(graph.step, ranges, {w: F(6)}).run(state_radii(graph, norm, [1], 0), None)
    (out,) = (radii[i] for i in graph.step.outputs)
    assert out is not None
    assert all(dyadic(v, out.exp) >= 1 for v in out.of_entries())
    shrunk = constant_times(Radii([0, 0, 0, 0], [1], 0), tiny)
    gained = by_gains([(shrunk, F(1))], 2, 2)
    assert gained.values != [0] and len(set(gained.groups or ())) == 1, "still one group: it says nothing about a row"


def attention(side: str, weights: int) -> Any:
    """softmax of a constant matrix, mixed with the state from the left or the right."""
    nodes = Nodes()
    scores = nodes.constant(array([F(v) for v in (5, -5, 4, -4)], (2, 2)))
    mixing = nodes.add("softmax", scores)
    if weights == 1:
        mixing = nodes.add("permute", mixing, axes=[1, 0])
    if weights == 2:
        mixing = nodes.add("select", mixing, axis=1, indices=[0, 0])
    z = nodes.state()
    return nodes.function(nodes.add("matmul", mixing, z) if side == "left" else nodes.add("matmul", z, mixing))


TOKENS = BlockNorm((2, 2), (1, 1), 0)


def test_softmax_mixing_has_gain_one_for_equal_weights() -> None:
    assert radius_of(attention("left", 0), [[2, 2]], TOKENS) == [1, 1]
    assert radius_of(attention("left", 0), [[2, 2]], singles(1, 1, 1, 1)) == [1, 1, 1, 1]
    # unequal token weights (1, 10): nothing better than the larger one
    first, second = radius_of(attention("left", 0), [[2, 2]], BlockNorm((2, 2), (10, 1), 0))
    assert 9 < first <= 10 and 9 < second <= 10


@pytest.mark.parametrize(("side", "weights", "least"), [("left", 1, 1.99), ("right", 0, 1.4), ("left", 2, 1.99)])
def test_what_is_not_row_stochastic_from_the_left_gains_more(side: str, weights: int, least: float) -> None:
    """Column sums, mixing from the right and repeated columns all reach nearly 2 (√2 for the right factor in ℓ2)."""
    assert max(radius_of(attention(side, weights), [[2, 2]], TOKENS)) > least
    assert max(radius_of(attention(side, weights), [[2, 2]], singles(1, 1, 1, 1))) > 1.9


def test_whole_softmax_rows_may_be_moved() -> None:
    nodes = Nodes()
    mixing = nodes.add("softmax", nodes.constant(array([F(v) for v in (5, -5, 4, -4)], (4,)[:1] and (2, 2))))
    mixing = nodes.add("select", mixing, axis=0, indices=[1, 0])
    mixing = nodes.add("reshape", nodes.add("reshape", mixing, shape=[1, 2, 2]), shape=[2, 2])
    step = nodes.function(nodes.add("matmul", mixing, nodes.state()))
    assert radius_of(step, [[2, 2]], TOKENS) == [1, 1]


@pytest.mark.parametrize("first", ["whole", "repeated"])
def test_what_is_known_of_one_softmax_is_not_said_of_another(first: str) -> None:
    """The cheapest false rate: whether rows are stochastic is remembered, of the node that was asked about alone."""
    nodes = Nodes()
    scores = nodes.add("softmax", nodes.constant(array([F(v) for v in (5, -5, 4, -4)], (2, 2))))
    moved = nodes.add("select", scores, axis=0, indices=[1, 0])
    mixing = {
        "whole": nodes.add("reshape", nodes.add("reshape", moved, shape=[1, 2, 2]), shape=[2, 2]),
        "repeated": nodes.add("reshape", nodes.add("select", moved, axis=1, indices=[0, 0]), shape=[2, 2]),
    }
    names = [first, *(name for name in mixing if name != first)]
    mixed = {name: nodes.add("matmul", mixing[name], nodes.state()) for name in names}
    graph: Graph = kernel_graph(graph_json(nodes.function(nodes.add("add", *mixed.values())), [[2, 2]]))
    ranges = evaluate(graph, graph.step, Tensor((4,)), Tensor((0,), 0, [], []))
    radii = Propagation(graph.step, ranges, {}).run(state_radii(graph, TOKENS, [1, 1], 0), None)
    found = {name: [dyadic(v, r.exp) for v in r.values] for name, i in mixed.items() if (r := radii[i]) is not None}
    assert found["whole"] == [1, 1] and max(found["repeated"]) > 1.99


@pytest.mark.parametrize("seed", range(40))
def test_asked_in_any_order_the_same_rows_are_stochastic(seed: int) -> None:
    """As when each is asked about by itself."""
    rng, nodes = Random(f"stochastic {seed}"), Nodes()
    scores = nodes.constant(array([F(rng.randint(-9, 9)) for _ in range(4)], (2, 2)))
    made = [scores, nodes.add("softmax", scores)]
    for _ in range(12):
        source = rng.choice(made[-4:])
        made.append(
            rng.choice([
                lambda a: nodes.add("select", a, axis=0, indices=[1, 0]),
                lambda a: nodes.add("select", a, axis=1, indices=[1, 1]),
                lambda a: nodes.add("permute", a, axes=[1, 0]),
                lambda a: nodes.add("softmax", a),
                lambda a: nodes.scale(a, 2),
            ])(source)
        )  # fmt: skip
    total = nodes.state()
    for each in made:
        total = nodes.add("add", total, nodes.add("matmul", each, nodes.state()))
    graph: Graph = kernel_graph(graph_json(nodes.function(total), [[2, 2]]))
    ranges = evaluate(graph, graph.step, Tensor((4,)), Tensor((0,), 0, [], []))
    together = Propagation(graph.step, ranges, {})
    for i in rng.sample(made, len(made)):
        rows = ranges[i].magnitude()
        one = all(abs(dyadic(a + b, ranges[i].exp) - 1) < F(1, 1 << 40) for a, b in (rows[:2], rows[2:]))
        found = together._is_stochastic(i)
        assert found == Propagation(graph.step, ranges, {})._is_stochastic(i)
        assert one or not found


def test_a_stored_matrix_counts_with_its_true_row_sums() -> None:
    nodes = Nodes()
    a = nodes.constant(array([F(1, 2), F(1, 2) + F(1, 2**20), F(0), F(1)], (2, 2)))
    step = nodes.function(nodes.add("matmul", a, nodes.state()))
    assert radius_of(step, [[2, 2]], TOKENS) == [1 + F(1, 2**20), 1]


def test_permuting_axes_regroups_by_an_explicit_bound() -> None:
    """Tokens (1, 100) transposed: each new row holds a piece of both, so its radius is at least √(1 + 100²)."""
    nodes = Nodes()
    step = nodes.function(nodes.add("permute", nodes.state(), axes=[1, 0]))
    found = radius_of(step, [[2, 2]], BlockNorm((2, 2), (1, 100), 0))
    assert all(v * v >= 1 + 100**2 for v in found) and all(v < 101 for v in found)


def test_repeats_count_once_each() -> None:
    """z ↦ (z, z) over one group of two: √2."""
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(
        nodes.add("select", nodes.add("slice", z, axis=0, start=0, stop=1, step=1), axis=0, indices=[0, 0])
    )
    (found,) = radius_of(step, [[2]], BlockNorm((2,), (1,), 0))
    assert found * found >= 2 and found < F(3, 2)


def test_groups_span_parts() -> None:
    """One ℓ2 group over two parts: each part may move by the whole radius."""
    nodes = Nodes()
    a, b = nodes.state(0), nodes.state(1)
    graph = kernel_graph(graph_json(nodes.function(b, a), [[2], [2]]))
    norm = BlockNorm((4,), (1,), 0)
    ranges = evaluate(graph, graph.step, Tensor((4,)), Tensor((0,), 0, [], []))
    out = propagate(graph, norm, ranges, [], ([1], 0))
    assert dyadic(out.values[0], out.exp) >= 1
    mixed = BlockNorm((1, 2, 1), (1, 3, 7), 0)
    out = propagate(graph, mixed, ranges, [], ([1, 3, 7], 0))
    # z+ = (b0, b1, a0, a1): b0 moves by 3, (b1, a0) by √(7² + 1), a1 by 3
    first, second, third = (dyadic(v, out.exp) for v in out.values)
    assert first == 3 and third == 3 and second**2 >= 50 and second < F(709, 100)


def test_slopes_come_from_the_region_never_from_the_radius() -> None:
    """clamp(10 z, 0, 1) on the whole line has slope 10, however small its range is compared with d."""
    nodes = Nodes()
    step = nodes.function(nodes.clamp(nodes.scale(nodes.state(), 10), 0, 1))
    assert radius_of(step, [[1]], singles(100)) == [1000]
    assert radius_of(step, [[1]], singles(100), [(1, 2)]) == [0]
    assert radius_of(step, [[1]], singles(100), [(0, F(1, 16))]) == [1000]


@pytest.mark.parametrize(
    ("op", "region", "least", "most"),
    [
        ("gelu", None, 1.1289, 1.129),
        ("silu", None, 1.0998, 1.09985),
        ("sin", None, 1, 1),
        ("tanh", None, 1, 1),
        ("tanh", (1, 2), 0.4199, 0.41998),
        ("cos", (0, 1), 0.84147, 0.84148),
        ("softplus", None, 1, 1),
        ("sigmoid", None, 0.25, 0.25),
        ("abs", (-1, 2), 1, 1),
        ("relu", (-2, -1), 0, 0),
        ("relu", (-2, 1), 1, 1),
    ],
)
def test_activation_gains(op: str, region: tuple[int, int] | None, least: float, most: float) -> None:
    nodes = Nodes()
    step = nodes.function(nodes.add(op, nodes.state()))
    (found,) = radius_of(step, [[1]], singles(1), None if region is None else [region])
    assert least <= found <= most


def test_leaky_relu_left_of_zero_gains_its_slope_rounded_up() -> None:
    nodes = Nodes()
    step = nodes.function(nodes.add("leaky_relu", nodes.state(), slope={"exp": -200, "int": "1" + "0" * 40 + "1"}))
    slope = F(16**41 + 1, 2**200)
    (found,) = radius_of(step, [[1]], singles(1), [(-2, -1)])
    assert slope <= found <= slope + F(1, 2**127)


def test_a_group_takes_its_largest_slope() -> None:
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.state()))
    norm = BlockNorm((2,), (3,), 0)
    assert radius_of(step, [[2]], norm, [(-2, -1), (-1, 1)]) == [3]
    assert radius_of(step, [[2]], norm, [(-2, -1), (-1, 0)]) == [0]


def test_softmax_of_the_state() -> None:
    nodes = Nodes()
    step = nodes.function(nodes.add("softmax", nodes.state()))
    assert radius_of(step, [[3]], BlockNorm((3,), (1,), 0)) == [F(1, 2)]
    assert radius_of(step, [[3]], singles(1, 2, 4)) == [F(5, 4), F(6, 4), F(6, 4)]


def test_row_norms_have_their_own_jacobian_bounds() -> None:
    nodes = Nodes()
    step = nodes.function(nodes.add("rms_norm", nodes.state(), eps=graphs.dyadic(F(1, 4))))
    norm = BlockNorm((2,), (1,), 0)
    (everywhere,) = radius_of(step, [[2]], norm)
    assert 2 <= everywhere <= 2 + F(1, 2**100)
    (away,) = radius_of(step, [[2]], norm, [(3, 4), (-1, 1)])
    assert F(9, 2) + F(1, 4) <= (1 / away) ** 2 + F(1, 2**90) and away < F(1, 2)


def test_products_of_two_moving_factors_count_both() -> None:
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(nodes.add("mul", z, z))
    assert radius_of(step, [[1]], singles(1), [(-2, 3)]) == [6]


def test_an_unbounded_factor_is_refused() -> None:
    nodes = Nodes()
    z = nodes.state()
    with pytest.raises(CheckError) as caught:
        radius_of(nodes.function(nodes.add("mul", z, z)), [[1]], singles(1))
    assert caught.value.code == "UNSUPPORTED"


def test_maximum_in_singletons_and_groups() -> None:
    nodes = Nodes()
    z = nodes.state()
    shifted = nodes.add("select", z, axis=0, indices=[1, 0])
    step = nodes.function(nodes.add("max", z, shifted))
    assert radius_of(step, [[2]], singles(1, 5)) == [5, 5]
    (found,) = radius_of(step, [[2]], BlockNorm((2,), (1,), 0))
    assert found * found >= 2 and found <= 2


@pytest.mark.parametrize("seed", range(20))
def test_radii_are_homogeneous(seed: int) -> None:
    """Twice the weights, twice the radii, up to the rounding of the grid."""
    model = sample(10_000 + seed, EVERY_OP, 9)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    ranges = evaluate(
        graph, graph.step, box(random_box(rng, model.size)), box(random_box(rng, model.input_size, model.vocabulary))
    )
    norm = random_norm(rng, model.size)
    once, scaled = (propagate(graph, norm, ranges, [], ([k * w for w in norm.weights], norm.exp)) for k in (1, 1000))
    for a, b in zip(once.values, scaled.values, strict=True):
        one, many = dyadic(a, once.exp), dyadic(b, scaled.exp)
        assert abs(many - 1000 * one) <= (1 + many) * F(1, 2**50)


@pytest.mark.parametrize("op", ["relu", "abs", "leaky_relu", "clamp", *graphs.SMOOTH])
def test_slope_ranges_hold_between_any_two_points(op: str) -> None:
    rng = Random(op)
    attrs = {
        "leaky_relu": {"slope": graphs.dyadic(F(3, 8))},
        "clamp": {"lo": graphs.dyadic(-1), "hi": graphs.dyadic(F(1, 2))},
    }
    nodes = Nodes()
    out = nodes.add(op, nodes.state(), **attrs.get(op, {}))
    step = nodes.function(out)
    graph = kernel_graph(graph_json(step))
    for _ in range(30):
        bounds = random_box(rng, 1)
        lo, hi, exp = slopes(graph.step.nodes[out], box(bounds))
        wide_lo, wide_hi, wide_exp = slopes(graph.step.nodes[out], Tensor((1,)))
        assert dyadic(wide_lo[0], wide_exp) <= dyadic(lo[0], exp) + F(1, 2**127)
        assert dyadic(hi[0], exp) <= dyadic(wide_hi[0], wide_exp) + F(1, 2**127)
        (a,), (b,) = pair(rng, bounds)
        if a != b:
            fa, fb = (graphs.run(step, [array([to_real(v)], (1,))], None, {}, HIGH)[out][0] for v in (a, b))
            quotient = (fb - fa) / to_real(b - a)
            error = REFERENCE_ERROR / abs(to_real(b - a))
            assert to_real(dyadic(lo[0], exp)) - error <= quotient <= to_real(dyadic(hi[0], exp)) + error
