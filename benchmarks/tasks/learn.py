"""Train a variant, deploy it, and measure it along its loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Json
from benchmarks.tasks.clock import timed
from benchmarks.tasks.curve import along
from benchmarks.tasks.jobs import Job, steps
from trm_verify.pretrained import save_pretrained
from trm_verify.train import train


def run(job: Job, folder: Path) -> Iterator[Json]:
    """What there is to report, part after part; the deployed model is left in the folder."""
    config = job.config()
    spent: dict[str, float] = {}
    with timed(spent, "load"):
        task = job.load(config)
        model = job.build(config, task)
    with timed(spent, "train"):
        trained = train(model, task, config.settings, log=folder / "training.csv")
    yield {
        "parameters": model.parameter_count, "epochs": len(trained.history), "best_epoch": trained.best_epoch,
        "validation": trained.best_validation, "size": task.difficulty,
    }  # fmt: skip
    baked = model.bake()
    with timed(spent, "test"):
        yield {"trained": along(baked, task, steps(config, baked)), "baseline": task.baseline()}
    if config.size is not None and config.size != task.difficulty:
        with timed(spent, "test"):
            task = task.at(config.size)
            model = model.at(**model.arguments(task.input_shape, task.vocabulary))
            baked = model.bake()
            at_size = along(baked, task, steps(config, baked))
            # drawn at the size it is trained at
            yield {"deployed": {**at_size, "item": None}, "deployed_size": config.size}
    weights = save_pretrained(model, folder)
    yield {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "seconds": spent}
