"""What every bounded layer shares: its claim about itself, weight caching, and baking.

A bounded layer has *free* parameters and computes the weights it applies from them, so that any value the
optimizer reaches respects the bound. `bake` computes those weights once more in float64 on the CPU, rounds
them to the layer's precision slightly inside the bound, and returns a module that holds nothing but plain
weights. The baked module is what is deployed, exported and proved; that a layer *says* it is bounded is never
evidence.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Proof:
    """Which kernel rule proves a layer's bound, in which norm, and the bound it aims for.

    Attributes:
        rule: name of the rule in the certificate format, such as `radius_contraction` or
            `metric_contraction`.
        norm: `linf` (weighted), `l2`, or `tokens_l2` (maximum over tokens of the ℓ2 norm of the features).
        bound: the Lipschitz bound in the state that the parametrization aims for.
    """

    rule: str
    norm: str
    bound: float


class BoundedLayer(nn.Module, ABC):
    """A layer whose Lipschitz bound in the state holds for every value of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self._caching = False
        self._cached: tuple[Tensor, ...] | None = None

    @property
    @abstractmethod
    def proof(self) -> Proof:
        """The rule that proves the baked layer, the norm, and the bound it aims for."""

    @abstractmethod
    def weights(self, exact: bool = False) -> tuple[Tensor, ...]:
        """The weights that the layer applies.

        Args:
            exact: False for the differentiable weights in the layer's own precision; True for detached
                float64 weights on the CPU, the ones that baking rounds.
        """

    @abstractmethod
    def bake(self) -> nn.Module:
        """A module with plain weights only, computing the same function up to rounding, inside the bound."""

    def current_weights(self) -> tuple[Tensor, ...]:
        """`weights()`, computed once inside `cached_weights` however often the recursion applies the
        layer.
        """
        if not self._caching:
            return self.weights()
        if self._cached is None:
            self._cached = self.weights()
        return self._cached


@contextmanager
def cached_weights(model: nn.Module) -> Iterator[None]:
    """Compute the weights of every bounded layer in `model` at most once until the context is left.

    A recursion applies the same weights at every step, so a training step spends one Cayley map a layer
    instead of one a recursion. Parameters must not change inside the context; gradients flow as usual.

    Raises:
        RuntimeError: the model is already inside such a context.
    """
    layers = [module for module in model.modules() if isinstance(module, BoundedLayer)]
    if any(layer._caching for layer in layers):
        raise RuntimeError("cached_weights: this model is already inside a cached_weights context; do not nest it")
    try:
        for layer in layers:
            layer._caching = True
        yield
    finally:
        for layer in layers:
            layer._caching, layer._cached = False, None


def bake(module: nn.Module) -> nn.Module:
    """A copy of `module` for deployment: every bounded layer baked, no gradients, evaluation mode.

    The module itself is left as it is. A bounded layer used in several places is baked once and stays shared.
    """
    if isinstance(module, BoundedLayer):
        return frozen(module.bake())
    clone = copy.deepcopy(module)
    baked: dict[int, nn.Module] = {}
    for parent in list(clone.modules()):
        # A bounded layer bakes its own children, so nothing below one is replaced here.
        for name, child in list(parent._modules.items()):
            if isinstance(child, BoundedLayer) and not isinstance(parent, BoundedLayer):
                if id(child) not in baked:
                    baked[id(child)] = child.bake()
                parent._modules[name] = baked[id(child)]
    return frozen(clone)


def frozen(module: nn.Module) -> nn.Module:
    """The same module in evaluation mode and without gradients."""
    return module.eval().requires_grad_(False)


def exact_parameter(parameter: Tensor, exact: bool) -> Tensor:
    """The parameter itself, or its exact float64 value on the CPU, away from the autograd graph."""
    return parameter.detach().to(device="cpu", dtype=torch.float64) if exact else parameter


def rounding_slack(dtype: torch.dtype, rank: int) -> float:
    """How far to stay below an ℓ2 bound so that rounding to `dtype` cannot cross it.

    Rounding changes an entry by at most half a unit roundoff, so a matrix whose Frobenius norm is at most
    √rank moves by at most `eps/2 · √rank` in ℓ2; the factor four covers a second rounded factor and float64
    noise.
    """
    return float(2 * torch.finfo(dtype).eps * rank**0.5 + 2.0**-44 * rank)


def plain_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """An `nn.Linear` that stores exactly this weight and bias, without gradients."""
    # Made on the meta device: no initial values are drawn, so global randomness stays untouched.
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    fill(layer, weight, bias)
    return layer


def fill(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None, trainable: bool = False) -> None:
    """Replace a layer's parameters by copies of the given tensors.

    Copies are row-major, as a weights file stores them: another layout would sum in another order.
    """
    rows = torch.contiguous_format
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=rows), requires_grad=trainable)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(memory_format=rows), requires_grad=trainable)


def copy_linear(layer: nn.Linear) -> nn.Linear:
    """A frozen copy of an `nn.Linear`."""
    return plain_linear(layer.weight, layer.bias)


def free_linear(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    *,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Linear:
    """An unconstrained `nn.Linear` whose initial values come from `generator` alone (not from global
    randomness).
    """
    reach = inputs**-0.5

    def uniform(*shape: int) -> Tensor:
        drawn: Tensor = torch.rand(shape, generator=generator) * (2 * reach) - reach
        return drawn.to(device=device, dtype=dtype)

    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    fill(layer, uniform(outputs, inputs), uniform(outputs) if bias else None, trainable=True)
    return layer


def normal(
    shape: tuple[int, ...],
    scale: float,
    generator: torch.Generator,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Parameter:
    """A parameter with normal entries, drawn on the CPU so that a seed means the same on every device."""
    return nn.Parameter((torch.randn(shape, generator=generator) * scale).to(device=device, dtype=dtype))


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """The given generator, or a fresh one with seed 0: layers never use global randomness."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def positive(name: str, value: float) -> float:
    """`value` as a float if it is finite and positive.

    Raises:
        ValueError: otherwise.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a positive finite number, found {value!r}")
    return float(value)
