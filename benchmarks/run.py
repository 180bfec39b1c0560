"""All benchmarks: `python benchmarks/run.py [TOPIC …] [--table] [--publish]`, or `make bench`.

Writes results.json, results.txt and the figures to out/bench. With --publish they go to docs/benchmarks as well, where
they take the place of what was there of the same topics; the other topics stay. With --table nothing is measured: the
table and the figures are made anew from what is published. Exits with 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence

import imports
import kernel
import known
import rates
import sandwich
import scale
from bench import OUT, ROOT, Benchmark, Json, Row, machine, save, show
from figures import draw
from rich.console import Console

TOPICS: dict[str, Benchmark] = {
    "imports": imports.run, "rates": rates.run, "known": known.run, "sandwich": sandwich.run, "kernel": kernel.run,
    "scale": scale.run,
}  # fmt: skip
PUBLISHED = ROOT / "docs" / "benchmarks"


def published(topics: Sequence[str]) -> tuple[list[Row], Json, Json]:
    """What docs/benchmarks has of all topics but these: rows, details, and the machine they were measured on.

    Raises:
        ValueError: to be put beside what another machine gave, and one table speaks of one machine.
    """
    record = json.loads((PUBLISHED / "results.json").read_text(encoding="utf-8"))
    if topics and record["machine"] != machine():
        raise ValueError(f"expected {record['machine']}, as in what is published, found {machine()}")
    rows = [Row(**{k: v for k, v in row.items() if k != "reached"}) for row in record["rows"]]
    details = {name: kept for name, kept in record["details"].items() if name not in topics}
    return [row for row in rows if row.topic not in topics], details, record["machine"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", choices=[*TOPICS, []], help="default: all of them")
    parser.add_argument("--table", action="store_true", help="measure nothing; table and figures of what is published")
    parser.add_argument("--publish", action="store_true", help="also put the results in docs/benchmarks")
    arguments = parser.parse_args()
    console, progress = Console(), Console(stderr=True)
    OUT.mkdir(parents=True, exist_ok=True)
    topics = [] if arguments.table else arguments.topics or list(TOPICS)
    rows: list[Row] = []
    details: Json = {}
    where = machine()
    for name in topics:
        progress.print(f"{name} …")
        found, details[name] = TOPICS[name](OUT)
        rows += found
    if arguments.table or (arguments.publish and len(topics) < len(TOPICS)):
        others, kept, where = published(topics)
        rows = sorted(rows + others, key=lambda row: list(TOPICS).index(row.topic))
        known_details = {**kept, **details}
        details = {name: known_details[name] for name in TOPICS if known_details.get(name)}
    show(rows, console)
    drawn = draw(save(rows, details, OUT, where), OUT)
    if arguments.publish:
        for file in (*drawn, OUT / "results.json", OUT / "results.txt"):
            shutil.copyfile(file, PUBLISHED / file.name)
    missed = [r.what for r in rows if not r.reached]
    if missed:
        progress.print(f"[red]missed:[/] {'; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
