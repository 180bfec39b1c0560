"""The figures."""

from __future__ import annotations

from pathlib import Path

from benchmarks.table import Json


def draw(results: dict[str, Json], folder: Path) -> list[Path]:
    """Those figures for which there are results."""
    return []
