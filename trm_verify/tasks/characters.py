"""Masked characters: fill the gaps in short pieces of text, as a tiny language model."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import (
    IGNORE,
    Baseline,
    Split,
    Task,
    accuracy,
    check_sizes,
    one_hot,
    position_accuracy,
)
from trm_verify.tasks.library import modules, share

_SIZES = (16, 24, 32, 48)
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,:;()[]{}'\"=_-+*/#"
"""The characters of the answers; in inputs one more symbol is the gap."""
GAP = len(ALPHABET)
_TRAIN, _VALIDATION = 0.7, 0.1  # shares of the modules; the rest is to test


def characters(
    length: int = 32,
    *,
    masked: float = 0.25,
    seed: int = 0,
    train: int = 8192,
    validation: int = 512,
    test: int = 1024,
) -> Task:
    """Restore masked characters in pieces of the standard library's sources and docstrings.

    The text is in lower case, other characters than `ALPHABET` and line ends are spaces, and runs of spaces are one. A
    piece of `length` characters loses each with probability `masked`, at least one. Whole modules are on one side:
    test pieces come from modules that no training piece comes from, and no two pieces are equal. The metric is the
    fraction of masked characters that are right; what is not masked does not count.

    The text is that of the Python that runs, so numbers of two Python versions differ a little.

    Shape: x (rows, length, 47) one-hot, the last channel is the gap; y (rows, length) of 46, `IGNORE` where not masked.

    Raises:
        ValueError: a small length, a probability outside (0, 1], no rows, or fewer pieces than rows.
        FileNotFoundError: a Python without the sources of its library.
    """
    check_sizes("characters", length, 3, train=train, validation=validation, test=test)
    if not 0 < masked <= 1:
        raise ValueError(f"characters: expected masked in (0, 1], found {masked}")
    rng = np.random.default_rng([seed, length])
    seen: set[bytes] = set()
    splits = [
        _masked(rng, _pieces(rng, texts, rows, length, seen), masked)
        for texts, rows in zip(_texts(), (train, validation, test), strict=True)
    ]
    return Task(
        "characters",
        splits[0],
        splits[1],
        splits[2],
        classes=len(ALPHABET),
        domain=Box(0, 1).expand((length, len(ALPHABET) + 1)),
        metric=position_accuracy,
        metrics=MappingProxyType({"position": position_accuracy, "exact": accuracy}),
        difficulty=length,
        difficulties=_SIZES,
        sized=partial(characters, masked=masked, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("the most frequent character between the neighbours", _trigrams),
    )


@lru_cache(maxsize=1)
def _texts() -> tuple[tuple[np.ndarray, ...], ...]:
    """The text of every module as symbols, for the three splits."""
    sides: tuple[list[np.ndarray], ...] = ([], [], [])
    outside = re.compile(f"[^{re.escape(ALPHABET)}]+| {{2,}}")
    for name, source in modules():
        text = outside.sub(" ", outside.sub(" ", source.lower()))
        where = share(name)
        side = 0 if where < _TRAIN else 1 if where < _TRAIN + _VALIDATION else 2
        sides[side].append(_SYMBOLS[np.frombuffer(text.encode(), dtype=np.uint8)])
    return tuple(tuple(side) for side in sides)


_SYMBOLS = np.zeros(128, dtype=np.int64)
_SYMBOLS[[ord(sign) for sign in ALPHABET]] = np.arange(len(ALPHABET))


def _pieces(
    rng: np.random.Generator, texts: tuple[np.ndarray, ...], rows: int, length: int, seen: set[bytes]
) -> np.ndarray:
    """Random pieces without overlap, none of them in `seen`, which grows. Shape: (rows, length)."""
    cut = [text[: len(text) // length * length].reshape(-1, length) for text in texts]
    every = np.concatenate(cut)
    kept: list[np.ndarray] = []
    for piece in every[rng.permutation(len(every))]:
        if len(kept) == rows:
            break
        if (key := piece.tobytes()) not in seen:
            seen.add(key)
            kept.append(piece)
    if len(kept) < rows:
        raise ValueError(f"characters: expected {rows} different pieces of {length} characters, found {len(kept)}")
    return np.stack(kept)


def _masked(rng: np.random.Generator, pieces: np.ndarray, masked: float) -> Split:
    luck = rng.random(pieces.shape)
    gaps = (luck < masked) | (luck == luck.min(axis=1, keepdims=True))
    x, y = np.where(gaps, GAP, pieces), np.where(gaps, pieces, IGNORE)
    return Split(one_hot(torch.from_numpy(x), GAP + 1), torch.from_numpy(y))


def _trigrams(task: Task) -> Tensor:
    """Counts of characters between two neighbours in the training text; of a gap's neighbours those that are known."""
    known, test = (
        (split.x if task.vocabulary is not None else split.x.argmax(dim=-1)).numpy()
        for split in (task.train, task.test)
    )
    whole = np.where(known == GAP, task.train.y.numpy(), known)
    counts = np.zeros((GAP + 1, GAP + 1, GAP))
    left, middle, right = whole[:, :-2].ravel(), whole[:, 1:-1].ravel(), whole[:, 2:].ravel()
    np.add.at(counts, (left, right, middle), 1.0)
    # Where a neighbour is unknown, or beyond the end, its row sums over all that it could be.
    counts[GAP] = counts[:GAP].sum(axis=0)
    counts[:, GAP] = counts[:, :GAP].sum(axis=1)
    padded = np.pad(test, [(0, 0), (1, 1)], constant_values=GAP)
    # Pairs never seen together leave the decision to one neighbour, then to the frequency alone.
    backed = counts + 1e-3 * (counts[:, GAP:] + counts[GAP:]) + 1e-6 * counts[GAP, GAP]
    return torch.from_numpy(backed[padded[:, :-2], padded[:, 2:]])


def _text(x: Tensor, y: Tensor) -> str:
    given = "".join("▁" if s == GAP else ALPHABET[s] for s in x.argmax(dim=-1).tolist())
    filled = "".join(ALPHABET[s] if 0 <= s < GAP and g == "▁" else g for s, g in zip(y.tolist(), given, strict=True))
    return f"{given}\n{filled}"
