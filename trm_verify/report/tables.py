"""Terminal tables. What is printed of a bound is rounded up, so that it stays one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trm_verify.report.text import abbreviated, labels, pace, short, size, upper
from trm_verify.result import CAVEAT, VerificationResult, remedies

MOST_OF_A_KIND = 6
STYLES = {
    "PROVED": "bold green", "VALID": "bold green", "REFUTED": "bold red", "INVALID": "bold red",
    "UNKNOWN": "bold yellow", "NOT CHECKED": "bold yellow", "UNREADABLE": "bold red", "INTERNAL ERROR": "bold red",
}  # fmt: skip


def verdict(word: str) -> Text:
    """A verdict in its colour."""
    return Text(word, style=STYLES.get(word, ""))


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table without frame; the columns in `numbers` are right-aligned."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        found.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    return found


def fields(values: Mapping[str, object]) -> Table:
    """Names and values, one pair a line."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    found.add_column(style="dim", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in values.items():
        found.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return found


def print_results(console: Console, results: Sequence[VerificationResult], overall: str, *, batch: bool) -> None:
    """The verdict, what was proved or why not, what each prover gave, and a line for each input."""
    first = results[0]
    console.print(Text.assemble(verdict(overall), f"  ({CAVEAT})"), soft_wrap=True)
    claims = table("", "claim")
    for claim in first.claims.values():
        if not batch or "answer" not in claim.name:
            said = claim.statement if claim else f"{claim.name}: {claim.reason}"
            claims.add_row(verdict(str(claim.verdict)), short(said or claim.name))
    console.print(Padding(claims, (1, 0, 1, 0)))
    if any(statements(r) != statements(first) for r in results):
        console.print("these are the claims of input 0; others have claims of their own (--json lists them)\n")
    tried = table("tried", "norm", "rate", "seconds", "", numbers=("rate", "seconds"))
    for trial in first.trials:
        rate = "–" if trial.rate is None else upper(trial.rate, 9)
        tried.add_row(trial.prover, trial.norm, rate, f"{trial.seconds:.2f}", "" if trial.rate else short(trial.reason))
    console.print(tried)
    if batch:
        console.print()
        console.print(inputs_table(results))
        done = sum(bool(r) for r in results)
        console.print(f"{done} of {len(results)} inputs proved", style="bold")
    for remedy in remedies(results):
        console.print(f"what would help: {remedy}", soft_wrap=True)
    console.print()


def statements(result: VerificationResult) -> list[tuple[str, str]]:
    """What is said of the loop, answers left out: inputs may share it, or have it each for its own ball."""
    return [(str(c.verdict), c.statement or c.name) for c in result.claims.values() if "answer" not in c.name]


def inputs_table(results: Sequence[VerificationResult]) -> Table:
    """A line for each input: verdict, answer, the step from which it is final, how it was closed, and why not.

    Margin, width of the enclosure and time are those of the search over the fixed points, where there was one.
    """
    searched = any(result.details is not None for result in results)
    extra = ("margin", "width", "seconds", "closed by") if searched else ()
    numbers = ("input", "answer", "final after", *extra[:3])
    found = table("input", "verdict", "answer", "final after", *extra, "why not", numbers=numbers)
    for number, result in enumerate(results):
        claim = next((c for c in result.claims.values() if "answer" in c.name or c.name == "input"), None)
        steps = "–" if result.answer_steps is None else f"{result.answer_steps} steps"
        reason = "" if claim is None or claim else short(claim.reason)
        cells = _search_cells(result) if searched else []
        found.add_row(str(number), verdict(str(result.verdict)), labels(result.answer), steps, *cells, reason)
    return found


def _search_cells(result: VerificationResult) -> list[str]:
    """Margin (rounded down), width (up), seconds, and the rule that closed the question."""
    details = result.details
    if details is None:
        return ["–", "–", "–", "convergence" if result.answer is not None else ""]
    margin = "–" if details.margin is None else f"{np.floor(details.margin * 1e4) / 1e4:.4f}"
    width = "–" if details.width is None else upper(details.width)
    return [margin, width, f"{details.seconds:.2f}", details.rule]


def print_run(console: Console, run: Any) -> None:
    """The trace of a `RunResult`: what the model thinks at each step, and how far that is from the fixed point."""
    console.print(
        Text.assemble(
            verdict("PROVED"), f"  answer {labels(run.answer)} is final from step {run.final} on  ({CAVEAT})"
        ),
        soft_wrap=True,
    )
    found = table(
        "step", "answer", "moved by", "distance to z*", "", numbers=("step", "answer", "moved by", "distance to z*")
    )
    last = len(run.answers) - 1
    for k, answer in enumerate(run.answers):
        if k > run.final + 8 and k < last - 1:
            if k == run.final + 9:
                found.add_row("…", "", "", "", "")
            continue
        moved = "–" if k == 0 else f"{run.residuals[k - 1]:.2e}"
        note = "final from here on" if k == run.final else ""
        found.add_row(str(k), labels(answer), moved, f"<= {upper(run.distances[k])}", Text(note, style="green"))
    console.print(Padding(found, (1, 0, 1, 0)))
    worst = upper(float(run.drifts.max()))
    console.print(f"{pace(run)}; stored states are within {worst} of exact steps", soft_wrap=True)


