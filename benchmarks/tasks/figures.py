"""The figures: accuracy along the loop, recursion against a single pass, certified bounds, answers step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks.results import Results, average, metric, scale, where
from trm_verify.report.answers import answers_figure
from trm_verify.report.figures import FINAL, INK, MEASURED, MUTED, PROVED, blank, save_figure, styled

COLUMNS = 3
UNITS = {"parity": "bits", "addition": "bits"}
COLOURS = {"unconstrained": MEASURED, "convolutional": FINAL, "certified": PROVED}
LEAST_BOUND = 1e-8  # nothing below this is drawn


def draw(results: Results, folder: Path) -> list[Path]:
    """Those figures for which there are results."""
    drawn = []
    for name, make in FIGURES.items():
        figure = make(results)
        if figure is not None:
            drawn.append(save_figure(figure, folder / f"tasks_{name}.png"))
    for task in results.tasks("certified"):
        item = results.of(task)[0]["learn"].get("trained", {}).get("item")
        if item is not None:
            figure = answers_figure(task, item["x"], item["y"], item["answers"])
            drawn.append(save_figure(figure, folder / f"tasks_item_{task}.png"))
    return drawn


def _panels(count: int) -> tuple[Any, list[Any]]:
    rows = -(-count // COLUMNS)
    figure = blank(3.3 * min(count, COLUMNS), 2.7 * rows)
    axes = np.atleast_1d(figure.subplots(rows, min(count, COLUMNS))).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes


def _named(results: Results, task: str, deployed: bool) -> str:
    """A task, with its size where a model is deployed at another one than it is trained at."""
    sizes = results.each(task, "certified", lambda k: (k["learn"]["size"], k["learn"]["deployed_size"]))
    if not sizes:
        return task
    return f"{task}, {sizes[0][deployed]} {UNITS.get(task, 'in size')}{', deployed' if deployed else ''}"


def _depth(deployed: bool) -> Callable[[Any], int]:
    """Asks for K, where a model was measured at that size."""
    return lambda known: int(known["learn"]["deployed" if deployed else "trained"]["K"])


def _along(results: Results) -> Any:
    """The metric against the number of steps, each seed a line, up to five times the depth.

    Where a model is deployed at another size than it is trained at, both are drawn, with who was measured there.
    """
    drawn = [
        (task, deployed)
        for task in results.tasks("certified")
        for deployed in (False, True)
        if results.each(task, "certified", _depth(deployed))
    ]
    if not drawn:
        return None
    figure, panels = _panels(len(drawn))
    for axes, (task, deployed) in zip(panels, drawn, strict=False):
        factor, unit = scale(task)
        steps = results.each(task, "certified", _depth(deployed))[0]
        axes.axvline(steps, color=MUTED, lw=0.8, ls=":")
        for variant, colour in COLOURS.items():
            for known in results.of(task, variant):
                if deployed and "deployed" not in known["learn"]:
                    continue
                curve = where(known, deployed)["curve"]
                at = sorted(map(int, curve))
                axes.semilogx(at, [factor * curve[str(k)] for k in at], color=colour, lw=1.5, alpha=0.75)
        axes.set_title(_named(results, task, deployed))
        axes.set(xlabel="steps (dotted: K)", ylabel=unit)
        if unit == "%":
            axes.set_ylim(-3, 103)
        styled(axes, grid=True)
    shown = [(variant, colour) for variant, colour in COLOURS.items() if results.tasks(variant)]
    lines = [panels[0].plot([], [], color=colour, lw=1.5)[0] for _, colour in shown]
    figure.legend(lines, [variant for variant, _ in shown], loc="outside upper right", ncols=len(shown), frameon=False,
                  fontsize=9)  # fmt: skip
    return figure


def _single(results: Results) -> Any:
    """K steps, the twin trained at one step, one step of the same weights: means over the seeds."""
    names = [task for task in results.tasks("certified", "twin") if scale(task)[1] == "%"]
    if not names:
        return None
    figure = blank(max(4.6, 1.15 * len(names) + 1.8), 3.2)
    axes = figure.subplots()
    bars = (("certified", 0, "one step of the same weights", MUTED), ("twin", 0, "twin trained at one step", MEASURED),
            ("certified", 1, "K steps", FINAL))  # fmt: skip
    for place, (variant, times, label, colour) in enumerate(bars):
        heights = [100 * (average(results.each(task, variant, metric(times))) or 0.0) for task in names]
        at = np.arange(len(names)) + 0.27 * (place - 1)
        axes.bar(at, heights, 0.25, color=colour, label=label)
        for x, height in zip(at, heights, strict=True):
            axes.text(x, height + 1, f"{height:.0f}", ha="center", fontsize=7.5, color=INK)
    labels = [_named(results, task, False).replace(", ", "\n") for task in names]
    axes.set(ylim=(0, 118), ylabel="% right, mean of the seeds", xticks=range(len(names)), xticklabels=labels)
    axes.set_title("One step against K steps")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    styled(axes)
    return figure


def _bounds(results: Results) -> Any:
    """True errors of the solvers, and what is certified of them."""
    names = [t for t in results.tasks("solver") if "curves" in results.of(t, "solver")[0].get("solve", {})]
    if not names:
        return None
    figure = blank(4.2 * len(names), 3.2)
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for curve in results.of(task, "solver")[0]["solve"]["curves"]:
            error, bound = (np.maximum(curve[name], LEAST_BOUND) for name in ("error", "bound"))
            axes.semilogy(bound, color=PROVED, lw=3.2, alpha=0.45)  # below the other: the two soon coincide
            axes.semilogy(error, color=MEASURED, lw=1.0)
        axes.set(
            xlabel="step (what is below $10^{-8}$ is drawn there)", ylabel="largest error of an unknown", title=task
        )
        axes.text(0.97, 0.92, "certified", color=PROVED, ha="right", transform=axes.transAxes, fontsize=9)
        axes.text(0.97, 0.84, "true", color=MEASURED, ha="right", transform=axes.transAxes, fontsize=9)
        styled(axes, grid=True)
    return figure


FIGURES: dict[str, Callable[[Results], Any]] = {"steps": _along, "recursion": _single, "solvers": _bounds}
