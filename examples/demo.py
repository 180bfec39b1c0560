"""Train a tiny recursive model on real data, prove its loop, and re-check the proof with nothing but Python.

    make demo        or        python examples/demo.py [--out DIR] [--figure FILE.png] [--images N] [--epochs N]

Writes model.safetensors, its certificates and a figure to out/demo. Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import trm_verify as tv
from trm_verify import archive
from trm_verify.report import Curve, abbreviated, convergence_figure, fields, save_figure, size, upper
from trm_verify.tasks import Task, load_task
from trm_verify.train import evaluate, train

EPSILON = "1/1024"  # ball radius for a few images: pixels are multiples of 1/16
STEPS, DRAWN, BALLS = 120, 12, 5

Model = tv.models.SandwichRefiner
Advance = Callable[[int, int], None]
log = Console(stderr=True, highlight=False)


def main() -> int:
    """The whole tour."""
    options = arguments()
    out, started = Path(options.out), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    task = load_task("digits")

    log.rule("1  train", align="left")
    model = Model(options.state, options.hidden, seed=0)
    train(model, task, epochs=options.epochs, seed=0, progress=True)
    weights = tv.save_pretrained(model, out)
    reached = evaluate(model.bake(), task.test, task, 12)[-1]

    log.rule("2  prove", align="left")
    images = task.test.x[: options.images]
    whole = tv.verify_fixed_point(model)
    results = prove(model, images, None, "answers of single images")
    balls = prove(model, images[:BALLS], EPSILON, f"answers for every image within {EPSILON}")
    if not whole:
        print(whole.explain())
        return 1
    certificates = [results.certificate.save(out / "model.trmcert.json")]
    certificates.append(balls.certificate.save(out / "model.eps.trmcert.json"))

    log.rule("3  re-check with nothing but Python", align="left")
    seconds = []
    for certificate in certificates:
        seconds.append(recheck(certificate, weights, whole.graph_digest))

    log.rule("4  measure", align="left")
    figure = Path(options.figure or out / "convergence.png")
    figure.parent.mkdir(parents=True, exist_ok=True)
    with bar("tracing") as advance:
        save_figure(draw(model, task, whole, results, advance), figure)

    steps = [r.answer_steps for r in results if r.answer_steps is not None]
    proved_balls = sum(bool(r) for r in balls)
    print()
    Console(highlight=False).print(fields({
        "test accuracy": f"{100 * reached:.1f} % ({100 * task.baseline():.1f} % for the nearest training image)",
        "contraction": f"rate <= {upper(whole.rate, 9)} in {whole.norm}, for every input in [0, 1]^64",
        "fixed point": "exactly one for every such input, reached from every start",
        "K(1e-6)": f"{whole.steps('1e-6')} steps, for every such input",
        "answers proved": f"{len(steps)} of {len(images)} test images: no later step can change them",
        "final after": f"{statistics.median(steps):g} steps (median), {max(steps)} at most" if steps else "–",
        f"within {EPSILON}": f"{proved_balls} of {len(balls)} of them for every image of the ball as well",
        "certificate": f"{size(certificates[0].stat().st_size)}, re-checked in {seconds[0]:.1f} s of plain Python",
        "semantics": "real arithmetic; float32 rounding not covered",
        "files": f"{weights}, {certificates[0]}, {figure}",
        "time": f"{time.monotonic() - started:.0f} s",
    }))  # fmt: skip
    return 0


def arguments() -> argparse.Namespace:
    """What can be varied."""
    parser = argparse.ArgumentParser(description="Train, prove, re-check and plot a small recursive model.")
    parser.add_argument("--out", default="out/demo", help="where everything is written")
    parser.add_argument("--figure", help="where the figure goes (default: in --out)")
    parser.add_argument("--images", type=int, default=50, help="test images to prove")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training images")
    parser.add_argument("--state", type=int, default=64, help="size of the state")
    parser.add_argument("--hidden", type=int, default=128, help="activation units of the step")
    return parser.parse_args()


def prove(model: Model, images: torch.Tensor, eps: str | None, what: str) -> tv.VerificationResults:
    """One call of the library, with a progress bar."""
    started = time.monotonic()
    with bar(what) as advance:
        results = tv.verify_fixed_point(model, images, eps=eps, progress=lambda done, total, _: advance(done, total))
    log.print(f"{what}: {results.explain()}, {time.monotonic() - started:.1f} s")
    return results


def recheck(certificate: Path, weights: Path, graph: str) -> float:
    """Run the kernel's one file without site packages, environment or current directory; print what it says.

    The caller says what it expects: this rate, these claims, and the graph that it exported itself.
    """
    expected = [f"--expect={claim}" for claim in ("contraction(rate<=0.9,norm=l2)", "exactly_one(domain=box(0,1))")]
    options = [*expected, f"--graph={graph}"]
    command = [sys.executable, "-I", "-S", str(archive.path()), str(certificate), str(weights), *options]
    print(f"$ python -I -S trm_kernel.pyz {certificate} {weights} \\")
    print("    " + " ".join(f"'{option}'" if "(" in option else abbreviated(option) for option in options))
    started = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if run.returncode:
        raise SystemExit(f"the kernel refused the certificate: {run.stderr}")
    lines = run.stdout.splitlines()
    print("\n".join(abbreviated(line) for line in lines[:10]))
    if len(lines) > 10:
        print(f"  … and {len(lines) - 10} more claims")
    return seconds


def draw(
    model: Model, task: Task, whole: tv.VerificationResult, results: tv.VerificationResults, advance: Advance
) -> Figure:
    """Distances measured in double precision, against the bounds: for all inputs, and certified from single runs."""
    exact = model.bake().double()
    x = task.test.x[: len(results)].double()
    with torch.no_grad():
        trace = torch.stack(list(exact.trace(x, 4 * STEPS)))
        answers = exact.readout(trace[: STEPS + 1]).argmax(dim=-1).numpy()
    errors = (trace[: STEPS + 1] - trace[-1]).abs().amax(dim=-1).numpy()
    settled, curves = [], []
    for row, result in enumerate(results):
        changed = np.flatnonzero(answers[:, row] != answers[-1, row])
        if result.answer_steps is not None:
            settled.append((int(changed[-1]) + 1 if len(changed) else 0, result.answer_steps))
        if row < DRAWN:
            certified = tv.audit(model, task.test.x[row], steps=STEPS).distances if row < 3 else None
            curves.append(Curve(errors[:, row], certified, result.answer_steps))
            advance(row + 1, DRAWN)
    return convergence_figure(curves, start_bound(whole), whole.rate or 1.0, settled)


def start_bound(result: tv.VerificationResult) -> float:
    """About the smallest ε with K(ε) = 0: a proved bound on the distance of the start from the fixed point."""
    low, high = 1e-9, 1e9
    while high > 1.001 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if result.steps(middle) == 0 else (middle, high)
    return high


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A progress bar on stderr."""
    with Progress(console=log, transient=True) as progress:
        shown = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(shown, completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main())
