"""Bounded activations, by name, with the slope range that every pair of points respects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    """`sin`, elementwise."""

    def forward(self, z: Tensor) -> Tensor:
        """Shape: any, kept."""
        return torch.sin(z)


class Absolute(nn.Module):
    """`|z|`, elementwise."""

    def forward(self, z: Tensor) -> Tensor:
        """Shape: any, kept."""
        return torch.abs(z)


class MaxMin(nn.Module):
    """Sorts neighbouring pairs: all maxima, then all minima (GroupSort with groups of two).

    It permutes coordinates, so it keeps every distance's ℓ2 norm from growing and mixes two coordinates in ℓ∞
    (`max(|a|, |b|)`): 1-Lipschitz in both norms, but not elementwise, hence outside the reach of
    `metric_contraction`.

    Shape: (…, n) with n even, to (…, n).
    Source: Anil, Lucas and Grosse, Sorting out Lipschitz function approximation (ICML 2019).
    """

    def forward(self, z: Tensor) -> Tensor:
        """Shape: (…, n) with n even, kept. Raises `ValueError` where n is odd."""
        if z.shape[-1] % 2:
            raise ValueError(f"MaxMin: expected an even number of features on the last axis, found {z.shape[-1]}")
        first, second = z[..., 0::2], z[..., 1::2]
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=-1)


@dataclass(frozen=True)
class Activation:
    """One activation: its slopes between any two points, and how to make it.

    Attributes:
        low: smallest slope.
        high: largest slope.
        elementwise: False if coordinates are mixed (then `metric_contraction` does not apply).
        make: a function that returns the module.
    """

    low: float
    high: float
    elementwise: bool
    make: Callable[[], nn.Module]

    @property
    def monotone_nonexpansive(self) -> bool:
        """Elementwise with slopes in [0, 1]: what a Sandwich step needs."""
        return self.elementwise and self.low >= 0 and self.high <= 1


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(0.0, 1.0, True, nn.ReLU),
    # An eighth is a dyadic number: the stored slope is the same in every precision.
    "leaky_relu": Activation(0.125, 1.0, True, lambda: nn.LeakyReLU(0.125)),
    "tanh": Activation(0.0, 1.0, True, nn.Tanh),
    "hardtanh": Activation(0.0, 1.0, True, nn.Hardtanh),
    "sigmoid": Activation(0.0, 0.25, True, nn.Sigmoid),
    "softplus": Activation(0.0, 1.0, True, nn.Softplus),
    "abs": Activation(-1.0, 1.0, True, Absolute),
    "sin": Activation(-1.0, 1.0, True, Sine),
    "maxmin": Activation(-1.0, 1.0, False, MaxMin),
    "identity": Activation(1.0, 1.0, True, nn.Identity),
}


def activation(name: str) -> Activation:
    """The activation of that name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(sorted(ACTIVATIONS))}; found {name!r}")
    return ACTIVATIONS[name]
