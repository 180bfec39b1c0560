"""The Sandwich block: several bounded inputs, one output, and a gain for each input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate

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


class BakedSandwichBlock(nn.Module):
    """`W₂ act(W₁ [v₁ … v_k] + U x + b) + c(x)` with plain weights: the deployed Sandwich block.

    Attributes:
        psi: the Ψ of the parametrization, one positive number a hidden unit, in the row scaling of W₁. No part of
            the function: with `Λ = ρρ'Ψ²`, ρ the largest gain, it is the multiplier vector a prover may propose for
            `row_gain`, and the kernel believes nothing about it.
        gains: the gains that the parametrization aims for, one a bounded input.
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
        gains: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.inner, self.outer, self.act, self.drive, self.offset = inner, outer, act, drive, offset
        self.gains = gains
        # Not persistent: the weights file holds what the function uses, and nothing else.
        self.register_buffer("psi", psi, persistent=False)

    def forward(self, *bounded: Tensor, x: Tensor | None = None) -> Tensor:
        """Shape: each bounded input (…, bounded[i]), x (…, inputs) or None, to (…, outputs)."""
        hidden = self.inner(bounded[0] if len(bounded) == 1 else torch.cat(bounded, -1))
        if self.drive is not None:
            hidden = hidden + self.drive(x)
        after: Tensor = self.outer(self.act(hidden))
        if self.offset is not None:
            after = after + self.offset(x)
        return after


