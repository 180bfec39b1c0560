"""`commits`: rounds that commit, against the same rounds run in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, kernel_graph, real
from tests.kernel.graphs import Array, Json, Nodes, dyadic, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.rules.committing import classes_of, is_open, written
from trm_verify.kernel.tensor import Tensor
from trm_verify.models import commit

TINY = F(1, 2**40)


@dataclass(frozen=True)
class Linear:
    """z ← z/2 + Ux from 0, logits Rz + c: cells of `classes` classes, of which input x shows one channel more."""

    U: Array
    R: Array
    c: Array
    classes: int

    @property
    def cells(self) -> int:
        return len(self.U) // self.classes

    def graph(self) -> Json:
        nodes, readout = Nodes(), Nodes()
        seen = nodes.add("reshape", nodes.add("input"), shape=[self.U.shape[1]])
        out = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("linear", seen, nodes.constant(self.U)))
        made = readout.add("linear", readout.state(), readout.constant(self.R))
        logits = readout.add("add", made, readout.constant(self.c))
        logits = readout.add("reshape", logits, shape=[self.cells, self.classes])
        given = real(self.cells, 1 + self.classes)
        return graph_json(nodes.function(out), [[len(self.U)]], given, None, readout.function(logits))

    def state(self, x: Array, steps: int | None) -> Array:
        """z after so many steps; None: in the end."""
        return (2 if steps is None else 2 - F(2, 2**steps)) * (self.U @ x.ravel())

    def logits(self, x: Array, steps: int | None) -> Array:
        return (self.R @ self.state(x, steps) + self.c).reshape(self.cells, self.classes)


Outcome = tuple[tuple[int, ...], tuple[int, ...]]


def rounds(model: Linear, x: Array, threshold: F, blank: int, steps: int | None) -> Outcome:
    """The answer and the round of every commitment, as docs/format.md says."""
    x, when, labels = x.copy(), [0] * model.cells, [0] * model.cells
    for r in range(1, model.cells + 2):
        sure = []
        for cell, row in enumerate(model.logits(x, steps)):
            best = max(range(model.classes), key=lambda c: row[c])
            if when[cell] == 0:
                labels[cell] = best
            if x[cell, blank] == 1 and all(row[best] - row[c] > threshold for c in range(model.classes) if c != best):
                sure.append((cell, best))
        if not sure:
            return tuple(labels), tuple(when)
        for cell, best in sure:
            when[cell] = r
            x[cell] = [F(int(channel == best + (best >= blank))) for channel in range(1 + model.classes)]
    raise AssertionError("more rounds than cells + 1")


def drawn(rng: Random) -> tuple[Linear, Array, F, int]:
    """A model of one to three cells, an input with given and open cells, a threshold and a blank channel."""
    classes, cells = rng.randint(2, 3), rng.randint(1, 3)
    n, width = cells * classes, 1 + classes

    def matrix(height: int, columns: int, size: int) -> Array:
        values = [F(rng.choice([0, 0, 1, -1, 2, -2, 3]), size) for _ in range(height * columns)]
        return np.array(values, dtype=object).reshape(height, columns)

    U, R, c = matrix(n, cells * width, 4), matrix(n, n, 4) + np.eye(n, dtype=int), matrix(n, 1, 8).ravel()
    blank = rng.randrange(width)
    x = np.array([[F(0)] * width for _ in range(cells)], dtype=object)
    for cell in range(cells):
        x[cell, blank if rng.random() < 0.8 else rng.randrange(width)] = F(1)
        if rng.random() < 0.3:
            x[cell, rng.randrange(width)] += F(rng.randint(-3, 3), 4)
    return Linear(U, R, c, classes), x, F(rng.randint(0, 8), 4), blank


def certificate(
    model: Linear, low: Array, high: Array, outcome: Outcome, threshold: Any, blank: int, steps: int = 40,
    rivals: Sequence[int] | None = None, **rest: Any,
) -> Sheet:  # fmt: skip
    """A `commits` step over a box of inputs, with its claim. Rivals are the best at the middle, unless given."""
    answer, when = outcome
    x, centers, found = (low + high) / 2, [], list[int]()
    for r in range(1, max(when) + 2):
        centers.append(model.state(x, None))
        for cell, row in enumerate(model.logits(x, None)):
            if x[cell, blank] == 1 and not 0 < when[cell] <= r:
                found += [max((c for c in range(model.classes) if c != own), key=lambda c: row[c])
                          for own in range(model.classes)]  # fmt: skip
        for cell in range(model.cells):
            if when[cell] == r:
                channel = answer[cell] + (answer[cell] >= blank)
                x[cell] = [F(int(c == channel)) for c in range(1 + model.classes)]
    sheet = Sheet(model.graph())
    n = len(model.U)
    contracts = sheet.contraction(F(1, 2), sheet.block(*[1] * n), domain=sheet.all("input"))
    converges = sheet.step("convergence", contracts, start=sheet.all())
    told: Any = {"domain": sheet.box(low.ravel(), high.ravel(), "input"), "steps": steps,
                 "threshold": dyadic(threshold), "blank": blank, "answer": list(answer),
                 "committed": list(when)}  # fmt: skip
    witness = {**told, "centers": vector(centers), "rivals": found if rivals is None else list(rivals), **rest}
    done = sheet.step("commits", converges, **witness)
    return sheet.claim(done, "commits", operator="picard", **told)


def clear(model: Linear, x: Array, threshold: F, blank: int) -> bool:
    """Whether no decision of any round is nearly a tie."""
    answer, when = rounds(model, x, threshold, blank, None)
    x = x.copy()
    for r in range(1, max(when) + 2):
        for cell, row in enumerate(model.logits(x, None)):
            first, second = sorted(row)[:-3:-1]
            decides = x[cell, blank] == 1
            if (decides and abs(first - second - threshold) < F(1, 2**16)) or first - second < F(1, 2**16):
                return False
        for cell in range(model.cells):
            if when[cell] == r:
                channel = answer[cell] + (answer[cell] >= blank)
                x[cell] = [F(int(c == channel)) for c in range(1 + model.classes)]
    return True


# what happens is accepted, and nothing else


@pytest.mark.parametrize("seed", range(120))
def test_what_the_rounds_do_is_accepted(seed: int) -> None:
    model, x, threshold, blank = drawn(Random(seed))
    while not clear(model, x, threshold, blank):
        seed += 1000
        model, x, threshold, blank = drawn(Random(seed))
    outcome = rounds(model, x, threshold, blank, None)
    assert certificate(model, x, x, outcome, threshold, blank).check().claims
    for steps in (40, 41, 77):
        assert rounds(model, x, threshold, blank, steps) == outcome


def test_the_draws_have_many_rounds_and_cells_that_stay_open() -> None:
    found = []
    for seed in range(120):
        model, x, threshold, blank = drawn(Random(seed))
        if clear(model, x, threshold, blank):
            found.append((rounds(model, x, threshold, blank, None)[1], x[:, blank] == 1))
    assert sum(max(when) >= 2 for when, _ in found) >= 10
    assert sum(any(shown[p] and when[p] == 0 for p in range(len(when))) for when, shown in found) >= 10
    assert sum(max(when) == 0 for when, _ in found) >= 5


def other(rng: Random, model: Linear, outcome: Outcome) -> Outcome:
    """Another answer, or other rounds."""
    answer, when = list(outcome[0]), list(outcome[1])
    for _ in range(rng.randint(1, 2)):
        cell = rng.randrange(model.cells)
        if rng.random() < 0.4:
            answer[cell] = rng.randrange(model.classes)
        else:
            when[cell] = rng.randint(0, model.cells)
    return tuple(answer), tuple(when)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_accepted_over_a_box_is_what_the_rounds_do(seed: int) -> None:
    """Whatever is claimed, with whatever rivals, over whatever box: accepted only if all inputs do just that."""
    rng = Random(7000 + seed)
    accepted = 0
    for _ in range(120):
        model, middle, threshold, blank = drawn(rng)
        radius = F(rng.choice([0, 1, 1, 4, 16]), 64)
        spread = np.array([[radius * rng.randint(0, 1) for _ in row] for row in middle], dtype=object)
        for cell in range(model.cells):
            if middle[cell, blank] == 1 and rng.random() < 0.9:
                spread[cell, blank] = F(0)
        low, high = middle - spread, middle + spread
        outcome = rounds(model, middle, threshold, blank, None)
        if rng.random() < 0.5:
            outcome = other(rng, model, outcome)
        steps = rng.choice([0, 1, 2, 5, 12, 40])
        claimed = certificate(model, low, high, outcome, threshold, blank, steps)
        if rng.random() < 0.3:
            rivals = claimed.steps[-1]["rivals"]
            claimed.steps[-1]["rivals"] = [rng.randrange(model.classes) for _ in rivals]
        if claimed.verdict() != ACCEPTED:
            continue
        accepted += 1
        for k in (steps, steps + 1, steps + 3, None):
            for _ in range(6):
                share = np.array([[F(rng.choice([0, 1, 2, 4]), 4) for _ in row] for row in low], dtype=object)
                x = low + share * (high - low)
                assert rounds(model, x, threshold, blank, k) == outcome
    assert accepted >= 5


def test_boxes_are_accepted_too() -> None:
    """The search above accepts some of what it draws over boxes that are no points."""
    rng, accepted = Random(3), 0
    for _ in range(120):
        model, middle, threshold, blank = drawn(rng)
        spread = np.full(middle.shape, F(1, 1024), dtype=object)
        spread[middle[:, blank] == 1, blank] = F(0)
        outcome = rounds(model, middle, threshold, blank, None)
        accepted += (
            certificate(model, middle - spread, middle + spread, outcome, threshold, blank).verdict() == ACCEPTED
        )
    assert accepted >= 20


@pytest.mark.parametrize("seed", range(40))
def test_torch_runs_the_same_rounds(seed: int) -> None:
    """`models.commit` is what the claim speaks of: dyadic models and 40 steps are exact in doubles."""
    model, x, threshold, blank = drawn(Random(100 + seed))
    U, R, c = (torch.tensor(m.astype(float), dtype=torch.float64) for m in (model.U, model.R, model.c))
    shape = (model.cells, model.classes)
    live: Any = tv.recursive(
        lambda z, x: z / 2 + x.flatten(1) @ U.T, state_shape=(len(U),), input_shape=tuple(x.shape),
        readout=lambda z: (z @ R.T + c).reshape(-1, *shape),
    )  # fmt: skip
    given = torch.tensor(x.astype(float), dtype=torch.float64)[None]
    found = commit(live, given, steps=30, threshold=float(threshold), blank=blank)
    answer, when = rounds(model, x, threshold, blank, 30)
    assert found.answer[0].tolist() == list(answer)
    assert (found.committed[0].tolist(), found.rounds.item()) == ([w > 0 for w in when], 1 + max(when))


# thresholds, exactly


def single(gap: F, c: Sequence[F] = (F(0), F(0))) -> tuple[Linear, Array]:
    """One open cell whose logits are `gap` apart from the start: the state plays no part."""
    zero = np.array([[F(0)] * 3] * 2, dtype=object)
    return (
        Linear(zero, np.zeros((2, 2), dtype=int) * F(1), np.array([gap, F(0)], dtype=object), 2),
        np.array([[F(1), F(0), F(0)]], dtype=object),
    )


@pytest.mark.parametrize(
    ("gap", "threshold", "when", "verdict"),
    [
        (1 + TINY, F(1), 1, ACCEPTED),
        (F(1), F(1), 1, "MARGIN"),
        (1 - TINY, F(1), 1, "MARGIN"),
        (1 - TINY, F(1), 0, ACCEPTED),
        (F(1), F(1), 0, "MARGIN"),  # true, and not strictly so
        (1 + TINY, F(1), 0, "MARGIN"),
        (TINY, F(0), 1, ACCEPTED),
        (F(0), F(0), 1, "MARGIN"),
        (F(0), F(0), 0, "MARGIN"),
        (F(0), F(1), 0, "MARGIN"),  # undecided, and a tie is no answer
        (TINY, F(1), 0, ACCEPTED),
        (-TINY, F(1), 0, "MARGIN"),
        (F(3), F(2) ** 2000, 0, ACCEPTED),
        (F(3), F(2) ** 2000, 1, "MARGIN"),
    ],
)
def test_margins_are_strict_at_the_threshold(gap: F, threshold: F, when: int, verdict: str) -> None:
    model, x = single(gap)
    assert certificate(model, x, x, ((0,), (when,)), threshold, 0).verdict() == verdict


def test_a_class_is_no_rival_of_itself() -> None:
    model, x = single(F(5))
    for rivals in ([1, 0], [0, 0], [0, 1], [1, 1]):
        assert certificate(model, x, x, ((0,), (0,)), 1, 0, rivals=rivals).code() == "MARGIN"
    model, x = single(F(1, 2))
    assert certificate(model, x, x, ((0,), (0,)), 1, 0, rivals=[1, 0]).check().claims
    for rivals in ([0, 0], [0, 1], [1, 1]):
        assert certificate(model, x, x, ((0,), (0,)), 1, 0, rivals=rivals).code() == "MARGIN"


def leaders() -> tuple[Linear, Array, Array]:
    """A cell whose leaders are two of three classes, another two as its own hint says; a cell beside it decides."""
    U, R, c = (np.zeros(s, dtype=int) * F(1) for s in ((6, 8), (6, 6), (6,)))
    R += np.eye(6, dtype=int)
    U[0, 0] = F(2)  # cell 0 is class 0 at once
    U[4, 5], U[5, 5] = F(1), F(-1)  # channel 1 of cell 1 moves class 1 up and class 2 down
    U[3, 1] = F(8)  # cell 1 is class 0 as soon as cell 0 is
    low = np.array([[F(1), 0, 0, 0], [F(1), F(-1, 8), 0, 0]], dtype=object) * F(1)
    high = np.array([[F(1), 0, 0, 0], [F(1), F(1, 8), 0, 0]], dtype=object) * F(1)
    return Linear(U, R, c, 3), low, high


def test_the_leader_may_change_while_a_cell_is_open() -> None:
    model, low, high = leaders()
    outcome = ((0, 0), (1, 2))
    for x in (low, high):
        assert rounds(model, x, F(1), 0, None) == outcome
    assert certificate(model, low, high, outcome, 1, 0).check().claims
    assert certificate(model, low, high, outcome, F(1, 16), 0).code() == "MARGIN"


# what a cell shows


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (F(1), F(1), ACCEPTED),
        (F(1), F(2), "BOX"),
        (F(1, 2), F(1), "BOX"),
        (F(0), F(2), "BOX"),
        (1 - TINY, 1 + TINY, "BOX"),
        (F(0), F(1, 2), "WITNESS"),  # not open: cannot be committed
        (1 + TINY, F(2), "WITNESS"),
        (1 - TINY, 1 - TINY, "WITNESS"),
    ],
)
def test_a_cell_is_open_for_all_inputs_or_for_none(low: F, high: F, verdict: str) -> None:
    model, x = single(F(5))
    ends = [np.array([[end, F(0), F(0)]], dtype=object) for end in (low, high)]
    assert certificate(model, *ends, ((0,), (1,)), 1, 0).verdict() == verdict


def test_a_closed_cell_answers_and_is_never_committed() -> None:
    model, _ = single(F(5))
    x = np.array([[F(0), F(0), F(1)]], dtype=object)
    assert certificate(model, x, x, ((0,), (0,)), 1, 0).check().claims
    assert certificate(model, x, x, ((1,), (0,)), 1, 0).code() == "MARGIN"
    assert certificate(model, x, x, ((0,), (1,)), 1, 0).code() == "WITNESS"


@pytest.mark.parametrize("point", [True, False])
@pytest.mark.parametrize("exp", [-3, 0, 2])
def test_a_commitment_replaces_the_whole_cell(point: bool, exp: int) -> None:
    """Whatever noise the other channels had is gone."""
    lo, hi = [4, 1, 2, 3, 5, 6], [4, 7, 2, 3, 5, 9]
    after = written(Tensor((6,), exp, lo, lo if point else hi), {0: 2}, 3)
    assert [after.fraction(i) for i in range(3)] == [(F(0), F(0)), (F(0), F(0)), (F(1), F(1))]
    unit = F(2) ** exp
    assert [after.fraction(i)[0] for i in range(3, 6)] == [v * unit for v in lo[3:]]
    assert [after.fraction(i)[1] for i in range(3, 6)] == [v * unit for v in (lo if point else hi)[3:]]
    assert after.is_point == point
    assert written(after, {1: 0}, 3).is_point


def test_open_is_exactly_one() -> None:
    box = Tensor((4,), -2, [4, 3, 0, 5], [4, 4, 3, 9])
    assert (is_open(box, 0), is_open(box, 2), is_open(box, 3)) == (True, False, False)
    with pytest.raises(CheckError) as caught:
        is_open(box, 1)
    assert caught.value.code == "BOX"


# shapes


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, "UNSUPPORTED"),
        ({"shape": [2, 3], "kind": "integer", "size": 2}, "UNSUPPORTED"),
        (real(2, 2), "SHAPE"),
        (real(3, 2), "SHAPE"),
        (real(6), "SHAPE"),
        (real(1, 2, 3), "SHAPE"),
    ],
)
def test_an_input_shows_a_blank_and_every_class(given: Any, code: str) -> None:
    nodes, readout = Nodes(), Nodes()
    out = nodes.function(nodes.scale(nodes.state(), 1, 2))
    graph = kernel_graph(graph_json(out, [[2, 2]], given, None, readout.function(readout.scale(readout.state(), 1))))
    with pytest.raises(CheckError) as caught:
        classes_of(graph)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("committed", [0, 1], "WITNESS"),
        ("committed", [], "WITNESS"),
        ("committed", [2], "NUMBER"),
        ("committed", [-1], "NUMBER"),
        ("committed", 1, "FIELD"),
        ("committed", [True], "FIELD"),
        ("answer", [2], "NUMBER"),
        ("answer", [], "SHAPE"),
        ("blank", 3, "NUMBER"),
        ("blank", -1, "NUMBER"),
        ("steps", -1, "NUMBER"),
        ("threshold", dyadic(-1), "WITNESS"),
        ("threshold", 1, "FIELD"),
        ("centers", vector([0] * 3), "NUMBER"),
        ("centers", vector([0] * 5), "NUMBER"),
        ("rivals", [1], "WITNESS"),
        ("rivals", [1, 2], "NUMBER"),
        ("rivals", [1, None], "FIELD"),
    ],
)
def test_malformed_witnesses_have_their_code(field: str, value: Any, code: str) -> None:
    model, x = single(F(5))
    sheet = certificate(model, x, x, ((0,), (1,)), 1, 0)
    assert sheet.check().claims
    sheet.steps[-1][field] = value
    assert sheet.code() == code


@pytest.mark.parametrize(("cells", "code"), [(100_000, "LIMIT"), (20_000, "WITNESS")])
def test_many_rounds_over_many_cells_are_refused_at_once(cells: int, code: str) -> None:
    """Each cell in a round of its own: too much work, or two hundred million rivals that the file does not have."""
    nodes, readout = Nodes(), Nodes()
    out = nodes.function(nodes.scale(nodes.state(), 1, 2))
    spread = readout.add("expand", readout.add("reshape", readout.state(), shape=[1, 1]), shape=[cells, 2])
    sheet = Sheet(graph_json(out, [[1]], real(cells, 3), None, readout.function(readout.scale(spread, 1))))
    domain = sheet.point(*[1, 0, 0] * cells)
    contracts = sheet.contraction(F(1, 2), sheet.block(1), domain=sheet.all("input"))
    sheet.step(
        "commits", sheet.step("convergence", contracts, start=sheet.all()), domain=domain, steps=1,
        threshold=dyadic(1), blank=0, answer=[0] * cells, committed=list(range(1, cells + 1)),
        centers=vector([0] * (cells + 1)), rivals=[],
    )  # fmt: skip
    assert sheet.code() == code
