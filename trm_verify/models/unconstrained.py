"""The tiny recursive model as it was published: no constraint, no proof by construction."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box
from trm_verify.models.base import EncodedModel, token_arguments
from trm_verify.models.inputs import TokenInput
from trm_verify.nn import free_linear

MIXINGS = ("attention", "mlp")


class SwiGLU(nn.Module):
    """`W₃(SiLU(W₁ z) ∘ W₂ z)`, without biases.

    Source: Shazeer, GLU variants improve transformer (2020).
    """

    def __init__(self, size: int, hidden: int, generator: torch.Generator, **made: Any) -> None:
        super().__init__()
        self.gate, self.up = (free_linear(size, hidden, generator, bias=False, **made) for _ in range(2))
        self.down = free_linear(hidden, size, generator, bias=False, **made)

    def forward(self, z: Tensor) -> Tensor:
        """Shape: (…, size), kept."""
        out: Tensor = self.down(nn.functional.silu(self.gate(z)) * self.up(z))
        return out


class Layer(nn.Module):
    """Mixing of tokens, then a SwiGLU on each; a residual and an RMS norm after both (post-norm, no learned scale)."""

    def __init__(
        self, tokens: int, features: int, hidden: int, heads: int, mixing: str, generator: torch.Generator, **made: Any
    ) -> None:
        super().__init__()
        self.features, self.heads = features, heads
        self.tokens = SwiGLU(tokens, 2 * tokens, generator, **made) if mixing == "mlp" else None
        self.joint = None
        if mixing == "attention":
            self.joint = free_linear(features, 3 * features, generator, bias=False, **made)
            self.out = free_linear(features, features, generator, bias=False, **made)
        self.feed = SwiGLU(features, hidden, generator, **made)

    def forward(self, z: Tensor) -> Tensor:
        """Shape: (batch, tokens, features), kept."""
        z = self._normed(z + self._mixed(z))
        return self._normed(z + self.feed(z))

    def _mixed(self, z: Tensor) -> Tensor:
        if self.tokens is not None:
            mixed: Tensor = self.tokens(z.transpose(1, 2))
            return mixed.transpose(1, 2)
        assert self.joint is not None
        query, key, value = (self._split(part) for part in self.joint(z).chunk(3, dim=-1))
        scores = query @ key.transpose(-2, -1) * (self.features // self.heads) ** -0.5
        seen = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2)
        out: Tensor = self.out(seen.reshape(z.shape))
        return out

    def _split(self, rows: Tensor) -> Tensor:
        return rows.reshape(rows.shape[0], rows.shape[1], self.heads, -1).transpose(1, 2)

    def _normed(self, z: Tensor) -> Tensor:
        return nn.functional.rms_norm(z, (self.features,), eps=1e-5)


class Unconstrained(EncodedModel):
    """The baseline: `inner` times `z_L ← net(z_L + z_H + e(x))`, then `z_H ← net(z_H + z_L)`, one net for both.

    Nothing bounds the step: it may settle, oscillate or drift when it runs longer than it was trained for, and no
    rule is expected to prove that it does not. It has the interface of the others, so that `audit` and `refute` can be
    pointed at it, and comparisons are between models of one size.

    Proved by: nothing by construction.

    Shape: z a pair (z_H, z_L) of (batch, tokens, features); x (batch, *positions) of integers or (batch, *positions,
        channels) of reals; readout (batch, *positions, classes).
    Source: Jolicoeur-Martineau, Less is more: recursive reasoning with tiny networks (2025).

    Args:
        positions: grid of tokens.
        features: size of a token's state.
        hidden: units of a SwiGLU.
        layers: layers of the net.
        classes: number of answers a token.
        channels: reals a position.
        vocabulary: number of integers.
        inner: latent updates before one update of the answer.
        mixing: "attention" or "mlp" (a SwiGLU across tokens).
        heads: of attention.
        domain: ends `(lo, hi)` of every real input, or None for all reals.
        seed: seed of the initial parameters.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        positions: Sequence[int],
        features: int = 32,
        hidden: int = 64,
        layers: int = 2,
        classes: int = 2,
        *,
        channels: int | None = None,
        vocabulary: int | None = None,
        inner: int = 2,
        mixing: str = "attention",
        heads: int = 2,
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = min(features, hidden, layers, inner, heads)
        if sizes < 1 or classes < 2 or features % heads or mixing not in MIXINGS:
            raise ValueError(
                f"Unconstrained: expected positive sizes, at least two classes, mixing in {MIXINGS} and features a "
                f"multiple of heads, found {features=}, {hidden=}, {layers=}, {classes=}, {inner=}, {mixing=}, {heads=}"
            )
        self.set_config(
            positions=list(positions), features=features, hidden=hidden, layers=layers, classes=classes,
            channels=channels, vocabulary=vocabulary, inner=inner, mixing=mixing, heads=heads,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        tokens, part = prod(positions), (prod(positions), features)
        self.encoder = TokenInput(
            tuple(positions), features, generator, channels=channels, vocabulary=vocabulary, located=True, **made
        )
        self.state_shape, self.input_shape, self.vocabulary = (part, part), self.encoder.input_shape, vocabulary
        if domain is not None and vocabulary is None:
            self.domain = Box(*domain).expand(self.input_shape)
        self.positions, self.inner = tuple(positions), inner
        self.net = nn.Sequential(
            *(Layer(tokens, features, hidden, heads, mixing, generator, **made) for _ in range(layers))
        )
        drawn = torch.randn((2, features), generator=generator)
        self.start = nn.Parameter(drawn.to(device=device, dtype=dtype))
        self.head = free_linear(features, classes, generator, **made)

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        return token_arguments(input_shape, vocabulary)

    def init(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The learned start, the same for every token."""
        shape = (x.shape[0], *self.state_shape[0])
        return self.start[0].expand(shape), self.start[1].expand(shape)

    def encode(self, x: Tensor) -> Tensor:
        """Features of every token. Shape: (batch, *positions) or with channels, to (batch, tokens, features)."""
        rows: Tensor = self.encoder(x)
        return rows

    def refine(self, z: tuple[Tensor, Tensor], encoded: Tensor) -> tuple[Tensor, Tensor]:
        """One step: z_L `inner` times, then z_H. Shape: (batch, tokens, features), each of z and encoded."""
        high, low = z
        for _ in range(self.inner):
            low = self.net(low + high + encoded)
        return self.net(high + low), low

    def readout(self, z: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of the answer state."""
        logits: Tensor = self.head(z[0])
        return logits.reshape(logits.shape[0], *self.positions, logits.shape[-1])
