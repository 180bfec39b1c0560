"""Plain safetensors files, into and out of any model, by name; also folders in the layout of the Hugging Face Hub.

The library's own models have `save_pretrained` and `from_pretrained`, which rebuild the model as well. Here the model
is the caller's, and the file may be anybody's: every tensor must be there, in its shape and precision, and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.kernel.document import read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.naming import WEIGHTS
from trm_verify.pretrained import PretrainedError, read_tensors, write_files
from trm_verify.verification.deployed import Deployed

INDEX = "model.safetensors.index.json"
MAX_BYTES, MAX_INDEX = 1 << 36, 1 << 24


def save_weights(model: nn.Module, path: Path | str) -> Path:
    """Write the tensors of the certified graph, the very bytes that certificates of the model name.

    Those are the model's own tensors under their own names, except where export evaluates what depends on parameters
    alone (a parametrization, a bounded layer): then it is the result.

    Raises:
        ExportError: the model cannot be exported, or holds NaN. ValueError: its description is wrong.
        OSError: the file cannot be written; what was there is left.
    """
    target = Path(path)
    data = Deployed.of(model).weights
    target.parent.mkdir(parents=True, exist_ok=True)
    write_files({target: data})
    return target


def load_weights(model: nn.Module, source: Path | str, *, names: Mapping[str, str] | None = None) -> None:
    """Fill a model with stored tensors, all of them or none.

    Args:
        model: any module; its parameters and buffers are overwritten in place.
        source: a safetensors file, or a folder with model.safetensors, or with the parts that a
            model.safetensors.index.json lists.
        names: what a tensor of the model is called in the file, where that is not its own name.

    Raises:
        PretrainedError: no complete safetensors file, or a tensor that is missing, not the model's, of another shape
            or precision, or not finite.
        OSError: a file cannot be read.
    """
    path = Path(source)
    stored = _folder(path) if path.is_dir() else _file(path)
    own = model.state_dict(keep_vars=True)
    renamed = dict(names or {})
    unknown = sorted(set(renamed) - set(own))
    if unknown:
        raise PretrainedError(f"names=: expected tensors of the model, {_some(own)}, found {_some(unknown)}")
    pairs = {name: stored.get(renamed.get(name, name)) for name in own}
    tied = {_place(value) for name, value in own.items() if pairs[name] is not None}
    missing = sorted(renamed.get(n, n) for n, found in pairs.items() if found is None and _place(own[n]) not in tied)
    extra = sorted(set(stored) - {renamed.get(name, name) for name in own})
    if missing or extra:
        raise PretrainedError(
            f"{path}: expected exactly the tensors of the model, found "
            + "; ".join(
                text
                for text in (
                    f"none called {_some(missing)}" * bool(missing),
                    f"{_some(extra)}, which the model does not have" * bool(extra),
                )
                if text
            )
            + "; names= maps the model's names to those of the file"
        )
    given: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
    for name, found in pairs.items():
        if found is None:
            continue
        _fits(path, name, own[name], found)
        first, value = given.setdefault(_place(own[name]), (name, found))
        if not torch.equal(value, found):
            raise PretrainedError(f"{path}: expected one value of {first} and {name}, which are one tensor, found two")
    with torch.no_grad():
        for name, found in pairs.items():
            if found is not None:
                own[name].copy_(found)


def _fits(path: Path, name: str, own: Tensor, found: Tensor) -> None:
    if own.shape != found.shape:
        raise PretrainedError(f"{path}: expected tensor {name} of shape {tuple(own.shape)}, found {tuple(found.shape)}")
    if own.dtype != found.dtype:
        raise PretrainedError(
            f"{path}: expected tensor {name} in {own.dtype}, found {found.dtype}; nothing is rounded silently: convert "
            f"the model first, with model.to({found.dtype})"
        )
    if found.is_floating_point() and not bool(found.isfinite().all()):
        raise PretrainedError(f"{path}: expected finite numbers in tensor {name}, found NaN or infinity")


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """The same for two names of one tensor."""
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else (id(tensor),)


def _file(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path, read_file(path, MAX_BYTES))[0]
    except CheckError as error:
        raise PretrainedError(f"{path}: expected a file of at most {MAX_BYTES} bytes, found more") from error


def _folder(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder: one file, or the parts that its index lists."""
    if not (folder / INDEX).exists():
        return _file(folder / WEIGHTS)
    where = folder / INDEX
    try:
        listed = json.loads(read_file(where, MAX_INDEX))["weight_map"]
        parts = {str(name): str(part) for name, part in listed.items()}
    except (CheckError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise PretrainedError(
            f"{where}: expected a JSON object with a weight_map of names to files, found: {error}"
        ) from error
    found: dict[str, Tensor] = {}
    for part in sorted(set(parts.values())):
        if Path(part).name != part or not part.endswith(".safetensors"):
            raise PretrainedError(f"{where}: expected the names of safetensors files beside it, found {part[:120]!r}")
        held = _file(folder / part)
        if set(held) != {name for name, place in parts.items() if place == part}:
            raise PretrainedError(f"{folder / part}: expected exactly the tensors that {INDEX} lists, found others")
        found |= held
    return found


def _some(names: Any) -> str:
    """The first few."""
    listed = sorted(names)
    return ", ".join(ascii(name)[1:-1] for name in listed[:5]) + (f" and {len(listed) - 5} more" if listed[5:] else "")
