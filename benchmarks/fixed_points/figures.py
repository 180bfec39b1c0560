"""The figures of these benchmarks, in the look of the library's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fixed_points.images import CERTIFIED, MISCLASSIFIED, REFUTED
from benchmarks.fixed_points.milp import TIME_OUT
from benchmarks.fixed_points.unrolled import losses
from benchmarks.table import Json
from trm_verify.report.figures import FINAL, GRID, INK, MEASURED, MUTED, PROVED, blank, save_figure, styled

OPEN = ("open", "failed")
COLOURS = {CERTIFIED: PROVED, REFUTED: MEASURED}
SOONEST = 1e-3  # seconds below this are drawn there


def draw(details: Json, folder: Path) -> list[Path]:
    """Those figures for which there are results."""
    drawn = []
    for name, (rows, make) in FIGURES.items():
        present = {row: details[row] for row in rows if row in details}
        figure = make(present) if present else None
        if figure is not None:
            drawn.append(save_figure(figure, folder / f"fixed_points_{name}.png"))
    return drawn


def _accuracy(details: Json) -> Any:
    """Certified accuracy against ε, what exact counterexamples leave, and what the attack leaves."""
    points = details["curve"]["points"]
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    radii = [p["eps"] for p in points]
    proved, left, attacked = (
        np.array([100 * share(p) / p["total"] for p in points])
        for share in (lambda p: p["certified"], lambda p: p["total"] - p["refuted"], lambda p: p["attack"])
    )
    axes.fill_between(radii, proved, left, color=GRID, lw=0)
    # where all images are decided the three coincide: a band, a line on it, and rings around its points
    axes.plot(radii, left, color=MEASURED, lw=7.0, alpha=0.4, solid_capstyle="round", label="no exact counterexample")
    axes.plot(radii, proved, color=PROVED, lw=1.8, marker="o", ms=3.5, label="certified")
    axes.plot(radii, attacked, "o", ms=9, mfc="none", mec=INK, mew=1.0, label="survive the attack")
    axes.set(xlabel="radius ε, of pixels from 0 to 1", ylim=(-2, 102), title="h40: certified accuracy")
    axes.set_ylabel(f"per cent of {points[0]['total']} images")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    styled(axes, grid=True)
    return figure


def _solved(details: Json) -> Any:
    """How many images are decided after how long, and how that goes with the units in question."""
    figure = blank(9.2, 3.8)
    left, right = figure.subplots(1, 2)
    for (name, row), colour in zip(details.items(), (PROVED, MEASURED), strict=False):
        searched = [f for f in row["images"] if f["verdict"] != MISCLASSIFIED]
        settled = [f for f in searched if f["verdict"] in COLOURS]
        _cactus(left, [f["search_seconds"] for f in settled], colour, f"{name}, {len(searched)} images")
        marks = [(f.get("unstable", 0), max(f["search_seconds"], SOONEST), f["verdict"]) for f in searched]
        for verdicts, mark in (((CERTIFIED, REFUTED), "o"), (OPEN, "x")):
            here = [(units, seconds) for units, seconds, verdict in marks if verdict in verdicts]
            if here:
                right.plot(*zip(*here, strict=True), mark, ms=3.5, color=colour, alpha=0.75)
    left.set(xscale="log", xlabel="seconds of search an image", ylabel="images decided", title="Decided against time")
    left.legend(frameon=False, fontsize=8.5, loc="lower right")
    right.set(yscale="log", xlabel="units of either sign", ylabel="seconds of search", title="… and unstable units")
    if any(f["verdict"] in OPEN for row in details.values() for f in row["images"]):
        right.text(0.97, 0.04, "× left open", transform=right.transAxes, ha="right", fontsize=8.5, color=INK)
    for axes in (left, right):
        styled(axes, grid=True)
    return figure


def _peers(details: Json) -> Any:
    """Our search and the plain mixed-integer program on the same images."""
    found = details["milp"]["images"]
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    ours = [f["ours"]["search_seconds"] for f in found if f["ours"]["verdict"] in COLOURS]
    peer = [f["milp"]["seconds"] for f in found if f["milp"]["verdict"] != TIME_OUT]
    checked = [o["search_seconds"] + o["kernel_seconds"] for f in found if (o := f["ours"])["verdict"] in COLOURS]
    _cactus(axes, ours, PROVED, "our search")
    _cactus(axes, checked, FINAL, "our search and the kernel's check")
    _cactus(axes, peer, MUTED, "plain mixed-integer program, no check")
    axes.set(xscale="log", xlabel="processor seconds an image", title=f"h40, ε = 0.05, {len(found)} images")
    axes.set_ylabel("images decided")
    axes.legend(frameon=False, fontsize=8.5, loc="upper right")
    styled(axes, grid=True)
    return figure


def _margins(details: Json) -> Any:
    """Our margins against CROWN's on the unrolled steps, each as what it loses of the margin at the centre."""
    ours, crown, _ = losses(details["recursion"]["images"])
    figure = blank(4.6, 4.2)
    axes = figure.subplots()
    end = float(max(ours.max(), crown.max())) * 1.05
    axes.plot([0, end], [0, end], color=MUTED, lw=1.0)
    axes.plot(crown, ours, "o", ms=3, color=FINAL, alpha=0.6)
    axes.set(xlim=(0, end), ylim=(0, end), xlabel="CROWN, 40 unrolled steps", ylabel="enclosure of the fixed point")
    axes.set_title("Loss of margin over the ball")
    axes.text(0.96, 0.06, "below the line: tighter", transform=axes.transAxes, ha="right", fontsize=8.5, color=INK)
    styled(axes, grid=True)
    return figure


def _cactus(axes: Any, seconds: Sequence[float], colour: str, label: str) -> None:
    times = np.sort(np.maximum(np.array(seconds), SOONEST))
    times = np.concatenate([times[:1], times])
    axes.step(times, np.arange(len(times)), where="post", color=colour, lw=1.8, label=label)
    axes.locator_params(axis="y", integer=True)


FIGURES: dict[str, tuple[tuple[str, ...], Callable[[Json], Any]]] = {
    "accuracy": (("curve",), _accuracy),
    "solved": (("h40-0.05", "h100-0.05"), _solved),
    "milp": (("milp",), _peers),
    "margins": (("recursion",), _margins),
}
