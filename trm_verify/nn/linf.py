"""Layers with a bound in a weighted ℓ∞ norm: row sums of absolute values, kept below the bound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.nn.base import BoundedLayer, Proof, exact_parameter, normal, plain_linear, positive, seeded
from trm_verify.nn.orthogonal import pair, plain_conv2d


def limited_rows(matrix: Tensor, bound: float, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Scale down each row with `Σ_j |W_ij| d_j > bound · d_i`; rows within the bound stay as they are.

    Shape: matrix (out, in), inputs (in,), outputs (out,).
    """
    sums = (matrix.abs() @ inputs) / outputs
    return matrix * (bound / sums.clamp(min=bound))[:, None]


def rounded_towards_zero(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The float64 matrix in `dtype`, no entry larger in absolute value: row sums cannot grow by rounding."""
    nearest = matrix.to(dtype)
    outward = nearest.double().abs() > matrix.abs()
    return torch.where(outward, torch.nextafter(nearest, torch.zeros_like(nearest)), nearest)


def baked_rows(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Float64 rows that were limited in floating point, rounded so that the exact row sums keep the bound.

    The float64 sum of n terms is off by less than n·2⁻⁵² relatively; the shrink covers that and the division.
    """
    return rounded_towards_zero(matrix * (1 - (matrix.shape[1] + 8) * 2.0**-52), dtype)


def norm_weights(name: str, values: Tensor | None, count: int) -> Tensor:
    """Float64 weights of a block norm: ones by default.

    Raises:
        ValueError: not `count` finite, strictly positive numbers.
    """
    if values is None:
        return torch.ones(count, dtype=torch.float64)
    weights = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if weights.shape != (count,) or not bool(((weights > 0) & weights.isfinite()).all()):
        raise ValueError(
            f"{name}: expected {count} finite, strictly positive norm weights, "
            f"found {weights.tolist()} of shape {tuple(weights.shape)}"
        )
    return weights


class LinfLinear(BoundedLayer):
    """`z ↦ W z + b` with `Σ_j |W_ij| d_j ≤ bound · d'_i` for fixed norm weights d (inputs) and d' (outputs).

    Proved by: `radius_contraction` in the weighted ℓ∞ norm with those weights (groups of one coordinate).

    Shape: (…, inputs) to (…, outputs).
    Norm: `max |z_j| / d_j` to `max |z_i| / d'_i` on the last axis; holds everywhere, and exactly: the baked
        matrix satisfies the inequality in exact arithmetic over its stored entries.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bound: float = 1.0,
        *,
        input_weights: Tensor | None = None,
        output_weights: Tensor | None = None,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = seeded(generator)
        self.bound = positive("LinfLinear bound", bound)
        ins = norm_weights("LinfLinear input_weights", input_weights, inputs)
        outs = norm_weights("LinfLinear output_weights", output_weights, outputs)
        self.register_buffer("input_weights", ins.to(device=device))
        self.register_buffer("output_weights", outs.to(device=device))
        self.free = normal((outputs, inputs), 2 * self.bound / inputs, generator, device, dtype)
        self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if bias else None

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "linf", self.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The matrix W, with `Σ_j |W_ij| d_j ≤ bound·d'_i`. Shape: (outputs, inputs)."""
        free = exact_parameter(self.free, exact)
        ins, outs = self.get_buffer("input_weights"), self.get_buffer("output_weights")
        return (limited_rows(free, self.bound, ins.to(free), outs.to(free)),)

    def forward(self, z: Tensor) -> Tensor:
        """`W z + bias`. Shape: (…, inputs) to (…, outputs)."""
        (weight,) = self.current_weights()
        return functional.linear(z, weight, self.bias)

    def bake(self) -> nn.Linear:
        """Rounded towards zero, so that the exact row sums stay within the bound."""
        (weight,) = self.weights(exact=True)
        return plain_linear(baked_rows(weight, self.free.dtype).to(self.free.device), self.bias)


class LinfConv2d(BoundedLayer):
    """A 2-D convolution with zero padding whose kernel rows satisfy `Σ_{c,u,v} |K_ocuv| d_c ≤ bound · d'_o`.

    Each output sees each kernel entry at most once, so the kernel's row sums bound the whole map for every
    image size, stride and padding.

    Proved by: `radius_contraction` in ℓ∞ with weight d_c on every position of channel c.

    Shape: (batch, channels, height, width) to (batch, outputs, height', width').
    Norm: weighted ℓ∞, one weight a channel; holds everywhere, and exactly for the baked kernel.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int | tuple[int, int],
        bound: float = 1.0,
        *,
        input_weights: Tensor | None = None,
        output_weights: Tensor | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = seeded(generator)
        self.bound = positive("LinfConv2d bound", bound)
        self.channels, self.kernel, self.stride, self.padding = (
            channels,
            pair(kernel),
            pair(stride),
            pair(padding),
        )
        size = self.kernel[0] * self.kernel[1]
        ins = norm_weights("LinfConv2d input_weights", input_weights, channels).repeat_interleave(size)
        outs = norm_weights("LinfConv2d output_weights", output_weights, outputs)
        self.register_buffer("input_weights", ins.to(device=device))
        self.register_buffer("output_weights", outs.to(device=device))
        self.free = normal((outputs, channels * size), 2 * self.bound / (channels * size), generator, device, dtype)
        self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if bias else None

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "linf", self.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The kernel. Shape: (outputs, channels, k_h, k_w)."""
        free = exact_parameter(self.free, exact)
        ins, outs = self.get_buffer("input_weights"), self.get_buffer("output_weights")
        rows = limited_rows(free, self.bound, ins.to(free), outs.to(free))
        return (rows.reshape(-1, self.channels, *self.kernel),)

    def forward(self, z: Tensor) -> Tensor:
        """The convolution. Shape: (batch, channels, height, width) to (batch, outputs, height', width')."""
        (weight,) = self.current_weights()
        return functional.conv2d(z, weight, self.bias, self.stride, self.padding)

    def bake(self) -> nn.Conv2d:
        """Rounded towards zero, so that the exact row sums stay within the bound."""
        (weight,) = self.weights(exact=True)
        rows = baked_rows(weight.reshape(self.free.shape), self.free.dtype).reshape(weight.shape)
        return plain_conv2d(rows.to(self.free.device), self.bias, self.stride, self.padding)
