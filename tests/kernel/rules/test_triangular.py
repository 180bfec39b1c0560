"""`triangular` and `settled_in`, and the pass over dependencies that they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, kernel_graph, linear_model, real
from tests.kernel.generator import Sample, sample
from tests.kernel.graphs import EXACT, Json, Nodes, dyadic, run, split, vector
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import SHAPES
from trm_verify.kernel.influence import levels_of
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.tensor import Tensor


def settles(model: Json, parts: Any, steps: int | None = None, domain: Any = None) -> Sheet:
    sheet = Sheet(model)
    place = sheet.point() if domain is None else domain(sheet)
    step = sheet.step("triangular", domain=place, parts=parts)
    if steps is not None:
        sheet.claim(step, "settles", operator="picard", domain=place, steps=steps)
    return sheet


CHAIN = [[0, 0, F(-2)], [F(3), 0, F(1, 2)], [0, 0, 0]]  # z_3, then z_1, then z_2


# accepted


@pytest.mark.parametrize("steps", [3, 4, 10**12])
def test_a_chain_settles_after_as_many_steps_as_parts(steps: int) -> None:
    assert settles(linear_model(CHAIN, [1, 1, 1]), [[1, 2], [1, 3], [1, 1]], steps).check().claims


@pytest.mark.parametrize("parts", [[[1, 2], [1, 3], [1, 1]], [[1, 2], [1, 3], [1, 2 - 1]]])
def test_exactly_one_follows_on_all_states_only(parts: Any) -> None:
    sheet = settles(linear_model(CHAIN), parts)
    assert sheet.claim(0, "exactly_one", domain=sheet.point(), region=sheet.all()).check().claims
    sheet.claims.clear()
    region = sheet.box([-1] * 3, [1] * 3)
    assert sheet.claim(0, "exactly_one", domain=sheet.point(), region=region).code() == "CLAIM"


def test_a_constant_step_settles_at_once() -> None:
    nodes = Nodes()
    model = graph_json(
        nodes.function(nodes.add("mul", nodes.state(), nodes.constant(np.zeros(2, dtype=object)))), [[2]]
    )
    assert settles(model, [[2, 1]], 1).check().claims
    assert settles(model, [[2, 1]], 0).code() == "CLAIM"


def causal(tokens: int, make: Any) -> Json:
    nodes = Nodes()
    z = nodes.state()
    before = nodes.add(
        "slice", nodes.add("pad", z, pads=[[1, 0], [0, 0]]), axis=0, start=0, stop=tokens, step=1
    )  # fmt: skip
    out = nodes.add("add", make(nodes, before, z), nodes.scale(before, 1, 8))  # so that every node has a use
    return graph_json(nodes.function(out), [[tokens, 2]])


INSIDE = {
    "a layer": lambda n, b, z: n.add("tanh", n.add("linear", b, n.constant(np.full((2, 2), F(9), dtype=object)))),
    "softmax in a token": lambda n, b, z: n.add("softmax", b),
    "a norm in a token": lambda n, b, z: n.add("layer_norm", b, eps=dyadic(F(1, 4))),
    "a product": lambda n, b, z: n.add("mul", b, b),
    "a masked mixture": lambda n, b, z: n.add(
        "matmul", n.constant(np.tril(np.full((3, 3), F(1, 2), dtype=object), -1)), z
    ),
    "a closed gate on itself": lambda n, b, z: n.add(
        "add", b, n.add("mul", z, n.constant(np.zeros((3, 2), dtype=object)))
    ),
    "a maximum": lambda n, b, z: n.add("max", b, n.scale(b, 2)),
}
OUTSIDE = {
    "a residual": lambda n, b, z: n.add("add", b, n.scale(z, 1, 1024)),
    "softmax over tokens": lambda n, b, z: n.add(
        "permute", n.add("softmax", n.add("permute", b, axes=[1, 0])), axes=[1, 0]
    ),
    "a sum over tokens": lambda n, b, z: n.add(
        "expand", n.add("reshape", n.add("sum", n.add("permute", b, axes=[1, 0])), shape=[1, 2]), shape=[3, 2]
    ),
    "a mixture with a diagonal": lambda n, b, z: n.add(
        "matmul", n.constant(np.tril(np.full((3, 3), F(1, 2), dtype=object))), z
    ),
    "weights that look ahead": lambda n, b, z: n.add("matmul", n.add("matmul", z, n.add("permute", z, axes=[1, 0])), b),
    "a gate of itself": lambda n, b, z: n.add("mul", b, z),
    "a maximum with itself": lambda n, b, z: n.add("max", b, z),
    "a roll": lambda n, b, z: n.add("select", z, axis=0, indices=[2, 0, 1]),
}
ORDER = [[2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("what", INSIDE)
def test_causal_steps_settle(what: str) -> None:
    assert settles(causal(3, INSIDE[what]), ORDER, 3).check().claims


@pytest.mark.parametrize("what", OUTSIDE)
def test_other_steps_are_refused(what: str) -> None:
    assert settles(causal(3, OUTSIDE[what]), ORDER, 3).code() == "INEQUALITY"


@pytest.mark.parametrize(
    "parts, code",
    [
        ([[3, 1]], "INEQUALITY"), ([[1, 1], [1, 2], [1, 3]], "INEQUALITY"), ([[1, 2], [1, 2], [1, 1]], "INEQUALITY"),
        ([[2, 1]], "WITNESS"), ([[4, 1]], "NUMBER"), ([[1, 2], [1, 3], [1, 1], [1, 1]], "WITNESS"),
        ([], "WITNESS"), ([[1, 2], [1, 3], [1, 0]], "NUMBER"), ([[1, 2], [1, 4], [1, 1]], "NUMBER"),
        ([[1, 2], [1, 3], [1]], "FIELD"), ([[1, 2], [1, 3], [1, "1"]], "NUMBER"),
        ([[1, 2], [1, 3], [1, True]], "NUMBER"),
    ],
)  # fmt: skip
def test_other_parts_are_refused(parts: Any, code: str) -> None:
    found = settles(linear_model(CHAIN), parts, 3).code()
    assert found == code or code == "NUMBER" and found in ("NUMBER", "FIELD")


def test_premises_fields_and_claims() -> None:
    sheet = settles(linear_model(CHAIN), [[1, 2], [1, 3], [1, 1]], 3)
    for operator in ({"outer_damped": vector([F(1, 2)])}, "implicit"):
        sheet.claims[0]["operator"] = operator
        assert sheet.code() == "CLAIM"
    sheet.claims[0] |= {"operator": "picard", "steps": 2}
    assert sheet.code() == "CLAIM"
    sheet.steps[0]["surplus"] = 1
    assert sheet.code() == "FIELD"


def test_gates_are_cut_over_the_domain_only() -> None:
    nodes = Nodes()
    z, x = nodes.state(), nodes.add("input")
    gate = nodes.add("relu", nodes.scale(x, -1))
    model = graph_json(nodes.function(nodes.add("mul", gate, z)), [[2]], real(2))
    for lo, verdict in ((0, ACCEPTED), (F(-1, 2**200), "INEQUALITY")):
        sheet = settles(model, [[2, 1]], None, lambda s, lo=lo: s.box([lo] * 2, [1] * 2, space="input"))
        assert sheet.verdict() == verdict


# where it ends


def ended(change: Any = None) -> Sheet:
    model = linear_model(CHAIN, [1, 1, 1])  # z_3 = 1, z_1 = −1, z_2 = −3/2
    sheet = settles(model, [[1, 2], [1, 3], [1, 1]])
    box = sheet.box([-1, F(-3, 2), 1], [-1, F(-3, 2), 1])
    sheet.step("invariant_box", operator="picard", domain=sheet.point(), region=box)
    sheet.step("settled_in", 0, 1)
    if change:
        change(sheet)
    return sheet


def test_the_end_lies_in_an_invariant_box() -> None:
    assert ended().verdict() == ACCEPTED


@pytest.mark.parametrize(
    "change, code",
    [
        (lambda s: s.steps[2].update(premises=[0]), "PREMISE"),
        (lambda s: s.steps[2].update(premises=[1, 0]), "PREMISE"),
        (lambda s: s.steps[2].update(steps=3), "FIELD"),
        (lambda s: s.steps[1].update(operator={"outer_damped": vector([F(1, 2)])}), "CONTEXT"),
        (lambda s: s.boxes[1].update(lo=vector([-1, F(-3, 2), F(3, 2)]), hi=vector([-1, F(-3, 2), 2])), "INCLUSION"),
    ],
)  # fmt: skip
def test_other_ends_are_refused(change: Any, code: str) -> None:
    assert ended(change).code() == code


# every operation, against what perturbed evaluations show


OPS = sorted(set(LAYOUTS) | set(SHAPES) - {"embedding", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos"}
             - {"softmax", "rms_norm", "layer_norm", "div"} | {"concat"})  # fmt: skip


def influenced(case: Sample, states: Sequence[Any], entry: int, by: F) -> list[set[int]]:
    """Per node, the entries that changed when one state entry did."""
    moved = list(states)
    moved[entry] += by
    step, shapes, tensors = case.graph["step"], case.shapes, case.tensors
    before, after = (run(step, split(z, shapes), None, tensors, EXACT) for z in (states, moved))
    return [
        {i for i, (p, q) in enumerate(zip(a.ravel(), b.ravel(), strict=True)) if p != q}
        for a, b in zip(before, after, strict=True)
    ]


def union(sets: Sequence[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found


@pytest.mark.parametrize("seed", range(80))
def test_what_moves_with_an_entry_depends_on_it(seed: int) -> None:
    """Random graphs in exact arithmetic: an entry that moves has at least the level of what moved it."""
    case = sample(seed, OPS, given=None)
    rng, parsed = Random(seed), kernel_graph(case.graph, case.tensors)
    n = parsed.size
    sets = [1 << i for i in range(n)]
    ranges = evaluate(parsed, parsed.step, Tensor((n,), 0, [-9] * n, [9] * n), Tensor((0,), 0, [], []))
    found = levels_of(parsed, parsed.step, ranges, sets, union)
    plain = levels_of(parsed, parsed.step, ranges, list(range(1, n + 1)))
    for own, level in zip(found, plain, strict=True):
        assert (own is None) == (level is None)
        if own is not None and level is not None:
            assert [s.bit_length() for s in own] == level
    for _ in range(6):
        states = [F(rng.randint(-24, 24), 8) for _ in range(n)]
        for entry in range(n):
            moved = influenced(case, states, entry, F(rng.choice([-3, 1, 5]), 4))
            for own, entries in zip(found, moved, strict=True):
                assert all(own is not None and own[i] >> entry & 1 for i in entries)
