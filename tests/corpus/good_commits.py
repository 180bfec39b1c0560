"""Certificates that must stay valid: rounds that commit what they are sure of, and go on with what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.corpus.good import good, orbit, whole
from tests.corpus.sheet import F, Nodes, Sheet, dyadic, graph, real, stored, vector
from tests.oracle.evaluate import FLOAT, Evaluator
from tests.oracle.files import Model, read_tensors

Rows = Sequence[Sequence[Any]]


def rounds(
    sheet: Sheet, converges: int, low: Rows, high: Rows, answer: Sequence[int], committed: Sequence[int],
    threshold: Any, blank: int, steps: int,
) -> int:  # fmt: skip
    """A `commits` step with its claim; `low` and `high` are the ends of the inputs, a row a cell."""
    flat = [[F(v) for row in end for v in row] for end in (low, high)]
    width = len(low[0])
    middle = [(a + b) / 2 for a, b in zip(*flat, strict=True)]
    centers, rivals = [], list[int]()
    for r in range(1, max(committed) + 2):
        centers.append(orbit(sheet, middle, 60)[-1])
        logits = logits_of(sheet, centers[-1])
        for cell, when in enumerate(committed):
            row, at = logits[cell], cell * width
            if middle[at + blank] == 1 and not 0 < when <= r:
                rivals += [max((c for c in range(width - 1) if c != own), key=row.__getitem__)
                           for own in range(width - 1)]  # fmt: skip
        for cell, when in enumerate(committed):
            if when == r:
                shown = answer[cell] + (answer[cell] >= blank)
                middle[cell * width : (cell + 1) * width] = [F(int(c == shown)) for c in range(width)]
    domain = sheet.box(*flat, "input")
    told: Any = {"domain": domain, "steps": steps, "threshold": dyadic(threshold), "blank": blank,
                 "answer": list(answer), "committed": list(committed)}  # fmt: skip
    done = sheet.step("commits", converges, **told, centers=vector(centers), rivals=rivals)
    sheet.claim(done, "commits", operator="picard", **told)
    return done


def logits_of(sheet: Sheet, state: Sequence[Any]) -> list[list[float]]:
    """Logits of one state, a row a cell."""
    run = Evaluator(Model(sheet.graph, read_tensors(sheet.weights)), FLOAT)
    found: list[list[float]] = run.readout(np.array([[float(v) for v in state]]))[0].tolist()
    return found


def matrix(height: int, width: int, entries: dict[tuple[int, int], Any]) -> list[list[Any]]:
    return [[F(entries.get((i, j), 0)) for j in range(width)] for i in range(height)]


SHOWN: tuple[Rows, Rows] = (  # cell 0 is given, nearly: the others are open
    [[0, F(63, 64), 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]],
    [[F(1, 64), 1, F(1, 64)], [1, 0, 0], [1, 0, 0], [1, 0, 0]],
)


def dominoes(
    answer: Sequence[int] = (0, 0, 1, 1), committed: Sequence[int] = (0, 1, 2, 0), threshold: Any = 1, steps: int = 12,
    shown: tuple[Rows, Rows] = SHOWN, known: tuple[Rows, Rows] | None = None,
) -> Sheet:  # fmt: skip
    """Cell 1 copies cell 0; cell 2 swaps the classes of cell 1; cell 3 is never sure.

    Args:
        known: the inputs for which the loop is shown to converge.
    """
    nodes, readout = Nodes(), Nodes()
    seen = nodes.linear(nodes.add("reshape", nodes.add("input"), shape=[12]), "U")
    half = nodes.scale(nodes.state(), 1, 2)
    out = nodes.add("tanh", nodes.add("add", half, nodes.add("reshape", seen, shape=[4, 2])))
    model = graph(nodes.function(out), [[4, 2]], real(4, 3), None, readout.function(readout.scale(readout.state(), 4)))
    ways = {(0, 1): 1, (1, 2): 1, (2, 1): 1, (3, 2): 1, (4, 5): 1, (5, 4): 1, (7, 9): F(1, 16)}
    sheet = Sheet(model, {"U": stored(matrix(8, 12, ways))})
    domain = sheet.all("input") if known is None else sheet.box(*known, "input")
    converges = whole(sheet, F(1, 2), sheet.block([1] * 8), domain)
    rounds(sheet, converges, *shown, answer, committed, threshold, 0, steps)
    return sheet


@good
def commits_one_after_the_other() -> Sheet:
    """Three rounds over a box of inputs: a cell is sure once its neighbour is part of the input; one never is."""
    return dominoes()


@good
def commits_after_the_leader_changes() -> Sheet:
    """An open cell whose largest logit is another one across the box, until the cell beside it is committed."""
    nodes, readout = Nodes(), Nodes()
    seen = nodes.linear(nodes.add("reshape", nodes.add("input"), shape=[8]), "U")
    out = nodes.add("add", nodes.scale(nodes.state(), 1, 2), seen)
    logits = readout.add("reshape", readout.linear(readout.add("relu", readout.state()), "R"), shape=[2, 3])
    model = graph(nodes.function(out), [[6]], real(2, 4), None, readout.function(logits))
    ways = {(0, 1): 1, (3, 4): F(1, 4), (4, 6): F(1, 4), (5, 0): 1}
    readers = {(i, i): 1 for i in range(6)}
    sheet = Sheet(model, {"U": stored(matrix(6, 8, ways)), "R": stored(matrix(6, 6, readers), "BF16")})
    converges = whole(sheet, F(1, 2), sheet.block([1], [[1, 6]]), sheet.all("input"))
    low, high = [[0, 1, 0, 0], [0, 1, 0, 0]], [[0, 1, 0, 0], [1, 1, 1, 0]]
    rounds(sheet, converges, low, high, [0, 2], [1, 2], 1, 1, 10)
    return sheet
