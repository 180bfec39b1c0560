"""Layers whose Lipschitz bound holds for every parameter value, and their baking to plain weights.

| layer | norm | rule that proves the baked layer |
|---|---|---|
| `SandwichStep` | ℓ2 | `metric_contraction` |
| `SandwichBlock` (several bounded inputs) | ℓ2 of each token | `row_gain`, `radius_contraction` |
| `LinfLinear`, `LinfConv2d` | weighted ℓ∞ | `radius_contraction` |
| `OrthogonalLinear`, `L2Conv2d` | ℓ2 | `spectral`, `radius_contraction` |
| `RowStochasticMixing` | maximum over tokens of ℓ2 | `spectral`, `radius_contraction` |
| `ResidualAveraged` | that of the inner layer | that of the inner layer |
| `Gated` | that of the inner layer | `radius_contraction` |
"""

from __future__ import annotations

from trm_verify.nn.activations import ACTIVATIONS, Absolute, Activation, MaxMin, Sine, activation
from trm_verify.nn.base import BoundedLayer, Proof, bake, cached_weights, free_linear
from trm_verify.nn.linf import LinfConv2d, LinfLinear
from trm_verify.nn.mixing import BakedRowStochasticMixing, RowStochasticMixing
from trm_verify.nn.orthogonal import L2Conv2d, OrthogonalLinear, cayley
from trm_verify.nn.residual import BakedGated, BakedResidualAveraged, Gated, ResidualAveraged
from trm_verify.nn.sandwich import BakedSandwichStep, SandwichStep
from trm_verify.nn.sandwich_block import BakedSandwichBlock, SandwichBlock

__all__ = [
    "ACTIVATIONS",
    "Absolute",
    "Activation",
    "BakedGated",
    "BakedResidualAveraged",
    "BakedRowStochasticMixing",
    "BakedSandwichBlock",
    "BakedSandwichStep",
    "BoundedLayer",
    "Gated",
    "L2Conv2d",
    "LinfConv2d",
    "LinfLinear",
    "MaxMin",
    "OrthogonalLinear",
    "Proof",
    "ResidualAveraged",
    "RowStochasticMixing",
    "SandwichBlock",
    "SandwichStep",
    "Sine",
    "activation",
    "bake",
    "cached_weights",
    "cayley",
    "free_linear",
]
