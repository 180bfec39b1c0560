"""Runs that are known to work on one core within minutes, as data.

A recipe is named after its task, or task and variant: `recipe("sudoku")`, `recipe("sudoku-unconstrained")`.
"""

from __future__ import annotations

from typing import Any

from trm_verify.train.config import RunConfig, parsed

_CAUSAL = {"features": 16, "hidden": 32, "bound": "hardtanh"}
_LENGTH = {"epochs": 12, "batch_size": 64, "lr": 5e-3, "depth": [16, 20], "supervise_from": 0.8, "flatness": 1.0}
_PUZZLE = {"epochs": 14, "batch_size": 128, "lr": 8e-3, "depth": [6, 12], "supervise_from": 0.6, "ema": 0.998}
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
        "model": {"name": "Unconstrained", "features": 32, "hidden": 64, "mixing": "mlp"},
        "train": _PUZZLE | {"lr": 3e-3},
    },
    "mazes": {
        "task": {"name": "mazes"},
        "model": {"name": "GatedMaxPlanner", "features": 8, "hidden": 32},
        "train": _MAZE,
    },
    "brackets": {
        "task": {"name": "brackets", "train": 16384},
        "model": {"name": "TinyRecursive", "features": 32, "hidden": 128, "heads": 4, "rho": 0.95},
        "train": _PUZZLE | {"epochs": 20, "depth": [8, 16]},
    },
    "denoise": {
        "task": {"name": "denoise"},
        "model": {"name": "ConvRefiner", "ordered": True},
        "train": {"epochs": 12, "lr": 4e-3, "depth": [6, 12], "ema": 0.998},
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
