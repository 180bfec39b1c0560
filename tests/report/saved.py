"""A small saved model with certificates, for the tests of reports and bundles."""

from __future__ import annotations

from pathlib import Path

import torch

import trm_verify as tv


def model(seed: int = 0) -> tv.models.SandwichRefiner:
    return tv.models.SandwichRefiner(4, 6, 3, 3, 0.7, seed=seed)


def save(folder: Path, *, audited: bool = True, seed: int = 0) -> Path:
    """The model, proved as a whole and for two inputs, and the audit of a run."""
    made = model(seed)
    tv.save_pretrained(made, folder)
    x = torch.tensor([[0.25, 0.5, 0.75], [1.0, 0.0, 0.5]])
    tv.verify_fixed_point(made, x, eps="1/4096").certificate.save(folder / "model.trmcert.json")
    if audited:
        tv.audit(made, x[0], steps=40).certificate.save(folder / "model.run.trmcert.json")
    return folder
