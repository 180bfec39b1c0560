"""The 8×8 handwritten digits that scikit-learn ships: 1797 images of 16 grey levels."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Split, Task

VALIDATION, TEST = 180, 360
_RAMP = " .:-=+*#%@"


def digits(split: Literal["images", "blocks"] = "images") -> Task:
    """Classify 8×8 images of handwritten digits.

    A pixel is a grey level 0 … 16 divided by 16, hence exact in every float format. The split is fixed: 1257
    images to train, 180 to choose parameters by, 360 to test.

    - `images` (default) orders the images by the SHA-256 of their pixels, so the split depends neither on a
      random generator nor on the order in which they are stored. No two images are equal. The same writers
      appear on both sides: the usual setting for this data.
    - `blocks` keeps the stored order, in which a writer's images are mostly neighbours: test writers are then
      mostly unseen, and every method loses several points.

    Shape: x (rows, 64) row-major pixels in [0, 1], y (rows,) labels 0 … 9.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), its test part.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: an unknown split, or data that are not the expected images.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != "sklearn":
            raise
        raise ModuleNotFoundError(
            "the digits task needs scikit-learn, which is not installed; run: pip install 'trm-verify[demo]'",
            name="sklearn",
        ) from error
    if split not in ("images", "blocks"):
        raise ValueError(f"digits: expected split 'images' or 'blocks', found {split!r}")
    raw, labels = load_digits(return_X_y=True)
    levels = raw.astype(np.uint8)
    if raw.shape != (1797, 64) or not (levels == raw).all() or levels.max() != 16:
        raise ValueError(
            "digits: expected 1797 images of 64 whole grey levels from 0 to 16, "
            f"found shape {raw.shape} with values from {raw.min()} to {raw.max()}"
        )
    order = np.arange(len(raw))
    if split == "images":
        order = np.array(sorted(order, key=lambda i: hashlib.sha256(levels[i].tobytes()).digest()))
    x = torch.from_numpy(levels[order]).float() / 16
    y = torch.from_numpy(labels[order].astype(np.int64))
    fit, choose = len(x) - VALIDATION - TEST, len(x) - TEST
    return Task(
        "digits",
        Split(x[:fit], y[:fit]),
        Split(x[fit:choose], y[fit:choose]),
        Split(x[choose:], y[choose:]),
        10,
        Box(0, 1).expand((64,)),
        text=_text,
    )


def shaded(grey: Tensor) -> list[str]:
    """An image as lines of text, two characters a pixel. Shape: (height, width), black 0 to white 1."""
    levels = (grey.clamp(0, 1) * (len(_RAMP) - 1)).round().long()
    return ["".join(2 * _RAMP[level] for level in row) for row in levels.tolist()]


def _text(x: Tensor, y: Tensor) -> str:
    return "\n".join([*(line.rstrip() for line in shaded(x.view(8, 8))), f"→ {int(y)}"])
