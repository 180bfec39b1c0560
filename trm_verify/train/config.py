"""A training run as data: which task, which model, which settings, and what is certified at the end."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

from trm_verify.models import MODELS, ConfiguredModel
from trm_verify.tasks import TASKS, Task, load_task
from trm_verify.train.settings import Settings

RECORD = "run.json"  # what a run leaves beside the model, its configuration included
_LARGEST = 1 << 20  # bytes of a configuration file
_PARTS = ("task", "model", "train", "deploy")


@dataclass(frozen=True)
class RunConfig:
    """What `trm-verify train CONFIG` does.

    Attributes:
        task: its name.
        task_options: what `load_task` takes besides.
        model: its class, a key of `MODELS`.
        model_options: constructor arguments besides those that the task's inputs
            and classes decide.
        settings: of training.
        size: the difficulty at which the model is deployed, tested and certified; None for the one it is trained at.
        steps: K, the recursions after which an answer is read; results are given at K, 2K and 5K. None for the number
            after which a causal model settles, else for the largest training depth.
        certify: number of test inputs whose answers are certified as well.

    Raises:
        ValueError: an unknown task or model, or a number out of range.
    """

    task: str
    model: str
    task_options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    size: int | None = None
    steps: int | None = None
    certify: int = 8

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(sorted(TASKS))}; found {self.task!r}")
        if self.model not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(sorted(MODELS))}; found {self.model!r}")
        if (self.steps is not None and self.steps < 1) or self.certify < 0:
            raise ValueError(f"expected steps >= 1 and certify >= 0, found {self.steps} and {self.certify}")

    def load(self) -> Task:
        """The task.

        Raises:
            ValueError: options that the task does not take, or values of another kind.
        """
        try:
            return load_task(self.task, **self.task_options)
        except TypeError as error:  # a text where a number belongs
            raise ValueError(
                f"task {self.task}: expected values of the kinds that it documents, found "
                f"{dict(self.task_options)}: {error}"
            ) from error

    def build(self, task: Task) -> ConfiguredModel:
        """The untrained model, with the seed of the run.

        Raises:
            ValueError: arguments that the model does not take, or inputs that it cannot see.
        """
        family = MODELS[self.model]
        given = {**family.arguments(task.input_shape, task.vocabulary), "classes": task.classes}
        given["domain"] = _interval(task)
        given |= {"seed": self.settings.seed, **self.model_options}
        try:
            return family(**given)
        except TypeError as error:
            known = ", ".join(name for name in signature(family).parameters if name not in ("device", "dtype"))
            raise ValueError(
                f"model {self.model}: expected arguments of its constructor ({known}), found others: {error}"
            ) from None

    def with_seed(self, seed: int) -> RunConfig:
        """The same run with another seed."""
        return replace(self, settings=replace(self.settings, seed=seed))

    def as_json(self) -> dict[str, Any]:
        """The configuration, as `parsed` reads it."""
        deploy = {"size": self.size, "steps": self.steps, "certify": self.certify}
        return {
            "task": {"name": self.task, **self.task_options},
            "model": {"name": self.model, **self.model_options},
            "train": json.loads(json.dumps(asdict(self.settings))),
            "deploy": {name: value for name, value in deploy.items() if value is not None},
        }


def _interval(task: Task) -> tuple[float, float] | None:
    """The interval that holds every input coordinate."""
    return None if task.domain is None else (float(min(task.domain.lo)), float(max(task.domain.hi)))


def parsed(data: Any, source: str) -> RunConfig:
    """A configuration from JSON or TOML values.

        {"task": {"name": "parity", "length": 16}, "model": {"name": "CausalRefiner", "features": 16},
         "train": {"epochs": 12, "depth": [16, 20]}, "deploy": {"size": 512, "certify": 8}}

    Raises:
        ValueError: another shape, an unknown key, or a value out of range.
    """
    known = {
        "train": [f.name for f in fields(Settings)],
        "deploy": ["size", "steps", "certify"],
    }
    if not isinstance(data, dict) or not {"task", "model"} <= data.keys() <= set(_PARTS):
        raise ValueError(
            f"{source}: expected the tables task, model, and if wanted train and deploy, found {_found(data)}"
        )
    tables: dict[str, dict[str, Any]] = {part: data.get(part, {}) for part in _PARTS}
    for part, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"{source}: expected a table {part}, found {table!r}")
        if part in ("task", "model") and not isinstance(table.get("name"), str):
            raise ValueError(f"{source}: expected a name in {part}, found {_found(table)}")
        unknown = sorted(table.keys() - set(known.get(part, table)))
        if unknown:
            raise ValueError(
                f"{source}: expected {part} options among {', '.join(known[part])}; found {', '.join(unknown)}"
            )
    try:
        options = {part: {k: v for k, v in tables[part].items() if k != "name"} for part in ("task", "model")}
        return RunConfig(
            tables["task"]["name"], tables["model"]["name"], options["task"], options["model"],
            Settings(**tables["train"]), **tables["deploy"],
        )  # fmt: skip
    except TypeError as error:  # a text where a number belongs
        raise ValueError(
            f"{source}: expected numbers in train and deploy, found another kind of value: {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read(path: Path) -> RunConfig:
    """A configuration file, JSON or (by the ending .toml) TOML.

    Raises:
        OSError: it cannot be read. ValueError: it is no configuration.
    """
    return parsed(_values(path), str(path))


def _values(path: Path) -> Any:
    data = path.read_bytes()
    if len(data) > _LARGEST:
        raise ValueError(f"{path}: expected a configuration of at most {_LARGEST} bytes, found {len(data)}")
    try:
        text = data.decode()
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ValueError(f"{path}: expected {kind}, found something else: {error}") from error


def recorded(directory: Path) -> RunConfig | None:
    """The configuration of the run that wrote this directory; None where no run did.

    Raises:
        OSError: the record cannot be read. ValueError: it is none.
    """
    file = directory / RECORD
    if not file.is_file():
        return None
    data = _values(file)
    return parsed(data.get("config") if isinstance(data, dict) else data, str(file))


def _found(value: Any) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, dict) else type(value).__name__
