"""Tiny recursive models, one file a family. `MODELS` is the closed table that saved models are looked up in.

| family | contracts in | rule |
|---|---|---|
| `SandwichRefiner` | ℓ2 | `metric_contraction` |
| `TinyRecursive` (one state or two timescales) | maximum over tokens of ℓ2 | `row_gain`, `radius_contraction` |
| `ConvRefiner` | maximum over cells of ℓ2 | `row_gain`, `radius_contraction` |
| `GatedMaxPlanner` | ℓ∞ | `radius_contraction` |
| `CausalRefiner` | settles exactly after as many steps as there are tokens, times passes | `triangular` |
| `MonotoneEquilibrium`, `LogNormEquilibrium` | implicit models | `monotone`, `log_norm` |
| `Stack` | whatever its parts and their wiring allow | those of the parts |
| `Unconstrained`, `DeepThinking` | nothing by construction: published baselines | |

`commit` is inference with any of them: contract, then commit.
"""

from __future__ import annotations

from trm_verify.models.base import ConfiguredModel, EncodedModel, distance, iteration
from trm_verify.models.causal import CausalRefiner
from trm_verify.models.commit import Committed, commit
from trm_verify.models.conv import ConvRefiner
from trm_verify.models.equilibrium import MonotoneEquilibrium
from trm_verify.models.log_norm import LogNormEquilibrium
from trm_verify.models.planner import GatedMaxPlanner
from trm_verify.models.refiner import SandwichRefiner
from trm_verify.models.solvers import NotConverged
from trm_verify.models.stack import Stack
from trm_verify.models.thinking import DeepThinking
from trm_verify.models.tiny import TinyRecursive
from trm_verify.models.unconstrained import Unconstrained

MODELS: dict[str, type[ConfiguredModel]] = {
    "CausalRefiner": CausalRefiner,
    "ConvRefiner": ConvRefiner,
    "DeepThinking": DeepThinking,
    "GatedMaxPlanner": GatedMaxPlanner,
    "LogNormEquilibrium": LogNormEquilibrium,
    "MonotoneEquilibrium": MonotoneEquilibrium,
    "SandwichRefiner": SandwichRefiner,
    "Stack": Stack,
    "TinyRecursive": TinyRecursive,
    "Unconstrained": Unconstrained,
}

__all__ = [
    "MODELS",
    "CausalRefiner",
    "Committed",
    "ConfiguredModel",
    "ConvRefiner",
    "DeepThinking",
    "EncodedModel",
    "GatedMaxPlanner",
    "LogNormEquilibrium",
    "MonotoneEquilibrium",
    "NotConverged",
    "SandwichRefiner",
    "Stack",
    "TinyRecursive",
    "Unconstrained",
    "commit",
    "distance",
    "iteration",
]
