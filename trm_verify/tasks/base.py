"""What a task is: fixed splits, a metric, and where its inputs lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trm_verify.model import Box


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets, row by row.

    Shape: x (rows, *input_shape), y (rows, *positions) with class labels.

    Raises:
        ValueError: no rows, or not one target a row.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x) == 0 or len(self.x) != len(self.y):
            raise ValueError(
                f"Split: expected one target for each of at least one row, found {len(self.x)} inputs "
                f"and {len(self.y)} targets"
            )

    def __len__(self) -> int:
        return len(self.x)


def accuracy(logits: Tensor, target: Tensor) -> float:
    """Fraction of rows whose arg-max is right at every output position.

    Shape: logits (rows, *positions, classes), target (rows, *positions).
    """
    right = (logits.argmax(dim=-1) == target).reshape(len(target), -1).all(dim=1)
    return float(right.double().mean())


@dataclass(frozen=True, eq=False)
class Task:
    """A task with fixed splits.

    Attributes:
        name: key in `TASKS`.
        train: what parameters are fitted to.
        validation: what the best parameters are chosen by.
        test: what the final number is measured on, and nothing else.
        classes: number of answers per output position.
        domain: a box that holds every admissible input.
        metric: `metric(logits, target)`, larger is better.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    domain: Box | None
    metric: Callable[[Tensor, Tensor], float] = field(default=accuracy)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without batch axis."""
        return tuple(self.train.x.shape[1:])

    def baseline(self) -> float:
        """The metric of the nearest training example in ℓ2 on the test split: what no training at all
        gives.
        """
        distances = torch.cdist(self.test.x.flatten(1).double(), self.train.x.flatten(1).double())
        nearest = self.train.y[distances.argmin(dim=1)]
        return self.metric(torch.nn.functional.one_hot(nearest, self.classes), self.test.y)
