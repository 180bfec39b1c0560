"""A model under verification: its domain and region, which facts are tried again, and how a search is limited."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, gate_model, tanh_model
from trm_verify.kernel.claims import Convergence
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.tensor import Tensor
from trm_verify.verification.facts import Facts, steps_to
from trm_verify.verification.session import Effort, Verification, admissible

X = torch.tensor([0.25, -0.5, 0.125])


def test_only_what_a_box_of_inputs_can_change_is_tried_again() -> None:
    small = tv.Box([0, 0, 0], ["1/8", "1/8", "1/8"])
    assert not Verification(tanh_model()).depends_on(small), "x only shifts; the slopes of tanh over R^n stay"
    assert Verification(gate_model()).depends_on(tv.Box([0, 0], [1, 1])), "x multiplies the state"
    assert Verification(tanh_model(), region=tv.Box(-1, 1)).depends_on(small), "in a region, a shift counts"
    whole = tv.Box(-1, 1).expand((3,))
    assert not Verification(tanh_model(), region=tv.Box(-1, 1)).depends_on(whole)


@pytest.mark.parametrize(
    "region", [tv.Box(-1, 1), tv.Box([-1] * 4, [1] * 4), tv.Box(-np.ones((2, 2)), np.ones((2, 2)))]
)
def test_a_region_bounds_the_flattened_state(region: tv.Box) -> None:
    model = tv.recursive(torch.tanh, state_shape=(2, 2))
    session = Verification(model, region=region)
    box = session.problem.box(session.region(session.domain)[0])
    assert box.size == 4 and box.fraction(3) == (-1, 1)


def test_a_region_or_domain_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a region of shape"):
        Verification(autonomous(torch.tanh, 3), region=tv.Box([0, 0], [1, 1]))
    with pytest.raises(ValueError, match="expected no domain"):
        Verification(autonomous(torch.tanh), tv.Box(0, 1))
    with pytest.raises(ValueError, match="expected a box of shape"):
        Verification(tanh_model(), tv.Box([0, 0], [1, 1]))
    with pytest.raises(ValueError, match="do not meet"):
        Verification(tanh_model(), tv.Box(2, 3))


@pytest.mark.parametrize(
    ("lo", "hi", "found"),
    [(0, 4, (0, 4)), (-7, 99, (0, 4)), ("1/2", "5/2", (1, 2)), (3, 3, (3, 3)), ("1/3", "2/3", None), (5, 9, None)],
)
def test_admissible_integers(lo: Any, hi: Any, found: tuple[int, int] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="integers from 0 to 4"):
            admissible(tv.Box([lo, 0], [hi, 1]), 5)
    else:
        assert admissible(tv.Box([lo, 0], [hi, 1]), 5) == tv.Box([found[0], 0], [found[1], 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l7"}, "found 'l7'"),
        ({"provers": ["linf", "magic"]}, "found 'magic'"),
        ({"provers": "linf"}, "a sequence"),
        ({"provers": []}, "expected provers"),
        ({"norm": "l2", "provers": ["linf"]}, "norm='l2'"),
        ({"workers": 0}, "workers >= 1"),
        ({"workers": True}, "workers >= 1"),
        ({"timeout": -1}, "timeout >= 0"),
        ({"budget": float("nan")}, "budget >= 0"),
    ],
)
def test_what_a_call_cannot_mean_is_refused_before_any_work(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trm_verify.api.Verification", None)
    with pytest.raises(ValueError, match=message):
        tv.verify_fixed_point(tanh_model(), **arguments)


def test_every_prover_that_is_asked_for_is_listed() -> None:
    for arguments, names in (({"norm": "linf"}, ["radius"]), ({"provers": ["l2", "linf"]}, ["spectral", "radius"])):
        result = tv.verify_fixed_point(tanh_model(norm=0.3), **arguments)
        assert [t.prover for t in result.trials] == names
    everything = tv.verify_fixed_point(tanh_model())
    assert len(everything.trials) == 5 and all(t.rate is not None or t.reason for t in everything.trials)
    assert min(t.rate for t in everything.trials if t.rate is not None) == everything.rate


def test_a_spent_budget_stops_the_provers_and_says_so() -> None:
    result = tv.verify_fixed_point(tanh_model(norm=0.8), budget=0)
    assert [t.reason for t in result.trials[1:]] == ["not tried: the time was used up"] * 4
    again = tv.verify_fixed_point(tanh_model(norm=0.8), timeout=0)
    assert [t.reason for t in again.trials[1:]] == ["not tried: the time was used up"] * 4


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    tv.verify_fixed_point(tanh_model(), torch.stack([X, -X]), progress=lambda *a: told.append(a))
    assert [t[:2] for t in told] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (1, 2), (2, 2)]
    assert told[-1][2] == "answers"


def test_a_bar_is_drawn_on_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    tv.verify_fixed_point(tanh_model(readout=False), progress=True)
    assert capfd.readouterr().out == ""


def test_the_seed_changes_no_proof() -> None:
    model = tanh_model()
    first, second = (tv.verify_fixed_point(model, X, seed=seed) for seed in (0, 9))
    assert first.certificate == second.certificate


def loop(rate: Fraction, initial: Fraction, weights: tuple[int, ...] = (1, 1)) -> Convergence:
    everything = Tensor((2,))
    return Convergence(
        PICARD, everything, None, BlockNorm((1, 1), weights, 0), Fraction(1), rate, initial=initial, region=everything
    )


@pytest.mark.parametrize("epsilon", [Fraction(1), Fraction(1, 3), Fraction(1, 10**6)])
@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(999, 1000)])
def test_the_number_of_steps_is_the_smallest(rate: Fraction, epsilon: Fraction) -> None:
    """In plain ℓ∞: the norm's weights (1, 7) turn N0 = 5 into 35 in a coordinate."""
    steps = steps_to(loop(rate, Fraction(5), (1, 7)), epsilon)
    assert steps is not None and rate**steps * 35 <= epsilon
    assert steps == 0 or rate ** (steps - 1) * 35 > epsilon * (1 - Fraction(1, 10**9))


