"""Small random models of several kinds, in float64, with their fixed points computed apart from any prover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

import trm_verify as tv
from trm_verify.model import RecursiveModel
from trm_verify.models.equilibrium import ACTS, Equilibrium

MOST_STEPS = 4000
POLISH = 4  # Newton steps after the iteration


@dataclass(frozen=True, eq=False)
class Specimen:
    """A model with how many inputs it has, and a name for its kind."""

    kind: str
    model: RecursiveModel
    inputs: int

    @property
    def reading(self) -> Tensor:
        """The matrix of the readout, which is affine in all kinds. Shape: (classes, state)."""
        weight = self.model.C if isinstance(self.model, Equilibrium) else self.model.reading.weight
        return weight.detach()


def _sizes(generator: torch.Generator) -> tuple[int, int, int]:
    """(state, inputs, classes)"""
    return tuple(int(torch.randint(lo, hi, (), generator=generator)) for lo, hi in ((1, 9), (1, 6), (2, 5)))  # type: ignore[return-value]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _implicit(seed: int) -> Specimen:
    """A monotone or log-norm equilibrium, of any activation, its parameters well away from their first values."""
    generator = torch.Generator().manual_seed(seed)
    state, inputs, classes = _sizes(generator)
    act = ACTS[seed // 2 % len(ACTS)]
    build: Callable[..., Equilibrium] = (tv.models.MonotoneEquilibrium, tv.models.LogNormEquilibrium)[seed % 2]
    slack = _uniform(generator, 0.1, 2.0) if seed % 2 == 0 else _uniform(generator, 0.05, 0.9)
    model = build(state, inputs, classes, slack, act=act, domain=None, seed=seed, dtype=torch.float64)
    factor = _uniform(generator, 0.5, 3.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor).add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return Specimen(f"{type(model).__name__} {act}", model, inputs)


class _Loop(RecursiveModel):
    """z ← V φ(Wz + Ux + b) + s, or without V and s; the norm of what z goes through is below 1."""

    iteration = "picard"

    def __init__(self, seed: int, act: Callable[[Tensor], Tensor], layers: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        state, inputs, classes = _sizes(generator)
        self.state_shape, self.input_shape, self.act = (state,), (inputs,), act
        rate = _uniform(generator, 0.2, 0.95)
        hidden = state if layers == 1 else state + 2
        self.inner, self.drive = self._linear(hidden, state, generator), self._linear(hidden, inputs, generator, True)
        self.outer = None if layers == 1 else self._linear(state, hidden, generator, True)
        self.reading = self._linear(classes, state, generator, True)
        weights = [self.inner.weight] if self.outer is None else [self.inner.weight, self.outer.weight]
        with torch.no_grad():
            for weight in weights:
                weight.mul_((rate ** (1 / layers)) / torch.linalg.matrix_norm(weight, 2))
        if seed % 3 == 0:
            self.iteration = tv.Damped("3/4")  # type: ignore[assignment]

    @staticmethod
    def _linear(out: int, size: int, generator: torch.Generator, bias: bool = False) -> nn.Linear:
        layer = nn.Linear(size, out, bias=bias, dtype=torch.float64)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return layer

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        after = self.act(self.inner(z) + self.drive(x))
        return after if self.outer is None else self.outer(after)

    def readout(self, z: Tensor) -> Tensor:
        return self.reading(z)


LOOPS: tuple[tuple[str, Callable[[Tensor], Tensor], int], ...] = (
    ("relu", torch.relu, 1), ("tanh", torch.tanh, 1), ("two relu layers", torch.relu, 2), ("abs", torch.abs, 1),
    ("sin", torch.sin, 1), ("gelu, two layers", lambda a: 0.8 * nn.functional.gelu(a), 2),
)  # fmt: skip


def specimen(seed: int) -> Specimen:
    """One of the kinds in turn: implicit models and loops, half each."""
    if seed % 2 == 0:
        return _implicit(seed // 2)
    name, act, layers = LOOPS[seed // 2 % len(LOOPS)]
    model = _Loop(seed, act, layers)
    return Specimen(f"loop {name}", model.eval(), model.input_shape[0])


@torch.no_grad()
def fixed_points(model: RecursiveModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """(fixed points, how far each coordinate may be from the true one), by iterating, then Newton's method.

    The second is the residual through |(I − ∂f/∂z)⁻¹|, doubled; where the residual is not small it says so.

    Shape: x (batch, inputs), results (batch, state).
    """
    z = model.solve(x, 1e-12) if isinstance(model, Equilibrium) else _iterated(model, x)
    for _ in range(POLISH):
        change = torch.linalg.solve(_gap(model, z, x), (z - model.step(z, x))[:, :, None])[:, :, 0]
        better = z - change
        smaller = (better - model.step(better, x)).abs().amax(1) < (z - model.step(z, x)).abs().amax(1)
        z = torch.where(smaller[:, None], better, z)
    inverse = torch.linalg.inv(_gap(model, z, x)).abs()
    residual = (z - model.step(z, x)).abs() + 4 * torch.finfo(z.dtype).eps * (1 + z.abs())
    return z, 2 * (inverse @ residual[:, :, None])[:, :, 0]


def moved_by(model: RecursiveModel, z: Tensor, x: Tensor) -> Tensor:
    """dz*/dx at the fixed points. Shape: (batch, state, inputs)."""
    driven = vmap(jacrev(lambda z, x: model.step(z[None], x[None])[0], argnums=1))(z, x)
    return torch.linalg.solve(_gap(model, z, x), driven).detach()


def _iterated(model: RecursiveModel, x: Tensor) -> Tensor:
    z = model.zero_state(x)
    for _ in range(MOST_STEPS):
        after = model.step(z, x)
        if bool(((after - z).abs() <= 1e-15 * (1 + z.abs())).all()):
            break
        z = after
    return z


def _gap(model: RecursiveModel, z: Tensor, x: Tensor) -> Tensor:
    """I − ∂f/∂z. Shape: (batch, state, state)."""
    slope = vmap(jacrev(lambda z, x: model.step(z[None], x[None])[0]))(z, x)
    return torch.eye(z.shape[1], dtype=z.dtype) - slope.detach()
