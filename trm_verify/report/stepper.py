"""One inference step by step: a slider over drawings of the logits, the state and the answer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from trm_verify.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Chart, rows_table, span
from trm_verify.report.evidence import Trace
from trm_verify.report.markup import Markup, raw, tag
from trm_verify.report.text import labels, upper

MOST_FRAMES, MOST_NUMBERS, MOST_CELLS, MOST_CLASSES, MOST_POSITIONS = 150, 40_000, 512, 24, 256
COLUMNS, CELL = 32, 15.0


def stepper(trace: Trace, name: str) -> Markup:
    """The drawings of one trace, shown at the step from which its answer is final, and a slider over all steps."""
    steps = _frames(trace)
    count = len(steps)
    data = _data(trace, steps)
    slider = f"{name}-slider"
    controls = tag(
        "div",
        tag("label", "Step of the inference", for_=slider),
        tag("button", "−", type="button", data_previous=True, aria_label="previous step"),
        tag("input", type="range", id=slider, min=0, max=count - 1, value=data["start"], data_slider=True),
        tag("button", "+", type="button", data_next=True, aria_label="next step"),
        class_="controls", data_controls=True, hidden=True,
    )  # fmt: skip
    said = tag("p", data["said"][data["start"]], class_="now", data_said=True, role="status")
    drawings = [_convergence(trace, name), _logits(trace, data, name), _state(trace, data)]
    return tag(
        "div",
        controls,
        said,
        _answers(trace, data),
        tag("div", drawings, class_="side"),
        _table(trace, steps),
        raw("script", json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"), type="application/json"),
        class_="stepper",
        role="group",
        aria_label=trace.title,
    )


def _frames(trace: Trace) -> list[int]:
    """The steps that are shown: all of them, or evenly thinned out, always with the first, the final and the last."""
    total, per = len(trace.states), min(trace.states.shape[1], MOST_CELLS) + 40
    most = max(12, min(MOST_FRAMES, MOST_NUMBERS // per))
    chosen = set(range(total)) if total <= most else set(np.linspace(0, total - 1, most).round().astype(int).tolist())
    return sorted(chosen | {0, total - 1} | ({trace.final} if trace.final is not None else set()))


def _shows_logits(trace: Trace) -> bool:
    return trace.logits is not None and trace.logits.shape[1] == 1 and trace.logits.shape[2] <= MOST_CLASSES


def _data(trace: Trace, steps: list[int]) -> dict[str, Any]:
    """What the script draws from: finite numbers only, rounded to what can be seen."""
    cells = trace.states[:, :MOST_CELLS]
    largest = float(np.abs(cells).max()) or 1.0
    data: dict[str, Any] = {
        "steps": steps,
        "start": steps.index(trace.final) if trace.final is not None else len(steps) - 1,
        "said": [_said(trace, k) for k in steps],
        "states": [[round(100 * float(v) / largest) for v in cells[k]] for k in steps],
        "answers": [None if (a := trace.answers[k]) is None else list(a[:MOST_POSITIONS]) for k in steps],
        "logits": [], "low": [], "high": [], "frame": {"low": 0, "high": 1, "top": TOP, "bottom": 1},
        "largest": largest,
    }  # fmt: skip
    if _shows_logits(trace) and trace.logits is not None:
        logits = trace.logits[:, 0]
        low, high = span(logits.ravel(), 0.12)
        data["frame"] = {"low": low, "high": high, "top": TOP, "bottom": 240 - BOTTOM}
        data["logits"] = [[_rounded(v) for v in logits[k]] for k in steps]
        if trace.low is not None and trace.high is not None:
            for key, values in (("low", trace.low), ("high", trace.high)):
                data[key] = [[_rounded(min(max(float(v), low), high)) for v in values[k, 0]] for k in steps]
        else:
            data["low"] = data["high"] = data["logits"]
    return data


def _rounded(value: float) -> float:
    return float(f"{float(value):.5g}")


def _said(trace: Trace, k: int) -> str:
    """One step in words: what the slider and a screen reader say."""
    last = len(trace.states) - 1
    parts = [f"Step {k} of {last}"]
    if k <= len(trace.answers) - 1 and trace.answers[k]:
        parts.append(f"answer {labels(trace.answers[k], 8)}")
    if k:
        parts.append(f"moved by {trace.moved[k - 1]:.2g}")
    if trace.distances is not None:
        parts.append(f"certified within {upper(float(trace.distances[k]))} of the fixed point")
    if trace.final is not None:
        parts.append("the answer is proved final" if k >= trace.final else "the answer is not yet proved final")
    return "; ".join(parts) + "."


def _answers(trace: Trace, data: dict[str, Any]) -> Markup | None:
    """Several output positions: a cell for each, those that are not yet the last answer marked."""
    answer = data["answers"][data["start"]]
    if not answer or len(answer) < 2:
        return None
    cells = [tag("li", label, data_position=i) for i, label in enumerate(answer)]
    more = len(trace.answers[-1] or ()) - len(answer)
    note = "" if more <= 0 else f" The first {len(answer)} positions are shown, {more} more are not."
    return tag("div", tag("p", f"Answer by position; marked: not yet the last answer.{note}", class_="muted"),
               tag("ul", cells, class_="answers", aria_label="answer by position"))  # fmt: skip


def _convergence(trace: Trace, name: str) -> Markup:
    steps = np.arange(len(trace.states))
    lines = [trace.errors[:-1], trace.moved]
    if trace.distances is not None:
        lines.append(trace.distances)
    positive = [float(v) for values in lines for v in values if 0 < v < math.inf]
    low, high = (min(positive), max(positive)) if positive else (0.1, 1.0)
    low = max(low / 2, high * 1e-12)
    chart = Chart(f"{name}-distance", "How far it still is", "step", "largest coordinate",
                  (0, len(steps) - 1), (low, max(high * 2, low * 10)), log=True)  # fmt: skip
    if trace.final is not None:
        chart.from_here(trace.final, "final", f"final from step {trace.final}")
    if trace.distances is not None:
        chart.line(steps, trace.distances, "proved", "certified distance to the fixed point", 2.4)
    chart.line(steps[:-1], trace.errors[:-1], "measured", "measured distance to the last state")
    chart.line(steps[1:], trace.moved, "plain", "moved in this step", 1.4)
    chart.cursor(0)
    words = f"The measured distance falls from {trace.errors[0]:.2g} at the start"
    if len(trace.errors) > 1:
        words += f" to {trace.errors[-2]:.2g} at step {len(steps) - 2}"
    if trace.distances is not None:
        above = bool((trace.distances >= trace.errors).all())
        words += (
            f"; the certified one from {upper(float(trace.distances[0]))} to {upper(float(trace.distances[-1]))}, "
            f"{'at every step' if above else 'not at every step, by rounding'} above the measured one"
        )
    return chart.figure(words + ".")


def _logits(trace: Trace, data: dict[str, Any], name: str) -> Markup | None:
    if not data["logits"]:
        return None
    at, frame = data["start"], data["frame"]
    classes = len(data["logits"][at])
    places = [i + 0.5 for i in range(classes)]
    chart = Chart(f"{name}-logits", "What it would answer", "class", "logit", (0, classes),
                  (frame["low"], frame["high"]), height=240,
                  x_ticks=[(p, str(i)) for i, p in enumerate(places)])  # fmt: skip
    proved = trace.low is not None
    width = min(16.0, 0.6 * (WIDTH - LEFT - RIGHT) / classes)
    for c, place in enumerate(places):
        if proved:
            top, bottom = chart.up(data["high"][at][c]), chart.up(data["low"][at][c])
            chart.marks.append(tag("rect", x=chart.right(place) - width / 2, y=top, width=width,
                                   height=max(bottom - top, 1.2), class_="fill soft proved", data_class=c))  # fmt: skip
        chart.marks.append(tag("circle", cx=chart.right(place), cy=chart.up(data["logits"][at][c]), r=4,
                               class_="fill measured", data_logit=c))  # fmt: skip
    if proved:
        chart.legend.append(("proved", "where the final logit lies, as this step proves it"))
    chart.legend.append(("measured", "logit at this step"))
    words = "Dots are the logits of the state shown."
    if proved:
        words += (
            " Bars enclose the logits at the fixed point, computed from the certified distance of this step, and are "
            "cut at the frame; an answer is final at the latest when its bar is clear of all others."
        )
    return chart.figure(words)


def _state(trace: Trace, data: dict[str, Any]) -> Markup:
    values = data["states"][data["start"]]
    rows = math.ceil(len(values) / COLUMNS)
    cells = [
        tag("rect", x=(i % COLUMNS) * CELL + 1, y=(i // COLUMNS) * CELL + 1, width=CELL, height=CELL,
            class_=f"cell fill {'measured' if v < 0 else 'proved'}", fill_opacity=abs(v) / 100, data_cell=i)
        for i, v in enumerate(values)
    ]  # fmt: skip
    size = trace.states.shape[1]
    shown = "" if len(values) == size else f"The first {len(values)} of {size} coordinates. "
    words = f"{shown}One cell a coordinate of the state; the full tone is {data['largest']:.3g} in absolute value."
    drawing = tag("svg", tag("title", "The state"), tag("desc", words), cells, role="img", aria_label=words,
                  viewBox=f"0 0 {COLUMNS * CELL + 2:.0f} {rows * CELL + 2:.0f}")  # fmt: skip
    keys = [tag("li", tag("span", class_=f"key {kind}", aria_hidden="true"), text)
            for kind, text in (("proved", "positive"), ("measured", "negative"))]  # fmt: skip
    legend = tag("ul", keys, class_="legend")
    return tag("figure", tag("h3", "The state"), legend, drawing, tag("figcaption", words), class_="wide")


def _table(trace: Trace, steps: list[int]) -> Markup:
    columns = ["step", "answer", "moved by"] + (["certified distance"] if trace.distances is not None else [])
    rows = []
    for k in steps:
        row = [str(k), labels(trace.answers[k] or None, 8), "–" if k == 0 else f"{trace.moved[k - 1]:.3g}"]
        if trace.distances is not None:
            final = " (final)" if trace.final == k else ""
            row.append(f"≤ {upper(float(trace.distances[k]))}{final}")
        rows.append(row)
    return rows_table(f"{trace.title}: every step shown", columns, rows, "the numbers as a table")
