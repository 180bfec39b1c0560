"""The exponential moving average of a model's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """`a ← d·a + (1 − d)·p` after every optimizer step, from a = p at the start.

    The decay of step t is `min(decay, (1 + t)/(10 + t))`, so that the average forgets the random start.

    Attributes:
        values: the averaged parameters, by name.
        steps: updates so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {name: p.detach().clone() for name, p in _trained(model).items()}

    def update(self, model: nn.Module) -> None:
        """Take in the model's present parameters."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                self.values[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged parameters until the context is left."""
        parameters = _trained(model)
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            _fill(parameters, self.values)
            yield
        finally:
            _fill(parameters, kept)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _fill(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
