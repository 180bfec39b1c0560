"""The stored tensors that exported graphs name."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.export.errors import ExportError, NonFiniteWeights

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _content(tensor: Tensor) -> str:
    tensor = tensor.detach().cpu().contiguous()
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(head + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


class Tensors:
    """Names for tensors: those of the model's `state_dict`, and new ones for what export evaluates.

    Attributes:
        used: the tensors that graphs refer to, by name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.used: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._own: dict[str, Tensor] = {}
        self._baked: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        own = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
        for name, tensor in (*own.items(), *model.named_buffers()):
            if self._names.setdefault(_identity(tensor), name) == name:
                self._own[name] = tensor

    def name_of(self, tensor: Tensor) -> str | None:
        """The model's own name for this storage."""
        return self._names.get(_identity(tensor)) if tensor.numel() else None

    def own(self, name: str) -> str:
        """Mark one of the model's tensors as used."""
        self._store(name, self._own[name])
        return name

    def bake(self, tensor: Tensor, stem: str, numbered: bool) -> str:
        """Store a new tensor; equal tensors are stored once. The name is `stem`, numbered if need be."""
        content = _content(tensor)
        if content not in self._baked:
            count = self._counts.get(stem, 0)
            name = f"{stem}.{count}" if numbered or count else stem
            while name in self._own or name in self.used:
                count += 1
                name = f"{stem}.{count}"
            self._counts[stem] = count + 1
            self._store(name, tensor)
            self._baked[content] = name
        return self._baked[content]

    def _store(self, name: str, tensor: Tensor) -> None:
        if name in self.used:
            return
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bool:
            tensor = tensor.to(torch.uint8)
        if tensor.dtype not in FLOATS + INTEGERS:
            raise ExportError(
                f"expected tensor {name!r} in one of {[str(d) for d in FLOATS + INTEGERS]}, found {tensor.dtype}; "
                "convert the model first"
            )
        finite = torch.isfinite(tensor)
        if not bool(finite.all()):
            where = torch.nonzero(~finite.reshape(tensor.shape))[0].tolist()
            raise NonFiniteWeights(
                f"expected finite numbers in tensor {name!r}, found {tensor[tuple(where)].item()} at index {where}; "
                "restore an earlier checkpoint, or find the step of training that broke it"
            )
        self.used[name] = tensor.clone(memory_format=torch.contiguous_format)
