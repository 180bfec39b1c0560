"""Recursions that settle exactly: the order of their parts, their answers, and neighbours that must not be PROVED."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import trm_verify as tv
from tests.provers.steps import Case
from trm_verify.provers.triangular import prove_settled

TOKENS, SIZE = 6, 4


class Causal(nn.Module):
    """z_t ← tanh(B relu(A [z_{t−1}, x_t])) with free weights; `residual` keeps some of z_t, `ring` wraps around."""

    def __init__(self, residual: float = 0.0, ring: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(3)
        self.first, self.second = tv.nn.free_linear(SIZE + 1, 8, source), tv.nn.free_linear(8, SIZE, source)
        self.residual, self.ring, self.scale = residual, ring, scale

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        before = torch.roll(z, 1, 1) if self.ring else pad(z[:, :-1], (0, 0, 1, 0))
        hidden = torch.relu(self.first(torch.cat([before, x], -1)))
        after = torch.tanh(self.scale * self.second(hidden))
        return after + self.residual * z if self.residual else after


def model(step: nn.Module, **options: Any) -> nn.Module:
    readout = tv.nn.free_linear(SIZE, 2, torch.Generator().manual_seed(4))
    options = {"readout": readout, "state_shape": (TOKENS, SIZE), "input_shape": (TOKENS, 1)} | options
    return tv.recursive(step, **options)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_causal_recursion_settles_whatever_its_weights(scale: float) -> None:
    result = tv.verify_fixed_point(model(Causal(scale=scale)))
    assert result.verdict is tv.PROVED
    assert any("settles(steps<=6" in claim.statement for claim in result.claims.values())
    assert result.steps("1e-30") == TOKENS and result.explain()


def test_a_long_recursion_has_no_rate_and_needs_none() -> None:
    result = tv.verify_fixed_point(model(Causal(scale=3.0), state_shape=(80, SIZE), input_shape=(80, 1)))
    assert result.verdict is tv.PROVED and result.rate is None and result.steps("1e-30") == 80
    assert set(result.claims) == {"exactly_one", "convergence"}
    assert "settles(steps<=80" in result.claims["convergence"].statement
    assert [step["rule"] for step in result.certificate.predicate["steps"]] == ["triangular"]


def test_the_claim_is_checked_against_expectations(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    built = model(Causal())
    result = tv.verify_fixed_point(built)
    saved = result.certificate.save(tmp_path / "model.trmcert.json")
    weights = tmp_path / "model.safetensors"
    names = {n["name"] for f in ("step", "readout") for n in result.certificate.predicate["graph"][f]["nodes"]
             if n["op"] == "tensor"}  # fmt: skip
    save_file({k: v.contiguous() for k, v in built.state_dict().items() if k in names}, weights)
    tv.check(saved, weights, expect=[tv.claims.Settles(steps=TOKENS, operator="picard", domain="all"), "exactly_one"])
    for wanted in (f"settles(steps<={TOKENS - 1})", "settles(operator=implicit)", "convergence(rate<=1e-9)"):
        with pytest.raises(tv.CheckError, match="EXPECTED"):
            tv.check(saved, weights, expect=wanted)


NEIGHBOURS = {
    "a residual above 1": lambda: model(Causal(residual=1.5)),
    "a ring of expanding layers": lambda: model(Causal(ring=True, scale=40.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_do_not_settle(name: str) -> None:
    result = tv.verify_fixed_point(NEIGHBOURS[name]())
    assert result.verdict is not tv.PROVED
    assert not any("settles(" in c.statement for c in result.claims.values())


def test_a_damped_loop_does_not_settle() -> None:
    result = tv.verify_fixed_point(model(Causal(scale=0.2), iteration=tv.Damped(0.5)))
    assert not any("settles(" in c.statement for c in result.claims.values())


# the order of the parts


def parts_of(case: Case) -> list[int] | None:
    attempt = prove_settled(case.problem, case.domain)
    if attempt.derivation is None:
        return None
    return [part for count, part in attempt.derivation.steps[-1]["parts"] for _ in range(count)]


def linear(matrix: Any) -> Case:
    layer = nn.Linear(len(matrix), len(matrix), bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(matrix, dtype=torch.float64))
    return Case(layer, (len(matrix),))


def test_entries_are_ordered_where_rows_are_not() -> None:
    assert parts_of(linear([[0, 0, 5], [2, 0, 1], [0, 0, 0]])) == [2, 3, 1]


@pytest.mark.parametrize("matrix", [[[0, 1], [1, 0]], [[1e-300, 0], [0, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]])
def test_cycles_have_no_order(matrix: Any) -> None:
    assert parts_of(linear(matrix)) is None


def test_the_longest_path_counts_and_not_the_number_of_parts() -> None:
    """Tokens 2 and 3 both follow the first, the fourth follows both."""
    follow = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.float64)
    case = Case(lambda z: torch.sin(follow @ z), (4, 3))
    assert parts_of(case) == [1] * 3 + [2] * 6 + [3] * 3


def test_two_parts_of_the_state_are_ordered_together() -> None:
    def step(z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        high, low = z
        return torch.tanh(3 * low), pad(high[:, :-1], (0, 0, 1, 0))

    case = Case(step, ((3, 2), (3, 2)))
    assert parts_of(case) == [2] * 2 + [4] * 2 + [6] * 2 + [1] * 2 + [3] * 2 + [5] * 2
