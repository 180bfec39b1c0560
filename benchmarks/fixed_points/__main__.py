"""Fixed points under uncertain inputs: table, JSON and figures.

    python -m benchmarks.fixed_points --data DIR [--rows NAME …] [--images N] [--quick] [--publish]

Writes to out/bench/fixed_points; with --publish, copies table, JSON and figures to docs/benchmarks. Each image is
written to a ledger there as soon as it is done, so an interrupted run goes on where it stopped, as long as the sources
of the library stay the same. Rows that need the data are left out without --data. Exits with 1 when a floor is missed.
All seconds are of the processor, on one thread, and of the search alone unless the table says otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.bench import OUT, ROOT  # noqa: E402
from benchmarks.fixed_points import certificates, curve, images, lipschitz, peers, soundness, unrolled  # noqa: E402
from benchmarks.fixed_points.figures import draw  # noqa: E402
from benchmarks.fixed_points.setting import Setting  # noqa: E402
from benchmarks.ledger import code  # noqa: E402
from benchmarks.table import Json, Measure, save, show  # noqa: E402

Run = Callable[[Setting], tuple[list[Measure], Json]]
ROWS: dict[str, Run] = {
    "h40-0.02": images.enclosure, "h40-0.05": images.exact, "h100-0.05": images.wide, "recursion": unrolled.run,
    "milp": peers.run, "certificates": certificates.run, "lipschitz": lipschitz.run, "soundness": soundness.run,
    "curve": curve.run,
}  # fmt: skip
WITHOUT_DATA = ("recursion", "soundness")
FOLDER = OUT / "fixed_points"
QUICK_IMAGES, WIDTH = 5, 170
TITLE = "fixed points under uncertain inputs"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fixed_points", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder with mondeq/ and mnist/")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="NAME", help=f"among {', '.join(ROWS)}")
    parser.add_argument("--images", type=int, default=100, help="the first N test images (default: 100)")
    parser.add_argument("--hard-images", type=int, default=100, help="the first N for h100 (default: 100)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds an image of h100 (default: 120)")
    parser.add_argument("--out", type=Path, help="another folder for ledgers, table, JSON and figures")
    parser.add_argument("--quick", action="store_true", help="a few images of each row, to see that all of it works")
    parser.add_argument("--any-code", action="store_true", help="keep results of other versions of the library, too")
    parser.add_argument("--publish", action="store_true", help="also copy the results to docs/benchmarks")
    options = parser.parse_args()
    if min(options.images, options.hard_images) < 1 or not options.limit > 0:
        parser.error("expected --images and --hard-images of at least 1 and a positive --limit")
    if options.data is not None and not (options.data / "mondeq").is_dir():
        parser.error(f"--data: expected a folder with mondeq/ and mnist/, found {options.data}")
    missing = [name for name in options.rows or () if options.data is None and name not in WITHOUT_DATA]
    if missing:
        parser.error(f"expected --data DIR for {', '.join(missing)}")
    return options


def measured(options: argparse.Namespace, folder: Path, progress: Console) -> tuple[list[Measure], Json, bool]:
    """All rows asked for: what was measured, the details of each row, and whether that was interrupted."""
    count = min(options.images, QUICK_IMAGES) if options.quick else options.images
    hard = min(options.hard_images, QUICK_IMAGES) if options.quick else options.hard_images
    names = options.rows or [name for name in ROWS if options.data is not None or name in WITHOUT_DATA]
    measures: list[Measure] = []
    details: Json = {}
    with progress.status("starting") as status:
        for place, name in enumerate(names, 1):

            def tick(text: str, where: str = f"{name} ({place} of {len(names)})") -> None:
                status.update(f"{where} {text}")

            tick("…")
            if not progress.is_terminal:
                progress.print(f"{name} …")
            images = hard if name.startswith("h100") else count
            setting = Setting(options.data, folder, images, options.quick, options.limit, options.any_code, tick)
            try:
                found, details[name] = ROWS[name](setting)
            except KeyboardInterrupt:
                progress.print(f"interrupted in {name}; what is in its ledger will be used by the next run")
                return measures, details, True
            except Exception as error:  # the other rows go on
                progress.print_exception()
                found = [Measure(name, f"failed: {type(error).__name__}: {error}", None, most=0)]
            measures += found
            show(found, progress, TITLE)
    return measures, details, False


def main() -> int:
    options = parsed()
    torch.set_num_threads(1)
    folder = options.out or (FOLDER.with_name(f"{FOLDER.name}_quick") if options.quick else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    progress = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    measures, details, interrupted = measured(options, folder, progress)
    show(measures, Console(width=None if sys.stdout.isatty() else WIDTH), TITLE)
    if interrupted:
        return 130
    settings = {key: getattr(options, key) for key in ("images", "hard_images", "limit", "quick")}
    saved = save(measures, details, {**settings, "code": code()}, folder / "fixed_points", TITLE)
    drawn = draw(details, folder)
    if options.publish:
        target = ROOT / "docs" / "benchmarks"
        target.mkdir(parents=True, exist_ok=True)
        for path in (*drawn, *saved):
            shutil.copyfile(path, target / path.name)
    missed = [f"{m.row}: {m.what}" for m in measures if m.reached is False]
    if missed:
        progress.print(f"[red]missed:[/] {'; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
