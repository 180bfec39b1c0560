"""Figures. They are drawn without pyplot, so no window, backend or global state is involved."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trm_verify.report.text import upper

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trm_verify.report.accuracy import AccuracyCurve

INK, MUTED, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
MEASURED, PROVED, FINAL = "#2a6fb0", "#c4472b", "#2f8f5b"
FLOOR = 1e-8  # distances below this are drawn no further


@dataclass(frozen=True, eq=False)
class Curve:
    """One test input: the distance to its fixed point as measured, the certified one, and its proved final step.

    Shape: measured and certified (steps + 1,); either may be None. Distances are in plain ℓ∞.
    """

    measured: np.ndarray | None = None
    certified: np.ndarray | None = None
    final: int | None = None


def convergence_figure(
    curves: Sequence[Curve], initial: float, rate: float, settled: Sequence[tuple[int, int]]
) -> Figure:
    """Measured convergence against what is proved.

    Args:
        curves: single inputs, drawn as thin lines; at least one has measured distances.
        initial: a proved bound on the distance of the start, over all inputs.
        rate: the proved rate: after k steps every input is within initial · rateᵏ of its fixed point.
        settled: a pair (step of the last change seen, step from which the answer is proved final) an input.
    """
    figure = blank(9.2, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.62, 1))
    _convergence(left, curves, initial, rate)
    _settling(right, settled)
    return figure


def _convergence(axes: Axes, curves: Sequence[Curve], initial: float, rate: float) -> None:
    measured = [c.measured for c in curves if c.measured is not None]
    certified = [c.certified for c in curves if c.certified is not None]
    last = max(len(values) for values in measured) - 1
    steps = np.arange(last + 1)
    for values in certified:
        axes.semilogy(_positive(values), color=PROVED, lw=0.9, alpha=0.5)
    for values in measured:
        axes.semilogy(_positive(values), color=MEASURED, lw=0.9, alpha=0.6)
    axes.semilogy(steps, initial * rate**steps, color=PROVED, lw=2.2)
    axes.set(xlim=(0, last), ylim=(FLOOR, initial * 4), xlabel="step $k$", title="Distance to the fixed point")
    axes.set_ylabel("largest coordinate of $|z_k - z^*|$")
    k = int(0.36 * last)
    label = f"proved for every input, rate {upper(rate, 6)}"
    _note(axes, label, (k, initial * rate**k), (6, 8), PROVED)
    if certified:
        k = min(len(values) for values in certified) * 2 // 3
        _note(axes, "certified from a float32 run", (k, max(float(v[k]) for v in certified)), (0, 9), PROVED)
    axes.text(
        0.03, 0.06, f"measured, {len(measured)} test images", color=MEASURED, fontsize=8.5, transform=axes.transAxes
    )
    styled(axes, grid=True)


def _settling(axes: Axes, settled: Sequence[tuple[int, int]]) -> None:
    order = sorted(settled, key=lambda pair: (pair[1], pair[0]))
    rows = np.arange(len(order))
    seen, proved = (np.array(side) for side in zip(*order, strict=True))
    axes.hlines(rows, seen, proved, color=GRID, lw=1.4, zorder=1)
    axes.scatter(seen, rows, s=11, color=MEASURED, zorder=2, linewidths=0)
    axes.scatter(proved, rows, s=11, color=FINAL, zorder=2, linewidths=0)
    axes.set(xlabel="step", title="When the answer is final", yticks=[], xlim=(-0.8, proved.max() * 1.06 + 1))
    axes.set_ylabel(f"{len(order)} test images")
    axes.set_ylim(-0.04 * len(order) - 0.5, 1.14 * len(order))
    top = len(order) * 1.06
    axes.text(0, top, "last change seen", color=MEASURED, fontsize=8.5, va="center")
    axes.text(proved.max(), top, "proved final", color=FINAL, fontsize=8.5, ha="right", va="center")
    styled(axes)
    axes.spines["left"].set_visible(False)


def run_figure(run: Any) -> Figure:
    """The audit of one inference: how far each state still is, what it answers, and from where on that is final."""
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    steps = np.arange(len(run.distances))
    axes.axvspan(run.final, steps[-1], color=FINAL, alpha=0.10, lw=0)
    axes.axvline(run.final, color=FINAL, lw=1.0)
    axes.semilogy(steps, _positive(run.distances), color=PROVED, lw=2.0, label="certified distance to $z^*$")
    axes.semilogy(steps[1:], _positive(run.residuals), color=MEASURED, lw=1.4, label="moved in this step")
    axes.set(xlim=(0, steps[-1]), xlabel="step $k$", title="One inference, step by step")
    axes.set_ylabel("largest coordinate")
    top = axes.get_ylim()[1]
    axes.annotate(
        f"answer {_answer(run.answer)} final from step {run.final}", (run.final, top), (5, -5), va="top", fontsize=8.5,
        textcoords="offset points", color=FINAL,
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    styled(axes, grid=True)
    return figure


def accuracy_figure(curve: AccuracyCurve) -> Figure:
    """Certified accuracy against ε: what is proved from below, what counterexamples leave from above."""
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    radii = [float(point.eps) for point in curve.points]
    lower = [100 * point.certified / point.total for point in curve.points]
    upper_ends = [100 * (point.total - point.wrong) / point.total for point in curve.points]
    axes.fill_between(radii, lower, upper_ends, color=GRID, lw=0)
    axes.plot(
        radii, upper_ends, color=MEASURED, lw=1.6, marker="o", ms=3.5, label="no counterexample (exact ones found)"
    )
    axes.plot(radii, lower, color=PROVED, lw=2.0, marker="o", ms=3.5, label="proved for every input of the ball")
    axes.set(xlabel="radius ε of the ball", ylim=(-2, 102), title="Certified accuracy")
    axes.set_ylabel(f"per cent of {curve.points[0].total} inputs")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    styled(axes, grid=True)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure in one piece; the format follows the name.

    Raises:
        OSError: the target cannot be written.
    """
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    try:
        # no date or version in the file: the same figure is the same bytes
        metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[target.suffix]
        figure.savefig(temporary, dpi=200, metadata=metadata)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def blank(width: float, height: float) -> Figure:
    """An empty figure of that size in inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "figures need matplotlib, which is not installed; run: pip install 'trm-verify[plot]'", name="matplotlib"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _positive(values: np.ndarray) -> np.ndarray:
    """Zeros cannot be drawn on a log axis; they leave a gap."""
    return np.where(values > 0, values, np.nan)


def _answer(answer: Sequence[int]) -> str:
    return "-".join(map(str, answer[:8])) + ("-…" if len(answer) > 8 else "")


def _note(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], color: str) -> None:
    axes.annotate(text, at, shift, textcoords="offset points", color=color, fontsize=8.5)


def styled(axes: Axes, grid: bool = False) -> None:
    """The house's look: no frame above and on the right, muted ticks, the title on the left."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=8.5, which="both")
    axes.set_title(axes.get_title(), loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.set_title("")
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)
    if grid:
        axes.grid(True, which="major", color=GRID, lw=0.7)
        axes.set_axisbelow(True)
