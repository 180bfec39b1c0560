"""Charts as inline SVG: text stays text, colours come from the page, so they follow its light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trm_verify.report.markup import Child, Markup, tag

WIDTH, HEIGHT = 520, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 16, 48
MOST_POINTS = 400  # of a line
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Scale:
    """From values to pixels, linear or logarithmic; values outside are drawn at the border."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(value) - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the range."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            stride = max(1, math.ceil((last - first + 1) / most))
            return [10.0**k for k in range(first, last + 1, stride)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        return [k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


@dataclass
class Chart:
    """A figure that grows by lines, ranges and dots, and then becomes one `<figure>` with a text alternative.

    Attributes:
        name: of the figure, unique on the page. title: what it shows. x_label, y_label: of the axes.
        x, y: ranges of the axes. log: whether y is logarithmic.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    height: int = HEIGHT
    x_ticks: Sequence[tuple[float, str]] | None = None
    marks: list[Markup] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    @property
    def right(self) -> Scale:
        return Scale(*self.x, LEFT, WIDTH - RIGHT)

    @property
    def up(self) -> Scale:
        return Scale(*self.y, self.height - BOTTOM, TOP, self.log)

    def line(self, xs: Numbers, ys: Numbers, kind: str, label: str = "", width: float = 2.0) -> None:
        """A line; values that are not finite (or not positive on a logarithmic axis) leave a gap.

        Of more points than can be told apart, evenly spaced ones are drawn, with the first and the last.
        """
        if len(xs) > MOST_POINTS:
            picked = np.linspace(0, len(xs) - 1, MOST_POINTS).round().astype(int)
            xs, ys = np.asarray(xs)[picked], np.asarray(ys)[picked]
        runs: list[list[str]] = [[]]
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y) and (y > 0 or not self.log) and (not self.log or y >= self.y[0]):
                runs[-1].append(f"{self.right(float(x)):.1f},{self.up(float(y)):.1f}")
            elif runs[-1]:
                runs.append([])
        for run in runs:
            if run:
                self.marks.append(tag("polyline", points=" ".join(run), class_=f"line {kind}", stroke_width=width))
        self._explain(kind, label)

    def ranges(self, xs: Numbers, lows: Numbers, highs: Numbers, kind: str, label: str = "") -> None:
        """Vertical intervals."""
        width = max(1.5, min(10.0, 0.62 * (WIDTH - LEFT - RIGHT) / max(len(xs), 1)))
        for x, low, high in zip(xs, lows, highs, strict=True):
            top, bottom = self.up(float(high)), self.up(float(low))
            self.marks.append(
                tag("rect", x=self.right(float(x)) - width / 2, y=top, width=width, height=max(bottom - top, 1.2),
                    class_=f"fill {kind}")
            )  # fmt: skip
        self._explain(kind, label)

    def dots(self, xs: Numbers, ys: Numbers, kind: str, label: str = "", size: float = 3.0) -> None:
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                self.marks.append(tag("circle", cx=self.right(float(x)), cy=self.up(float(y)), r=size,
                                      class_=f"fill {kind}"))  # fmt: skip
        self._explain(kind, label)

    def area(self, xs: Numbers, lows: Numbers, highs: Numbers, kind: str, label: str = "") -> None:
        """The region between two lines."""
        there = [f"{self.right(float(x)):.1f},{self.up(float(y)):.1f}" for x, y in zip(xs, highs, strict=True)]
        back = [f"{self.right(float(x)):.1f},{self.up(float(y)):.1f}" for x, y in zip(xs, lows, strict=True)]
        self.marks.append(tag("polygon", points=" ".join(there + back[::-1]), class_=f"area {kind}"))
        self._explain(kind, label)

    def from_here(self, x: float, kind: str, label: str) -> None:
        """Everything from x on, shaded, with its label at the top."""
        at = self.right(x)
        self.marks.insert(0, tag("rect", x=at, y=TOP, width=max(WIDTH - RIGHT - at, 0.0), height=self._depth,
                                 class_=f"area {kind}"))  # fmt: skip
        near_the_end = at > WIDTH * 0.6
        self.marks.append(tag("line", x1=at, x2=at, y1=TOP, y2=self.height - BOTTOM, class_=f"line {kind}"))
        self.marks.append(
            tag("text", label, x=at + (-5 if near_the_end else 5), y=TOP + 13, class_=f"note {kind}",
                text_anchor="end" if near_the_end else "start")
        )  # fmt: skip

    def level(self, y: float, kind: str) -> None:
        """A horizontal line."""
        self.marks.insert(0, tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.up(y), y2=self.up(y),
                                 class_=f"line {kind}"))  # fmt: skip

    def cursor(self, x: float) -> None:
        """A line that the slider moves."""
        at = self.right(x)
        self.marks.append(tag("line", x1=at, x2=at, y1=TOP, y2=self.height - BOTTOM, class_="line cursor",
                              data_cursor=f"{LEFT} {WIDTH - RIGHT} {self.x[0]} {self.x[1]}"))  # fmt: skip

    @property
    def _depth(self) -> float:
        return float(self.height - BOTTOM - TOP)

    def _explain(self, kind: str, label: str) -> None:
        if label:
            self.legend.append((kind, label))

    def _axes(self) -> Markup:
        right, up = self.right, self.up
        found: list[Child] = []
        for value in up.ticks():
            at = up(value)
            found.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
            found.append(tag("text", number(value, self.log), x=LEFT - 7, y=at + 4.5, class_="tick", text_anchor="end"))
        for value, label in self.x_ticks or [(v, number(v)) for v in right.ticks()]:
            found.append(tag("text", label, x=right(value), y=self.height - BOTTOM + 19, class_="tick",
                             text_anchor="middle"))  # fmt: skip
        found.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.height - BOTTOM, y2=self.height - BOTTOM,
                         class_="axis"))  # fmt: skip
        middle = (TOP + self.height - BOTTOM) / 2
        found.append(tag("text", self.x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=self.height - 8, class_="label",
                         text_anchor="middle"))  # fmt: skip
        found.append(tag("text", self.y_label, x=14, y=middle, class_="label", text_anchor="middle",
                         transform=f"rotate(-90 14 {middle:.0f})"))  # fmt: skip
        return tag("g", found, aria_hidden="true")

    def figure(self, alternative: str, *below: Child) -> Markup:
        """The `<figure>`: title, legend, drawing, and what it says in words."""
        drawing = tag("svg", tag("title", self.title, id=f"{self.name}-title"),
                      tag("desc", alternative, id=f"{self.name}-desc"), self._axes(),
                      tag("g", self.marks, aria_hidden="true"), viewBox=f"0 0 {WIDTH} {self.height}", role="img",
                      aria_labelledby=f"{self.name}-title {self.name}-desc")  # fmt: skip
        keys = [tag("li", tag("span", class_=f"key {kind}", aria_hidden="true"), label) for kind, label in self.legend]
        return tag("figure", tag("h3", self.title), tag("ul", keys, class_="legend") if keys else None, drawing,
                   tag("figcaption", alternative), *below)  # fmt: skip


def number(value: float, log: bool = False) -> str:
    """A number on an axis."""
    if log:
        power = round(math.log10(value))
        plain = {0: "1", 1: "10", 2: "100"}
        return plain.get(power, "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")))
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}".replace("-", "−")


def span(values: Numbers, pad: float = 0.06) -> tuple[float, float]:
    """The range of some values with a little room around it."""
    finite = [float(v) for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high - low) * pad or max(abs(high), 1.0) * pad
    return low - room, high + room


def rows_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]], summary: str) -> Markup:
    """The numbers behind a figure, folded away."""
    head = tag("tr", [tag("th", name, scope="col") for name in columns])
    body = [tag("tr", [tag("td", cell) for cell in row]) for row in rows]
    content = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("details", tag("summary", summary), tag("div", content, class_="scroll", tabindex=0, role="region",
                                                       aria_label=caption))  # fmt: skip
