"""Sudoku: a grid that settles, and an answer that is proved final before it has.

python examples/sudoku.py [--quick] [--out DIR]

Sixteen cells, each with a state of 32 numbers, look at mixtures of all others. In the largest of the cells' ℓ2 norms a
step contracts at 0.895, whatever the puzzle. An audit of one run then says from which step on the digits stay.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

import trm_verify as tv
from trm_verify.train.run import run


def main() -> None:
    """Train, prove, and audit the first test puzzle."""
    chosen = options("sudoku", __doc__)
    config = configured("sudoku", chosen.quick)
    task = config.load()
    x, y = task.test.x[0], task.test.y[0]
    print("A puzzle and its solution:", task.show(x, y), sep="\n", end="\n\n")

    done = run(config, chosen.out, progress=True)
    audited = tv.audit(done.model, x, steps=80, norm="tokens")  # one inference, with a bound at each step
    print(f"this run: within {audited.distances[10]:.2g} of its fixed point after 10 steps, within "
          f"{audited.distances[80]:.2g} after 80; no digit changes after step {audited.final}")  # fmt: skip
    told(done, drawn(task, x, y, answers_of(done.model.bake(), x, 60), chosen.out))


if __name__ == "__main__":
    main()
