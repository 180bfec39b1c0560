"""No prover says more than is true: random steps never expand by more than the rate that was proved for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.provers.steps import Case
from trm_verify.nn import SandwichStep
from trm_verify.provers.contraction.norms import PROVERS

ROOM = 1 + 1e-9  # the oracle computes in doubles

Maker = Callable[[torch.Generator, float], Case]


def layer(generator: torch.Generator, size: int, out: int | None = None, gain: float = 1.0) -> nn.Linear:
    found = nn.Linear(size, out or size)
    with torch.no_grad():
        found.weight.copy_(torch.randn(found.weight.shape, generator=generator) * gain / size**0.5)
        found.bias.copy_(torch.randn(found.bias.shape, generator=generator))
    return found


def one_layer(g: torch.Generator, gain: float) -> Case:
    a = layer(g, 7, gain=gain)
    return Case(lambda z: torch.tanh(a(z)), (7,))


def two_layers(g: torch.Generator, gain: float) -> Case:
    a, b = layer(g, 5, 9, gain), layer(g, 9, 5)
    return Case(lambda z, x: b(torch.relu(a(z) + x)), (5,), (9,))


def three_layers(g: torch.Generator, gain: float) -> Case:
    a, b, c = layer(g, 4, 6, gain), layer(g, 6, 6, 0.5), layer(g, 6, 4, 0.5)
    return Case(lambda z: c(torch.nn.functional.silu(b(torch.sin(a(z))))), (4,))


def averaged(g: torch.Generator, gain: float) -> Case:
    a = layer(g, 6, gain=gain)
    return Case(lambda z: 0.75 * z + 0.25 * nn.functional.leaky_relu(a(z), 0.125), (6,))


def gated(g: torch.Generator, gain: float) -> Case:
    a, b = layer(g, 6, gain=gain), layer(g, 4, 6)
    return Case(lambda z, x: torch.sigmoid(b(x)) * torch.relu(a(z)), (6,), (4,), domain=(-1, 1))


def multiplied(g: torch.Generator, gain: float) -> Case:
    a, b = layer(g, 4, gain=gain), layer(g, 4, gain=gain)
    return Case(lambda z: torch.sigmoid(a(z)) * torch.tanh(b(z)), (4,))


def attention(g: torch.Generator, gain: float) -> Case:
    query, key, value = layer(g, 3, 4), layer(g, 3, 4), layer(g, 4, gain=gain)

    def step(z: Tensor, x: Tensor) -> Tensor:
        return torch.softmax(query(x) @ key(x).transpose(-2, -1), dim=-1) @ value(z)

    return Case(step, (5, 4), (5, 3))


def convolution(g: torch.Generator, gain: float) -> Case:
    kernel = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        kernel.weight.copy_(torch.randn(kernel.weight.shape, generator=g) * gain / 6)
    return Case(lambda z: torch.relu(kernel(z)), (1, 3, 3))


def two_parts(g: torch.Generator, gain: float) -> Case:
    a, b, c = layer(g, 4, gain=gain), layer(g, 3, 4, 3 * gain), layer(g, 3, gain=gain)

    def step(z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low, high = z
        return torch.tanh(a(low) + b(high)), torch.relu(c(high)) + 0.01 * low[:, :3]

    return Case(step, ((4,), (3,)))


def normalised(g: torch.Generator, gain: float) -> Case:
    a, norm = layer(g, 4, gain=0.2 * gain), nn.LayerNorm(4, eps=0.5)
    return Case(lambda z: norm(a(z)), (4,), region=(-1, 1))


def softened(g: torch.Generator, gain: float) -> Case:
    a, b = layer(g, 5, gain=gain), layer(g, 5, gain=gain)
    return Case(lambda z: b(torch.softmax(a(z), dim=-1)), (5,))


def local(g: torch.Generator, gain: float) -> Case:
    a = layer(g, 4, gain=2 * gain)
    return Case(lambda z: torch.tanh(a(z)), (4,), region=(0.5, 1.5))


def largest(g: torch.Generator, gain: float) -> Case:
    a = layer(g, 4, 12, gain=gain)
    return Case(lambda z: a(z).reshape(-1, 4, 3).amax(-1), (4,))


def sandwich(g: torch.Generator, gain: float) -> Case:
    step = SandwichStep(5, 8, 3, min(0.99, 0.6 * gain + 0.3), generator=g).bake()
    return Case(step, (5,), (3,), hints=[step.psi.double().numpy()])


MAKERS: dict[str, Maker] = {
    make.__name__: make
    for make in (
        one_layer, two_layers, three_layers, averaged, gated, multiplied, attention, convolution, two_parts, normalised,
        softened, local, largest, sandwich,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_sampled_pairs_never_expand_by_more_than_the_rate(name: str, seed: int) -> None:
    for gain in (0.25, 0.7):
        case = MAKERS[name](torch.Generator().manual_seed(seed), gain)
        for prover, prove in PROVERS.items():
            attempt = case.prove(prove)
            if attempt.rate is None or attempt.derivation is None:
                assert attempt.reason, f"{prover} says nothing"
                continue
            assert 0 <= attempt.rate < 1
            worst = case.worst(attempt.derivation.steps[-1]["norm"], np.random.default_rng(seed))
            assert worst <= float(attempt.rate) * ROOM, f"{prover} in {attempt.norm}"


PROVED_BY: dict[str, list[str]] = {
    "one_layer": ["linf", "l2", "metric"],
    "two_layers": ["linf", "l2", "metric"],
    "three_layers": ["linf"],
    "averaged": ["linf", "l2", "metric"],
    "gated": ["linf", "l2"],
    "multiplied": ["linf"],
    "attention": ["linf", "tokens"],
    "convolution": ["linf"],
    "two_parts": ["linf", "parts", "metric"],
    "normalised": ["l2"],
    "softened": ["linf", "l2"],
    "local": ["linf", "l2", "metric"],
    "largest": ["linf"],
    "sandwich": ["metric"],
}


@pytest.mark.parametrize("name", PROVED_BY)
def test_gentle_steps_are_proved(name: str) -> None:
    """The property above is not empty: these provers do find a rate."""
    case = MAKERS[name](torch.Generator().manual_seed(0), 0.2)
    failed = {p: case.prove(PROVERS[p]).reason for p in PROVED_BY[name]}
    assert not any(failed.values()), failed


EXPANDING: dict[str, tuple[Any, tuple[int, ...], tuple[float, float] | None]] = {
    "scaling by 1 + 2^-20": (lambda z: z * (1 + 2.0**-20), (3,), None),
    "identity": (lambda z: z * 1.0, (3,), None),
    "relu(z)": (lambda z: torch.relu(z), (3,), None),
    "tanh(z)": (lambda z: torch.tanh(z), (2,), None),
    "tanh(2z) near 0": (lambda z: torch.tanh(2 * z), (2,), (-0.5, 0.5)),
    "a shear": (lambda z: torch.stack([z[:, 0] + z[:, 1], z[:, 1]], dim=1), (2,), None),
    "a rotation": (
        lambda z: torch.stack([0.6 * z[:, 0] - 0.8 * z[:, 1], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1),
        (2,),
        None,
    ),
    "gelu": (lambda z: torch.nn.functional.gelu(z), (2,), None),
    "a residual block": (lambda z: z + torch.relu(z), (2,), None),
    "two heads": (lambda z: torch.cat([z[:, :1], z[:, :1]], dim=1), (2,), None),
    "its own product": (lambda z: z * z, (1,), (-0.5, 0.5)),
    "softmax": (lambda z: 9 * torch.softmax(z, dim=-1), (3,), None),
}


@pytest.mark.parametrize("name", EXPANDING)
@pytest.mark.parametrize("prover", PROVERS)
def test_steps_that_expand_are_proved_in_no_norm(name: str, prover: str) -> None:
    step, state, region = EXPANDING[name]
    attempt = Case(step, state, region=region).prove(PROVERS[prover])
    assert attempt.rate is None and attempt.derivation is None
    assert attempt.reason


def test_spectrally_normalised_layers_are_not_taken_at_their_word() -> None:
    """After a few optimiser steps such a layer has a norm above 1; its own power iteration says 1."""
    torch.manual_seed(0)
    above = 0
    for seed in range(4):
        layer = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(24, 24, bias=False))
        optimiser, target = torch.optim.Adam(layer.parameters(), lr=0.05), torch.randn(64, 24)
        for _ in range(20):
            optimiser.zero_grad()
            ((layer(target) - target.roll(seed + 1, 1)) ** 2).mean().backward()
            optimiser.step()
        layer.eval()
        matrix = layer.weight.detach().double().numpy()
        true = float(np.linalg.norm(matrix, 2))
        above += true > 1
        for factor in (1.0, 0.5):
            case = Case(lambda z, a=layer, c=factor: c * torch.relu(a(z)), (24,))
            attempt = case.prove(PROVERS["l2"])
            if true * factor >= 1:
                assert attempt.rate is None
            else:
                assert attempt.rate is not None
                assert true * factor <= float(attempt.rate) <= true * factor * (1 + 1e-5)
    assert above >= 3
