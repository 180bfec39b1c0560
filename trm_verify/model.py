"""What a recursive model is: a step `f(z, x)`, a start, a readout, and the shapes they live in.

Tensors carry one leading batch axis whose rows do not interact. A state of several parts is a tuple of
tensors. This module knows nothing of export, provers or certificates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.box import Box, exact_array

__all__ = [
    "Box",
    "Damped",
    "ModelSpec",
    "RecursiveModel",
    "State",
    "flatten_state",
    "initial_state",
    "recursive",
    "spec_of",
    "state_parts",
    "trace",
    "unflatten_state",
]

Shape = tuple[int, ...]
State = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True, init=False)
class Damped:
    """The iteration `z ← (1−α)∘z + α∘f(z, x)`, α in (0, 1].

    Attributes:
        alpha: exact factors: one for all coordinates, or one per coordinate of the flattened state.

    Raises:
        ValueError: a factor outside (0, 1], or one that is not a binary fraction (certificates store binary
            fractions; write `0.1`, which means its exact binary value, rather than `"0.1"`).
    """

    alpha: tuple[Fraction, ...]

    def __init__(self, alpha: Any) -> None:
        values = [Fraction(v) for v in exact_array(alpha, "alpha").ravel().tolist()]
        if not values:
            raise ValueError("expected at least one damping factor, found none")
        for value in values:
            if not 0 < value <= 1:
                raise ValueError(f"expected damping factors in (0, 1], found {value}")
            if value.denominator & (value.denominator - 1):
                raise ValueError(f"expected a binary fraction, found {value}; use the float {float(value)!r}")
        object.__setattr__(self, "alpha", tuple(values))

    def tensor(self, like: Tensor) -> Tensor:
        """The factors in the dtype and on the device of `like`."""
        return torch.tensor([float(a) for a in self.alpha], dtype=like.dtype, device=like.device)


Iteration = str | Damped


@dataclass(frozen=True)
class ModelSpec:
    """The validated description of a model, see `spec_of`.

    Attributes:
        parts: shape of every state part, without batch axis.
        tuple_state: whether `step` takes and returns a tuple (else one tensor).
        input_shape: shape of x without batch axis; None for an autonomous model, whose step is `step(z)`.
        vocabulary: V when x holds integers 0 … V−1, else None.
        domain: the box that x lies in (expanded to `input_shape`), or None for all of Rᵐ.
        iteration: `"picard"`, `Damped(alpha)` or `"implicit"`.
        step: `step(z, x)`, or `step(z)` for an autonomous model.
        init: `init(x)`, or `init(batch_size)` for an autonomous model; None means zeros.
        readout: `readout(z)`, classes on the last axis; None means no readout.
    """

    parts: tuple[Shape, ...]
    tuple_state: bool
    input_shape: Shape | None
    vocabulary: int | None
    domain: Box | None
    iteration: Iteration
    step: Callable[..., Any]
    init: Callable[..., Any] | None
    readout: Callable[..., Any] | None

    @property
    def state_size(self) -> int:
        """n, the size of the flattened state."""
        return sum(map(prod, self.parts))

    @property
    def input_size(self) -> int:
        return 0 if self.input_shape is None else prod(self.input_shape)


def _shape(value: Any, what: str) -> Shape:
    good = isinstance(value, (tuple, list, torch.Size)) and all(
        isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in value
    )
    if not good:
        raise ValueError(f"expected {what} to be a tuple of positive integers without the batch axis, found {value!r}")
    return tuple(value)


def state_parts(state_shape: Any) -> tuple[Shape, ...]:
    """The parts of a `state_shape`: one for a tuple of integers, several for a tuple of tuples."""
    if _is_multi(state_shape):
        return tuple(_shape(part, "each part of state_shape") for part in state_shape)
    return (_shape(state_shape, "state_shape"),)


def _is_multi(state_shape: Any) -> bool:
    return isinstance(state_shape, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in state_shape)


def spec_of(model: nn.Module) -> ModelSpec:
    """Read and check a model's description; any `nn.Module` with `step` and `state_shape` qualifies.

    Raises:
        ValueError: an attribute is missing or wrong.
    """
    step, state_shape = getattr(model, "step", None), getattr(model, "state_shape", None)
    if not callable(step) or state_shape is None:
        raise ValueError(
            f"expected a model with step(z, x) and state_shape, found {type(model).__name__}; "
            "wrap a plain module or function with tv.recursive(step, state_shape=…, input_shape=…)"
        )
    parts = state_parts(state_shape)
    input_shape, domain = getattr(model, "input_shape", None), getattr(model, "domain", None)
    vocabulary, iteration = getattr(model, "vocabulary", None), getattr(model, "iteration", "picard")
    input_shape = None if input_shape is None else _shape(input_shape, "input_shape")
    if vocabulary is not None and (not isinstance(vocabulary, int) or vocabulary < 1 or input_shape is None):
        raise ValueError(f"expected vocabulary to be a positive integer with an input_shape, found {vocabulary!r}")
    if domain is not None:
        if not isinstance(domain, Box) or input_shape is None:
            raise ValueError(f"expected domain to be a Box bounding the input, found {domain!r}")
        domain = domain.expand(input_shape)
    size = sum(map(prod, parts))
    if isinstance(iteration, Damped):
        if len(iteration.alpha) not in (1, size):
            raise ValueError(f"expected 1 or {size} damping factors, found {len(iteration.alpha)}")
    elif iteration not in ("picard", "implicit"):
        raise ValueError(f'expected iteration "picard", "implicit" or Damped(alpha), found {iteration!r}')
    init, readout = getattr(model, "init", None), getattr(model, "readout", None)
    if init == getattr(model, "zero_state", None):
        init = None
    multi = _is_multi(state_shape)
    return ModelSpec(parts, multi, input_shape, vocabulary, domain, iteration, step, init, readout)


def flatten_state(z: State) -> Tensor:
    """(batch, n): the row-major concatenation of the state's parts."""
    tensors = z if isinstance(z, tuple) else (z,)
    return torch.cat([t.reshape(t.shape[0], -1) for t in tensors], dim=1)


