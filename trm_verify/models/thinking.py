"""The recurrent convolutional network as it was published: no constraint, no proof by construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box
from trm_verify.models.base import EncodedModel, token_arguments
from trm_verify.models.grid import free_conv

KERNEL = 3


class DeepThinking(EncodedModel):
    """A baseline for sequences and grids: `z ← R(C[z, x])` with residual blocks R of convolutions; x seen each time.

    Every cell sees its neighbours, so rules that work from cell to cell are easy for it to learn, and no parameter
    knows the size: `model.at(positions=[512])`. Nothing bounds the step: it may settle or drift when it runs longer
    than it was trained for.

    Proved by: nothing by construction.

    Shape: z (batch, features, height, width), a sequence being one row; x (batch, *positions, channels); readout
        (batch, *positions, classes).
    Source: Bansal and others, End-to-end algorithm synthesis with recurrent networks: logical extrapolation without
        overthinking (NeurIPS 2022), with recall.

    Args:
        positions: length of a sequence, or height and width of a grid.
        features: values a cell.
        blocks: residual blocks, each of two convolutions.
        classes: number of answers a cell.
        channels: reals a cell.
        domain: ends `(lo, hi)` of every input, or None for all reals.
        seed: seed of the initial parameters.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        positions: Sequence[int],
        features: int = 32,
        blocks: int = 2,
        classes: int = 2,
        *,
        channels: int,
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(positions) not in (1, 2) or min(*positions, features, blocks, channels) < 1 or classes < 2:
            raise ValueError(
                "DeepThinking: expected a sequence or a grid, positive sizes and at least two classes, found "
                f"{tuple(positions)=}, {features=}, {blocks=}, {channels=}, {classes=}"
            )
        self.set_config(
            positions=list(positions), features=features, blocks=blocks, classes=classes, channels=channels,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.positions, self.channels = tuple(positions), channels
        self.height, self.width = (1, *positions)[-2:]
        self.state_shape, self.input_shape = (features, self.height, self.width), (*positions, channels)
        self.domain = None if domain is None else Box(*domain).expand(self.input_shape)
        kernel = KERNEL if len(positions) == 2 else (1, KERNEL)

        def conv(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
            return free_conv(inputs, outputs, kernel, generator, bias=bias, **made)

        self.start, self.recall = conv(channels, features), conv(channels, features)
        self.joined = conv(features, features)
        pairs = ((conv(features, features), conv(features, features)) for _ in range(blocks))
        self.blocks = nn.ModuleList([Residual(*pair) for pair in pairs])
        self.around, self.head = conv(features, features, bias=True), conv(features, classes, bias=True)

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        found = token_arguments(input_shape, vocabulary)
        if found.pop("vocabulary") is not None:
            raise ValueError("DeepThinking: expected inputs with channels, found integers; encode them one-hot")
        return found

    def init(self, x: Tensor) -> Tensor:
        """What one convolution says of the input."""
        return torch.relu(self.start(self._grid(x)))

    def encode(self, x: Tensor) -> Tensor:
        """What every cell recalls of x. Shape: (batch, *positions, channels) to (batch, features, height, width)."""
        seen: Tensor = self.recall(self._grid(x))
        return seen

    def refine(self, z: Tensor, encoded: Tensor) -> Tensor:
        """One step. Shape: z and encoded (batch, features, height, width)."""
        z = self.joined(z) + encoded  # one convolution of z and x together
        for block in self.blocks:
            z = block(z)
        return z

    def readout(self, z: Tensor) -> Tensor:
        """Logits of every cell, from the states around it."""
        logits: Tensor = self.head(torch.relu(self.around(z)))
        return logits.permute(0, 2, 3, 1).reshape(z.shape[0], *self.positions, -1)

    def _grid(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.height, self.width, self.channels).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """`relu(z + C₂ relu(C₁ z))`."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, z: Tensor) -> Tensor:
        """Shape: (batch, features, height, width), kept."""
        return torch.relu(z + self.second(torch.relu(self.first(z))))
