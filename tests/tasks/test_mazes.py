from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from trm_verify.tasks import IGNORE, Split, mazes
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.mazes import MOVES, STAY, best_moves, lattice, spanning_trees


def breadth_first(kinds: list[list[int]]) -> list[list[set[int]]]:
    """All best moves of each cell, with a queue and a dictionary."""
    free = {(i, j) for i, row in enumerate(kinds) for j, kind in enumerate(row) if kind > 0}
    goal = next((i, j) for i, row in enumerate(kinds) for j, kind in enumerate(row) if kind == 2)
    distance, queue = {goal: 0}, deque([goal])
    while queue:
        i, j = queue.popleft()
        for down, right in MOVES:
            other = (i - down, j - right)
            if other in free and other not in distance:
                distance[other] = distance[i, j] + 1
                queue.append(other)
    assert distance.keys() == free  # every free cell reaches the goal
    best: list[list[set[int]]] = [[set() for _ in row] for row in kinds]
    for i, j in free:
        best[i][j] = {
            label
            for label, (down, right) in enumerate(MOVES)
            if distance.get((i + down, j + right)) == distance[i, j] - 1
        } or {STAY}
    return best


@pytest.mark.parametrize("size", [7, 9, 13])
def test_targets_are_the_first_best_move_and_all_best_moves_follow_from_them(size):
    task = mazes(size, train=60, validation=20, test=40, loops=0.4)
    ties = 0
    for split in (task.train, task.validation, task.test):
        accepted = best_moves(split.y)
        assert task.ties is best_moves
        rows = zip(split.x.argmax(dim=-1).tolist(), split.y.tolist(), accepted.tolist(), strict=True)
        for kinds, targets, allowed in rows:
            best = breadth_first(kinds)
            for i in range(size):
                for j in range(size):
                    assert {label for label in range(5) if allowed[i][j][label]} == best[i][j]
                    assert targets[i][j] == (min(best[i][j]) if best[i][j] else IGNORE)
                    ties += len(best[i][j]) > 1
    assert ties > 50


def layouts(split: Split) -> list[bytes]:
    """The least of a maze's eight images, the goal left out."""
    free = split.x.argmax(dim=-1).numpy() > 0
    return [min(np.rot90(view, turn).tobytes() for view in (maze, maze.T) for turn in range(4)) for maze in free]


def test_no_two_mazes_are_equal_up_to_symmetry():
    task = mazes(7)
    known = [layout for split in (task.train, task.validation, task.test) for layout in layouts(split)]
    assert len(set(known)) == len(known) == 4096 + 256 + 512
    with pytest.raises(ValueError, match="fewer rows"):
        mazes(5)


def test_metrics_accept_every_best_move_and_nothing_else():
    task = mazes(9, loops=0.5, train=1, validation=1, test=200)
    y = task.test.y
    exact, position = task.metric, task.metrics["position"]
    last = one_hot(4 - best_moves(y).flip(-1).long().argmax(dim=-1), 5)  # the last of the best moves
    assert exact(last, y) == position(last, y) == 1.0
    assert not torch.equal(last.argmax(-1)[y != IGNORE], y[y != IGNORE])
    wrong = last.clone()
    goals = (y[::2] == STAY).nonzero()
    wrong[2 * goals[:, 0], goals[:, 1], goals[:, 2]] = one_hot(torch.tensor(0), 5)
    assert exact(wrong, y) == 0.5
    assert position(wrong, y) == pytest.approx(1 - 100 / int((y != IGNORE).sum()))
    never = one_hot(torch.full_like(y, STAY), 5)
    assert exact(never, y) == 0.0


def test_loops_and_trees():
    # A tree of rooms has one passage less than rooms; without loops, one way from each cell to the next.
    tree = mazes(9, loops=0, train=20, validation=10, test=10)
    assert ((tree.train.x[..., 1:].sum(dim=(1, 2, 3))) == 25 + 24).all()
    assert best_moves(tree.train.y).sum(dim=-1).max() == 1
    ends = lattice(4)
    drawn = spanning_trees(np.random.default_rng(0), 300, ends)
    assert len(ends) == 24 and (drawn.sum(axis=1) == 15).all()
    assert drawn.mean(axis=0).min() > 0.4 and drawn.mean(axis=0).max() < 0.9  # 15/24 on average, no edge always


def test_baseline_seeds_sizes_text():
    task = mazes(9, train=50, validation=10, test=200)
    assert task.baseline() < 0.1 and 0.5 < task.metrics["position"](task.reference.answers(task), task.test.y) < 0.95
    assert task.symbols().baseline() == task.baseline()
    assert torch.equal(mazes(9, train=50, validation=10, test=200).train.x, task.train.x)
    assert not torch.equal(mazes(9, seed=1, train=50, validation=10, test=200).train.x, task.train.x)
    assert task.at(11).input_shape == (11, 11, 3) and len(task.at(11).test) == 200
    for wrong in ({"size": 8}, {"size": 3}, {"loops": 1.5}):
        with pytest.raises(ValueError, match="mazes"):
            mazes(**wrong)
    lines = task.show(task.test.x[0], task.test.y[0]).splitlines()
    assert len(lines) == 9 and sum(line.count("●") for line in lines) == 1
    x, y = torch.zeros(5, 5, dtype=torch.long), torch.full((5, 5), IGNORE)
    small = mazes(5, train=3, validation=3, test=3)
    x[0, :3], y[0, :3], x[0, 2] = 1, torch.tensor([1, 1, STAY]), 2
    assert small.show(one_hot(x, 3), y).splitlines()[:2] == ["→→●██", "█████"]
