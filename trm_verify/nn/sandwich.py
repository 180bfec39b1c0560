"""The Sandwich step: a recursion step that contracts at ρ and keeps its capacity."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.nn.activations import activation
from trm_verify.nn.base import (
    BoundedLayer,
    Proof,
    copy_linear,
    exact_parameter,
    free_linear,
    frozen,
    plain_linear,
    positive,
    rounding_slack,
    seeded,
)
from trm_verify.nn.orthogonal import frame, frame_parameter


class BakedSandwichStep(nn.Module):
    """`W₂ act(W₁ z + U x + b) + c(x)` with plain weights: the deployed Sandwich step.

    Attributes:
        psi: the Ψ of the parametrization, one positive number a hidden unit, in the row scaling of W₁. No
            part of the function: with `Λ = ρρ'Ψ²` it is the multiplier vector a prover may propose for
            `metric_contraction`, and the kernel believes nothing about it.
        rho: the rate that the parametrization aims for.
    """

    psi: Tensor

    def __init__(
        self,
        inner: nn.Linear,
        outer: nn.Linear,
        act: nn.Module,
        drive: nn.Linear | None,
        offset: nn.Linear | None,
        psi: Tensor,
        rho: float,
    ) -> None:
        super().__init__()
        self.inner, self.outer, self.act, self.drive, self.offset = inner, outer, act, drive, offset
        self.rho = rho
        # Not persistent: the weights file holds what the function uses, and nothing else.
        self.register_buffer("psi", psi, persistent=False)

    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        hidden = self.inner(z)
        if self.drive is not None:
            hidden = hidden + self.drive(x)
        after: Tensor = self.outer(self.act(hidden))
        if self.offset is not None:
            after = after + self.offset(x)
        return after


class SandwichStep(BoundedLayer):
    """`z⁺ = ρ√2 AᵀΨ act(√2 Ψ⁻¹ B z + U x + b) + c(x)` with `[A B]` from a Cayley map.

    `Ψ > 0` is diagonal and `[A B]` has ℓ2 norm one, so that with `Λ = ρρ'Ψ²`, `W₁ = √2Ψ⁻¹B`, `W₂ = ρ√2AᵀΨ`

        2Λ − W₂ᵀW₂ − ΛW₁W₁ᵀΛ/ρ'² = 2ρρ'Ψ² − 2ρ²Ψ(AAᵀ + BBᵀ)Ψ ⪰ 2ρ(ρ' − ρ)Ψ²,

    which is the inequality of `metric_contraction`. The product ‖W₂‖‖W₁‖ is usually far above 1: norms of
    single layers prove nothing here. `U`, `b` and `c` are free; `x` may be any feature of the input.

    Proved by: `metric_contraction` in one ℓ2 group (state on the last axis alone). With tokens before the
    last axis the step acts on each token by itself, and the same holds in the maximum over tokens of ℓ2.

    Shape: z (…, state), x (…, inputs), to (…, state).
    Norm: ℓ2 on the last axis, rate ρ, for every x; holds everywhere.
    Source: Wang and Manchester, Direct parameterization of Lipschitz-bounded deep networks (ICML 2023),
        theorem 3.2.

    Args:
        state: size of the state.
        hidden: number of activation units.
        inputs: size of the input feature; 0 for an autonomous step (then b and c are constants).
        rho: the rate, in (0, 1) for a contraction (any positive number is accepted).
        act: name of an elementwise activation with slopes in [0, 1].
        offset: whether there is a `c(x)`.

    Raises:
        ValueError: sizes or rate out of range, or an activation with slopes outside [0, 1].
    """

    def __init__(
        self,
        state: int,
        hidden: int,
        inputs: int = 0,
        rho: float = 0.9,
        *,
        act: str = "relu",
        offset: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if state < 1 or hidden < 1 or inputs < 0:
            raise ValueError(
                "SandwichStep: expected state >= 1, hidden >= 1 and inputs >= 0, "
                f"found state={state}, hidden={hidden}, inputs={inputs}"
            )
        if not activation(act).monotone_nonexpansive:
            raise ValueError(
                f"SandwichStep: expected an elementwise activation with slopes in [0, 1], found {act!r}; "
                "use relu, leaky_relu, tanh, hardtanh, sigmoid or softplus"
            )
        generator = seeded(generator)
        self.state, self.hidden, self.inputs = state, hidden, inputs
        self.rho = positive("SandwichStep rho", rho)
        self.act = activation(act).make()
        self.free = frame_parameter((hidden, 2 * state), generator, device, dtype)
        self.log_psi = nn.Parameter(torch.zeros(hidden, device=device, dtype=dtype))
        self.drive: nn.Linear | None = None
        self.offset: nn.Linear | None = None
        self.bias: nn.Parameter | None = None
        self.constant: nn.Parameter | None = None
        if inputs:
            self.drive = free_linear(inputs, hidden, generator, device=device, dtype=dtype)
            if offset:
                self.offset = free_linear(inputs, state, generator, device=device, dtype=dtype)
        else:
            self.bias = nn.Parameter(torch.zeros(hidden, device=device, dtype=dtype))
            self.constant = nn.Parameter(torch.zeros(state, device=device, dtype=dtype)) if offset else None

    @property
    def proof(self) -> Proof:
        return Proof("metric_contraction", "l2", self.rho)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """W₁ of shape (hidden, state) and W₂ of shape (state, hidden)."""
        joint = frame(self.free, exact)
        psi = exact_parameter(self.log_psi, exact).exp()
        return self._assemble(joint, psi)

    def _assemble(self, joint: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        a, b = joint[:, : self.state], joint[:, self.state :]
        return 2**0.5 * b / psi[:, None], self.rho * 2**0.5 * (a * psi[:, None]).T

    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        if (x is None) != (self.inputs == 0):
            raise ValueError(
                f"SandwichStep: made with inputs={self.inputs}, called {'without' if x is None else 'with'} an input"
            )
        inner, outer = self.current_weights()
        hidden = functional.linear(z, inner, self.bias)
        if self.drive is not None:
            hidden = hidden + self.drive(x)
        after = functional.linear(self.act(hidden), outer, self.constant)
        return after if self.offset is None else after + self.offset(x)

    def bake(self) -> BakedSandwichStep:
        """Plain weights. `[A B]` is shrunk by a few units in the last place times its root rank, so that the
        rounded weights still contract at ρ with room to spare for the proof."""
        joint, psi = frame(self.free, True), exact_parameter(self.log_psi, True).exp()
        # Round psi first: W1 and W2 are then exact multiples of the very psi that is handed to the prover.
        stored = psi.to(self.free.dtype)
        slack = rounding_slack(self.free.dtype, min(joint.shape))
        inner, outer = self._assemble(joint * (1 - slack), stored.double())
        return BakedSandwichStep(
            plain_linear(inner.to(self.free), self.bias),
            plain_linear(outer.to(self.free), self.constant),
            frozen(copy.deepcopy(self.act)),
            None if self.drive is None else copy_linear(self.drive),
            None if self.offset is None else copy_linear(self.offset),
            stored.to(self.free.device),
            self.rho,
        )
