"""Recursions of tokenwise blocks: what row gains prove by themselves, and neighbouring models that they must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv
from tests.provers.steps import Case
from trm_verify.nn import SandwichBlock, SandwichStep, bake
from trm_verify.provers.contraction.row_gains import tune
from trm_verify.provers.contraction.subgraphs import subgraphs

TOKENS, FEATURES = 5, 8


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(layer: nn.Module, seed: int) -> None:
    """Uneven Ψ, as training leaves it."""
    with torch.no_grad():
        layer.log_psi.add_(0.5 * torch.randn(layer.log_psi.shape, generator=generator(seed)))


class Mixed(nn.Module):
    """z ← Sandwich(A z) with a constant A."""

    def __init__(self, tokens: int = TOKENS, features: int = FEATURES, hidden: int = 16, total: float = 1.0) -> None:
        super().__init__()
        self.cell = SandwichStep(features, hidden, 3, 0.9, generator=generator(1))
        spread(self.cell, 2)
        mixing = torch.rand(tokens, tokens, generator=generator(3))
        self.register_buffer("mixing", total * mixing / mixing.sum(1, keepdim=True))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.cell(self.mixing @ z, x)


class Attending(nn.Module):
    """z ← Sandwich(A(x) z) with softmax attention over features of x; over the wrong axis if `transposed`."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.cell = SandwichStep(FEATURES, 16, 3, 0.9, generator=generator(4))
        spread(self.cell, 5)
        self.query, self.key = (tv.nn.free_linear(3, 6, generator(k)) for k in (6, 7))
        self.transposed = transposed

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(-1, -2)
        weights = torch.softmax(scores, -1)
        return self.cell((weights.transpose(-1, -2) if self.transposed else weights) @ z, x)