def print_refutations(console: Console, result: Any) -> None:
    """A `RefutationResult`: what is false and why, what was only observed, and what was tried."""
    console.print(Text.assemble(verdict(str(result.verdict)), f"  ({CAVEAT})"), soft_wrap=True)
    found = table("", "claim")
    for each, statement in zip(result.refutations, result.statements, strict=True):
        found.add_row(verdict("REFUTED"), short(f"{each.of}: {each.sentence}"))
        found.add_row("", Text(short(statement), style="dim"))
    if result.refutations:
        console.print(Padding(found, (1, 0, 1, 0)))
    else:
        console.print("no two fixed points and no cycle were proved", soft_wrap=True)
    for text in (*result.observations, *result.reasons):
        console.print(short(text), soft_wrap=True)
    if result.expansion is not None:
        console.print(f"largest ratio of distances that was met: {result.expansion:.6g}", soft_wrap=True)


def print_check(console: Console, item: Mapping[str, Any]) -> None:
    """The kernel's report on one certificate."""
    missing = [m for m in item.get("not_compared", ()) if m in ("claim", "graph")]
    note = f" ({' and '.join(missing)} not compared)" if missing else ""
    name = short(item["certificate"])
    weights = Path(item.get("weights_file") or name).name
    if not Path(name).name.startswith(weights.removesuffix(".safetensors")):
        name += f", about {short(weights)}"  # not what its own name says
    console.print(Text.assemble(verdict(item["verdict"]), f"{note}  {name}"), soft_wrap=True)
    if item["verdict"] != "VALID":
        console.print(f"  {short(item['message'])}", soft_wrap=True)
        return
    rest = [m for m in item["not_compared"] if m not in ("claim", "graph")]
    console.print(_kernel_fields(item), soft_wrap=True)
    for line in _some(item["claims"]):
        console.print(line, soft_wrap=True)
    if rest:
        console.print(f"  not compared: {', '.join(rest)}", soft_wrap=True)


def _some(claims: Sequence[str]) -> list[str]:
    """A line for each claim; of many of one kind, the first few and how many more."""
    lines, seen = [], Counter[str]()
    for claim in claims:
        kind = claim.split("(")[0]
        seen[kind] += 1
        if seen[kind] <= MOST_OF_A_KIND:
            lines.append(f"  proved     {short(claim)}")
    more = [f"{count - MOST_OF_A_KIND} more of {kind}" for kind, count in seen.items() if count > MOST_OF_A_KIND]
    return [*lines, *([f"  proved     … and {', '.join(more)} (--json lists all)"] if more else [])]


def _kernel_fields(item: Mapping[str, Any]) -> Text:
    unused = ", ".join(map(short, item["unused"])) or "no tensor"
    return Text(
        f"  weights    sha256:{item['weights']}\n  graph      sha256:{item['graph']}\n"
        f"  unused     {unused}\n  semantics  {item['semantics']} arithmetic; float32 rounding not covered"
    )


def print_certificate(console: Console, data: Mapping[str, Any]) -> None:
    """What a certificate states, after the kernel's verdict on it."""
    inside = data["contents"]
    if data["verdict"] == "NOT CHECKED":
        console.print(Text.assemble(verdict("NOT CHECKED"), f"  {short(data['certificate'])}"), soft_wrap=True)
        console.print(f"  {data['message']}: what follows is what the file says, true or not", soft_wrap=True)
    else:
        print_check(console, data)
    console.print()

    def counted(values: Mapping[str, int]) -> str:
        return ", ".join(f"{count} × {name}" for name, count in values.items()) or "none"

    console.print(fields({
        "size": size(data["certificate_bytes"]), "made by": inside["produced_by"],
        "about": f"{inside['subject']} sha256:{abbreviated(inside['weights_sha256'])}",
        "state": inside["state"], "input": inside["input"],
        "graph": ", ".join(f"{name} {count} nodes" for name, count in inside["nodes"].items()) or "none",
        "operations": counted(inside["operations"]), "norms": ", ".join(inside["norms"]) or "none",
        "rules": counted(inside["rules"]), "claims": counted(inside["claimed"]),
    }))  # fmt: skip
