"""Sudoku 9×9: puzzles with one solution, dug from random grids, split by puzzle before symmetric copies are made."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Split, Task, check_sizes, one_hot
from trm_verify.tasks.sudoku import deduced, from_givens, grid_text, random_moves

_GIVENS = (60, 50, 40, 34, 30)
_FEWEST = 28  # digging at random seldom gets lower


def sudoku9(
    givens: int = 34,
    *,
    puzzles: tuple[int, int, int] = (192, 32, 96),
    seed: int = 0,
    train: int = 4096,
    validation: int = 256,
    test: int = 512,
) -> Task:
    """Fill 9×9 grids so that every row, column and block holds 1 to 9.

    Every puzzle has exactly one solution, right is that one. A few `puzzles` for each split are dug from random filled
    grids: cells are emptied in random order as long as the solution stays the only one. The rows are random images of
    them under the symmetries of Sudoku (digits, bands, stacks, lines inside them, transposition), so a split of 512
    rows from 96 puzzles says as much as 96 rows about puzzles that are not copies of each other.

    Shape: x (rows, 81, 10) one-hot of blank, 1 … 9, row-major; y (rows, 81) digit − 1.

    Raises:
        ValueError: fewer givens than 28 or more than 80, or no puzzles or rows.
    """
    check_sizes("sudoku9", givens, _FEWEST, train=train, validation=validation, test=test)
    if givens > 80 or min(puzzles) < 1:
        raise ValueError(
            f"sudoku9: expected at most 80 givens and a puzzle for each split, found givens={givens}, puzzles={puzzles}"
        )
    solution, shown = dug(seed, givens, sum(puzzles))
    rng = np.random.default_rng([seed, givens])
    parts = np.split(np.arange(sum(puzzles)), np.cumsum(puzzles)[:2])
    splits = [
        _images(rng, solution[part], shown[part], rows)
        for part, rows in zip(parts, (train, validation, test), strict=True)
    ]
    return Task(
        "sudoku9",
        splits[0],
        splits[1],
        splits[2],
        classes=9,
        domain=Box(0, 1).expand((81, 10)),
        difficulty=givens,
        difficulties=_GIVENS,
        sized=partial(sudoku9, puzzles=puzzles, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("cells and digits that have one place left, without a guess", _deduced),
    )


@lru_cache(maxsize=8)
def dug(seed: int, givens: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random puzzles with one solution and that many givens. Shape: solution (count, 81) 0 … 8, shown (count, 81)."""
    rng = np.random.default_rng([seed, givens, 9])
    solutions: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    while len(masks) < count:
        grid = solve([0] * 81, rng.permuted(np.tile(np.arange(9), (81, 1)), axis=1).tolist())
        puzzle = None if grid is None else _emptied(grid, rng.permutation(81).tolist(), givens)
        if grid is not None and puzzle is not None:
            solutions.append(np.array(grid) - 1)
            masks.append(np.array(puzzle) > 0)
    return np.stack(solutions), np.stack(masks)


def _emptied(grid: list[int], order: list[int], givens: int) -> list[int] | None:
    """The grid with cells emptied in that order while it stays the only solution; None where too many are left."""
    puzzle, left = list(grid), 81
    for cell in order:
        if left == givens:
            return puzzle
        puzzle[cell] = 0
        # Another solution would hold another digit in this cell.
        others = [digit for digit in range(1, 10) if digit != grid[cell] and _fits(puzzle, cell, digit)]
        if any(solve([*puzzle[:cell], digit, *puzzle[cell + 1 :]]) is not None for digit in others):
            puzzle[cell] = grid[cell]
        else:
            left -= 1
    return puzzle if left == givens else None


def _peers(cell: int) -> list[int]:
    row, column = divmod(cell, 9)
    return [
        other
        for other in range(81)
        if other != cell
        and (other // 9 == row or other % 9 == column or (other // 27 == row // 3 and other % 9 // 3 == column // 3))
    ]


_PEERS = [_peers(cell) for cell in range(81)]


def _fits(puzzle: list[int], cell: int, digit: int) -> bool:
    return all(puzzle[peer] != digit for peer in _PEERS[cell])


def solve(puzzle: list[int], order: list[list[int]] | None = None) -> list[int] | None:
    """One solution, or None if there is none: depth first, always the cell with the fewest digits left.

    Args:
        puzzle: 81 digits, 0 for a blank; the givens must not contradict each other.
        order: for each cell, the digits − 1 in the order in which they are tried; ascending if None.
    """
    grid = list(puzzle)
    rows, columns, blocks = ([0] * 9 for _ in range(3))
    for cell, digit in enumerate(grid):
        if digit:
            bit = 1 << (digit - 1)
            rows[cell // 9] |= bit
            columns[cell % 9] |= bit
            blocks[_BLOCK[cell]] |= bit
    blanks = [cell for cell, digit in enumerate(grid) if not digit]

    def search() -> bool:
        if not blanks:
            return True
        fewest, at, free = 10, 0, 0
        for index, cell in enumerate(blanks):
            left = 511 & ~(rows[cell // 9] | columns[cell % 9] | blocks[_BLOCK[cell]])
            if (count := left.bit_count()) < fewest:
                fewest, at, free = count, index, left
                if count <= 1:
                    break
        cell = blanks[at]
        blanks[at] = blanks[-1]
        blanks.pop()
        row, column, block = cell // 9, cell % 9, _BLOCK[cell]
        for digit in range(9) if order is None else order[cell]:
            bit = 1 << digit
            if free & bit:
                rows[row] |= bit
                columns[column] |= bit
                blocks[block] |= bit
                grid[cell] = digit + 1
                if search():
                    return True
                rows[row] ^= bit
                columns[column] ^= bit
                blocks[block] ^= bit
        # Where a blank stands in the list is of no account; only that it is there again.
        blanks.append(cell)
        return False

    return grid if search() else None


_BLOCK = [cell // 27 * 3 + cell % 9 // 3 for cell in range(81)]


def _images(rng: np.random.Generator, solution: np.ndarray, shown: np.ndarray, rows: int) -> Split:
    """Random symmetric images, each puzzle as often as every other, up to one."""
    chosen = np.resize(rng.permutation(len(solution)), rows)
    moves = random_moves(rng, rows, 3)
    names = rng.permuted(np.tile(np.arange(9), (rows, 1)), axis=1)
    y = np.take_along_axis(np.take_along_axis(names, solution[chosen], axis=1), moves, axis=1)
    given = np.take_along_axis(shown[chosen], moves, axis=1)
    return Split(one_hot(torch.from_numpy(np.where(given, y + 1, 0)), 10), torch.from_numpy(y))


def _deduced(task: Task) -> Tensor:
    x = task.test.x if task.vocabulary is not None else task.test.x.argmax(dim=-1)
    return torch.from_numpy(deduced(from_givens(x.numpy(), 3), 3)).long()


def _text(x: Tensor, y: Tensor) -> str:
    return grid_text(x.argmax(dim=-1), y + 1, 3)
