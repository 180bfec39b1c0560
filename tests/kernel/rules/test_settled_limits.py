"""What a fresh reading of `settled_in` and `row_gain` found: each was accepted, or cost far more than its file."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import product
from random import Random

import pytest

from tests.corpus.good_triangular import causal, shifted
from tests.corpus.sheet import Nodes, Sheet, canonical, graph, identity_readout, real, stored
from trm_verify.kernel.check import check
from trm_verify.kernel.claims import Settled
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step as step_of
from trm_verify.kernel.graph import parse
from trm_verify.kernel.inequality import Sum
from trm_verify.kernel.numbers import require_bits
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.rules.answers import _end
from trm_verify.kernel.tensor import Tensor
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
    parts = tuple(t + 1 for t in range(7) for _ in range(2))
    found = _end(graph, Settled(PICARD, given, 7, parts=parts), given)
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
