"""Tiny recursive models, one file a family. `MODELS` is the closed table that saved models are looked up
in.
"""

from __future__ import annotations

from trm_verify.models.base import ConfiguredModel
from trm_verify.models.refiner import SandwichRefiner

MODELS: dict[str, type[ConfiguredModel]] = {"SandwichRefiner": SandwichRefiner}

__all__ = ["MODELS", "ConfiguredModel", "SandwichRefiner"]
