"""What is proved is what is deployed: the saved, baked weights and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import trm_verify as tv


def test_the_proof_is_about_the_saved_weights_and_no_others(tmp_path: Path) -> None:
    model = tv.models.SandwichRefiner(state=4, hidden=6, inputs=3, classes=2, seed=1)
    certificate = tv.verify_fixed_point(model).certificate
    weights = tv.save_pretrained(model, tmp_path)
    assert certificate.weights_digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    checked = tv.check(certificate, weights, model=tv.from_pretrained(tmp_path))
    assert checked.weights_digest == certificate.weights_digest
    with torch.no_grad():  # one more training step makes another model, for which nothing is proved
        next(p for p in model.parameters() if p.dim() == 2).add_(0.01)
    with pytest.raises(tv.CheckError, match="EXPECTED"):
        tv.check(certificate, weights, model=model)
