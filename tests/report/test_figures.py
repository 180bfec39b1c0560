"""Figures: the bound is drawn where it is, files are written whole, the same data give the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from trm_verify.report import Curve, convergence_figure, run_figure, save_figure
from trm_verify.report.figures import FINAL, PROVED


def convergence() -> Figure:
    steps = np.arange(31)
    curves = [Curve(2 * 0.6**steps, 20 * 0.6**steps, 9), Curve(3 * 0.5**steps, None, None)]
    return convergence_figure(curves, 100.0, 0.9, [(1, 9), (0, 7)])


def run() -> SimpleNamespace:
    distances = 5 * 0.7 ** np.arange(11)
    return SimpleNamespace(distances=distances, residuals=np.append(distances[1:10], 0.0), final=4, answer=(3,))


def test_the_proved_bound_is_drawn_as_it_is() -> None:
    axes = convergence().axes[0]
    bound = next(line for line in axes.lines if line.get_linewidth() > 2)
    assert to_hex(bound.get_color()) == PROVED
    assert np.allclose(bound.get_ydata(), 100 * 0.9 ** np.arange(31))
    assert len(axes.lines) == 4
    assert axes.get_yscale() == "log"
    assert any("0.9" in text.get_text() for text in axes.texts)


def test_final_steps_are_drawn_for_every_input() -> None:
    axes = convergence().axes[1]
    proved = next(c for c in axes.collections if c.get_facecolor().size and to_hex(c.get_facecolor()[0]) == FINAL)
    assert sorted(proved.get_offsets()[:, 0]) == [7, 9]


def test_a_run_without_movement_leaves_a_gap() -> None:
    axes = run_figure(run()).axes[0]
    moved = next(line for line in axes.lines if "moved" in str(line.get_label()))
    assert np.isnan(moved.get_ydata()[-1])
    assert any("final from step 4" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_are_written_whole(tmp_path: Path, suffix: str) -> None:
    target = save_figure(convergence(), tmp_path / f"figure{suffix}")
    assert target.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [target]


def test_the_same_figure_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_figure(convergence(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_nothing_is_left_of_a_figure_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    figure = convergence()
    monkeypatch.setattr(figure, "savefig", fail)
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"trm-verify\[plot\]"):
        run_figure(run())
