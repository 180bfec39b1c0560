"""A Sandwich block keeps the gain of each bounded input: fresh, trained, disturbed, and exactly after baking."""

from __future__ import annotations

import pytest
import torch

from trm_verify.nn import Proof, SandwichBlock, bake

GAINS = (0.7, 0.2, 1.5)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(seed: int, **options: object) -> SandwichBlock:
    return SandwichBlock(4, 9, (3, 5, 2), 3, GAINS, generator=generator(seed), **options)


def inputs(seed: int, *lead: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    source = generator(seed)
    return [torch.randn(*lead, n, generator=source) for n in (3, 5, 2)], torch.randn(*lead, 3, generator=source)


def disturb(layer: SandwichBlock, seed: int, scale: float = 1.0) -> None:
    source = generator(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=source))


def check_inequality(layer: SandwichBlock) -> None:
    """2Λ − W₂ᵀW₂ − ΛW₁D⁻²W₁ᵀΛ ⪰ 0 at the stated gains D, with the room that baking leaves."""
    baked, largest = layer.bake(), max(layer.gains)
    first, second, psi = baked.inner.weight.double(), baked.outer.weight.double(), baked.psi.double()
    gains = torch.cat([torch.full((n,), g, dtype=torch.float64) for n, g in zip((3, 5, 2), layer.gains, strict=True)])
    multipliers = torch.diag(largest**2 * psi**2)
    half = multipliers @ first / gains
    matrix = 2 * multipliers - second.T @ second - half @ half.T
    scaled = matrix / psi[:, None] / psi[None, :]
    assert float(torch.linalg.eigvalsh(scaled).min()) > torch.finfo(torch.float32).eps


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("act", ["relu", "tanh", "leaky_relu"])
def test_the_matrix_inequality_holds_with_one_gain_an_input(seed, act):
    layer = block(seed, act=act)
    bounded, x = inputs(seed, 4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    check_inequality(layer)
    for _ in range(5):
        optimizer.zero_grad()
        (-layer(*bounded, x=x).square().mean()).backward()
        optimizer.step()
    check_inequality(layer)
    disturb(layer, seed, 2.0)
    check_inequality(layer)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_stay_within_the_gains_and_come_near_them(seed):
    layer = block(seed).double()
    disturb(layer, seed, 0.5)
    baked, source, best = bake(layer), generator(seed), 0.0
    x = torch.randn(400, 3, generator=source, dtype=torch.float64)
    first = [5 * torch.randn(400, n, generator=source, dtype=torch.float64) for n in (3, 5, 2)]
    for which in ({0}, {1}, {2}, {0, 1, 2}):
        moves = [
            torch.randn(v.shape, generator=source, dtype=torch.float64) * (i in which) for i, v in enumerate(first)
        ]
        second = [v + 0.3 * d for v, d in zip(first, moves, strict=True)]
        moved = (baked(*first, x=x) - baked(*second, x=x)).square().sum(-1)
        allowed = sum(g**2 * (0.3 * d).square().sum(-1) for g, d in zip(GAINS, moves, strict=True))
        assert float((moved / allowed).max()) <= 1
        best = max(best, float((moved / allowed).max()))
    assert best > 0.2  # not a block that ignores its inputs


def test_bake_equals_forward_and_acts_on_tokens_one_by_one():
    layer = block(1)
    bounded, x = inputs(2, 2, 5)
    together = layer(*bounded, x=x)
    assert together.shape == (2, 5, 4)
    assert torch.allclose(bake(layer)(*bounded, x=x), together, atol=1e-5)
    single = torch.stack([layer(*(v[:, i] for v in bounded), x=x[:, i]) for i in range(5)], dim=1)
    assert torch.allclose(together, single, atol=1e-6)


def test_gradients_reach_every_parameter_and_every_input():
    layer = block(3)
    bounded, x = inputs(3, 6)
    leaves = [v.requires_grad_() for v in (*bounded, x)]
    layer(*leaves[:-1], x=leaves[-1]).square().sum().backward()
    for key, value in [*layer.named_parameters(), *zip("abcx", leaves, strict=True)]:
        assert value.grad is not None and value.grad.isfinite().all() and float(value.grad.abs().max()) > 0, key


def test_one_gain_for_all_and_the_proof_route():
    layer = SandwichBlock(2, 3, (2, 2), gains=0.5)
    assert layer.gains == (0.5, 0.5)
    assert layer.proof == Proof("row_gain", "tokens_l2", 0.5)


def test_wrong_sizes_gains_and_calls_are_named():
    for arguments in ((0, 3, (2,)), (2, 0, (2,)), (2, 3, ()), (2, 3, (2, 0)), (2, 3, (2,), -1)):
        with pytest.raises(ValueError, match="SandwichBlock"):
            SandwichBlock(*arguments)
    with pytest.raises(ValueError, match="2 gains"):
        SandwichBlock(2, 3, (2, 2), gains=(0.5,))
    with pytest.raises(ValueError, match="gain"):
        SandwichBlock(2, 3, (2, 2), gains=(0.5, 0.0))
    with pytest.raises(ValueError, match="slopes in"):
        SandwichBlock(2, 3, (2,), act="sin")
    bounded, x = inputs(0, 1)
    with pytest.raises(ValueError, match="sizes"):
        block(0)(*bounded[:2], x=x)
    with pytest.raises(ValueError, match="without"):
        block(0)(*bounded)
