"""Refinement of grids: every cell looks at its 3×3 neighbourhood, and the step contracts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box
from trm_verify.models.base import EncodedModel, grid_arguments
from trm_verify.models.grid import GridInput
from trm_verify.nn import SandwichBlock, free_linear

SHARPNESS = 64.0  # of the logits of ordered classes: with 17 of them a level one off has weight e^(−1/4)
NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))


class ConvRefiner(EncodedModel):
    """`z_c ← B(z at c and at the eight cells around it; e_c(x))`, B a `SandwichBlock`: a convolution that contracts.

    A grid moved by one cell, zeros moving in, is no larger in the maximum over cells of ℓ2, and B moves by at most
    `√Σ γ_i²` times the largest of its nine sources, with `γ_i = rho/3`: the step contracts at `rho` for every x.
    Encoder and readout are free. No parameter knows the size of the grid, see `at`.

    Proved by: `row_gain` for the block, `radius_contraction` for the step.

    Shape: z (batch, height, width, features), x (batch, height, width, channels), readout (batch, height, width,
        classes).
    Norm: maximum over cells of ℓ2, rate `rho`; holds for every x and z.

    Args:
        height: rows of the grid.
        width: its columns.
        channels: reals a cell.
        classes: number of answers a cell.
        features: size of a cell's state.
        hidden: activation units of the block.
        inputs: features of the encoder.
        layers: 3×3 convolutions of the encoder.
        rho: the rate, below 1.
        ordered: whether classes are levels 0 … classes−1 of one number v, with logits `−s (v − level/(classes−1))²`
            (without the part that all levels share): their arg-max is v, rounded, and cross-entropy a regression.
        act: activation of the block, elementwise with slopes in [0, 1].
        domain: ends `(lo, hi)` of every input, or None for all reals.
        seed: seed of the initial parameters.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        classes: int,
        features: int = 16,
        hidden: int = 64,
        inputs: int = 16,
        *,
        layers: int = 1,
        rho: float = 0.9,
        ordered: bool = False,
        act: str = "relu",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(height, width, channels, features, hidden, inputs, layers) < 1 or classes < 2 or not 0 < rho < 1:
            raise ValueError(
                "ConvRefiner: expected positive sizes, at least two classes and rho in (0, 1), found "
                f"{height=}, {width=}, {channels=}, {classes=}, {features=}, {hidden=}, {inputs=}, {layers=}, {rho=}"
            )
        self.set_config(
            height=height, width=width, channels=channels, classes=classes, features=features, hidden=hidden,
            inputs=inputs, layers=layers, rho=rho, ordered=ordered, act=act,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.state_shape, self.input_shape = (height, width, features), (height, width, channels)
        self.domain = None if domain is None else Box(*domain).expand(self.input_shape)
        self.encoder = GridInput(channels, inputs, layers, generator, **made)
        self.block: nn.Module = SandwichBlock(
            features, hidden, [features] * len(NEIGHBOURS), inputs, rho / len(NEIGHBOURS) ** 0.5, act=act,
            generator=generator, **made,
        )  # fmt: skip
        self.head = free_linear(features, 1 if ordered else classes, generator, **made)
        self.levels = classes if ordered else None
        self.rate, self.norm = rho, "tokens_l2"

    @property
    def head_weight(self) -> Tensor:
        weight = self.head.weight
        return weight if self.levels is None else 2 * SHARPNESS * self._ramp(weight)[:, None] * weight

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        return grid_arguments(cls.__name__, input_shape, vocabulary)

    def encode(self, x: Tensor) -> Tensor:
        """What every cell sees of x. Shape: (batch, height, width, channels) to (batch, height, width, inputs)."""
        return torch.permute(self.encoder(x), (0, 2, 3, 1))

    def refine(self, z: Tensor, encoded: Tensor) -> Tensor:
        """One step of every cell. Shape: z (batch, height, width, features), encoded (batch, height, width, inputs)."""
        height, width = z.shape[1:3]
        padded = nn.functional.pad(z, (0, 0, 1, 1, 1, 1))
        around = [padded[:, 1 + d : 1 + d + height, 1 + r : 1 + r + width] for d, r in NEIGHBOURS]
        after: Tensor = self.block(*around, x=encoded)
        return after

    def readout(self, z: Tensor) -> Tensor:
        """Logits of every cell."""
        values: Tensor = self.head(z)
        if self.levels is None:
            return values
        ramp = self._ramp(z)
        return SHARPNESS * (2 * values * ramp - ramp * ramp)

    def _ramp(self, like: Tensor) -> Tensor:
        """The levels of ordered classes, from 0 to 1."""
        count = self.levels or 1
        return torch.arange(count, dtype=like.dtype, device=like.device) / (count - 1)
