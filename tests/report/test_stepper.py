"""The slider's data: every frame is a step of the run, and a page of large runs stays small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.report.test_markup import Read
from trm_verify.report.evidence import Trace
from trm_verify.report.stepper import stepper


def trace(steps: int, size: int, positions: int, classes: int, final: int | None = None) -> Trace:
    chance = np.random.default_rng(0)
    shrink = 0.8 ** np.arange(steps + 1)
    states = 1 + chance.normal(size=size) * shrink[:, None]
    logits = np.linspace(-1, 1, classes) + chance.normal(size=(positions, classes)) * shrink[:, None, None]
    answers = tuple(tuple(int(v) for v in row) for row in logits.argmax(-1))
    distances = 4 * shrink + 1e-9
    reach = distances[:, None, None]
    return Trace("a run", states, logits, answers, distances, final, logits - reach, logits + reach)


def data(run: Trace) -> dict[str, object]:
    page = stepper(run, "t")
    text = page[page.index('type="application/json">') + 24 :]
    found: dict[str, object] = json.loads(text[: text.index("</script>")])
    return found


@pytest.mark.parametrize("steps, final", [(1, None), (9, 4), (2000, 1234)])
def test_frames_are_steps_of_the_run(steps: int, final: int | None) -> None:
    run = trace(steps, 6, 1, 3, final)
    found = data(run)
    frames = found["steps"]
    assert isinstance(frames, list) and frames == sorted(set(frames)) and len(frames) <= 152
    assert frames[0] == 0 and frames[-1] == steps and (final is None or final in frames)
    assert frames[found["start"]] == (steps if final is None else final)  # type: ignore[call-overload]
    said = found["said"]
    assert isinstance(said, list) and [s.split(" of ")[0] for s in said] == [f"Step {k}" for k in frames]
    for name in ("states", "answers", "logits", "low", "high"):
        rows = found[name]
        assert isinstance(rows, list) and len(rows) == len(frames)
    assert run.logits is not None
    assert np.allclose(found["logits"], run.logits[frames, 0], rtol=1e-4)  # type: ignore[arg-type]


def test_bars_are_cut_at_the_frame_and_never_shortened_inside() -> None:
    run = trace(30, 6, 1, 3, 5)
    found = data(run)
    frame = found["frame"]
    assert isinstance(frame, dict) and run.low is not None and run.high is not None
    low, high = np.array(found["low"]), np.array(found["high"])
    assert (low >= frame["low"] - 1e-3).all() and (high <= frame["high"] + 1e-3).all()
    assert np.allclose(low[-1], run.low[-1, 0], rtol=1e-4) and np.allclose(high[-1], run.high[-1, 0], rtol=1e-4)


def test_several_positions_are_cells_and_the_unsettled_are_marked() -> None:
    read = Read(stepper(trace(12, 6, 9, 4, 8), "t"))
    assert sum("data-position" in a for _, a in read.tags) == 9
    assert "What it would answer" not in read.text, "logits are drawn for one position alone"


def test_large_runs_stay_small() -> None:
    assert len(stepper(trace(3000, 4000, 700, 12, 100), "t").encode()) < 450_000


def test_a_run_that_does_not_move() -> None:
    still = Trace("still", np.zeros((3, 2)), None, ((), (), ()))
    assert "moved by 0" in Read(stepper(still, "t")).text
