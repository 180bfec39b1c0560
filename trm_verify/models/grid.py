"""What grid models see of their input: free convolutions, the same at every grid size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trm_verify.nn.base import fill, free_linear


def free_conv(
    channels: int,
    outputs: int,
    kernel: int | tuple[int, int],
    generator: torch.Generator,
    *,
    bias: bool = True,
    shift: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Conv2d:
    """An unconstrained convolution that keeps the grid's size; initial values come from `generator` alone.

    Args:
        kernel: odd side of the kernel, or its odd height and width.
        shift: added to every initial bias.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    drawn = free_linear(channels * height * width, outputs, generator, bias=bias, device=device, dtype=dtype)
    layer = nn.Conv2d(channels, outputs, (height, width), padding=(height // 2, width // 2), bias=bias, device="meta")
    weight = drawn.weight.detach().reshape(outputs, channels, height, width)
    fill(layer, weight, drawn.bias.detach() + shift if bias else None, trainable=True)
    return layer


class GridInput(nn.Module):
    """Features of every cell and what surrounds it, by free convolutions with zero padding.

    Shape: x (batch, height, width, channels) to (batch, features, height, width).

    Args:
        layers: convolutions of 3×3, each followed by a ReLU; the last two cells that feed a feature lie `layers` apart.
        period: cells know their row and column modulo this number, by biases of the first convolution; None: they do
            not know where they are.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        layers: int,
        generator: torch.Generator,
        *,
        period: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        convs = [
            free_conv(features if layer else channels, features, 3, generator, device=device, dtype=dtype)
            for layer in range(layers)
        ]
        self.convs = nn.ModuleList(convs)
        self.places = (
            None
            if period is None
            else nn.Parameter(torch.zeros((features, period, period), device=device, dtype=dtype))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of every cell, not negative. Shape: see the class."""
        features = x.permute(0, 3, 1, 2)
        for layer, conv in enumerate(self.convs):
            features = conv(features)
            if layer == 0 and self.places is not None:
                features = features + tiled(self.places, *features.shape[-2:])
            features = torch.relu(features)
        return features


def tiled(tile: Tensor, height: int, width: int) -> Tensor:
    """A grid covered with copies of a tile.

    Shape: (features, rows, columns) to (features, height, width).
    """
    _, rows, columns = tile.shape
    return tile.tile(1, -(-height // rows), -(-width // columns))[:, :height, :width]


class GridReadout(nn.Module):
    """Logits of every cell from the states around it: a free 3×3 convolution, ReLU, a free linear map.

    Shape: z (batch, channels, height, width) to (batch, height, width, classes).
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        classes: int,
        generator: torch.Generator,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.around = free_conv(channels, hidden, 3, generator, device=device, dtype=dtype)
        self.head = free_linear(hidden, classes, generator, device=device, dtype=dtype)

    def forward(self, z: Tensor) -> Tensor:
        """Logits of every cell. Shape: see the class."""
        logits: Tensor = self.head(torch.relu(self.around(z)).permute(0, 2, 3, 1))
        return logits
