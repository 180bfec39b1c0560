"""Planning on grids: a maximum over moves, gated by the input, that contracts in ℓ∞."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box
from trm_verify.models.base import EncodedModel, grid_arguments
from trm_verify.models.grid import GridInput, GridReadout, free_conv
from trm_verify.nn import LinfConv2d

# Where a cell looks: at itself, and one cell up, down, left and right (as rows and columns that the grid moves by).
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


class GatedMaxPlanner(EncodedModel):
    """Values spread from cell to neighbouring cell, attenuated: value iteration with learned, gated moves.

        z ← ρ · max(b(x), max_k tanh(G_k(x)) ∘ shift_k(M z)),   k: stay, and one step in each direction,

    with row sums `Σ_j |M_ij| ≤ 1` over the channels. Which moves are open is up to the gates, which see the input
    alone and are free; a maximum of maps contracts at their largest rate in ℓ∞, so the step contracts at `rho` for
    every x. No parameter knows the size of the grid: `model.at(height=13, width=13)` plans on larger ones. Values die
    out as `rho^distance`: run at least as many steps as the longest plan.

    Proved by: `radius_contraction` in ℓ∞.

    Shape: z (batch, features, height, width), x (batch, height, width, channels), readout (batch, height, width,
        classes).
    Norm: ℓ∞, rate `rho`; holds for every x and z.
    Source: Tamar and others, Value iteration networks (NeurIPS 2016), for planning by a maximum of convolutions.

    Args:
        height: rows of the grid.
        width: its columns.
        channels: reals a cell.
        classes: number of answers a cell.
        features: values a cell.
        hidden: features of encoder and readout.
        layers: convolutions of the encoder.
        period: of a pattern that the grid has: the encoder knows the row and column of a cell modulo this number. None
            for none.
        rho: the rate, below 1.
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
        hidden: int = 32,
        *,
        layers: int = 1,
        period: int | None = None,
        rho: float = 0.9,
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        smallest = min(height, width, channels, features, hidden, layers, 1 if period is None else period)
        if smallest < 1 or classes < 2 or not 0 < rho < 1:
            raise ValueError(
                "GatedMaxPlanner: expected positive sizes, at least two classes and rho in (0, 1), found "
                f"{height=}, {width=}, {channels=}, {classes=}, {features=}, {hidden=}, {layers=}, {period=}, {rho=}"
            )
        self.set_config(
            height=height, width=width, channels=channels, classes=classes, features=features, hidden=hidden,
            layers=layers, period=period, rho=rho, domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.state_shape, self.input_shape = (features, height, width), (height, width, channels)
        self.domain = None if domain is None else Box(*domain).expand(self.input_shape)
        self.rho, self.features = rho, features
        self.encoder = GridInput(channels, hidden, layers, generator, period=period, device=device, dtype=dtype)
        self.base = free_conv(hidden, features, 1, generator, device=device, dtype=dtype)
        self.gates = free_conv(hidden, len(MOVES) * features, 1, generator, shift=1.5, device=device, dtype=dtype)
        self.mixing = LinfConv2d(features, features, 1, bias=False, generator=generator, device=device, dtype=dtype)
        with torch.no_grad():  # values travel far at first: channels keep to themselves, and the gates are open
            self.mixing.free.mul_(0.25).add_(torch.eye(features).to(self.mixing.free))
        self.readout = GridReadout(features, hidden, classes, generator, device=device, dtype=dtype)
        self.rate, self.norm = rho, "linf"

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        return grid_arguments(cls.__name__, input_shape, vocabulary)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """The base b(x), and the gates tanh(G(x)) in (−1, 1).

        Shape: (batch, features, height, width) and (batch, moves, features, height, width).
        """
        seen = self.encoder(x)
        gates = torch.tanh(self.gates(seen))
        return self.base(seen), gates.reshape(gates.shape[0], len(MOVES), -1, *gates.shape[2:])

    def refine(self, z: Tensor, encoded: tuple[Tensor, ...]) -> Tensor:
        """`ρ·max(b, max_k gate_k·shift_k(M z))`. Shape: z (batch, features, height, width); encoded: see `encode`."""
        base, gates = encoded
        moved = (gates * neighbours(self.mixing(z))).amax(dim=1)
        return self.rho * torch.maximum(base, moved)


def neighbours(z: Tensor) -> Tensor:
    """What every cell sees at itself and at its four neighbours; zeros beyond the edge.

    Shape: (batch, features, height, width) to (batch, moves, features, height, width).
    """
    height, width = z.shape[-2:]
    padded = nn.functional.pad(z, (1, 1, 1, 1))
    seen = [padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width] for down, right in MOVES]
    return torch.stack(seen, dim=1)
