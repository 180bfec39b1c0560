"""Models under test: how they run in float64, how they are spelled as code, and variants with rounded weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import frexp, prod
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.export import export
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.model import Box, Damped, ModelSpec, RecursiveModel, State, spec_of
from trm_verify.models.base import ConfiguredModel
from trm_verify.verification.deployed import Deployed

Floats = Sequence[float]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh, "identity": lambda a: a}
UNSPELLED = "model = ...  # the model under test"


class AffineStep(RecursiveModel):
    """`z ← φ(Az + Bx + b)` with readout `Cz + c`, spelled by its numbers: `repr` gives the code that makes it again.

    Args:
        A: n rows of n numbers.
        B: n rows of m numbers; None for a model without input.
        b: n numbers, zeros if omitted.
        C: a row a class; None for no readout.
        c: a number a class, zeros if omitted.
        activation: relu, tanh or identity.
        bound: inputs lie in [−bound, bound].
    """

    def __init__(
        self, A: Sequence[Floats], B: Sequence[Floats] | None = None, b: Floats | None = None,
        C: Sequence[Floats] | None = None, c: Floats | None = None, activation: str = "relu", bound: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"expected an activation among {', '.join(ACTIVATIONS)}, found {activation!r}")
        self._spelled = {"A": A, "B": B, "b": b, "C": C, "c": c, "activation": activation, "bound": bound}
        self.state_shape, self.input_shape = (len(A),), None if B is None else (len(B[0]),)
        self.domain = None if B is None else Box(-bound, bound)
        self._activation = ACTIVATIONS[activation]
        self.mix, self.feed = _layer(A, b), None if B is None else _layer(B, None)
        if C is not None:
            self.readout = _layer(C, c)

    def step(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """One step. Shape: z (batch, n), x (batch, m)."""
        moved: Tensor = self.mix(z)
        if self.feed is not None and x is not None:
            moved = moved + self.feed(x)
        return self._activation(moved)

    def __repr__(self) -> str:
        given = {name: value for name, value in self._spelled.items() if value is not None}
        return f"AffineStep({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def _layer(weight: Sequence[Floats], bias: Floats | None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        layer.bias.copy_(torch.tensor([0.0] * len(weight) if bias is None else bias, dtype=torch.float64))
    return layer


class GraphModel(RecursiveModel):
    """A model made of an exact graph and tensors for it. It computes in the dtype of its tensors."""

    def __init__(self, spec: ModelSpec, graph: dict[str, Any], tensors: Mapping[str, Tensor], source: str) -> None:
        super().__init__()
        self.state_shape = spec.parts if spec.tuple_state else spec.parts[0]
        self.input_shape, self.domain, self.vocabulary = spec.input_shape, spec.domain, spec.vocabulary
        self.iteration, self.source, self._graph = spec.iteration, source, graph
        self._names = {name: f"weight_{i}" for i, name in enumerate(sorted(tensors))}
        for name, attribute in self._names.items():
            self.register_buffer(attribute, tensors[name])
        if graph["readout"] is not None:
            self.readout = self._readout
        if graph["init"] is not None:
            self.init = self._init

    def _lowered(self) -> LoweredGraph:
        tensors = {name: getattr(self, attribute) for name, attribute in self._names.items()}
        like = next((t for t in tensors.values() if t.is_floating_point()), torch.zeros(0))
        return LoweredGraph(self._graph, tensors, like.dtype, like.device)

    def _state(self, parts: tuple[Tensor, ...]) -> State:
        return parts if len(self._graph["state"]) > 1 or isinstance(self.state_shape[0], tuple) else parts[0]

    def step(self, z: State, x: Tensor | None = None) -> State:
        """One step."""
        return self._state(self._lowered().step(z if isinstance(z, tuple) else (z,), x))

    def _init(self, x: Tensor | int) -> State:
        lowered = self._lowered()
        return self._state(lowered.init(batch_size=x) if isinstance(x, int) else lowered.init(x))

    def _readout(self, z: State) -> Tensor:
        return self._lowered().readout(z if isinstance(z, tuple) else (z,))

    def __repr__(self) -> str:
        return self.source


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test.

    Attributes:
        model: the model.
        source: lines of code that bind it to the name `model`.
    """

    model: nn.Module
    source: str

    @classmethod
    def of(cls, given: nn.Module | Callable[[], nn.Module] | Subject) -> Subject:
        """A model, or a function that makes one: an importable function gives counterexamples that run as printed."""
        if isinstance(given, Subject):
            return given
        if isinstance(given, (AffineStep, GraphModel)):
            return cls(given, f"model = {given!r}")
        if isinstance(given, nn.Module):
            return cls(given, UNSPELLED)
        model = given()
        if not isinstance(model, nn.Module):
            raise ValueError(f"expected a model or a function that makes one, found {given!r}")
        module, name = getattr(given, "__module__", ""), getattr(given, "__qualname__", "")
        importable = inspect.isfunction(given) and name.isidentifier() and module != "__main__"
        return cls(model, f"from {module} import {name}\nmodel = {name}()" if importable else UNSPELLED)

    @cached_property
    def spec(self) -> ModelSpec:
        return spec_of(self.model)

    @cached_property
    def deployed(self) -> Deployed:
        """The model as it is certified, with its exact graph in float64."""
        return Deployed.of(self.model)

    @cached_property
    def _narrow(self) -> LoweredGraph:
        exported = self.deployed.exported
        return lower(exported.graph, exported.tensors, dtype=torch.float32)

    @property
    def input_size(self) -> int:
        return self.spec.input_size

    def state(self, values: Floats | Tensor) -> Tensor:
        """A flat state in float64. Shape: (1, n).

        Raises:
            ValueError: another number of coordinates.
        """
        flat = torch.as_tensor(values, dtype=torch.float64).reshape(1, -1)
        if flat.shape[1] != self.spec.state_size:
            raise ValueError(f"expected {self.spec.state_size} coordinates of a state, found {flat.shape[1]}")
        return flat

    def input(self, values: Floats | Tensor | None) -> Tensor | None:
        """An input of the model. Shape: (1, *input_shape).

        Raises:
            ValueError: another number of coordinates.
        """
        shape = self.spec.input_shape
        if shape is None:
            return None
        dtype = torch.float64 if self.spec.vocabulary is None else torch.long
        flat = torch.as_tensor([] if values is None else values).to(dtype).reshape(-1)
        if flat.numel() != prod(shape):
            raise ValueError(f"expected {prod(shape)} coordinates of an input, found {flat.numel()}")
        return flat.reshape(1, *shape)

    def initial(self, x: Tensor | None) -> Tensor:
        """z₀. Shape: (1, n)."""
        return _flat(self.deployed.lowered.init(x))

    def iterate(self, z: Tensor, x: Tensor | None) -> Tensor:
        """One application of the model's own iteration (of the step, for an implicit model).

        Shape: z (batch, n), float64 or float32; it computes in the dtype of z.
        """
        lowered = self._narrow if z.dtype == torch.float32 else self.deployed.lowered
        after = _flat(lowered.step(self.parts(z), x))
        if isinstance(self.spec.iteration, Damped):
            alpha = self.spec.iteration.tensor(z)
            return (1 - alpha) * z + alpha * after
        return after

    def logits(self, z: Tensor) -> Tensor:
        """Shape: (batch, positions, classes)."""
        found = self.deployed.lowered.readout(self.parts(z))
        return found.reshape(len(z), -1, found.shape[-1])

    def parts(self, z: Tensor) -> tuple[Tensor, ...]:
        """The parts of flat states."""
        split = torch.split(z, [prod(p) for p in self.spec.parts], dim=1)
        return tuple(t.reshape(len(z), *p) for t, p in zip(split, self.spec.parts, strict=True))


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.reshape(p.shape[0], -1) for p in parts], dim=1)


