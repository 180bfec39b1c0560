"""What all benchmarks share: a measured number with the floor it must keep, a table, a JSON file and figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import trm_verify as tv

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "bench"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        topic: the benchmark's file. what: the thing measured. value: its number, in `unit`.
        most, least: the number must not exceed this, or fall below it; None for comparisons without a floor.
        note: what it is compared with.
    """

    topic: str
    what: str
    value: float
    unit: str = ""
    most: float | None = None
    note: str = ""
    least: float | None = None

    @property
    def reached(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    @property
    def floor(self) -> str:
        ends = (("≤", self.most), ("≥", self.least))
        return ", ".join(f"{sign} {end:.6g}" for sign, end in ends if end is not None)


def linear(matrix: np.ndarray, dtype: torch.dtype = torch.float64) -> nn.Linear:
    """z ↦ Wz with exactly these weights (rounded to the dtype)."""
    layer = nn.Linear(matrix.shape[1], len(matrix), bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(matrix))
    return layer


def one_layer(matrix: np.ndarray) -> nn.Module:
    """z ← ReLU(Wz + x). Without an input the call would enclose the one fixed point as well, which nobody asks here."""
    layer, n = linear(matrix), len(matrix)
    return tv.recursive(lambda z, x: torch.relu(layer(z) + x), state_shape=(n,), input_shape=(n,))


def machine() -> dict[str, Any]:
    """What the numbers were measured on, as far as it matters."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def show(rows: Sequence[Row], console: Console) -> None:
    """The table."""
    table = Table("topic", "what", "measured", "floor", "", "note", title="trm_verify benchmarks")
    for row in rows:
        mark = "" if not row.floor else "[green]ok[/]" if row.reached else "[red]MISSED[/]"
        table.add_row(row.topic, row.what, f"{row.value:.8g} {row.unit}".strip(), row.floor, mark, row.note)
    console.print(table)


def save(rows: Sequence[Row], details: Json, folder: Path, where: Json | None = None) -> Json:
    """`results.json` and `results.txt` in the folder, which is made if need be; what is in the former.

    Args:
        details: what the figures need besides, by topic. where: the machine; this one by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": where or machine(),
        "rows": [{**asdict(r), "reached": r.reached} for r in rows],
        "details": details,
    }
    (folder / "results.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with (folder / "results.txt").open("w", encoding="utf-8") as file:
        show(rows, Console(file=file, width=150))
    return record


# The rows of a topic, and what its figure needs besides; the folder is for what takes long to make.
Benchmark = Callable[[Path], tuple[list[Row], Json]]
