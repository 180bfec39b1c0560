"""Training a recursive model with supervision at many depths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from trm_verify.model import RecursiveModel
from trm_verify.nn import cached_weights
from trm_verify.tasks import Split, Task
from trm_verify.train.curricula import curriculum
from trm_verify.train.ema import Average
from trm_verify.train.levels import Level, inputs, levels_of, like
from trm_verify.train.logs import reports
from trm_verify.train.objectives import check_margins, cross_entropy, objective
from trm_verify.train.settings import Settings
from trm_verify.train.state import EpochRecord, TrainingState, load_state, save_state
from trm_verify.train.unrolling import readouts

_ROWS_AT_ONCE = 1024
_TINY = 1 << 20


@dataclass(frozen=True)
class TrainResult:
    """What a training run did. The model itself holds the best parameters.

    Attributes:
        history: one record an epoch.
        best_epoch: the epoch whose parameters the model holds (0: the initial ones).
        best_validation: their metric on the validation split, None if no epoch was completed.
        interrupted: whether Ctrl-C ended the run early.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_validation: float | None
    interrupted: bool


def train(
    model: RecursiveModel,
    task: Task,
    settings: Settings | None = None,
    *,
    device: torch.device | str | None = None,
    progress: bool = False,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    log: Path | str | None = None,
    tensorboard: Path | str | None = None,
    certify_every: int = 0,
    **changes: Any,
) -> TrainResult:
    """Train `model` in place with random depth and deep supervision; it ends with its best parameters.

    The readout after each of the later recursions is held against the target, so the answer is right along
    the way and stays right, whenever the loop is stopped. The best parameters are those with the highest
    validation metric (ties: lower validation loss) at the largest depth. The test split is not touched.
    An implicit model with `logits(x)` is trained at its fixed point, whatever the depth.
    Ctrl-C ends the run at once and keeps the best parameters so far.

    Args:
        settings: what the run does; see `Settings` for the defaults and for every `changes`.
        device: where to train; None leaves the model where it is.
        progress: show a progress bar with loss and accuracy on stderr.
        checkpoint: file that receives the state of the run after each epoch (whole or not at all).
        resume: continue from `checkpoint`, with the same result, bit for bit, as a run that was never
            stopped.
        log: CSV file with a row an epoch.
        tensorboard: directory of event files; needs the package tensorboard.
        certify_every: prove the rate after every so many epochs and record it; 0: never. It changes no parameter.
        changes: single settings, such as `epochs=20`.

    Raises:
        ValueError: settings out of range, a model without readout, a task that does not fit the model, or a
            checkpoint of another run.
        FileNotFoundError: `resume` without a checkpoint file.
        FloatingPointError: the loss became NaN or infinite.
    """
    settings = replace(settings or Settings(), **changes)
    if resume and checkpoint is None:
        raise ValueError("train: resume=True needs checkpoint=, the file to continue from; found None")
    fits(model, task, settings)
    if device is not None:
        model.to(device)
    run = _Run(model, task, settings, certify_every)
    path = None if checkpoint is None else Path(checkpoint)
    if resume and path is not None:
        run.resume(path)
    interrupted = False
    shown = {"progress": progress, "log": log, "tensorboard": tensorboard}
    with _one_thread_if_tiny(model), reports(settings.epochs, len(run.state.history), **shown) as report:  # type: ignore[arg-type]
        try:
            while len(run.state.history) < settings.epochs:
                run.epoch()
                if path is not None:
                    run.save(path)
                report(run.state.history)
        except KeyboardInterrupt:
            # Asked for by the user: what was reached so far is the result, and `interrupted` says so.
            interrupted = True
    model.load_state_dict(run.state.best)
    model.eval()
    best = next((r for r in run.state.history if r.epoch == run.state.best_epoch), None)
    return TrainResult(run.state.history, run.state.best_epoch, None if best is None else best.validation, interrupted)


def evaluate(model: RecursiveModel, split: Split, task: Task, steps: int) -> tuple[float, ...]:
    """The task's metric on `split` after 1, 2, …, `steps` recursions; at the fixed point of an implicit model.

    Raises:
        ValueError: fewer than one step, or a model without readout.
    """
    if steps < 1:
        raise ValueError(f"evaluate: expected steps >= 1, found {steps}")
    logits = _answers(model, split, steps)
    # An implicit model has one answer, whatever the number of steps.
    reached = [task.metric(values, split.y) for values in logits]
    return tuple(reached * steps if len(reached) == 1 else reached)


def fits(model: RecursiveModel, task: Task, settings: Settings) -> None:
    """Refuse a model and task that do not belong together, before any work.

    Raises:
        ValueError: see `train`.
    """
    if model.readout is None:
        raise ValueError("train: expected a model with a readout(z), found none; answers cannot be supervised")
    if model.input_shape is None or tuple(model.input_shape) != task.input_shape:
        raise ValueError(
            f"train: expected a model with input_shape {task.input_shape} for task {task.name!r}, "
            f"found {model.input_shape}"
        )
    with torch.no_grad():
        logits = readouts(model, inputs(model, task.train.x[:1]), 1)[0][-1]
    wanted = (1, *task.train.y.shape[1:], task.classes)
    if tuple(logits.shape) != wanted:
        raise ValueError(f"train: expected a readout of shape {wanted}, found {tuple(logits.shape)}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            "train: expected trainable parameters, found none; a baked model is final: "
            "load it with from_pretrained(directory, trainable=True)"
        )
    if settings.batch_size > len(task.train):
        raise ValueError(f"train: expected a batch_size of at most {len(task.train)} rows, found {settings.batch_size}")
    if settings.margin:
        check_margins(model)


