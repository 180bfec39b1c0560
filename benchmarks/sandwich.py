"""The Sandwich step at state 64, hidden 128: what the metric rule certifies, and what the norm product says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from bench import Json, Row

import trm_verify as tv
from trm_verify.nn import SandwichStep, bake

RATES = (0.5, 0.7, 0.9, 0.98)


def measure(rho: float, seed: int = 0) -> tuple[float, float]:
    """(certified rate, product of the two layers' norms)."""
    step = SandwichStep(64, 128, 64, rho, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # away from the initial values, where the norm product is still small
        for parameter in step.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + 1))
    baked = bake(step)
    product = float(np.prod([np.linalg.norm(w.weight.double().numpy(), 2) for w in (baked.inner, baked.outer)]))
    result = tv.verify_fixed_point(tv.recursive(baked, state_shape=(64,), input_shape=(64,)))
    return (float("inf") if result.rate is None else result.rate), product


def run(out: Path) -> tuple[list[Row], Json]:
    """Certified rates, and the norm product beside them."""
    found = {rho: measure(rho) for rho in RATES}
    rows = [
        Row("sandwich", f"certified rate, ρ = {rho}", rate, "", rho * (1 + 1e-5), f"norm product {product:.2f}")
        for rho, (rate, product) in found.items()
    ]  # fmt: skip
    certified, products = zip(*found.values(), strict=True)
    return rows, {"asked": RATES, "certified": certified, "product": products}
