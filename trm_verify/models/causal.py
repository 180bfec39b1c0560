"""A strictly causal recursion: it settles exactly, at any length, with free weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box, State
from trm_verify.models.base import EncodedModel, token_arguments
from trm_verify.models.inputs import TokenInput
from trm_verify.nn import activation, free_linear


class CausalRefiner(EncodedModel):
    """Every token's next state is a free function of its input and of the *previous* tokens' states.

        z_t ← ψ(V φ(W [z_{t−1}, …, z_{t−reach}] + E(x_t)) + v),      states before the first token are zero.

    No edge leads from a token to itself, so token t is final after t steps whatever the weights: the recursion reaches
    its only fixed point after exactly `tokens` steps, from every start, and any further step changes nothing. The
    weights are free and know no length: `model.at(tokens=512)` runs what was trained on sixteen tokens.

    Proved by: `triangular` (parts are tokens, diagonal rates zero); answers by the invariance of a box.

    Shape: z (batch, tokens, features); x (batch, tokens) of integers or (batch, tokens, channels) of reals; readout
        (batch, tokens, classes).
    Norm: none is needed; the answer is exact after `tokens` steps.

    Args:
        tokens: length of the sequence; no parameter depends on it.
        features: size of a token's state.
        hidden: units of φ.
        classes: number of answers a token.
        channels: reals a token.
        vocabulary: number of integers. One of them is given.
        reach: how many previous tokens a token sees.
        act: φ.
        bound: ψ, an activation with bounded values, so that states stay in a box.
        domain: ends `(lo, hi)` of every real input, or None for all reals.
        seed: seed of the initial parameters.

    Raises:
        ValueError: a size out of range, or a ψ whose values are unbounded.
    """

    def __init__(
        self,
        tokens: int,
        features: int = 16,
        hidden: int = 48,
        classes: int = 2,
        *,
        channels: int | None = None,
        vocabulary: int | None = None,
        reach: int = 1,
        act: str = "relu",
        bound: str = "tanh",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(tokens, features, hidden, reach) < 1 or classes < 2:
            raise ValueError(
                "CausalRefiner: expected positive sizes and at least two classes, found "
                f"{tokens=}, {features=}, {hidden=}, {reach=}, {classes=}"
            )
        if bound not in ("tanh", "hardtanh", "sigmoid"):
            raise ValueError(f"CausalRefiner: expected bound tanh, hardtanh or sigmoid, found {bound!r}")
        self.set_config(
            tokens=tokens, features=features, hidden=hidden, classes=classes, channels=channels, vocabulary=vocabulary,
            reach=reach, act=act, bound=bound, domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.encoder = TokenInput(
            (tokens,), hidden, generator, channels=channels, vocabulary=vocabulary, device=device, dtype=dtype
        )
        self.state_shape, self.input_shape, self.vocabulary = (tokens, features), self.encoder.input_shape, vocabulary
        if domain is not None and vocabulary is None:
            self.domain = Box(*domain).expand(self.input_shape)
        self.reach = reach
        self.inner = free_linear(reach * features, hidden, generator, device=device, dtype=dtype)
        self.outer = free_linear(hidden, features, generator, device=device, dtype=dtype)
        self.act, self.bound = activation(act).make(), activation(bound).make()
        self.readout = free_linear(features, classes, generator, device=device, dtype=dtype)

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        found = token_arguments(input_shape, vocabulary)
        positions = found.pop("positions")
        if len(positions) != 1:
            raise ValueError(f"CausalRefiner: expected a sequence of tokens, found a grid of shape {tuple(positions)}")
        return {"tokens": positions[0], **found}

    def local_gain(self, z: State, x: Tensor) -> Tensor:
        """`ψ'(a)·|V|·φ'(b)·|W|·1`, with slopes as they are at (z, x): below one, errors die out along the tokens.

        Shape: (batch, tokens, features).
        """
        assert isinstance(z, Tensor)
        b = self._arguments(z, self.encode(x))
        inner = slopes(self.act, b).detach() * self.inner.weight.abs().sum(dim=1)
        a = self.outer(self.act(b))
        return slopes(self.bound, a) * nn.functional.linear(inner, self.outer.weight.abs())

    def encode(self, x: Tensor) -> Tensor:
        drive: Tensor = self.encoder(x)
        return drive

    def refine(self, z: Tensor, encoded: Tensor) -> Tensor:
        after: Tensor = self.bound(self.outer(self.act(self._arguments(z, encoded))))
        return after

    def _arguments(self, z: Tensor, encoded: Tensor) -> Tensor:
        """What φ is applied to."""
        tokens = z.shape[1]
        before = [nn.functional.pad(z, (0, 0, back, 0))[:, :tokens] for back in range(1, self.reach + 1)]
        drive: Tensor = self.inner(torch.cat(before, dim=-1)) + encoded
        return drive


def slopes(act: nn.Module, a: Tensor) -> Tensor:
    """|φ'(a)|, entry by entry, differentiably in a where φ is smooth."""
    found: Tensor = torch.func.jvp(act, (a,), (torch.ones_like(a),))[1].abs()
    return found
