from __future__ import annotations

import pytest
import torch

from trm_verify.tasks import addition


def number(bits: list[int]) -> int:
    return sum(int(bit) << i for i, bit in enumerate(bits))


def pairs(split) -> list[tuple[int, int]]:
    return [(number(a), number(b)) for a, b in split.x.transpose(1, 2).tolist()]


@pytest.mark.parametrize("length", [2, 6, 7, 16, 64])
def test_targets_are_sums(length):
    task = addition(length)
    for split in (task.train, task.validation, task.test):
        known = pairs(split)
        assert [number(y) for y in split.y.tolist()] == [a + b for a, b in known]
        assert max(max(pair) for pair in known) < 2**length


def test_swapped_numbers_are_the_same_item():
    for length in (2, 5, 7, 16):
        task = addition(length)
        known = [frozenset(pair) for split in (task.train, task.validation, task.test) for pair in pairs(split)]
        assert len(set(known)) == len(known)
    assert len(known) == 4096 + 256 + 512


def test_all_small_pairs_are_listed():
    task = addition(2)
    known = {frozenset(pair) for split in (task.train, task.validation, task.test) for pair in pairs(split)}
    assert len(known) >= 9 and known <= {frozenset((a, b)) for a in range(4) for b in range(4)}


def test_carries_travel_far():
    task = addition(32)
    longest = []
    for a, b in pairs(task.test):
        carries = bin((a + b) ^ a ^ b)[2:]
        longest.append(max(len(run) for run in carries.split("0")))
    longest.sort()
    assert longest[len(longest) // 2] >= 8 and longest[-1] >= 20
    # Fair bits would not do: their median is well below.
    generator = torch.Generator().manual_seed(0)
    fair = []
    for a, b in torch.randint(0, 2**32, (512, 2), generator=generator).tolist():
        fair.append(max(len(run) for run in bin((a + b) ^ a ^ b)[2:].split("0")))
    assert sorted(fair)[256] < longest[256]


def test_seeds_and_sizes():
    task = addition(12)
    assert torch.equal(addition(12).train.x, task.train.x)
    assert not torch.equal(addition(12, seed=1).train.x, task.train.x)
    assert task.at(64).input_shape == (65, 2) and task.input_shape == (13, 2)
    with pytest.raises(ValueError, match="at least 2"):
        addition(1)


def test_text():
    task = addition(2)
    x, y = torch.tensor([[1, 1], [1, 0], [0, 0]]), torch.tensor([0, 0, 1])
    assert task.show(x, y) == "  a  011  3\n  b  001  1\na+b  100  4"
