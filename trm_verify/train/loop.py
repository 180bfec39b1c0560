"""Training a recursive model with supervision at many depths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from trm_verify.model import RecursiveModel
from trm_verify.nn import cached_weights
from trm_verify.tasks import Split, Task
from trm_verify.train.state import EpochRecord, TrainingState, load_state, save_state

_ROWS_AT_ONCE = 1024
_TINY = 1 << 20
_Show = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Settings:
    """What a training run does; two runs with equal settings, model and task give the same parameters.

    Attributes:
        epochs: passes over the training split.
        batch_size: rows a step; the rest of an epoch that fills no batch is left out.
        lr: peak learning rate (warm-up over at most 50 steps, then a cosine down to zero).
        weight_decay: AdamW's.
        depth: smallest and largest number of recursions; each step draws one at random.
        supervise_from: the loss is the mean over the recursions after this fraction of the depth.
        seed: seed of shuffling and of random depths.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    depth: tuple[int, int]
    supervise_from: float
    seed: int

    def __post_init__(self) -> None:
        checks = {
            "epochs >= 1": self.epochs >= 1,
            "batch_size >= 1": self.batch_size >= 1,
            "a finite lr > 0": 0 < self.lr < math.inf,
            "a finite weight_decay >= 0": 0 <= self.weight_decay < math.inf,
            "1 <= depth[0] <= depth[1]": 1 <= self.depth[0] <= self.depth[1],
            "supervise_from in [0, 1)": 0 <= self.supervise_from < 1,
        }
        wrong = [text for text, good in checks.items() if not good]
        if wrong:
            raise ValueError(f"train: expected {' and '.join(wrong)}; found {self}")


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
    *,
    epochs: int = 40,
    batch_size: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    depth: tuple[int, int] = (6, 12),
    supervise_from: float = 0.5,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> TrainResult:
    """Train `model` in place with random depth and deep supervision; it ends with its best parameters.

    The readout after each of the later recursions is held against the target, so the answer is right along
    the way and stays right, whenever the loop is stopped. The best parameters are those with the highest
    validation metric (ties: lower validation loss) at the largest depth. The test split is not touched.
    An implicit model with `logits(x)` is trained at its fixed point, whatever the depth.
    Ctrl-C ends the run at once and keeps the best parameters so far.

    Args:
        device: where to train; None leaves the model where it is.
        progress: show a progress bar with loss and accuracy on stderr.
        checkpoint: file that receives the state of the run after each epoch (whole or not at all).
        resume: continue from `checkpoint`, with the same result, bit for bit, as a run that was never
            stopped.

    Raises:
        ValueError: settings out of range, a model without readout, a task that does not fit the model, or a
            checkpoint of another run.
        FileNotFoundError: `resume` without a checkpoint file.
        FloatingPointError: the loss became NaN or infinite.
    """
    settings = Settings(epochs, batch_size, lr, weight_decay, depth, supervise_from, seed)
    if resume and checkpoint is None:
        raise ValueError("train: resume=True needs checkpoint=, the file to continue from; found None")
    fits(model, task, settings)
    if device is not None:
        model.to(device)
    run = _Run(model, task, settings)
    path = None if checkpoint is None else Path(checkpoint)
    if resume and path is not None:
        run.state = load_state(path, model, run.optimizer, settings)
    interrupted = False
    with _one_thread_if_tiny(model), _shown(progress, settings.epochs, len(run.state.history)) as show:
        try:
            while len(run.state.history) < settings.epochs:
                run.epoch()
                if path is not None:
                    save_state(path, model, run.optimizer, settings, run.state)
                show(run.state.history[-1])
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
    return tuple(task.metric(values, split.y) for values in logits)


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
        logits = _logits(model, _inputs(model, task.train.x[:1]), 1)[-1]
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


