"""The sections of the report page, each from a checked directory to markup; None where there is nothing to show."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from trm_verify.kernel.claims import Conclusion, Convergence, Refuted
from trm_verify.kernel.expect import box_digest, describe, name_of
from trm_verify.kernel.tensor import Tensor
from trm_verify.report.accuracy import AccuracyCurve
from trm_verify.report.charts import Chart, rows_table, span
from trm_verify.report.evidence import Bound, Enclosed, Trace, settling
from trm_verify.report.markup import Child, Markup, joined, tag
from trm_verify.report.reading import ModelDirectory, ReadCertificate
from trm_verify.report.stepper import stepper
from trm_verify.report.text import labels, upper
from trm_verify.report.words import plain, up

SHOWN, MOST_CLAIMS, MOST_LETTERS, MOST_TRACES, MOST_LINES, MOST_DRAWN = 3, 200, 400, 4, 24, 300


def claims(directory: ModelDirectory) -> Markup:
    """Every claim once, in plain words; many of a kind are folded, and so are the kernel's own words."""
    found: dict[str, tuple[Conclusion, list[str]]] = {}
    for certificate in directory.certificates:
        for claim in certificate.claims:
            found.setdefault(describe(claim), (claim, []))[1].append(certificate.name)
    kinds: dict[str, list[Markup]] = {}
    for claim, names in found.values():
        kinds.setdefault(name_of(claim), []).append(_claim(claim, list(dict.fromkeys(names))))
    parts: list[Child] = [tag("ul", map(_rejected, directory.rejected), class_="claims")] if directory.rejected else []
    for items in kinds.values():
        parts.append(tag("ul", items[:SHOWN], class_="claims"))
        if len(items) > SHOWN:
            rest = items[SHOWN:MOST_CLAIMS]
            cut = "" if len(items) <= MOST_CLAIMS else f", {len(rest)} of them here"
            summary = tag("summary", f"{len(items) - SHOWN} more of this kind{cut}")
            parts.append(tag("details", summary, tag("ul", rest, class_="claims")))
    words = [
        text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…" for text in list(found)[: 2 * MOST_CLAIMS]
    ]
    left = len(found) - len(words)
    lines = "\n".join([*words, *([f"… and {left} more (trm-verify show lists all)"] if left else [])])
    parts.append(tag("details", tag("summary", "all of it in the kernel's words"), tag("pre", lines)))
    return joined(parts)


def _claim(claim: Conclusion, names: list[str]) -> Markup:
    refuted = isinstance(claim, Refuted)
    word = tag("b", "✗ REFUTED" if refuted else "✓ PROVED")
    domain = getattr(claim, "domain", None)
    which = f"inputs sha256:{box_digest(domain)[:12]}…, " if isinstance(domain, Tensor) and _many(domain) else ""
    where = tag("small", f"({which}{', '.join(names)})", class_="muted")
    return tag("li", tag("p", word, plain(claim), " ", where), class_="bad" if refuted else "good")


def _many(domain: Tensor) -> bool:
    """Whether plain words do not tell this set of inputs from others: a point, or a ball about one."""
    return domain.bounded and domain.size > 0 and len({domain.fraction(i) for i in range(domain.size)}) > 1


def _rejected(certificate: ReadCertificate) -> Markup:
    text = f"The kernel rejects {certificate.name}: {certificate.error}"
    return tag("li", tag("p", tag("b", "✗ INVALID"), text), class_="bad")


def convergence(traces: list[Trace], proved: Bound | None, directory: ModelDirectory) -> Markup | None:
    """Measured distances against what is proved, and when answers are final."""
    if not traces:
        return None
    traces = traces[:MOST_LINES]
    steps = max(len(t.states) for t in traces) - 1
    lines = [t.errors[:-1] for t in traces]
    ends = [float(v) for values in lines for v in values if v > 0]
    if not ends:
        return None
    low, high = max(min(ends) / 2, max(ends) * 1e-9), max(ends) * 2
    if proved is not None:
        high = max(high, min(proved.at(0) * 2, max(ends) * 1e6))
    chart = Chart("convergence", "Distance to the fixed point", "step", "largest coordinate of the difference",
                  (0, steps), (low, high), log=True)  # fmt: skip
    for i, trace in enumerate(traces):
        chart.line(np.arange(len(trace.errors) - 1), trace.errors[:-1], "measured thin",
                   "" if i else "measured, single inputs", 1.3)  # fmt: skip
    certified = [t for t in traces if t.distances is not None]
    for i, trace in enumerate(certified):
        if trace.distances is not None:
            chart.line(np.arange(len(trace.distances)), trace.distances, "proved thin",
                       "" if i else "certified after an audited inference", 1.3)  # fmt: skip
    words = f"Measured on {len(traces)} inputs, the distance falls from {max(ends):.2g} to {min(ends):.2g}."
    if proved is not None:
        chart.line(range(steps + 1), [proved.at(k) for k in range(steps + 1)], "proved", "proved for every input", 2.8)
        words += (
            f" Proved for every input in question: at most {upper(proved.at(0))} at the start, falling at a rate of "
            f"{up(Fraction(proved.rate), 6)} a step, at most {upper(proved.epsilon)} after {proved.steps} steps. "
            f"{_compared(traces, proved)}"
        )
    return tag("div", chart.figure(words), _settling(directory), class_="side")


