"""What a task is: splits without leaks, metrics, a baseline, a way to look at an item, and where inputs lie.

Inputs carry their channels on the last axis: bits and symbols of a sequence are (positions, channels), grids are
(height, width, channels). Targets are class labels per position; a position that does not count holds `IGNORE`,
the label that torch's cross-entropy leaves out as well, so an objective needs no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trm_verify.model import Box, RecursiveModel

IGNORE = -100
"""The target of a position that does not count: `ignore_index` of torch's cross-entropy."""

Metric = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets, row by row.

    Shape: x (rows, *input_shape), y (rows, *positions) with class labels or `IGNORE`.

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
    """Fraction of rows whose arg-max is right at every output position that counts.

    Shape: logits (rows, *positions, classes), target (rows, *positions).
    """
    right = ((logits.argmax(dim=-1) == target) | (target == IGNORE)).reshape(len(target), -1).all(dim=1)
    return float(right.double().mean())


def position_accuracy(logits: Tensor, target: Tensor) -> float:
    """Fraction of the positions that count whose arg-max is right.

    Shape: logits (rows, *positions, classes), target (rows, *positions).
    """
    counts = target != IGNORE
    return float((logits.argmax(dim=-1) == target)[counts].double().mean())


@dataclass(frozen=True)
class Baseline:
    """What an honest method without training a model reaches.

    Attributes:
        name: what it does, in a few words.
        answers: logits (or one-hot answers) for the rows of `task.test`; it may look at `task.train`.
    """

    name: str
    answers: Callable[[Task], Tensor]


def _nearest(task: Task) -> Tensor:
    test, known = (_features(split.x, task.vocabulary) for split in (task.test, task.train))
    return one_hot(task.train.y[torch.cdist(test, known).argmin(dim=1)].clamp_min(0), task.classes)


def _features(x: Tensor, vocabulary: int | None) -> Tensor:
    return (x if vocabulary is None else one_hot(x, vocabulary)).flatten(1).double()


def _majority(task: Task) -> Tensor:
    y = task.train.y
    counts = torch.stack([(y == label).sum(dim=0) for label in range(task.classes)], dim=-1)
    return counts.expand(len(task.test), *counts.shape)


NEAREST = Baseline("the nearest training example", _nearest)
MAJORITY = Baseline("the most frequent answer at each position", _majority)


def _plain(x: Tensor, y: Tensor) -> str:
    return f"{x.tolist()}\n→ {y.tolist()}"


