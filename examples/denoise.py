"""Denoising: an image that gets clearer with every step, and stops.

python examples/denoise.py [--quick] [--out DIR]

Every pixel of an 8×8 digit refines its state by looking at the pixels around it. A single pass is a small filter; the
recursion sees further with each step, and as it contracts, more steps bring it closer to one image and never away.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train import evaluate
from trm_verify.train.run import run


def main() -> None:
    """Train, prove, and measure along the loop."""
    chosen = options("denoise", __doc__)
    config = configured("denoise", chosen.quick, certify=0)
    task = config.load()
    done = run(config, chosen.out, progress=True)

    steps = config.settings.depth[1]
    reached = evaluate(done.model.bake(), task.test, task, steps)
    print("decibels after each step:", ", ".join(f"{value:.2f}" for value in reached))
    x, y = task.test.x[0], task.test.y[0]
    told(done, drawn(task, x, y, answers_of(done.model.bake(), x, steps), chosen.out))


if __name__ == "__main__":
    main()
