"""Attractor maps: shares, stability, which claim fails, and the certificate of that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, linear, tanh_model
from trm_verify.auditing import AttractorMap, attractors
from trm_verify.verification.deployed import Deployed


def weights(model: Any) -> bytes:
    return Deployed.of(model).weights


def hopfield(n: int = 16, patterns: int = 3, **options: Any) -> Any:
    drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(patterns, n))
    weight = torch.from_numpy(2 * drawn.T @ drawn / n).float()
    return autonomous(lambda z: torch.tanh(z @ weight), n, **options)


def test_memories_share_the_starts() -> None:
    model = hopfield()
    found = tv.attractors(model)
    assert found.verdict is tv.REFUTED
    met = [each for each in found.attractors if not each.repels]
    assert len(met) >= 4 and all(each.kind == "fixed point" and (each.exponent or 0) < 0 for each in met)
    assert sum(each.share for each in found.attractors) == pytest.approx(1)
    assert [each.share for each in met] == sorted((each.share for each in met), reverse=True)
    assert found.own is not None and found.attractors[found.own].repels  # init is zero, where the net balances
    assert all(each.repels and each.share == 0 for each in found.unreached)
    for place, each in enumerate(found.attractors):
        assert each.share == np.mean(found.fates == place)


def test_the_certificate_says_what_is_refuted() -> None:
    model = hopfield()
    found = attractors(model)
    checked = tv.check(found.certificate, weights(model), expect="refutation(of=at_most_one)", model=model)
    assert len(checked.claims) == 1
    assert found.claims["exactly_one"].statement == f"refuted by {checked.claims[0]}"
    assert found.claims["convergence"].verdict is tv.REFUTED
    assert found.graph_digest == checked.graph_digest and found.weights_digest == checked.weights_digest


def test_a_cycle_and_where_it_is() -> None:
    found = attractors(autonomous(lambda z: 3.2 * z * (1 - z)), region=tv.Box(0, 1))
    cycle = found.attractors[0]
    assert (cycle.kind, cycle.period) == ("cycle", 2) and cycle.share > 0.9
    assert np.sort(cycle.states.ravel()) == pytest.approx([0.5130445, 0.7994555], abs=1e-6)
    assert {name: c.verdict for name, c in found.claims.items()} == {
        "exactly_one": tv.REFUTED, "convergence": tv.REFUTED,
    }  # fmt: skip
    assert found.own is None  # starts are drawn from the region


def test_chaos() -> None:
    found = attractors(autonomous(lambda z: 3.9 * z * (1 - z)), region=tv.Box("1/8", 1), starts=64)
    wandering = found.attractors[0]
    assert (wandering.kind, wandering.period, wandering.growth) == ("wandering", None, None)
    assert 0.3 < (wandering.exponent or 0) < 0.7
    assert found.claims["convergence"].verdict is tv.REFUTED
    assert "period 2" in found.claims["convergence"].reason


def test_divergence_is_only_observed() -> None:
    found = attractors(autonomous(lambda z: 1.0001 * z))
    assert found.verdict is tv.UNKNOWN and found.refutations == ()
    assert found.attractors[0].kind == "leaving" and found.attractors[0].share > 0.99
    assert "observed in floating point, not proved" in found.claims["convergence"].reason
    with pytest.raises(ValueError, match="nothing was refuted"):
        found.certificate  # noqa: B018


def test_a_sample_proves_nothing() -> None:
    found = attractors(tanh_model(), np.zeros(3))
    assert found.verdict is tv.UNKNOWN and len(found.attractors) == 1
    assert all("a sample cannot show" in claim.reason for claim in found.claims.values())
    assert found.given is not None and found.given.shape == (3,)


def test_implicit_models_claim_no_loop() -> None:
    found = attractors(autonomous(lambda z: torch.relu(1 - 5 * z), iteration="implicit"))
    assert set(found.claims) == {"exactly_one"} and found.verdict is tv.UNKNOWN


def test_fixed_points_that_move_with_the_input() -> None:
    model = tv.recursive(lambda z, x: torch.tanh(3 * z + x), state_shape=(1,), input_shape=(1,))
    several, single = (attractors(model, np.array([x])) for x in (0.25, 4.0))
    assert several.verdict is tv.REFUTED and "(0.25)" in several.claims["exactly_one"].reason
    assert single.verdict is tv.UNKNOWN
    assert tv.verify_fixed_point(model, np.array([0.25])).verdict is not tv.PROVED


def test_starts_may_be_given() -> None:
    starts = np.array([[0.5], [0.25], [2.0]])
    found = attractors(autonomous(lambda z: z * z), starts=starts)
    np.testing.assert_array_equal(found.starts, starts)
    assert [found.attractors[k].kind for k in found.fates] == ["fixed point", "fixed point", "leaving"]
    assert found.own is None and found.paths.shape[1:] == (3, 1)


def test_the_map_is_the_same_for_the_same_seed() -> None:
    first, second, other = (attractors(hopfield(), starts=32, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.starts, second.starts)
    assert first.explain() == second.explain()
    assert not np.array_equal(first.starts, other.starts)


def test_words() -> None:
    text = str(attractors(hopfield(), starts=64))
    assert text.startswith("64 starts (observed in floating point)")
    assert "reached by no start: repelling fixed point" in text and "(the model's own start among them)" in text
    assert "REFUTED: exactly_one: there are two fixed points" in text
    crowded = str(attractors(autonomous(lambda z: -z), starts=50))
    assert "other orbits, too many to tell apart" in crowded and "more" in crowded.splitlines()[-3]
    assert len(crowded.splitlines()) < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, "at least one start"), ({"starts": np.zeros((2, 3))}, r"shape \(count, 1\)"),
        ({"starts": True}, "starts"), ({"starts": np.array([[np.nan]])}, "finite"), ({"steps": 0}, "steps >= 1"),
        ({"timeout": -1}, "timeout >= 0"),
        ({"spread": 0}, "spread > 0"), ({"x": np.zeros(1)}, "no input"), ({"region": tv.Box([0, 0], [1, 1])}, "region"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attractors(autonomous(torch.cos), **options)


@pytest.mark.parametrize("x", [None, np.zeros((2, 3)), tv.Box(-1, 1), np.full(3, 2.0)])
def test_one_input_is_needed(x: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        attractors(tanh_model(), x)


def test_the_time_is_kept() -> None:
    layer = linear(64, 64, 3.0, 0)
    found = attractors(autonomous(lambda z: torch.tanh(layer(z)), 64), timeout=0.0)
    assert isinstance(found, AttractorMap) and found.refutations == ()
