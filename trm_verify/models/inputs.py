"""What token models see of their input: one row of features a token."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from trm_verify.nn import free_linear

Shape = tuple[int, ...]


class TokenInput(nn.Module):
    """A row of features for every position of x: integers through a table, reals through a linear map.

    Unconstrained: the rate of a recursion does not depend on it, for every x.

    Shape: x (batch, *positions) of integers 0 … vocabulary−1, or (batch, *positions, channels) of reals; to (batch,
        tokens, features), tokens in row-major order of the positions.

    Args:
        positions: shape of the grid of tokens.
        features: size of a row.
        channels: reals a position. vocabulary: number of integers. One of them is given.
        located: whether every token has an embedding of its own place; then the weights fit this grid alone.

    Raises:
        ValueError: sizes out of range, or not one of channels and vocabulary.
    """

    def __init__(
        self,
        positions: Shape,
        features: int,
        generator: torch.Generator,
        *,
        channels: int | None = None,
        vocabulary: int | None = None,
        located: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not positions or min(positions) < 1 or features < 1:
            raise ValueError(f"TokenInput: expected positive sizes, found {positions=}, {features=}")
        small = (channels is not None and channels < 1) or (vocabulary is not None and vocabulary < 2)
        if (channels is None) == (vocabulary is None) or small:
            raise ValueError(
                "TokenInput: expected channels >= 1 of reals, or a vocabulary >= 2 of integers, and not both, found "
                f"{channels=}, {vocabulary=}"
            )
        self.tokens = prod(positions)
        self.input_shape: Shape = (*positions, *(() if channels is None else (channels,)))

        def drawn(rows: int, scale: float) -> nn.Parameter:
            values = torch.randn((rows, features), generator=generator) * scale
            return nn.Parameter(values.to(device=device, dtype=dtype))

        self.table = None if vocabulary is None else drawn(vocabulary, 1.0)
        self.linear = (
            None if channels is None else free_linear(channels, features, generator, device=device, dtype=dtype)
        )
        self.places = drawn(self.tokens, 1.0) if located else None

    def forward(self, x: Tensor) -> Tensor:
        """Features of every token. Shape: see the class."""
        if self.linear is None:
            rows = nn.functional.embedding(x.flatten(1), self.table)  # type: ignore[arg-type]
        else:
            rows = self.linear(x.reshape(x.shape[0], self.tokens, x.shape[-1]))
        return rows if self.places is None else rows + self.places
