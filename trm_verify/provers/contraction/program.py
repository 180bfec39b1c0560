"""The semidefinite program behind R3: a metric and multipliers for steps that no closed form fits (untrusted)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from trm_verify.provers.contraction.forms import StepForm
from trm_verify.provers.problem import Floats

SIZE = 64  # state entries + units up to which the program is tried
METRIC_MOST, MULTIPLIER_MOST = 1e4, 1e6
INSIDE = 1e-6  # how far inside the cone candidates lie, so that rounding them is harmless
ROUNDS, BISECTIONS, PRECISION = 6, 12, 2e-3
SOLVERS: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda left: {"time_limit": left, "tol_gap_abs": 1e-5, "tol_gap_rel": 1e-4, "tol_feas": 1e-7},
    "SCS": lambda left: {"time_limit_secs": left, "eps_abs": 1e-7, "eps_rel": 1e-7},
}


def _sectors(cvxpy: Any, form: StepForm, multipliers: Any) -> Any:
    """What the units add to the matrix of the rule: Σ 2λ_i (φ_i − a_i v_i)(φ_i − b_i v_i)."""
    units, scaled = form.units_only, cvxpy.diag(multipliers)
    cross = units.T @ scaled @ (form.arguments * (form.lo + form.hi)[:, None])
    total = 2 * units.T @ scaled @ units - cross - cross.T
    if np.any(form.lo * form.hi):
        bent = form.arguments * (form.lo * form.hi)[:, None]
        total = total + 2 * form.arguments.T @ scaled @ bent
    return total


def _solved(cvxpy: Any, task: Any, wanted: Sequence[Any], deadline: float) -> bool:
    """Whether one of the solvers that are installed found values of the wanted variables in time."""
    for name in (name for name in SOLVERS if name in cvxpy.installed_solvers()):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "solution may be inaccurate": the kernel decides
                task.solve(solver=name, verbose=False, **SOLVERS[name](left))
        except (cvxpy.error.SolverError, ValueError, ArithmeticError):  # the next solver may manage
            continue
        if all(variable.value is not None for variable in wanted):
            return True
    return False


def solve(form: StepForm, timeout: float) -> tuple[Floats, Floats] | str:
    """(P, multipliers) of about the smallest rate, or why there are none.

    At rate ρ and metric P₀ so far, the program maximizes s with M(ρ) ⪰ s·P₀ on the state: P₀ itself would have the rate
    √(ρ² − s), and the new P about that or a better one (Dinkelbach's method). Bisection on ρ ends it.

    Args:
        timeout: seconds in all; the best candidate so far is returned when they are over.
    """
    n, size = form.n, form.n + form.units
    if size > SIZE:
        return f"the semidefinite program is tried up to {SIZE} state entries and units, found {size}"
    try:
        cvxpy: Any = import_module("cvxpy")
    except ImportError:
        return "the semidefinite program needs cvxpy: pip install 'trm-verify[lmi]'"
    if not SOLVERS.keys() & set(cvxpy.installed_solvers()):
        return f"the semidefinite program needs one of {', '.join(SOLVERS)}: pip install 'trm-verify[lmi]'"
    deadline = time.monotonic() + timeout
    metric, multipliers = cvxpy.Variable((n, n), symmetric=True), cvxpy.Variable(form.units, nonneg=True)
    gain = cvxpy.Variable()
    select = np.eye(size)[:n]
    fixed = _sectors(cvxpy, form, multipliers) - form.outputs.T @ metric @ form.outputs
    limits = [metric >> np.eye(n), cvxpy.trace(metric) <= METRIC_MOST * n, multipliers <= MULTIPLIER_MOST]

    def at(rate: float, before: Floats) -> tuple[Floats, Floats] | None:
        room = select.T @ (rate**2 * metric - gain * before) @ select + fixed
        task = cvxpy.Problem(cvxpy.Maximize(gain), [*limits, room >> INSIDE * np.eye(size)])
        if not _solved(cvxpy, task, [metric, multipliers], deadline):
            return None
        return (metric.value + metric.value.T) / 2, np.maximum(multipliers.value, 0.0)

    best: tuple[Floats, Floats] | None = None
    rate, before = 1 - 1e-6, np.eye(n)
    for _ in range(ROUNDS):
        found = at(rate, before)
        reached = None if found is None else form.best_rate(*found)
        if found is None or reached is None or (best is not None and reached >= rate):
            break
        settled = best is not None and rate - reached < 1e-2 * rate
        best, rate, before = found, reached, found[0]
        if settled or rate < 1e-6:
            break
    low = 0.0  # near the end the steps above grow short: halve what is left instead
    for _ in range(BISECTIONS if best is not None else 0):
        if rate - low < PRECISION * rate or time.monotonic() > deadline:
            break
        middle = (low + rate) / 2
        found = at(middle, before)
        reached = None if found is None else form.best_rate(*found)
        if found is not None and reached is not None and reached < rate:
            best, rate, before = found, reached, found[0]
        if reached is None or reached > middle:
            low = middle
    if best is None:
        over = " in the time allowed" if time.monotonic() > deadline else ""
        return f"the semidefinite program found no metric with a rate below 1{over}"
    return best
