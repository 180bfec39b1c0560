"""ARC-AGI: evaluate a tiny certified model on real puzzles, and look at what it thinks.

python examples/arc.py [--quick] [--out DIR]

Puzzles whose grids fit 10×10. A cell sees the query and the examples at its own place, and its neighbours' states. That
is far too little to solve them: what it learns is to copy the query and to guess sizes. The proof holds all the same.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from shared import answers_of, drawn, options, told_lines

import trm_verify as tv
from trm_verify.models import ConvRefiner
from trm_verify.report import abbreviated
from trm_verify.tasks import Split, load_task
from trm_verify.tasks.arc import OUTSIDE
from trm_verify.tasks.base import one_hot
from trm_verify.train import train
from trm_verify.train.run import CERTIFICATE

SIDE, STEPS = 10, 8


def main() -> None:
    """Train on the training puzzles, prove the loop, evaluate on the evaluation puzzles."""
    chosen = options("arc", __doc__)
    puzzles = load_task("arc", side=SIDE)

    def channels(split: Split) -> Split:
        """Query and examples as channels of each cell."""
        grids = one_hot(split.x, puzzles.classes).permute(0, 2, 3, 1, 4)
        return Split(grids.flatten(3), split.y)

    parts = {name: channels(getattr(puzzles, name)) for name in ("train", "validation", "test")}
    if chosen.quick:
        parts["train"] = Split(parts["train"].x[:64], parts["train"].y[:64])
    box = tv.Box(0, 1).expand(tuple(parts["train"].x.shape[1:]))
    task = replace(puzzles, vocabulary=None, domain=box, **parts)

    model = ConvRefiner(*task.input_shape, classes=task.classes, features=8 if chosen.quick else 24, seed=0)
    train(model, task, epochs=1 if chosen.quick else 12, batch_size=16, depth=(4, STEPS), progress=True)
    tv.save_pretrained(model, chosen.out)
    whole = tv.verify_fixed_point(model, norm="tokens")
    whole.certificate.save(chosen.out / CERTIFICATE)

    baked = model.bake()
    with torch.no_grad():
        logits = baked.readout(baked.run(task.test.x, STEPS))
    query = puzzles.reference.answers(puzzles)
    lines = {}
    for name, metric in task.metrics.items():
        reached, copied = (100 * metric(answers, task.test.y) for answers in (logits, query))
        lines[name] = f"{reached:.1f} % ({copied:.1f} % for the query itself)"
    lines |= {name: f"{claim.verdict}: {abbreviated(claim.statement)}" for name, claim in whole.claims.items()}

    # A puzzle to look at: one whose answer is as large as its query.
    row = next(i for i, (x, y) in enumerate(zip(puzzles.test.x, puzzles.test.y, strict=True))
               if ((x[-1] == OUTSIDE) == (y == OUTSIDE)).all())  # fmt: skip
    x, y = puzzles.test.x[row], puzzles.test.y[row]
    print("A puzzle, with its answer:", puzzles.show(x, y), sep="\n", end="\n\n")
    told_lines(lines, chosen.out, drawn(task, x, y, answers_of(baked, task.test.x[row], STEPS), chosen.out))


if __name__ == "__main__":
    main()
