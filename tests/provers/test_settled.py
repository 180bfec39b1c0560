"""Answers of recursions that settle: by an invariant box, else part by part; and that another answer is refuted."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import trm_verify as tv
from tests.provers.test_triangular import SIZE, TOKENS, Causal, model

BITS = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0], [1.0]])


@pytest.mark.parametrize("eps", [None, "1e-4"])
def test_the_answer_of_every_later_step_is_proved(eps: str | None) -> None:
    built = model(Causal())
    result = tv.verify_fixed_point(built, BITS, eps=eps)
    assert result.verdict is tv.PROVED, result.explain()
    z = torch.zeros(1, TOKENS, SIZE)
    for _ in range(TOKENS):
        z = built.step(z, BITS[None])
    assert result.answer == tuple(built.readout(z)[0].argmax(-1).tolist())
    assert result.answer_steps == TOKENS
    assert {step["rule"] for step in result.certificate.predicate["steps"]} >= {
        "triangular", "invariant_box", "settled_in", "answer_by_invariance",
    }  # fmt: skip


class Steep(nn.Module):
    """z_t ← clamp(500 z_{t−1} − x_t): free of any box about where it settles that would be mapped into itself."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return (500 * pad(z[:, :-1], (0, 0, 1, 0)) - x).clamp(-1, 1)


def steep(tokens: int) -> tuple[nn.Module, Tensor]:
    """The model, and an input for which entry t settles at (−1)ᵗ/1024: read as the sign."""
    reads = tv.nn.free_linear(1, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        reads.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        reads.bias.zero_()
    ends = [F((-1) ** t, 1024) for t in range(tokens)]
    x = torch.tensor([[float(500 * a - b)] for a, b in zip([F(0), *ends], ends, strict=False)])
    return tv.recursive(Steep(), readout=reads, state_shape=(tokens, 1), input_shape=(tokens, 1)), x


def test_a_single_input_is_followed_through_an_expanding_recursion() -> None:
    """Doubles lose such a chain after six tokens; exact arithmetic does not."""
    built, x = steep(24)
    result = tv.verify_fixed_point(built, x)
    assert result.verdict is tv.PROVED, result.explain()
    assert result.answer == tuple(t % 2 for t in range(24)) and result.answer_steps == 24
    assert result.certificate.predicate["steps"][-1]["rule"] == "answer_when_settled"
    assert tv.verify_fixed_point(built, x, eps="1e-6").verdict is tv.UNKNOWN
    other = tv.verify_fixed_point(built, x, answer=1 - np.array(result.answer))
    assert other.verdict is tv.REFUTED


def test_what_would_take_too_long_to_follow_is_left_open() -> None:
    built, x = steep(24)
    result = tv.verify_fixed_point(built, x, timeout=1e-3)
    assert result.claims["answer"].verdict is tv.UNKNOWN and "a larger timeout" in result.explain()


def test_another_answer_is_refuted_at_the_centre() -> None:
    built = model(Causal())
    own = tv.verify_fixed_point(built, BITS).answer
    other = (1 - own[0], *own[1:])
    result = tv.verify_fixed_point(built, BITS, answer=np.array(other))
    assert result.verdict is tv.REFUTED
    assert result.claims["answer"].verdict is tv.REFUTED
