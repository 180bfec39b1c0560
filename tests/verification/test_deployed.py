"""What is proved is what is deployed: the saved, baked weights and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import trm_verify as tv
from trm_verify.verification.deployed import Deployed


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


def test_an_iteration_that_goes_round_ends_where_it_would_without_noticing() -> None:
    """Coordinates of period 2 and 3, and one that comes to rest after a thousand steps: then 6 steps are a round."""
    turn = torch.zeros(6, 6, dtype=torch.float64)
    for to, of in ((0, 1), (1, 0), (2, 3), (3, 4), (4, 2)):
        turn[to, of] = 1
    turn[5, 5] = 0.5
    start = torch.arange(1.0, 7.0, dtype=torch.float64)
    model = tv.recursive(lambda z: z @ turn.T, state_shape=(6,), init=lambda batch: start.expand(batch, 6))
    deployed = Deployed.of(model)
    for iterations in (0, 1, 5, 1999, 2000, 2001, 2002, 2003, 2004):
        z = start
        for _ in range(iterations):
            z = turn @ z
        assert deployed.fixed_points(None, iterations).tolist() == [z.tolist()]
