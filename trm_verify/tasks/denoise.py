"""Denoising: the clean image behind a noisy handwritten digit."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Split, Task, accuracy, check_sizes, position_accuracy
from trm_verify.tasks.digits import digits

LEVELS = 17
_LO, _HI = -1.0, 2.0
_RAMP = " .:-=+*#%@"


def denoise(noise: float = 0.5, *, seed: int = 0, copies: int = 4) -> Task:
    """Restore 8×8 images of handwritten digits from Gaussian noise.

    The images and their split are those of the task `digits`; `copies` draws of noise for each training image, one
    for each other image, clipped to [−1, 2]. The answer is one of 17 grey levels a pixel, because an arg-max is what
    a certificate can settle, and the metric is the PSNR in decibels of that very image, so the measured number and
    the certified answer speak of the same thing. `psnr_mean` measures the expected level under the softmax instead.

    A free readout of 17 classes makes a poor image: the most likely level is far from the mean, which the PSNR
    rewards. `level_logits` ties the classes to one number a pixel, and its arg-max is that number, rounded.

    Shape: x (rows, 8, 8, 1) in [−1, 2]; y (rows, 8, 8) grey levels 0 … 16.
    Source: as `digits`.

    Args:
        noise: standard deviation, where white is 1.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: no noise, or no copies.
    """
    check_sizes("denoise", copies, 1)
    if not 0 < noise < float("inf"):
        raise ValueError(f"denoise: expected a finite noise > 0, found {noise}")
    generator = torch.Generator().manual_seed(seed)

    def noisy(split: Split, times: int) -> Split:
        clean = split.x.reshape(-1, 8, 8).repeat(times, 1, 1)
        x = (clean + noise * torch.randn(clean.shape, generator=generator)).clamp(_LO, _HI)
        return Split(x[..., None], (16 * clean).long())

    images = digits()
    return Task(
        "denoise",
        noisy(images.train, copies),
        noisy(images.validation, 1),
        noisy(images.test, 1),
        classes=LEVELS,
        domain=Box(_LO, _HI).expand((8, 8, 1)),
        metric=psnr,
        metrics=MappingProxyType(
            {"psnr": psnr, "psnr_mean": psnr_mean, "exact": accuracy, "position": position_accuracy}
        ),
        text=_text,
        reference=Baseline("the best linear filter of the whole image (least squares)", _linear),
    )


def level_logits(value: Tensor, sharpness: float = 64.0) -> Tensor:
    """Logits over grey levels from one number a pixel: `−sharpness · (value − level)²`, without the part that all
    levels share. They are linear in the number, their arg-max is the nearest level, and cross-entropy on them is a
    regression of the number.

    Shape: value (rows, 8, 8) → (rows, 8, 8, 17).
    """
    levels = torch.arange(LEVELS, dtype=value.dtype, device=value.device) / (LEVELS - 1)
    return sharpness * (2 * value[..., None] * levels - levels * levels)


def psnr(logits: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of the arg-max image in dB, from the mean squared error over all images; white is 1.

    Shape: logits (rows, 8, 8, 17), target (rows, 8, 8).
    """
    return _decibel(logits.argmax(dim=-1).double() - target)


def psnr_mean(logits: Tensor, target: Tensor) -> float:
    """As `psnr`, of the expected grey level under the softmax of the logits."""
    expected = logits.double().softmax(dim=-1) @ torch.arange(LEVELS, dtype=torch.float64)
    return _decibel(expected - target)


def _decibel(error: Tensor) -> float:
    return float(-10 * torch.log10((error / (LEVELS - 1)).square().mean()))


def _linear(task: Task) -> Tensor:
    def design(split: Split) -> Tensor:
        return torch.nn.functional.pad(split.x.flatten(1).double(), (0, 1), value=1.0)

    clean = task.train.y.flatten(1).double() / (LEVELS - 1)
    weights = torch.linalg.lstsq(design(task.train), clean).solution
    restored = (design(task.test) @ weights).reshape(task.test.y.shape)
    return level_logits(restored)


def _text(x: Tensor, y: Tensor) -> str:
    def shade(value: float) -> str:
        return _RAMP[round(min(max(value, 0.0), 1.0) * (len(_RAMP) - 1))] * 2

    rows = zip(x[..., 0].tolist(), (y / (LEVELS - 1)).tolist(), strict=True)
    return "\n".join(f"{''.join(map(shade, noisy))} │ {''.join(map(shade, clean))} │" for noisy, clean in rows)
