"""Contraction by a matrix inequality: hints, closed forms, the semidefinite program, and its reasons to give up."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.provers.steps import Case
from trm_verify.nn import SandwichStep
from trm_verify.provers.contraction import program
from trm_verify.provers.contraction.forms import StepForm, step_form
from trm_verify.provers.contraction.metric import prove_metric
from trm_verify.provers.contraction.norms import PROVERS, contraction_attempts
from trm_verify.provers.contraction.spectral import prove_l2


def weights(matrix: Any) -> nn.Linear:
    found = nn.Linear(len(matrix[0]), len(matrix), bias=False, dtype=torch.float64)
    with torch.no_grad():
        found.weight.copy_(torch.tensor(matrix, dtype=torch.float64))
    return found


def sandwich(state: int, hidden: int, rho: float, hinted: bool = True, **options: Any) -> Case:
    step = SandwichStep(state, hidden, 3, rho, generator=torch.Generator().manual_seed(1), **options).bake()
    return Case(step, (state,), (3,), hints=[step.psi.double().numpy()] if hinted else [])


@pytest.mark.parametrize(("state", "hidden"), [(4, 4), (16, 32), (64, 128)])
@pytest.mark.parametrize(("act", "rho"), [("relu", 0.9), ("tanh", 0.5), ("relu", 0.99)])
def test_a_sandwich_step_has_its_rate_by_its_own_multipliers(state: int, hidden: int, act: str, rho: float) -> None:
    case = sandwich(state, hidden, rho, act=act)
    attempt = case.prove(prove_metric)
    assert attempt.rate is not None, attempt.reason
    assert attempt.norm == "l2"
    assert float(attempt.rate) <= rho * (1 + 1e-5)
    form = step_form(case.problem, case.domain, case.region)
    product = np.linalg.norm(form.outputs[:, state:], 2) * np.linalg.norm(form.arguments[:, :state], 2)
    assert product > 1.9 * rho
    by_rows = case.prove(prove_l2)
    assert by_rows.rate is not None and float(by_rows.rate) <= rho * (1 + 1e-5)  # a state of one row
    rules = {step["rule"] for step in by_rows.derivation.steps}
    assert product < 1 or "row_gain" in rules


def test_wrong_hints_are_passed_over() -> None:
    case = sandwich(6, 8, 0.8)
    case.problem.hints = [np.ones(5), -np.ones(8), np.full(8, 1e9), *case.problem.hints]
    attempt = case.prove(prove_metric)
    assert attempt.rate is not None and float(attempt.rate) <= 0.8 * (1 + 1e-5)


def test_the_program_finds_the_metric_that_a_hint_would_name() -> None:
    """Two layers whose norm product is 1.6 or more, without a hint."""
    case = sandwich(5, 8, 0.7, hinted=False)
    attempt = case.prove(prove_metric)
    assert attempt.rate is not None, attempt.reason
    assert float(attempt.rate) <= 0.75


def test_the_program_beats_every_block_norm() -> None:
    """A shear under a ReLU: |W| has radius √2 · 0.7 and ‖W‖₂ > 1, yet some metric contracts."""
    turn = 0.7 * np.array([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    skewed = weights(np.diag([1.0, 4.0]) @ turn @ np.diag([1.0, 0.25]) * 0.9)
    case = Case(lambda z: nn.functional.leaky_relu(skewed(z), 0.875), (2,))
    attempt = case.prove(prove_metric)
    assert case.prove(prove_l2).rate is None
    assert attempt.rate is not None and float(attempt.rate) < 0.8
    assert attempt.norm == "metric"


def test_slopes_come_from_the_region() -> None:
    """tanh(3z) expands near 0 and contracts away from it."""
    layer = weights([[3.0, 0.25], [0.0, 3.0]])
    assert Case(lambda z: torch.tanh(layer(z)), (2,)).prove(prove_metric).rate is None
    local = Case(lambda z: torch.tanh(layer(z)), (2,), region=(0.75, 1.25)).prove(prove_metric)
    assert local.rate is not None and float(local.rate) < 0.2


def test_affine_steps_that_no_symmetric_scaling_helps() -> None:
    """A Jordan block: not diagonalizable, so the metric comes from a Lyapunov equation."""
    matrix = weights([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]])
    attempt = Case(lambda z: matrix(z), (3,)).prove(prove_metric)
    assert attempt.rate is not None and 0.5 <= float(attempt.rate) < 0.51


def test_a_missing_solver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    attempt = sandwich(4, 6, 0.7, hinted=False).prove(prove_metric)
    assert attempt.rate is None
    assert "trm-verify[lmi]" in attempt.reason


def test_the_program_ends_in_time() -> None:
    attempt = sandwich(4, 6, 0.7, hinted=False).prove(prove_metric, timeout=0.0)
    assert attempt.rate is None
    assert "time allowed" in attempt.reason


def test_large_steps_are_left_alone() -> None:
    size = program.SIZE
    form = StepForm(np.zeros((size, size + 1)), np.zeros((1, size + 1)), np.zeros(1), np.ones(1))
    found = program.solve(form, 1.0)
    assert isinstance(found, str) and str(size) in found


def test_the_matrix_of_the_rule_is_the_kernels() -> None:
    """xᵀMx is the inequality itself: ρ²|Δz|²_P − |Δz⁺|²_P − 2Σλ(φ − av)(bv − φ)."""
    rng = np.random.default_rng(3)
    form = StepForm(rng.normal(size=(3, 5)), rng.normal(size=(2, 5)), np.array([-0.5, 0.0]), np.array([1.0, 0.75]))
    root, multipliers = rng.normal(size=(3, 3)), np.array([0.5, 2.0])
    metric = root @ root.T
    matrix = form.matrix(metric, multipliers, 0.9)
    for _ in range(20):
        x = rng.normal(size=5)
        after, units, v = form.outputs @ x, x[3:], form.arguments @ x
        sector = 2 * (multipliers * (units - form.lo * v) * (form.hi * v - units)).sum()
        expected = 0.81 * x[:3] @ metric @ x[:3] - after @ metric @ after - sector
        assert x @ matrix @ x == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_other_operations_are_refused_with_a_reason() -> None:
    attempt = Case(lambda z: z * torch.tanh(z), (2,)).prove(prove_metric)
    assert attempt.rate is None and "UNSUPPORTED" in attempt.reason


def attempts(case: Case, **options: Any) -> dict[str, Any]:
    found = contraction_attempts(case.problem, case.domain, case.region, **options)
    return dict(zip(PROVERS, found, strict=False))


def test_auto_skips_the_program_where_a_cheaper_norm_has_a_rate() -> None:
    layer = weights([[0.25, 0.125], [0.0, 0.25]])
    case = Case(lambda z: torch.tanh(layer(z)), (2,))
    found = attempts(case)
    assert found["linf"].rate is not None
    assert found["metric"].rate is None and "skipped" in found["metric"].reason
    assert "ask norm='metric'" in found["metric"].reason
    (asked,) = contraction_attempts(case.problem, case.domain, case.region, norm="metric")
    assert asked.rate is not None


def test_auto_tries_everything_that_applies() -> None:
    found = attempts(sandwich(4, 6, 0.7))
    assert [name for name, a in found.items() if a.rate is not None] == ["l2", "metric"]
    assert float(found["l2"].rate) == pytest.approx(float(found["metric"].rate), rel=1e-6)
    assert "one part" in found["parts"].reason and "token" in found["tokens"].reason


@pytest.mark.parametrize("options", [{"norm": "l7"}, {"provers": ["linf", "nothing"]}, {"provers": []}])
def test_unknown_norms_and_provers_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected norms and provers among auto, linf"):
        attempts(sandwich(4, 6, 0.7), **options)
