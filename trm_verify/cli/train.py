"""`trm-verify train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.loading import load_task_named, model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage


def run(options: Any) -> Outcome:
    """Train the demo model and save it."""
    from trm_verify.models import SandwichRefiner
    from trm_verify.pretrained import save_pretrained
    from trm_verify.train import evaluate, train

    task = load_task_named(options.task)
    out = Path(options.out or Path("out", task.name))
    writable(out, "--out")
    with model_errors("train"):
        model = SandwichRefiner(
            options.state, options.hidden, inputs=task.input_shape[0], classes=task.classes, rho=options.rho,
            seed=options.seed,
        )  # fmt: skip
        try:
            done = train(
                model, task, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, seed=options.seed,
                progress=not options.quiet, checkpoint=options.checkpoint, resume=options.resume,
            )  # fmt: skip
            saved = None
            if done.history:  # interrupted before the first epoch: there is nothing worth keeping
                saved = save_pretrained(model, out)
        except OSError as error:
            raise cannot("read or write", error, "choose another --out or --checkpoint") from error
        except FloatingPointError as error:
            raise usage(f"{error}; choose a smaller --lr than {options.lr}") from error
    reached = evaluate(model.bake(), task.test, task, 12)[-1]
    baseline = task.baseline()
    data = {
        "task": task.name, "saved": None if saved is None else str(saved.parent),
        "weights": None if saved is None else str(saved), "epochs": len(done.history), "best_epoch": done.best_epoch,
        "validation": done.best_validation, "test": reached, "baseline": baseline, "rate_aimed_for": options.rho,
        "interrupted": done.interrupted,
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import fields

        console.print(fields({
            "task": f"{task.name}, {len(task.train)} inputs to train and {len(task.test)} to test",
            "best epoch": f"{done.best_epoch} of {len(done.history)}" + (" (interrupted)" if done.interrupted else ""),
            "test": f"{100 * reached:.1f} % right after 12 steps (nearest training example: {100 * baseline:.1f} %)",
            "saved": "nothing" if saved is None else str(saved.parent),
        }))  # fmt: skip
        if saved is not None:
            console.out(f"next: trm-verify certify {saved.parent} --test-images 20", highlight=False)

    return Outcome(Exit.INTERRUPTED if done.interrupted else Exit.GOOD, data, show)
