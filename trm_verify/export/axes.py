"""Where the batch axis sits in a torch shape, and how to leave it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from trm_verify.export.errors import BatchMixing, DataDependent

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BatchSize:
    """A size of `factor` times the batch size, or (None) some other expression in it."""

    factor: int | None


@dataclass(frozen=True)
class Axes:
    """A torch shape without its batch axis.

    Attributes:
        shape: the shape in the graph.
        batch: position of the batch axis in the torch shape, or None.
        merged: whether torch's axis `batch` is the batch axis merged with the graph's axis of that position, as
            `z.reshape(-1, d)` does; else the graph has no axis there.
        minor: whether the batch is the minor part of a merged axis, as in attention with tokens first.
    """

    shape: Shape
    batch: int | None = None
    merged: bool = False
    minor: bool = False

    @property
    def rank(self) -> int:
        """Number of torch axes."""
        return len(self.shape) + (self.batch is not None and not self.merged)

    @property
    def place(self) -> tuple[int | None, bool, bool]:
        """Where the batch axis is."""
        return self.batch, self.merged, self.minor

    @property
    def before(self) -> int:
        """Number of entries the batch axis is repeated for: the product of all axes more major than it."""
        return prod(self.shape[: (self.batch or 0) + self.minor])

    def axis(self, dim: int) -> int:
        """The graph's axis for a torch axis.

        Raises:
            BatchMixing: it is the batch axis.
        """
        dim = dim % max(self.rank, 1)
        if dim == self.batch:
            raise BatchMixing("expected rows of a batch not to interact, found an operation along the batch axis; "
                              "work on the axes after the first")  # fmt: skip
        return dim if self.batch is None or self.merged or dim < self.batch else dim - 1


def read_axes(sizes: Sequence[Any], symbol: Any) -> Axes:
    """Split a traced shape; `symbol` stands for the batch size.

    Raises:
        BatchMixing: the batch size enters in more than one axis, or not as a factor.
    """
    shape: list[int] = []
    batch, merged = None, False
    for position, size in enumerate(sizes):
        factor = read_size(size, symbol)
        if isinstance(factor, int):
            shape.append(factor)
            continue
        if factor.factor is None or batch is not None:
            raise BatchMixing(
                f"expected one batch axis, found shape {tuple(map(str, sizes))} for batch size {symbol}; rows of a "
                "batch must not be paired, appended or counted"
            )
        batch = position
        if factor.factor > 1:
            merged = True
            shape.append(factor.factor)
    return Axes(tuple(shape), batch, merged)


def read_size(size: Any, symbol: Any) -> int | BatchSize:
    """A size as an integer, or as a multiple of the batch size.

    Raises:
        DataDependent: it depends on values.
    """
    if not isinstance(size, torch.SymInt):
        return int(size)
    expression = size.node.expr
    if expression.is_Integer:
        return int(expression)
    if expression.free_symbols - {symbol}:
        raise DataDependent("expected shapes that do not depend on values, found a size that does (a boolean index, "
                            "nonzero, unique); use constant integer indices")  # fmt: skip
    factor = expression / symbol
    return BatchSize(int(factor) if factor.is_Integer else None)
