"""What a model of this library adds to a recursive model: a configuration it can be rebuilt from, baking, a size."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from trm_verify import nn as layers
from trm_verify.model import Damped, RecursiveModel, State, flatten_state, initial_state, unflatten_state


class ConfiguredModel(RecursiveModel):
    """A recursive model that is rebuilt by `type(model)(**model.config)`.

    Subclasses pass every constructor argument to `set_config`, as plain JSON values, so that a saved model
    can be made again without storing code.

    Attributes:
        rate: the contraction rate of an application of the model's iteration that the parametrization aims for, in
            `norm`, for every input; None where there is none by construction.
        norm: "l2", "tokens_l2" (maximum over tokens and parts of ℓ2) or "linf".
        settles: number of steps after which the loop is exactly at rest, by construction, for every start and input;
            None where there is none.
    """

    rate: float | None = None
    norm: str = "l2"
    settles: int | None = None

    def __init__(self) -> None:
        super().__init__()
        # Text, so that the attribute is immutable and surely JSON.
        self._config = "{}"
        self.baked = False

    def set_config(self, **config: Any) -> None:
        """Remember the constructor's arguments (JSON values only)."""
        self._config = json.dumps(config, sort_keys=True, allow_nan=False)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        config: dict[str, Any] = json.loads(self._config)
        return config

    @property
    def parameter_count(self) -> int:
        """Numbers the model learns (for a baked model: numbers it stores); shared parameters count once."""
        return sum(p.numel() for p in self.parameters())

    @property
    def head_weight(self) -> Tensor | None:
        """The matrix of a readout that is linear in each last-axis row of the (answer) state; None for other ones.

        Shape: (classes, features).
        """
        return None

    def local_gain(self, z: State, x: Tensor) -> Tensor | None:
        """What a bound layer by layer says of the step near (z, x) in ℓ∞, for every state entry, differentiably in the
        weights; None for models that have no such bound of their own.

        Shape: (batch, …).
        """
        return None

    def settled(self, x: Tensor) -> State:
        """The state in which a loop that `settles` comes to rest, computed at once and differentiably.

        Raises:
            ValueError: a model that does not settle.
        """
        raise ValueError(
            f"{type(self).__name__}.settled: expected a model that settles exactly, such as CausalRefiner, found one "
            "that does not; iterate it"
        )

    @classmethod
    def arguments(cls, input_shape: tuple[int, ...], vocabulary: int | None = None) -> dict[str, Any]:
        """Constructor arguments that inputs of this shape (without batch axis) ask for.

        Raises:
            ValueError: inputs that this family does not take.
        """
        raise ValueError(
            f"{cls.__name__}: expected a family that says which inputs it takes, found none; build it yourself"
        )

    def bake(self) -> Self:
        """The deployed model: the same class, every bounded layer replaced by its baked form, frozen.

        Baking a baked model gives an equal copy.
        """
        clone = cast(Self, layers.bake(self))
        clone.baked = True
        return clone

    def save_pretrained(self, directory: Path | str) -> Path:
        """`tv.save_pretrained(self, directory)`, see there."""
        import trm_verify  # its public names are found when asked for: models do not depend on what saves them

        return trm_verify.save_pretrained(self, directory)

    @classmethod
    def from_pretrained(
        cls, directory: Path | str, *, trainable: bool = False, device: torch.device | str | None = None
    ) -> Self:
        """`tv.from_pretrained(directory, …)`, see there, of a model of this class.

        Raises:
            ValueError: another class is saved there.
        """
        import trm_verify

        found = trm_verify.from_pretrained(directory, trainable=trainable, device=device)
        if not isinstance(found, cls):
            raise ValueError(
                f"{cls.__name__}.from_pretrained: expected a saved {cls.__name__} in {str(directory)!r}, found a "
                f"{type(found).__name__}; tv.from_pretrained loads any"
            )
        return found

    def at(self, *, shared: bool = False, **changes: Any) -> Self:
        """The same weights in a model of another size: a causal model at other lengths, a planner on other grids.

        Args:
            shared: whether both models own the same parameters, so that training one trains the other; otherwise the
                new one has copies.
            changes: constructor arguments that differ, none of which may change the shape of a parameter.

        Raises:
            ValueError: an argument that the model does not have, or parameters of other shapes.
        """
        config = self.config
        unknown = sorted(changes.keys() - config.keys())
        if unknown:
            raise ValueError(f"{type(self).__name__}.at: expected arguments among {sorted(config)}, found {unknown}")
        model = type(self)(**{**config, **changes})
        if self.baked:
            model = model.bake()
        model.to(next(self.parameters()))
        own, other = self._tensors(), model._tensors()
        differ = sorted(n for n in own.keys() | other.keys() if _shape(own.get(n)) != _shape(other.get(n)))
        if differ:
            raise ValueError(
                f"{type(self).__name__}.at: expected the same weights at {changes}, found that {differ[0]} changes "
                f"from {_shape(own.get(differ[0]))} to {_shape(other.get(differ[0]))}; train a model of that size"
            )
        for name, value in own.items():
            other[name].data.copy_(value.data)
        if shared:
            for name, parameter in self.named_parameters():
                owner, _, last = name.rpartition(".")
                setattr(model.get_submodule(owner), last, parameter)
        return model.train(self.training)

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, hints to provers (buffers outside the state) included."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class EncodedModel(ConfiguredModel):
    """A model whose step sees its input through an encoding: `step(z, x) = refine(z, encode(x))`.

    A loop encodes its input once instead of once a step; the exported step encodes it.
    """

    @abstractmethod
    def encode(self, x: Tensor) -> Any:
        """What the step sees of x: a tensor, or a tuple of them.

        Shape: x (batch, *input_shape); the result has the batch axis too, but for parts that are the same for all x.
        """

    @abstractmethod
    def refine(self, z: Any, encoded: Any) -> State:
        """One step from z.

        Shape: z and the result (batch, *state_shape), part by part; encoded as `encode` gives it.
        """

    def step(self, z: State, x: Tensor) -> State:
        """One step."""
        return self.refine(z, self.encode(x))

    def trace(self, x: Tensor | None, steps: int, batch_size: int = 1) -> list[State]:
        """z₀ … z_steps of the model's own iteration."""
        states = [initial_state(self, x, batch_size)]
        once = iteration(self, x)
        for _ in range(steps):
            states.append(once(states[-1]))
        return states


