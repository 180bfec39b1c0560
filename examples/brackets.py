"""Bracket repair: the only nearest well-formed word, by a recursion that reads both ways.

python examples/brackets.py [--quick] [--out DIR]

A bracket is right or wrong by what is open before it and what closes after it. One part of the state reads from left to
right, the other one from right to left and over what the first says; nothing depends on itself, so all is settled
after twice as many steps as there are brackets. That is proved for every word at once, of any brackets or none.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train.run import run


def main() -> None:
    """Train, prove, repair."""
    chosen = options("brackets", __doc__)
    config = configured("brackets", chosen.quick)
    task = config.load()
    done = run(config, chosen.out, progress=True)

    model = done.model.bake()
    for x, y in zip(task.test.x[:3], task.test.y[:3], strict=True):
        answer = answers_of(model, x, model.settles)[model.settles]
        print("right" if (answer == y.numpy()).all() else "wrong", task.show(x, answer), sep="\n", end="\n\n")
    answers = answers_of(model, task.test.x[0], model.settles)
    told(done, drawn(task, task.test.x[0], task.test.y[0], answers, chosen.out))


if __name__ == "__main__":
    main()
