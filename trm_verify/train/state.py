"""The state of a training run between two epochs, and its file: safetensors, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trm_verify.pretrained import PretrainedError, packed, read_tensors, write_files
from trm_verify.train.ema import Average

_KIND = "trm_verify training state, version 2"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean training loss.
        validation: the task's metric on the validation split at the largest depth.
        validation_loss: cross-entropy there.
        rate: the contraction rate that was proved after this epoch, None if none was asked for or found.
    """

    epoch: int
    loss: float
    validation: float
    validation_loss: float
    rate: float | None = None


@dataclass(frozen=True, eq=False)
class TrainingState:
    """What a run knows besides the current parameters and the optimizer's moments.

    Attributes:
        history: one record an epoch.
        best_epoch: the epoch of the best parameters, 0 for the initial ones.
        best: the best parameters and buffers.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best: dict[str, Tensor]


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    settings: Any,
    state: TrainingState,
    average: Average | None,
    curriculum: dict[str, Any],
) -> None:
    """Write everything that continuing the run needs, whole or not at all.

    Raises:
        OSError: the target cannot be written.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.values.items()}
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    moments = optimizer.state_dict()["state"]
    for index, name in enumerate(names):
        # A parameter that never received a gradient has no moments.
        for moment in _MOMENTS if index in moments else ():
            tensors[f"adam.{moment}.{name}"] = moments[index][moment]
    about = {
        "kind": _KIND,
        "settings": _plain(settings),
        "best_epoch": state.best_epoch,
        "history": [asdict(record) for record in state.history],
        "averaged": None if average is None else average.steps,
        "curriculum": curriculum,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_files({path: packed(tensors, {"training": json.dumps(about, sort_keys=True)})})


def load_state(
    path: Path, model: nn.Module, optimizer: Optimizer, settings: Any, average: Average | None
) -> tuple[TrainingState, dict[str, Any]]:
    """Put a saved run back into `model`, `optimizer` and `average`; returns the rest, and the curriculum's state.

    Raises:
        FileNotFoundError: no such file.
        PretrainedError: a truncated or foreign file, or one of another model or other settings.
    """
    tensors, metadata = read_tensors(path)
    about = _about(path, metadata)
    if about["settings"] != _plain(settings):
        raise PretrainedError(
            f"{path}: expected the settings of this run, {_plain(settings)}, found {about['settings']}; "
            "resume with the same settings, or train without resume"
        )
    device = next(model.parameters()).device
    current, best = (_part(tensors, prefix, device) for prefix in ("model.", "best."))
    for found in (current, best):
        try:
            model.load_state_dict(found)
        except RuntimeError as error:
            raise PretrainedError(f"{path}: expected the state of this model, found another: {error}") from error
    model.load_state_dict(current)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    moments = {}
    for index, name in enumerate(names):
        if f"adam.step.{name}" in tensors:
            # The step counter stays on the CPU, as the optimizer keeps it.
            moments[index] = {moment: tensors[f"adam.{moment}.{name}"] for moment in _MOMENTS}
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        average.values, average.steps = _part(tensors, "average.", device), about["averaged"]
    state = TrainingState(tuple(EpochRecord(**r) for r in about["history"]), about["best_epoch"], best)
    return state, about["curriculum"]


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON gives them back (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _about(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    text = metadata.get("training")
    about = {} if text is None else json.loads(text)
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise PretrainedError(
            f"{path}: expected a training state ({_KIND}), found another kind of file; "
            "pass the file that train(…, checkpoint=…) wrote"
        )
    return about


def _part(tensors: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): v.to(device) for name, v in tensors.items() if name.startswith(prefix)}