class SandwichBlock(BoundedLayer):
    """`√2 AᵀΨ act(√2 Ψ⁻¹ (γ₁B₁v₁ + … + γ_kB_kv_k) + U x + b) + c(x)` with `[A B₁ … B_k]` from a Cayley map.

    For all bounded inputs v, v' and one and the same x:  |Δout|² ≤ γ₁²|Δv₁|² + … + γ_k²|Δv_k|².
    A part of a recursion with several parts, such as `z_L ← L(z_L, z_H, x)`; `SandwichStep` is the step of a recursion
    with one part. In a recursion the gains decide the rate: with gains (a, b) from z_L and z_H into z_L and (c, d)
    into z_H, one update of both contracts (in some weights) iff the matrix of squares [[a², b²], [c², d²]] has
    spectral radius below 1. `U`, `b` and `c` are free; `x` may be any feature of the input.

    Proved by: `row_gain`, whose conclusion is the inequality above for every last-axis row.

    Shape: v_i (…, bounded[i]) with equal leading axes, x (…, inputs), to (…, outputs).
    Norm: ℓ2 on the last axis, jointly over the bounded inputs; holds everywhere and for every x.
    Source: Wang and Manchester, Direct parameterization of Lipschitz-bounded deep networks (ICML 2023),
        theorem 3.2, with `diag(γ)` on the side of the inputs.

    Args:
        outputs: size of the output.
        hidden: number of activation units.
        bounded: sizes of the inputs whose influence is bounded.
        inputs: size of the free input feature; 0 for none (then b and c are constants).
        gains: γ, one for each bounded input, or one number for all; positive.
        act: name of an elementwise activation with slopes in [0, 1].
        offset: whether there is a `c(x)`.

    Raises:
        ValueError: sizes or gains out of range, or an activation with slopes outside [0, 1].
    """

    baked_type: type[BakedSandwichBlock] = BakedSandwichBlock

    def __init__(
        self,
        outputs: int,
        hidden: int,
        bounded: Sequence[int],
        inputs: int = 0,
        gains: float | Sequence[float] = 0.9,
        *,
        act: str = "relu",
        offset: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if outputs < 1 or hidden < 1 or inputs < 0 or not bounded or min(bounded) < 1:
            raise ValueError(
                "SandwichBlock: expected outputs >= 1, hidden >= 1, at least one bounded input, each of size >= 1, and "
                f"inputs >= 0, found outputs={outputs}, hidden={hidden}, bounded={list(bounded)}, inputs={inputs}"
            )
        each = [gains] * len(bounded) if isinstance(gains, (int, float)) else list(gains)
        if len(each) != len(bounded):
            raise ValueError(f"SandwichBlock: expected {len(bounded)} gains, one a bounded input, found {len(each)}")
        if not activation(act).monotone_nonexpansive:
            raise ValueError(
                f"{type(self).__name__}: expected an elementwise activation with slopes in [0, 1], found {act!r}; "
                "use relu, leaky_relu, tanh, hardtanh, sigmoid or softplus"
            )
        generator = seeded(generator)
        self.outputs, self.hidden, self.bounded, self.inputs = outputs, hidden, tuple(bounded), inputs
        self.gains = tuple(positive("SandwichBlock gain", gain) for gain in each)
        self.act = activation(act).make()
        self.free = frame_parameter((hidden, outputs + sum(bounded)), generator, device, dtype)
        self.log_psi = nn.Parameter(torch.zeros(hidden, device=device, dtype=dtype))
        self.drive: nn.Linear | None = None
        self.offset: nn.Linear | None = None
        self.bias: nn.Parameter | None = None
        self.constant: nn.Parameter | None = None
        if inputs:
            self.drive = free_linear(inputs, hidden, generator, device=device, dtype=dtype)
            if offset:
                self.offset = free_linear(inputs, outputs, generator, device=device, dtype=dtype)
        else:
            self.bias = nn.Parameter(torch.zeros(hidden, device=device, dtype=dtype))
            self.constant = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if offset else None

    @property
    def proof(self) -> Proof:
        return Proof("row_gain", "tokens_l2", max(self.gains))

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """W₁ of shape (hidden, Σ bounded) and W₂ of shape (outputs, hidden)."""
        return self._assemble(frame(self.free, exact), exact_parameter(self.log_psi, exact).exp())

    def _assemble(self, joint: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        # The largest gain stands on the output side, as in SandwichStep, so that Ψ suggests the same multipliers.
        largest = max(self.gains)
        ends = list(accumulate(self.bounded, initial=self.outputs))
        scaled = [
            joint[:, start:end] * (gain / largest) for gain, start, end in zip(self.gains, ends, ends[1:], strict=False)
        ]
        a, b = joint[:, : self.outputs], torch.cat(scaled, -1)
        return 2**0.5 * b / psi[:, None], largest * 2**0.5 * (a * psi[:, None]).T

    def forward(self, *bounded: Tensor, x: Tensor | None = None) -> Tensor:
        """Shape: each bounded input (…, bounded[i]), x (…, inputs) or None, to (…, outputs).

        Raises:
            ValueError: other sizes, or an input x where there is none to be, or none where there is one.
        """
        sizes = tuple(v.shape[-1] for v in bounded)
        if sizes != self.bounded:
            raise ValueError(
                f"{type(self).__name__}: made for bounded inputs of sizes {self.bounded}, called with {sizes}"
            )
        if (x is None) != (self.inputs == 0):
            raise ValueError(
                f"{type(self).__name__}: made with inputs={self.inputs}, "
                f"called {'without' if x is None else 'with'} an input"
            )
        inner, outer = self.current_weights()
        hidden = functional.linear(bounded[0] if len(bounded) == 1 else torch.cat(bounded, -1), inner, self.bias)
        if self.drive is not None:
            hidden = hidden + self.drive(x)
        after = functional.linear(self.act(hidden), outer, self.constant)
        return after if self.offset is None else after + self.offset(x)

    def bake(self) -> BakedSandwichBlock:
        """Plain weights. The frame is shrunk by a few units in the last place times its root rank, so that the
        rounded weights keep their gains with room to spare for the proof."""
        joint, psi = frame(self.free, True), exact_parameter(self.log_psi, True).exp()
        stored = psi.to(self.free.dtype)  # rounded first: W1 and W2 are then multiples of the psi that provers get
        slack = rounding_slack(self.free.dtype, min(joint.shape))
        inner, outer = self._assemble(joint * (1 - slack), stored.double())
        return self.baked_type(
            plain_linear(inner.to(self.free), self.bias),
            plain_linear(outer.to(self.free), self.constant),
            frozen(copy.deepcopy(self.act)),
            None if self.drive is None else copy_linear(self.drive),
            None if self.offset is None else copy_linear(self.offset),
            stored.to(self.free.device),
            self.gains,
        )
