"""A causal recursion: it settles exactly, at any length, with free weights."""

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

    With `passes` > 1 the state has as many parts, each with weights of its own. The second one reads the tokens from
    the last to the first, the third one forwards again, and so on, and each sees at token t what the part before it
    says there: W has columns for it. So answers depend on both sides, and all is final after `passes · tokens` steps.

    Proved by: `triangular` (parts are tokens, diagonal rates zero); answers by the invariance of a box.

    Shape: z (batch, tokens, features), or a tuple of these, one a pass; x (batch, tokens) of integers or
        (batch, tokens, channels) of reals; readout (batch, tokens, classes).
    Norm: none is needed; the answer is exact after `passes · tokens` steps.

    Args:
        tokens: length of the sequence; no parameter depends on it.
        features: size of a token's state.
        hidden: units of φ.
        classes: number of answers a token.
        channels: reals a token.
        vocabulary: number of integers. One of them is given.
        reach: how many previous tokens a token sees.
        passes: how many times the sequence is read, in alternating directions.
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
        passes: int = 1,
        act: str = "relu",
        bound: str = "tanh",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(tokens, features, hidden, reach, passes) < 1 or classes < 2:
            raise ValueError(
                "CausalRefiner: expected positive sizes and at least two classes, found "
                f"{tokens=}, {features=}, {hidden=}, {reach=}, {passes=}, {classes=}"
            )
        if bound not in ("tanh", "hardtanh", "sigmoid"):
            raise ValueError(f"CausalRefiner: expected bound tanh, hardtanh or sigmoid, found {bound!r}")
        self.set_config(
            tokens=tokens, features=features, hidden=hidden, classes=classes, channels=channels, vocabulary=vocabulary,
            reach=reach, passes=passes, act=act, bound=bound, domain=None if domain is None else list(domain),
            seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Any] = {"device": device, "dtype": dtype}

        def one(index: int) -> Pass:
            encoder = TokenInput((tokens,), hidden, generator, channels=channels, vocabulary=vocabulary, **made)
            seen = (reach + (index > 0)) * features
            inner, outer = (free_linear(*sizes, generator, **made) for sizes in ((seen, hidden), (hidden, features)))
            return Pass(encoder, inner, outer, activation(act).make(), activation(bound).make(), reach, index % 2 == 1)

        self.passes = nn.ModuleList([one(index) for index in range(passes)])
        self.head = free_linear(features, classes, generator, **made)
        shape = (tokens, features)
        self.state_shape = shape if passes == 1 else (shape,) * passes
        self.input_shape, self.vocabulary = (tokens,) if channels is None else (tokens, channels), vocabulary
        if domain is not None and vocabulary is None:
            self.domain = Box(*domain).expand(self.input_shape)
        self.settles = passes * tokens

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        found = token_arguments(input_shape, vocabulary)
        positions = found.pop("positions")
        if len(positions) != 1:
            raise ValueError(f"CausalRefiner: expected a sequence of tokens, found a grid of shape {tuple(positions)}")
        return {"tokens": positions[0], **found}

    def local_gain(self, z: State, x: Tensor) -> Tensor:
        """`ψ'(a)·|V|·φ'(b)·|W|·1`, with slopes as they are at (z, x): below one, errors die out along the tokens.

        Shape: (batch, tokens, passes · features).
        """
        states, drives = _parts(z), self.encode(x)
        return torch.cat([one.local_gain(*seen) for one, seen in self._seen(states, drives)], dim=-1)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """What x adds to the hidden units of each pass. Shape: (batch, tokens, hidden), one a pass."""
        return tuple(one.encoder(x) for one in self._passes())

    def refine(self, z: State, encoded: tuple[Tensor, ...]) -> State:
        """One step of all passes at once. Shape: z (batch, tokens, features), one a pass."""
        after = tuple(one(*seen) for one, seen in self._seen(_parts(z), encoded))
        return after if len(after) > 1 else after[0]

    def readout(self, z: State) -> Tensor:
        """Logits of the last pass."""
        logits: Tensor = self.head(_parts(z)[-1])
        return logits

    def settled(self, x: Tensor) -> State:
        """By forward substitution: every token once, in the order of its pass."""
        states: list[Tensor] = []
        for one, drive in zip(self._passes(), self.encode(x), strict=True):
            states.append(one.settled(states[-1] if states else None, drive))
        return tuple(states) if len(states) > 1 else states[0]

    def _passes(self) -> list[Pass]:
        return list(self.passes)  # type: ignore[arg-type]

    def _seen(self, states: tuple[Tensor, ...], drives: tuple[Tensor, ...]) -> list[tuple[Pass, Any]]:
        """Each pass with its own state, that of the pass before it, and its drive."""
        before = (None, *states[:-1])
        return list(zip(self._passes(), zip(states, before, drives, strict=True), strict=True))


