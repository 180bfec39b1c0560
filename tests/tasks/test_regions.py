from __future__ import annotations

from collections import deque

import pytest
import torch

from tests.tasks.test_mazes import layouts
from trm_verify.tasks import IGNORE, Split, regions
from trm_verify.tasks.mazes import MOVES, STAY


def plans(split: Split, rooms: int) -> list[list[list[set[int]]]]:
    """All best moves of every cell, breadth first, with the rule about borders spelled out cell by cell."""
    found = []
    for item in split.x.tolist():
        size = len(item)
        free = {(i, j) for i in range(size) for j in range(size) if item[i][j][0] == 0}
        (goal,) = [(i, j) for i, j in free if item[i][j][2] == 1]

        def neighbours(i: int, j: int, free=free, item=item):
            for label, (down, right) in enumerate(MOVES):
                other = (i + down, j + right)
                here, there = ((a // (2 * rooms), b // (2 * rooms)) for a, b in ((i, j), other))
                if other in free and (here == there or item[i][j][3 + label] == 1):
                    yield label, other

        distance, queue = {goal: 0}, deque([goal])
        while queue:
            cell = queue.popleft()
            for _, other in neighbours(*cell):  # borders are open in both directions or in none
                if other not in distance:
                    distance[other] = distance[cell] + 1
                    queue.append(other)
        assert distance.keys() == free
        best = [[set() for _ in range(size)] for _ in range(size)]
        for i, j in free:
            steps = {label for label, other in neighbours(i, j) if distance[other] == distance[i, j] - 1}
            best[i][j] = steps or {STAY}
        found.append(best)
    return found


@pytest.mark.parametrize("side, rooms", [(3, 2), (4, 2), (2, 3)])
def test_every_cell_has_one_best_move_and_it_is_the_target(side, rooms):
    task = regions(side, rooms=rooms, train=30, validation=10, test=20)
    size = 2 * side * rooms - 1
    assert task.input_shape == (size, size, 7)
    for split in (task.train, task.validation, task.test):
        for best, y in zip(plans(split, rooms), split.y.tolist(), strict=True):
            for i in range(size):
                for j in range(size):
                    assert best[i][j] == (set() if y[i][j] == IGNORE else {y[i][j]})


def test_the_map_is_a_tree_and_the_same_all_over_a_region():
    x = regions(3, train=50, validation=1, test=1).train.x
    maps = x[:, ::4, ::4, 3:]
    assert (maps.sum(dim=(1, 2, 3)) == 2 * 8).all()  # 9 regions, 8 open borders, seen from both sides
    for i in range(11):
        for j in range(11):
            assert torch.equal(x[:, i, j, 3:], maps[:, i // 4, j // 4])
    assert torch.equal(maps[:, 1:, :, 0], maps[:, :-1, :, 2]) and torch.equal(maps[:, :, 1:, 3], maps[:, :, :-1, 1])


def test_no_two_mazes_are_equal_up_to_symmetry():
    task = regions()
    walls = [Split(split.x[..., :3], split.y) for split in (task.train, task.validation, task.test)]
    known = [layout for split in walls for layout in layouts(split)]
    assert len(set(known)) == len(known) == 4096 + 256 + 512


def test_the_map_is_needed():
    task = regions()
    assert task.baseline() < 0.1 < 0.6 < task.metrics["position"](task.reference.answers(task), task.test.y) < 0.95


def test_seeds_sizes_refusals_and_text():
    task = regions(3, train=20, validation=5, test=5)
    assert torch.equal(regions(3, train=20, validation=5, test=5).train.x, task.train.x)
    assert not torch.equal(regions(3, seed=1, train=20, validation=5, test=5).train.x, task.train.x)
    assert task.at(4).input_shape == (15, 15, 7)
    for wrong in ({"side": 1}, {"rooms": 0}, {"side": 2}):
        with pytest.raises(ValueError, match="regions"):
            regions(**wrong)
    lines = task.show(task.test.x[0], task.test.y[0]).splitlines()
    assert len(lines) == 11 and sum(line.count("●") for line in lines) == 1
    assert sum(line.count("──") + line.count("│") for line in lines) == 8