def unflatten_state(flat: Tensor, state_shape: Any) -> State:
    """The inverse of `flatten_state`: a tensor, or a tuple for a tuple of shapes.

    Shape: flat (batch, n).
    """
    parts = state_parts(state_shape)
    sizes = [prod(p) for p in parts]
    if flat.dim() != 2 or flat.shape[1] != sum(sizes):
        raise ValueError(f"expected a flattened state of shape (batch, {sum(sizes)}), found {tuple(flat.shape)}")
    split = torch.split(flat, sizes, dim=1)
    tensors = tuple(t.reshape(flat.shape[0], *part) for t, part in zip(split, parts, strict=True))
    return tensors if _is_multi(state_shape) else tensors[0]


def _zeros(model: nn.Module, spec: ModelSpec, batch: int) -> State:
    like = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), None)
    dtype = torch.get_default_dtype() if like is None else like.dtype
    device = torch.device("cpu") if like is None else like.device
    zeros = tuple(torch.zeros(batch, *part, dtype=dtype, device=device) for part in spec.parts)
    return zeros if spec.tuple_state else zeros[0]


def initial_state(model: nn.Module, x: Tensor | None = None, batch_size: int = 1) -> State:
    """z₀ for a batch of inputs; an autonomous model takes `batch_size` instead of x.

    Raises:
        ValueError: x does not fit the model's `input_shape`.
    """
    spec = spec_of(model)
    if (x is None) != (spec.input_shape is None):
        found = "no input" if x is None else f"an input of shape {tuple(x.shape)}"
        raise ValueError(f"expected input_shape {spec.input_shape}, found {found}")
    if x is not None and (x.dim() != 1 + len(spec.input_shape or ()) or tuple(x.shape[1:]) != spec.input_shape):
        raise ValueError(
            f"expected x of shape (batch, {', '.join(map(str, spec.input_shape or ()))}), found {tuple(x.shape)}"
        )
    if spec.init is not None:
        start: State = spec.init(batch_size if x is None else x)
        return start
    return _zeros(model, spec, batch_size if x is None else x.shape[0])


def trace(model: nn.Module, x: Tensor | None, steps: int, batch_size: int = 1) -> list[State]:
    """z₀ … z_steps of a model's own iteration.

    Raises:
        ValueError: an implicit model, which names no iteration (such a model overrides `trace`), or a wrong x.
    """
    spec = spec_of(model)
    if spec.iteration == "implicit":
        raise ValueError('iteration="implicit" names no loop to trace; override trace() with the solver you use')
    states = [initial_state(model, x, batch_size)]
    for _ in range(steps):
        z = states[-1]
        after = spec.step(z) if x is None else spec.step(z, x)
        if isinstance(spec.iteration, Damped):
            old = flatten_state(z)
            alpha = spec.iteration.tensor(old)
            after = unflatten_state((1 - alpha) * old + alpha * flatten_state(after), model.state_shape)
        states.append(after)
    return states


