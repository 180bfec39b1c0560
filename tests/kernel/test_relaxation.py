"""Weak duality: the equations of a step, lower bounds against brute force and against the fixed points themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction as F
from itertools import product
from random import Random
from typing import Any

import pytest

from tests.kernel.certificates import graph_json, kernel_graph, real
from tests.kernel.graphs import Nodes, array
from tests.kernel.test_evaluate import box, flat
from trm_verify.kernel.affine import Unit, affine_forms
from trm_verify.kernel.columns import Sets
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.relaxation import (
    Functional,
    Leaf,
    System,
    bounds,
    combined,
    leaves_of,
    meet,
    slaved_states,
    system_of,
)
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval, kinks, table, value


def rows_of(system: System) -> list[list[F]]:
    return [[value_of(v, system.exp) for v in row] for row in system.rows]


def mixed(seed: int = 0) -> tuple[Graph, Random]:
    """Two parts: z₀, z₁ are ReLUs of everything, y keeps an equation: y ← |z₀|/2 − clamp(y) + x. Random weights."""
    rng = Random(f"relaxation {seed}")

    def weights(rows: int, columns: int) -> Any:
        return array([F(rng.randint(-8, 8), 8) for _ in range(rows * columns)], (rows, columns))

    nodes = Nodes()
    z, y, x = nodes.state(0), nodes.state(1), nodes.add("input")
    moved = nodes.add("add", nodes.add("linear", z, nodes.constant(weights(2, 2))), x)
    moved = nodes.add("add", moved, nodes.add("linear", y, nodes.constant(weights(2, 1))))
    first = nodes.add("relu", moved)
    bent = nodes.scale(nodes.add("abs", nodes.add("slice", z, axis=0, start=0, stop=1, step=1)), 1, 2)
    cut = nodes.clamp(nodes.scale(y, 3, 4), F(-1, 2), 1)
    second = nodes.add("add", nodes.add("sub", bent, cut), nodes.constant([F(rng.randint(-8, 8), 8)]))
    return kernel_graph(graph_json(nodes.function(first, second), [[2], [1]], real(2))), rng


def system(graph: Graph, merge: bool = True, region: Tensor | None = None) -> System:
    at = region or Tensor((graph.size,))
    forms = affine_forms(graph, graph.step, evaluate(graph, graph.step, at, Tensor((graph.input_size,))))
    return system_of(graph, forms, merge)


def lower_bounds(*given: Any) -> list[F | None]:
    return [interval[0] for interval in bounds(*given) if interval is not None]


# the equations


def test_a_state_that_is_a_unit_has_no_equation_of_its_own() -> None:
    graph, _ = mixed()
    merged, whole = system(graph), system(graph, merge=False)
    assert merged.kept == (2,) and merged.slaved == {0: 0, 1: 1}
    assert whole.kept == (0, 1, 2) and whole.slaved == {}
    assert merged.active == whole.active == (0, 1, 2, 3)
    assert len(merged.rows) == 1 + 4 and len(whole.rows) == 3 + 4
    assert merged.width == 1 + 2 + 1 + 4 and merged.first == 4
    assert [merged.state_column(i) for i in range(3)] == [4, 5, 3]
    assert [whole.state_column(i) for i in range(3)] == [3, 4, 5]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_equations_hold_at_states_that_are_their_units(seed: int, merge: bool) -> None:
    """At any state with z = u for merged states, the rows give f − z and argument − a of the step itself."""
    graph, rng = mixed(seed)
    own = system(graph, merge)
    x, z = ([F(rng.randint(-16, 16), 8) for _ in range(n)] for n in (2, 3))
    forms = affine_forms(graph, graph.step, evaluate(graph, graph.step, Tensor((3,)), Tensor((2,))))
    point: list[F] = [F(1), *z, *x]
    arguments = []
    for unit, row in zip(forms.units, forms.arguments.rows, strict=True):
        arguments.append(sum(value_of(c, forms.arguments.exp) * p for c, p in zip(row, point, strict=False)))
        point.append(value(unit, arguments[-1])[0])
    units = point[1 + 3 + 2 :]
    images = [
        sum(value_of(c, forms.outputs.exp) * p for c, p in zip(row, point, strict=True)) for row in forms.outputs.rows
    ]
    if merge:  # put the states that are units where their units are, and evaluate the rows there
        for i, k in own.slaved.items():
            assert images[i] == units[k]
        return
    columns = [F(1), *x, *(z[i] for i in own.kept), *units]
    residual = [sum(c * v for c, v in zip(row, columns, strict=True)) for row in rows_of(own)]
    assert residual[:3] == [f - v for f, v in zip(images, z, strict=True)]
    assert residual[3:] == arguments


def test_a_scaled_or_shifted_unit_is_no_state() -> None:
    for build, found in (
        (lambda n, u: u, {0: 0}),
        (lambda n, u: n.scale(u, 2), {}),
        (lambda n, u: n.scale(u, -1), {}),
        (lambda n, u: n.add("add", u, n.constant([F(1)])), {}),
        (lambda n, u: n.add("add", u, n.state()), {}),
        (lambda n, u: n.scale(n.scale(u, 1, 2), 2), {0: 0}),
    ):
        nodes = Nodes()
        graph = kernel_graph(graph_json(nodes.function(build(nodes, nodes.add("relu", nodes.state())))))
        forms = affine_forms(graph, graph.step, evaluate(graph, graph.step, Tensor((1,)), Tensor((0,), 0, [], [])))
        assert slaved_states(forms) == found


def test_reduced_rows_move_states_to_their_units() -> None:
    graph, _ = mixed()
    own = system(graph)
    # 1, z (3), x (2), units (4)
    assert own.reduced([9, 1, 2, 3, 4, 5, 10, 20, 30, 40]) == [9, 4, 5, 3, 11, 22, 30, 40]


# lower bounds


def sides(unit: Unit, interval: Interval) -> list[tuple[F, F]]:
    """(argument, value) at the ends and kinks of a piecewise-linear unit, (0, value) at the ends of a range."""
    if unit.op is None:
        assert unit.range is not None
        return [(F(0), v) for v in unit.range]
    lo, hi = interval
    assert lo is not None and hi is not None
    at = [lo, *(k for k in kinks(unit) if lo < k < hi), hi]
    return [(a, value(unit, a)[0]) for a in at]


def brute_force(
    own: System, functional: Functional, multipliers: Sequence[F], inputs: Tensor, states: Tensor,
    arguments: Sequence[Interval],
) -> F:  # fmt: skip
    """The least value of q + μ·(equations) over corners of the boxes and ends or kinks of the units, one by one."""
    corners = [inputs.fraction(j) for j in range(own.inputs)] + [states.fraction(i) for i in own.kept]
    choices = [sides(unit, interval) for unit, interval in zip(own.units, arguments, strict=True)]
    best: F | None = None
    for point in product(*corners):
        for picked in product(*choices):
            columns = [F(1), *point, *(v for _, v in picked)]
            total = sum(value_of(c, functional.exp) * v for c, v in zip(functional.row, columns, strict=True))
            if functional.unit >= 0:
                total += functional.sign * picked[functional.unit][0]
            for row, m, k in zip(rows_of(own), multipliers, [None] * len(own.kept) + list(own.active), strict=True):
                residual = sum(c * v for c, v in zip(row, columns, strict=True))
                total += m * (residual if k is None else residual - picked[k][0])
            best = total if best is None else min(best, total)
    assert best is not None
    return best


@pytest.mark.parametrize("seed", range(10))
def test_bounds_are_the_least_values_of_the_lagrangian(seed: int) -> None:
    graph, rng = mixed(seed)
    own = system(graph)
    inputs = box([(lo, lo + F(rng.randint(0, 8), 8)) for lo in (F(rng.randint(-8, 8), 8) for _ in range(2))])
    states = box([(lo, lo + F(rng.randint(0, 16), 8)) for lo in (F(rng.randint(-16, 8), 8) for _ in range(3))])
    arguments: list[Interval] = []
    for _ in own.units:
        lo = F(rng.randint(-16, 8), 8)
        arguments.append((lo, lo + F(rng.randint(0, 24), 8)))
    functionals = [own.of_state(i, sign) for i in range(3) for sign in (1, -1)]
    functionals += [own.of_argument(k, sign) for k in own.active for sign in (1, -1)]
    functionals += [
        Functional([0] * own.width, 0), Functional([rng.randint(-9, 9) for _ in range(own.width)], rng.randint(-5, 3)),
    ]  # fmt: skip
    functionals = rng.sample(functionals, 4)
    exp = rng.randint(-6, 1)
    multipliers = [[rng.randint(-12, 12) for _ in own.rows] for _ in functionals]
    each = Sets(inputs, states, [table(u, a) for u, a in zip(own.units, arguments, strict=True)])
    found = lower_bounds(own, [each] * len(functionals), functionals, multipliers, exp)
    for functional, row, bound in zip(functionals, multipliers, found, strict=True):
        assert bound == brute_force(own, functional, [value_of(m, exp) for m in row], inputs, states, arguments)


def negated(functional: Functional) -> Functional:
    return Functional([-v for v in functional.row], functional.exp, functional.unit, -functional.sign)


@pytest.mark.parametrize("seed", range(12))
def test_one_row_of_multipliers_bounds_both_sides(seed: int) -> None:
    """From above, what the negated row bounds from below: units of several kinds, some without an end, some cut."""
    graph, rng = mixed(seed)
    own = system(graph)
    inputs, states = (
        box([(F(-1, 2), F(rng.randint(-4, 8), 8)) for _ in range(2)]),
        box([(F(-1), F(rng.randint(0, 8)))] * 3),
    )
    kinds = [rng.choice([unit, Unit("tanh"), Unit("scale", {"factor": F(1, 3)})]) for unit in own.units]
    ends: list[Interval] = [(lo, lo + F(rng.randint(0, 24), 8)) for lo in (F(rng.randint(-16, 8), 8) for _ in kinds)]
    ends = [
        (lo, None) if unit.op == "relu" and rng.random() < 0.2 else (lo, hi)
        for unit, (lo, hi) in zip(kinds, ends, strict=True)
    ]
    tables = [table(unit, each) for unit, each in zip(kinds, ends, strict=True)]
    k = rng.randrange(len(kinds))
    cut = table(kinds[k], (ends[k][0], ends[k][0] + F(1, 16)))
    rays = Sets(inputs, states, tables)
    part = Sets(inputs, states, tables, {k: cut})
    whole = Sets(inputs, states, [*tables[:k], cut, *tables[k + 1 :]])
    given = [Functional([rng.randint(-9, 9) for _ in range(own.width)], rng.randint(-3, 3)), own.of_argument(k, 1)]
    given += [own.of_state(2, -1), given[0].times(F(5, 4)), own.of_argument(k, -1).times(F(1, 2))]
    rows = [[rng.randint(-12, 12) for _ in own.rows] for _ in given]
    rows[0][len(own.kept) + k] += 12
    for sets in (rays, part, whole):
        found = bounds(own, [sets] * len(given), [replace(q, both=True) for q in given], rows, -3)
        lower = bounds(own, [sets] * len(given), given, rows, -3)
        upper = bounds(own, [sets] * len(given), [negated(q) for q in given], [[-v for v in row] for row in rows], -3)
        assert [end for _, end in lower] == [None] * len(given)
        assert found == [(p, None if q is None else -q) for (p, _), (q, _) in zip(lower, upper, strict=True)]
    one, other = (bounds(own, [sets] * len(given), given, rows, -3) for sets in (part, whole))
    assert one == other


def test_sets_that_come_and_go_are_not_taken_for_each_other() -> None:
    """Each is gone when the next is made, and may have its place in memory."""
    graph, rng = mixed(3)
    own = system(graph)
    states = box([(F(-1), F(1))] * 3)
    tables = [table(unit, (F(-1), F(1))) for unit in own.units]
    ends = [(lo, lo + F(rng.randint(0, 8), 8)) for lo in (F(rng.randint(-8, 8), 8) for _ in range(50))]

    def sets(k: int) -> Sets | None:
        return None if k % 7 == 3 else Sets(box([ends[k], (F(0), F(1))]), states, tables)

    given = [Functional([rng.randint(-9, 9) for _ in range(own.width)], 0) for _ in ends]
    rows = [[rng.randint(-4, 4) for _ in own.rows] for _ in ends]
    together = bounds(own, map(sets, range(len(ends))), given, rows, -3)
    alone = [bounds(own, [sets(k)], [q], [row], -3)[0] for k, (q, row) in enumerate(zip(given, rows, strict=True))]
    assert together == alone and together.count(None) == 7 and len(set(together)) > 40


@pytest.mark.parametrize("seed", range(12))
def test_no_multipliers_bound_a_fixed_point_wrongly(seed: int) -> None:
    """A step shifted so that a chosen point is fixed: every bound, with any multipliers, lies below its value there."""
    rng = Random(f"sound {seed}")
    n = 2
    w = [[F(rng.randint(-24, 24), 8) for _ in range(n)] for _ in range(n)]
    x, z = [F(rng.randint(-8, 8), 8)], [F(rng.randint(0, 8), 8) for _ in range(n)]
    u = [F(rng.randint(-8, 8), 8) for _ in range(n)]
    away = [F(rng.randint(0, 8), 8) if v == 0 else F(0) for v in z]  # how far below 0 an inactive argument is
    bias = [
        v - a - sum(p * q for p, q in zip(row, z, strict=True)) - c * x[0]
        for v, a, row, c in zip(z, away, w, u, strict=True)
    ]
    nodes = Nodes()
    moved = nodes.add("linear", nodes.state(), nodes.constant(array([v for r in w for v in r], (n, n))))
    given = nodes.add("linear", nodes.add("input"), nodes.constant(array(u, (n, 1))))
    out = nodes.add("relu", nodes.add("add", nodes.add("add", moved, given), nodes.constant(bias)))
    graph = kernel_graph(graph_json(nodes.function(out), [[n]], real(1)))
    own = system(graph)
    arguments = [v - a for v, a in zip(z, away, strict=True)]
    around: list[Interval] = [(a - F(rng.randint(0, 8), 8), a + F(rng.randint(0, 8), 8)) for a in arguments]
    inputs = box([(x[0] - F(1, 4), x[0] + F(1, 2))])
    each = Sets(inputs, Tensor((n,)), [table(unit, a) for unit, a in zip(own.units, around, strict=True)])
    columns = [F(1), *x, *z]
    for _ in range(40):
        multipliers = [rng.randint(-40, 40) for _ in own.rows]
        functionals = [Functional([rng.randint(-9, 9) for _ in range(own.width)], 0), own.of_argument(0, 1)]
        found = lower_bounds(own, [each] * 2, functionals, [multipliers] * 2, -4)
        both = bounds(own, [each] * 2, [replace(q, both=True) for q in functionals], [multipliers] * 2, -4)
        at = [sum(c * v for c, v in zip(functionals[0].row, columns, strict=True)), arguments[0]]
        assert all(bound is not None and bound <= v for bound, v in zip(found, at, strict=True))
        assert all(lo is not None and hi is not None and lo <= v <= hi for (lo, hi), v in zip(both, at, strict=True))


def test_unbounded_columns_must_have_no_weight() -> None:
    graph, _ = mixed()
    own = system(graph)
    intervals: list[Interval] = [(F(-1), F(1))] * 4
    whole = Sets(flat([F(0), F(0)]), Tensor((3,)), [table(u, a) for u, a in zip(own.units, intervals, strict=True)])
    functionals = [own.of_state(2, 1), own.of_state(0, 1), Functional([5] + [0] * (own.width - 1), 0)]
    found = lower_bounds(own, [whole] * 3, functionals, [[0] * 5] * 3, 0)
    assert found == [None, 0, 5]
    ray: list[Interval] = [(None, F(1)), (F(0), None), (F(-1), F(1)), (F(-1), F(1))]
    rays = Sets(Tensor((2,)), box([(F(0), F(1))] * 3), [table(u, a) for u, a in zip(own.units, ray, strict=True)])
    found = lower_bounds(own, [rays] * 4, [own.of_state(0, 1), own.of_state(0, -1), own.of_state(1, -1),
                                           own.of_argument(0, 1)], [[0] * 5] * 4, 0)  # fmt: skip
    assert found == [0, -1, None, None]


def test_combined_rows_are_exact() -> None:
    graph, rng = mixed(3)
    own = system(graph)
    functionals = [Functional([rng.randint(-9, 9) for _ in range(own.width)], e) for e in (-7, 2)]
    multipliers = [[rng.randint(-9, 9) for _ in own.rows] for _ in functionals]
    rows, exp = combined(own, functionals, multipliers, -3)
    for functional, m, row in zip(functionals, multipliers, rows, strict=True):
        for column in range(own.width):
            expected = value_of(functional.row[column], functional.exp)
            expected += sum(value_of(v, -3) * r[column] for v, r in zip(m, rows_of(own), strict=True))
            assert value_of(row[column], exp) == expected


# trees


def random_tree(rng: Random, variables: int, depth: int) -> tuple[list[int], list[F]]:
    if depth == 0 or rng.random() < 0.3:
        return [-1], []
    parts = [random_tree(rng, variables, depth - 1) for _ in range(2)]
    split = [rng.randrange(variables), *parts[0][0], *parts[1][0]]
    return split, [F(rng.randint(-8, 8), 4), *parts[0][1], *parts[1][1]]


def holds(leaf: Leaf, point: Sequence[F], units: int) -> bool:
    cuts = [*((k, i) for k, i in leaf.arguments.items()), *((units + j, i) for j, i in leaf.inputs.items())]
    return all((lo is None or point[k] >= lo) and (hi is None or point[k] <= hi) for k, (lo, hi) in cuts)


@pytest.mark.parametrize("seed", range(30))
def test_the_leaves_of_a_tree_cover_everything(seed: int) -> None:
    graph, _ = mixed()
    own = system(graph)
    rng = Random(f"tree {seed}")
    splits, at = random_tree(rng, 6, 5)
    leaves = leaves_of(own, splits, at)
    assert len(leaves) == splits.count(-1)
    for _ in range(200):
        point = [F(rng.randint(-10, 10), 4) for _ in range(6)]
        assert any(holds(leaf, point, 4) for leaf in leaves)


def test_the_part_below_a_cut_comes_first() -> None:
    graph, _ = mixed()
    below, above = leaves_of(system(graph), [2, -1, -1], [F(1, 2)])
    assert below == Leaf({2: (None, F(1, 2))}, {}) and above == Leaf({2: (F(1, 2), None)}, {})
    low, high = leaves_of(system(graph), [5, -1, -1], [F(3)])
    assert low == Leaf({}, {1: (None, F(3))}) and high == Leaf({}, {1: (F(3), None)})
    nested = leaves_of(system(graph), [2, 2, -1, -1, -1], [F(1), F(0)])
    assert [leaf.arguments[2] for leaf in nested] == [(None, F(0)), (F(0), F(1)), (F(1), None)]


@pytest.mark.parametrize(
    ("splits", "at"),
    [
        ([], []),
        ([0], [F(0)]),
        ([0, -1], [F(0)]),
        ([-1, -1], []),
        ([0, -1, -1, -1], [F(0)]),
        ([0, -1, -1], []),
        ([0, -1, -1], [F(0), F(1)]),
        ([-1], [F(0)]),
        ([6, -1, -1], [F(0)]),
        ([-2, -1, -1], [F(0)]),
    ],
)
def test_what_is_no_tree_is_refused(splits: list[int], at: list[F]) -> None:
    graph, _ = mixed()
    with pytest.raises(CheckError) as caught:
        leaves_of(system(graph), splits, at)
    assert caught.value.code == "WITNESS"


def test_a_unit_without_argument_cannot_be_cut() -> None:
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(nodes.add("add", nodes.add("mul", z, z), nodes.clamp(z, 0, 1)))
    graph = kernel_graph(graph_json(step))
    own = system(graph, region=box([(F(-1), F(1))]))
    assert [u.op for u in own.units] == [None, "clamp"] and own.active == (1,)
    assert leaves_of(own, [1, -1, -1], [F(0)])
    with pytest.raises(CheckError) as caught:
        leaves_of(own, [0, -1, -1], [F(0)])
    assert caught.value.code == "WITNESS"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((F(0), F(2)), (F(1), F(3)), (F(1), F(2))),
        ((F(0), F(1)), (F(1), F(2)), (F(1), F(1))),
        ((F(0), F(1)), (F(2), F(3)), None),
        ((None, F(1)), (F(0), None), (F(0), F(1))),
        ((None, None), (None, None), (None, None)),
        ((None, F(0)), (F(1), None), None),
        ((F(0), None), (F(1), None), (F(1), None)),
    ],
)
def test_meet(a: Interval, b: Interval, expected: Interval | None) -> None:
    assert meet(a, b) == meet(b, a) == expected
