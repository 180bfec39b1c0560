"""Saved models: a directory of `model.safetensors`, `checkpoint.safetensors`, `hints.safetensors`,
`config.json`.

`model.safetensors` holds the baked tensors exactly as deployed, the very bytes that a certificate names.
`checkpoint.safetensors` holds the trainable parameters that they were baked from. `hints.safetensors` holds
numbers that are no part of the model and only help a prover to find a proof (nobody believes them); it is
absent when a model has none. `config.json` names the class, by its key in the table of models, its
configuration, and the digests of the other files; it is written last, so a directory in which something went
wrong half-way is refused and never read as a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as unpacked
from safetensors.torch import save as pack
from torch import Tensor

from trm_verify.export import export
from trm_verify.models import MODELS, ConfiguredModel
from trm_verify.naming import CONFIG, WEIGHTS

MAX_BRACKETS = 1000
CHECKPOINT, HINTS = "checkpoint.safetensors", "hints.safetensors"
_KEYS = {"model_type", "architectures", "config", "weights_sha256", "checkpoint_sha256", "hints_sha256"}


class PretrainedError(ValueError):
    """A saved model or training state that cannot be used, or a model that cannot be saved."""


def save_pretrained(model: ConfiguredModel, directory: Path | str) -> Path:
    """Save a model: its baked tensors, its trainable parameters (unless it is baked already), its
    configuration.

    Every file is written beside its target and renamed; nothing is renamed before all of them are complete.
    A certificate in the directory is left alone: it names the weights it was made for by digest.

    Returns:
        The path of `model.safetensors`.

    Raises:
        PretrainedError: a class outside the table of models, or weights that are not finite.
        OSError: the directory cannot be made or written.
    """
    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        raise PretrainedError(
            f"save_pretrained: expected a model of one of the classes {_known()}, found {name}; save the weights of "
            "other models with safetensors, their code is yours"
        )
    for tensor_name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise PretrainedError(f"save_pretrained: expected finite weights, found NaN or infinity in {tensor_name}")
    baked = model.bake()
    files = {WEIGHTS: packed(deployed_tensors(baked))}
    if not model.baked:
        files[CHECKPOINT] = packed(model.state_dict())
    if hints(baked):
        files[HINTS] = packed(hints(baked))
    config = {
        "model_type": "trm_verify",
        "architectures": [name],
        "config": model.config,
        **{_key(file): _sha256(files.get(file)) for file in (WEIGHTS, CHECKPOINT, HINTS)},
    }
    files[CONFIG] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    write_files({target / file: data for file, data in files.items()})
    return target / WEIGHTS


def from_pretrained(
    directory: Path | str, *, trainable: bool = False, device: torch.device | str | None = None
) -> ConfiguredModel:
    """Load a saved model: the baked one, or with `trainable=True` the parameters it was baked from.

    A trainable model has no certificate: any training step makes it another model. Baking it again must give
    the stored tensors bit for bit; where it does not (another library version or processor), it is refused.

    Raises:
        FileNotFoundError: a file is missing.
        PretrainedError: a truncated, foreign or mismatched file, or an unknown class.
    """
    source = Path(directory)
    config = _config(source / CONFIG)
    tensors = _matching(source / WEIGHTS, config["weights_sha256"])
    name = config["architectures"][0]
    try:
        model = MODELS[name](**config["config"])
    except (TypeError, ValueError) as error:
        raise PretrainedError(
            f"{source / CONFIG}: expected a configuration of {name}, found {config['config']}: {error}"
        ) from error
    if trainable:
        if config["checkpoint_sha256"] is None:
            raise PretrainedError(
                f"{source}: expected trainable parameters, found a model that was saved baked; "
                "load it with trainable=False"
            )
        _fill(model, _matching(source / CHECKPOINT, config["checkpoint_sha256"]), source / CHECKPOINT)
        _reproduces(model, tensors, source)
    else:
        model = model.bake()
        _fill(model, tensors, source / WEIGHTS)
        _give_hints(model, source, config["hints_sha256"])
    return model if device is None else model.to(device)


def deployed_tensors(baked: ConfiguredModel) -> dict[str, Tensor]:
    """The tensors of the exported graph, by the names they have in the model.

    Raises:
        PretrainedError: the exporter stored other tensors than the baked model holds.
    """
    tensors = dict(export(baked).tensors)
    own = baked.state_dict()
    if set(tensors) != set(own):
        raise PretrainedError(
            f"save_pretrained: expected the exported tensors to be those of the baked model, {sorted(own)}, "
            f"found {sorted(tensors)}"
        )
    return tensors


def hints(model: ConfiguredModel) -> dict[str, Tensor]:
    """Buffers that are no part of the model's state: untrusted suggestions to provers."""
    state = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name not in state}


