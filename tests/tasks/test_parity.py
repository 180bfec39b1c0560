from __future__ import annotations

import pytest
import torch

from trm_verify.tasks import parity


@pytest.mark.parametrize("length", [3, 4, 16, 33])
def test_targets_are_the_running_parity(length):
    task = parity(length)
    for split in (task.train, task.validation, task.test):
        for bits, target in zip(split.x[..., 0].int().tolist()[:50], split.y.tolist(), strict=False):
            assert target == [sum(bits[: t + 1]) % 2 for t in range(length)]


def test_short_strings_are_shared_out():
    task = parity(4)
    parts = [{tuple(row) for row in split.x.flatten(1).tolist()} for split in (task.train, task.validation, task.test)]
    assert [len(part) for part in parts] == [8, 4, 4]
    assert len(set().union(*parts)) == 16


def test_bits_are_fair_and_seeded():
    task = parity(64)
    assert abs(float(task.train.x.mean()) - 0.5) < 0.01
    assert torch.equal(parity(64).train.x, task.train.x)
    assert not torch.equal(parity(64, seed=1).train.x, task.train.x)
    assert task.at(512).input_shape == (512, 1) and task.at(512).difficulty == 512
    assert 512 in task.difficulties
    with pytest.raises(ValueError, match="at least 3"):
        parity(2)
    with pytest.raises(ValueError, match="at least one row to test"):
        parity(4, test=0)


def test_text():
    task = parity(4)
    x, y = torch.tensor([1, 1, 0, 1])[:, None], torch.tensor([1, 0, 0, 1])
    assert task.show(x, y) == "bits    1101\nparity  1001"
