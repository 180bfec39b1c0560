"""Small recursive models that several test files share, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import trm_verify as tv
from trm_verify.model import RecursiveModel, flatten_state, trace


def linear(outputs: int, inputs: int, norm: float, seed: int, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """A linear layer whose weight has the given ℓ2 norm, up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight * (norm / float(torch.linalg.matrix_norm(weight, 2))))
        layer.bias.copy_(torch.randn(outputs, generator=generator) / 2)
    return layer.to(dtype)


def tanh_model(
    seed: int = 0, *, n: int = 5, m: int = 3, norm: float = 0.5, dtype: torch.dtype = torch.float32,
    activation: Callable[[Tensor], Tensor] = torch.tanh, readout: bool = True, **kwargs: Any,
) -> RecursiveModel:  # fmt: skip
    """z ← tanh(Az + Bx + b) with four classes, on the box [−1, 1] of inputs."""
    inner, drive = linear(n, n, norm, seed, dtype), linear(n, m, 1.0, seed + 100, dtype)
    logits = linear(4, n, 1.0, seed + 200, dtype) if readout else None
    kwargs = {"domain": tv.Box(-1, 1), **kwargs}
    return tv.recursive(
        lambda z, x: activation(inner(z) + drive(x)), state_shape=(n,), input_shape=(m,), readout=logits, **kwargs
    )


def gate_model(**kwargs: Any) -> RecursiveModel:
    """z ← x∘z + 1: contracts for |x| < 1 alone."""
    return tv.recursive(
        lambda z, x: x * z + 1, state_shape=(2,), input_shape=(2,), readout=lambda z: z, **kwargs
    )  # fmt: skip


def autonomous(step: Callable[[Tensor], Tensor], size: int = 1, **kwargs: Any) -> RecursiveModel:
    return tv.recursive(step, state_shape=(size,), **kwargs)


def iterates(model: RecursiveModel, x: Tensor | None, steps: int) -> Tensor:
    """The model's iterates from init in float64. Shape: (steps + 1, batch, n)."""
    wide = model.double()
    given = None if x is None else x if model.vocabulary is not None else x.double()
    with torch.no_grad():
        return torch.stack([flatten_state(z) for z in trace(wide, given, steps)])
