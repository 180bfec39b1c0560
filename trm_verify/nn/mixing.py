"""Attention that stays contractive: mixing weights that depend on the input only."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.nn.base import (
    BoundedLayer,
    Proof,
    copy_linear,
    free_linear,
    plain_linear,
    positive,
    rounding_slack,
    seeded,
)
from trm_verify.nn.orthogonal import frame, frame_parameter


def linears(layers: nn.ModuleList) -> list[nn.Linear]:
    """The layers of a list that holds linear ones."""
    return [cast(nn.Linear, layer) for layer in layers]


def scores(x: Tensor, query: nn.Linear, key: nn.Linear) -> Tensor:
    """Row-stochastic weights `softmax(q(x) k(x)ᵀ)`.

    Shape: (batch, tokens, inputs) to (batch, tokens, tokens).
    """
    return torch.softmax(query(x) @ key(x).transpose(-2, -1), dim=-1)


class BakedRowStochasticMixing(nn.Module):
    """The deployed mixing: plain query, key and value matrices, one of each a head."""

    def __init__(self, queries: list[nn.Linear], keys: list[nn.Linear], values: list[nn.Linear]) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (
            nn.ModuleList(queries),
            nn.ModuleList(keys),
            nn.ModuleList(values),
        )

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Shape: z (batch, tokens, features), x (batch, tokens, inputs), to (batch, tokens, outputs)."""
        heads = zip(linears(self.queries), linears(self.keys), linears(self.values), strict=True)
        return torch.cat([scores(x, query, key) @ value(z) for query, key, value in heads], dim=-1)


class RowStochasticMixing(BoundedLayer):
    """`z ↦ concat_h A_h(x) z W_hᵀ` with `A_h(x)` row-stochastic and a function of the input alone.

    A row-stochastic matrix averages tokens, so in the maximum over tokens of ℓ2 one head has norm at most
    ‖W_h‖₂ for every x, and h heads side by side at most `√(Σ‖W_h‖₂²)`. The stacked matrix of all heads is an
    orthonormal frame times `bound/√heads`, which keeps both that root and `√heads·‖[W_1; …]‖₂` at most
    `bound`. Follow it with a tokenwise `SandwichStep` or `OrthogonalLinear`.

    Proved by: a `spectral` step for each W_h and `radius_contraction` in the mixed norm with equal weights on
    all tokens (unequal weights d cost up to max d / min d).

    Shape: z (batch, tokens, features), x (batch, tokens, inputs), to (batch, tokens, outputs).
    Norm: maximum over tokens of ℓ2 on the features, for every x; holds everywhere.

    Raises:
        ValueError: `outputs` is no multiple of `heads`, or a size or the bound is not positive.
    """

    def __init__(
        self,
        features: int,
        inputs: int,
        outputs: int | None = None,
        bound: float = 1.0,
        *,
        heads: int = 1,
        key_size: int = 16,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = seeded(generator)
        outputs = features if outputs is None else outputs
        if heads < 1 or outputs % heads:
            raise ValueError(
                "RowStochasticMixing: expected outputs to be a multiple of heads >= 1, "
                f"found outputs={outputs} and heads={heads}"
            )
        self.bound, self.heads = positive("RowStochasticMixing bound", bound), heads
        self.free = frame_parameter((outputs, features), generator, device, dtype)

        def project() -> nn.Linear:
            layer = free_linear(inputs, key_size, generator, device=device, dtype=dtype)
            with torch.no_grad():
                # The usual 1/√key_size of attention scores, shared by query and key, lives in the weights.
                layer.weight.mul_(key_size**-0.25)
                layer.bias.mul_(key_size**-0.25)
            return layer

        self.queries = nn.ModuleList([project() for _ in range(heads)])
        self.keys = nn.ModuleList([project() for _ in range(heads)])

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "tokens_l2", self.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """One value matrix a head, of shape (outputs/heads, features)."""
        stacked = frame(self.free, exact) * (self.bound / self.heads**0.5)
        return tuple(stacked.chunk(self.heads))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Shape: z (batch, tokens, features), x (batch, tokens, inputs), to (batch, tokens, outputs)."""
        heads = zip(linears(self.queries), linears(self.keys), self.current_weights(), strict=True)
        return torch.cat([scores(x, q, k) @ functional.linear(z, w) for q, k, w in heads], dim=-1)

    def bake(self) -> BakedRowStochasticMixing:
        """Shrunk by a few units in the last place times √rank, so that the rounded values stay within the
        bound.
        """
        shrink = 1 - rounding_slack(self.free.dtype, min(self.free.shape))
        return BakedRowStochasticMixing(
            [copy_linear(layer) for layer in linears(self.queries)],
            [copy_linear(layer) for layer in linears(self.keys)],
            [plain_linear((weight * shrink).to(self.free)) for weight in self.weights(exact=True)],
        )
