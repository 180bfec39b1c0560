"""Bracket repair: the only nearest well-formed word."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Task, check_sizes, cut, distinct, one_hot

_SIZES = (12, 16, 20, 24, 32)
_SIGNS = ("([{", ")]}")
_DRAWN = 8192  # words at once: enough to keep numpy busy, few enough to stay in the cache


def brackets(
    length: int = 16,
    *,
    kinds: int = 2,
    corruptions: int = 3,
    seed: int = 0,
    train: int = 4096,
    validation: int = 256,
    test: int = 512,
) -> Task:
    """Repair words of brackets in which up to `corruptions` brackets were replaced.

    A word starts as a well-formed one (a Dyck word, all shapes equally likely, kinds at random); 1 to `corruptions`
    places then get another bracket. Kept are the words with exactly one well-formed word of the same length at the
    least Hamming distance, and that is the one they came from: right is that word, and there is no second answer that
    is as good. No two items have the same repair, so no test answer is seen in training; where there are not enough
    words for that (below length 12), ask for fewer rows.

    Symbols are the opening kinds, then the closing ones. Shape: x (rows, length, 2·kinds) one-hot; y (rows, length).

    Raises:
        ValueError: an odd or small length, other kinds than 1 to 3, no corruptions, no rows, or fewer words than rows.
    """
    check_sizes("brackets", length, 4, train=train, validation=validation, test=test)
    if length % 2 or kinds not in (1, 2, 3) or not 1 <= corruptions <= length:
        raise ValueError(
            f"brackets: expected an even length, 1 to 3 kinds and 1 to {length} corruptions; found length={length}, "
            f"kinds={kinds}, corruptions={corruptions}"
        )
    rng = np.random.default_rng([seed, length, kinds, corruptions])
    rows = train + validation + test
    items = distinct(
        lambda _: _draw(rng, length, kinds, corruptions), lambda pairs: pairs[:, 1].copy(), rows, "brackets"
    )
    x, y = (torch.from_numpy(side).long() for side in (items[:, 0], items[:, 1]))
    return Task(
        "brackets",
        *cut(one_hot(x, 2 * kinds), y, train, validation, test),
        classes=2 * kinds,
        domain=Box(0, 1).expand((length, 2 * kinds)),
        difficulty=length,
        difficulties=_SIZES,
        sized=partial(
            brackets, kinds=kinds, corruptions=corruptions, seed=seed, train=train, validation=validation, test=test
        ),
        text=_text,
        reference=Baseline("left to right with a stack, each closing bracket made to fit", _greedy),
    )


def dyck_words(rng: np.random.Generator, rows: int, length: int, kinds: int) -> np.ndarray:
    """Random well-formed words, every sequence of depths equally likely. Shape: (rows, length)."""
    word = np.empty((rows, length), dtype=np.int64)
    stack = np.zeros((rows, length + 1), dtype=np.int64)
    depth, every = np.zeros(rows, dtype=np.int64), np.arange(rows)
    kind = rng.integers(0, kinds, (rows, length))
    luck = rng.random((rows, length))
    for place in range(length):
        left = length - place
        # The share of well-formed rests that open here (the ballot theorem).
        opens = luck[:, place] < (left - depth) * (depth + 2) / (2 * left * (depth + 1))
        depth -= ~opens
        word[:, place] = np.where(opens, kind[:, place], kinds + stack[every, depth])
        stack[every[opens], depth[opens]] = kind[opens, place]
        depth += opens
    return word


def nearest(words: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the nearest well-formed words of the same length are, and how many of them there are.

    A non-empty well-formed word is `( first ) rest` in exactly one way; so over all spans, shortest first, the least
    cost and the number of ways that attain it follow from those of shorter spans.

    Shape: words (rows, length), even length; distance (rows,), number (rows,), at most 2 (2 stands for more).
    """
    rows, length = words.shape
    cost = np.zeros((length + 1, length + 1, rows), dtype=np.int16)
    ways = np.ones((length + 1, length + 1, rows), dtype=np.int16)
    letters = np.ascontiguousarray(words.T)
    for span in range(2, length + 1, 2):
        for start in range(length - span + 1):
            end = start + span
            least = np.full(rows, 2 * length, dtype=np.int16)
            number = np.zeros(rows, dtype=np.int16)
            for close in range(start + 1, end, 2):
                pair, choices = _pair(letters[start], letters[close], kinds)
                total = pair + cost[start + 1, close] + cost[close + 1, end]
                count = choices * ways[start + 1, close] * ways[close + 1, end]
                number = np.where(total < least, count, number + np.where(total == least, count, 0))
                least = np.minimum(least, total)
            cost[start, end], ways[start, end] = least, np.minimum(number, 2)
    return np.asarray(cost[0, length]), np.asarray(ways[0, length])


def _pair(first: np.ndarray, second: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """The least number of changes that make two brackets a pair, and in how many ways. Shape: (rows,) each."""
    opens, closes = first < kinds, second >= kinds
    same = opens & closes & (first == second - kinds)
    cost = np.where(same, 0, np.where(opens | closes, 1, 2)).astype(np.int16)
    ways = np.where(same, 1, np.where(opens & closes, 2, np.where(opens | closes, 1, kinds))).astype(np.int16)
    return cost, ways


def _draw(rng: np.random.Generator, length: int, kinds: int, corruptions: int) -> np.ndarray:
    """Corrupted words that have one nearest repair, with it. Shape: (some rows, 2, length)."""
    words = dyck_words(rng, _DRAWN, length, kinds)
    # Many changes seldom leave one nearest word, so they are tried more often than few.
    tries = np.arange(1, corruptions + 1) ** 2
    count = rng.choice(np.arange(1, corruptions + 1), (_DRAWN, 1), p=tries / tries.sum())
    places = rng.random(words.shape).argsort(axis=1).argsort(axis=1) < count
    changed = (words + places * rng.integers(1, 2 * kinds, words.shape)) % (2 * kinds)
    distance, number = nearest(changed, kinds)
    # One nearest word, no nearer than the original: then it is the original.
    kept = (number == 1) & (distance == places.sum(axis=1))
    items: np.ndarray = np.stack([changed, words], axis=1)[kept].astype(np.int8)
    return items


def _greedy(task: Task) -> Tensor:
    x = task.test.x if task.vocabulary is not None else task.test.x.argmax(dim=-1)
    kinds = task.classes // 2
    return one_hot(torch.tensor([_stacked(word, kinds) for word in x.tolist()]), task.classes)


def _stacked(word: list[int], kinds: int) -> list[int]:
    repaired: list[int] = []
    stack: list[int] = []
    for place, sign in enumerate(word):
        left = len(word) - place
        opens = sign < kinds
        if not stack or (opens and len(stack) < left):
            stack.append(sign % kinds)
            repaired.append(stack[-1])
        else:
            repaired.append(kinds + stack.pop())
    return repaired


def _text(x: Tensor, y: Tensor) -> str:
    kinds = x.shape[-1] // 2
    signs = _SIGNS[0][:kinds] + _SIGNS[1][:kinds]
    given, answer = ("".join(signs[s] for s in word) for word in (x.argmax(dim=-1).tolist(), y.tolist()))
    marks = "".join("^" if a != b else " " for a, b in zip(given, answer, strict=True))
    return f"{given}\n{answer}\n{marks.rstrip()}"
