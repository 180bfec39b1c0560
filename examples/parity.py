"""Parity: learn it on 16 bits, run it on 512, and know that it is done.

python examples/parity.py [--quick] [--out DIR]

Each position looks at the position before it, and nothing else. So no error can run in circles: after as many steps
as there are bits the state is exactly the fixed point, whatever the weights. The kernel reads that off the graph.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train.run import run


def main() -> None:
    """Train on short strings, prove the loop on long ones."""
    chosen = options("parity", __doc__)
    config = configured("parity", chosen.quick)
    short = config.load()
    print("Bits, and the parity of each prefix:", short.show(short.test.x[0], short.test.y[0]), sep="\n", end="\n\n")

    done = run(config, chosen.out, progress=True)  # ends with the same weights at 512 bits
    task = short.at(config.size or short.difficulty)
    x, y = task.test.x[0], task.test.y[0]
    answers = answers_of(done.model.bake(), x, len(y) + 8)
    steps = next((k for k, labels in answers.items() if (labels == y.numpy()).all()), None)
    print(f"{len(y)} bits, trained on {short.difficulty}: all right from step {steps} on")
    told(done, drawn(task, x, y, answers, chosen.out))


if __name__ == "__main__":
    main()
