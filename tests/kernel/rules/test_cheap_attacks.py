"""Certificates of a few bytes that would keep the kernel busy, or fill its memory: counted, or no longer dear."""

from __future__ import annotations

import gc
import time
import weakref
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, kernel_graph, real
from tests.kernel.graphs import Json, Nodes, vector
from trm_verify.kernel import bounding, evaluate
from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.context import HELD, Context
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.graph import MAX_WORK
from trm_verify.kernel.linear import Form
from trm_verify.kernel.rules.exhibited import arguments_at
from trm_verify.kernel.tensor import Tensor

SECONDS = 10  # of what took minutes, or hours
LARGE: Json = {"exp": 20000, "int": "1"}


def squares(entries: int, products: int, large: Json = LARGE, reads: bool = True) -> Json:
    """z ← 0 times the largest of some squares of z + large + 2^-256, or of the constants alone, in many entries."""
    nodes = Nodes()
    state = nodes.state()
    long = nodes.add("add", nodes.constant([F(1, 2**256)]), nodes.add("constant", shape=[1], value=large))
    if reads:
        long = nodes.add("add", state, long)
    wide = nodes.add("expand", long, shape=[entries])
    last = nodes.add("mul", wide, wide)
    for _ in range(products - 1):
        last = nodes.add("max", last, nodes.add("mul", wide, wide))
    first = nodes.add("slice", nodes.scale(last, 0), axis=0, start=0, stop=1, step=1)
    return graph_json(nodes.function(nodes.add("add", first, state)))


def work(raw: Json) -> int:
    """What one evaluation of the step is counted as."""
    graph = kernel_graph(raw)
    step(graph, Tensor((1,), 0, [0], [0]), Tensor((0,), 0, [], []))
    return graph.spent["work"]


@pytest.mark.parametrize("reads", [True, False], ids=["of the state", "of constants"])
def test_long_numbers_count_by_their_length(reads: bool) -> None:
    short: Json = {"exp": 200, "int": "1"}
    cheap, dear = (work(squares(64, 1, large, reads)) for large in (short, LARGE))
    assert dear > 20 * cheap


@pytest.mark.parametrize("reads", [True, False], ids=["of the state", "of constants"])
def test_many_long_numbers_are_refused_before_they_fill_the_memory(
    reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(squares(64, 1, reads=reads))
    monkeypatch.setattr(evaluate, "MAX_LONG", 1 << 24)  # two squares of 64 entries are 5 million bits
    work(squares(64, 1, reads=reads))
    with pytest.raises(CheckError, match=r"LIMIT.*in all nodes together"):
        work(squares(64, 10, reads=reads))


def test_damping_factors_count_as_what_is_kept() -> None:
    n = 1 << 17
    nodes = Nodes()
    context = Context(kernel_graph(graph_json(nodes.function(nodes.add("relu", nodes.state())), [[n]])), (), ())
    operator = context.operator({"outer_damped": vector([F(1, 2)])})
    assert operator.alpha == (F(1, 2),) * n and len({id(alpha) for alpha in operator.alpha}) == 1
    assert context.graph.spent["work"] == HELD * n
    context.graph.spent["work"] = MAX_WORK
    with pytest.raises(CheckError, match="LIMIT"):
        context.operator({"outer_damped": vector([F(1, 2)])})
    assert context.operator("picard").kind == "picard", "which keeps nothing"


def test_many_groups_are_read_in_one_pass() -> None:
    n = 60_000
    nodes = Nodes()
    sheet = Sheet(graph_json(nodes.function(nodes.add("relu", nodes.state())), [[n]]))
    sheet.block(*[1] * n, runs=[(1, 1)] * n)
    begun = time.perf_counter()
    assert sheet.code() == ACCEPTED
    assert time.perf_counter() - begun < SECONDS


def test_many_embeddings_at_the_end_of_a_long_chain_are_read_in_one_pass() -> None:
    n = 5_000
    nodes = Nodes()
    last, table = nodes.add("input"), nodes.add("constant", shape=[1, 1], value={"exp": 0, "int": "1"})
    for _ in range(n):
        last = nodes.add("reshape", last, shape=[1])
    found = [nodes.add("embedding", last, table) for _ in range(n)]
    total = nodes.add("reshape", nodes.add("concat", *found, axis=0), shape=[n])
    out = nodes.add("reshape", nodes.add("amax", total), shape=[1])
    sheet = Sheet(graph_json(nodes.function(out), given={"shape": [1], "kind": "integer", "size": 1}))
    begun = time.perf_counter()
    assert sheet.code() == ACCEPTED
    assert time.perf_counter() - begun < SECONDS


def test_only_the_input_itself_is_an_index() -> None:
    for computed in ("relu", "reshape"):
        nodes = Nodes()
        attrs = {"shape": [1]} if computed == "reshape" else {}
        source = nodes.add(computed, nodes.add("reshape", nodes.add("input"), shape=[1]), **attrs)
        table = nodes.add("constant", shape=[1, 1], value={"exp": 0, "int": "1"})
        out = nodes.add("reshape", nodes.add("embedding", source, table), shape=[1])
        sheet = Sheet(graph_json(nodes.function(out), given={"shape": [1], "kind": "integer", "size": 1}))
        assert sheet.code() == ("GRAPH" if computed == "relu" else ACCEPTED)


def test_leaves_that_cut_inputs_keep_no_domain_each(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, m = 60, 8
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def counted(*args: Any) -> Tensor:
        nonlocal most
        found = made(*args)
        gc.collect()
        alive.append(weakref.ref(found))
        most = max(most, sum(ref() is not None for ref in alive))
        return found

    made = bounding.from_fractions
    monkeypatch.setattr(bounding, "from_fractions", counted)
    nodes = Nodes()
    total = nodes.add("reshape", nodes.add("sum", nodes.add("input")), shape=[1])
    out = nodes.add("add", nodes.scale(nodes.state(), 1, 2), total)
    sheet = Sheet(graph_json(nodes.function(out), given=real(m)))
    domain, region = sheet.box([0] * m, [1] * m, "input"), sheet.box([-99], [99])
    known = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    sheet.step(
        "duality", known, targets=[0], signs=[1], splits=[*[0, -1] * (leaves - 1), -1],
        at=vector([F(k + 1, 1024) for k in range(leaves - 1)]), weights=vector([1] * leaves),
        multipliers=vector([2] * leaves),
    )  # fmt: skip
    assert sheet.code() == ACCEPTED
    assert len(alive) >= leaves - 1 and most <= 4


@pytest.mark.parametrize("varies", [False, True])
def test_a_range_that_rests_on_the_box_shows_nothing_beyond_it(varies: bool) -> None:
    """A product may be constant where the fixed points are known to lie, and not where a ray leaves."""
    forms = AffineForms(Form([[0, 0, 1]], 0), (Unit(None, {}, (F(3), F(3)), varies),), Form([[]], 0), 2)
    assert arguments_at(forms, [], [F(3)]) == (None if varies else [F(0)])
