"""The search for a Lipschitz constant: as good as a general solver finds, proved, and never below what samples show."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import qr

import trm_verify as tv
from trm_verify.certificate import Derivation
from trm_verify.export import export
from trm_verify.kernel.claims import FixedPoints, Lipschitz
from trm_verify.provers.contraction.wellposed import prove_log_norm, prove_monotone
from trm_verify.provers.fixed_points.search import FixedPointSearch
from trm_verify.provers.lipschitz.barrier import Program
from trm_verify.provers.lipschitz.constant import MovingPart, prove_lipschitz
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, Problem

Array = np.ndarray
NEVER = float("inf")


def drawn(seed: int) -> MovingPart:
    """A random layer with exactly one fixed point: monotone, or contracting in ℓ2 or a weighted ℓ∞ norm."""
    rng = np.random.default_rng(seed)
    n, m, k = (int(v) for v in rng.integers(1, 8, 3))
    w, turn = rng.normal(size=(n, n)), rng.normal(size=(n, n))
    if seed % 3 == 0:
        w = 0.9 * np.eye(n) - w.T @ w + 3 * (turn - turn.T)
    elif seed % 3 == 1:
        w *= 0.95 / np.linalg.norm(w, 2)
    else:  # not definite before it is scaled
        d = np.exp(2 * rng.normal(size=n))
        w *= 0.95 / (np.abs(w) * d / d[:, None]).sum(axis=1, keepdims=True)
    u, c = rng.normal(size=(n, m)), rng.normal(size=(k, n))
    given = qr(u.T, mode="r")[0][:n].T if m > n else u
    lines = sorted(rng.choice(n, int(rng.integers(0, n + 1)), replace=False).tolist())
    return MovingPart(np.eye(n) - w, given, c, lines, [k for k in range(n) if k not in lines])


def optimum(form: MovingPart) -> float:
    """The same by a general solver, over all multipliers that the rule allows."""
    cvxpy: Any = import_module("cvxpy")
    n, m, lines = len(form.away), form.given.shape[1], form.lines
    numbers, g = cvxpy.Variable(n), cvxpy.Variable()
    multipliers = cvxpy.diag(numbers)
    if lines:
        rows = cvxpy.Variable((len(lines), n))
        multipliers = np.diag([0.0 if k in lines else 1.0 for k in range(n)]) @ multipliers + np.eye(n)[:, lines] @ rows
    own, driven = multipliers.T @ form.away, multipliers.T @ form.given
    whole = cvxpy.bmat([[own + own.T - form.readout.T @ form.readout, driven], [driven.T, g * np.eye(m)]])
    task = cvxpy.Problem(cvxpy.Minimize(g), [whole >> 0, numbers[form.varying] >= 0] if form.varying else [whole >> 0])
    task.solve(solver="CLARABEL")
    return float(g.value**0.5)


@pytest.mark.parametrize("seed", range(24))
def test_the_constant_is_the_best_that_the_rule_can_show(seed: int) -> None:
    pytest.importorskip("cvxpy")
    form = drawn(seed)
    found = form.square(form.multipliers(NEVER)[0]) ** 0.5
    assert found == pytest.approx(optimum(form), rel=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_where_every_slope_is_known_it_is_the_norm_of_the_jacobian(seed: int) -> None:
    form = drawn(seed)
    n = len(form.away)
    known = MovingPart(form.away, form.given, form.readout, list(range(n)), [])
    jacobian = form.readout @ np.linalg.solve(form.away, form.given)
    assert known.square(known.multipliers(NEVER)[0]) ** 0.5 == pytest.approx(np.linalg.norm(jacobian, 2), rel=1e-4)


def test_a_layer_that_no_multipliers_keep_apart() -> None:
    """1 − W = −1: no λ ≥ 0 makes 2λ(1 − W) positive."""
    form = MovingPart(-np.eye(1), np.eye(1), np.eye(1), [], [0])
    assert form.multipliers(NEVER) == []


def test_the_derivatives_are_those_of_the_objective() -> None:
    program = drawn(3).program()
    start = program._start(NEVER)
    assert start is not None
    multipliers, g = start
    slope, curve = program._derivatives(0.5, multipliers, g)
    at = np.append(multipliers, g)

    def value(point: Array) -> float:
        return program._value(0.5, point[:-1], float(point[-1]))

    steps = np.diag(1e-5 * at)
    numeric = [(value(at + h) - value(at - h)) / (2 * h.sum()) for h in steps]
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-4 * np.abs(slope).max())

    def gradient(point: Array) -> Array:
        return program._derivatives(0.5, point[:-1], float(point[-1]))[0]

    twice = np.array([(gradient(at + h) - gradient(at - h)) / (2 * h.sum()) for h in steps])
    np.testing.assert_allclose(curve, twice, rtol=1e-4, atol=1e-4 * np.abs(curve).max())


def test_when_time_is_over_what_was_found_still_holds() -> None:
    form = drawn(0)
    assert isinstance(form.program(), Program)
    early, late = (form.square(form.multipliers(end)[0]) for end in (time.monotonic(), NEVER))
    assert late <= early < NEVER


# proofs


def posed(model: tv.models.MonotoneEquilibrium) -> tuple[Problem, Derivation]:
    exported = export(model)
    problem = Problem(exported.graph, exported.to_bytes())
    found = prove_monotone(problem, ALL_INPUTS).derivation
    assert found is not None
    return problem, found


def logits(model: tv.models.MonotoneEquilibrium, x: Array) -> Array:
    wide = type(model).from_tensors(
        **{k: getattr(model, k).double() for k in "ABUbCc"}, m=model.m, act=model.config["act"]
    )
    with torch.no_grad():
        return wide.logits(torch.from_numpy(x)).numpy()


def worst(model: tv.models.MonotoneEquilibrium, x: Array, y: Array) -> float:
    apart = np.linalg.norm(logits(model, x) - logits(model, y), axis=1)
    return float((apart / np.linalg.norm(x - y, axis=1)).max())


@pytest.mark.parametrize("act", ["relu", "leaky_relu", "hardtanh", "tanh", "sigmoid", "softplus"])
def test_no_pair_of_inputs_moves_the_logits_further(act: str) -> None:
    model = tv.models.MonotoneEquilibrium(6, 4, 3, m=0.5, act=act, domain=None, seed=2)
    problem, premise = posed(model)
    found = prove_lipschitz(problem, premise)
    assert found.constant is not None and found.varying == 6, found.reason
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) * 3
    seen = worst(model, x, x + rng.normal(size=x.shape) * 10.0 ** rng.uniform(-3, 0, (300, 1)))
    product = float(np.prod([np.linalg.norm(getattr(model, name).detach().numpy(), 2) for name in "CU"])) / model.m
    assert seen <= float(found.constant) * (1 + 1e-6) <= product
    assert float(found.constant) < (16 if act == "sigmoid" else 4) * seen  # its slopes are at most 1/4


@pytest.mark.parametrize(("act", "seed"), [("relu", 0), ("relu", 1), ("hardtanh", 2), ("hardtanh", 3), ("tanh", 4)])
def test_on_a_ball_known_slopes_make_it_smaller(act: str, seed: int) -> None:
    model = tv.models.MonotoneEquilibrium(8, 5, 3, m=2.0, act=act, domain=None, seed=seed)
    problem, premise = posed(model)
    rng = np.random.default_rng(seed)
    centre, reach = np.round(rng.normal(size=5) * 64) / 64, 1 / 16
    ends = [{"exp": -6, "int": " ".join(format(int(v * 64), "x") for v in centre + sign * reach)} for sign in (-1, 1)]
    domain = {"space": "input", "lo": ends[0], "hi": ends[1]}
    search = FixedPointSearch(problem, premise, domain, ALL_STATES, np.zeros(8)).run(None)
    assert search.enclosure is not None, search.reason
    assert isinstance(problem.conclude(search.enclosure), FixedPoints)
    local, everywhere = prove_lipschitz(problem, search.enclosure), prove_lipschitz(problem, premise)
    assert local.constant is not None and everywhere.constant is not None and local.derivation is not None
    record = problem.conclude(local.derivation)
    assert isinstance(record, Lipschitz) and record.constant == local.constant
    assert local.constant <= everywhere.constant * (1 + 1e-4)
    assert local.varying < 8 or act == "tanh"
    x, y = (centre + rng.uniform(-reach, reach, size=(300, 5)) for _ in range(2))
    seen = worst(model, x, y)
    assert seen <= float(local.constant) * (1 + 1e-6)
    if local.varying == 0:
        jacobian = torch.autograd.functional.jacobian(
            lambda at: (
                type(model)
                .from_tensors(**{k: getattr(model, k).double() for k in "ABUbCc"}, m=model.m, act=act)
                .logits(at[None])[0]
            ),
            torch.from_numpy(centre),
        )
        assert float(local.constant) == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-4)


def test_log_norm_models_need_scaled_multipliers() -> None:
    model = tv.models.LogNormEquilibrium(6, 4, 3, domain=None, seed=5)
    exported = export(model)
    problem = Problem(exported.graph, exported.to_bytes())
    premise = prove_log_norm(problem, ALL_INPUTS).derivation
    assert premise is not None
    found = prove_lipschitz(problem, premise)
    assert found.constant is not None, found.reason


def test_an_input_that_moves_nothing() -> None:
    tensors = {name: torch.zeros(2, 2) for name in "ABUC"} | {
        "C": torch.eye(2),
        "b": torch.ones(2),
        "c": torch.zeros(2),
    }
    problem, premise = posed(tv.models.MonotoneEquilibrium.from_tensors(**tensors, m=1.0))
    found = prove_lipschitz(problem, premise)
    assert found.constant is not None and found.constant < 1e-4


def test_what_the_rule_does_not_know_is_a_reason() -> None:
    def step(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(z / 2 + x) / 2)

    exported = export(tv.recursive(step, state_shape=(2,), input_shape=(2,), readout=lambda z: z))
    problem = Problem(exported.graph, exported.to_bytes())
    contracts = Derivation(
        ({"rule": "radius_contraction", "premises": [], "domain": ALL_INPUTS, "region": ALL_STATES, "norm": LINF,
          "rate": {"exp": -2, "int": "1"}},)
    )  # fmt: skip
    found = prove_lipschitz(problem, contracts.then("convergence", start=ALL_STATES))
    assert found.constant is None and "another form" in found.reason
    assert "PREMISE" in prove_lipschitz(problem, contracts).reason


LINF = {"kind": "block", "runs": [[2, 1]], "weights": {"exp": 0, "int": "1 1"}}
