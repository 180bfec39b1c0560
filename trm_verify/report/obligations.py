"""The table of `trm-verify obligations`: what was exported, and what each solver says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from trm_verify.report.tables import table
from trm_verify.report.text import short

STYLES = {"unsat": "green", "sat": "bold red"}


def print_obligations(console: Console, found: Sequence[Mapping[str, Any]], *, each: bool) -> None:
    """A line for each script, or (not `each`) for each certificate; then whatever is not as it should be."""
    solvers = list(dict.fromkeys(name for item in found for name in item["solvers"]))
    if each:
        _print_scripts(console, found[0], solvers)
    else:
        _print_certificates(console, found, solvers)
    rows = [(item, row) for item in found for row in item["obligations"]]
    for item in found:
        if item["kernel"] != "VALID":
            console.print(f"the kernel refuses {short(item['certificate'])}: {short(item['kernel'])}", soft_wrap=True)
    for item, row in rows:
        where = "" if each else f"{short(item['certificate'])}: "
        if row["status"] == "not exported":
            console.print(f"not exported  {where}{row['name']}: {short(row['reason'])}", soft_wrap=True)
        for solver, answer in row["answers"].items():
            if answer["answer"] != "unsat":
                said = f"{solver} says {answer['answer']} {short(answer['note'])}".rstrip()
                console.print(f"not refuted   {where}{row['name']}: {said}", soft_wrap=True)
    statuses = Counter(row["status"] for _, row in rows)
    parts = [f"{count} {status}" for status, count in sorted(statuses.items())]
    for solver in solvers:
        answers = Counter(row["answers"][solver]["answer"] for _, row in rows if solver in row["answers"])
        seconds = sum(row["answers"][solver]["seconds"] for _, row in rows if solver in row["answers"])
        parts.append(f"{solver}: {', '.join(f'{n} {word}' for word, n in sorted(answers.items()))} in {seconds:.1f} s")
    console.print("; ".join(parts) or "nothing", style="bold", soft_wrap=True)


def _word(answer: str) -> Text:
    return Text(answer, style=STYLES.get(answer, "bold yellow"))


def _print_scripts(console: Console, item: Mapping[str, Any], solvers: Sequence[str]) -> None:
    lines = table("", "rule", "goals", "logic", *solvers, "seconds", numbers=("goals", "seconds"))
    for row in item["obligations"]:
        kind, number, *_ = row["name"].split("_")
        words = [_word(row["answers"][s]["answer"]) if s in row["answers"] else Text("–") for s in solvers]
        seconds = sum(answer["seconds"] for answer in row["answers"].values())
        exported = row["status"] == "exported"
        lines.add_row(
            f"{kind} {int(number)}", short(row["rule"]), str(row["goals"]) if exported else "–",
            row["logic"] if exported else row["status"], *words, f"{seconds:.2f}" if row["answers"] else "–",
        )  # fmt: skip
    console.print(lines)


def _print_certificates(console: Console, found: Sequence[Mapping[str, Any]], solvers: Sequence[str]) -> None:
    lines = table("certificate", "scripts", *solvers, "seconds", numbers=("scripts", "seconds"))
    for item in found:
        words = []
        for solver in solvers:
            answers = {r["answers"][solver]["answer"] for r in item["obligations"] if solver in r["answers"]}
            worst = next((a for a in ("sat", "error", "timeout", "unknown", "unsat") if a in answers), "–")
            words.append(_word(worst))
        spent = sum(a["seconds"] for r in item["obligations"] for a in r["answers"].values())
        name = item["certificate"].rpartition("/")[2].removesuffix(".trmcert.json")
        lines.add_row(short(name), str(item["exported"]), *words, f"{spent:.2f}")
    console.print(lines)
