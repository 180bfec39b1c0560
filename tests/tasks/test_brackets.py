from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from trm_verify.tasks import brackets
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.brackets import dyck_words, nearest


def well_formed(word: list[int], kinds: int) -> bool:
    stack: list[int] = []
    for sign in word:
        if sign < kinds:
            stack.append(sign)
        elif not stack or stack.pop() != sign - kinds:
            return False
    return not stack


def every_word(length: int, kinds: int) -> np.ndarray:
    return np.array([w for w in product(range(2 * kinds), repeat=length) if well_formed(list(w), kinds)])


@pytest.mark.parametrize("length, kinds", [(4, 1), (6, 2), (8, 1), (8, 2), (6, 3)])
def test_nearest_against_all_well_formed_words(length, kinds):
    known = every_word(length, kinds)
    words = np.random.default_rng(length).integers(0, 2 * kinds, (400, length))
    apart = (words[:, None] != known[None]).sum(axis=2)
    distance, number = nearest(words, kinds)
    assert (distance == apart.min(axis=1)).all()
    assert (number == np.minimum((apart == apart.min(axis=1, keepdims=True)).sum(axis=1), 2)).all()
    assert len(set(number.tolist())) == 2


def test_dyck_words_are_well_formed_and_every_shape_is_as_likely():
    words = dyck_words(np.random.default_rng(0), 21000, 8, 1)
    counts = Counter(map(tuple, words.tolist()))
    assert set(counts) == {tuple(w) for w in every_word(8, 1).tolist()} and len(counts) == 14
    assert max(abs(n - 1500) for n in counts.values()) < 160  # four standard deviations
    assert all(well_formed(w, 3) for w in dyck_words(np.random.default_rng(0), 500, 20, 3).tolist())


@pytest.mark.parametrize("length, kinds", [(12, 2), (16, 2), (16, 3)])
def test_targets_are_the_only_nearest_words(length, kinds):
    task = brackets(length, kinds=kinds)
    seen: set[tuple[int, ...]] = set()
    for split in (task.train, task.validation, task.test):
        x, y = split.x.argmax(dim=-1), split.y
        assert all(well_formed(word, kinds) for word in y.tolist())
        changes = (x != y).sum(dim=1)
        assert int(changes.min()) == 1 and int(changes.max()) <= 3
        distance, number = nearest(x.numpy(), kinds)
        assert (number == 1).all() and (distance == changes.numpy()).all()
        assert not any(well_formed(word, kinds) for word in x.tolist())
        repairs = {tuple(word) for word in y.tolist()}
        assert len(repairs) == len(split) and not repairs & seen
        seen |= repairs
    assert float((changes > 1).float().mean()) > 0.3


def test_baseline_repairs_well_but_not_best():
    task = brackets()
    answers = task.reference.answers(task).argmax(dim=-1)
    assert all(well_formed(word, 2) for word in answers.tolist())
    assert 0.1 < task.baseline() < 0.6
    assert task.symbols().baseline() == task.baseline()


def test_seeds_sizes_refusals_and_text():
    task = brackets(train=30, validation=10, test=10)
    assert torch.equal(task.train.x, brackets(train=30, validation=10, test=10).train.x)
    assert not torch.equal(task.train.x, brackets(seed=1, train=30, validation=10, test=10).train.x)
    assert task.at(24).input_shape == (24, 4) and task.input_shape == (16, 4)
    for wrong in ({"length": 7}, {"kinds": 4}, {"corruptions": 0}, {"length": 2}):
        with pytest.raises(ValueError, match="brackets"):
            brackets(**wrong)
    with pytest.raises(ValueError, match="fewer rows"):
        brackets(8)
    small = brackets(4, train=2, validation=1, test=1)
    assert small.show(one_hot(torch.tensor([0, 0, 3, 2]), 4), torch.tensor([0, 1, 3, 2])) == "((])\n([])\n ^"
