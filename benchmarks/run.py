"""All benchmarks: `python benchmarks/run.py [TOPIC …] [--publish]`, or `make bench`.

Writes results.json, results.txt and the figures to out/bench. With --publish, copies them to docs/benchmarks.
Exits with 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import imports  # noqa: E402
import kernel  # noqa: E402
import known  # noqa: E402
import rates  # noqa: E402
import sandwich  # noqa: E402
import scale  # noqa: E402
from bench import OUT, ROOT, Benchmark, Row, save, show  # noqa: E402
from rich.console import Console  # noqa: E402

TOPICS: dict[str, Benchmark] = {
    "imports": imports.run, "rates": rates.run, "known": known.run, "sandwich": sandwich.run, "kernel": kernel.run,
    "scale": scale.run,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", choices=[*TOPICS, []], help="default: all of them")
    parser.add_argument("--publish", action="store_true", help="also copy the results to docs/benchmarks")
    arguments = parser.parse_args()
    console, progress = Console(), Console(stderr=True)
    OUT.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in arguments.topics or TOPICS:
        progress.print(f"{name} …")
        rows += TOPICS[name](OUT)
    show(rows, console)
    save(rows, OUT)
    if arguments.publish:
        target: Path = ROOT / "docs" / "benchmarks"
        target.mkdir(parents=True, exist_ok=True)
        for file in (*OUT.glob("*.png"), OUT / "results.json", OUT / "results.txt"):
            shutil.copyfile(file, target / file.name)
    missed = [r.what for r in rows if not r.reached]
    if missed:
        progress.print(f"[red]missed:[/] {'; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
