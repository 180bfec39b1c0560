"""Ordinary torch layers that merely happen to contract: nothing of this library is inside the model.

python examples/plain_linear.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import trm_verify as tv
from trm_verify.export import export


class Refiner(nn.Module):
    """`z ← tanh(W z + U x + b)` with default initialization, a readout, and the attributes that describe it."""

    state_shape, input_shape, domain = (16,), (4,), tv.Box(-1, 1)
    iteration = "picard"

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.feed, self.read = nn.Linear(16, 16), nn.Linear(4, 16), nn.Linear(16, 3)

    def step(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """One recursion."""
        return torch.tanh(0.75 * self.mix(z) + self.feed(x))

    def readout(self, z: torch.Tensor) -> torch.Tensor:
        """Three logits."""
        return self.read(z)


def main() -> None:
    """Prove it in two norms, with an answer over a ball, then check the certificate against files and model."""
    torch.manual_seed(0)
    model = Refiner()
    x = torch.tensor([0.5, -0.5, 0.25, 0.75])
    for norm in ("linf", "l2"):  # the same loop can contract in one norm and not in another
        print(f"contracts in {norm}: {tv.verify_fixed_point(model, norm=norm).verdict}")
    result = tv.verify_fixed_point(model, x, eps="0.001", norm="l2")
    print(f"answer {result.answer} from step {result.answer_steps} on: {result.verdict}")

    with tempfile.TemporaryDirectory() as folder:
        weights, certificate = Path(folder, "model.safetensors"), Path(folder, "model.trmcert.json")
        export(model).save(weights)
        result.certificate.save(certificate)
        expected = [tv.claims.Contraction(rate=0.9, norm="l2"), "exactly_one(domain=box(-1,1), region=all)"]
        checked = tv.check(certificate, weights, expect=expected, model=model)
    print(f"re-checked: {len(checked.claims)} claims hold")


if __name__ == "__main__":
    main()
