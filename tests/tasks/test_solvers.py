"""Jacobi and PageRank: exact targets, and certificates of the solver that comes with the task."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import trm_verify as tv
from trm_verify.tasks import jacobi, pagerank
from trm_verify.tasks.jacobi import digits_right, top_right
from trm_verify.train import evaluate


def exact_step(task, x, z):
    """One sweep in rationals, from the stored weights."""
    weight, scale = task.solver.weight.tolist(), task.solver.scale.tolist()
    return [
        sum(Fraction(w) * Fraction(v) for w, v in zip(row, z, strict=True)) + Fraction(s) * Fraction(b)
        for row, s, b in zip(weight, scale, x, strict=True)
    ]


@pytest.mark.parametrize("size, signs", [(2, "mixed"), (8, "negative"), (16, "mixed"), (64, "mixed")])
def test_jacobi_targets_are_exact_fixed_points_of_the_stored_model(size, signs):
    task = jacobi(size, couplings=min(4, size - 1), signs=signs)
    for split in (task.train, task.validation, task.test):
        for x, y in zip(split.x[:4].tolist(), split.y[:4].tolist(), strict=True):
            assert exact_step(task, x, y) == [Fraction(v) for v in y]
            assert len([v for v in y if v == max(y)]) == 1
            assert task.domain.contains(np.array(x))
    weight = task.solver.weight.detach()
    sums = weight.abs().sum(dim=1)
    assert (weight.diagonal() == 0).all() and ((weight != 0).sum(dim=1) == min(4, size - 1)).all()
    assert float(sums.min()) > 0.59 and float(sums.max()) <= 0.95
    assert bool((weight < 0).any()) == (signs == "mixed")


def test_pagerank_targets_solve_the_stored_system():
    task = pagerank(24)
    weight = task.solver.weight.double()
    assert torch.equal(weight.sum(dim=0), torch.full((24,), 0.875, dtype=torch.float64))
    assert (weight > 0).sum(dim=0).unique().tolist() in ([1, 2, 4, 8], [2, 4, 8], [1, 2, 8], [1, 4, 8], [1, 2, 4])
    for x, y in zip(task.test.x[:10].tolist(), task.test.y[:10].tolist(), strict=True):
        assert sum(map(Fraction, x)) == 1 and min(x) >= 0
        residual = max(abs(a - Fraction(b)) for a, b in zip(exact_step(task, x, y), y, strict=True))
        assert residual < Fraction(1, 10**15)  # the error is at most 24/(1 − 7/8) times as large, in ℓ1
        assert sum(y) == pytest.approx(1)


def test_the_loop_reaches_the_targets():
    for task, rate in ((jacobi(), 0.95), (pagerank(), 0.875)):
        steps = 120
        reached = evaluate(task.solver, task.test, task, steps)
        assert reached[0] < reached[10] < reached[30] and reached[-1] > 6
        assert reached[30] > -np.log10(2 * rate**31)
        assert task.metrics["top"](task.solver.run(task.test.x, steps), task.test.y) == 1.0
        assert 5 < task.baseline() < 9


@pytest.mark.parametrize("task", [jacobi(8, signs="negative"), pagerank(16)], ids=lambda task: task.name)
def test_certified_errors_hold_the_true_ones(task):
    result = tv.verify_fixed_point(task.solver, norm="linf")
    assert result.verdict is tv.PROVED and result.rate < 0.96
    if task.name == "pagerank":
        assert result.rate == pytest.approx(0.875, abs=1e-5)
    ratios = []
    for x, y in zip(task.test.x[:3], task.test.y[:3], strict=True):
        run = tv.audit(task.solver, x, steps=90, norm="linf")
        errors = np.abs(run.states - y.double().numpy()).max(axis=1)
        assert (run.distances + 1e-14 >= errors).all()
        assert run.answer == (int(y.argmax()),)
        ratios += list(run.distances[10:25] / errors[10:25])
    assert np.median(ratios) < 10


def test_metrics_against_the_formulas():
    target = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
    values = torch.tensor([[0.01, 1.0], [0.5, 0.2499]])
    assert digits_right(values, target) == pytest.approx((2 + 4) / 2, abs=1e-3)
    assert digits_right(target, target) == 16
    assert top_right(torch.tensor([[0.0, 1.0], [0.2, 0.25]]), target) == 0.5


def test_other_systems_sizes_refusals_and_text():
    for make in (jacobi, pagerank):
        task = make()
        assert torch.equal(task.solver.weight, make().solver.weight) and torch.equal(task.test.x, make().test.x)
        assert not torch.equal(task.solver.weight, make(seed=1).solver.weight)
        assert task.at(64).input_shape == (64,) and task.at(64).solver.state_shape == (64,)
        rows = torch.cat([task.train.x, task.validation.x, task.test.x])
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)
    for wrong in ({"size": 1}, {"dominance": (0.5, 1.0)}, {"couplings": 16}, {"signs": "some"}):
        with pytest.raises(ValueError, match="jacobi"):
            jacobi(**wrong)
    with pytest.raises(ValueError, match="pagerank"):
        pagerank(9)
    small = jacobi(2, couplings=1)
    assert small.show([1.0, -2.0], [0.5, 0.25]) == "b  +1.0000 -2.0000\nu  +0.5000 +0.2500"
    lines = pagerank().show(pagerank().test.x[0], pagerank().test.y[0]).splitlines()
    assert len(lines) == 8 and lines[0].split()[1] == str(int(pagerank().test.y[0].argmax()))
