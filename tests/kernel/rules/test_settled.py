"""Where loops that settle end, what they answer there, and audits of them; also what fresh readings had found."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from fractions import Fraction as F
from itertools import product
from random import Random

import pytest

from tests.corpus.good_triangular import causal, shifted
from tests.corpus.sheet import Nodes, Sheet, canonical, graph, identity_readout, real, stored, vector
from trm_verify.kernel.check import check
from trm_verify.kernel.claims import Conclusion, Run, Settled
from trm_verify.kernel.context import Context
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step as step_of
from trm_verify.kernel.graph import parse
from trm_verify.kernel.inequality import Sum
from trm_verify.kernel.numbers import require_bits
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.rules.invariance import invariant_box
from trm_verify.kernel.rules.settled import answer_when_settled, end_of, settled_run
from trm_verify.kernel.rules.triangular import triangular
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.kernel.weights import Weights


def settled_from(numerator: int) -> Sheet:
    """A constant step that starts from numerator / (x + 2), on x in [-1, 1]² or, for 0, from 1/x."""
    step, init = Nodes(), Nodes()
    state = step.constant([1, 0])
    given = init.add("input")
    divisor = init.add("add", given, init.constant([2, 2])) if numerator else given
    start = init.add("div", init.constant([1, 1]), divisor)
    sheet = Sheet(graph(step.function(state), [[2]], real(2), init.function(start), identity_readout()))
    domain, box = sheet.box([-1, -1], [1, 1], "input"), sheet.box([F(1, 2), 0], [2, 0])
    settled = sheet.step("triangular", domain=domain, parts=[[2, 1]])
    invariant = sheet.step("invariant_box", operator="picard", domain=domain, region=box)
    reached = sheet.step("settled_in", settled, invariant)
    answered = sheet.step("answer_by_invariance", invariant, reached, domain=domain, answer=[0], steps=1)
    sheet.claim(answered, "answer", operator="picard", domain=domain, answer=[0], steps=1)
    return sheet


def test_a_start_that_exists_everywhere_is_needed() -> None:
    good, bad = settled_from(1), settled_from(0)
    assert check(canonical(good.statement()), good.weights).claims
    with pytest.raises(CheckError, match="divisor whose enclosure excludes 0"):
        check(canonical(bad.statement()), bad.weights)


def test_what_is_followed_starts_where_init_exists() -> None:
    """The settled state needs no start; its answer as one of the loop does."""
    for numerator, wrong in ((1, None), (0, "divisor whose enclosure excludes 0")):
        sheet = settled_from(numerator)
        del sheet.steps[1:], sheet.claims[:]
        done = sheet.step("answer_when_settled", 0, domain=0, answer=[0])
        sheet.claim(done, "answer", operator="picard", domain=0, answer=[0], steps=1)
        if wrong is None:
            assert check(canonical(sheet.statement()), sheet.weights).claims
        else:
            with pytest.raises(CheckError, match=wrong):
                check(canonical(sheet.statement()), sheet.weights)


TABLE = (3, -1, 2)


def spelled(low: list[int], high: list[int], answer: list[int]) -> Sheet:
    """Three symbols: z_t ← 4 z_{t−1} + table[x_t], read as its sign. No symbol lies between two others."""
    step, readout = Nodes(), Nodes()
    before = shifted(step, step.state(), 3)
    given = step.add("embedding", step.add("input"), step.constant([[v] for v in TABLE]))
    out = step.add("add", step.scale(before, 4), given)
    logits = readout.function(readout.linear(readout.state(), "R"))
    symbols = {"shape": [3], "kind": "integer", "size": len(TABLE)}
    sheet = Sheet(graph(step.function(out), [[3, 1]], symbols, None, logits), {"R": stored([[F(1)], [F(-1)]])})
    domain = sheet.box(low, high, "input") if low != high else sheet.point(low)
    ends = sheet.step("triangular", domain=domain, parts=[[1, 1], [1, 2], [1, 3]])
    done = sheet.step("answer_when_settled", ends, domain=domain, answer=answer)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=3)
    return sheet


def spelling(x: tuple[int, ...]) -> list[int]:
    state, found = 0, []
    for symbol in x:
        state = 4 * state + TABLE[symbol]
        found.append(int(state < 0))
    return found


def test_a_settled_answer_over_symbols_is_that_of_every_word_in_the_box() -> None:
    """Every box of words, every answer: accepted only where all words of the box answer so; a single word always."""
    corners = list(product(range(3), repeat=3))
    for low, high in product(corners, corners):
        if any(a > b for a, b in zip(low, high, strict=True)):
            continue
        words = product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))
        answers = {tuple(spelling(word)) for word in words}
        for answer in product(range(2), repeat=3):
            sheet = spelled(list(low), list(high), list(answer))
            try:
                accepted = bool(check(canonical(sheet.statement()), sheet.weights).claims)
            except CheckError as error:
                assert error.code == "MARGIN"
                accepted = False
            assert not accepted or answers == {answer}, (low, high, answer)
            assert accepted or low != high or answers != {answer}


@pytest.mark.parametrize("width", [0, 1 << 50])
def test_the_end_is_where_the_iterates_end_from_every_start(width: int) -> None:
    """Part by part or step by step: the same box, to the last bit, for a point and for a box of inputs."""
    sheet, rng = causal(7), Random(5)
    graph = parse(sheet.graph, Weights(sheet.weights))
    low = [rng.randint(-1 << 62, 1 << 62) for _ in range(7)]
    given = Tensor((7,), -62, low, [v + width for v in low] if width else low)
    parts = tuple((2, t + 1) for t in range(7))
    found = end_of(graph, Settled(PICARD, given, 7, parts=parts), given)
    for start in ([0] * 14, [rng.randint(-1 << 40, 1 << 40) for _ in range(14)]):
        state = Tensor((14,), -30, start, start)
        for _ in range(7):
            state = step_of(graph, state, given)
        assert (state.exp, state.ends()) == (found.exp, found.ends())


def test_long_entries_of_a_whole_matrix_are_refused_before_they_are_made() -> None:
    require_bits(600, 4096)
    with pytest.raises(CheckError, match="LIMIT"):
        require_bits(600, 8192)
    total = Sum(512)
    with pytest.raises(CheckError, match="LIMIT"):
        total.add([[1] * 512 for _ in range(512)], -40_000)


def test_parts_are_kept_as_they_are_written() -> None:
    """A number an entry, kept for each of many steps, would be gigabytes from a small file."""
    sheet = spelled([0, 0, 0], [0, 0, 0], spelling((0, 0, 0)))
    graph = parse(sheet.graph, Weights(sheet.weights))
    context = Context(graph, (("input", Tensor((3,), 0, [0] * 3, [0] * 3)),), ())
    found = triangular(context, [], {"domain": 0, "parts": [[1, 1], [1, 2], [1, 3]]})
    assert isinstance(found, Settled) and found.parts == ((1, 1), (1, 2), (1, 3))
    with pytest.raises(CheckError, match="INEQUALITY"):
        triangular(context, [], {"domain": 0, "parts": [[2, 1], [1, 2]]})


# audits: whatever the rule concludes about random chains and random "runs" of them, exact arithmetic agrees


def steps_exactly(weights: list[list[F]], shift: list[F], z: list[F]) -> list[F]:
    return [
        min(max(sum((w * v for w, v in zip(row, z, strict=True)), b), F(-2)), F(2))
        for row, b in zip(weights, shift, strict=True)
    ]


def answer_exactly(z: list[F], last: int) -> int | None:
    """Of the logits (z_last, 1/4)."""
    return None if z[last] == F(1, 4) else int(z[last] < F(1, 4))


@pytest.mark.parametrize("seed", range(40))
def test_every_accepted_audit_is_true(seed: int) -> None:
    rng, n, accepted, nothing = Random(seed), 3, 0, list[int]()
    scale = rng.choice([2, 2, 16])
    order = rng.sample(range(n), n)
    weights = [[F(0)] * n for _ in range(n)]
    for place, i in enumerate(order):
        for j in order[:place]:
            weights[i][j] = F(rng.randint(-12, 12), scale)
    shift, last = [F(rng.randint(-8, 8), 4) for _ in range(n)], order[-1]
    nodes, readout = Nodes(), Nodes()
    moved = nodes.add("add", nodes.linear(nodes.state(), "W"), nodes.constant(shift))
    picked = readout.linear(readout.state(), "R")
    logits = readout.function(readout.add("add", picked, readout.constant([0, F(1, 4)])))
    tensors = {"W": stored(weights), "R": stored([[F(int(i == last)) for i in range(n)], [F(0)] * n])}
    sheet = Sheet(graph(nodes.function(nodes.clamp(moved, -2, 2)), [[n]], None, None, logits), tensors)
    parsed = parse(sheet.graph, Weights(sheet.weights))
    end = [F(0)] * n
    for _ in range(n):
        end = steps_exactly(weights, shift, end)
    for _ in range(60):
        states = [[F(0)] * n]
        while len(states) < rng.choice([2, 4, 6]):
            noise = [F(rng.choice([0, 0, 1, -1]), rng.choice([1, 1, 4, 64])) for _ in range(n)]
            after = steps_exactly(weights, shift, states[-1])
            states.append([a + b for a, b in zip(after, noise, strict=True)])
        labels = [answer_exactly(z, last) for z in states]
        final = max(rng.randrange(len(states)), rng.randrange(len(states)))
        lo, hi = ([v - F(rng.randint(0, 9), 8) * sign for v in end] for sign in (1, -1))
        boxes = (
            ("input", Tensor((0,), 0, nothing, nothing)),
            ("state", from_fractions(list(zip(lo, hi, strict=True)), -8)),
        )
        context = Context(parsed, boxes, ())
        runs = [[1, 1 + order.index(i)] for i in range(n)]
        premises: list[Conclusion] = [triangular(context, [], {"domain": 0, "parts": runs})]
        answers = [
            None if label is None or k < final and rng.random() < 0.5 else [label] for k, label in enumerate(labels)
        ]
        witness = {"domain": 0, "states": vector(states), "answers": answers, "final": final}
        try:
            if rng.random() < 0.5:
                premises.append(invariant_box(context, [], {"operator": "picard", "domain": 0, "region": 1}))
            found = settled_run(context, premises, witness)
        except CheckError:
            continue
        accepted += 1
        assert isinstance(found, Run) and found.answer == (labels[-1],)
        for k, (z, drift, distance) in enumerate(zip(states, found.drifts, found.distances, strict=True)):
            before = [F(0)] * n if k == 0 else steps_exactly(weights, shift, states[k - 1])
            assert drift >= max(abs(a - b) for a, b in zip(z, before, strict=True))
            assert distance >= max(abs(a - b) for a, b in zip(z, end, strict=True))
            assert k < final or labels[k] == labels[-1]
        for z in (states[final], states[-1], end):
            for _ in range(n + 2):
                assert answer_exactly(z, last) == labels[-1]
                z = steps_exactly(weights, shift, z)
    ACCEPTED.append(accepted)


ACCEPTED: list[int] = []


def test_many_audits_were_accepted() -> None:
    """The test above would hold of a rule that accepts nothing."""
    if len(ACCEPTED) == 40:  # they ran in this process
        assert sum(ACCEPTED) > 200 and min(sum(ACCEPTED[k::2]) for k in range(2)) > 0


def test_long_states_are_not_all_held_at_once() -> None:
    """A thousand states that are 20,000 bits apart from the end: gigabytes, if their differences were kept."""
    n, count = 100, 300
    nodes, readout = Nodes(), Nodes()
    logits = readout.add("concat", readout.linear(readout.state(), "R"), readout.constant([-1]), axis=0)
    tensors = {"R": stored([[F(int(i == 0)) for i in range(n)]])}
    step = nodes.function(nodes.constant([0] * n))
    sheet = Sheet(graph(step, [[n]], None, None, readout.function(logits)), tensors)
    nothing: list[int] = []
    context = Context(
        parse(sheet.graph, Weights(sheet.weights)), (("input", Tensor((0,), 0, nothing, nothing)),), ()
    )  # fmt: skip
    settled = triangular(context, [], {"domain": 0, "parts": [[n, 1]]})
    states = {"exp": 20_000, "int": " ".join(["1"] * n * (count - 1) + ["0"] * n)}
    witness = {"domain": 0, "states": states, "answers": [None] * (count - 1) + [[0]], "final": count - 1}
    tracemalloc.start()
    found = settled_run(context, [settled], witness)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, Run) and found.distances[0] >= F(2) ** 20_000 and peak < 20e6
    assert all(v.numerator.bit_length() < 400 or v == F(2) ** 20_000 for v in found.distances)


# parts in an order only because a gate is closed on the domain: what is left at 0 meanwhile must not matter


@pytest.mark.parametrize("seed", range(30))
def test_gated_loops_end_where_their_exact_iterates_do(seed: int) -> None:
    """z ← clamp(Wz + relu(−x)·Vz + x), W in some order, V in none: for x ≥ 0 V is not seen, else it closes rings."""
    rng, n = Random(seed), 4
    order = rng.sample(range(n), n)
    ahead = {(i, j) for place, i in enumerate(order) for j in order[:place]}
    forward, back = (
        [[F(rng.randint(-12, 12), 2) * (any_ or (i, j) in ahead) for j in range(n)] for i in range(n)]
        for any_ in (False, True)
    )
    nodes, readout = Nodes(), Nodes()
    z, x = nodes.state(), nodes.add("input")
    gate = nodes.add("relu", nodes.scale(x, -1))
    seen = nodes.add("add", nodes.linear(z, "W"), nodes.add("mul", gate, nodes.linear(z, "V")))
    out = nodes.clamp(nodes.add("add", seen, x), -2, 2)
    logits = readout.linear(readout.state(), "R")
    rows = [[F(int(i == order[-1])) for i in range(n)], [F(int(i == order[0])) for i in range(n)]]
    tensors = {"W": stored(forward), "V": stored(back), "R": stored(rows)}
    sheet = Sheet(graph(nodes.function(out), [[n]], real(n), None, readout.function(logits)), tensors)
    parsed = parse(sheet.graph, Weights(sheet.weights))
    runs = [[1, 1 + order.index(i)] for i in range(n)]

    def boxed(ends: list[tuple[F, F]]) -> Context:
        return Context(parsed, (("input", from_fractions(ends, -8)),), ())

    for wide in (False, True):
        low = [F(rng.randint(0, 64), 32) for _ in range(n)]
        ends = [(v, v + (F(rng.randint(0, 2), 64) if wide else 0)) for v in low]
        context = boxed(ends)
        settled = triangular(context, [], {"domain": 0, "parts": runs})
        assert isinstance(settled, Settled)
        end = end_of(parsed, settled, context.boxes[0][1])
        accepted = []
        for answer in ([0], [1]):
            with suppress(CheckError):
                answer_when_settled(context, [settled], {"domain": 0, "answer": answer})
                accepted.append(answer[0])
        for _ in range(6):
            given = [rng.choice([a, b, (a + b) / 2]) for a, b in ends]
            state = [F(rng.randint(-9, 9)) for _ in range(n)]
            for _ in range(n):
                state = steps_exactly(forward, given, state)
            inside = [end.fraction(i) for i in range(n)]
            assert all(a <= v <= b for v, (a, b) in zip(state, inside, strict=True))
            leads = state[order[-1]] - state[order[0]]
            assert all(leads > 0 if label == 0 else leads < 0 for label in accepted)
        assert wide or inside == [(v, v) for v in state]
    with pytest.raises(CheckError, match="INEQUALITY"):  # the gate opens: V reads later parts
        triangular(boxed([(F(-1, 32), F(1))] * n), [], {"domain": 0, "parts": runs})
