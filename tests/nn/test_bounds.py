"""Every layer keeps its bound: fresh, after training steps, with wild parameters, and exactly after
baking.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from trm_verify.nn import (
    BoundedLayer,
    L2Conv2d,
    LinfConv2d,
    LinfLinear,
    OrthogonalLinear,
    RowStochasticMixing,
    SandwichStep,
)

Make = Callable[..., BoundedLayer]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disturbed(layer: nn.Module, seed: int, scale: float) -> None:
    """Move every parameter far from where it started."""
    source = generator(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=source).to(parameter))


def trained(layer: nn.Module, call: Callable[[], Tensor], steps: int = 5) -> None:
    """A few optimizer steps that try to make the output large."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -call().square().mean()
        loss.backward()
        optimizer.step()


def norm2(weight: Tensor) -> float:
    return float(torch.linalg.svdvals(weight.detach().double()).max())


def exact_row_sums(weight: Tensor, inputs: Tensor, outputs: Tensor) -> list[Fraction]:
    """Σ_j |W_ij| d_j / d_i in exact arithmetic over the stored entries."""
    ds = [Fraction(v) for v in inputs.tolist()]
    return [
        sum((abs(Fraction(w)) * d for w, d in zip(row, ds, strict=True)), Fraction(0)) / Fraction(out)
        for row, out in zip(weight.tolist(), outputs.tolist(), strict=True)
    ]


SEEDS = pytest.mark.parametrize("seed", range(4))
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@SEEDS
@DTYPES
@pytest.mark.parametrize("shape", [(6, 6), (3, 9), (9, 3), (1, 5)])
def test_orthogonal_linear_reaches_its_bound_and_never_crosses_it(seed, dtype, shape):
    layer = OrthogonalLinear(*shape, 0.9, generator=generator(seed), dtype=dtype)
    z = torch.randn(4, shape[0], generator=generator(seed), dtype=torch.float64).to(dtype)
    for _ in range(3):
        baked = layer.bake()
        assert baked.weight.dtype == dtype
        assert 0.9 * (1 - 1e-5) <= norm2(baked.weight) <= 0.9
        trained(layer, lambda: layer(z), 2)
    disturbed(layer, seed, 30.0)
    assert norm2(layer.bake().weight) <= 0.9


@SEEDS
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "padding", "size"),
    [(2, 3, 3, 1, 1, 5), (1, 4, (2, 3), 1, 0, 5), (2, 2, 3, 2, 1, 6), (3, 2, 2, 2, 0, 4)],
)
def test_l2_conv_is_bounded_as_a_map_of_whole_images(seed, channels, outputs, kernel, stride, padding, size):
    layer = L2Conv2d(channels, outputs, kernel, 0.9, stride=stride, padding=padding, generator=generator(seed))
    x = torch.randn(2, channels, size, size, generator=generator(seed))
    for _ in range(2):
        assert norm2(jacobian(layer.bake(), channels, size)) <= 0.9
        trained(layer, lambda: layer(x))
    disturbed(layer, seed, 5.0)
    assert norm2(jacobian(layer.bake(), channels, size)) <= 0.9


def test_l2_conv_without_overlap_reaches_its_bound():
    layer = L2Conv2d(2, 3, 2, 0.9, stride=2, generator=generator(0))
    assert norm2(jacobian(layer.bake(), 2, 6)) >= 0.9 * (1 - 1e-5)


def jacobian(conv: nn.Module, channels: int, size: int) -> Tensor:
    """The convolution as a matrix, from its effect on unit images."""
    conv = conv.double()
    units = torch.eye(channels * size * size, dtype=torch.float64).reshape(-1, channels, size, size)
    return (conv(units) - conv(torch.zeros_like(units))).flatten(1).T


@SEEDS
@DTYPES
def test_linf_linear_keeps_exact_weighted_row_sums(seed, dtype):
    ins = torch.rand(7, generator=generator(seed)) * 4 + 0.1
    outs = torch.rand(5, generator=generator(seed + 9)) * 4 + 0.1
    layer = LinfLinear(7, 5, 0.9, input_weights=ins, output_weights=outs, generator=generator(seed), dtype=dtype)
    z = torch.randn(4, 7, generator=generator(seed)).to(dtype)
    for _ in range(4):
        assert all(s <= Fraction(0.9) for s in exact_row_sums(layer.bake().weight, ins, outs))
        trained(layer, lambda: layer(z), 3)
    disturbed(layer, seed, 50.0)
    sums = exact_row_sums(layer.bake().weight, ins, outs)
    assert all(Fraction(0.9) * (1 - Fraction(1, 10**5)) <= s <= Fraction(0.9) for s in sums)


def test_linf_linear_leaves_rows_within_the_bound_alone():
    layer = LinfLinear(3, 2, 0.5, generator=generator(0), dtype=torch.float64)
    free = torch.tensor([[0.125, -0.25, 0.0], [4.0, 0.0, -4.0]], dtype=torch.float64)
    with torch.no_grad():
        layer.free.copy_(free)
    (weight,) = layer.weights()
    assert torch.equal(weight[0], free[0])
    assert torch.equal(weight[1], torch.tensor([0.25, 0.0, -0.25], dtype=torch.float64))


