from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from trm_verify.tasks import Split, sudoku9
from trm_verify.tasks.sudoku import geometric, random_moves
from trm_verify.tasks.sudoku9 import solve


@pytest.fixture(scope="module")
def task():
    return sudoku9(puzzles=(24, 4, 12), train=96, validation=8, test=48)


def count(puzzle: list[int], most: int = 2) -> int:
    """Number of solutions, up to `most`, as an exact cover (Knuth's Algorithm X)."""
    rows = {}
    for r, c, d in product(range(9), range(9), range(1, 10)):
        if puzzle[9 * r + c] in (0, d):
            rows[r, c, d] = [("cell", r, c), ("row", r, d), ("column", c, d), ("block", r // 3, c // 3, d)]
    columns: dict[tuple, set] = {}
    for row, constraints in rows.items():
        for constraint in constraints:
            columns.setdefault(constraint, set()).add(row)
    if len(columns) < 324:
        return 0

    def cover(row) -> list[set]:
        removed = []
        for constraint in rows[row]:
            for other in columns[constraint]:
                for its in rows[other]:
                    if its != constraint:
                        columns[its].discard(other)
            removed.append(columns.pop(constraint))
        return removed

    def uncover(row, removed: list[set]) -> None:
        for constraint in reversed(rows[row]):
            columns[constraint] = removed.pop()
            for other in columns[constraint]:
                for its in rows[other]:
                    if its != constraint:
                        columns[its].add(other)

    def search(left: int) -> int:
        if not columns:
            return 1
        found = 0
        for row in list(min(columns.values(), key=len)):
            removed = cover(row)
            found += search(left - found)
            uncover(row, removed)
            if found >= left:
                break
        return found

    return search(most)


def canonical(grid: np.ndarray) -> bytes:
    """The least of all symmetric copies of a filled grid: each line first in turn, each order of columns."""
    orders = [
        [3 * b + c for b, inner in zip(bands, lines, strict=True) for c in inner]
        for bands in permutations(range(3))
        for lines in product(permutations(range(3)), repeat=3)
    ]
    best = b"\xff"
    for view in (grid.reshape(9, 9), grid.reshape(9, 9).T):
        for first in range(9):
            copies = view[:, np.array(orders)].transpose(1, 0, 2)  # (orders, row, column)
            names = copies[:, first].argsort(axis=1)
            named = np.take_along_axis(names[:, None].repeat(9, axis=1), copies, axis=2)
            # The line that is first is 0 … 8 now and starts with 0, so sorting by the first column keeps it first.
            banded = named.reshape(-1, 3, 3, 9)
            banded = np.take_along_axis(banded, banded[..., :1].argsort(axis=2), axis=2)
            banded = np.take_along_axis(banded, banded[:, :, :1, :1].argsort(axis=1), axis=1)
            best = min(best, min(copy.astype(np.uint8).tobytes() for copy in banded))
    return best


def given(split: Split) -> np.ndarray:
    return split.x.argmax(dim=-1).numpy()


def test_targets_are_filled_grids_and_the_only_solutions(task):
    for split in (task.train, task.validation, task.test):
        grids = (split.y + 1).reshape(-1, 9, 9)
        blocks = grids.reshape(-1, 3, 3, 3, 3).transpose(2, 3).reshape(-1, 9, 9)
        for lines in (grids, grids.transpose(1, 2), blocks):
            assert (lines.sort(dim=2).values == torch.arange(1, 10)).all()
        shown = given(split)
        assert ((shown == 0) | (shown == grids.reshape(-1, 81).numpy())).all()
        assert ((shown > 0).sum(axis=1) == 34).all()
        assert all(count(puzzle) == 1 for puzzle in shown[:8].tolist())


def test_no_test_grid_is_a_symmetric_copy_of_a_training_grid(task):
    train, test = ({canonical(y) for y in split.y.numpy()[:n]} for split, n in ((task.train, 24), (task.test, 12)))
    assert (len(train), len(test)) == (24, 12) and not train & test
    # Further rows are copies of the first ones, and the canonical form says so.
    assert canonical(task.test.y.numpy()[12]) in test
    assert not np.array_equal(task.test.y.numpy()[12], task.test.y.numpy()[0])


def test_solver_against_exact_cover():
    rng = np.random.default_rng(0)
    grid = solve([0] * 81, rng.permuted(np.tile(np.arange(9), (81, 1)), axis=1).tolist())
    assert grid is not None and count(grid) == 1
    unsolvable = [1, *[0] * 8, *[0] * 70, 0, 1]
    unsolvable[4:9] = [2, 3, 4, 5, 6]
    unsolvable[13], unsolvable[22] = 7, 8  # cell 1 … 3 are left with 7, 8, 9; see whether both agree
    for puzzle in (unsolvable, [0] * 81, [5, *[0] * 80]):
        assert (solve(puzzle) is None) == (count(puzzle, 1) == 0)
    impossible = [1, 2, 3, 4, 5, 6, 7, 8, 0, *[0] * 8, 9, *[0] * 63]
    assert solve(impossible) is None and count(impossible) == 0


def test_random_moves_are_the_symmetries_and_all_of_them():
    moves = random_moves(np.random.default_rng(0), 4000, 2)
    assert {tuple(m) for m in moves.tolist()} == {tuple(m) for m in geometric(2).tolist()}
    turned = random_moves(np.random.default_rng(0), 200, 3).reshape(-1, 9, 9)
    rows = [{tuple(sorted(r)) for r in m} for m in (turned // 9).tolist()]
    assert all(len(lines) in (1, 9) for lines in rows)  # a line stays a line, maybe turned into a column


def test_baseline_seeds_sizes_and_refusals(task):
    assert 0.5 < task.baseline() <= 1.0
    assert task.symbols().baseline() == task.baseline()
    again = sudoku9(puzzles=(24, 4, 12), train=96, validation=8, test=48)
    assert torch.equal(again.test.x, task.test.x)
    other = sudoku9(seed=1, puzzles=(2, 1, 1), train=4, validation=1, test=2)
    assert not torch.equal(other.test.y, task.test.y[:2])
    assert ((given(other.at(50).train) > 0).sum(axis=1) == 50).all()
    for wrong in ({"givens": 20}, {"givens": 81}, {"puzzles": (1, 0, 1)}):
        with pytest.raises(ValueError, match="sudoku9"):
            sudoku9(**wrong)
    assert len(task.show(task.test.x[0], task.test.y[0]).splitlines()) == 11