def test_steps_that_cannot_be_counted() -> None:
    assert steps_to(loop(Fraction(1, 2), Fraction(0)), Fraction(1, 10**9)) == 0
    assert steps_to(loop(1 - Fraction(1, 10**13), Fraction(5)), Fraction(1, 10**6)) is None
    assert steps_to(loop(Fraction(1, 2), Fraction(5)), Fraction(0)) is None


def test_the_best_complete_chain_wins_over_the_best_rate() -> None:
    """ℓ2 has the better rate, but damping by a factor a coordinate only holds in norms of single coordinates."""
    session = Verification(tanh_model(norm=0.3, iteration=tv.Damped([0.5, 0.25, 1, 0.5, 0.75])))
    facts = session.facts(Effort())
    rates = {a.norm: a.rate for a in facts.attempts if a.rate is not None}
    assert facts.complete and facts.contracting is not None
    assert rates["l2"] < rates["weighted_linf"] and facts.contracting.norm.family != "l2"


def test_a_residual_encloses_only_where_the_contraction_holds_the_fixed_point() -> None:
    def proved(region: tv.Box) -> Facts:
        leaky = torch.nn.LeakyReLU(0.5)
        return Verification(autonomous(lambda z: leaky(0.999 * z + 1)), region=region).facts(Effort())

    far = proved(tv.Box(-3, -2))
    assert far.contracting is not None and far.claims["exactly_one"] and far.enclosing is None
    assert proved(tv.Box(0, 2000)).enclosing is not None


def test_a_search_has_the_kernel_s_work_cap_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap is on one certificate; a session that answers many inputs must not run into it."""
    session = Verification(tanh_model())
    session.problem.graph.spent["work"] = 1 << 60
    assert session.facts(Effort()).complete


def test_the_deadline_of_an_input_starts_with_it() -> None:
    from trm_verify.verification.outcomes import Limits

    now = time.monotonic()
    assert Limits().now() == float("inf") and Limits(deadline=now).now() == now
    assert now <= Limits(timeout=5).now() - 5 <= time.monotonic()
    assert Limits(timeout=5, deadline=now + 1).now() == now + 1
