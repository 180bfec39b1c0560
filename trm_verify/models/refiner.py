"""A tiny recursive classifier whose step contracts by construction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box
from trm_verify.models.base import ConfiguredModel
from trm_verify.nn import SandwichStep, free_linear


class SandwichRefiner(ConfiguredModel):
    """Refines an answer from z = 0: `z ← Sandwich(z, encoder(x))`, `logits = readout(z)`.

    Encoder and readout are free; only the dependence of the step on z is bounded. The step contracts at `rho`
    in ℓ2 for every x, so there is exactly one fixed point and every start reaches it.

    Shape: z (batch, state), x (batch, inputs), readout (batch, classes).
    Norm: ℓ2, rate `rho`; holds for every x and z.

    Args:
        state: size of the state.
        hidden: activation units of the step.
        inputs: size of x.
        classes: number of answers.
        rho: the rate that the step aims for, below 1.
        features: units of the nonlinear encoder `ReLU(E x + e)`; 0 feeds x itself to the step.
        act: activation of the step, see `SandwichStep`.
        offset: whether the step adds a free `c(x)` after the contraction.
        domain: ends `(lo, hi)` of the interval of every input coordinate, or None for all real inputs.
        seed: seed of the initial parameters.

    Raises:
        ValueError: a size or rate out of range.
    """

    def __init__(
        self,
        state: int = 64,
        hidden: int = 128,
        inputs: int = 64,
        classes: int = 10,
        rho: float = 0.9,
        *,
        features: int = 0,
        act: str = "relu",
        offset: bool = False,
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(state, hidden, inputs) < 1 or classes < 2 or features < 0:
            raise ValueError(
                "SandwichRefiner: expected positive sizes, at least two classes and features >= 0, found "
                f"state={state}, hidden={hidden}, inputs={inputs}, classes={classes}, features={features}"
            )
        if not 0 < rho < 1:
            raise ValueError(f"SandwichRefiner: expected a rate rho in (0, 1), found {rho!r}")
        self.set_config(
            state=state, hidden=hidden, inputs=inputs, classes=classes, rho=rho, features=features, act=act,
            offset=offset, domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.state_shape, self.input_shape = (state,), (inputs,)
        self.domain = None if domain is None else Box(*domain).expand((inputs,))
        encoder: list[nn.Module] = []
        if features:
            encoder = [free_linear(inputs, features, generator, device=device, dtype=dtype), nn.ReLU()]
        self.encoder = nn.Sequential(*encoder)
        self.cell: nn.Module = SandwichStep(
            state, hidden, features or inputs, rho,
            act=act, offset=offset, generator=generator, device=device, dtype=dtype,
        )  # fmt: skip
        self.readout = free_linear(state, classes, generator, device=device, dtype=dtype)
        self.rate = rho

    @property
    def head_weight(self) -> Tensor:
        weight: Tensor = self.readout.weight
        return weight

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        if len(input_shape) != 1 or vocabulary is not None:
            raise ValueError(f"SandwichRefiner: expected one axis of reals, found {input_shape}, {vocabulary=}")
        return {"inputs": input_shape[0]}

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        """One refinement of the state."""
        after: Tensor = self.cell(z, self.encoder(x))
        return after