def iteration(model: RecursiveModel, x: Tensor | None) -> Callable[[State], State]:
    """One application of the model's own iteration at input x, damping included, as a function of the state.

    Raises:
        ValueError: an implicit model, which names no iteration.
    """
    if model.iteration == "implicit":
        raise ValueError('iteration="implicit" names no loop; override trace() with the solver you use')
    step: Callable[[State], State]
    if isinstance(model, EncodedModel) and x is not None:
        encoded, encoder = model.encode(x), model

        def step(z: State) -> State:
            return encoder.refine(z, encoded)
    else:

        def step(z: State) -> State:
            return model.forward(z, x)

    if not isinstance(model.iteration, Damped):
        return step
    damping = model.iteration

    def damped(z: State) -> State:
        old = flatten_state(z)
        alpha = damping.tensor(old)
        return unflatten_state((1 - alpha) * old + alpha * flatten_state(step(z)), model.state_shape)

    return damped


def token_arguments(input_shape: tuple[int, ...], vocabulary: int | None) -> dict[str, Any]:
    """Arguments of models that see a grid of tokens: integers, or channels of reals on the last axis.

    Raises:
        ValueError: no position or no channel axis.
    """
    positions = input_shape if vocabulary is not None else input_shape[:-1]
    if not positions:
        raise ValueError(
            f"expected inputs of shape (*positions, channels), or (*positions,) of integers, found {input_shape}"
        )
    channels = None if vocabulary is not None else input_shape[-1]
    return {"positions": list(positions), "channels": channels, "vocabulary": vocabulary}


def grid_arguments(owner: str, input_shape: tuple[int, ...], vocabulary: int | None) -> dict[str, Any]:
    """Arguments of models that see a grid of reals.

    Raises:
        ValueError: no such grid.
    """
    if len(input_shape) != 3 or vocabulary is not None:
        raise ValueError(
            f"{owner}: expected reals of shape (height, width, channels), found {input_shape}"
            + ("" if vocabulary is None else " of integers; use task options or models for one-hot channels")
        )
    return dict(zip(("height", "width", "channels"), input_shape, strict=True))


def distance(norm: str, first: State, second: State) -> Tensor:
    """How far two states are from each other, row by row, differentiably.

    Args:
        norm: "l2", "tokens_l2" (largest ℓ2 norm of a last-axis row) or "linf".

    Shape: states (batch, …), result (batch,).
    """
    parts = (first, second) if isinstance(first, Tensor) and isinstance(second, Tensor) else None
    pairs = [parts] if parts is not None else list(zip(first, second, strict=True))
    if norm == "l2":
        whole: Tensor = torch.linalg.vector_norm(torch.cat([(a - b).flatten(1) for a, b in pairs], dim=1), dim=1)
        return whole
    if norm not in ("tokens_l2", "linf"):
        raise ValueError(f'distance: expected norm "l2", "tokens_l2" or "linf", found {norm!r}')
    each = [torch.linalg.vector_norm(a - b, dim=-1) if norm == "tokens_l2" else (a - b).abs() for a, b in pairs]
    largest: Tensor = torch.cat([part.flatten(1) for part in each], dim=1).amax(dim=1)
    return largest


def _shape(value: Tensor | nn.Parameter | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
