"""`trm-verify curve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.loading import load_model, load_task_named, model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, usage


def run(options: Any) -> Outcome:
    """Certified accuracy of test inputs against the radius of the ball, with its figure."""
    from trm_verify.report import accuracy_figure, certified_accuracy, save_figure

    loaded = load_model(options.model)
    task = load_task_named(options.task, options.model)
    test = task.test
    count = options.test_images
    if count > len(test):
        raise usage(f"--test-images: expected at most the {len(test)} of task {task.name}, found {count}")
    if options.figure is not None:
        if Path(options.figure).suffix not in (".png", ".pdf", ".svg"):
            raise usage(f"--figure: expected a file that ends in .png, .pdf or .svg, found {options.figure!r}")
        writable(Path(options.figure).parent, "--figure")
    with model_errors(options.model):
        curve = certified_accuracy(
            loaded.module, test.x[:count].numpy(), test.y[:count].numpy(), options.eps, timeout=options.timeout,
            workers=options.workers, executor=options.executor, ledger=options.ledger, progress=not options.quiet,
        )  # fmt: skip
    if options.figure is not None:
        save_figure(accuracy_figure(curve), options.figure)
    points = [
        {"eps": p.eps, "certified": p.certified, "refuted": p.wrong, "open": p.open, "inputs": p.total}
        for p in curve.points
    ]
    decided = all(p.open == 0 for p in curve.points)

    def show(console: Any) -> None:
        console.out(str(curve), highlight=False)
        if options.figure is not None:
            console.out(f"figure  {options.figure}", highlight=False)

    data = {"model": options.model, "verdict": "DECIDED" if decided else "UNKNOWN", "points": points}
    return Outcome(Exit.GOOD if decided else Exit.UNKNOWN, data, show)