@SEEDS
def test_linf_conv_keeps_exact_kernel_sums(seed):
    ins, outs = torch.tensor([1.0, 0.3]), torch.tensor([2.0, 0.7, 1.1])
    layer = LinfConv2d(2, 3, (3, 2), 0.9, input_weights=ins, output_weights=outs, padding=1, generator=generator(seed))
    disturbed(layer, seed, 3.0)
    rows = layer.bake().weight.reshape(3, -1)
    assert all(s <= Fraction(0.9) for s in exact_row_sums(rows, ins.repeat_interleave(6), outs))
    # The same bound, seen from outside: weighted row sums of the map of whole images.
    matrix = jacobian(layer.bake(), 2, 4).abs()
    sums = matrix @ ins.double().repeat_interleave(16) / outs.double().repeat_interleave(len(matrix) // 3)
    assert 0.85 < float(sums.max()) <= 0.9


@SEEDS
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_mixing_is_bounded_in_max_over_tokens_of_l2_for_every_input(seed, heads):
    layer = RowStochasticMixing(8, 3, bound=0.9, heads=heads, generator=generator(seed))
    source = generator(seed + 100)
    z, x = torch.randn(2, 5, 8, generator=source), torch.randn(2, 5, 3, generator=source)
    trained(layer, lambda: layer(z, x))
    disturbed(layer, seed, 1.0)
    baked = layer.bake().double()
    values = [norm2(head.weight) for head in baked.values]
    assert sum(v**2 for v in values) <= 0.9**2
    stacked = torch.cat([head.weight for head in baked.values])
    assert norm2(stacked) * heads**0.5 <= 0.9
    for _ in range(50):
        x = 3 * torch.randn(1, 5, 3, generator=source, dtype=torch.float64)
        z, w = torch.randn(2, 1, 5, 8, generator=source, dtype=torch.float64)
        ratio = (baked(z, x) - baked(w, x)).norm(dim=-1).max() / (z - w).norm(dim=-1).max()
        assert ratio <= 0.9
    # Equal tokens along a singular vector are stretched by the most that one head allows.
    z = torch.linalg.svd(stacked).Vh[0].repeat(1, 5, 1)
    assert (baked(z, x)).norm(dim=-1).max() > 0.85 / heads**0.5


@SEEDS
@pytest.mark.parametrize(("state", "hidden"), [(6, 12), (6, 5), (4, 15), (1, 1)])
@pytest.mark.parametrize("act", ["relu", "tanh", "leaky_relu"])
def test_sandwich_step_satisfies_the_matrix_inequality_at_its_rate(seed, state, hidden, act):
    rho = 0.9
    layer = SandwichStep(state, hidden, 3, rho, act=act, generator=generator(seed))
    source = generator(seed + 50)
    z, x = torch.randn(4, state, generator=source), torch.randn(4, 3, generator=source)
    for _ in range(3):
        check_inequality(layer, rho)
        trained(layer, lambda: layer(z, x), 3)
    disturbed(layer, seed, 2.0)
    check_inequality(layer, rho)


def check_inequality(layer: SandwichStep, rho: float) -> None:
    baked = layer.bake()
    first, second = baked.inner.weight.double(), baked.outer.weight.double()
    psi = baked.psi.double()
    for aim in (rho, rho * (1 + 1e-6)):
        multipliers = torch.diag(rho * aim * psi**2)
        half = multipliers @ first / aim
        matrix = 2 * multipliers - second.T @ second - half @ half.T
        scaled = matrix / psi[:, None] / psi[None, :]
        slack = 2 * rho * (aim - rho)
        # In the scaling of Ψ the analytic slack is 2ρ(ρ' − ρ), and baking adds some units in the last place.
        assert float(torch.linalg.eigvalsh(scaled).min()) > slack + torch.finfo(torch.float32).eps


@SEEDS
def test_sandwich_pairs_never_expand_and_single_norms_would_prove_nothing(seed):
    layer = SandwichStep(8, 16, 2, 0.9, generator=generator(seed), dtype=torch.float64)
    disturbed(layer, seed, 0.7)
    baked = layer.bake()
    assert norm2(baked.inner.weight) * norm2(baked.outer.weight) > 1
    source = generator(seed)
    x = torch.randn(500, 2, generator=source, dtype=torch.float64)
    z = 5 * torch.randn(500, 8, generator=source, dtype=torch.float64)
    w = z + torch.randn(500, 8, generator=source, dtype=torch.float64) * 0.1
    ratio = (baked(z, x) - baked(w, x)).norm(dim=1) / (z - w).norm(dim=1)
    assert float(ratio.max()) <= 0.9
    assert float(ratio.max()) > 0.3


def test_sandwich_acts_on_tokens_one_by_one():
    layer = SandwichStep(4, 8, 3, 0.9, generator=generator(0))
    z, x = torch.randn(2, 5, 4, generator=generator(1)), torch.randn(2, 5, 3, generator=generator(2))
    together = layer(z, x)
    single = torch.stack([layer(z[:, i], x[:, i]) for i in range(5)], dim=1)
    assert torch.allclose(together, single, atol=1e-6)
