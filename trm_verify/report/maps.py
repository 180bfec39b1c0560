"""Attractor maps for people: a table, and a figure of basins and orbits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from trm_verify.report.figures import FINAL, INK, MEASURED, MUTED, PROVED, blank, styled
from trm_verify.report.tables import table, verdict
from trm_verify.report.text import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trm_verify.auditing import Attractor, AttractorMap

FATES = (MEASURED, FINAL, PROVED, "#8e5ea2", "#b8860b", "#1a9ba1")
MOST = 8  # fates, and orbits that no start reached, in the table
DRAWN, NAMED = 40, 6  # orbits that are drawn, fates in the legend


def print_attractors(console: Console, found: AttractorMap) -> None:
    """An `AttractorMap`: where the starts end, which orbits they avoid, and which claim fails for that."""
    console.print(
        Text.assemble(verdict(str(found.verdict)), f"  {len(found.starts)} starts, observed in floating point"),
        soft_wrap=True,
    )
    rows = table("starts", "", "growth once around", "Lyapunov a step", "state",
                 numbers=("starts", "growth once around", "Lyapunov a step"))  # fmt: skip
    for k, each in enumerate(found.attractors):
        if k < MOST or k == found.own:
            rows.add_row(f"{100 * each.share:.1f} %", *_orbit(each, ", the model's own start" * (k == found.own)))
    for each in found.unreached[:MOST]:
        rows.add_row("none", *_orbit(each))
    left_out = sum(max(len(each) - MOST, 0) for each in (found.attractors, found.unreached))
    if left_out:
        rows.add_row("", f"… and {left_out} more")
    console.print(Padding(rows, (1, 0, 1, 0)))
    claims = table("", "claim")
    for claim in found.claims.values():
        claims.add_row(verdict(str(claim.verdict)), short(f"{claim.name}: {claim.reason}"))
    console.print(claims)


def _orbit(each: Attractor, note: str = "") -> tuple[str, str, str, str]:
    """What an orbit is, how it grows, and where it is: some coordinates, or in one dimension the states of a cycle."""
    growth, exponent = ("–" if v is None else f"{v:.6g}" for v in (each.growth, each.exponent))
    single = each.states.shape[1] == 1
    values = [] if each.period is None else each.states[:, 0] if single else each.states[0]
    state = (" → " if single else ", ").join([*(f"{v:.4g}" for v in values[:4]), *["…"] * (len(values) > 4)])
    return f"{'repelling ' * each.repels}{_name(each)}{note}", growth, exponent, state


def attractor_figure(found: AttractorMap) -> Figure:
    """An `AttractorMap`: on the left which starts end where, on the right the first steps of their orbits.

    A state of one coordinate is drawn against the step; one of more than two in the plane of its first principal
    components.
    """
    figure = blank(9.2, 4.2)
    left, right = figure.subplots(1, 2)
    colors = [_fate_color(each, k) for k, each in enumerate(found.attractors)]
    orbits = [(each, colors[k]) for k, each in enumerate(found.attractors) if each.period is not None]
    orbits += [(each, INK) for each in found.unreached]
    view = _View.of(found)
    most = DRAWN if found.starts.shape[1] > 1 else DRAWN // 4
    picked = np.linspace(0, len(found.starts) - 1, min(len(found.starts), most)).astype(int)
    for k, color in enumerate(colors):
        view.starts(left, found.starts[found.fates == k], k, color)
    for row in picked:
        view.path(right, found.paths[:, row], colors[found.fates[row]])
    for axes in (left, right):
        for each, color in orbits:
            view.orbit(axes, each.states, color, hollow=each.repels, along_steps=axes is right)
    left.set_title("Where starts end")
    right.set_title(f"First {len(found.paths) - 1} steps")
    view.labels(left, right, len(found.attractors))
    styled(left, grid=True)
    styled(right, grid=True)
    handles = [_handle(each, colors[k]) for k, each in enumerate(found.attractors[:NAMED])]
    if any(each.repels for each, _ in orbits):
        handles.append(_handle(None, MUTED))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def _fate_color(each: Attractor, place: int) -> str:
    return {"leaving": MUTED, "wandering": INK}.get(each.kind, FATES[place % len(FATES)])


def _handle(each: Attractor | None, color: str) -> Any:
    """An entry of the legend: a fate, or what hollow marks (in one coordinate: dashed lines) mean."""
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"color": color, "marker": "o", "markersize": 5}
    if each is None:
        return Line2D([], [], ls="--", lw=0.8, markerfacecolor="white", label="repels", **dot)
    share = f"{100 * each.share:.0f} %" if each.share >= 0.005 else "< 1 %"
    return Line2D([], [], lw=0, label=f"{share} {_name(each)}", **dot)


def _name(each: Attractor) -> str:
    return f"cycle of period {each.period}" if each.kind == "cycle" else each.kind


@dataclass(frozen=True, eq=False)
class _View:
    """States as points of the plane: a projection, what it explains, and the limits of what is worth showing.

    Shape: middle (n,), plane (n, 1 or 2), explained (2,), low and high (1 or 2,).
    """

    middle: np.ndarray
    plane: np.ndarray
    explained: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, found: AttractorMap) -> _View:
        """The plane in which late states and orbits spread most; for one or two coordinates, these themselves.

        Orbits that no start reached may be far away, and have no say in what is shown.
        """
        size = found.starts.shape[1]
        orbits = [each.states for each in found.attractors if each.period is not None]
        shown = np.concatenate([found.starts, *orbits])
        middle, plane, explained = np.zeros(size), np.eye(size), np.ones(2)
        if size > 2:
            late = found.paths[len(found.paths) // 2 :].reshape(-1, size)
            late = late[np.isfinite(late).all(axis=1) & (np.abs(late) < 1e6).all(axis=1)]
            cloud = np.concatenate([late, *orbits]) if len(late) or orbits else found.starts
            middle = cloud.mean(axis=0)
            _, sizes, rows = np.linalg.svd(cloud - middle, full_matrices=False)
            plane, explained = rows[:2].T, sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-300)
        flat = (shown - middle) @ plane
        low, high = flat.min(axis=0), flat.max(axis=0)
        margin = 0.06 * (high - low) + 1e-3
        return cls(middle, plane, explained, low - margin, high + margin)

    def points(self, states: np.ndarray) -> np.ndarray:
        """Shape: (count, n) to (count, 1 or 2); what is far outside is not drawn."""
        with np.errstate(invalid="ignore", over="ignore"):
            flat = (states - self.middle) @ self.plane
        reach = 10 * (self.high - self.low)
        inside: np.ndarray = np.where((flat > self.low - reach) & (flat < self.high + reach), flat, np.nan)
        return inside

    def starts(self, axes: Axes, states: np.ndarray, place: int, color: str) -> None:
        flat = self.points(states)
        other = flat[:, 1] if flat.shape[1] > 1 else np.full(len(flat), float(-place))
        axes.scatter(flat[:, 0], other, s=10, color=color, alpha=0.7, linewidths=0, zorder=2)

    def path(self, axes: Axes, states: np.ndarray, color: str) -> None:
        flat = self.points(states)
        x, y = (np.arange(len(flat)), flat[:, 0]) if flat.shape[1] == 1 else (flat[:, 0], flat[:, 1])
        axes.plot(x, y, color=color, lw=0.7, alpha=0.45, zorder=1)

    def orbit(self, axes: Axes, states: np.ndarray, color: str, hollow: bool, along_steps: bool) -> None:
        flat = self.points(states)
        face = "white" if hollow else color
        if flat.shape[1] > 1:
            axes.scatter(flat[:, 0], flat[:, 1], s=42, facecolors=face, edgecolors=color, linewidths=1.4, zorder=3)
            return
        line = axes.axhline if along_steps else axes.axvline
        for value in flat[:, 0]:
            line(value, color=color, lw=1.0, ls="--" if hollow else "-", zorder=0)

    def labels(self, left: Axes, right: Axes, fates: int) -> None:
        if self.plane.shape[1] == 1:
            left.set(xlim=(self.low[0], self.high[0]), ylim=(0.7 - fates, 0.3), yticks=[], xlabel="start $z_0$")
            right.set(ylim=(self.low[0], self.high[0]), xlabel="step $k$", ylabel="$z_k$")
            return
        known = self.plane.shape[0] == 2
        names = (
            ("$z^{(1)}$", "$z^{(2)}$")
            if known
            else tuple(f"principal component {k + 1} ({100 * share:.0f} %)" for k, share in enumerate(self.explained))
        )
        for axes in (left, right):
            axes.set(xlim=(self.low[0], self.high[0]), ylim=(self.low[1], self.high[1]))
            axes.set_xlabel(names[0])
        left.set_ylabel(names[1])
