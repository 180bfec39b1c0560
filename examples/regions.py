"""Coarse to fine: plan in a maze along a map of its regions.

python examples/regions.py [--quick] [--out DIR]

The map says which borders of regions may be crossed; the doors of the maze are everywhere. So the way has two levels: a
region after the other by the map, a cell after the other inside. One recursion does both, and settles for every maze.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train import evaluate
from trm_verify.train.run import run


def main() -> None:
    """Train, prove, and watch one plan grow from the goal through the regions."""
    chosen = options("regions", __doc__)
    config = configured("regions", chosen.quick, certify=0)
    task = config.load()
    x, y = task.test.x[0], task.test.y[0]
    print("A maze with the right moves, and the map of its regions:", task.show(x, y), sep="\n", end="\n\n")

    done = run(config, chosen.out, progress=True)
    model, steps = done.model.bake(), config.settings.depth[1]
    larger = task.at(4)  # regions a side, where three were trained: the weights know no size
    reached = evaluate(model.at(height=15, width=15), larger.test, larger, 2 * steps)[-1]
    print(f"15×15 mazes, larger than any in training: {100 * reached:.1f} % planned without a mistake")

    answers = answers_of(model, x, steps)
    wrong = {k: int(((labels != y.numpy()) & (y.numpy() >= 0)).sum()) for k, labels in answers.items()}
    print("cells without their right move:", ", ".join(f"{wrong[k]} after {k}" for k in (1, 4, 12, max(wrong))))
    told(done, drawn(task, x, y, answers, chosen.out))


if __name__ == "__main__":
    main()
