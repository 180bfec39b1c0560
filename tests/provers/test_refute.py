"""Refutations: known cycles and fixed points are found and proved, and nothing is found where there is nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import trm_verify as tv
from tests.provers.steps import Array, Case
from tests.small import autonomous, tanh_model
from trm_verify.certificate import CertificateBuilder
from trm_verify.encode import Json
from trm_verify.export import NonFiniteWeights
from trm_verify.kernel.check import check
from trm_verify.kernel.claims import Conclusion
from trm_verify.kernel.expect import Expectation, find
from trm_verify.provers.exact.decide import decide
from trm_verify.provers.refutation.krawczyk import box_tests
from trm_verify.provers.refutation.loops import Loop, inputs_of
from trm_verify.provers.refutation.search import Refutation, expanding, plain_norm, refute, search
from trm_verify.verification.session import Verification

HALF: Json = {"outer_damped": {"exp": -1, "int": "1"}}


def logistic(rate: float) -> Callable[[Tensor], Tensor]:
    return lambda z: rate * z * (1 - z)


def hopfield(n: int, patterns: int, sign: float = 1.0, seed: int = 0) -> Callable[..., Tensor]:
    """tanh(2PᵀP z / n): every pattern of signs, and its opposite, attracts."""
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], size=(patterns, n))
    weight = torch.from_numpy(sign * 2 * drawn.T @ drawn / n).float()
    return lambda z, x=None: torch.tanh(z @ weight + (0.0 if x is None else x))


def found(case: Case, operator: object = "picard") -> dict[str, Refutation]:
    """Refutations by kind, all in one certificate that the kernel has accepted."""
    refutations = refute(case.problem, case.domain, case.region, operator)
    if refutations:
        certified(case, refutations)
    return {each.kind: each for each in refutations}


def certified(case: Case, refutations: Sequence[Refutation]) -> tuple[Conclusion, ...]:
    problem = case.problem
    builder = CertificateBuilder(problem.raw_graph, problem.weights, problem.unused)
    for each in refutations:
        builder.claim(builder.add(each.derivation), "refutation", **each.fields)
    valid = check(builder.build().to_bytes(), problem.weights)
    for each in refutations:
        find(valid, Expectation("refutation", (("of", each.of),)))
    return valid.claims


def returns(case: Case, states: Array, alpha: float = 1.0) -> None:
    """The states are run through in order, up to rounding."""
    z = torch.from_numpy(states)
    image = alpha * case.step(z, None) + (1 - alpha) * z
    np.testing.assert_allclose(image.numpy(), np.roll(states, -1, axis=0), atol=1e-8)


# cycles


def test_the_logistic_map_oscillates() -> None:
    case = Case(logistic(3.2), (1,), region=(0, 1))
    cycle = found(case)["cycle"]
    r = 3.2
    known = [(r + 1 + sign * np.sqrt((r - 3) * (r + 1))) / (2 * r) for sign in (-1, 1)]
    np.testing.assert_allclose(np.sort(cycle.states.ravel()), known, atol=1e-7)
    assert cycle.of == "convergence" and cycle.numbers["period"] == 2 and cycle.numbers["growth"] < 1


def test_cycles_that_repel_are_found_too() -> None:
    case = Case(logistic(3.9), (1,), region=(0.125, 1))
    searched = search(case.problem, case.domain, case.region)
    (cycle,) = searched.refutations
    certified(case, [cycle])
    assert cycle.kind == "cycle" and cycle.numbers["growth"] > 1
    returns(case, cycle.states)
    assert searched.observations == (
        "48 of 48 starts neither settle nor leave (observed in floating point, not proved)",
    )


@pytest.mark.parametrize(("operator", "known", "alpha"), [("picard", [0, 1], 1.0), (HALF, [0.125, 0.25], 0.5)])
def test_the_stated_iteration_is_the_one_that_is_refuted(operator: object, known: list[float], alpha: float) -> None:
    case = Case(lambda z: torch.relu(1 - 5 * z), (1,))
    cycle = found(case, operator)["cycle"]
    np.testing.assert_allclose(np.sort(cycle.states.ravel()), known, atol=1e-9)
    returns(case, cycle.states, alpha)
    assert cycle.fields["operator"] == operator


def test_an_implicit_model_has_no_loop_to_refute() -> None:
    assert found(Case(lambda z: torch.relu(1 - 5 * z), (1,)), "implicit") == {}


def test_longer_cycles() -> None:
    turn = torch.tensor([[0.0, -1.3], [1.3, 0.0]])
    quarter = Case(lambda z: torch.tanh(z @ turn), (2,))
    cycle = found(quarter)["cycle"]
    assert cycle.numbers["period"] == 4
    returns(quarter, cycle.states)
    ring = Case(lambda z: torch.tanh(2 * torch.roll(z, 1, dims=1)), (5,))
    assert found(ring)["cycle"].numbers["period"] == 5


def test_nets_with_a_negative_coupling_alternate() -> None:
    cycle = found(Case(hopfield(16, 3, -1), (16,)))["cycle"]
    assert cycle.numbers["period"] == 2 and cycle.numbers["distance"] > 1.5
    np.testing.assert_allclose(cycle.states[0], -cycle.states[1], atol=1e-9)


# several fixed points


def test_nets_with_several_memories() -> None:
    case = Case(hopfield(16, 3), (16,))
    two = found(case)["two_fixed_points"]
    for state in two.states:
        returns(case, state[None])
    assert two.of == "at_most_one" and two.numbers["distance"] > 0.5


def test_a_fixed_point_at_a_kink_is_exact() -> None:
    two = found(Case(lambda z: torch.clamp(2 * z, 0, 1), (1,)))["two_fixed_points"]
    assert sorted(two.states.ravel()) == [0, 1]
    rules = {step["rule"] for step in two.derivation.steps}
    assert rules == {"fixed_point_at", "enclosure", "two_fixed_points"}


def test_a_state_of_several_parts() -> None:
    def step(z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low, high = z
        return torch.tanh(2 * low + high[:, :1] / 8), high / 2 + low / 4

    assert "two_fixed_points" in found(Case(step, ((1,), (2,))))


def test_only_states_of_the_region_count() -> None:
    assert found(Case(logistic(3.2), (1,), region=(0.625, 0.75))) == {}
    inside = found(Case(logistic(3.2), (1,), region=(0.5, 1)))
    assert set(inside) == {"cycle"}


# inputs


def test_one_input_of_the_domain_is_enough() -> None:
    case = Case(lambda z, x: torch.tanh(3 * x * z), (1,), (1,), domain=(0, 1))
    two = found(case)["two_fixed_points"]
    assert abs(two.given[0]) > 1 / 3 and two.fields["domain"] == case.domain
    assert two.sentence.startswith("for the input (")


def test_every_input_is_one_of_an_unbounded_domain() -> None:
    two = found(Case(hopfield(8, 1), (8,), (8,)))["two_fixed_points"]
    assert two.given.shape == (8,)


def test_integer_inputs_stay_integers() -> None:
    table = torch.tensor([[0.0], [0.0], [4.0]])
    model = tv.recursive(
        lambda z, x: torch.tanh(z * table[x][:, 0]), state_shape=(1,), input_shape=(1,), vocabulary=3
    )  # fmt: skip
    result = tv.verify_fixed_point(model)
    assert result.verdict is not tv.PROVED
    session = Verification(model)
    (two,) = refute(session.problem, session.domain)
    assert two.given.tolist() == [2.0]


def test_inputs_lie_in_their_domain_exactly() -> None:
    case = Case(lambda z, x: z / 2 + x, (2,), (2,))
    thin: Json = {"space": "input", "lo": {"exp": -80, "int": "1 1"}, "hi": {"exp": -80, "int": "2 2"}}
    for given in inputs_of(case.problem, thin, 4):
        box = case.problem.box(given.box)
        assert all(Fraction(1, 1 << 80) <= box.fraction(i)[0] <= Fraction(2, 1 << 80) for i in range(2))


# nothing to find


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_against_a_contraction(seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(6, 6))
    weight *= 0.95 / np.linalg.norm(weight, 2)
    case = Case(lambda z: torch.tanh(z @ torch.from_numpy(weight).float()), (6,))
    searched = search(case.problem, case.domain)
    assert searched.refutations == () and searched.observations == ()
    expansion = expanding(case.problem, case.domain, case.region, plain_norm(case.problem, "l2"))
    assert expansion.refutation is None and 0.9 < expansion.ratio <= 0.95 * (1 + 1e-6)


@pytest.mark.parametrize("step", [lambda z: 1.0001 * z, lambda z: -1.5 * z + 1])
def test_divergence_by_a_factor_is_proved(step: Any) -> None:
    assert set(found(Case(step, (1,)))) == {"divergence"}


def test_divergence_by_a_shift_is_observed_and_not_proved() -> None:
    case = Case(lambda z: z + 1, (1,))
    searched = search(case.problem, case.domain)
    assert searched.refutations == ()
    (said,) = searched.observations
    assert "move away without end (observed in floating point, not proved)" in said


def test_slow_convergence_is_no_divergence() -> None:
    case = Case(lambda z: 0.99999 * z + 1, (1,))
    assert search(case.problem, case.domain).observations == ()


def test_a_deadline_ends_the_search() -> None:
    case = Case(hopfield(16, 3), (16,))
    started = time.monotonic()
    assert refute(case.problem, case.domain, deadline=started) == []
    assert time.monotonic() - started < 5


def test_the_search_is_deterministic() -> None:
    first, second = (found(Case(hopfield(8, 2), (8,)))["two_fixed_points"] for _ in range(2))
    assert first.derivation == second.derivation


def test_a_singular_point_has_no_box_test() -> None:
    case = Case(lambda z: z + 0.0, (2,))
    given = inputs_of(case.problem, case.domain, 1)[0]
    assert list(box_tests(case.problem.graph, case.problem.box(given.box), np.zeros(2))) == []
    assert Loop(case.problem, "picard", given).derivative(torch.zeros(1, 2, dtype=torch.float64)).tolist() == [
        [[1, 0], [0, 1]]
    ]


# expanding pairs


def test_expansion_reaches_the_norm_of_the_matrix() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    held = torch.from_numpy(weight)
    case = Case(lambda z: torch.tanh(z @ held.T), (6,))
    for name, true in (("linf", np.abs(weight).sum(axis=1).max()), ("l2", np.linalg.norm(weight, 2))):
        norm = plain_norm(case.problem, name)
        expansion = expanding(case.problem, case.domain, case.region, norm)
        assert expansion.refutation is not None
        assert true * (1 - 1e-4) <= expansion.ratio <= true * (1 + 1e-9)
        rate = expansion.refutation.numbers["rate"]
        assert expansion.ratio * (1 - 1e-6) <= rate <= expansion.ratio
        (claim,) = certified(case, [expansion.refutation])
        assert getattr(claim, "of", None) == "contraction"


def test_norms_over_tokens_and_parts() -> None:
    scale = torch.tensor([1.0, 2.0, 0.5])[:, None]
    case = Case(lambda z: torch.sin(z * scale), (3, 4))
    expansion = expanding(case.problem, case.domain, case.region, plain_norm(case.problem, "tokens"))
    assert expansion.refutation is not None and 1.99 < expansion.ratio <= 2 + 1e-9
    parts = Case(lambda z: (z[1] * 3, z[0] / 4), ((2,), (2,)))
    swapped = expanding(parts.problem, parts.domain, parts.region, plain_norm(parts.problem, "parts"))
    assert swapped.ratio == pytest.approx(3, rel=1e-9)


def test_expansion_is_sought_where_it_is() -> None:
    """Slopes of z² grow with z, and with x: the pair lies at the end of the region and of the domain."""
    case = Case(lambda z, x: x * z * z / 2, (1,), (1,), region=(-1, 1), domain=(0, 3))
    expansion = expanding(case.problem, case.domain, case.region, plain_norm(case.problem, "linf"))
    assert expansion.refutation is not None and 2.99 < expansion.ratio <= 3
    assert expansion.refutation.given[0] == pytest.approx(3, abs=1e-2)
    assert np.abs(expansion.refutation.states).max() <= 1
    certified(case, [expansion.refutation])


def test_the_rate_in_question_decides() -> None:
    case = Case(lambda z: 0.75 * z, (2,))
    norm = plain_norm(case.problem, "linf")
    for rate, refuted in (
        (Fraction(1, 2), True),
        (Fraction(7, 10), True),
        (Fraction(4, 5), False),
        (Fraction(1), False),
    ):
        expansion = expanding(case.problem, case.domain, case.region, norm, rate)
        assert (expansion.refutation is not None) == refuted
        assert expansion.ratio == pytest.approx(0.75, rel=1e-9)
        if expansion.refutation is not None:
            assert rate <= Fraction(expansion.refutation.numbers["rate"]) <= Fraction(3, 4)


def test_a_damped_loop_expands_less() -> None:
    case = Case(lambda z: -3.0 * z, (1,))
    norm = plain_norm(case.problem, "linf")
    assert expanding(case.problem, case.domain, case.region, norm).ratio == pytest.approx(3)
    damped = expanding(case.problem, case.domain, case.region, norm, Fraction(1, 2), HALF)
    assert damped.refutation is not None and damped.ratio == pytest.approx(1)


def test_constant_steps_and_flat_regions() -> None:
    constant = Case(lambda z: torch.zeros_like(z) + 1, (2,))
    assert expanding(constant.problem, constant.domain, constant.region, plain_norm(constant.problem, "l2")).ratio == 0
    assert refute(constant.problem, constant.domain) == []
    point = Case(lambda z: 3 * z, (1,), region=(1, 1))
    assert expanding(point.problem, point.domain, point.region, plain_norm(point.problem, "l2")).refutation is None


def test_metric_norms_are_refused() -> None:
    case = Case(lambda z: 3 * z, (1,))
    metric: Json = {"kind": "metric", "matrix": {"exp": 0, "int": "1"}, "floor": {"exp": 0, "int": "1"}}
    with pytest.raises(ValueError, match="block norm"):
        expanding(case.problem, case.domain, case.region, metric)
    with pytest.raises(ValueError, match="linf, l2, parts, tokens"):
        plain_norm(case.problem, "metric")


# against the exact decision


def random_net(seed: int) -> Case:
    """Up to three states, up to four piecewise-linear units, weights in eighths."""
    rng = np.random.default_rng(seed)
    n, h, gain = int(rng.integers(1, 4)), int(rng.integers(1, 5)), rng.choice([0.7, 1.2, 2.0, 3.0])
    a, b, c, d = (
        torch.from_numpy(np.round(rng.normal(size=shape) * 8 * scale) / 8).float()
        for shape, scale in (((h, n), gain), ((h,), 1), ((n, h), 1), ((n,), 1))
    )
    unit: Callable[[Tensor], Tensor] = (torch.relu, torch.abs, lambda v: torch.clamp(v, -1, 1))[seed % 3]
    return Case(lambda z: unit(z @ a.T + b) @ c.T + d, (n,))


@pytest.mark.slow
def test_the_search_agrees_with_exact_decisions() -> None:
    """Two fixed points are never found where there is one, and nearly always where there are several."""
    several = missed = 0
    for seed in range(30):
        case = random_net(seed)
        truth = decide(case.problem, case.domain, case.region)
        two = "two_fixed_points" in found(case)
        assert not (two and truth.exactly_one.verdict is tv.PROVED), seed
        if truth.at_most_one.verdict is tv.REFUTED:
            several, missed = several + 1, missed + (not two)
    assert several >= 5 and missed <= 1


# what must never be proved

NOT_CONVERGENT: dict[str, Callable[[], Any]] = {
    "several memories": lambda: autonomous(hopfield(16, 3), 16),
    "alternating memories": lambda: autonomous(hopfield(16, 3, -1), 16),
    "logistic, period two": lambda: autonomous(logistic(3.2)),
    "logistic, chaotic": lambda: autonomous(logistic(3.9)),
    "slowly away": lambda: autonomous(lambda z: 1.0001 * z),
    "drift": lambda: autonomous(lambda z: z + 1),
    "sign changes": lambda: autonomous(lambda z: -z),
    "rectified, 0 and 1": lambda: autonomous(lambda z: torch.relu(1 - 5 * z)),
    "rectified and damped": lambda: autonomous(lambda z: torch.relu(1 - 5 * z), iteration=tv.Damped(0.5)),
    "three fixed points": lambda: autonomous(lambda z: torch.clamp(0.5 + 3 * (z - 0.5), 0.25, 0.75)),
    "all fixed points": lambda: autonomous(lambda z: z + 0.0),
}


@pytest.mark.parametrize("name", NOT_CONVERGENT)
def test_loops_that_do_not_converge_are_never_proved(name: str) -> None:
    result = tv.verify_fixed_point(NOT_CONVERGENT[name]())
    assert result.verdict in (tv.UNKNOWN, tv.REFUTED) and not result


@pytest.mark.parametrize("region", [(0, 1), (0.125, 1), (0.25, 0.875)])
@pytest.mark.parametrize("rate", [3.2, 3.9])
def test_nor_are_they_in_a_region(rate: float, region: tuple[float, float]) -> None:
    assert tv.verify_fixed_point(autonomous(logistic(rate)), region=tv.Box(*region)).verdict is not tv.PROVED


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = tanh_model()
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    with pytest.raises(NonFiniteWeights):
        tv.verify_fixed_point(model)
