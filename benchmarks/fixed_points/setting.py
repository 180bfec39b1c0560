"""What every row needs to know: where the data are, where results go, how much to run, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.fixed_points.attack import worst_margins
from benchmarks.fixed_points.data import Images, Mondeq
from benchmarks.ledger import Ledger

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        data: the folder with models and images; None when there is none.
        out: where ledgers, figures and tables go.
        images: at most so many images a row. quick: a small part of everything, to see that it works.
        limit: seconds an image, where it has a limit. any_code: see `Ledger`.
        tick: told after every image.
    """

    data: Path | None
    out: Path
    images: int = 100
    quick: bool = False
    limit: float = 120.0
    any_code: bool = False
    tick: Callable[[str], None] = lambda text: None

    def step(self, found: T) -> T:
        """Tell that one more is done, and pass it on."""
        self.tick("")
        return found

    @cached_property
    def test(self) -> Images:
        return Images.load(self._folder / "mnist", self.images)

    def model(self, name: str) -> Mondeq:
        return Mondeq.load(self._folder / "mondeq", name)

    def ledger(self, row: str, **settings: Any) -> Ledger:
        return Ledger(self.out / f"{row}.jsonl", settings, self.any_code)

    def attacked(self, model: Mondeq, eps: str) -> list[float]:
        """The least margin of each image that the attack meets in its ball."""
        ledger = self.ledger("attack", model=model.digest, eps=eps, images=len(self.test))

        def margins(_: object) -> dict[str, list[float]]:
            return {"margins": worst_margins(model, self.test.ends(eps), torch.from_numpy(self.test.labels)).tolist()}

        (found,) = ledger.measured([eps], margins, lambda _: self.tick(f"attack {model.name} {eps}"))
        return found["margins"]

    @property
    def _folder(self) -> Path:
        if self.data is None:
            raise ValueError("expected --data DIR, the folder with mondeq/ and mnist/, found none")
        return self.data
