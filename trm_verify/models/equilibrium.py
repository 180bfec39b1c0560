"""Implicit models: the state is *the* solution of `z = φ(Wz + Ux + b)`, not what some loop has reached.

W is parametrized so that there is exactly one solution for every x, whatever the parameters: by strong monotonicity in
ℓ2 here, by a log-norm below 1 in weighted ℓ∞ in `log_norm`. Picard iteration usually diverges on either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.model import Box, State
from trm_verify.models import solvers
from trm_verify.models.base import ConfiguredModel
from trm_verify.nn.activations import activation
from trm_verify.nn.base import free_linear, normal

ACTS = ("relu", "leaky_relu", "hardtanh", "tanh", "sigmoid", "softplus")  # what rules `monotone`, `log_norm` know
MAX_ITER = 10_000


class Equilibrium(ConfiguredModel, ABC):
    """What implicit models share: `z = φ(Wz + Ux + b)`, `logits = Cz + c`, solving, and gradients of the solution.

    Attributes:
        U, b: how x drives the units. Shape: (state, inputs), (state,).
        C, c: the readout. Shape: (classes, state), (classes,).
        act: φ, elementwise with slopes in [0, 1].
    """

    iteration = "implicit"

    def __init__(
        self,
        sizes: tuple[int, int, int],
        act: str,
        domain: tuple[float, float] | None,
        generator: torch.Generator,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        state, inputs, classes = sizes
        if min(state, inputs) < 1 or classes < 2:
            raise ValueError(
                f"{type(self).__name__}: expected positive sizes and at least two classes, found state={state}, "
                f"inputs={inputs}, classes={classes}"
            )
        if act not in ACTS:
            raise ValueError(
                f"{type(self).__name__}: expected an elementwise activation with slopes in [0, 1], found {act!r}; "
                f"use one of {', '.join(ACTS)}"
            )
        self.state_shape, self.input_shape = (state,), (inputs,)
        self.domain = None if domain is None else Box(*domain).expand((inputs,))
        self.act = activation(act).make()
        drive = free_linear(inputs, state, generator, device=device, dtype=dtype)
        readout = free_linear(state, classes, generator, device=device, dtype=dtype)
        self.U, self.b, self.C, self.c = drive.weight, drive.bias, readout.weight, readout.bias

    @abstractmethod
    def matrix(self, like: Tensor) -> Tensor:
        """W, in the dtype and on the device of `like`. Shape: (state, state)."""

    @abstractmethod
    def _iterates(self, weight: Tensor, drive: Tensor) -> Iterator[Tensor]:
        """Iterates from zero that converge to the fixed points of φ(Wz + u)."""

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        """The right-hand side of the defining equation. Iterating it is no way to solve it."""
        after: Tensor = self.act(functional.linear(z, self.matrix(z)) + functional.linear(x, self.U, self.b))
        return after

    def readout(self, z: Tensor) -> Tensor:
        """Logits. Shape: (batch, state) to (batch, classes)."""
        return functional.linear(z, self.C, self.c)

    def solve(self, x: Tensor, tol: float | None = None, max_iter: int = MAX_ITER) -> Tensor:
        """The fixed point for each row of x, with gradients by the implicit function theorem.

        Args:
            tol: largest residual `|z − φ(Wz + Ux + b)|_∞`, relative to `1 + |Wz|_∞ + |Ux + b|_∞`; None asks for two
                thirds of the digits of the model's dtype.
            max_iter: iterations allowed.

        Shape: x (batch, inputs), result (batch, state).

        Raises:
            solvers.NotConverged: the residual is still larger after `max_iter` iterations.
            FloatingPointError: NaN or infinity.
            ValueError: an x of another shape or dtype, or options out of range.
        """
        weight, drive = self._terms(x)
        tol = torch.finfo(drive.dtype).eps ** (2 / 3) if tol is None else tol
        if not 0 < tol < 1 or max_iter < 1:
            raise ValueError(f"solve: expected tol in (0, 1) and max_iter >= 1, found tol={tol!r}, {max_iter=}")
        with torch.no_grad():
            iterates = self._iterates(weight, drive)
            found = solvers.settled(iterates, weight, drive, self.act, tol, max_iter)
        return solvers.differentiable(found, weight, drive, self.act)

    def logits(self, x: Tensor) -> Tensor:
        """The readout of the fixed point. Shape: (batch, inputs) to (batch, classes). Raises: see `solve`."""
        return self.readout(self.solve(x))

    @torch.no_grad()
    def trace(self, x: Tensor | None, steps: int, batch_size: int = 1) -> list[State]:
        """z₀ = 0 and the first `steps` iterates of the solver (not of the step), without gradients.

        Raises:
            ValueError: an x of another shape or dtype.
        """
        weight, drive = self._terms(x)
        return list(islice(self._iterates(weight, drive), steps + 1))

    def _terms(self, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """W and Ux + b."""
        inputs, dtype = self.U.shape[1], self.U.dtype
        if x is None or x.dim() != 2 or x.shape[1] != inputs or x.dtype != dtype:
            found = "none" if x is None else f"shape {tuple(x.shape)} in {x.dtype}"
            raise ValueError(
                f"{type(self).__name__}: expected x of shape (batch, {inputs}) in {dtype}, found {found}; add the "
                "batch axis, or convert x"
            )
        return self.matrix(self.b), functional.linear(x, self.U, self.b)

    def _holding(self, tensors: dict[str, Tensor]) -> Self:
        """The baked model with copies of exactly these tensors in place of its own."""
        model = self.bake()
        for name, value in tensors.items():
            held = value.detach().clone(memory_format=torch.contiguous_format)
            setattr(model, name, nn.Parameter(held, requires_grad=False))
        return model


class MonotoneEquilibrium(Equilibrium):
    """A monotone equilibrium model (monDEQ): `W = (1−m)I − AᵀA + B − Bᵀ`.

    `I − W = mI + AᵀA + (Bᵀ − B)` is strongly monotone for every A and B, so that there is exactly one fixed point for
    each x. A and B are the stored tensors, W is not: the exported graph derives it from them exactly, whatever
    rounding a floating-point W would have.

    Proved by: `monotone`; for relu and hardtanh `monotone_convergence` as well.

    Shape: z (batch, state), x (batch, inputs), readout (batch, classes); A (rank, state), B (state, state).
    Norm: ℓ2; the fixed point moves by at most `‖UΔx‖₂ / m`.
    Source: Winston and Kolter, Monotone operator equilibrium networks (NeurIPS 2020), theorem 1 and proposition 1.

    Args:
        state: number of units.
        inputs: size of x.
        classes: number of answers.
        m: the monotonicity, a positive float that is taken at its exact binary value.
        rank: rows of A; None for as many as units.
        act: φ: relu, leaky_relu, hardtanh, tanh, sigmoid or softplus.
        domain: ends `(lo, hi)` of the interval of every input coordinate, or None for all real inputs.
        seed: seed of the initial parameters.

    Raises:
        ValueError: a size, m or activation out of range.
    """

    def __init__(
        self,
        state: int = 40,
        inputs: int = 64,
        classes: int = 10,
        m: float = 1.0,
        *,
        rank: int | None = None,
        act: str = "relu",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__((state, inputs, classes), act, domain, generator, device, dtype)
        rows = state if rank is None else rank
        if rows < 1:
            raise ValueError(f"MonotoneEquilibrium: expected rank >= 1 or None, found {rank!r}")
        self.m = positive_float("MonotoneEquilibrium", "m", m)
        self.set_config(
            state=state, inputs=inputs, classes=classes, m=self.m, rank=rank, act=act,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        self.A = normal((rows, state), rows**-0.5, generator, device, dtype)
        self.B = normal((state, state), state**-0.5, generator, device, dtype)

    @classmethod
    def from_tensors(
        cls,
        *,
        A: Tensor,
        B: Tensor,
        U: Tensor,
        b: Tensor,
        C: Tensor,
        c: Tensor,
        m: float = 20.0,
        domain: tuple[float, float] | None = None,
        act: str = "relu",
    ) -> Self:
        """A baked model of given tensors, each taken exactly as it is stored.

        Shape: A (rank, state), B (state, state), U (state, inputs), b (state,), C (classes, state), c (classes,).

        Raises:
            ValueError: tensors that do not fit together, other than float32 or float64, or not finite; m <= 0.
        """
        tensors = {"A": A, "B": B, "U": U, "b": b, "C": C, "c": c}
        size = sizes_of(cls.__name__, tensors, {"A": "kn", "B": "nn", "U": "ni", "b": "n", "C": "on", "c": "o"})
        model = cls(size["n"], size["i"], size["o"], m, rank=size["k"], act=act, domain=domain)
        return model._holding(tensors)

    def matrix(self, like: Tensor) -> Tensor:
        """`W = (1 − m) I − AᵀA + B − Bᵀ`, in the dtype and on the device of `like`. Shape: (state, state)."""
        # Left to right, each term joins a sum that began with the identity made of `like`, see `_identity`.
        eye = _identity(like, len(self.B))
        gram = functional.linear(functional.linear(eye, self.A), self.A.T)
        return eye - self.m * eye - gram + self.B - self.B.T

    def _iterates(self, weight: Tensor, drive: Tensor) -> Iterator[Tensor]:
        return solvers.peaceman_rachford(weight, drive, self.act)


def _identity(like: Tensor, size: int) -> Tensor:
    """I, as ones of `like` laid out with zeros between them.

    Not `torch.eye`: export evaluates what depends on parameters and literals alone in the model's own arithmetic and
    stores the rounded result. What depends on the state's tensor, if only on its dtype, it keeps as operations, and
    the kernel evaluates these exactly, because their values are constant.
    """
    column = functional.pad(like.new_ones(size, 1), (0, size))
    return column.reshape(-1)[: size * size].reshape(size, size)


def positive_float(owner: str, name: str, value: float) -> float:
    """The value as a float of exactly that value.

    Raises:
        ValueError: no positive finite number, or one that is not a float.
    """
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    if not good or float(value) != value:
        raise ValueError(f"{owner}: expected {name} to be a positive finite float, found {value!r}")
    return float(value)


def sizes_of(owner: str, tensors: dict[str, Tensor], shapes: dict[str, str]) -> dict[str, int]:
    """The size that each letter of the shapes stands for.

    Raises:
        ValueError: no tensors, other shapes, other or several dtypes, NaN or infinity.
    """
    sizes: dict[str, int] = {}
    first: torch.dtype | None = None
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float64):
            found = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{owner}: expected {name} to be a float32 or float64 tensor, found {found}; convert it")
        first = first or value.dtype
        if value.dtype != first:
            raise ValueError(
                f"{owner}: expected all tensors in one dtype, found {name} in {value.dtype} after {first}; widen the "
                "narrower ones, which is exact"
            )
        letters = shapes[name]
        known = value.dim() == len(letters) and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, value.shape, strict=True)
        )
        if not known:
            wanted = ", ".join(str(sizes.get(letter, letter)) for letter in letters)
            raise ValueError(
                f"{owner}: expected {name} of shape ({wanted}), found {tuple(value.shape)}; check for a transposed or "
                "mismatched tensor (letters stand for sizes that nothing fixes yet)"
            )
        if not bool(value.isfinite().all()):
            raise ValueError(f"{owner}: expected finite numbers in {name}, found NaN or infinity; load it again")
    return sizes