class TwoTimescales(nn.Module):
    """`inner` times z_L ← L(z_L, z_H, x), then z_H ← H(z_H, z_L), with the gains of each block."""

    def __init__(
        self, low: Sequence[float], high: Sequence[float], inner: int = 3, features: int = FEATURES, hidden: int = 32
    ) -> None:
        super().__init__()
        self.inner = inner
        self.low = SandwichBlock(features, hidden, (features, features), 3, low, generator=generator(8))
        self.high = SandwichBlock(features, hidden, (features, features), 0, high, generator=generator(9))
        spread(self.low, 10)
        spread(self.high, 11)

    def forward(self, z: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        high, low = z
        for _ in range(self.inner):
            low = self.low(low, high, x=x)
        return self.high(high, low), low


class Pooled(nn.Module):
    """A coarse z_H of one token that reads the mean over the tokens of z_L, which all read it."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (FEATURES, FEATURES)
        self.low = SandwichBlock(FEATURES, 32, sizes, 3, (0.65, 0.25), generator=generator(12))
        self.high = SandwichBlock(FEATURES, 32, sizes, 0, (0.4, 0.6), generator=generator(13))

    def forward(self, z: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        high, low = z
        for _ in range(2):
            low = self.low(low, high.expand(-1, low.shape[1], -1), x=x)
        return self.high(high, low.mean(1, keepdim=True)), low


class IdealisedGain(nn.Module):
    """At the inner fixed point z_L = z_H/6, a gain of 5/6; the loop that is run diverges for n = 3."""

    def forward(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        high, low = z
        for _ in range(3):
            low = 0.7 * low + 0.3 * (-5 * low + high)
        return -5 * low, low


ONE, TWO = (TOKENS, FEATURES), ((TOKENS, FEATURES), (TOKENS, FEATURES))
GIVEN = (TOKENS, 3)


def verified(step: nn.Module, state: Any, given: Any = GIVEN, **options: Any) -> Any:
    return tv.verify_fixed_point(tv.recursive(bake(step), state_shape=state, input_shape=given), **options)


PROVED = {
    "constant mixing": (Mixed, ONE, 0.9),
    "attention over x": (Attending, ONE, 0.9),
    "two timescales": (lambda: TwoTimescales((0.7, 0.25), (0.4, 0.6)), TWO, 0.6),
    "a pooled token": (Pooled, ((1, FEATURES), (TOKENS, FEATURES)), 0.6),
    "one part of two expands by itself": (lambda: TwoTimescales((0.5, 1.5), (0.2, 0.25)), TWO, 0.95),
}


@pytest.mark.parametrize("name", PROVED)
def test_recursions_of_blocks_are_proved(name: str) -> None:
    make, state, most = PROVED[name]
    result = verified(make(), state)
    assert result.verdict is tv.PROVED, result.explain()
    assert float(result.rate) <= most
    assert {c.verdict for c in result.claims.values()} == {tv.PROVED}
    assert any(step["rule"] == "row_gain" for step in result.certificate.predicate["steps"])


NOT_PROVED = {
    "rows that sum to 1.2": (lambda: Mixed(total=1.2), ONE),
    "columns that sum to one": (lambda: Attending(transposed=True), ONE),
    "too much coupling": (lambda: TwoTimescales((0.95, 0.9), (0.6, 0.9)), TWO),
    "an inner gain slightly too large": (lambda: TwoTimescales((1.05, 0.25), (0.4, 0.9)), TWO),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_PROVED)
def test_neighbours_are_not(name: str) -> None:
    make, state = NOT_PROVED[name]
    assert verified(make(), state).verdict is not tv.PROVED


def test_the_gain_of_a_settled_inner_loop_is_not_that_of_the_loop() -> None:
    result = verified(IdealisedGain(), ((1, 1), (1, 1)), None)
    assert result.claims["convergence"].verdict is not tv.PROVED


@pytest.mark.slow
def test_larger_models_take_seconds() -> None:
    assert verified(Mixed(16, 32, 64), (16, 32), (16, 3)).verdict is tv.PROVED
    large = TwoTimescales((0.7, 0.25), (0.4, 0.6), features=32, hidden=64)
    assert verified(large, ((16, 32), (16, 32)), (16, 3)).verdict is tv.PROVED


# the search


def case_of(step: nn.Module, state: Any, given: Any, hinted: bool = True) -> Case:
    baked = bake(step)
    hints = [m.psi.double().numpy() for m in baked.modules() if hinted and hasattr(m, "psi")]
    return Case(baked, state, given, hints=hints)


def test_copies_of_a_block_come_as_one_subgraph() -> None:
    case = case_of(TwoTimescales((0.7, 0.25), (0.4, 0.6)), TWO, GIVEN)
    found = subgraphs(case.problem, case.domain, case.region)
    assert sorted(len(s.places) for s in found) == [1, 3]
    assert all(s.widths == (FEATURES, FEATURES) and s.form.units == 32 for s in found)


def test_a_residual_connection_joins_its_block() -> None:
    cell = bake(SandwichStep(4, 6, generator=generator(0)))
    case = Case(lambda z: 0.25 * z + 0.75 * cell(z), (3, 4), hints=[cell.psi.double().numpy()])
    (found,) = subgraphs(case.problem, case.domain, case.region)
    (((start,), output),) = found.places
    nodes = case.problem.graph.step.nodes
    assert nodes[start].op == "state" and nodes[output].op == "add"
    assert np.any(found.form.outputs[:, :4])


@pytest.mark.parametrize("hinted", [True, False])
def test_gains_come_near_those_that_the_layer_aims_for(hinted: bool) -> None:
    """Without a hint the weights are balanced around each unit, which recovers most of it."""
    case = case_of(TwoTimescales((0.7, 0.25), (0.4, 0.6)), TWO, GIVEN, hinted)
    tuned = tune(case.problem, case.domain, case.region, lambda gains: 0.5)
    gains = {len(t.subgraph.places): t.at(log2)[0] for t, log2 in tuned}
    aims = {3: {0.7, 0.25}, 1: {0.4, 0.6}}
    for copies, aim in aims.items():
        most = 1 + 1e-5 if hinted else 1.5
        assert sorted(gains[copies]) == pytest.approx(sorted(aim), rel=0.02 if hinted else 0.5)
        assert max(gains[copies]) <= max(aim) * most


def test_wrong_hints_are_harmless() -> None:
    case = case_of(Mixed(), ONE, GIVEN)
    case.problem.hints = [
        np.full(16, np.nan),
        -np.ones(16),
        np.full(16, 1e-200),
        np.full(16, 1e200),
        *case.problem.hints,
    ]
    tuned = tune(case.problem, case.domain, case.region, lambda gains: 0.5)
    assert [float(t.at(log2)[0][0]) for t, log2 in tuned] == pytest.approx([0.9], rel=1e-5)


def test_steps_without_activations_or_rows_have_no_subgraphs() -> None:
    layer = nn.Linear(4, 4, bias=False, dtype=torch.float64)
    for step, state in ((layer, (3, 4)), (torch.tanh, (3, 4)), (lambda z: torch.softmax(layer(z), -1), (3, 4))):
        case = Case(step, state)
        assert subgraphs(case.problem, case.domain, case.region) == []


class Neighbours(nn.Module):
    """z_t ← relu(share · (z_{t−1} + z_{t+1})), zeros beyond the ends: linear where all states are positive."""

    def __init__(self, share: float) -> None:
        super().__init__()
        one = torch.eye(2)
        self.inner, self.outer = nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.inner.weight.copy_(share * torch.cat([one, one], 1))
            self.outer.weight.copy_(one)

    def forward(self, z: Tensor) -> Tensor:
        padded = nn.functional.pad(z, (0, 0, 1, 1))
        around = torch.cat([padded[:, :-2], padded[:, 2:]], -1)
        after: Tensor = self.outer(torch.relu(self.inner(around)))
        return after


@pytest.mark.parametrize("share", [0.3, 0.45, 0.49, 0.54, 0.6])
def test_padded_shifts_have_no_smaller_rate_than_the_spectral_radius(share: float) -> None:
    """A shift's zeros are a group that does not move; what moves is still bounded on both sides."""
    tokens = 8
    result = tv.verify_fixed_point(tv.recursive(Neighbours(share), state_shape=(tokens, 2)), norm="tokens")
    radius = 2 * float(np.float32(share)) * np.cos(np.pi / (tokens + 1))
    claim = result.claims["contraction"]
    assert bool(claim) == (radius < 1), result.explain()
    assert not claim or radius <= float(result.rate) <= 1.05 * radius + 0.05
