"""Binary addition, least significant bit first."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import MAJORITY, Task, check_sizes, cut, distinct
from trm_verify.tasks.parity import bit_string

_SIZES = (4, 8, 16, 32, 64, 128)
_LISTED = 6  # up to that many bits all pairs are listed, beyond they are drawn


def addition(length: int = 16, *, seed: int = 0, train: int = 4096, validation: int = 256, test: int = 512) -> Task:
    """The sum of two numbers of `length` bits, bit by bit.

    Right is a sum whose bits are all right. Numbers with independent bits hardly ever carry far, so each pair draws
    the share of positions at which its bits differ (where a carry passes on) between 0.5 and 0.95: chains of
    up to about twenty carries are common. `a + b` and `b + a` count as one item, and no item appears twice; where there
    are fewer than asked for (up to 6 bits), a half is to train, a quarter to validate, the rest to test.

    Shape: x (rows, length + 1, 2) bits of both numbers, the last ones 0; y (rows, length + 1) bits of the sum.

    Raises:
        ValueError: fewer than 2 bits, or no rows.
    """
    check_sizes("addition", length, 2, train=train, validation=validation, test=test)
    rng = np.random.default_rng([seed, length])
    counts = (train, validation, test)
    if length <= _LISTED:
        known = _every_pair(rng, length)
        if len(known) < sum(counts):
            counts = (len(known) // 2, len(known) // 4, len(known) // 4)
        pairs = known[: sum(counts)]
    else:
        pairs = distinct(lambda rows: _draw(rng, rows, length), unordered, sum(counts), "addition")
    x = np.pad(pairs, [(0, 0), (0, 1), (0, 0)])
    return Task(
        "addition",
        *cut(torch.from_numpy(x).float(), torch.from_numpy(_sums(x)), *counts),
        classes=2,
        domain=Box(0, 1).expand((length + 1, 2)),
        difficulty=length,
        difficulties=_SIZES,
        sized=partial(addition, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=MAJORITY,
    )


def unordered(pairs: np.ndarray) -> np.ndarray:
    """The same row for `a, b` and `b, a`. Shape: (rows, length, 2) → (rows, length)."""
    differs = pairs[..., 0] != pairs[..., 1]
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), 0)
    swap = pairs[np.arange(len(pairs)), first, 0] > pairs[np.arange(len(pairs)), first, 1]
    ordered = np.where(swap[:, None, None], pairs[..., ::-1], pairs)
    key: np.ndarray = ordered[..., 0] + 2 * ordered[..., 1]
    return key


def _draw(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    differ = rng.random((rows, length)) < rng.uniform(0.5, 0.95, (rows, 1))
    a = rng.integers(0, 2, (rows, length))
    return np.stack([a, a ^ differ], axis=-1)


def _every_pair(rng: np.random.Generator, length: int) -> np.ndarray:
    numbers = np.stack(np.triu_indices(1 << length), axis=-1)
    numbers = rng.permuted(rng.permutation(numbers), axis=1)
    return np.asarray((numbers[:, None, :] >> np.arange(length)[None, :, None]) & 1)


def _sums(x: np.ndarray) -> np.ndarray:
    """Ripple-carry, all rows at once."""
    y, carry = np.empty(x.shape[:2], dtype=np.int64), np.zeros(len(x), dtype=np.int64)
    for t in range(x.shape[1]):
        total = x[:, t].sum(axis=1) + carry
        y[:, t], carry = total & 1, total >> 1
    return y


def _text(x: Tensor, y: Tensor) -> str:
    rows = (("a", x[:, 0]), ("b", x[:, 1]), ("a+b", y))
    return "\n".join(
        f"{name:>3}  {bit_string(bits.flip(0))}  {sum(int(bit) << i for i, bit in enumerate(bits.tolist()))}"
        for name, bits in rows
    )
