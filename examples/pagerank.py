"""PageRank: the ranks of the nodes of a graph, with a bound on the error of every step.

python examples/pagerank.py [--quick] [--out DIR]

One step follows the links once; the graph is in the weights, the input says where surfers start anew. One proof holds
for every such distribution, and an audit of one run bounds the error of the ranks at each step.
"""

from __future__ import annotations

from shared import options, told_solve

import trm_verify as tv
from trm_verify.export import export
from trm_verify.tasks import load_task
from trm_verify.train.run import CERTIFICATE


def main() -> None:
    """Nothing is trained: prove the method, then audit one run of it."""
    chosen = options("pagerank", __doc__)
    chosen.out.mkdir(parents=True, exist_ok=True)
    task = load_task("pagerank", size=16 if chosen.quick else 64)
    solver = task.solver
    whole = tv.verify_fixed_point(solver, norm="linf")
    whole.certificate.save(chosen.out / CERTIFICATE)
    export(solver).save(chosen.out / "model.safetensors")

    audited = tv.audit(solver, task.test.x[0], steps=90, norm="linf")
    told_solve(whole, audited, "one teleport distribution", task.test.y[0], chosen.out)


if __name__ == "__main__":
    main()
