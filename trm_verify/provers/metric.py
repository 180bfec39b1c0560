"""Contraction in a metric (R3): search for P and the multipliers of the activation units.

From cheap to dear: multipliers that the layers suggest (P = I, analytic for a Sandwich step), affine steps by their
eigenvectors or a Lyapunov equation, and a semidefinite program (cvxpy with clarabel or scs) for small steps. All of it is
untrusted; a candidate counts once the kernel has accepted its factor.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from trm_verify.certificate import derive
from trm_verify.encode import Json, dyadic, integers, round_down, round_up, vector
from trm_verify.kernel.context import Context
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.linear import linear_forms, require_activations
from trm_verify.kernel.norms import MetricNorm
from trm_verify.kernel.numbers import floor_at, rescale
from trm_verify.kernel.radius import slopes
from trm_verify.kernel.rules.metric import contraction_matrix
from trm_verify.provers.factors import as_floats, factor
from trm_verify.provers.problem import Attempt, Problem

Dense = np.ndarray
LMI_SIZE = 80  # state entries + units up to which the semidefinite program is tried
METRIC_BITS = 60


@dataclass(frozen=True)
class StepForm:
    """Δz⁺ = outputs · (Δz, φ), arguments of φ = arguments · (Δz, φ), slopes of unit i in [lo_i, hi_i].

    Shape: outputs (n, n + units), arguments (units, n + units).
    """

    outputs: Dense
    arguments: Dense
    lo: Dense
    hi: Dense

    @property
    def n(self) -> int:
        return len(self.outputs)

    def matrix(self, metric: Dense, multipliers: Dense, rate: float) -> Dense:
        """The matrix of the rule, in doubles (see proofs/linear_forms.md)."""
        size = self.outputs.shape[1]
        total = -self.outputs.T @ metric @ self.outputs
        total[: self.n, : self.n] += rate**2 * metric
        units = np.zeros((len(self.lo), size))
        units[:, self.n :] = np.eye(len(self.lo))
        cross = (units * (multipliers * (self.lo + self.hi))[:, None]).T @ self.arguments
        total -= cross + cross.T
        total += 2 * (units * multipliers[:, None]).T @ units
        total += 2 * (self.arguments * (multipliers * self.lo * self.hi)[:, None]).T @ self.arguments
        return (total + total.T) / 2


def step_form(problem: Problem, domain: Json, region: Json) -> StepForm:
    """Raises `CheckError` when the step is not linear maps and activations."""
    ranges = problem.ranges(domain, region)
    forms = linear_forms(problem.graph, problem.graph.step, ranges)
    require_activations(forms)
    nodes = problem.graph.step.nodes
    lo, hi = [], []
    for node in dict.fromkeys(n for n, _, _ in forms.units):
        low, high, exp = slopes(nodes[node], ranges[nodes[node].args[0]])
        entries = [e for n, e, _ in forms.units if n == node]
        lo += [float(np.ldexp(float(low[e]), exp)) for e in entries]
        hi += [float(np.ldexp(float(high[e]), exp)) for e in entries]
    outputs = as_floats(forms.outputs.rows, forms.outputs.exp)
    arguments = as_floats(forms.arguments.rows, forms.arguments.exp) if forms.units else np.zeros((0, outputs.shape[1]))
    return StepForm(outputs, arguments, np.array(lo), np.array(hi))


def _holds(form: StepForm, metric: Dense, multipliers: Dense, rate: float) -> bool:
    """Whether the matrix is positive semidefinite, up to rounding."""
    matrix = form.matrix(metric, multipliers, rate)
    try:
        np.linalg.cholesky(matrix + 1e-13 * float(np.abs(matrix).max()) * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        return False
    return True


def best_rate(form: StepForm, metric: Dense, multipliers: Dense) -> float | None:
    """The smallest rate at which the matrix is positive semidefinite, by bisection; None when 1 is not enough.

    Multipliers are fixed; the slack they need grows with the rate, so the test is monotone in it.
    """

    if not _holds(form, metric, multipliers, 1.0 - 1e-12):
        return None
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _holds(form, metric, multipliers, middle) else (middle, high)
    return high


def _hinted(problem: Problem, form: StepForm) -> Iterator[tuple[Dense, Dense]]:
    """P = I with Λ = sψ² for a ψ that a layer suggests.

    A Sandwich step of rate ρ holds exactly for s ≥ ρ² and then has rate √s (proofs/metric_contraction.md), so that the
    smallest s at which anything holds is the best one.
    """
    for hint in problem.hints:
        if len(hint) != len(form.lo) or not np.all(hint > 0):
            continue
        metric, low, high = np.eye(form.n), 0.0, 1.0
        if not _holds(form, metric, hint**2, 1.0):
            continue
        for _ in range(45):
            middle = (low + high) / 2
            low, high = (low, middle) if _holds(form, metric, hint**2 * middle, 1.0) else (middle, high)
        yield metric, hint**2 * high * (1 + 1e-8)  # off the boundary, where every matrix is singular


def _affine(form: StepForm) -> Iterator[tuple[Dense, Dense]]:
    """Metrics for Δz⁺ = AΔz: eigenvectors when A is diagonalizable, Lyapunov equations otherwise."""
    matrix = form.outputs
    values, vectors = np.linalg.eig(matrix)
    radius = float(np.abs(values).max())
    if np.linalg.cond(vectors) < 1e7:
        inverse = np.linalg.inv(vectors)
        yield np.real(inverse.conj().T @ inverse), np.zeros(0)
    for share in (1e-7, 1e-5, 1e-3, 1e-2, 0.05, 0.2, 0.5):
        target = radius + share * (1 - radius)
        if 0 < target < 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                metric = solve_discrete_lyapunov((matrix / target).T, np.eye(len(matrix)))
            if np.isfinite(metric).all() and np.linalg.eigvalsh((metric + metric.T) / 2)[0] > 0:
                yield metric, np.zeros(0)


def _program(form: StepForm, timeout: float) -> Iterator[tuple[Dense, Dense]]:
    """The semidefinite program, at a few rates by bisection."""
    import cvxpy

    n, units = form.n, len(form.lo)
    size = n + units
    metric = cvxpy.Variable((n, n), symmetric=True)
    multipliers = cvxpy.Variable(units, nonneg=True)
    square = cvxpy.Parameter(nonneg=True)
    slack = cvxpy.Variable()
    select = np.eye(size)[:n]
    unit = np.eye(size)[n:]
    cross = unit.T @ cvxpy.diag(cvxpy.multiply(form.lo + form.hi, multipliers)) @ form.arguments
    bent = form.arguments.T @ cvxpy.diag(cvxpy.multiply(form.lo * form.hi, multipliers)) @ form.arguments
    total = square * (select.T @ metric @ select) - form.outputs.T @ metric @ form.outputs
    total = total - cross - cross.T + 2 * unit.T @ cvxpy.diag(multipliers) @ unit + 2 * bent
    limits = [metric >> np.eye(n), metric << 1e4 * np.eye(n), total >> slack * np.eye(size), multipliers <= 1e5]
    task = cvxpy.Problem(cvxpy.Maximize(slack), limits)
    low, high, deadline = 0.0, 1.0, time.perf_counter() + timeout
    found: tuple[Dense, Dense] | None = None
    for _ in range(12):
        if time.perf_counter() > deadline:
            break
        rate = 0.999 if found is None and high == 1.0 and low == 0.0 else (low + high) / 2
        square.value = rate**2
        for solver in ("CLARABEL", "SCS"):
            try:
                task.solve(solver=solver, ignore_dpp=True)
                break
            except (cvxpy.error.SolverError, ValueError, ArithmeticError):
                continue
        if metric.value is not None and slack.value is not None and float(slack.value) > 1e-7:
            found, high = (metric.value.copy(), np.maximum(multipliers.value, 0.0)), rate
        else:
            low = rate
            if found is None:
                return
        if high - low < 1e-3:
            break
    if found is not None:
        yield found


def prove_metric(problem: Problem, domain: Json, region: Json, timeout: float = 60.0) -> Attempt:
    """The best candidate that the kernel accepts."""
    started = time.perf_counter()
    try:
        form = step_form(problem, domain, region)
    except CheckError as error:
        return Attempt("metric", "metric", time.perf_counter() - started, reason=str(error))
    reason = "no metric was found"
    for metric, multipliers in _candidates(problem, form, timeout):
        rate = best_rate(form, metric, multipliers)
        if rate is None:
            continue
        try:
            attempt = _certify(problem, domain, region, metric, multipliers, rate, started)
        except CheckError as error:
            reason = str(error)
            continue
        if attempt is not None:
            return attempt
    if len(form.lo) and form.n + len(form.lo) > LMI_SIZE:
        reason += f" (the semidefinite program is tried up to {LMI_SIZE} state entries and units together)"
    return Attempt("metric", "metric", time.perf_counter() - started, reason=reason)


def _candidates(problem: Problem, form: StepForm, timeout: float) -> Iterator[tuple[Dense, Dense]]:
    if not len(form.lo):
        yield from _affine(form)
        return
    yield from _hinted(problem, form)
    if form.n + len(form.lo) <= LMI_SIZE:
        try:
            yield from _program(form, timeout)
        except ImportError:
            return


def _certify(
    problem: Problem, domain: Json, region: Json, metric: Dense, multipliers: Dense, rate: float, started: float
) -> Attempt | None:
    """Round the candidate, raise the rate by as little as the kernel needs, and let it check."""
    plain = bool(np.array_equal(metric, np.eye(len(metric))))
    n = len(metric)
    metric = (metric + metric.T) / 2
    low = float(np.linalg.eigvalsh(metric)[0])
    if low <= 0:
        return None
    exp = int(np.frexp(low)[1]) - METRIC_BITS
    ints = [int(v) for v in np.ldexp(metric, -exp).ravel().tolist()]
    if plain:
        norm: Json = {"kind": "block", "runs": [[1, n]], "weights": {"exp": 0, "int": "1"}}
        norm_factor = None
    else:
        floor = round_down(Fraction(low) * Fraction(9, 10), 20)
        norm = {"kind": "metric", "matrix": integers(ints, exp), "floor": dyadic(floor)}
        parsed = problem.norm(norm)
        if not isinstance(parsed, MetricNorm):
            return None
        fine = min(parsed.exp, 1 - floor.denominator.bit_length())
        rest = [rescale(row, parsed.exp, fine) for row in parsed.rows]
        for i, row in enumerate(rest):
            rest[i] = [*row[:i], row[i] - floor_at(floor, fine), *row[i + 1 :]]
        norm_factor = factor(rest, fine, "P − pI")
    context = Context(problem.graph, (), ())
    weights = vector(multipliers)
    last: CheckError | None = None
    for slack in (2e-7, 1e-6, 4e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        bound = round_up(Fraction(rate) + Fraction(slack) * Fraction(min(rate + 1e-3, 1.0)), 48)
        if bound >= 1:
            break
        chosen = weights
        if plain:  # a Sandwich step wants Λ = ρρ'ψ²: follow the rate
            chosen = vector(multipliers * (float(bound) / rate)) if rate > 0 else weights
        try:
            rows, m_exp = contraction_matrix(
                context, problem.box(region), problem.box(domain), problem.norm(norm), bound,
                read_vector(chosen, None, "multipliers"),
            )  # fmt: skip
            done = derive(
                "metric_contraction", domain=domain, region=region, norm=norm, rate=dyadic(bound), multipliers=chosen,
                factor=factor(rows, m_exp, "the contraction matrix"), norm_factor=norm_factor,
            )  # fmt: skip
            problem.conclude(done)
        except CheckError as error:
            last = error
            continue
        name = "l2" if plain else "metric"
        return Attempt("metric", name, time.perf_counter() - started, bound, done)
    if last is not None:
        raise last
    return None

