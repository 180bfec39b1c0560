"""Mazes: the next move from every cell, by values that spread from cell to cell.

python examples/mazes.py [--quick] [--out DIR]

A network of five thousand numbers looks at each cell and its four neighbours, again and again. Whatever the maze, a
step brings any two states closer by a tenth, so the plan settles, and more steps never spoil it. That is proved.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train import evaluate
from trm_verify.train.run import run

STEPS = 40


def main() -> None:
    """Train and prove on 9×9 mazes; then plan in larger ones with the same weights."""
    chosen = options("mazes", __doc__)
    config = configured("mazes", chosen.quick, certify=0)  # task, model and training, as data
    task = config.load()
    x, y = task.test.x[0], task.test.y[0]
    print("A maze, and a best move for every cell:", task.show(x, y), sep="\n", end="\n\n")

    done = run(config, chosen.out, progress=True)  # trains, measures, proves, writes weights and certificates
    model = done.model.bake()

    # No weight knows the size of the grid.
    larger = task.at(13)
    reached = evaluate(model.at(height=13, width=13), larger.test, larger, 2 * STEPS)[-1]
    print(f"13×13 mazes, larger than any in training: {100 * reached:.1f} % planned without a mistake")

    answers = answers_of(model, x, 10 * STEPS)
    print("the same plan after ten times as many steps:", (answers[STEPS] == answers[10 * STEPS]).all())
    told(done, drawn(task, x, y, answers, chosen.out))


if __name__ == "__main__":
    main()