def packed(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file as bytes, from copies on the CPU (shared storage is stored twice)."""
    plain = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    data: bytes = pack(plain, metadata)
    return data


def read_tensors(path: Path, data: bytes | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file (or of its bytes, if they were read already).

    Raises:
        FileNotFoundError: no such file.
        PretrainedError: not a complete safetensors file.
    """
    data = path.read_bytes() if data is None else data
    try:
        tensors: dict[str, Tensor] = unpacked(data)
    except SafetensorError as error:
        raise PretrainedError(
            f"{path}: expected a complete safetensors file, found {len(data)} bytes that are not one ({error}); "
            "it may be truncated: copy it again"
        ) from error
    # The library accepted the header, so its length field and its JSON are in order.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__", {})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write every file beside its target, then rename them in the given order.

    Raises:
        OSError: a file cannot be written; the targets are then as they were.
    """
    pending: list[tuple[Path, Path]] = []
    try:
        for target, data in files.items():
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
            with temporary.open("xb") as file:
                pending.append((temporary, target))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        while pending:
            pending[0][0].replace(pending[0][1])
            del pending[0]
    finally:
        for temporary, _ in pending:
            temporary.unlink()


def _key(file: str) -> str:
    return {WEIGHTS: "weights_sha256", CHECKPOINT: "checkpoint_sha256", HINTS: "hints_sha256"}[file]


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _known() -> str:
    return ", ".join(sorted(MODELS))


def _config(path: Path) -> dict[str, Any]:
    """A validated `config.json`."""
    data = path.read_bytes()
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > MAX_BRACKETS:  # whatever the recursion limit, the parser's stack must not overflow
        raise PretrainedError(f"{path}: expected JSON of at most {MAX_BRACKETS} brackets, found {brackets}")
    try:
        config = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PretrainedError(f"{path}: expected a JSON object, found something else: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") != "trm_verify":
        raise PretrainedError(f'{path}: expected "model_type": "trm_verify", found a file of another library')
    names = config.get("architectures")
    if set(config) != _KEYS or not isinstance(config["config"], dict) or not isinstance(names, list):
        raise PretrainedError(f"{path}: expected the keys {sorted(_KEYS)}, found {sorted(config)}")
    if len(names) != 1 or not isinstance(names[0], str) or names[0] not in MODELS:
        raise PretrainedError(f"{path}: expected one architecture of {_known()}, found {names}")
    return config


def _matching(path: Path, digest: object) -> dict[str, Tensor]:
    """The tensors of a file whose SHA-256 is the one that `config.json` names."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    tensors, _ = read_tensors(path, data)
    if found != digest:
        raise PretrainedError(
            f"{path}: expected the file with SHA-256 {digest} that config.json names, found {found}; "
            "the files of this directory do not belong together: save or copy all of them again"
        )
    return tensors


def _fill(model: ConfiguredModel, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a model exactly the stored tensors, in their stored precision."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        first = differ[0]
        raise PretrainedError(
            f"{path}: expected tensor {first} of shape {wanted.get(first, 'none')}, "
            f"found {found.get(first, 'none')} ({len(differ)} tensors differ)"
        )
    model.load_state_dict(tensors, strict=True, assign=True)


def _give_hints(model: ConfiguredModel, source: Path, digest: object) -> None:
    """Replace a model's own hints, which belong to other weights, by the stored ones."""
    own = hints(model)
    stored = {} if digest is None else _matching(source / HINTS, digest)
    if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in stored.items()}:
        raise PretrainedError(
            f"{source / HINTS}: expected hints {sorted(own)}, found {sorted(stored)} or other shapes; "
            "save the model again"
        )
    for name, value in stored.items():
        owner, _, buffer = name.rpartition(".")
        model.get_submodule(owner)._buffers[buffer] = value


def _reproduces(model: ConfiguredModel, tensors: dict[str, Tensor], source: Path) -> None:
    """Refuse a checkpoint whose baking does not give the stored weights bit for bit."""
    if packed(model.bake().state_dict()) != packed(tensors):
        raise PretrainedError(
            f"{source}: expected baking {CHECKPOINT} to give {WEIGHTS} bit for bit, found other values; they were "
            "baked by another version or on another processor: save the model again, and prove it again"
        )