def _variant(model: nn.Module, call: str, rounded: Callable[[Tensor], Tensor]) -> GraphModel:
    base = model.bake() if isinstance(model, ConfiguredModel) else model
    exported, subject = export(base), Subject.of(model)
    tensors = {n: rounded(t.detach()) if t.is_floating_point() else t.detach() for n, t in exported.tensors.items()}
    spelled = repr(model) if subject.source != UNSPELLED else "..."
    return GraphModel(spec_of(base), exported.graph, tensors, f"{call.format(spelled)}")


def quantized(model: nn.Module, bits: int = 8) -> GraphModel:
    """The same graph over weights of so many bits: every tensor rounded to multiples of one power of two.

    A model of its own, with its own digest: what was proved of the original says nothing about it.

    Raises:
        ValueError: fewer than two bits. ExportError: the model cannot be exported.
    """
    if bits < 2:
        raise ValueError(f"expected bits >= 2, found {bits!r}")

    def rounded(tensor: Tensor) -> Tensor:
        wide = tensor.double()
        largest = float(wide.abs().max()) if wide.numel() else 0.0
        if largest == 0:
            return wide
        unit = 2.0 ** (frexp(largest)[1] - (bits - 1))  # frexp: the next power of two
        limit = 2 ** (bits - 1) - 1
        return (wide / unit).round().clamp(-limit, limit) * unit

    return _variant(model, f"quantized({{}}, bits={bits})", rounded)


def half(model: nn.Module) -> GraphModel:
    """The same graph over weights rounded to float16 (it computes in float64, so the weights are all that changes).

    Raises:
        ExportError: the model cannot be exported. ValueError: a weight is too large for float16.
    """

    def rounded(tensor: Tensor) -> Tensor:
        found = tensor.half()
        if not bool(found.isfinite().all()):
            raise ValueError("expected weights below 65520, which float16 can hold, found larger ones")
        return found.double()

    return _variant(model, "half({})", rounded)
