"""A tiny language model: fill the gaps in short pieces of text.

python examples/characters.py [--quick] [--out DIR]

Pieces of 32 characters of the standard library, a quarter of them masked. What stands in a gap follows from both sides,
so the state reads the text forwards, then backwards. What is proved is not that the guess is right, but that it is the
guess: after 64 steps nothing changes any more, from any start.
"""

from __future__ import annotations

import torch
from shared import answers_of, configured, drawn, options, told

from trm_verify.train.run import run


def main() -> None:
    """Train, prove, fill in, and say how sure the model is."""
    chosen = options("characters", __doc__)
    config = configured("characters", chosen.quick)
    task = config.load()
    done = run(config, chosen.out, progress=True)

    model = done.model.bake()
    steps, x, y = model.settles, task.test.x[:4], task.test.y[:4]
    with torch.no_grad():
        likely, answer = torch.softmax(model.readout(model.run(x, steps)), dim=-1).max(dim=-1)
    for row in range(len(x)):
        gaps = y[row] >= 0
        print(task.show(x[row], answer[row]))
        print(f"right {int((answer[row] == y[row]).sum())} of {int(gaps.sum())}, "
              f"expected {float(likely[row][gaps].sum()):.1f}\n")  # fmt: skip
    told(done, drawn(task, x[0], y[0], answers_of(model, x[0], steps), chosen.out))


if __name__ == "__main__":
    main()
