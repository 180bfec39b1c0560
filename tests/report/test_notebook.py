"""Results in notebooks: what they show is what they say, escaped; what they draw is where the numbers are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import trm_verify as tv
from tests.report.saved import model
from tests.report.test_markup import Read
from tests.small import autonomous
from trm_verify.report.accuracy import AccuracyCurve, AccuracyPoint

X = torch.tensor([[0.25, 0.5, 0.75], [1.0, 0.0, 0.5]])


@pytest.fixture(scope="module")
def whole() -> tv.VerificationResult:
    return tv.verify_fixed_point(model())


def results() -> Any:
    return tv.verify_fixed_point(model(), X)


RESULTS: dict[str, Callable[[], Any]] = {
    "model": lambda: tv.verify_fixed_point(model()),
    "input": lambda: tv.verify_fixed_point(model(), X[0]),
    "inputs": results,
    "run": lambda: tv.audit(model(), X[0], steps=30),
    "settled run": lambda: tv.audit(
        tv.models.CausalRefiner(tokens=40, features=8, hidden=12, channels=2, seed=3), torch.full((40, 2), 0.5)
    ),
    "map": lambda: tv.attractors(autonomous(lambda z: torch.tanh(3 * z)), starts=8, steps=60),
    "curve": lambda: AccuracyCurve((AccuracyPoint("0.1", 3, 1, 5), AccuracyPoint("0.2", 1, 2, 5))),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_is_shown_and_drawn(name: str) -> None:
    result = RESULTS[name]()
    read = Read(result._repr_html_())
    assert any(tag == "table" for tag, _ in read.tags)
    assert not any(tag == "script" for tag, _ in read.tags)
    if hasattr(result, "verdict"):
        assert str(result.verdict) in read.text
    figure = result.plot()
    assert isinstance(figure, Figure) and all(axes.has_data() for axes in figure.axes)


def test_a_hostile_reason_stays_text(whole: tv.VerificationResult) -> None:
    bad = {name: replace(claim, statement="<script>alert(1)</script>") for name, claim in whole.claims.items()}
    shown = replace(whole, claims=bad)._repr_html_()
    assert "<script" not in shown and "&lt;script&gt;" in shown


def test_the_proved_bound_is_drawn_where_it_is(whole: tv.VerificationResult) -> None:
    (axes,) = whole.plot().axes
    (line,) = axes.lines
    steps, heights = line.get_data()
    for k, height in zip(steps, heights, strict=True):
        assert whole.steps(float(height) * 1.0001) <= k
    assert axes.get_yscale() == "log"


def test_answers_are_drawn_where_they_are_final() -> None:
    found = results()
    offsets = np.asarray(found.plot().axes[0].collections[0].get_offsets())
    assert offsets.tolist() == [[r.answer_steps, i] for i, r in enumerate(found)]


def test_nothing_to_draw() -> None:
    unknown = tv.verify_fixed_point(autonomous(lambda z: 2 * torch.tanh(z)), timeout=1)
    assert unknown.verdict is not tv.PROVED
    if unknown.enclosure is None:
        with pytest.raises(ValueError, match="explain"):
            unknown.plot()
    assert str(unknown.verdict) in Read(unknown._repr_html_()).text


def test_without_matplotlib_the_message_says_what_to_install(
    whole: tv.VerificationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trm-verify\[plot\]'"):
        whole.plot()
    assert "PROVED" in whole._repr_html_()


def test_results_do_not_bring_their_presentation_along() -> None:
    code = (
        "import sys, trm_verify.result\n"
        "print([m for m in sys.modules if m.startswith(('trm_verify.report', 'matplot'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
