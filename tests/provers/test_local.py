"""Local proofs: contraction on a region together with an invariant set inside it, through the public calls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import trm_verify as tv
from tests.provers.steps import Case
from trm_verify.certificate import Derivation
from trm_verify.provers.contraction.local import prove_invariant
from trm_verify.provers.contraction.radius import prove_linf


def invariant(step: Callable[[Tensor], Tensor], size: int, region: tuple[float, float], guess: list[float]) -> str:
    """The rule that proves an invariant set inside the region, or the reason why none does."""
    case = Case(step, (size,), region=region)
    attempt = case.prove(prove_linf)
    assert isinstance(attempt.derivation, Derivation), attempt.reason
    done, reason = prove_invariant(
        case.problem, attempt.derivation, case.domain, case.region, "picard", [], np.array(guess)
    )
    return reason if done is None else str(done.steps[-1]["rule"])


def test_a_box_is_invariant_by_intervals() -> None:
    assert invariant(torch.cos, 1, (0, 1), [0.7390851332]) == "invariant_box"


def test_a_ball_inside_the_region_will_do() -> None:
    """The box [-1/4, 1] is not mapped into itself (0.9 · 1 → -0.9), but a ball about 0 is."""
    assert invariant(lambda z: -0.9 * z, 1, (-0.25, 1), [0.0]) == "invariant_ball"


def test_a_region_that_orbits_leave_is_not_invariant() -> None:
    """z/2 + 10 on [0, 1] contracts and leaves at once."""
    reason = invariant(lambda z: z / 2 + 10, 1, (0, 1), [0.5])
    assert "invariant_box" in reason and "invariant_radius" in reason and "invariant_ball" in reason


def test_networks_that_contract_only_near_their_fixed_point() -> None:
    """tanh(2z): three fixed points in all, exactly one in [1/2, 1]."""
    model = tv.recursive(lambda z: torch.tanh(2 * z), state_shape=(1,), init=lambda rows: torch.full((rows, 1), 0.75))
    assert tv.verify_fixed_point(model).verdict is tv.REFUTED
    result = tv.verify_fixed_point(model, region=tv.Box(0.5, 1))
    assert result.verdict is tv.PROVED, result.explain()
    assert result.rate is not None and 0.41 < result.rate < 0.85


@pytest.mark.parametrize("region", [tv.Box(-1, 1), tv.Box(-0.25, 0.25)])
def test_no_region_with_two_fixed_points_is_proved(region: tv.Box) -> None:
    model = tv.recursive(lambda z: torch.tanh(2 * z), state_shape=(1,))
    result = tv.verify_fixed_point(model, region=region)
    assert not result.claims["exactly_one"] and not result.claims["contraction"]


def test_contraction_without_invariance_gives_at_most_one() -> None:
    model = tv.recursive(lambda z: torch.abs(z) / 2 + 10, state_shape=(1,))
    result = tv.verify_fixed_point(model, region=tv.Box(0, 1))
    assert result.claims["contraction"] and result.claims["at_most_one"]
    assert result.claims["exactly_one"].verdict is tv.REFUTED and not result.claims["convergence"]
    assert result.verdict is tv.REFUTED, "the only fixed point, 20, lies outside the region"
