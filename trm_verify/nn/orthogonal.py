"""The Cayley map, and layers with an ℓ2 bound built on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.nn.base import (
    BoundedLayer,
    Proof,
    exact_parameter,
    fill,
    normal,
    plain_linear,
    positive,
    rounding_slack,
    seeded,
)


def cayley(free: Tensor) -> Tensor:
    """An orthonormal frame from a free matrix, differentiably.

    With the rows of `free` split as `[S; V]`, S square, and `Z = S − Sᵀ + VᵀV`, the result
    `[(I − Z)(I + Z)⁻¹; −2V(I + Z)⁻¹]` has orthonormal columns. `I + Z` is always invertible, since its
    symmetric part is at least I.

    Shape: (p, q) with p ≥ q, to (p, q). A wide matrix is transposed before and after, giving orthonormal
        rows.
    Source: Trockman and Kolter, Orthogonalizing convolutional layers with the Cayley transform (ICLR 2021);
        Wang and Manchester, Direct parameterization of Lipschitz-bounded deep networks (ICML 2023), section
        3.
    """
    if free.shape[0] < free.shape[1]:
        return cayley(free.T).T
    size = free.shape[1]
    square, rest = free[:size], free[size:]
    skewed = square - square.T + rest.T @ rest
    identity = torch.eye(size, dtype=free.dtype, device=free.device)
    if rest.shape[0] == 0:
        square_frame: Tensor = torch.linalg.solve(identity + skewed, identity - skewed)
        return square_frame
    inverse = torch.linalg.inv(identity + skewed)
    return torch.cat([(identity - skewed) @ inverse, -2 * rest @ inverse])


def polished(frame: Tensor) -> Tensor:
    """Newton-Schulz: a nearly orthonormal frame becomes orthonormal to the last bits of float64.

    The Cayley solve loses digits when `free` is large and nearly square; each of the three steps squares what is
    left of the error.
    """
    if frame.shape[0] < frame.shape[1]:
        return polished(frame.T).T
    identity = torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device)
    for _ in range(3):
        frame = frame @ (1.5 * identity - 0.5 * (frame.T @ frame))
    return frame


def frame(free: Tensor, exact: bool) -> Tensor:
    """The Cayley frame of a parameter; polished float64 when `exact`."""
    value = cayley(exact_parameter(free, exact))
    return polished(value) if exact else value


def frame_parameter(
    shape: tuple[int, int],
    generator: torch.Generator,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Parameter:
    """A free matrix whose Cayley frame starts well away from the identity."""
    return normal(shape, (2 / sum(shape)) ** 0.5, generator, device, dtype)


class OrthogonalLinear(BoundedLayer):
    """`z ↦ W z + b` with all singular values of W equal to `bound`.

    Proved by: a `spectral` step on the baked matrix, used by `radius_contraction` in one ℓ2 group (or one a
    token).

    Shape: (…, inputs) to (…, outputs).
    Norm: ℓ2 on the last axis; holds everywhere.
    Source: Trockman and Kolter (ICLR 2021).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bound: float = 1.0,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = seeded(generator)
        self.bound = positive("OrthogonalLinear bound", bound)
        self.free = frame_parameter((outputs, inputs), generator, device, dtype)
        self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if bias else None

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "l2", self.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The matrix: `bound` times an orthonormal frame. Shape: (outputs, inputs)."""
        return (self.bound * frame(self.free, exact),)

    def forward(self, z: Tensor) -> Tensor:
        """`W z + bias`. Shape: (…, inputs) to (…, outputs)."""
        (weight,) = self.current_weights()
        return functional.linear(z, weight, self.bias)

    def bake(self) -> nn.Linear:
        """Shrunk by a few units in the last place times √rank, so that the rounded matrix stays within
        `bound`.
        """
        (weight,) = self.weights(exact=True)
        shrunk = weight * (1 - rounding_slack(self.free.dtype, min(weight.shape)))
        return plain_linear(shrunk.to(self.free), self.bias)


class L2Conv2d(BoundedLayer):
    """A 2-D convolution with zero padding and an ℓ2 bound for every image size.

    Gathering the patches repeats a pixel at most `⌈k_h/s_h⌉·⌈k_w/s_w⌉` times, so it has ℓ2 norm at most the
    root of that number; the kernel as a matrix (outputs, channels·k_h·k_w) is an orthonormal frame divided by
    that root. The bound is safe, not tight: smooth kernels could carry more.

    Proved by: a `spectral` step on the kernel matrix and `radius_contraction` in one ℓ2 group.

    Shape: (batch, channels, height, width) to (batch, outputs, height', width').
    Norm: ℓ2 on all coordinates of an image; holds everywhere.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int | tuple[int, int],
        bound: float = 1.0,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        generator = seeded(generator)
        self.bound = positive("L2Conv2d bound", bound)
        self.channels, self.kernel, self.stride, self.padding = (
            channels,
            pair(kernel),
            pair(stride),
            pair(padding),
        )
        size = self.kernel[0] * self.kernel[1]
        self.repeats = -(-self.kernel[0] // self.stride[0]) * -(-self.kernel[1] // self.stride[1])
        self.free = frame_parameter((outputs, channels * size), generator, device, dtype)
        self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if bias else None

    @property
    def proof(self) -> Proof:
        return Proof("radius_contraction", "l2", self.bound)

    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The kernel. Shape: (outputs, channels, k_h, k_w)."""
        matrix = frame(self.free, exact) * (self.bound / self.repeats**0.5)
        return (matrix.reshape(-1, self.channels, *self.kernel),)

    def forward(self, z: Tensor) -> Tensor:
        """The convolution. Shape: (batch, channels, height, width) to (batch, outputs, height', width')."""
        (weight,) = self.current_weights()
        return functional.conv2d(z, weight, self.bias, self.stride, self.padding)

    def bake(self) -> nn.Conv2d:
        """Shrunk by a few units in the last place times √rank, so that the rounded kernel stays within the
        bound.
        """
        (weight,) = self.weights(exact=True)
        shrunk = weight * (1 - rounding_slack(self.free.dtype, min(self.free.shape)))
        return plain_conv2d(shrunk.to(self.free), self.bias, self.stride, self.padding)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both spatial axes, or one each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def plain_conv2d(weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> nn.Conv2d:
    """An `nn.Conv2d` that stores exactly this weight and bias, without gradients."""
    outputs, channels, height, width = weight.shape
    layer = nn.Conv2d(channels, outputs, (height, width), stride, padding, bias=bias is not None, device="meta")
    fill(layer, weight, bias)
    return layer
