"""Jacobi's method: solve a linear system, with a bound on the error that needs no solution.

python examples/jacobi.py [--quick] [--out DIR]

One step is one sweep over the equations; the matrix is in the weights, the right-hand side is the input. One proof then
holds for every right-hand side, and an audit of one solve bounds its error at each step.
"""

from __future__ import annotations

from shared import options, told_solve

import trm_verify as tv
from trm_verify.export import export
from trm_verify.tasks import load_task
from trm_verify.train.run import CERTIFICATE


def main() -> None:
    """Nothing is trained: prove the method, then audit one run of it."""
    chosen = options("jacobi", __doc__)
    chosen.out.mkdir(parents=True, exist_ok=True)
    task = load_task("jacobi", size=8 if chosen.quick else 32, signs="negative")
    solver = task.solver
    whole = tv.verify_fixed_point(solver, norm="linf")
    whole.certificate.save(chosen.out / CERTIFICATE)
    export(solver).save(chosen.out / "model.safetensors")

    audited = tv.audit(solver, task.test.x[0], steps=90, norm="linf")
    told_solve(whole, audited, "one right-hand side", task.test.y[0], chosen.out)


if __name__ == "__main__":
    main()
