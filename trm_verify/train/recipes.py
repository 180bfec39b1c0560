"""Runs that are known to work on one core within minutes, as data.

A recipe is named after its task, or task and variant: `recipe("sudoku")`, `recipe("sudoku-unconstrained")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

from trm_verify.tasks import TASKS
from trm_verify.train.config import RunConfig, parsed

_CAUSAL = {"features": 16, "hidden": 32, "bound": "hardtanh"}
_LENGTH = {"epochs": 12, "batch_size": 64, "lr": 5e-3, "depth": [16, 20], "supervise_from": 0.8, "flatness": 1.0}
_PUZZLE = {"epochs": 14, "batch_size": 128, "lr": 8e-3, "depth": [6, 12], "supervise_from": 0.6, "ema": 0.998}
# Read forwards, then backwards; trained where the loop settles, whatever the depth. Baselines unroll at these depths.
_TWO_WAY = {"passes": 2, "features": 64, "hidden": 128, "bound": "hardtanh"}
_SETTLED = {"batch_size": 128, "lr": 4e-3, "depth": [8, 16], "gradient": "settled", "clip": 1.0}
_MAZE = {"epochs": 8, "batch_size": 32, "lr": 5e-3, "depth": [24, 40], "supervise_from": 0.9}

RECIPES: dict[str, dict[str, Any]] = {
    "parity": {
        "task": {"name": "parity", "length": 16, "train": 2048},
        "model": {"name": "CausalRefiner", **_CAUSAL},
        "train": _LENGTH,
        "deploy": {"size": 512},
    },
    "addition": {
        "task": {"name": "addition", "length": 16, "train": 2048},
        "model": {"name": "CausalRefiner", **_CAUSAL},
        "train": _LENGTH | {"depth": [17, 20]},
        "deploy": {"size": 64},
    },
    "sudoku": {
        "task": {"name": "sudoku", "train": 24576},
        "model": {
            "name": "TinyRecursive",
            "features": 32,
            "hidden": 128,
            "heads": 4,
            "mixing": "constant",
            "rho": 0.895,
        },
        "train": _PUZZLE,
    },
    "sudoku-unconstrained": {
        "task": {"name": "sudoku", "train": 24576},
        "model": {"name": "Unconstrained", "features": 48, "hidden": 96, "mixing": "mlp"},
        "train": _PUZZLE | {"lr": 3e-3, "gradient": 4, "clip": 1.0},
    },
    "mazes": {
        "task": {"name": "mazes", "train": 8192},
        "model": {"name": "GatedMaxPlanner", "features": 8, "hidden": 32},
        "train": _MAZE | {"lr": 8e-3, "ema": 0.99},
    },
    "regions": {
        "task": {"name": "regions", "train": 8192},
        "model": {"name": "GatedMaxPlanner", "features": 16, "hidden": 32, "layers": 2, "period": 4, "rho": 0.95},
        "train": _MAZE | {"epochs": 6, "lr": 8e-3, "depth": [32, 52], "ema": 0.99},
        "deploy": {"steps": 104, "certify": 2},
    },
    "brackets": {
        "task": {"name": "brackets", "train": 131072},
        "model": {"name": "CausalRefiner", **_TWO_WAY},
        "train": _SETTLED | {"epochs": 4},
    },
    "snippets": {
        "task": {"name": "snippets", "train": 5632},
        "model": {"name": "CausalRefiner", **_TWO_WAY},
        "train": _SETTLED | {"epochs": 40, "batch_size": 64, "lr": 3e-3, "weight_decay": 0.1},
    },
    "characters": {
        "task": {"name": "characters", "train": 65536},
        "model": {"name": "CausalRefiner", **_TWO_WAY, "features": 96},
        "train": _SETTLED | {"epochs": 6},
    },
    "denoise": {
        "task": {"name": "denoise", "copies": 12},
        "model": {"name": "ConvRefiner", "ordered": True},
        "train": {"epochs": 6, "lr": 4e-3, "depth": [6, 12], "ema": 0.998, "descent": 20.0},
    },
    "digits": {
        "task": {"name": "digits"},
        "model": {"name": "SandwichRefiner"},
        "train": {},
    },
}


def recipe(name: str) -> RunConfig:
    """The run of that name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(sorted(RECIPES))}; found {name!r}")
    return parsed(RECIPES[name], f"recipe {name}")


_QUICK_DATA = {"train": 128, "validation": 16, "test": 16, "copies": 1, "puzzles": (8, 4, 4)}
_QUICK_MODEL = {"features": 8, "hidden": 16, "heads": 2}
_QUICK_LEVELS = 2
_QUICK_SIZE = 24  # of a deployment at another size than the one trained at


def quick(config: RunConfig) -> RunConfig:
    """The run in seconds, to see that everything works: a small model, few rows, one epoch, two levels of a curriculum,
    a short deployment, one certified answer."""
    settings, known = config.settings, signature(TASKS[config.task]).parameters
    return replace(
        config,
        model_options={**config.model_options, **_among(_QUICK_MODEL, config.model_options)},
        task_options={**config.task_options, **_among(_QUICK_DATA, known)},
        settings=replace(
            settings, epochs=1, batch_size=min(settings.batch_size, 32), levels=settings.levels[-_QUICK_LEVELS:]
        ),
        size=None if config.size is None else min(config.size, _QUICK_SIZE),
        certify=min(config.certify, 1),
    )


def _among(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in known}
