"""The figures of `make bench`, drawn from results.json alone, in the look of the library's own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trm_verify.report.figures import FINAL, INK, MEASURED, MUTED, PROVED, blank, save_figure, styled

Json = dict[str, Any]
LIMIT = {"color": MUTED, "lw": 1.2, "ls": ":"}


def draw(record: Json, folder: Path) -> list[Path]:
    """Those figures for which there are results."""
    drawn = []
    for topic, make in FIGURES.items():
        rows = [row for row in record["rows"] if row["topic"] == topic]
        figure = make(rows, record.get("details", {}).get(topic, {}))
        if figure is not None:
            drawn.append(save_figure(figure, folder / f"{topic}.png"))
    return drawn


def _rates(rows: Sequence[Json], details: Json) -> Any:
    """By how much a certified rate exceeds the true one, against the size of the layer."""
    if not details:
        return None
    figure = blank(6.4, 3.6)
    axes = figure.subplots()
    places = ((0.97, 0.30), (0.97, 0.83))
    for (name, found), colour, place in zip(details.items(), (PROVED, MEASURED), places, strict=True):
        axes.axhline(found["most"], color=colour, lw=1.2, ls=":")
        # below the precision of the comparison there is nothing to draw
        axes.loglog(found["sizes"], [max(v, 1e-16) for v in found["excess"]], "o-", color=colour, lw=1.8, ms=4.5)
        axes.text(*place, name, color=colour, ha="right", va="center", transform=axes.transAxes, fontsize=9)
    sizes = next(iter(details.values()))["sizes"]
    axes.set(xlabel="units of the layer (dotted: at most)", title="How tight certified rates are")
    axes.set(ylabel="relative excess over the true rate", ylim=(1e-12, 1e-4))
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_xticks([], minor=True)
    styled(axes, grid=True)
    return figure


def _sandwich(rows: Sequence[Json], details: Json) -> Any:
    """What is certified of a Sandwich step, and what the norms of its two layers would give."""
    if not details:
        return None
    figure = blank(6.4, 3.6)
    axes = figure.subplots()
    asked = details["asked"]
    axes.axhline(1, **LIMIT)
    axes.plot(asked, details["product"], "s-", color=MEASURED, lw=1.8, ms=4.5)
    axes.plot(asked, details["certified"], "o-", color=PROVED, lw=1.8, ms=4.5)
    axes.set(xlabel="rate that the step is built for", ylabel="bound on its Lipschitz constant", yscale="log")
    axes.set(title="Sandwich steps, state 64, hidden 128", xticks=asked, ylim=(0.4, 8))
    axes.set_yticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    axes.set_yticks([], minor=True)
    axes.annotate("product of the layers' norms", (asked[1], details["product"][1]), (0, -16), color=MEASURED,
                  textcoords="offset points", fontsize=9)  # fmt: skip
    axes.annotate("certified", (asked[1], details["certified"][1]), (0, -16), color=PROVED,
                  textcoords="offset points", fontsize=9)  # fmt: skip
    axes.annotate("below: a contraction", (asked[0], 1), (0, -12), color=INK, textcoords="offset points", fontsize=8.5)
    styled(axes, grid=True)
    return figure


def _kernel(rows: Sequence[Json], details: Json) -> Any:
    """Seconds to prove and to check two large steps; what it may take as dotted lines."""
    timed = [row for row in rows if row["unit"] == "s"]
    if not timed:
        return None
    figure = blank(7.2, 0.62 * len(timed) + 0.9)
    axes = figure.subplots()
    longest = max(max(row["most"] or 0, row["value"]) for row in timed)
    for place, row in enumerate(timed):
        isolated = "isolated kernel" in row["what"]
        axes.barh(place, row["value"], 0.55, color=FINAL if isolated else MEASURED)
        if row["most"] is not None:
            axes.plot([row["most"]] * 2, [place - 0.42, place + 0.42], **LIMIT)
    axes.set_yticks(range(len(timed)), [f"{row['what'].replace(': ', chr(10))}: {row['value']:.1f} s" for row in timed])
    axes.set(xlabel="processor seconds (dotted: at most)", title="Two large steps: to prove, and to check again")
    axes.set(xlim=(0, 1.03 * longest))
    axes.invert_yaxis()
    styled(axes)
    return figure


def _scale(rows: Sequence[Json], details: Json) -> Any:
    """Every round as a line, the median as a bar."""
    if not details:
        return None
    figure = blank(5.4, 1.9)
    axes = figure.subplots()
    for place, (workers, values) in enumerate(details["seconds"].items()):
        label = f"{workers} worker{'s' * (workers != '1')}"
        axes.barh(label, statistics.median(values), height=0.5, color=PROVED)
        axes.plot(values, [place] * len(values), "|", color=INK, markersize=14)
    axes.invert_yaxis()
    axes.set(xlabel="seconds (lines: each round)", title=details["what"])
    styled(axes)
    return figure


FIGURES: dict[str, Callable[[Sequence[Json], Json], Any]] = {
    "rates": _rates, "sandwich": _sandwich, "kernel": _kernel, "scale": _scale,
}  # fmt: skip