@dataclass(frozen=True, eq=False)
class Task:
    """A task with fixed splits, at one size.

    Attributes:
        name: key in `TASKS`.
        train: what parameters are fitted to.
        validation: what the best parameters are chosen by.
        test: what the final number is measured on, and nothing else.
        classes: number of answers per output position.
        domain: a box that holds every admissible input; None where inputs are symbols.
        metric: `metric(logits, target)`, larger is better: the number that the task is about.
        metrics: further metrics by name, the first one included.
        vocabulary: V where inputs are symbols 0 … V−1, None where they are numbers.
        difficulty: the size of this problem, where there are several.
        difficulties: sizes worth training and testing on, easiest first; `at` takes others as well.
        sized: the same task at another size.
        text: an item as text, see `show`.
        reference: the baseline.
        ties: `ties(target)` marks every class that is right, where several may be, and training asks for any of them;
            None: the target's alone is. Shape: (rows, *positions) to (rows, *positions, classes), bool.
        solver: the model that solves the task by construction, where the loop is a known method and not learned.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    domain: Box | None
    metric: Metric = field(default=accuracy)
    metrics: Mapping[str, Metric] = field(
        default_factory=lambda: MappingProxyType({"exact": accuracy, "position": position_accuracy})
    )
    vocabulary: int | None = None
    difficulty: int | None = None
    difficulties: tuple[int, ...] = ()
    sized: Callable[[int], Task] | None = None
    text: Callable[[Tensor, Tensor], str] = field(default=_plain)
    reference: Baseline = field(default=NEAREST)
    ties: Callable[[Tensor], Tensor] | None = None
    solver: RecursiveModel | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without batch axis."""
        return tuple(self.train.x.shape[1:])

    def at(self, difficulty: int) -> Task:
        """The same task, with the same options, at another size.

        Raises:
            ValueError: the task has one size only, or not that one.
        """
        if self.sized is None:
            raise ValueError(f"task {self.name!r}: expected a task of several sizes, found one that has no other size")
        return self.sized(difficulty)

    def baseline(self) -> float:
        """The metric that `reference` reaches on the test split."""
        return self.metric(self.reference.answers(self), self.test.y)

    def show(self, x: Any, y: Any) -> str:
        """One item as text that a person can read.

        Shape: x (*input_shape), y (*positions): a row of a split, or x with a model's answer `logits.argmax(-1)`.

        Raises:
            ValueError: another shape.
        """
        x, y = torch.as_tensor(x).detach().cpu(), torch.as_tensor(y).detach().cpu()
        wanted = (self.input_shape, tuple(self.train.y.shape[1:]))
        if (tuple(x.shape), tuple(y.shape)) != wanted:
            raise ValueError(
                f"show: expected one item without batch axis, x {wanted[0]} and y {wanted[1]}; "
                f"found x {tuple(x.shape)} and y {tuple(y.shape)}"
            )
        return self.text(x, y)

    def symbols(self) -> Task:
        """The same task with integer inputs in place of one-hot channels, for models that embed symbols.

        Raises:
            ValueError: the inputs are not one-hot on their last axis.
        """
        splits = (self.train, self.validation, self.test)
        width = self.train.x.shape[-1]
        if self.vocabulary is not None or not all(_is_one_hot(split.x) for split in splits):
            raise ValueError(
                f"task {self.name!r}: expected one-hot inputs (one 1 and zeros on the last axis), found others"
            )
        train, validation, test = (Split(split.x.argmax(dim=-1), split.y) for split in splits)
        sized, text = self.sized, self.text
        return replace(
            self,
            train=train,
            validation=validation,
            test=test,
            domain=None,
            vocabulary=width,
            sized=None if sized is None else lambda size: sized(size).symbols(),
            text=lambda x, y: text(one_hot(x, width), y),
        )


def _is_one_hot(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all()) and bool((x.sum(dim=-1) == 1).all())


def one_hot(symbols: Tensor, classes: int) -> Tensor:
    """Float channels, one 1 among zeros, on a new last axis."""
    return functional.one_hot(symbols.long(), classes).float()


def cut(x: Tensor, y: Tensor, train: int, validation: int, test: int) -> tuple[Split, Split, Split]:
    """Consecutive rows as the three splits."""
    ends = (train, train + validation, train + validation + test)
    return (
        Split(x[: ends[0]], y[: ends[0]]),
        Split(x[ends[0] : ends[1]], y[ends[0] : ends[1]]),
        Split(x[ends[1] : ends[2]], y[ends[1] : ends[2]]),
    )


def check_sizes(name: str, size: int, smallest: int, **counts: int) -> None:
    """Refuse a size or a number of rows that makes no task.

    Raises:
        ValueError: see above.
    """
    if size < smallest:
        raise ValueError(f"{name}: expected a size of at least {smallest}, found {size}")
    for what, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: expected at least one row to {what}, found {count}")


_IDLE = 4  # draws in a row without a new item after which there seem to be no more


def distinct(
    draw: Callable[[int], np.ndarray], key: Callable[[np.ndarray], np.ndarray], rows: int, name: str
) -> np.ndarray:
    """`rows` random items of which no two have the same key, in the order in which they were drawn.

    Args:
        draw: that many random items.
        key: one row of bytes or numbers an item; equal for items that count as copies of each other.

    Raises:
        ValueError: the items ran out.
    """
    kept: list[np.ndarray] = []
    seen: set[bytes] = set()
    idle = 0
    while idle < _IDLE:
        items, before = draw(rows), len(kept)
        for item, row in zip(items, key(items), strict=True):
            digest = row.tobytes()
            if digest not in seen:
                seen.add(digest)
                kept.append(item)
                if len(kept) == rows:
                    return np.stack(kept)
        idle = 0 if len(kept) > before else idle + 1
    raise ValueError(
        f"{name}: expected {rows} different items, found {len(kept)}; ask for fewer rows or for a larger size"
    )
