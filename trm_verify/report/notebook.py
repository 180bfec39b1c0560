"""Results in notebooks: a small table as HTML, and a figure. One function a kind of result, one line in each table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trm_verify.auditing import AttractorMap, RefutationResult
from trm_verify.kernel.claims import Convergence
from trm_verify.report.accuracy import AccuracyCurve
from trm_verify.report.evidence import Bound, bound_of
from trm_verify.report.figures import (
    FINAL,
    FLOOR,
    MEASURED,
    PROVED,
    accuracy_figure,
    blank,
    run_figure,
    styled,
)
from trm_verify.report.maps import attractor_figure
from trm_verify.report.markup import Child, Markup, tag
from trm_verify.report.text import abbreviated, labels, pace, upper
from trm_verify.result import CAVEAT, VerificationResult, VerificationResults
from trm_verify.verification.commits import CommitResult
from trm_verify.verification.lipschitz import LipschitzResult
from trm_verify.verification.runs import RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 60
# tones that can be read on white and on black
_COLORS = {"PROVED": "#2f9a63", "REFUTED": "#d2553a", "UNKNOWN": "#b07d12"}
_CELL = "text-align:left;vertical-align:top;padding:0.15em 1em 0.15em 0"


def html_of(result: object) -> Markup:
    """The result as an HTML fragment.

    Raises:
        TypeError: not a result of this library.
    """
    shown: Markup = _find(_HTML, result)(result)
    return shown


def figure_of(result: object) -> Figure:
    """The result as a figure.

    Raises:
        TypeError: not a result that is drawn. ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is nothing to draw.
    """
    figure: Figure = _find(_FIGURES, result)(result)
    return figure


def _find(table: dict[type, Callable[[Any], Any]], result: object) -> Callable[[Any], Any]:
    for kind, shown in table.items():
        if isinstance(result, kind):
            return shown
    raise TypeError(f"expected one of {', '.join(k.__name__ for k in table)}, found {type(result).__name__}")


def _verdict(word: object) -> Markup:
    return tag("b", str(word), style=f"color:{_COLORS.get(str(word), 'inherit')}")


def _head(word: object, *more: Child) -> Markup:
    return tag("p", _verdict(word), " ", *more, tag("small", f" ({CAVEAT})"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Markup:
    head = tag("tr", [tag("th", name, style=_CELL) for name in columns])
    body = [tag("tr", [tag("td", cell, style=_CELL) for cell in row]) for row in rows[:MOST_ROWS]]
    more = len(rows) - MOST_ROWS
    note = tag("p", tag("small", f"… and {more} more")) if more > 0 else None
    return tag("div", tag("table", tag("thead", head), tag("tbody", body)), note)


def _one(result: VerificationResult) -> Markup:
    facts = []
    if result.rate is not None:
        facts.append(f"rate ≤ {upper(result.rate, 6)} in {result.norm}")
    if result.answer is not None:
        steps = "" if result.answer_steps is None else f", final after {result.answer_steps} steps"
        facts.append(f"answer {labels(result.answer)}{steps}")
    rows = [
        [_verdict(claim.verdict), claim.name, tag("small", abbreviated(claim.statement or claim.reason))]
        for claim in result.claims.values()
    ]
    helps = dict.fromkeys(c.remedy for c in result.claims.values() if c.remedy and not c)
    return tag("div", _head(result.verdict, "; ".join(facts)), _table(["", "claim", ""], rows),
               [tag("p", f"What would help: {text}") for text in helps])  # fmt: skip


def _many(results: VerificationResults) -> Markup:
    rows = []
    for number, result in enumerate(results):
        why = "; ".join(c.reason for c in result.claims.values() if c.reason and not c)
        steps = "–" if result.answer_steps is None else str(result.answer_steps)
        rows.append([str(number), _verdict(result.verdict), labels(result.answer), steps, tag("small", why)])
    done = sum(bool(r) for r in results)
    return tag("div", tag("p", f"{done} of {len(results)} inputs proved", tag("small", f" ({CAVEAT})")),
               _table(["input", "verdict", "answer", "final after", ""], rows))  # fmt: skip


def _run(run: RunResult) -> Markup:
    rows = [
        [str(k), labels(answer, 8), "–" if k == 0 else f"{run.residuals[k - 1]:.2e}",
         f"≤ {upper(float(run.distances[k]))}", "final from here on" if k == run.final else ""]
        for k, answer in enumerate(run.answers)
    ]  # fmt: skip
    text = f"answer {labels(run.answer)}, final from step {run.final}; {pace(run).replace('<=', '≤')}"
    return tag("div", _head("PROVED", text), _table(["step", "answer", "moved by", "distance to z*", ""], rows))


def _refutations(result: RefutationResult) -> Markup:
    rows = [[_verdict("REFUTED"), each.of, each.sentence] for each in result.refutations]
    notes = [tag("p", tag("small", text)) for text in (*result.observations, *result.reasons)]
    return tag("div", _head(result.verdict), _table(["", "claim", "why"], rows) if rows else None, notes)


def _attractors(found: AttractorMap) -> Markup:
    rows = [[f"{100 * each.share:.1f} %", str(each), "the model's own start" if k == found.own else ""]
            for k, each in enumerate(found.attractors)]  # fmt: skip
    rows += [["none", str(each), ""] for each in found.unreached]
    text = f"{len(found.starts)} starts, observed in floating point"
    return tag("div", _head(found.verdict, text), _table(["starts", "", ""], rows))


def _lipschitz(result: LipschitzResult) -> Markup:
    text = result.reason if result.constant is None else f"Lipschitz constant ≤ {upper(result.constant, 6)} in ℓ2"
    statement = tag("p", tag("small", abbreviated(result.statement))) if result.statement else None
    return tag("div", _head(result.verdict, text), statement)


def _commits(result: CommitResult) -> Markup:
    rows = [
        [str(r), ", ".join(str(cell) for cell, own in enumerate(result.committed or ()) if own == r) or "none"]
        for r in range(1, (result.rounds or 0) + 1)
    ]
    text = f"answer {labels(result.answer)}, with any {result.steps} or more steps a round" if result else result.reason
    return tag("div", _head(result.verdict, text), _table(["round", "cells committed"], rows))


def _curve(curve: AccuracyCurve) -> Markup:
    rows = [[p.eps, str(p.certified), str(p.wrong), str(p.open), str(p.total)] for p in curve.points]
    return _table(["ε", "certified", "counterexample", "open", "inputs"], rows)


def result_figure(result: VerificationResult) -> Figure:
    """What is proved of one result: how fast it settles, and where.

    Raises:
        ValueError: neither a rate with a bounded start nor an enclosure was proved.
    """
    claims = () if result.certified is None else result.certified()[1].claims
    line = bound_of([claim for claim in claims if isinstance(claim, Convergence)])
    if line is None and result.enclosure is None:
        raise ValueError(
            "expected a proved bound K(ε) or an enclosure to draw, found neither (a bound on the start needs a bounded "
            "domain); see result.explain()"
        )
    count = (line is not None) + (result.enclosure is not None)
    figure = blank(6.4 if count == 1 else 9.2, 3.8)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    if line is not None:
        _draw_bound(axes.pop(0), line, result)
    if result.enclosure is not None:
        center, radius = result.enclosure.center.ravel(), result.enclosure.radius.ravel()
        axes[0].errorbar(np.arange(len(center)), center, yerr=radius, fmt="none", ecolor=PROVED, elinewidth=1.6)
        axes[0].scatter(np.arange(len(center)), center, s=6, color=PROVED, linewidths=0)
        axes[0].set(xlabel="coordinate of the state", title="Where the fixed points lie")
        axes[0].set_ylabel("value")
        styled(axes[0], grid=True)
    return figure


def _draw_bound(axes: Any, line: Bound, result: VerificationResult) -> None:
    last = max(line.steps, result.answer_steps or 0, 1)
    steps = np.arange(last + 1)
    axes.semilogy(steps, [max(line.at(k), FLOOR / 100) for k in range(last + 1)], color=PROVED, lw=2.2)
    axes.scatter([line.steps], [line.epsilon], color=PROVED, s=22, zorder=3)
    axes.annotate(f"K({upper(line.epsilon)}) = {line.steps}", (line.steps, line.epsilon), (-6, 8), fontsize=8.5,
                  textcoords="offset points", ha="right", color=PROVED)  # fmt: skip
    if result.answer_steps is not None:
        axes.axvline(result.answer_steps, color=FINAL, lw=1.2)
        axes.annotate(f"answer {labels(result.answer, 8)} final", (result.answer_steps, axes.get_ylim()[1]), (5, -5),
                      textcoords="offset points", va="top", fontsize=8.5, color=FINAL)  # fmt: skip
    axes.set(xlim=(0, last), xlabel="step $k$", title="Proved distance to the fixed point")
    axes.set_ylabel("largest coordinate of $|z_k - z^*|$")
    styled(axes, grid=True)


def results_figure(results: VerificationResults) -> Figure:
    """Input by input: when the answers are final, or, where they hold at the fixed point, by which margin.

    Raises:
        ValueError: no answer is proved.
    """
    settled = {i: r.answer_steps for i, r in enumerate(results) if r.answer_steps is not None and r}
    if settled:
        return _by_input(results, settled, "step", "When the answers are final", "proved final from this step on")
    margins = {i: r.details.margin for i, r in enumerate(results) if r and r.details and r.details.margin is not None}
    if margins:
        return _by_input(results, margins, "smallest logit difference", "Margins of the answers", "proved margin")
    raise ValueError("expected proved answers to draw, found none; see results.explain()")


def _by_input(
    results: VerificationResults, found: Mapping[int, float], label: str, title: str, meaning: str
) -> Figure:  # fmt: skip
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    axes.scatter(list(found.values()), list(found), s=16, color=FINAL, label=meaning)
    rest = [i for i in range(len(results)) if i not in found]
    if rest:
        axes.scatter([0] * len(rest), rest, s=16, color=MEASURED, marker="x", label="not proved")
    axes.set(xlabel=label, title=title)
    axes.set_ylabel(f"{len(results)} inputs")
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8.5)
    styled(axes, grid=True)
    return figure


_HTML: dict[type, Callable[[Any], Markup]] = {
    VerificationResult: _one, VerificationResults: _many, RunResult: _run, RefutationResult: _refutations,
    AttractorMap: _attractors, LipschitzResult: _lipschitz, CommitResult: _commits,
    AccuracyCurve: _curve,
}  # fmt: skip
_FIGURES: dict[type, Callable[[Any], Any]] = {
    VerificationResult: result_figure, VerificationResults: results_figure, RunResult: run_figure,
    AttractorMap: attractor_figure, AccuracyCurve: accuracy_figure,
}  # fmt: skip
