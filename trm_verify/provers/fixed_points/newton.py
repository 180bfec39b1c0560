"""Fixed points of a system of equations in doubles, by Newton steps on its linear pieces, and how they move with x."""

from __future__ import annotations

import torch
from torch import Tensor

from trm_verify.provers.fixed_points.relaxed import Relaxed, slope
from trm_verify.provers.problem import Floats

STEPS = 60


def _split(relaxed: Relaxed) -> tuple[Tensor, Tensor, Tensor]:
    """Columns of the constant and the input, of the kept states, of the units."""
    r = relaxed
    return r.rows[:, : 1 + r.inputs], r.rows[:, 1 + r.inputs : r.first], r.rows[:, r.first :]


def slopes_at(relaxed: Relaxed, a: Tensor) -> Tensor:
    """Derivatives of the units at their arguments. Shape: (…, U)."""
    if relaxed.only is not None and relaxed.only.op is not None:
        return slope(relaxed.only, a)
    found = torch.zeros_like(a)
    for k, unit in relaxed.kinds:
        if unit.op is not None:
            found[..., k] = slope(unit, a[..., k])
    return found


def _matrices(relaxed: Relaxed, slopes: Tensor) -> Tensor:
    """Derivative of the equations in (kept states, arguments). Shape: slopes (B, U) to (B, E, E)."""
    _, states, units = _split(relaxed)
    kept = states.shape[1]
    moved = units[:, relaxed.active] * slopes[:, None, relaxed.active]
    matrix = torch.cat([states.expand(len(slopes), -1, -1), moved], dim=2)
    matrix[:, kept + torch.arange(len(relaxed.active)), kept + torch.arange(len(relaxed.active))] -= 1.0
    return matrix


def fixed_point(relaxed: Relaxed, x: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(kept states, arguments, largest residual) at each input, from a start (kept states, arguments) or zero.

    Shape: x (B, m); results (B, kept), (B, U), (B,).
    """
    given, states, units = _split(relaxed)
    kept, count = states.shape[1], len(relaxed.active)
    fixed = given[:, 0] + x @ given[:, 1:].T
    unknown = torch.zeros(len(x), kept + count, dtype=x.dtype, device=x.device) if start is None else start.clone()
    arguments = torch.zeros(len(x), len(relaxed.system.units), dtype=x.dtype, device=x.device)

    def residual(v: Tensor) -> tuple[Tensor, Tensor]:
        a = arguments.clone()
        a[:, relaxed.active] = v[:, kept:]
        left = fixed + v[:, :kept] @ states.T + relaxed.values(a) @ units.T
        left[:, kept:] -= v[:, kept:]
        return left, a

    error, a = residual(unknown)
    size = error.abs().amax(dim=1) if error.shape[1] else torch.zeros(len(x), dtype=x.dtype)
    for _ in range(STEPS):
        if not bool((size > 1e-12 * (1 + unknown.abs().amax())).any()):
            break
        matrix = _matrices(relaxed, slopes_at(relaxed, a))
        change, _ = torch.linalg.solve_ex(matrix, error)
        change = torch.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0)
        best, best_size = unknown, torch.full_like(size, torch.inf)
        for length in (1.0, 0.5, 0.2, 0.05):  # the full step first; shorter ones where it makes things worse
            trial = unknown - length * change
            trial_size = residual(trial)[0].abs().amax(dim=1)
            better = trial_size < best_size
            best, best_size = torch.where(better[:, None], trial, best), torch.where(better, trial_size, best_size)
            if length == 1.0 and bool((best_size < size).all()):
                break
        unknown = best
        error, a = residual(unknown)
        size = error.abs().amax(dim=1)
    return unknown[:, :kept], a, size


def sensitivities(relaxed: Relaxed, a: Tensor) -> Tensor:
    """Derivative of (kept states, arguments of the active units) in x. Shape: a (B, U) to (B, E, m)."""
    given, _, _ = _split(relaxed)
    matrix = _matrices(relaxed, slopes_at(relaxed, a))
    found: Tensor = torch.linalg.solve(matrix, -given[:, 1:].expand(len(a), -1, -1))
    return found


def gradients(relaxed: Relaxed, a: Tensor, rows: Tensor) -> Tensor:
    """Derivative in x of functionals at fixed points, by the implicit function theorem.

    Shape: a (B, U), rows (B, 1 + m + kept + U) to (B, m).
    """
    given, states, _ = _split(relaxed)
    m, kept = relaxed.inputs, states.shape[1]
    slopes = slopes_at(relaxed, a)
    direct = torch.cat([rows[:, 1 + m : 1 + m + kept], (rows[:, relaxed.first :] * slopes)[:, relaxed.active]], dim=1)
    adjoint, _ = torch.linalg.solve_ex(_matrices(relaxed, slopes).transpose(1, 2), direct)
    return rows[:, 1 : 1 + m] - torch.nan_to_num(adjoint) @ given[:, 1:]


def functionals_at(relaxed: Relaxed, x: Tensor, states: Tensor, a: Tensor, rows: Tensor) -> Tensor:
    """The functionals' values. Shape: rows (B, 1 + m + kept + U) to (B,)."""
    columns = torch.cat([torch.ones(len(x), 1, dtype=x.dtype, device=x.device), x, states, relaxed.values(a)], dim=1)
    return (rows * columns).sum(1)


def step_derivative(relaxed: Relaxed, state: Floats) -> Floats:
    """f′ at a state and the middle of the inputs, of a system that keeps every state. Shape: state (n,) to (n, n)."""
    given, states, units = _split(relaxed)
    n, active = states.shape[1], relaxed.active
    z = torch.tensor(state, dtype=torch.float64)
    fixed = given[n:, 0] + given[n:, 1:] @ relaxed.middle + states[n:] @ z
    a = torch.zeros(units.shape[1], dtype=torch.float64)
    for place, k in enumerate(active.tolist()):  # arguments read earlier units only
        a[k] = fixed[place] + units[n + place, :k] @ relaxed.values(a)[:k]
    slopes = slopes_at(relaxed, a)
    by_unit = units * slopes
    inner = torch.eye(len(active), dtype=torch.float64) - by_unit[n:, active]
    moved = torch.linalg.solve(inner, states[n:]) if len(active) else states[n:]
    found: Floats = (states[:n] + torch.eye(n) + by_unit[:n, active] @ moved).numpy()
    return found
