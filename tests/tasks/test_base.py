from __future__ import annotations

import pytest
import torch

from trm_verify.model import Box
from trm_verify.tasks import IGNORE, Split, Task, accuracy, load_task, position_accuracy
from trm_verify.tasks.base import MAJORITY, NEAREST, distinct, one_hot


def toy(**fields) -> Task:
    x = one_hot(torch.tensor([[0, 1], [1, 0], [2, 2]]), 3)
    y = torch.tensor([[0, 1], [1, IGNORE], [1, 0]])
    return Task("toy", Split(x, y), Split(x, y), Split(x, y), 2, Box(0, 1).expand((2, 3)), **fields)


def test_ignored_positions_never_count():
    logits = one_hot(torch.tensor([[0, 1], [1, 0], [0, 0]]), 2)
    target = torch.tensor([[0, IGNORE], [1, 1], [IGNORE, IGNORE]])
    assert accuracy(logits, target) == pytest.approx(2 / 3)
    assert position_accuracy(logits, target) == pytest.approx(2 / 3)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
    assert (loss == 0).tolist() == (target == IGNORE).flatten().tolist()


def test_nearest_and_majority_are_what_they_say():
    task = toy(reference=NEAREST)
    assert task.baseline() == 1.0  # every test row is its own nearest neighbour
    task = toy(reference=MAJORITY)
    assert task.reference.answers(task).shape == (3, 2, 2)
    assert task.reference.answers(task).argmax(-1).tolist() == [[1, 0]] * 3
    assert task.baseline() == pytest.approx(2 / 3)


def test_symbols_are_the_same_items():
    task = toy()
    symbols = task.symbols()
    assert symbols.train.x.tolist() == [[0, 1], [1, 0], [2, 2]]
    assert (symbols.vocabulary, symbols.domain, symbols.input_shape) == (3, None, (2,))
    assert symbols.baseline() == task.baseline()
    row = symbols.test.x[0], symbols.test.y[0]
    assert symbols.show(*row) == task.show(task.test.x[0], task.test.y[0])
    with pytest.raises(ValueError, match="one-hot"):
        symbols.symbols()
    with pytest.raises(ValueError, match="one-hot"):
        load_task("parity").symbols()


def test_show_refuses_batches_and_at_refuses_tasks_of_one_size():
    task = toy()
    with pytest.raises(ValueError, match="without batch axis"):
        task.show(task.test.x, task.test.y)
    with pytest.raises(ValueError, match="several sizes"):
        task.at(5)


def test_options_are_named_when_they_are_wrong():
    assert load_task("parity", length=7).input_shape == (7, 1)
    with pytest.raises(ValueError, match="length, seed"):
        load_task("parity", size=7)


def test_distinct_items_run_out_with_an_error():
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int):
        return torch.randint(0, 4, (rows, 1), generator=generator).numpy()

    assert sorted(distinct(draw, lambda items: items, 4, "toy").ravel().tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="toy: expected 5 different items, found 4"):
        distinct(draw, lambda items: items, 5, "toy")
    with pytest.raises(ValueError, match="5 different items, found 2"):
        distinct(draw, lambda items: items // 2, 5, "toy")
