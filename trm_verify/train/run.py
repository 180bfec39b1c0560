"""A whole run: train, measure, deploy, certify, write the bundle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trm_verify.api import verify_fixed_point
from trm_verify.models import ConfiguredModel, iteration
from trm_verify.nn import cached_weights
from trm_verify.pretrained import save_pretrained, write_files
from trm_verify.result import VerificationResult, VerificationResults
from trm_verify.tasks import Task
from trm_verify.train.config import RECORD, RunConfig
from trm_verify.train.levels import inputs
from trm_verify.train.loop import TrainResult, train

CERTIFICATE, ANSWERS = "model.trmcert.json", "model.answers.trmcert.json"
_ROWS_AT_ONCE = 256
_NORMS = {"linf": "linf", "tokens_l2": "tokens", "l2": "auto"}  # what a model says of itself → what provers are asked


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Attributes:
        directory: the bundle: weights, configuration, certificates and `run.json`.
        model: the deployed model.
        trained: what training did.
        metrics: the task's metric on its test split after so many steps; None if the run was interrupted.
        whole: what was proved of the loop for every input. answers: what was proved of test inputs.
        report: what `run.json` holds.
    """

    directory: Path
    model: ConfiguredModel
    trained: TrainResult
    metrics: dict[int, float] | None
    whole: VerificationResult | None
    answers: VerificationResults | None
    report: dict[str, Any]


def run(
    config: RunConfig,
    out: Path,
    *,
    device: torch.device | str | None = None,
    progress: bool = False,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    timeout: float | None = 60.0,
) -> Run:
    """Do what a configuration says; the bundle in `out` ends with what was proved of it.

    The model is deployed at `config.size`: the same weights, at another length or on another grid. An interrupted run
    saves its best parameters and certifies nothing. What cannot be proved is UNKNOWN in the report, and is no error.

    Args:
        timeout: seconds for each input that is certified.

    Raises:
        ValueError: a configuration whose parts do not fit together, see `train`.
        OSError: a file cannot be written.
        ExportError: a model whose step cannot be exported exactly.
    """
    started = time.monotonic()
    task = config.load()
    # made now, so that a size which the task does not have is refused before the training
    deployed = task if config.size in (None, task.difficulty) else task.at(config.size)
    model = config.build(task)
    trained = train(
        model, task, config.settings, device=device, progress=progress, checkpoint=checkpoint, resume=resume,
        log=out / "training.csv",
    )  # fmt: skip
    if not trained.history:  # interrupted before the first epoch: there is nothing worth keeping
        return Run(out, model, trained, None, None, None, {})
    seconds = {"train": time.monotonic() - started}
    model.to("cpu")
    if deployed is not task:
        task = deployed
        model = model.at(**model.arguments(task.input_shape, task.vocabulary))
    save_pretrained(model, out)
    metrics, whole, answers = None, None, None
    if not trained.interrupted:
        metrics = measured(model, task, config.steps or model.settles or config.settings.depth[1])
        seconds["test"] = time.monotonic() - started - sum(seconds.values())
        whole, answers = certified(model, task, out, config.certify, timeout)
        seconds["certify"] = time.monotonic() - started - sum(seconds.values())
    report = {
        "config": config.as_json(), "task": task.name, "difficulty": task.difficulty,
        "parameters": model.parameter_count, "best_epoch": trained.best_epoch, "epochs": len(trained.history),
        "interrupted": trained.interrupted, "validation": trained.best_validation,
        "test": None if metrics is None else {str(k): v for k, v in metrics.items()}, "baseline": task.baseline(),
        "verdict": None if whole is None else str(whole.verdict),
        "rate": None if whole is None else whole.rate, "norm": None if whole is None else whole.norm,
        "answers": None if answers is None else [r.answer_steps for r in answers],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }  # fmt: skip
    write_files({out / RECORD: (json.dumps(report, indent=2) + "\n").encode()})
    return Run(out, model, trained, metrics, whole, answers, report)


@torch.no_grad()
def measured(model: ConfiguredModel, task: Task, steps: int) -> dict[int, float]:
    """The task's metric on the test split after 1, K, 2K and 5K steps of the deployed model.

    A loop that has come to rest, bit for bit, is not run on.
    """
    baked, wanted = model.bake(), sorted({1, steps, 2 * steps, 5 * steps})
    logits: dict[int, list[torch.Tensor]] = {k: [] for k in wanted}
    with cached_weights(baked):
        for x in torch.split(inputs(baked, task.test.x), _ROWS_AT_ONCE):
            once, rest = iteration(baked, x), False
            z = baked.zero_state(x) if baked.init is None else baked.init(x)
            for k in range(1, wanted[-1] + 1):
                if not rest:
                    after = once(z)
                    rest, z = _same(after, z), after
                if k in logits:
                    logits[k].append(baked.readout(z))
    return {k: task.metric(torch.cat(values), task.test.y) for k, values in logits.items()}


def _same(first: Any, second: Any) -> bool:
    pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
    return all(torch.equal(a, b) for a, b in pairs)


def certified(
    model: ConfiguredModel, task: Task, out: Path, count: int, timeout: float | None
) -> tuple[VerificationResult, VerificationResults | None]:
    """Prove what the loop does for every input, and the answers of the first test inputs; write both certificates."""
    # The norm that the model is built for; a search through all of them may take longer than the whole training.
    norm = _NORMS[model.norm] if model.rate is not None else "auto"
    whole = verify_fixed_point(model, norm=norm, timeout=timeout)
    if any(whole.claims.values()):
        whole.certificate.save(out / CERTIFICATE)
    if not count or model.readout is None:
        return whole, None
    answers = verify_fixed_point(model, inputs(model, task.test.x[:count]), norm=norm, timeout=timeout)
    assert isinstance(answers, VerificationResults)
    if any(any(answer.claims.values()) for answer in answers):
        answers.certificate.save(out / ANSWERS)
    return whole, answers
