from __future__ import annotations

import numpy as np
import pytest
import torch

from trm_verify.tasks import Split, sudoku
from trm_verify.tasks.sudoku import deduced, from_givens, geometric, orbits, solutions, units


def solve(puzzle: list[int], most: int = 2) -> list[list[int]]:
    """Plain backtracking, by row, column and block arithmetic of its own."""
    if 0 not in puzzle:
        return [puzzle]
    cell = puzzle.index(0)
    r, c = divmod(cell, 4)
    peers = {
        puzzle[4 * i + j]
        for i in range(4)
        for j in range(4)
        if i == r or j == c or (i // 2, j // 2) == (r // 2, c // 2)
    }
    found: list[list[int]] = []
    for digit in {1, 2, 3, 4} - peers:
        found += solve([*puzzle[:cell], digit, *puzzle[cell + 1 :]], most - len(found))
        if len(found) >= most:
            break
    return found


def closure() -> np.ndarray:
    """The moves of cells that swaps of neighbouring lines and the transposition generate."""
    cells = np.arange(16).reshape(4, 4)
    generators = [cells.T.ravel()]
    for lines in ([1, 0, 2, 3], [0, 1, 3, 2], [2, 3, 0, 1]):
        generators += [cells[lines].ravel(), cells[:, lines].ravel()]
    known = {tuple(range(16))}
    fresh = list(known)
    while fresh:
        fresh = [tuple(np.array(move)[g].tolist()) for move in fresh for g in generators]
        fresh = list(set(fresh) - known)
        known.update(fresh)
    return np.array(sorted(known))


def canonical(puzzles: np.ndarray) -> list[bytes]:
    """The least image of each puzzle: digits renamed in the order of their first appearance, blanks staying blank."""
    best: list[bytes] = []
    for move in closure():
        moved = puzzles[:, move]
        first = np.stack([np.where((moved == d).any(1), (moved == d).argmax(1), 99) for d in range(1, 5)], axis=1)
        rank = np.argsort(np.argsort(first, axis=1, kind="stable"), axis=1) + 1
        named = np.where(moved == 0, 0, np.take_along_axis(rank, np.maximum(moved - 1, 0), axis=1)).astype(np.uint8)
        rows = [row.tobytes() for row in named]
        best = rows if not best else [min(pair) for pair in zip(best, rows, strict=True)]
    return best


def given(split: Split) -> np.ndarray:
    return split.x.argmax(dim=-1).numpy()


def test_every_puzzle_has_the_target_as_its_only_solution():
    task = sudoku(train=300, validation=50, test=300)
    for split in (task.train, task.validation, task.test):
        for puzzle, target in zip(given(split).tolist(), (split.y + 1).tolist(), strict=True):
            assert solve(puzzle) == [target]
            assert 4 <= sum(d > 0 for d in puzzle) <= 10


def test_no_test_puzzle_is_a_symmetric_copy_of_a_training_puzzle():
    task = sudoku()
    train, validation, test = (set(canonical(given(split))) for split in (task.train, task.validation, task.test))
    assert not train & test and not train & validation and not validation & test
    # Far more orbits than the 288 grids: the split is one of puzzles, and of many patterns of givens.
    assert len(train) > 2000 and len(test) > 900
    assert len({tuple(row) for row in (given(task.test) > 0).tolist()}) > 900
    # A fixed number of givens takes the same sides.
    other = sudoku(8)
    assert not set(canonical(given(other.test))) & train and not set(canonical(given(other.train))) & test


def test_orbits_are_all_puzzles_up_to_symmetry():
    moves = closure()
    assert len(moves) == 128 and {tuple(m) for m in geometric(2).tolist()} == {tuple(m) for m in moves.tolist()}
    solution, shown = orbits()
    assert len(set(canonical(np.where(shown, solution + 1, 0)))) == len(solution)
    # Known: the least number of givens is 4, and there are 13 such puzzles up to symmetry.
    assert int(shown.sum(axis=1).min()) == 4 and int((shown.sum(axis=1) == 4).sum()) == 13
    # Random puzzles of one solution, made without the table, are all in it.
    rng, known = np.random.default_rng(0), set(canonical(np.where(shown, solution + 1, 0)))
    grids, made = solutions(), []
    while len(made) < 100:
        puzzle = np.where(rng.random(16) < 0.45, grids[rng.integers(288)] + 1, 0)
        if len(solve(puzzle.tolist())) == 1:
            made.append(puzzle)
    assert set(canonical(np.array(made))) <= known


def test_solutions_are_the_288_grids():
    assert sorted(solve([0] * 16, 1000)) == (solutions() + 1).tolist()
    assert [sorted(unit) for unit in units(2)[8:]] == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_baseline_is_one_round_and_more_rounds_solve_everything():
    task = sudoku()
    assert 0.15 < task.baseline() < 0.35
    left = deduced(from_givens(given(task.test), 2), 2)
    assert (left.sum(axis=2) == 1).all() and (left.argmax(axis=2) == task.test.y.numpy()).all()
    assert task.symbols().baseline() == task.baseline()
    # Deduction never removes the solution, and stops short where there are several.
    left = deduced(from_givens(np.array([[1] + [0] * 15]), 2), 2)
    assert left.sum(axis=2).max() > 1 and len(solve([1] + [0] * 15)) == 2


def test_sizes_seeds_and_text():
    task = sudoku(train=64)
    assert torch.equal(task.train.x, sudoku(train=64).train.x)
    assert not torch.equal(task.train.x, sudoku(train=64, seed=1).train.x)
    assert task.input_shape == (16, 5)
    assert {int(n) for n in (given(task.at(5).test) > 0).sum(axis=1)} == {5}
    for wrong in (3, 15, (8, 6)):
        with pytest.raises(ValueError, match="sudoku"):
            sudoku(wrong)
    row = task.test.x[0], task.test.y[0]
    lines = task.show(*row).splitlines()
    assert len(lines) == 5 and lines[2] == "----+----   ----+----"
    digits = [d for line in lines if "+" not in line for d in line.split("   ")[1] if d.isdigit()]
    assert digits == [str(d + 1) for d in row[1].tolist()]
