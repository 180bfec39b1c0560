"""Where starts end, and what Newton's method finds: known maps of the line and the plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.provers.steps import Case
from trm_verify.provers.problem import ALL_STATES
from trm_verify.provers.refutation.loops import Loop, inputs_of
from trm_verify.provers.refutation.orbits import Orbit, periodic
from trm_verify.provers.refutation.survey import ELSEWHERE, LEAVES, MOST_ORBITS, WANDERS, Survey, draw, exponent, survey

Step = Callable[[Tensor], Tensor]


def loop_of(step: Step, size: int = 1, operator: object = "picard") -> Loop:
    case = Case(step, (size,))
    return Loop(case.problem, operator, inputs_of(case.problem, case.domain, 1)[0])


def watched(step: Step, starts: list[list[float]] | int = 40, steps: int = 1000, size: int = 1) -> tuple[Loop, Survey]:
    loop = loop_of(step, size)
    first = draw(loop, ALL_STATES, starts) if isinstance(starts, int) else torch.tensor(starts, dtype=torch.float64)
    return loop, survey(loop, first, steps)


def interval(count: int = 20) -> list[list[float]]:
    return [[float(v)] for v in np.linspace(0.05, 0.95, count)]


@pytest.mark.parametrize(("rate", "period"), [(2.8, 1), (3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3)])
def test_the_periods_of_the_logistic_map(rate: float, period: int) -> None:
    _, seen = watched(lambda z: rate * z * (1 - z), interval(), 3000)
    (orbit,) = seen.orbits
    assert orbit.period == period and orbit.attracts and set(seen.fates) == {0}


def test_chaos_wanders_with_a_known_exponent() -> None:
    loop, seen = watched(lambda z: 3.99 * z * (1 - z), interval())
    assert set(seen.fates) == {WANDERS} and seen.orbits == ()
    estimates = [exponent(loop, None, state, 2000) for state in seen.last[:4]]
    assert np.mean(estimates) == pytest.approx(0.64, abs=0.06)  # log 2 at rate 4, a little less here


@pytest.mark.parametrize("step", [lambda z: 1.0001 * z, lambda z: z + 1, lambda z: -1.01 * z, lambda z: z * z + 1])
def test_leaving(step: Step) -> None:
    _, seen = watched(step, [[1.0], [-2.0], [3.0]])
    assert set(seen.fates) == {LEAVES}


@pytest.mark.parametrize("rate", [0.5, 0.999, 0.99999, -0.9999])
@pytest.mark.parametrize("steps", [512, 1000])
def test_slow_starts_belong_to_what_they_approach(rate: float, steps: int) -> None:
    _, seen = watched(lambda z: rate * z + 1, 8, steps)
    (orbit,) = seen.orbits
    assert set(seen.fates) == {0}
    assert orbit.states[0, 0] == pytest.approx(1 / (1 - np.float32(rate)), rel=1e-2 if rate > 0.9999 else 1e-3)


def test_every_start_an_orbit_of_its_own() -> None:
    _, seen = watched(lambda z: z + 0.0, 60)
    counts = Counter(seen.fates)
    assert len(seen.orbits) == MOST_ORBITS and counts[ELSEWHERE] == 60 - MOST_ORBITS
    assert all(orbit.growth == 1 and not orbit.attracts for orbit in seen.orbits)


def test_exponents_of_orbits() -> None:
    loop, seen = watched(lambda z: 3.2 * z * (1 - z), interval())
    (cycle,) = seen.orbits
    multiplier = np.prod(3.2 * (1 - 2 * cycle.states))
    assert exponent(loop, cycle, cycle.states[0]) == pytest.approx(np.log(abs(multiplier)) / 2)
    flat = Orbit(np.zeros((1, 1)), 0.0)
    assert exponent(loop, flat, np.zeros(1)) == -np.inf
    unknown = Orbit(np.array([[0.5]]), float("nan"))  # large states: from two paths
    assert exponent(loop, unknown, cycle.states[0], 2000) == pytest.approx(np.log(abs(multiplier)) / 2, abs=0.02)


def test_newton_finds_all_orbits_of_short_periods() -> None:
    """At rate 4 the logistic map has as many points of period p as the doubling map: 2, 2, 6, 12."""
    loop = loop_of(lambda z: 4 * z * (1 - z))
    starts = torch.rand(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = [period * len(periodic(loop, starts, period)) for period in (1, 2, 3, 4)]
    assert counts == [2, 2, 6, 12]


def test_orbits_meet_from_whichever_state_on() -> None:
    first, second, third = (np.array(states, float)[:, None] for states in ([0, 1, 3], [1, 3, 0], [0, 3, 1]))
    assert Orbit(first, 1.0).meets(Orbit(second, 1.0))
    assert not Orbit(first, 1.0).meets(Orbit(third, 1.0))
    assert not Orbit(first, 1.0).meets(Orbit(first[:1], 1.0))


def test_the_derivative_of_a_power() -> None:
    loop = loop_of(lambda z: torch.tanh(z * torch.tensor([2.0, -1.0])) + z.flip(1) / 4, 2)
    z = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    path = loop.power(z, 3)
    found = loop.power_derivative(path[:-1])[0]
    expected = torch.autograd.functional.jacobian(lambda v: loop.power(v[None], 3)[-1][0], z[0])
    torch.testing.assert_close(found, expected)


def test_damped_loops() -> None:
    loop = loop_of(lambda z: 3 * z, 2, {"outer_damped": {"exp": -1, "int": "1 2"}})
    z = torch.ones(1, 2, dtype=torch.float64)
    assert loop(z).tolist() == [[2.0, 3.0]]
    assert loop.derivative(z)[0].tolist() == [[2.0, 0.0], [0.0, 3.0]]
