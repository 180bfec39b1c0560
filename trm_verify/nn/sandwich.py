"""The Sandwich step: a recursion step that contracts at ρ and keeps its capacity."""

from __future__ import annotations

import torch
from torch import Tensor

from trm_verify.nn.base import Proof, positive
from trm_verify.nn.sandwich_block import BakedSandwichBlock, SandwichBlock


class BakedSandwichStep(BakedSandwichBlock):
    """`W₂ act(W₁ z + U x + b) + c(x)` with plain weights: the deployed Sandwich step.

    Attributes:
        psi: the Ψ of the parametrization, one positive number a hidden unit, in the row scaling of W₁. No
            part of the function: with `Λ = ρρ'Ψ²` it is the multiplier vector a prover may propose for
            `metric_contraction`, and the kernel believes nothing about it.
        rho: the rate that the parametrization aims for.
    """

    @property
    def rho(self) -> float:
        return self.gains[0]

    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Shape: z (…, state), x (…, inputs) or None where there is no input, to (…, state)."""
        return super().forward(z, x=x)


class SandwichStep(SandwichBlock):
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

    baked_type = BakedSandwichStep

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
        if state < 1 or hidden < 1 or inputs < 0:
            raise ValueError(
                "SandwichStep: expected state >= 1, hidden >= 1 and inputs >= 0, "
                f"found state={state}, hidden={hidden}, inputs={inputs}"
            )
        super().__init__(
            state, hidden, [state], inputs, positive("SandwichStep rho", rho),
            act=act, offset=offset, generator=generator, device=device, dtype=dtype,
        )  # fmt: skip
        self.state, self.rho = state, self.gains[0]

    @property
    def proof(self) -> Proof:
        return Proof("metric_contraction", "l2", self.rho)

    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Shape: z (…, state), x (…, inputs) or None where there is no input, to (…, state)."""
        return super().forward(z, x=x)
