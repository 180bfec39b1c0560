"""Many inputs of the demo model, enclosed and kernel-checked, by one worker and by two: `python benchmarks/scale.py`.

The two are timed in turn, and the medians of the rounds compared, so that whatever else the machine does meets both.
The rows, and the certificates of some, have to be the same. Single points are measured beside the balls: there the
second or two that export, facts and new processes take are a good part of the whole.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from bench import OUT, Json, Row, save, show
from figures import draw
from rich.console import Console

import trm_verify as tv
from trm_verify.tasks import load_task
from trm_verify.train import train

INPUTS, ROUNDS = 1000, 3
EPSILON = "1/4096"  # most balls are closed by the contraction alone, some one in seven by duality
COMPARED = 20  # inputs whose own certificates are compared to the last byte
SPEEDUP = 1.7


@dataclass(frozen=True)
class Timed:
    """One call: wall seconds, the processor seconds of this process alone, and what was found."""

    seconds: float
    own: float
    results: tv.VerificationResults


def demo_model(folder: Path) -> torch.nn.Module:
    """The model of examples/demo.py, trained once."""
    if not (folder / "config.json").exists():
        model = tv.models.SandwichRefiner(64, 128, seed=0)
        train(model, load_task("digits"), epochs=30, seed=0)
        tv.save_pretrained(model, folder)
    return tv.from_pretrained(folder)


def timed(model: torch.nn.Module, x: torch.Tensor, eps: str | None, workers: int) -> Timed:
    """Verify all inputs."""
    started, processor = time.perf_counter(), time.process_time()
    results = tv.verify_fixed_point(model, x, eps=eps, workers=workers)
    if not isinstance(results, tv.VerificationResults):
        raise TypeError("expected the results of a batch")
    return Timed(time.perf_counter() - started, time.process_time() - processor, results)


def told(results: tv.VerificationResults) -> list[tuple[object, ...]]:
    """All of a result but its times."""
    return [(r.verdict, dict(r.claims), r.answer, r.answer_steps) for r in results]


def certificates(results: tv.VerificationResults) -> list[bytes]:
    """Of the first inputs."""
    return [result.certificate.to_bytes() for result in results[:COMPARED]]


def measured(model: torch.nn.Module, eps: str | None, inputs: int, rounds: int) -> tuple[list[Row], Json]:
    """The rows of the table for balls of one radius, or for points, and the seconds of each round.

    Raises:
        RuntimeError: one worker and two do not find the same.
    """
    task = load_task("digits")
    x = torch.cat([task.test.x, task.train.x])[:inputs]
    tv.verify_fixed_point(model, x[:4], eps=eps, workers=1)  # what is imported late is imported now
    times: dict[int, list[Timed]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in times.items():
            found.append(timed(model, x, eps, workers))
    one, two = (found[-1].results for found in times.values())
    if told(one) != told(two) or certificates(one) != certificates(two):
        raise RuntimeError("expected the same results and certificates of one worker and of two, found others")
    seconds = {workers: [t.seconds for t in found] for workers, found in times.items()}
    medians = {workers: statistics.median(values) for workers, values in seconds.items()}
    own = statistics.median(t.own for t in times[1])
    proved, enclosed = sum(map(bool, one)), sum(r.enclosure is not None for r in one)
    what = f"{len(x)} {'points' if eps is None else f'balls of radius {eps}'}"
    rows = [
        (f"{what}: one worker", medians[1], "s", f"median of {rounds}, in turn; {own:.3g} s of processor"),
        (f"{what}: two workers", medians[2], "s", f"{proved} proved, {enclosed} enclosed, all kernel-checked"),
        (f"{what}: each, one worker", 1000 * own / len(x), "ms", "of processor, start included"),
    ]
    faster = Row(
        "scale", f"{what}: two workers are faster by", medians[1] / medians[2], "times", note="same certificates"
    )
    return [
        *(Row("scale", *row[:3], note=row[3]) for row in rows), replace(faster, least=None if eps is None else SPEEDUP),
    ], {"what": what, "seconds": {str(workers): values for workers, values in seconds.items()}}  # fmt: skip


def both(model: torch.nn.Module, inputs: int, rounds: int) -> tuple[list[Row], Json]:
    """Balls, which have a floor and a figure, and points."""
    balls, details = measured(model, EPSILON, inputs, rounds)
    return [*balls, *measured(model, None, inputs, rounds)[0]], details


def run(out: Path) -> tuple[list[Row], Json]:
    """All of it, as `python benchmarks/run.py scale` does."""
    return both(demo_model(out / "demo"), INPUTS, ROUNDS)


def main() -> int:
    """By itself, smaller if need be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", type=Path, help="a directory written by save_pretrained (default: train one)")
    parser.add_argument("--out", type=Path, default=OUT / "scale")
    arguments = parser.parse_args()
    model = demo_model(arguments.model or arguments.out / "demo")
    rows, details = both(model, arguments.inputs, arguments.rounds)
    show(rows, Console())
    draw(save(rows, {"scale": details}, arguments.out), arguments.out)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
