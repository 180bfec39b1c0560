"""The difficulties that a training run draws from: for each the data, and the model at its size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from trm_verify.model import RecursiveModel
from trm_verify.models import ConfiguredModel
from trm_verify.tasks import Task
from trm_verify.train.settings import Settings


@dataclass(frozen=True, eq=False)
class Level:
    """One difficulty.

    Attributes:
        model: the model at this size; its parameters are those of the model that is trained.
        x, y: the training split.
    """

    model: RecursiveModel
    x: Tensor
    y: Tensor


def levels_of(model: RecursiveModel, task: Task, settings: Settings) -> list[Level]:
    """One level for each difficulty of a curriculum; the task as it is without a curriculum.

    Raises:
        ValueError: a task without difficulties, a model that cannot have the size of one, or fewer rows than a batch.
    """
    if settings.curriculum == "none":
        return [_level(model, task, settings)]
    sizes = settings.levels or task.difficulties
    if not sizes:
        raise ValueError(
            f"train: expected a task of several difficulties for the curriculum {settings.curriculum!r}, found "
            f'{task.name!r}, which has one; train with curriculum="none"'
        )
    return [_level(model, task.at(size), settings) for size in sizes]


def _level(model: RecursiveModel, task: Task, settings: Settings) -> Level:
    if len(task.train) < settings.batch_size:
        raise ValueError(
            f"train: expected at least {settings.batch_size} rows, a batch, of {task.name!r} at difficulty "
            f"{task.difficulty}, found {len(task.train)}; choose a smaller batch_size or other levels"
        )
    if task.input_shape != model.input_shape:
        if not isinstance(model, ConfiguredModel):
            raise ValueError(
                f"train: expected a model that is rebuilt from its configuration for inputs of shape "
                f"{task.input_shape} as well as {model.input_shape}, found {type(model).__name__}"
            )
        model = model.at(shared=True, **model.arguments(task.input_shape, task.vocabulary))
    return Level(model, inputs(model, task.train.x), task.train.y.to(like(model).device))


def like(model: nn.Module) -> Tensor:
    """A parameter that shows where the model is and in which precision."""
    return next(p for p in model.parameters() if p.is_floating_point())


def inputs(model: nn.Module, x: Tensor) -> Tensor:
    """Inputs where the model is, in its precision; integers stay integers."""
    parameter = like(model)
    return x.to(parameter.device, parameter.dtype) if x.is_floating_point() else x.to(parameter.device)
