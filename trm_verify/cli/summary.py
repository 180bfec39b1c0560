"""What `trm-verify ci` found: lines for a terminal, and Markdown with a table and a figure for a job's summary.

Standard library only. The figure is a Mermaid chart, which GitHub and GitLab draw from text.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

Item = dict[str, Any]
MOST_CURVES = 6
GOAL = 6  # decimal digits that the distance loses in the figure
_RATE = re.compile(r"^(?:convergence|contraction)\(rate<=([0-9.]+(?:e-?[0-9]+)?),")
_SIGNS = {0: "✅", 1: "❌", 2: "⚠️", 3: "❔", 4: "💥"}


def rate(item: Item) -> Decimal | None:
    """The largest rate among the claims of a valid certificate."""
    found = [_RATE.match(claim) for claim in item.get("claims", ())]
    return max((Decimal(match[1]) for match in found if match), default=None)


def _rounded(value: Decimal) -> str:
    """Six digits, never below the value."""
    return format(Context(prec=6, rounding=ROUND_CEILING).plus(value), "f")


def _said(item: Item) -> str:
    verdict = str(item["verdict"])
    made = f", {item['made']}" if item.get("made") else ""
    return verdict + (" (checked before)" if item.get("cached") else "") + made


def _label(item: Item) -> str:
    return str(item["certificate"] or item["model"])


def counts(items: Sequence[Item]) -> str:
    """How many certificates have which verdict."""
    verdicts = [str(item["verdict"]).lower() for item in items]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))


def _plain(text: object) -> str:
    """One printable line: names and messages may come from hostile files."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def lines(items: Sequence[Item]) -> Iterator[str]:
    """For a terminal."""
    for item in items:
        known = rate(item)
        yield _plain(f"{_said(item):10} {_label(item)}" + ("" if known is None else f"  rate {_rounded(known)}"))
        if item.get("message"):
            yield f"  {_plain(item['message'])}"
        missing = [name for name in item.get("not_compared", ()) if name in ("claim", "graph")]
        if missing:
            yield f"  not compared: {' and '.join(missing)}"
    yield counts(items)


def _cell(text: object) -> str:
    """Text inside a table: no markup of its own, one line."""
    return html.escape(_plain(text)).replace("|", "&#124;").replace("`", "&#96;").replace("\\", "&#92;")


def markdown(items: Sequence[Item]) -> str:
    """A heading, a table, and the proved convergence as a figure."""
    good = all(item["exit_code"] == 0 for item in items)
    text = [f"### {'✅' if good else '❌'} Certificates of recursive models: {_cell(counts(items))}", ""]
    text += ["| | certificate | verdict | rate | claims | weights |", "|---|---|---|---|---|---|"]
    for item in items:
        known = rate(item)
        names = dict.fromkeys(claim.split("(")[0] for claim in item.get("claims", ()))
        cells = [
            _SIGNS.get(item["exit_code"], "❔"), _cell(_label(item)), _cell(_said(item)),
            "" if known is None else _rounded(known), _cell(", ".join(names) or item.get("message", "")),
            _cell(str(item.get("weights", ""))[:12]),
        ]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    text += ["", "Real arithmetic over the stored weights; float32 rounding is not covered.", "", *_figure(items)]
    return "\n".join(text) + "\n"


def _figure(items: Sequence[Item]) -> Iterator[str]:
    """The bound ρᵏ on the distance to the fixed point, relative to where the loop starts."""
    known = [(_label(item), value) for item in items if (value := rate(item)) is not None and 0 < value < 1]
    slowest = sorted(known, key=lambda pair: pair[1], reverse=True)[:MOST_CURVES]
    if not slowest:
        return
    slopes = [math.log10(value) for _, value in slowest]
    last = math.ceil(GOAL / -slopes[0])
    ticks = [round(last * i / 20) for i in range(21)]
    yield from (
        "```mermaid", "xychart-beta",
        '    title "Proved distance to the fixed point, digits of its start (log10)"',
        f'    x-axis "step" 0 --> {last}', f'    y-axis "log10 of the bound" -{GOAL} --> 0',
    )  # fmt: skip
    for slope in slopes:
        values = (math.ceil(1000 * max(slope * k, -GOAL)) / 1000 for k in ticks)
        yield f"    line [{', '.join(format(v + 0.0, '.3f') for v in values)}]"
    yield "```"
    more = f"; the slowest {MOST_CURVES} of {len(known)}" if len(known) > MOST_CURVES else ""
    curves = "; ".join(f"{_cell(label)} at rate {_rounded(value)}" for label, value in slowest)
    yield f"Slowest first{more}: {curves}."
