"""The semidefinite program behind R3: a metric and multipliers for steps that no closed form fits (untrusted)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from trm_verify.provers.forms import StepForm
from trm_verify.provers.problem import Floats

SIZE = 96  # state entries + units up to which the program is tried
METRIC_MOST, MULTIPLIER_MOST = 1e4, 1e6
SOLVERS: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda left: {"time_limit": left},
    "SCS": lambda left: {"time_limit_secs": left, "eps_abs": 1e-7, "eps_rel": 1e-7},
}


def solve(form: StepForm, timeout: float) -> tuple[Floats, Floats] | str:
    """(P, multipliers) of about the smallest rate, by bisection over feasibility programs, or why there are none.

    Args:
        timeout: seconds in all; the best candidate so far is returned when they are over.
    """
    if form.n + form.units > SIZE:
        return f"the semidefinite program is tried up to {SIZE} state entries and units, found {form.n + form.units}"
    try:
        cvxpy: Any = import_module("cvxpy")
    except ImportError:
        return "the semidefinite program needs cvxpy: pip install 'trm-verify[lmi]'"
    deadline = time.monotonic() + timeout
    installed = [name for name in SOLVERS if name in cvxpy.installed_solvers()]
    if not installed:
        return f"the semidefinite program needs one of {', '.join(SOLVERS)}: pip install 'trm-verify[lmi]'"
    metric = cvxpy.Variable((form.n, form.n), symmetric=True)
    multipliers = cvxpy.Variable(form.units, nonneg=True)
    slack = cvxpy.Variable()
    select, units = np.eye(form.n + form.units)[: form.n], form.units_only
    cross = units.T @ cvxpy.diag(multipliers) @ (form.arguments * (form.lo + form.hi)[:, None])
    fixed = 2 * units.T @ cvxpy.diag(multipliers) @ units - cross - cross.T - form.outputs.T @ metric @ form.outputs
    if np.any(form.lo * form.hi):
        bent = form.arguments * (form.lo * form.hi)[:, None]
        fixed = fixed + 2 * form.arguments.T @ cvxpy.diag(multipliers) @ bent
    identity = np.eye(form.n)
    limits = [metric >> identity, metric << METRIC_MOST * identity, multipliers <= MULTIPLIER_MOST]

    def at(rate: float) -> tuple[Floats, Floats] | None:
        total = rate**2 * (select.T @ metric @ select) + fixed
        task = cvxpy.Problem(cvxpy.Maximize(slack), [*limits, total >> slack * np.eye(form.n + form.units)])
        for name in installed:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # "solution may be inaccurate": the kernel decides
                    task.solve(solver=name, verbose=False, **SOLVERS[name](left))
            except (cvxpy.error.SolverError, ValueError, ArithmeticError):  # the next solver may manage
                continue
            if metric.value is not None and slack.value is not None:
                chosen = np.array((metric.value + metric.value.T) / 2), np.maximum(multipliers.value, 0.0)
                return chosen if form.holds(*chosen, rate) else None
        return None

    found, low, high = at(1 - 1e-4), 0.0, 1 - 1e-4
    if found is None:
        over = " in the time allowed" if time.monotonic() > deadline else ""
        return f"the semidefinite program found no metric with a rate below {high}{over}"
    for _ in range(12):
        reached = form.best_rate(*found)
        high = min(high, reached if reached is not None else high)
        if high - low < 1e-3 * high or time.monotonic() > deadline:
            break
        middle = (low + high) / 2
        better = at(middle)
        if better is None:
            low = middle
        else:
            found, high = better, middle
    return found