class RecursiveModel(nn.Module):
    """Base class of recursive models. Subclasses set the attributes and define `step`.

    Attributes:
        state_shape: tuple of integers, or a tuple of such tuples for a state of several parts.
        input_shape: tuple of integers, or None for an autonomous model.
        domain: the box that inputs lie in, or None for all of Rᵐ.
        iteration: `"picard"`, `Damped(alpha)`, or `"implicit"` (defined by z = f(z, x)).
        vocabulary: V when inputs are integers 0 … V−1, else None.

    `step(z, x)` (`step(z)` when autonomous) is required. `init(x)` (`init(batch_size)` when autonomous)
    defaults to zeros. `readout(z)` is optional: None when a subclass has none. Each may be a method, or a
    submodule or function assigned in `__init__`.
    """

    state_shape: Any = None
    input_shape: Shape | None = None
    domain: Box | None = None
    iteration: Iteration = "picard"
    vocabulary: int | None = None

    @property
    def input_kind(self) -> str | None:
        """`"real"`, `"integer"`, or None for an autonomous model."""
        if self.input_shape is None:
            return None
        return "real" if self.vocabulary is None else "integer"

    def __getattr__(self, name: str) -> Any:
        # `init` and `readout` are no class attributes: those would hide submodules of the same name.
        if name in ("init", "readout") and name not in self.__dict__.get("_modules", {}):
            return self.zero_state if name == "init" else None
        return super().__getattr__(name)

    def zero_state(self, x: Tensor | int) -> State:
        """The default `init`: zeros in the dtype of the weights, one row per row of x (or x rows)."""
        return _zeros(self, spec_of(self), x if isinstance(x, int) else x.shape[0])

    def forward(self, z: State, x: Tensor | None = None) -> State:
        """One step."""
        after: State = self.step(z) if self.input_shape is None else self.step(z, x)
        return after

    def trace(self, x: Tensor | None, steps: int, batch_size: int = 1) -> list[State]:
        """z₀ … z_steps of the model's own iteration, see `trace`."""
        return trace(self, x, steps, batch_size)

    def run(self, x: Tensor | None, steps: int, batch_size: int = 1) -> State:
        """z_steps of the model's own iteration."""
        return self.trace(x, steps, batch_size)[-1]


class _Wrapped(RecursiveModel):
    """What `recursive` returns."""

    def __init__(self, functions: dict[str, Callable[..., Any] | None], attributes: dict[str, Any]) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)
        for name, function in functions.items():
            if function is None:
                continue
            if not callable(function):
                raise ValueError(f"expected {name} to be a module or a function, found {function!r}")
            if not isinstance(function, nn.Module):
                self._capture(function)
            setattr(self, name, function)

    def _capture(self, function: Callable[..., Any]) -> None:
        """Register what a function closes over, so that `state_dict` and optimisers see it."""
        found: dict[str, Any] = {}
        owner = getattr(function, "__self__", None)
        if isinstance(owner, nn.Module):
            found["owner"] = owner
        elif inspect.isfunction(function):
            scope = inspect.getclosurevars(function)
            found = {**scope.globals, **scope.nonlocals}
        for name, value in found.items():
            if isinstance(value, (list, tuple)) and value and all(isinstance(v, nn.Module) for v in value):
                value = nn.ModuleList(value)
            if not isinstance(value, (nn.Module, Tensor)):
                continue
            while name == "step" or (hasattr(self, name) and getattr(self, name) is not value):
                name += "_"
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)


def recursive(
    step: nn.Module | Callable[..., Any],
    *,
    state_shape: Sequence[Any],
    input_shape: Sequence[int] | None = None,
    init: nn.Module | Callable[..., Any] | None = None,
    readout: nn.Module | Callable[..., Any] | None = None,
    domain: Box | None = None,
    iteration: Iteration = "picard",
    vocabulary: int | None = None,
) -> RecursiveModel:
    """Make a recursive model of any module or function.

    Args:
        step: `step(z, x)`, or `step(z)` when `input_shape` is None. Tensors carry one leading batch axis.
        state_shape: the state's shape without batch axis, or a tuple of shapes (then z is a tuple).
        input_shape: the input's shape without batch axis.
        init: `init(x)`, or `init(batch_size)` without input; zeros when omitted.
        readout: `readout(z)`, classes on the last axis.
        domain: the box that inputs lie in; None means all of Rᵐ.
        iteration: `"picard"`, `Damped(alpha)` or `"implicit"`.
        vocabulary: V when inputs are integers 0 … V−1.

    Raises:
        ValueError: the description does not fit together.
    """
    parts = state_shape if isinstance(state_shape, (tuple, list)) else state_parts(state_shape)
    shape = tuple(tuple(p) if isinstance(p, (tuple, list)) else p for p in parts)
    attributes = {
        "state_shape": shape, "input_shape": None if input_shape is None else tuple(input_shape),
        "domain": domain, "iteration": iteration, "vocabulary": vocabulary,
    }  # fmt: skip
    model = _Wrapped({"step": step, "init": init, "readout": readout}, attributes)
    spec_of(model)
    return model
