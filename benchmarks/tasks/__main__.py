"""Tiny recursive models on their tasks: table, JSON and figures.

    python -m benchmarks.tasks [--tasks NAME …] [--variants NAME …] [--seeds 0 1 2] [--workers 2] [--quick] [--publish]

Writes to out/bench/tasks; with --publish, copies table, JSON and figures to docs/benchmarks. Every (task, variant,
seed) is a process, and its results are written to a ledger as it ends, so an interrupted run goes on where it stopped,
as long as the sources and settings that it depends on stay the same. Exits with 1 when a floor is missed, with 130
when interrupted. All seconds are of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.bench import OUT, ROOT
from benchmarks.ledger import code
from benchmarks.table import save, show
from benchmarks.tasks.figures import draw
from benchmarks.tasks.floors import measures
from benchmarks.tasks.jobs import VARIANTS, Job, tasks, variants
from benchmarks.tasks.overview import overview
from benchmarks.tasks.results import Results
from benchmarks.tasks.runner import Runner

WIDTH = 200
TITLE = "tiny recursive models on their tasks"
NAME = "tasks"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tasks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=tasks(), metavar="NAME", help=f"among {', '.join(tasks())}")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, metavar="NAME", help=f"among {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2; with --quick 0")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--out", type=Path, help="another folder for ledgers, models, table, JSON and figures")
    parser.add_argument("--quick", action="store_true", help="seconds of training each, to see that all of it works")
    parser.add_argument("--table", action="store_true", help="run nothing; table and figures of what is known")
    parser.add_argument("--any-code", action="store_true", help="keep results of other versions of the library, too")
    parser.add_argument("--publish", action="store_true", help="also copy the results to docs/benchmarks")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"expected --workers of at least 1, found {options.workers}")
    if options.quick and options.publish:
        parser.error("expected --publish without --quick: a smoke test is no evidence")
    return options


def chosen(options: argparse.Namespace) -> list[Job]:
    """The jobs asked for: all of one seed before the next, so that an early stop leaves a whole table."""
    seeds = options.seeds[:1] if options.quick else options.seeds
    return [
        Job(task, variant, seed, options.quick)
        for seed in seeds
        for task in options.tasks or tasks()
        for variant in variants(task)
        if variant in (options.variants or VARIANTS)
    ]


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, children included
    folder = options.out or OUT / (f"{NAME}_quick" if options.quick else NAME)
    progress = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    runner = Runner(folder, options.workers, options.any_code, lambda text: progress.print(text, highlight=False))
    jobs = chosen(options)
    if options.table:
        results, interrupted = {job.name: runner.known(job) for job in jobs}, False
    else:
        results, interrupted = runner.results(jobs)
    found = measures(jobs, results)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    show(found, console, TITLE)
    console.print(overview(jobs, results))
    settings = {"seeds": options.seeds, "quick": options.quick, "code": code()}
    files = save(found, results, settings, folder / NAME, TITLE)
    with files[-1].open("a", encoding="utf-8") as file:
        Console(file=file, width=WIDTH).print(overview(jobs, results))
    files += draw(Results(jobs, results), folder)
    failed = runner.failed
    for name, reason in failed.items():
        progress.print(f"[red]{name}[/] {reason}", highlight=False)
    if interrupted:
        progress.print("interrupted; what was finished is in the ledgers, and the next run goes on from there")
        return 130
    if options.publish:
        target = ROOT / "docs" / "benchmarks"
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, target / path.name)
    missed = [f"{m.row}: {m.what}" for m in found if m.reached is False]
    if missed:
        progress.print(f"[red]missed:[/] {'; '.join(missed)}")
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