class _Run:
    """One training run between two epochs."""

    def __init__(self, model: RecursiveModel, task: Task, settings: Settings) -> None:
        self.model, self.task, self.settings = model, task, settings
        self.x, self.y = _inputs(model, task.train.x), task.train.y.to(_like(model).device)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.optimizer = AdamW([p for _, p in named], lr=settings.lr, weight_decay=settings.weight_decay)
        self.batches = len(task.train) // settings.batch_size
        self.state = TrainingState((), 0, copied(model))

    def epoch(self) -> None:
        """One pass over the training split, then validation."""
        settings, done = self.settings, len(self.state.history)
        # Fresh randomness for each epoch, from its number alone: a resumed run draws what the first one
        # would.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + done)
        order = torch.randperm(len(self.x), generator=generator).to(self.x.device)
        self.model.train()
        total = torch.zeros((), dtype=torch.float64)
        for batch in range(self.batches):
            rows = order[batch * settings.batch_size : (batch + 1) * settings.batch_size]
            low, high = settings.depth
            steps = int(torch.randint(low, high + 1, (), generator=generator))
            total += self._update(rows, steps, done * self.batches + batch)
        loss = float(total) / self.batches
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"train: expected a finite loss, found {loss} in epoch {done + 1}; lower the learning rate "
                f"(now {settings.lr}) or check the inputs for NaN"
            )
        self._record(done + 1, loss)

    def _update(self, rows: Tensor, steps: int, index: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * schedule(index, self.settings.epochs * self.batches)
        self.optimizer.zero_grad(set_to_none=True)
        first = math.floor(self.settings.supervise_from * steps)
        with cached_weights(self.model):
            logits = _logits(self.model, self.x[rows], steps)[first:]
            loss = torch.stack([cross_entropy(values, self.y[rows]) for values in logits]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach().double().cpu()

    def _record(self, epoch: int, loss: float) -> None:
        split = self.task.validation
        logits = _answers(self.model, split, self.settings.depth[1])[-1]
        reached = self.task.metric(logits, split.y)
        record = EpochRecord(epoch, loss, reached, float(cross_entropy(logits, split.y)))
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


def schedule(index: int, total: int) -> float:
    """Learning-rate factor of optimizer step `index`: linear warm-up, then a cosine to zero."""
    warm = min(50, max(1, total // 10))
    return min(1.0, (index + 1) / warm) * 0.5 * (1 + math.cos(math.pi * index / total))


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over rows and output positions.

    Shape: logits (rows, *positions, classes), target (rows, *positions).
    """
    return functional.cross_entropy(logits.flatten(0, -2), target.flatten())


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _like(model: nn.Module) -> Tensor:
    return next(p for p in model.parameters() if p.is_floating_point())


def _inputs(model: RecursiveModel, x: Tensor) -> Tensor:
    like = _like(model)
    return x.to(like.device, like.dtype) if x.is_floating_point() else x.to(like.device)


def _logits(model: RecursiveModel, x: Tensor, steps: int) -> list[Tensor]:
    """Readouts of z_1 … z_steps under the model's own iteration.

    An implicit model has no depth: where it offers `logits(x)`, the readout of its fixed point, that stands in every
    place, and a loss over several depths is the loss of the fixed point.
    """
    solved = getattr(model, "logits", None) if model.iteration == "implicit" else None
    if solved is not None:
        return [solved(x)] * steps
    return [model.readout(z) for z in model.trace(x, steps)[1:]]


@torch.no_grad()
def _answers(model: RecursiveModel, split: Split, steps: int) -> list[Tensor]:
    """Readouts of z_1 … z_steps for a whole split, on the CPU, in evaluation mode."""
    if model.readout is None:
        raise ValueError("evaluate: expected a model with a readout(z), found none")
    training = model.training
    model.eval()
    try:
        parts = []
        with cached_weights(model):
            for x in torch.split(_inputs(model, split.x), _ROWS_AT_ONCE):
                parts.append([values.cpu() for values in _logits(model, x, steps)])
    finally:
        model.train(training)
    return [torch.cat(values) for values in zip(*parts, strict=True)]


@contextmanager
def _one_thread_if_tiny(model: nn.Module) -> Iterator[None]:
    """Train tiny models on one thread: handing such small matrices to several costs more than it saves, and one
    thread gives the same bits on every number of cores."""
    threads = torch.get_num_threads()
    if _like(model).device.type == "cpu" and sum(p.numel() for p in model.parameters()) < _TINY:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _shown(progress: bool, epochs: int, done: int) -> Iterator[_Show]:
    """A progress bar on stderr, or nothing."""
    if not progress:
        yield lambda record: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"), BarColumn(), TextColumn("epoch {task.completed}/{task.total}"),
        TextColumn("loss {task.fields[loss]}  validation {task.fields[reached]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task("training", total=epochs, completed=done, loss="–", reached="–")

        def show(record: EpochRecord) -> None:
            bar.update(shown, advance=1, loss=f"{record.loss:.4f}", reached=f"{100 * record.validation:.1f} %")

        yield show
