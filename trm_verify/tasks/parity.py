"""Prefix parity: the running parity of a bit string, at every position."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import MAJORITY, Task, check_sizes, cut, distinct

_SIZES = (8, 16, 32, 64, 128, 256, 512)


def parity(length: int = 16, *, seed: int = 0, train: int = 4096, validation: int = 256, test: int = 512) -> Task:
    """The parity of bits 0 … t, for every position t of a random bit string.

    Right is a string whose parity is right at every position. A string of 16 bits holds all its prefixes, so
    training on 16 bits trains on every length up to 16. No string appears twice; short strings, of which there
    are fewer than asked for, are shared out: a half to train, a quarter to validate, the rest to test.

    Shape: x (rows, length, 1) bits, y (rows, length) parities.

    Raises:
        ValueError: fewer than 3 bits, or no rows.
    """
    check_sizes("parity", length, 3, train=train, validation=validation, test=test)
    rng = np.random.default_rng([seed, length])
    counts = (train, validation, test)
    if length <= 20:
        if (known := 1 << length) < sum(counts):
            counts = (known // 2, known // 4, known // 4)
        numbers = rng.permutation(known)[: sum(counts)]
        bits = (numbers[:, None] >> np.arange(length)) & 1
    else:
        bits = distinct(lambda rows: rng.integers(0, 2, (rows, length)), lambda b: b, sum(counts), "parity")
    x = torch.from_numpy(bits).float()[..., None]
    y = torch.from_numpy(bits.cumsum(axis=1) % 2)
    return Task(
        "parity",
        *cut(x, y, *counts),
        classes=2,
        domain=Box(0, 1).expand((length, 1)),
        difficulty=length,
        difficulties=_SIZES,
        sized=partial(parity, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=MAJORITY,
    )


def _text(x: Tensor, y: Tensor) -> str:
    return f"bits    {bit_string(x[:, 0])}\nparity  {bit_string(y)}"


def bit_string(bits: Tensor) -> str:
    """Bits as text, in the order in which they are stored."""
    return "".join(str(int(bit)) for bit in bits)
