"""`export(model)`: a recursive model as an exact graph over stored tensors (docs/format.md, section 2).

That the graph computes what the model computes is tested here, not proved: every export traces the model twice
and compares both with each other and with the eager model on batches of one, three and permuted rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from trm_verify.export import ops_layout, ops_linear, ops_norm, ops_pointwise  # noqa: F401  (they register handlers)
from trm_verify.export.capture import EXAMPLE_BATCH, capture, check_logits, check_parts
from trm_verify.export.errors import (
    BatchMixing,
    BufferUpdate,
    DataDependent,
    ExportError,
    NonFiniteWeights,
    NotDeterministic,
    RandomInStep,
    ShapeChanged,
    TrainingMode,
    UnknownOperation,
    WrongOutput,
)
from trm_verify.export.selfcheck import Samples, compare_graphs, compare_with_eager
from trm_verify.export.tensors import Tensors
from trm_verify.export.translate import Translator
from trm_verify.export.untouched import untouched
from trm_verify.model import ModelSpec, spec_of

__all__ = [
    "BatchMixing",
    "BufferUpdate",
    "DataDependent",
    "ExportError",
    "Exported",
    "NonFiniteWeights",
    "NotDeterministic",
    "RandomInStep",
    "ShapeChanged",
    "TrainingMode",
    "UnknownOperation",
    "WrongOutput",
    "canonical",
    "export",
]


def canonical(graph: dict[str, Any]) -> bytes:
    """The graph's canonical JSON, which its digest is taken of."""
    return json.dumps(graph, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


@dataclass(frozen=True, eq=False)
class Exported:
    """An exact graph and the stored tensors it names.

    Attributes:
        graph: as in docs/format.md, section 2.
        tensors: only those that the graph uses, in their own dtypes, detached copies on the CPU.
    """

    graph: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical graph, in hexadecimal."""
        return hashlib.sha256(canonical(self.graph)).hexdigest()

    def to_bytes(self) -> bytes:
        """The tensors as a safetensors file, the bytes that a certificate names by digest."""
        data: bytes = save(dict(sorted(self.tensors.items())))
        return data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tensors as safetensors: a temporary file in the same directory, then a rename.

        Raises:
            OSError: the target cannot be written; nothing is left behind.
        """
        target = Path(path)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        try:
            save_file(dict(sorted(self.tensors.items())), temporary)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def export(model: nn.Module, *, fold: bool = True, seed: int = 0) -> Exported:
    """Export a recursive model. The model is left as it was.

    Args:
        model: see `trm_verify.model`.
        fold: evaluate parameter-only subgraphs (parametrizations, batch normalization) once, in the model's dtype,
            and store the results. False keeps them as exact constant expressions over the stored parameters, and
            refuses those that have none.
        seed: for the inputs of the self-check.

    Raises:
        ExportError: a subclass that names the operation, the line it came from and what to do.
        ValueError: the model's description is wrong.
    """
    spec = spec_of(model)
    samples = Samples(model, spec, seed)
    with untouched(model):
        first = _build(model, spec, samples, fold)
        second = _build(model, spec, samples, fold)
        compare_graphs((first.graph, first.tensors), (second.graph, second.tensors))
        compare_with_eager(spec, samples, first.graph, first.tensors)
    return first


def _build(model: nn.Module, spec: ModelSpec, samples: Samples, fold: bool) -> Exported:
    tensors = Tensors(model)
    z, x = samples.draw(EXAMPLE_BATCH)
    inputs = [] if x is None else [x]
    roles = [("input", 0)] if x is not None else []
    states = [("state", part) for part in range(len(spec.parts))]
    count = len(spec.parts)

    def joined(parts: tuple[Tensor, ...]) -> Any:
        return parts if spec.tuple_state else parts[0]

    def step(*args: Tensor) -> list[Tensor]:
        return check_parts(spec.step(joined(args[:count]), *args[count:]), spec.parts, spec.tuple_state, "step")

    def init(first: Tensor) -> list[Tensor]:
        start = spec.init(first if x is not None else first.shape[0])  # type: ignore[misc]
        return check_parts(start, spec.parts, spec.tuple_state, "init")

    def readout(*args: Tensor) -> list[Tensor]:
        return check_logits(spec.readout(joined(args)))  # type: ignore[misc]

    def function(name: str, call: Callable[..., Any], examples: list[Tensor], given: list[Any]) -> dict[str, Any]:
        translator = Translator(capture(model, call, examples, name), given, tensors, fold, name)
        outputs = []
        for value in translator.run():
            if value.axes.batch != 0 or value.axes.merged:
                error = WrongOutput if name == "readout" else ShapeChanged
                raise error(
                    f"expected {name} to return one row per row of its argument, found shape {value.axes.shape} "
                    "without a leading batch axis; expand the result to the batch"
                )
            outputs.append(translator.use(value))
        return translator.function(outputs)

    graph: dict[str, Any] = {"state": [list(p) for p in spec.parts], "input": None, "init": None, "readout": None}
    if spec.input_shape is not None:
        kind = {"kind": "real"} if spec.vocabulary is None else {"kind": "integer", "size": spec.vocabulary}
        graph["input"] = {"shape": list(spec.input_shape), **kind}
    graph["step"] = function("step", step, [*z, *inputs], [*states, *roles])
    if spec.init is not None:
        batch = [torch.zeros(EXAMPLE_BATCH, 1)]
        graph["init"] = function("init", init, inputs or batch, roles or [("batch", 0)])
    if spec.readout is not None:
        graph["readout"] = function("readout", readout, list(z), states)
    return Exported(graph, dict(sorted(tensors.used.items())))