class Pass(nn.Module):
    """One reading of the sequence: `ψ(V φ(W [previous tokens' states, state of the pass below] + E(x)) + v)`.

    Shape: z and below (batch, tokens, features), drive (batch, tokens, hidden), to (batch, tokens, features).

    Args:
        backwards: whether previous tokens are those to the right.
    """

    def __init__(
        self, encoder: TokenInput, inner: nn.Linear, outer: nn.Linear, act: nn.Module, bound: nn.Module, reach: int,
        backwards: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.inner, self.outer, self.act, self.bound = encoder, inner, outer, act, bound
        self.reach, self.backwards = reach, backwards

    def forward(self, z: Tensor, below: Tensor | None, drive: Tensor) -> Tensor:
        """One step of this pass. Shape: see the class; `below` is None for the first pass."""
        after: Tensor = self.bound(self.outer(self.act(self._arguments(z, below, drive))))
        return after

    def local_gain(self, z: Tensor, below: Tensor | None, drive: Tensor) -> Tensor:
        """See `CausalRefiner.local_gain`."""
        b = self._arguments(z, below, drive)
        inner = slopes(self.act, b).detach() * self.inner.weight.abs().sum(dim=1)
        a = self.outer(self.act(b))
        return slopes(self.bound, a) * nn.functional.linear(inner, self.outer.weight.abs())

    def settled(self, below: Tensor | None, drive: Tensor) -> Tensor:
        """The state that this pass ends in, token after token."""
        features, width = self.outer.out_features, self.reach * self.outer.out_features
        drive = drive + self.inner.bias
        if below is not None:
            drive = drive + nn.functional.linear(below, self.inner.weight[:, width:])
        own = self.inner.weight[:, :width]
        found: list[Tensor] = []
        previous = [drive.new_zeros(len(drive), features)] * self.reach
        for token in drive.flip(1).unbind(1) if self.backwards else drive.unbind(1):
            b = nn.functional.linear(torch.cat(previous, dim=-1), own) + token
            found.append(self.bound(self.outer(self.act(b))))
            previous = [found[-1], *previous[:-1]]
        return torch.stack(found[::-1] if self.backwards else found, dim=1)

    def _arguments(self, z: Tensor, below: Tensor | None, drive: Tensor) -> Tensor:
        """What φ is applied to."""
        seen = [self._shifted(z, back) for back in range(1, self.reach + 1)]
        found: Tensor = self.inner(torch.cat(seen if below is None else [*seen, below], dim=-1)) + drive
        return found

    def _shifted(self, z: Tensor, back: int) -> Tensor:
        """For every token the state `back` tokens before it, in the order of reading."""
        tokens = z.shape[1]
        if self.backwards:
            return nn.functional.pad(z, (0, 0, 0, back))[:, back:]
        return nn.functional.pad(z, (0, 0, back, 0))[:, :tokens]


def _parts(z: State) -> tuple[Tensor, ...]:
    return z if isinstance(z, tuple) else (z,)


def slopes(act: nn.Module, a: Tensor) -> Tensor:
    """|φ'(a)|, entry by entry, differentiably in a where φ is smooth."""
    found: Tensor = torch.func.jvp(act, (a,), (torch.ones_like(a),))[1].abs()
    return found
