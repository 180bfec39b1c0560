from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from trm_verify.tasks import IGNORE, Split, characters
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.characters import ALPHABET, GAP
from trm_verify.tasks.library import modules, share


@pytest.fixture(scope="module")
def task():
    return characters()


def whole(split: Split) -> list[str]:
    x = split.x.argmax(dim=-1)
    return ["".join(ALPHABET[s] for s in row) for row in torch.where(x == GAP, split.y, x).tolist()]


def test_gaps_and_targets_agree(task):
    for split in (task.train, task.validation, task.test):
        gaps = split.x.argmax(dim=-1) == GAP
        assert torch.equal(gaps, split.y != IGNORE) and gaps.any(dim=1).all()
        assert abs(float(gaps.double().mean()) - 0.25) < 0.01


def test_pieces_come_from_their_own_modules(task):
    texts = {}
    for name, source in modules():
        lower = "".join(sign if sign in ALPHABET else " " for sign in source.lower())
        texts[name] = re.sub(" +", " ", lower)
    sides = ["", "", ""]
    for name, text in texts.items():
        sides[0 if share(name) < 0.7 else 1 if share(name) < 0.8 else 2] += text + "\n"
    seen: set[str] = set()
    for split, side in zip((task.train, task.validation, task.test), sides, strict=True):
        pieces = whole(split)
        assert all(piece in side for piece in pieces[:200])
        assert len(set(pieces)) == len(pieces) and not seen & set(pieces)
        seen |= set(pieces)
    assert 0.1 < sum(share(name) >= 0.8 for name in texts) / len(texts) < 0.3


def test_baseline_is_the_context_of_one_neighbour_on_each_side():
    task = characters(8, train=4, validation=1, test=1)
    train = [list(map(ALPHABET.index, text)) for text in ("abcabcab", "abcabcab", "xbyxbyxb", "aaaaaaaa")]
    x, y = torch.tensor(train), torch.full((4, 8), IGNORE)
    test = torch.tensor([[ALPHABET.index(s) if s != "_" else GAP for s in text] for text in ("a_cx_y__",)])
    task = replace(task, train=Split(one_hot(x, GAP + 1), y), test=Split(one_hot(test, GAP + 1), torch.zeros(1, 8)))
    answers = task.reference.answers(task).argmax(dim=-1)[0].tolist()
    assert [ALPHABET[answers[i]] for i in (1, 4)] == ["b", "b"]
    assert ALPHABET[answers[6]] == "x"  # after y there is only x
    assert ALPHABET[answers[7]] == "a"  # nothing is known: the most frequent one inside the training text


def test_baseline_beats_the_most_frequent_character(task):
    space = one_hot(torch.zeros_like(task.test.y), GAP)
    assert 0.1 < task.metric(space, task.test.y) < task.baseline() - 0.1 and task.baseline() < 0.5
    assert task.symbols().baseline() == task.baseline()


def test_seeds_sizes_refusals_and_text(task):
    assert torch.equal(characters().test.x, task.test.x)
    assert not torch.equal(characters(seed=1).test.x, task.test.x)
    assert task.at(16).input_shape == (16, GAP + 1)
    for wrong in ({"length": 2}, {"masked": 0.0}, {"test": 10**7}):
        with pytest.raises(ValueError, match="characters"):
            characters(**wrong)
    given, filled = task.show(task.test.x[0], task.test.y[0]).splitlines()
    assert filled == whole(task.test)[0] and "▁" in given
    assert all(a in ("▁", b) for a, b in zip(given, filled, strict=True))
