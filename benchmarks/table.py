"""Measured numbers with the floors they must keep, and how they are shown and saved."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bench import machine

Json = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One measured number.

    Attributes:
        row: the group it belongs to. what: the thing measured. value: its number, in `unit`; None when not measured.
        least, most: the floor it must reach, or the ceiling it must keep.
        note: what it is compared with, or what it rests on.
    """

    row: str
    what: str
    value: float | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """None without a floor."""
        if self.least is None and self.most is None:
            return None
        if self.value is None:
            return False
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    @property
    def floor(self) -> str:
        ends = [f"{sign} {end:.6g}" for sign, end in (("≥", self.least), ("≤", self.most)) if end is not None]
        return ", ".join(ends)


def show(measures: Sequence[Measure], console: Console, title: str) -> None:
    """The table."""
    table = Table("row", "what", "measured", "floor", "", "note", title=title)
    previous = None
    for m in measures:
        if previous is not None and m.row != previous:
            table.add_section()
        mark = {None: "", True: "[green]ok[/]", False: "[red]MISSED[/]"}[m.reached]
        value = "–" if m.value is None else f"{m.value:.6g} {m.unit}".strip()
        table.add_row("" if m.row == previous else m.row, m.what, value, m.floor, mark, m.note)
        previous = m.row
    console.print(table)


def save(measures: Sequence[Measure], details: Json, settings: Json, path: Path, title: str) -> list[Path]:
    """Writes and returns `path`.json, with everything, and `path`.txt, the table."""
    record = {
        "machine": {**machine(), "processors": os.cpu_count()},
        "settings": settings,
        "measures": [{**asdict(m), "reached": m.reached} for m in measures],
        "details": details,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    files = [path.with_suffix(".json"), path.with_suffix(".txt")]
    files[0].write_text(text + "\n", encoding="utf-8")
    with files[1].open("w", encoding="utf-8") as file:
        show(measures, Console(file=file, width=170), title)
    return files
