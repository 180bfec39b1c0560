"""What an ONNX graph is written with: nodes in order, initializers stored once, and values with their shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

Shape = tuple[int, ...]

DTYPES: dict[torch.dtype, int] = {
    torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16, torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE, torch.int64: TensorProto.INT64, torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16, torch.int8: TensorProto.INT8, torch.uint8: TensorProto.UINT8,
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph.

    Attributes:
        name: of the ONNX tensor.
        shape: as in the exact graph, without batch axis.
        batched: whether the ONNX tensor has a leading batch axis; constants have none, and broadcast.
        integer: whether it is int64, as integer inputs are; everything else is float32.
    """

    name: str
    shape: Shape
    batched: bool = False
    integer: bool = False

    @property
    def first(self) -> int:
        """The ONNX axis that is the first of `shape`."""
        return int(self.batched)


class Emitter:
    """Collects the nodes and initializers of one ONNX graph.

    Attributes:
        scope: what the names of new nodes start with.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.scope = ""
        self.batch: str | None = None
        self._tensors = tensors
        self._names: dict[str, int] = {}
        self._literals: dict[str, str] = {}
        self._cast: dict[str, Value] = {}

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """One more node; the name of its output."""
        stem = f"{self.scope}/{op}" if self.scope else op
        count = self._names.get(stem, 0)
        self._names[stem] = count + 1
        name = f"{stem}_{count}" if count else stem
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def literal(self, value: np.ndarray) -> str:
        """An initializer that is no stored tensor; equal ones are stored once."""
        key = hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()
        if key not in self._literals:
            name = f"literal_{len(self._literals)}"
            while name in self._tensors:
                name += "_"
            self._literals[key] = name
            self.initializers[name] = onnx.numpy_helper.from_array(value, name)
        return self._literals[key]

    def integers(self, values: Sequence[int]) -> str:
        """An initializer of int64 numbers: axes, shapes, indices."""
        return self.literal(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.literal(np.array(value, dtype=np.float32))

    def stored(self, name: str) -> Value:
        """A stored tensor, bit for bit under its own name, and as float32 where it is not that already."""
        tensor = self._tensors[name]
        if name not in self._cast:
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            shape = tuple(tensor.shape)
            self.initializers[name] = helper.make_tensor(name, DTYPES[tensor.dtype], shape, raw, raw=True)
            scope, self.scope = self.scope, name
            cast = name if tensor.dtype == torch.float32 else self.add("Cast", [name], to=TensorProto.FLOAT)
            self.scope = scope
            self._cast[name] = Value(cast, shape)
        return self._cast[name]

    def real(self, value: Value) -> Value:
        """The same as float32."""
        if not value.integer:
            return value
        return Value(self.add("Cast", [value.name], to=TensorProto.FLOAT), value.shape, value.batched)

    def with_batch(self, value: Value) -> Value:
        """The same with a batch axis: the batch's size where the model has an input, else 1."""
        if value.batched:
            return value
        if self.batch is None:
            return Value(self.add("Unsqueeze", [value.name, self.integers([0])]), value.shape, True, value.integer)
        size = self.add("Shape", [self.batch], start=0, end=1)
        shape = self.add("Concat", [size, self.integers(value.shape)], axis=0) if value.shape else size
        return Value(self.add("Expand", [value.name, shape]), value.shape, True, value.integer)
