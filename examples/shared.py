"""What the examples of tasks share: options, a line for each thing that a run found out, and figures step by step."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import trm_verify as tv
from trm_verify.report import abbreviated, answers_figure, fields, save_figure
from trm_verify.report.figures import MEASURED, PROVED, blank, styled
from trm_verify.tasks import Task
from trm_verify.train.config import RunConfig
from trm_verify.train.recipes import quick as shortened
from trm_verify.train.recipes import recipe
from trm_verify.train.run import ANSWERS, CERTIFICATE, Run

LEAST = 1e-9  # errors below this are not drawn


def options(name: str, about: str | None) -> argparse.Namespace:
    """--out and --quick."""
    parser = argparse.ArgumentParser(description=(about or name).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out", name), help="where everything is written")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes, and a model that knows little"
    )
    return parser.parse_args()


def configured(name: str, quick: bool, **changes: Any) -> RunConfig:
    """The recipe of that name, or its short form with some changes."""
    return replace(shortened(recipe(name)), **changes) if quick else recipe(name)


def answers_of(model: Any, x: torch.Tensor, steps: int) -> dict[int, np.ndarray]:
    """The answer to one input after each of so many steps."""
    with torch.no_grad():
        states = model.trace(x[None], steps)
        return {k: model.readout(z)[0].argmax(dim=-1).numpy() for k, z in enumerate(states) if k}


def drawn(task: Task, x: torch.Tensor, y: torch.Tensor, answers: dict[int, np.ndarray], out: Path) -> Path:
    """A figure of one item: what the model answers at each step."""
    return save_figure(answers_figure(task.name, x.numpy(), y.numpy(), answers), out / "steps.png")


def told(done: Run, figure: Path) -> None:
    """What was reached, what is proved, and that the kernel accepts it."""
    assert done.metrics is not None and done.whole is not None
    reached = ", ".join(f"{value:.4g} after {k}" for k, value in done.metrics.items())
    lines = {"test": f"{reached} steps (baseline: {done.report['baseline']:.4g})"}
    for name, claim in done.whole.claims.items():
        lines[name] = f"{claim.verdict} for every input: {abbreviated(claim.statement or claim.reason)}"
    if done.answers is not None:
        proved = [r.answer_steps for r in done.answers if r.answer_steps is not None]
        final = f", from step {max(proved)} at the latest" if proved else ""
        lines["answers"] = f"{len(proved)} of {len(done.answers)} test answers are proved final{final}"
    told_lines(lines, done.directory, figure)


def told_lines(lines: dict[str, str], out: Path, figure: Path) -> None:
    """These lines, the files, and what the kernel says of each certificate."""
    model = tv.from_pretrained(out) if (out / "config.json").exists() else None
    for name in (CERTIFICATE, ANSWERS):
        if (out / name).exists():
            checked = tv.check(out / name, out / "model.safetensors", model=model)
            lines[name] = f"VALID, {len(checked.claims)} claims, re-checked exactly"
    lines["figure"] = str(figure)
    Console(highlight=False).print(fields(lines))


def told_solve(whole: Any, run: Any, what: str, target: torch.Tensor, out: Path) -> None:
    """What is proved of a solver for every input, and the certified error of one solve beside the true one."""
    error = np.abs(run.states[-1] - target.double().numpy()).max()
    lines = {name: f"{claim.verdict}: {abbreviated(claim.statement)}" for name, claim in whole.claims.items()}
    lines[what] = f"certified within {run.distances[-1]:.3g} after {len(run.states) - 1} steps"
    lines["true error"] = f"{error:.3g}, by the exact solution, which the bound does not know"
    told_lines(lines, out, errors_drawn(run, target, out))


def errors_drawn(run: Any, target: torch.Tensor, out: Path) -> Path:
    """A figure of a solve: the true error of each step below the certified one."""
    figure = blank(5.6, 3.6)
    axes = figure.subplots()
    true = np.abs(run.states - target.double().numpy()).max(axis=1)
    axes.semilogy(np.maximum(run.distances, LEAST), color=PROVED, lw=2.0, label="certified, without the solution")
    axes.semilogy(np.maximum(true, LEAST), color=MEASURED, lw=1.4, label="true")
    axes.set(xlabel="step", ylabel="largest error of an unknown", title="One solve, step by step")
    axes.legend(frameon=False, fontsize=8.5)
    styled(axes, grid=True)
    return save_figure(figure, out / "steps.png")
