"""What is proved in a region of states is about that region, and about orbits that stay there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import trm_verify as tv
from trm_verify.result import VerificationResult

STARTS, STEPS = 41, 1500
INPUTS = 3
PROVED = {(0.25, 2.0), (0.25, 2.5), (0.25, 8.0), (0.7, 8.0)}
"""Strengths and reaches of the cascade: |u| <= 2, and 1 / (3 - 4 strength) bounds v while strength < 3/4."""


def bistable(gain: float, shift: float) -> torch.nn.Module:
    """tanh(gain·z + shift + x/16) with answers by the sign of z: two attractors where the gain is large."""
    return tv.recursive(
        lambda z, x: torch.tanh(gain * z + shift + x / 16), state_shape=(1,), input_shape=(1,), domain=tv.Box(-1, 1),
        readout=lambda z: torch.cat([z, -z], dim=-1),
    )  # fmt: skip


def gated(strength: float) -> torch.nn.Module:
    """A cascade: u drives the gate that v is multiplied with, which expands where u is large and `strength` is."""

    def step(z: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        u, v = z
        return u / 2 + x, v * (0.25 + strength * torch.sigmoid(4 * u)) + 0.25

    return tv.recursive(
        step,
        state_shape=((1,), (1,)),
        input_shape=(1,),
        domain=tv.Box(-1, 1),
        readout=lambda z: torch.cat([z[1], -z[1]], -1),
    )


def orbits(model: torch.nn.Module, starts: Tensor, x: Tensor, steps: int) -> Tensor:
    """States along the loop of all starts at one input. Shape: starts (starts, n) to (steps + 1, starts, n)."""
    parts = starts.shape[-1]
    found = [starts]
    for _ in range(steps):
        z = found[-1]
        given = x.expand(len(starts), -1)
        moved = model(tuple(z[:, i : i + 1] for i in range(parts)) if parts > 1 else z, given)
        found.append(torch.cat(moved, dim=-1) if isinstance(moved, tuple) else moved)
    return torch.stack(found)


def holds(model: torch.nn.Module, result: VerificationResult, lo: list[float], hi: list[float], x: Tensor) -> None:
    """Orbits from all over a region stay there and end in one point, if that is what was proved."""
    axes = [
        torch.linspace(a, b, STARTS if len(lo) == 1 else 7, dtype=torch.float64) for a, b in zip(lo, hi, strict=True)
    ]
    seen = orbits(model.double(), torch.cartesian_prod(*axes).reshape(-1, len(lo)), x.double(), STEPS)
    low, high = torch.tensor(lo, dtype=torch.float64), torch.tensor(hi, dtype=torch.float64)
    if result.claims["convergence"]:
        assert (seen[-1] - seen[-1, 0]).abs().max() < 1e-6, "all of them end in one point"
    if result.claims.get("invariant"):
        assert (seen >= low - 1e-9).all() and (seen <= high + 1e-9).all()


@pytest.mark.parametrize("seed", range(24))
def test_what_is_proved_in_a_region_is_so_there_and_is_not_said_of_all_states(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    gain, shift, middle, reach = (float(v) for v in torch.rand(4, generator=draw) * torch.tensor([2.0, 1.0, 2.0, 2.5]))
    model, lo, hi = bistable(gain, shift - 0.5), middle - 1 - reach, middle - 1 + reach
    result = tv.verify_fixed_point(model, region=tv.Box(lo, hi), norm="linf")
    for at in torch.linspace(-1, 1, INPUTS):
        holds(model, result, [lo], [hi], at.reshape(1))
    if result:
        assert not result.proves("exactly_one(region=all)") and result.proves(
            tv.claims.ExactlyOne(region=tv.Box(lo, hi))
        )
    x = torch.zeros(1)
    answered = tv.verify_fixed_point(model.float(), x, region=tv.Box(lo, hi), norm="linf")
    if answered.answer is not None:
        assert lo <= 0 <= hi, "init lies where convergence was proved"
        states = orbits(model, torch.zeros(1, 1), x, STEPS)[answered.answer_steps :, 0, 0]
        assert ((states < 0) == bool(answered.answer[0])).all()


def test_both_happen() -> None:
    """A region about one of two attractors is proved without an answer where init lies elsewhere."""
    model = bistable(3.0, 0.0)
    away = tv.verify_fixed_point(model, torch.zeros(1), region=tv.Box("0.8", "1.2"), norm="linf")
    assert away.claims["exactly_one"] and away.answer is None
    assert not tv.verify_fixed_point(model, region=tv.Box(-1, 1), norm="linf"), "it holds both attractors"
    assert tv.verify_fixed_point(bistable(0.5, 0.25), torch.zeros(1), region=tv.Box(-1, 1), norm="linf").answer == (0,)


@pytest.mark.parametrize("reach", [1.0, 2.0, 2.5, 8.0])
@pytest.mark.parametrize("strength", [0.25, 0.7, 0.8, 2.0])
def test_a_cascade_through_a_gate_is_proved_where_no_orbit_leaves_and_none_expands(
    strength: float, reach: float
) -> None:
    model = gated(strength)
    result = tv.verify_fixed_point(model, region=tv.Box(-reach, reach), norm="linf")
    for at in torch.linspace(-1, 1, INPUTS):
        holds(model, result, [-reach] * 2, [reach] * 2, at.reshape(1))
    assert bool(result) == ((strength, reach) in PROVED), result.explain()