def _compared(traces: list[Trace], proved: Bound) -> str:
    over = sum(bool(t.errors[k] > proved.at(k)) for t in traces for k in range(len(t.errors) - 1))
    if not over:
        return "Every measured point lies below that line."
    return (
        f"{over} measured points lie above that line: the line is about exact arithmetic, the points are subject to "
        "the model's own rounding."
    )


def _settling(directory: ModelDirectory) -> Markup | None:
    found = sorted(settling(directory), key=lambda each: each[1])
    if len(found) < 2:
        return None
    shown = found[:MOST_DRAWN]
    last = shown[-1][1]
    chart = Chart("settling", "When answers are final", "step from which the answer is proved final", "answers so far",
                  (0, max(last * 1.08, 1)), (0, len(shown) + 1))  # fmt: skip
    chart.dots([s for _, s, _ in shown], range(1, len(shown) + 1), "final", "one set of inputs each", 3.6)
    middle = shown[len(shown) // 2][1]
    rows = [[name, labels(answer, 8), str(step)] for name, step, answer in shown]
    return chart.figure(
        f"{len(shown)} answers are proved final: half of them by step {middle}, all by step {last}.",
        rows_table("Proved answers", ["certificate", "answer", "final from step"], rows, "the numbers as a table"),
    )


def inference(traces: list[Trace]) -> Markup | None:
    """The traces step by step."""
    shown = traces[:MOST_TRACES]
    if not shown:
        return None
    parts: list[Markup] = []
    for i, trace in enumerate(shown):
        parts.append(tag("h3", trace.title[0].upper() + trace.title[1:]))
        if trace.distances is None:
            parts.append(tag("p", "Only measured: no certificate of this run is here; trm-verify audit makes one.",
                             class_="muted"))  # fmt: skip
        parts.append(stepper(trace, f"trace{i}"))
    if len(traces) > len(shown):
        parts.append(tag("p", f"{len(traces) - len(shown)} more inferences are not shown.", class_="muted"))
    return joined(parts)


def enclosure(found: list[Enclosed], traces: list[Trace]) -> Markup | None:
    """Where fixed points lie, coordinate by coordinate, and how clear the answer is there."""
    boxes = list(found)
    for trace in traces:
        if trace.distances is not None:
            last, reach = trace.states[-1], float(trace.distances[-1])
            boxes.append(Enclosed(f"the end of {trace.title}", last - reach, last + reach))
    if not boxes:
        return None
    first = boxes[0]
    count = min(len(first.low), MOST_DRAWN)
    order = np.arange(count)
    chart = Chart("enclosure", "Enclosure of the fixed point", "coordinate of the state", "value", (-1, count),
                  span(np.concatenate([first.low[:count], first.high[:count]])))  # fmt: skip
    chart.ranges(order, first.low[:count], first.high[:count], "proved", "proved: a fixed point's coordinate lies here")
    cut = "" if count == len(first.low) else f" The first {count} of {len(first.low)} coordinates are drawn."
    drawn = chart.figure(
        f"{first.title[0].upper()}{first.title[1:]}: on average about {float(first.width.mean()):.3g} wide, "
        f"at most {_widest(first)}.{cut}",
        rows_table("Enclosures", ["of", "mean width", "largest width", "margin"],
                   [[b.title, f"{float(b.width.mean()):.3g}", f"≤ {_widest(b)}",
                     "–" if b.margin is None else f"≥ {math.floor(b.margin * 1e4) / 1e4:.4f}"]
                    for b in boxes[:200]], "all enclosures as a table"),
    )  # fmt: skip
    return joined([tag("div", drawn, margins(found, traces), class_="side")])


def _widest(box: Enclosed) -> str:
    return upper(math.nextafter(float(box.width.max()), math.inf))


def margins(found: list[Enclosed], traces: list[Trace]) -> Markup | None:
    """How far the proved answer's logit is above every other: over enclosures, or step by step along a run."""
    known = [b.margin for b in found if b.margin is not None][:MOST_DRAWN]
    if known:
        low, high = span([*known, 0.0])
        chart = Chart(
            "margins", "Margins of the answers", "enclosure", "logit difference", (0, len(known) + 1), (low, high)
        )
        chart.level(0.0, "plain")
        chart.ranges(range(1, len(known) + 1), [min(m, 0.0) for m in known], [max(m, 0.0) for m in known], "final",
                     "smallest difference over the whole enclosure")  # fmt: skip
        clear = sum(m > 0 for m in known)
        return chart.figure(
            f"In {clear} of {len(known)} enclosures the box alone shows the answer"
            + ("." if clear == len(known) else "; others are proved by finer rules or in parts.")
        )
    trace = next((t for t in traces if t.low is not None and t.logits is not None and t.final is not None), None)
    if trace is None or trace.low is None or trace.high is None or trace.logits is None or not trace.answers[-1]:
        return None
    answer = trace.answers[-1]
    measured = [_margin(z, z, answer) for z in trace.logits]
    proved = [_margin(a, b, answer) for a, b in zip(trace.low, trace.high, strict=True)]
    low, high = span([*measured, 0.0], 0.15)
    chart = Chart("margins", "Margin of the answer, step by step", "step", "logit difference", (0, len(measured) - 1),
                  (low - 0.5 * (high - low), high))  # fmt: skip
    chart.level(0.0, "plain")
    chart.from_here(trace.final or 0, "final", f"final from step {trace.final}")
    shown = [v if v >= chart.y[0] else math.nan for v in proved]
    chart.line(range(len(proved)), shown, "proved", "shown by the bars of this step", 2.4)
    chart.line(range(len(measured)), measured, "measured", "measured at this step")
    return chart.figure(
        f"The measured margin ends at {measured[-1]:.3g}; the bars of the last step show at least "
        f"{math.floor(proved[-1] * 1e4) / 1e4:.4g}. The certificate compares logits pair by pair, which is finer than "
        "bars, so the answer can be final earlier."
    )


def _margin(low: np.ndarray, high: np.ndarray, answer: tuple[int, ...]) -> float:
    """The least of (own low − other high) over positions and other classes.

    Shape: low and high (positions, classes).
    """
    least = math.inf
    for position, label in enumerate(answer):
        others = np.delete(high[position], label)
        if len(others):
            least = min(least, float(low[position, label] - others.max()))
    return least


def accuracy(curve: AccuracyCurve | None) -> Markup | None:
    """Certified accuracy against the radius of the ball."""
    if curve is None:
        return None
    radii = [float(p.eps) for p in curve.points]
    lower = [100 * p.certified / p.total for p in curve.points]
    above = [100 * (p.total - p.wrong) / p.total for p in curve.points]
    chart = Chart("accuracy", "Certified accuracy", "radius ε of the ball of inputs", "per cent of the inputs",
                  span(radii) if len(set(radii)) > 1 else (0, radii[0] * 2 or 1), (0, 105))  # fmt: skip
    chart.area(radii, lower, above, "plain")
    chart.line(radii, above, "measured", "no counterexample found")
    chart.dots(radii, above, "measured")
    chart.line(radii, lower, "proved", "proved for every input of the ball", 2.6)
    chart.dots(radii, lower, "proved")
    rows = [[p.eps, str(p.certified), str(p.wrong), str(p.open), str(p.total)] for p in curve.points]
    columns = ["ε", "proved", "counterexample", "open", "inputs"]
    drawn = chart.figure(
        f"Of {curve.points[0].total} inputs, {lower[0]:.1f} % are proved right at ε = {curve.points[0].eps} and "
        f"{lower[-1]:.1f} % at ε = {curve.points[-1].eps}. These counts come from accuracy.json beside the model; "
        "their certificates are not part of this page.",
        rows_table("Certified accuracy", columns, rows, "the numbers as a table"),
    )
    return tag("div", drawn, class_="side")


def steps_to_draw(directory: ModelDirectory, most: int) -> int:
    """How many steps bring a measured run near its end, by the proved rate."""
    rates = [float(c.rate) for each in directory.certificates for c in each.claims if isinstance(c, Convergence)]
    rate = min(rates, default=0.9)
    return most if rate >= 1 else max(12, min(most, math.ceil(math.log(1e-7) / math.log(max(rate, 1e-3)))))
