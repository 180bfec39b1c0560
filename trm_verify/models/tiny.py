"""The tiny recursive model: an answer state and a latent state that refine each other, and contract."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box, Damped
from trm_verify.models.base import EncodedModel, token_arguments
from trm_verify.models.inputs import TokenInput
from trm_verify.models.mixing import InputAttention, TokenMixing
from trm_verify.nn import OrthogonalLinear, SandwichBlock, free_linear

MIXINGS = ("attention", "constant")


class TinyRecursive(EncodedModel):
    """Two-timescale recursion over tokens: `inner` times `z_L ← L(z_L, z_H; x)`, then `z_H ← H(z_H, z_L; x)`.

    z_H holds the answer, z_L is latent; with `inner=0` there is the answer state alone, `z ← B(z; x)`. L (or B) sees
    every token's own state and its mixtures `A_h z` with other tokens, H acts on each token by itself. Encoder,
    attention scores and readout are free; a step contracts at `rho` for every x.

    In the maximum over tokens of ℓ2, averages of tokens do not grow, so a tokenwise `SandwichBlock` with gains γ_i on
    its bounded inputs moves by at most `√Σ γ_i²` times what they move. With half of the squared gain `rho²` of L on
    z_H and half on z_L, any number of inner steps contracts at `rho`; H has `rho²/2` on z_H and `1/2` on the new z_L,
    hence again `√(rho²/2 + rho²/2)`. One outer round contracts at `rho` in the larger of both norms, the rate of the
    loop that is run.

    With a `temperature` τ the answer is fed back as `softmax(C z_H / τ)`, C with orthonormal rows: this moves by at
    most `1/(2τ)` times z_H, and the gain on it is what a third of `rho²` leaves, so that τ enters the weights. With a
    `history` of h answers, those of the h − 1 rounds before are parts of the state, the one of i rounds ago times
    `2τ rhoⁱ`: so they move by at most `rho` times what the round before moved by.

    Proved by: `row_gain` for the blocks, `radius_contraction` for the round.

    Shape: z (batch, tokens, features), or (z_H, z_L) of that shape each; with a history, then earlier answers
        (batch, tokens, classes). x (batch, *positions) of integers or (batch, *positions, channels) of reals; readout
        (batch, *positions, classes).
    Norm: maximum over tokens (and over z_H, z_L) of ℓ2, rate `rho`; holds for every x and z.
    Source: Jolicoeur-Martineau, Less is more: recursive reasoning with tiny networks (2025), for the two states;
        Wang and Manchester (ICML 2023) for the blocks.

    Args:
        positions: grid of tokens.
        features: size of a token's state.
        hidden: activation units of a block.
        inputs: size of a token's encoding.
        classes: number of answers a token.
        channels: reals a position.
        vocabulary: number of integers. One of them is given.
        inner: latent updates before one update of the answer; 0 for a single state.
        rho: the rate, below 1.
        mixing: "attention", whose weights see the input alone, or "constant" weights of either sign.
        heads: mixtures a token sees.
        key_size: size of attention's keys.
        window: see `InputAttention`.
        temperature: of the fed-back answer, or None for no feedback.
        history: answers that are fed back, the latest one included; more than 1 with a temperature only.
        damping: factor α of the damped iteration, or None for Picard.
        act: activation of the blocks, elementwise with slopes in [0, 1].
        domain: ends `(lo, hi)` of every real input, or None for all reals.
        seed: seed of the initial parameters.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        positions: Sequence[int],
        features: int = 32,
        hidden: int = 96,
        inputs: int = 32,
        classes: int = 2,
        *,
        channels: int | None = None,
        vocabulary: int | None = None,
        inner: int = 0,
        rho: float = 0.9,
        mixing: str = "attention",
        heads: int = 3,
        key_size: int = 16,
        window: int | None = None,
        temperature: float | None = None,
        history: int = 1,
        damping: float | None = None,
        act: str = "relu",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks = {
            "positive sizes": min(features, hidden, inputs, heads, key_size) >= 1,
            "classes >= 2": classes >= 2,
            "inner >= 0": inner >= 0,
            "rho in (0, 1)": 0 < rho < 1,
            f"mixing in {MIXINGS}": mixing in MIXINGS,
            "window >= 0 with attention": window is None or (window >= 0 and mixing == "attention"),
            "a positive temperature": temperature is None or 0 < temperature < float("inf"),
            "history >= 1, and 1 without a temperature": history >= 1 and (history == 1 or temperature is not None),
        }
        wrong = [text for text, good in checks.items() if not good]
        if wrong:
            raise ValueError(
                f"TinyRecursive: expected {' and '.join(wrong)}; found {features=}, {hidden=}, {inputs=}, {heads=}, "
                f"{key_size=}, {classes=}, {inner=}, {rho=}, {mixing=}, {window=}, {temperature=}, {history=}"
            )
        self.set_config(
            positions=list(positions), features=features, hidden=hidden, inputs=inputs, classes=classes,
            channels=channels, vocabulary=vocabulary, inner=inner, rho=rho, mixing=mixing, heads=heads,
            key_size=key_size, window=window, temperature=temperature, history=history, damping=damping, act=act,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        tokens, part = prod(positions), (prod(positions), features)
        self.encoder = TokenInput(
            tuple(positions), inputs, generator, channels=channels, vocabulary=vocabulary, located=True, **made
        )
        self.positions, self.inner, self.heads, self.temperature = tuple(positions), inner, heads, temperature
        self.past = history - 1
        parts = (part, *[part] * (inner > 0), *[(prod(positions), classes)] * self.past)
        self.state_shape = parts if len(parts) > 1 else part
        self.input_shape, self.vocabulary = self.encoder.input_shape, vocabulary
        if domain is not None and vocabulary is None:
            self.domain = Box(*domain).expand(self.input_shape)
        if damping is not None:
            self.iteration = Damped(damping)

        def block(own: float, mixtures: int, others: Sequence[int], gains: Sequence[float]) -> SandwichBlock:
            share = own / (1 + mixtures) ** 0.5
            return SandwichBlock(
                features, hidden, [features] * (1 + mixtures) + list(others), inputs,
                [share] * (1 + mixtures) + list(gains), act=act, generator=generator, **made,
            )  # fmt: skip

        # Squared gains of the mixing block: one share for each of its sources, which add up to rho².
        share = rho / (1 + (inner > 0) + (temperature is not None) * history) ** 0.5
        fed = [] if temperature is None else [(classes, 2 * temperature * share), *[(classes, share)] * self.past]
        self.fading = [] if temperature is None else [2 * temperature * rho, *[rho] * self.past]
        sources = ([(features, share)] if inner else []) + fed
        self.mixer = block(share, heads, [size for size, _ in sources], [gain for _, gain in sources])
        self.answer = block(rho / 2**0.5, 0, [features], [0.5**0.5]) if inner else None
        self.attention = (
            InputAttention(tokens, inputs, heads, key_size, generator, window=window, **made)
            if mixing == "attention"
            else None
        )
        self.mixing: nn.Module = (
            nn.Identity() if self.attention is not None else TokenMixing(tokens, heads, generator, **made)
        )
        self.feedback = (
            None
            if temperature is None
            else OrthogonalLinear(features, classes, bias=False, generator=generator, **made)
        )
        self.head = free_linear(features, classes, generator, **made)
        self.rate, self.norm = 1 - (damping or 1) * (1 - rho), "tokens_l2"

    @property
    def head_weight(self) -> Tensor:
        return self.head.weight

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        return token_arguments(input_shape, vocabulary)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of every token, then the weights that mix tokens, one a head.

        Shape: (batch, tokens, inputs); (batch, tokens, tokens) from attention, else (tokens, tokens).
        """
        rows = self.encoder(x)
        heads = self.mixing() if self.attention is None else self.attention(rows)
        return (rows, *heads)

    def refine(self, z: Any, encoded: tuple[Tensor, ...]) -> Any:
        """One step: z_L, if any, `inner` times, then z_H; earlier answers move on. Shape: z as in the class."""
        parts = z if isinstance(z, tuple) else (z,)
        high, past = parts[0], parts[len(parts) - self.past :]
        answers = [*self._fed_back(high), *past]
        kept = tuple(factor * answer for factor, answer in zip(self.fading, answers[: self.past], strict=False))
        if self.answer is None:
            new = self._mixed(high, answers, encoded)
            return (new, *kept) if kept else new
        low = parts[1]
        for _ in range(self.inner):
            low = self._mixed(low, [high, *answers], encoded)
        return (self.answer(high, low, x=encoded[0]), low, *kept)

    def readout(self, z: Any) -> Tensor:
        """Logits of the answer state."""
        logits: Tensor = self.head(z[0] if isinstance(z, tuple) else z)
        return logits.reshape(logits.shape[0], *self.positions, logits.shape[-1])

    def _mixed(self, z: Tensor, others: list[Tensor], encoded: tuple[Tensor, ...]) -> Tensor:
        rows, *heads = encoded
        out: Tensor = self.mixer(z, *(head @ z for head in heads), *others, x=rows)
        return out

    def _fed_back(self, z: Tensor) -> list[Tensor]:
        """The answer as probabilities, if there is feedback."""
        if self.feedback is None or self.temperature is None:
            return []
        return [torch.softmax(self.feedback(z) / self.temperature, dim=-1)]