class _Run:
    """One training run between two epochs."""

    def __init__(self, model: RecursiveModel, task: Task, settings: Settings, certify_every: int) -> None:
        self.model, self.task, self.settings, self.certify_every = model, task, settings, certify_every
        self.levels = levels_of(model, task, settings)
        self.curriculum = curriculum(settings, len(self.levels))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.optimizer = AdamW([p for _, p in named], lr=settings.lr, weight_decay=settings.weight_decay)
        self.batches = len(task.train) // settings.batch_size
        self.average = Average(model, settings.ema) if settings.ema else None
        self.state = TrainingState((), 0, copied(model))

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written."""
        self.state, chosen = load_state(path, self.model, self.optimizer, self.settings, self.average)
        self.curriculum.restore(chosen)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        chosen = self.curriculum.state()
        save_state(path, self.model, self.optimizer, self.settings, self.state, self.average, chosen)

    def epoch(self) -> None:
        """As many steps as fill one pass over the training split, then validation."""
        settings, done = self.settings, len(self.state.history)
        # Fresh randomness for each epoch, from its number alone: a resumed run draws what the first one
        # would.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + done)
        orders = [torch.randperm(len(level.x), generator=generator) for level in self.levels]
        taken = [0] * len(self.levels)
        for level in self.levels:
            level.model.train()
        total = torch.zeros((), dtype=torch.float64)
        for batch in range(self.batches):
            index = done * self.batches + batch
            which = self.curriculum.choose(index / (settings.epochs * self.batches), generator)
            if taken[which] + settings.batch_size > len(orders[which]):
                orders[which], taken[which] = torch.randperm(len(orders[which]), generator=generator), 0
            rows = orders[which][taken[which] : taken[which] + settings.batch_size]
            taken[which] += settings.batch_size
            low, high = settings.depth
            steps = int(torch.randint(low, high + 1, (), generator=generator))
            loss = self._update(self.levels[which], rows, steps, index, generator)
            self.curriculum.learn(which, float(loss))
            total += loss
        mean = float(total) / self.batches
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"train: expected a finite loss, found {mean} in epoch {done + 1}; lower the learning rate "
                f"(now {settings.lr}) or check the inputs for NaN"
            )
        with nullcontext() if self.average is None else self.average.applied(self.model):
            self._record(done + 1, mean)

    def _update(self, level: Level, rows: Tensor, steps: int, index: int, generator: torch.Generator) -> Tensor:
        total = self.settings.epochs * self.batches
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * schedule(index, total)
        self.optimizer.zero_grad(set_to_none=True)
        rows = rows.to(level.x.device)
        with cached_weights(level.model):
            loss = objective(
                level.model,
                level.x[rows],
                level.y[rows],
                steps,
                self.settings,
                generator,
                index / total,
                self.task.ties,
            )
            loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            nn.utils.clip_grad_norm_(level.model.parameters(), self.settings.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return loss.detach().double().cpu()

    def _record(self, epoch: int, loss: float) -> None:
        split = self.task.validation
        logits = _answers(self.model, split, self.settings.depth[1], settled=self.settings.gradient == "settled")[-1]
        reached = self.task.metric(logits, split.y)
        proved = self._rate() if self.certify_every and epoch % self.certify_every == 0 else None
        right = None if self.task.ties is None else self.task.ties(split.y)
        record = EpochRecord(epoch, loss, reached, float(cross_entropy(logits, split.y, right)), proved)
        before = next((r for r in self.state.history if r.epoch == self.state.best_epoch), None)
        better = before is None or (record.validation, -record.validation_loss) > (
            before.validation,
            -before.validation_loss,
        )
        history = (*self.state.history, record)
        # One assignment: an interrupt leaves the state before or after this epoch, never half of each.
        self.state = (
            TrainingState(history, epoch, copied(self.model))
            if better
            else TrainingState(history, self.state.best_epoch, self.state.best)
        )

    def _rate(self) -> float | None:
        """The rate that is proved of the present parameters, None if none is."""
        from trm_verify.api import verify_fixed_point

        result = verify_fixed_point(self.model)
        rate: float | None = getattr(result, "rate", None)
        return rate


def schedule(index: int, total: int) -> float:
    """Learning-rate factor of optimizer step `index`: linear warm-up, then a cosine to zero."""
    warm = min(50, max(1, total // 10))
    return min(1.0, (index + 1) / warm) * 0.5 * (1 + math.cos(math.pi * index / total))


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def _answers(model: RecursiveModel, split: Split, steps: int, settled: bool = False) -> list[Tensor]:
    """Readouts of z_1 … z_steps for a whole split, or of the settled state alone, on the CPU, in evaluation mode."""
    if model.readout is None:
        raise ValueError("evaluate: expected a model with a readout(z), found none")
    training = model.training
    model.eval()
    try:
        parts = []
        with cached_weights(model):
            for x in torch.split(inputs(model, split.x), _ROWS_AT_ONCE):
                found, _ = readouts(model, x, steps, gradient="settled" if settled else "full")
                parts.append([values.cpu() for values in found])
    finally:
        model.train(training)
    return [torch.cat(values) for values in zip(*parts, strict=True)]


@contextmanager
def _one_thread_if_tiny(model: nn.Module) -> Iterator[None]:
    """Train tiny models on one thread: handing such small matrices to several costs more than it saves, and one
    thread gives the same bits on every number of cores."""
    threads = torch.get_num_threads()
    if like(model).device.type == "cpu" and sum(p.numel() for p in model.parameters()) < _TINY:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
