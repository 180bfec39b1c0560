"""Where a training run reports to: a progress bar on stderr, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from trm_verify.pretrained import write_files
from trm_verify.train.state import EpochRecord

History = tuple[EpochRecord, ...]
Report = Callable[[History], None]


@contextmanager
def reports(
    epochs: int, done: int, *, progress: bool, log: Path | str | None, tensorboard: Path | str | None
) -> Iterator[Report]:
    """A function that is told the history after each epoch.

    Raises:
        ModuleNotFoundError: TensorBoard is wanted and not installed.
        OSError: a file cannot be written.
    """
    with ExitStack() as stack:
        kinds: list[Report] = []
        if progress:
            kinds.append(stack.enter_context(_bar(epochs, done)))
        if log is not None:
            kinds.append(_csv(Path(log)))
        if tensorboard is not None:
            kinds.append(stack.enter_context(_tensorboard(tensorboard, done)))

        def report(history: History) -> None:
            for kind in kinds:
                kind(history)

        yield report


def _csv(path: Path) -> Report:
    names = [field.name for field in fields(EpochRecord)]

    def report(history: History) -> None:
        # The whole table each time: a resumed run leaves the same file as one that was never stopped.
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(record) for record in history)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: text.getvalue().encode()})

    return report


@contextmanager
def _tensorboard(directory: Path | str, done: int) -> Iterator[Report]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "train: tensorboard=… needs the package tensorboard, which is not installed; install it, or use log=",
            name="tensorboard",
        ) from error
    # Events from the epoch at which a run is resumed replace those that were written after its checkpoint.
    with SummaryWriter(str(directory), purge_step=done + 1) as writer:

        def report(history: History) -> None:
            record = history[-1]
            for name, value in asdict(record).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, record.epoch)

        yield report


@contextmanager
def _bar(epochs: int, done: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"), BarColumn(), TextColumn("epoch {task.completed}/{task.total}"),
        TextColumn("loss {task.fields[loss]}  validation {task.fields[reached]}{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task("training", total=epochs, completed=done, loss="–", reached="–", rate="")

        def report(history: History) -> None:
            record = history[-1]
            rate = next((r.rate for r in reversed(history) if r.rate is not None), None)
            bar.update(
                shown, advance=1, loss=f"{record.loss:.4f}", reached=f"{100 * record.validation:.1f} %",
                rate="" if rate is None else f"  certified rate {rate:.4f}",
            )  # fmt: skip

        yield report
