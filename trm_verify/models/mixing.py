"""Mixing of tokens: rows of non-negative weights that see the input alone, or constant rows of bounded sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trm_verify.nn import BoundedLayer, Proof, free_linear
from trm_verify.nn.base import exact_parameter, frozen, normal
from trm_verify.nn.linf import baked_rows, limited_rows

FAR = -1e4  # added to the scores outside a window: their weight is below every float, and the rows stay stochastic


class InputAttention(nn.Module):
    """Row-stochastic weights `A_h(x) = softmax(q_h(e) k_h(e)ᵀ)` of features e of the input alone.

    Unconstrained: whatever x, every row of A_h is an average, so that `z ↦ A_h z` has norm at most one in the maximum
    over tokens of ℓ2.

    Shape: e (batch, tokens, inputs) to one (batch, tokens, tokens) a head.

    Args:
        window: a token sees tokens at most this far away in row-major order; None: all.
    """

    def __init__(
        self,
        tokens: int,
        inputs: int,
        heads: int,
        key_size: int,
        generator: torch.Generator,
        *,
        window: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.key_size, self.window = heads, key_size, window
        self.query = free_linear(inputs, heads * key_size, generator, device=device, dtype=dtype)
        self.key = free_linear(inputs, heads * key_size, generator, device=device, dtype=dtype)
        with torch.no_grad():  # the usual 1/√key_size of attention scores lives in the weights
            for layer in (self.query, self.key):
                layer.weight.mul_(key_size**-0.25)
                layer.bias.mul_(key_size**-0.25)
        if window is not None:
            place = torch.arange(tokens)
            outside = ((place[:, None] - place).abs() > window) * FAR
            self.register_buffer("outside", outside.to(device=device, dtype=dtype), persistent=True)

    def forward(self, e: Tensor) -> tuple[Tensor, ...]:
        """Row-stochastic weights, from the input alone. Shape: see the class."""
        query, key = (self._split(layer(e)) for layer in (self.query, self.key))
        scores = query @ key.transpose(-2, -1)
        if self.window is not None:
            scores = scores + self.get_buffer("outside")
        return torch.softmax(scores, dim=-1).unbind(1)

    def _split(self, rows: Tensor) -> Tensor:
        return rows.reshape(rows.shape[0], rows.shape[1], self.heads, self.key_size).transpose(1, 2)


class BakedTokenMixing(nn.Module):
    """The deployed mixing: its weights, as they are."""

    def __init__(self, weights: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.heads = nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight in weights])

    def forward(self) -> tuple[Tensor, ...]:
        """The weights. Shape: (tokens, tokens), one a head."""
        return tuple(self.heads)


class TokenMixing(BoundedLayer):
    """Constant weights of either sign: `z ↦ M_h z` with `Σ_j |M_h,ij| ≤ 1` for every token i and head h.

    Proved by: `radius_contraction` in the maximum over tokens of ℓ2, with equal weights on all tokens.

    Shape: nothing to one (tokens, tokens) a head.
    Norm: maximum over tokens of ℓ2 on the features; holds everywhere, and exactly for the baked weights.
    """

    def __init__(
        self,
        tokens: int,
        heads: int,
        generator: torch.Generator,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.free = normal((heads * tokens, tokens), 2 / tokens, generator, device, dtype)

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "tokens_l2", 1.0)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The weights M_h, in each row of absolute sum at most 1. Shape: (tokens, tokens), one a head."""
        free = exact_parameter(self.free, exact)
        rows, tokens = free.shape
        limited = limited_rows(free, 1.0, torch.ones(tokens).to(free), torch.ones(rows).to(free))
        return tuple(limited.chunk(self.heads))

    def forward(self) -> tuple[Tensor, ...]:
        """The weights that are applied. Shape: (tokens, tokens), one a head."""
        return self.current_weights()

    def bake(self) -> BakedTokenMixing:
        """Rounded towards zero, so that the exact row sums stay within the bound."""
        device, dtype = self.free.device, self.free.dtype
        baked = BakedTokenMixing(tuple(baked_rows(w, dtype).to(device) for w in self.weights(exact=True)))
        frozen(baked)
        return baked
