"""Tables that are made when the site is built: measured numbers, and the help of the command line.

<!-- numbers: fixed_points h40-0.05 milp? -->     these rows of docs/benchmarks/fixed_points.json, or all;
                                                   a row with ? may be missing, and is then said to be missing
<!-- commands -->                                  every command with its help
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = re.compile(r"^<!-- numbers: (?P<file>\w+)(?P<rows>[^>]*) -->$", re.MULTILINE)
COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables where their markers are."""
    markdown = NUMBERS.sub(lambda m: table(ROOT / f"docs/benchmarks/{m['file']}.json", m["rows"].split()), markdown)
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def table(path: Path, rows: list[str]) -> str:
    """The rows of a file of measurements as a Markdown table, below the machine they were measured on.

    Raises:
        ValueError: there is no such row; a page that speaks of it would show nothing.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    measures = record["measures"] if "measures" in record else record["rows"]
    known = dict.fromkeys(_row(m) for m in measures)
    if missing := [row for row in rows if not row.endswith("?") and row not in known]:
        raise ValueError(f"{path.name}: expected rows among {', '.join(known)}; found {', '.join(missing)}")
    unmeasured = [row.removesuffix("?") for row in rows if row.removesuffix("?") not in known]
    rows = [row.removesuffix("?") for row in rows]
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    lines = [f"*{path.name}: {machine}*", "", "| | what | measured | floor | note |", "|---|---|---|---|---|"]
    previous = ""
    for m in measures:
        if not rows or _row(m) in rows:
            cells = ["" if _row(m) == previous else f"`{_row(m)}`", m["what"], _value(m), _floor(m), m["note"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            previous = _row(m)
    if unmeasured:
        lines += ["", f"Not part of the published run: {', '.join(f'`{row}`' for row in unmeasured)}."]
    return "\n".join(lines)


def _row(measure: dict[str, Any]) -> str:
    return str(measure["row"] if "row" in measure else measure["topic"])


def _value(measure: dict[str, Any]) -> str:
    if measure["value"] is None:
        return "–"
    number = f"{measure['value']:.6g} {measure['unit']}".strip()
    return f'<span class="number">{number}</span>'


def _floor(measure: dict[str, Any]) -> str:
    ends = [(sign, measure.get(name)) for sign, name in (("≥", "least"), ("≤", "most"))]
    text = ", ".join(f"{sign} {end:.6g}" for sign, end in ends if end is not None)
    mark = {None: "", True: "✓", False: "**missed**"}[measure["reached"]]
    return text and f'<span class="number">{text}</span> {mark}'.strip()


def commands() -> str:
    """A heading and the help text for every command."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = "88"  # what argparse wraps its help to
    from trm_verify.cli.arguments import EXIT_CODES, parser

    top = parser()
    chosen = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    parts = []
    for name, command in chosen.choices.items():
        text = command.format_help().replace(EXIT_CODES, "").rstrip()
        parts.append(f"## `{name}`\n\n```text\n{text}\n```\n")
    return "\n".join([*parts, f"## Exit codes\n\n```text\n{EXIT_CODES}\n```\n"])
