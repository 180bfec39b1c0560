"""Tiny recursive models, one file a family. `MODELS` is the closed table that saved models are looked up
in.
"""

from __future__ import annotations

from trm_verify.models.base import ConfiguredModel
from trm_verify.models.causal import CausalRefiner
from trm_verify.models.equilibrium import MonotoneEquilibrium
from trm_verify.models.log_norm import LogNormEquilibrium
from trm_verify.models.refiner import SandwichRefiner
from trm_verify.models.solvers import NotConverged

MODELS: dict[str, type[ConfiguredModel]] = {
    "CausalRefiner": CausalRefiner,
    "LogNormEquilibrium": LogNormEquilibrium,
    "MonotoneEquilibrium": MonotoneEquilibrium,
    "SandwichRefiner": SandwichRefiner,
}

__all__ = ["MODELS", "ConfiguredModel", "LogNormEquilibrium", "MonotoneEquilibrium", "NotConverged", "SandwichRefiner"]
