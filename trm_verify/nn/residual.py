"""Steps around steps: averaging with the state, and gating by the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.nn.base import BoundedLayer, Proof, bake, copy_linear, free_linear, seeded

_GRID = 2**20


def inner_proof(name: str, inner: nn.Module) -> Proof:
    """The proof of a wrapped layer.

    Raises:
        TypeError: the layer says nothing about its bound.
    """
    proof = getattr(inner, "proof", None)
    if not isinstance(proof, Proof):
        raise TypeError(
            f"{name}: expected an inner layer with a `proof` attribute, found {type(inner).__name__}; "
            "wrap a bounded layer of trm_verify.nn, or set `proof` to a trm_verify.nn.Proof"
        )
    return proof


class BakedResidualAveraged(nn.Module):
    """`(1 − α) z + α f(z, …)` around a baked f; both factors are exact in float32."""

    def __init__(self, inner: nn.Module, alpha: float) -> None:
        super().__init__()
        self.inner, self.alpha = inner, alpha

    def forward(self, z: Tensor, *inputs: Any) -> Tensor:
        """Shape: z and the further inputs as the inner module takes them; the shape of z is kept."""
        after: Tensor = (1.0 - self.alpha) * z + self.alpha * self.inner(z, *inputs)
        return after


class ResidualAveraged(BoundedLayer):
    """`(1 − α) z + α f(z, …)`: the averaged step, with the fixed points of f and the bound `1 − α + αL`.

    α is rounded to a multiple of 2⁻²⁰, so that α and 1 − α mean the same in float32, float64 and exact
    arithmetic.

    Proved by: the rule that proves f, in the same norm (`radius_contraction` or `metric_contraction`).

    Shape: that of f, whose output has the shape of z.
    Norm: the norm of f.

    Raises:
        ValueError: α outside (0, 1].
        TypeError: f has no `proof`.
    """

    def __init__(self, inner: nn.Module, alpha: float) -> None:
        super().__init__()
        inner_proof("ResidualAveraged", inner)
        self.inner = inner
        self.alpha = round(float(alpha) * _GRID) / _GRID if 0 < alpha <= 1 else 0.0
        if not 0 < self.alpha <= 1:
            raise ValueError(f"ResidualAveraged: expected alpha in [2**-20, 1], found {alpha!r}")

    @property
    def proof(self) -> Proof:
        inner = inner_proof("ResidualAveraged", self.inner)
        return Proof(inner.rule, inner.norm, 1.0 - self.alpha + self.alpha * inner.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """None of its own: the inner layer has them."""
        return ()

    def forward(self, z: Tensor, *inputs: Any) -> Tensor:
        """Shape: z and the further inputs as the inner layer takes them; the shape of z is kept."""
        after: Tensor = (1.0 - self.alpha) * z + self.alpha * self.inner(z, *inputs)
        return after

    def bake(self) -> BakedResidualAveraged:
        return BakedResidualAveraged(bake(self.inner), self.alpha)


class BakedGated(nn.Module):
    """`sigmoid(G x + a) ∘ f(z) + (H x + c)` around a baked f."""

    def __init__(self, inner: nn.Module, gate: nn.Linear, shift: nn.Linear, inner_input: bool) -> None:
        super().__init__()
        self.inner, self.gate, self.shift, self.inner_input = inner, gate, shift, inner_input

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Shape: z as the inner module takes it, x (…, inputs), to (…, outputs)."""
        inner = self.inner(z, x) if self.inner_input else self.inner(z)
        after: Tensor = torch.sigmoid(self.gate(x)) * inner + self.shift(x)
        return after


class Gated(BoundedLayer):
    """`g(x) ∘ f(z) + h(x)` with a gate `g(x) = sigmoid(G x + a)` in [0, 1] that sees the input alone.

    Multiplying coordinates by numbers in [0, 1] never increases a block norm, so the bound is that of f. A
    gate that saw the state would need a bound on f itself, and has none on all of Rⁿ.

    Proved by: the rule of f if that is `radius_contraction` (the kernel bounds a sigmoid by 1); around a
    `SandwichStep` the bound is true, but no rule multiplies a gate into `metric_contraction`, so such an f is
    refused.

    Shape: z of f's shape, x (…, inputs), to f's output shape, outputs on the last axis.
    Norm: the norm of f, for every x.

    Args:
        inner: f, called as `f(z)`, or as `f(z, x)` if `inner_input`.
        inputs: features of x on its last axis.
        outputs: features of f(z) on its last axis.

    Raises:
        TypeError: f has no `proof`.
        ValueError: f is proved by another rule than `radius_contraction`.
    """

    def __init__(
        self,
        inner: nn.Module,
        inputs: int,
        outputs: int,
        *,
        inner_input: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        rule = inner_proof("Gated", inner).rule
        if rule != "radius_contraction":
            raise ValueError(f"Gated: expected an inner layer proved by radius_contraction, found {rule}")
        generator = seeded(generator)
        self.inner, self.inner_input = inner, inner_input
        self.gate = free_linear(inputs, outputs, generator, device=device, dtype=dtype)
        self.shift = free_linear(inputs, outputs, generator, device=device, dtype=dtype)

    @property
    def proof(self) -> Proof:
        return inner_proof("Gated", self.inner)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """None of its own that are bounded: the inner layer has them; gate and shift are free."""
        return ()

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """`σ(gate(x))·inner + shift(x)`. Shape: z as the inner layer takes it, x (…, inputs), to (…, outputs)."""
        inner = self.inner(z, x) if self.inner_input else self.inner(z)
        after: Tensor = torch.sigmoid(self.gate(x)) * inner + self.shift(x)
        return after

    def bake(self) -> BakedGated:
        return BakedGated(bake(self.inner), copy_linear(self.gate), copy_linear(self.shift), self.inner_input)
