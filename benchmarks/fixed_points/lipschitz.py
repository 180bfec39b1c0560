"""The ℓ2 Lipschitz constant of h40's logits in its normalised input: certified, and what floats say it could be."""

from __future__ import annotations

import numpy as np

from benchmarks.fixed_points.data import Mondeq
from benchmarks.fixed_points.setting import Setting
from benchmarks.table import Json, Measure
from trm_verify.verification.lipschitz import verify_lipschitz

GLOBAL, EPS = 3.22, "0.02"
QUICK = 2


def norm_product(model: Mondeq) -> float:
    """‖C‖₂ ‖U‖₂ / m, in doubles."""
    reading, drive = (model.wide.get_parameter(name).detach().numpy() for name in "CU")
    return float(np.linalg.norm(reading, 2) * np.linalg.norm(drive, 2) / model.wide.m)


def diagonal_multipliers(model: Mondeq) -> float | None:
    """The best constant of all diagonal multipliers Λ, by a semidefinite program in doubles; None without cvxpy.

    Slopes in [0, 1] mean Δzᵀ Λ (WΔz + UΔx − Δz) ≥ 0, so γ is a bound if `Λ(I − W) + (I − W)ᵀΛ − CᵀC` outweighs
    `ΛUUᵀΛ / γ²`.
    """
    try:
        import cvxpy
    except ImportError:
        return None
    reading, drive = (model.wide.get_parameter(name).detach().numpy() for name in "CU")
    size = len(drive)
    root = np.linalg.cholesky(drive @ drive.T)
    weights, square = cvxpy.Variable(size, nonneg=True), cvxpy.Variable()
    scale = cvxpy.diag(weights)
    gap = scale @ (np.eye(size) - model.matrix.detach().numpy())
    block = cvxpy.bmat([
        [gap + gap.T - reading.T @ reading, scale @ root], [root.T @ scale, square * np.eye(size)],
    ])  # fmt: skip
    cvxpy.Problem(cvxpy.Minimize(square), [block >> 0]).solve(solver="CLARABEL")
    return None if square.value is None else float(square.value) ** 0.5


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """Globally, and over the ball about each image."""
    model, row = setting.model("h40"), "lipschitz"
    best, product = diagonal_multipliers(model), norm_product(model)
    whole = verify_lipschitz(model.model)
    ledger = setting.ledger(row, model=model.digest, eps=EPS)
    count = min(len(setting.test), QUICK) if setting.quick else len(setting.test)

    def local(index: int) -> Json:
        found = verify_lipschitz(model.model, setting.test.box(index, EPS))
        return {"constant": found.constant, "local": found.local, "varying": found.varying, "seconds": found.seconds}

    found = ledger.measured(range(count), local, lambda f: setting.tick(f"lipschitz {f['key']}: {f['constant']}"))
    constants = [f["constant"] for f in found if f["constant"] is not None]
    note = f"norm product {product:.4f}; diagonal multipliers, in floats: {'–' if best is None else f'{best:.4f}'}"
    measures = [Measure(row, "h40, globally, certified", whole.constant, most=GLOBAL, note=note)]
    if found:
        worst = max(constants) if len(constants) == len(found) else None
        note = f"{len(found)} images, median {np.median(constants):.4f}" if constants else "none"
        most = None if whole.constant is None else float(np.nextafter(whole.constant, 0))
        measures.append(Measure(row, f"the largest local one, ε = {EPS}", worst, most=most, note=note))
    details = {"global": whole.constant, "norm_product": product, "diagonal_multipliers": best, "images": found}
    return measures, details
