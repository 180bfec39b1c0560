"""Sudoku 4×4: every puzzle with one solution, split by orbit of the symmetry group."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Split, Task, check_sizes, one_hot

_TRAIN, _VALIDATION = 0.6, 0.1  # shares of the orbits; the rest is to test
_MOST = 14  # givens; there are only two orbits each with more
_GIVENS = (4, 5, 6, 7, 8, 9, 10)


def sudoku(
    givens: int | tuple[int, int] = (4, 10),
    *,
    seed: int = 0,
    train: int = 8192,
    validation: int = 512,
    test: int = 1024,
) -> Task:
    """Fill 4×4 grids so that every row, column and 2×2 block holds 1 to 4.

    Every puzzle has exactly one solution; right is that solution, all 16 cells of it. Relabelling digits, swapping
    rows inside a band, columns inside a stack, bands, stacks, and transposing make 3072 symmetries. The puzzles are
    listed up to those symmetries; the *orbits* are shared out (six tenths to train, one to validate, the rest to
    test), and each item is a random image of a random orbit. So no test puzzle is a copy of a training puzzle, and
    which side an orbit is on depends on the seed alone, not on `givens`.

    Shape: x (rows, 16, 5) one-hot of blank, 1, 2, 3, 4, row-major; y (rows, 16) digit − 1.

    Args:
        givens: number of filled cells, or the least and most.

    Raises:
        ValueError: no such puzzles, or no rows.
    """
    low, high = (givens, givens) if isinstance(givens, int) else givens
    check_sizes("sudoku", low, 4, train=train, validation=validation, test=test)
    if not low <= high <= _MOST:
        raise ValueError(f"sudoku: expected 4 <= givens <= {_MOST}, least first, found {givens}")
    solution, shown = orbits()
    sides = _sides(shown.sum(axis=1), seed)
    rng = np.random.default_rng([seed, low, high])
    fits = (shown.sum(axis=1) >= low) & (shown.sum(axis=1) <= high)
    parts = [rng.permutation(np.flatnonzero(fits & (sides == side))) for side in range(3)]
    images = [_images(rng, part, rows) for part, rows in zip(parts, (train, validation, test), strict=True)]
    return Task(
        "sudoku",
        images[0],
        images[1],
        images[2],
        classes=4,
        domain=Box(0, 1).expand((16, 5)),
        difficulty=high,
        difficulties=_GIVENS,
        sized=partial(sudoku, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("digits that row, column and block leave, without deducing on", _one_round),
    )


@lru_cache(maxsize=1)
def solutions() -> np.ndarray:
    """All 288 filled grids, in lexicographic order. Shape: (288, 16), digits 0 … 3."""
    rows = np.array(list(permutations(range(4))))
    bands = rows[np.array(list(product(range(24), repeat=2)))].reshape(-1, 8)
    bands = bands[_holds_all(bands[:, [0, 1, 4, 5]]) & _holds_all(bands[:, [2, 3, 6, 7]])]
    grids = bands[np.array(list(product(range(len(bands)), repeat=2)))].reshape(-1, 16)
    return np.asarray(grids[np.logical_and.reduce([_holds_all(grids[:, unit]) for unit in units(2)])])


def _holds_all(cells: np.ndarray) -> np.ndarray:
    # Four powers of two add up to 15 only if they are 1, 2, 4 and 8.
    return np.asarray((1 << cells).sum(axis=1) == 15)


def units(block: int) -> list[list[int]]:
    """The cells of every row, column and block of a grid of side `block²`."""
    side = block * block
    cells = np.arange(side * side).reshape(side, side)
    blocks = cells.reshape(block, block, block, block).transpose(0, 2, 1, 3).reshape(side, side)
    return [*cells.tolist(), *cells.T.tolist(), *blocks.tolist()]


def geometric(block: int) -> np.ndarray:
    """All symmetries that move cells, as indices: `image[i] = grid[symmetry[i]]`.

    Shape: (number of symmetries, side²); for block 2, where there are 128. Block 3 has three millions.
    """
    side = block * block
    lines = [
        [band * block + line for band, lines in zip(bands, inner, strict=True) for line in lines]
        for bands in permutations(range(block))
        for inner in product(permutations(range(block)), repeat=block)
    ]
    cells = np.arange(side * side).reshape(side, side)
    moved = [cells[np.ix_(rows, columns)] for rows in lines for columns in lines]
    return np.array([view.ravel() for grid in moved for view in (grid, grid.T)])


def random_moves(rng: np.random.Generator, rows: int, block: int) -> np.ndarray:
    """Random symmetries that move cells, all equally likely, as in `geometric`. Shape: (rows, side²)."""
    side = block * block
    lines = []
    for _ in range(2):
        bands = rng.permuted(np.tile(np.arange(block), (rows, 1)), axis=1)
        inner = rng.permuted(np.tile(np.arange(block), (rows, block, 1)), axis=2)
        lines.append((bands[..., None] * block + inner).reshape(rows, side))
    moves = lines[0][:, :, None] * side + lines[1][:, None, :]
    turned = rng.random(rows) < 0.5
    return np.asarray(np.where(turned[:, None, None], moves.transpose(0, 2, 1), moves).reshape(rows, -1))


@lru_cache(maxsize=1)
def orbits() -> tuple[np.ndarray, np.ndarray]:
    """One puzzle of every orbit of the puzzles with exactly one solution.

    A puzzle is a filled grid and the cells that are shown. Every grid is an image of one of two; two puzzles of one
    grid are images of each other if a symmetry moves the shown cells onto each other and the grid onto a relabelled
    copy of itself.

    Shape: solution (orbits, 16), digits 0 … 3; shown (orbits, 16), bool.
    """
    grids, moves = solutions(), geometric(2)
    masks = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
    left, found = {_relabelled(grid).tobytes() for grid in grids}, []
    for grid in grids:
        images = _relabelled(grid[moves])
        if _relabelled(grid).tobytes() not in left:
            continue
        left -= {image.tobytes() for image in images}
        # A shown set leaves no other solution if it meets every set of cells in which another grid differs.
        differs = _number(grids != grid)
        numbers = np.arange(1 << 16)
        unique = np.ones(1 << 16, dtype=bool)
        for other in differs[differs > 0]:
            unique &= (numbers & other) != 0
        fixing = moves[(images == _relabelled(grid)).all(axis=1)]
        smallest = np.min([_number(masks[:, move]) for move in fixing], axis=0)
        shown = masks[unique & (smallest == numbers)].astype(bool)
        found.append((np.broadcast_to(grid, shown.shape), shown))
    solution, shown = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return solution, shown


def _relabelled(grids: np.ndarray) -> np.ndarray:
    """Grids whose digits are renamed in the order in which they first appear, so relabelled copies are equal."""
    flat = grids.reshape(-1, grids.shape[-1])
    first = np.stack([(flat == digit).argmax(axis=1) for digit in range(4)], axis=1)
    names = first.argsort(axis=1).argsort(axis=1)
    return np.asarray(np.take_along_axis(names, flat, axis=1).reshape(grids.shape))


def _number(masks: np.ndarray) -> np.ndarray:
    return np.asarray((masks.astype(np.int64) << np.arange(16)).sum(axis=1))


def _sides(givens: np.ndarray, seed: int) -> np.ndarray:
    """Which split each orbit is in, 0 to 2, in the same shares for every number of givens."""
    rng, sides = np.random.default_rng(seed), np.full(len(givens), 2)
    for size in np.unique(givens):
        order = rng.permutation(np.flatnonzero(givens == size))
        first, second = round(_TRAIN * len(order)), max(1, round(_VALIDATION * len(order)))
        sides[order[:first]], sides[order[first : first + second]] = 0, 1
    return sides


def _images(rng: np.random.Generator, part: np.ndarray, rows: int) -> Split:
    """Random symmetric images of these orbits, each orbit as often as every other, up to one."""
    solution, shown = (array[np.resize(part, rows)] for array in orbits())
    moves = random_moves(rng, rows, 2)
    names = rng.permuted(np.tile(np.arange(4), (rows, 1)), axis=1)
    y = np.take_along_axis(np.take_along_axis(names, solution, axis=1), moves, axis=1)
    shown = np.take_along_axis(shown, moves, axis=1)
    return Split(one_hot(torch.from_numpy(np.where(shown, y + 1, 0)), 5), torch.from_numpy(y))


def eliminated(left: np.ndarray, block: int) -> np.ndarray:
    """One round: a digit that is the only one left in a cell goes from the cell's row, column and block.

    Shape: (rows, side², side), bool: the digits left for each cell; the same of the result.
    """
    known = left & (left.sum(axis=2, keepdims=True) == 1)
    result = left.copy()
    for unit in units(block):
        result[:, unit] &= known[:, unit] | ~known[:, unit].any(axis=1, keepdims=True)
    return result


def placed(left: np.ndarray, block: int) -> np.ndarray:
    """One round: a digit with one place left in a row, column or block goes there. Shape: as `eliminated`."""
    result = left.copy()
    for unit in units(block):
        only = left[:, unit] & (left[:, unit].sum(axis=1, keepdims=True) == 1)
        result[:, unit] &= only | ~only.any(axis=2, keepdims=True)
    return result


def deduced(left: np.ndarray, block: int) -> np.ndarray:
    """Both rounds again and again until nothing changes; nothing is guessed. Shape: as `eliminated`."""
    while True:
        after = placed(eliminated(left, block), block)
        if (after == left).all():
            return after
        left = after


def from_givens(x: np.ndarray, block: int) -> np.ndarray:
    """The digits that a puzzle alone leaves: all of them in a blank. Shape: (rows, side²) → (rows, side², side)."""
    return np.asarray((x[..., None] == np.arange(1, block * block + 1)) | (x[..., None] == 0))


def _one_round(task: Task) -> Tensor:
    x = task.test.x if task.vocabulary is not None else task.test.x.argmax(dim=-1)
    return torch.from_numpy(eliminated(from_givens(x.numpy(), 2), 2)).long()


def _text(x: Tensor, y: Tensor) -> str:
    return grid_text(x.argmax(dim=-1), y + 1, 2)


def grid_text(given: Tensor, answer: Tensor, block: int) -> str:
    """Puzzle and answer side by side, blanks as dots."""
    side = block * block
    lines = []
    for row in range(side):
        halves = []
        for cells in (given, answer):
            digits = ["." if d == 0 else str(d) for d in cells.tolist()[row * side : (row + 1) * side]]
            halves.append(" | ".join(" ".join(digits[i : i + block]) for i in range(0, side, block)))
        lines.append("   ".join(halves))
        if row % block == block - 1 and row < side - 1:
            rule = "-+-".join(["-" * (2 * block - 1)] * block)
            lines.append(f"{rule}   {rule}")
    return "\n".join(lines)
