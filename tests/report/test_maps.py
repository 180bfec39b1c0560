"""Attractor maps for people: what the table says, and that figures hold every fate in one, two and more coordinates."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import trm_verify as tv
from tests.small import autonomous
from trm_verify.auditing import AttractorMap, attractors
from trm_verify.report import attractor_figure, print_attractors, save_figure


def mapped(size: int) -> AttractorMap:
    weight = torch.eye(size) * 2 - 0.25
    return attractors(autonomous(lambda z: torch.tanh(z @ weight), size), starts=40)


def text(found: AttractorMap) -> str:
    out = io.StringIO()
    print_attractors(Console(file=out, width=160), found)
    return out.getvalue()


def test_the_table_tells_shares_stability_and_verdicts() -> None:
    said = text(mapped(3))
    lines = said.splitlines()
    assert lines[0].startswith("REFUTED  40 starts, observed in floating point")
    assert "fixed point" in said and "repelling fixed point" in said and "…" not in lines[3].split("fixed")[0]
    assert any(line.startswith("REFUTED") and "exactly_one" in line for line in lines[1:])


def test_a_cycle_of_numbers_is_written_in_order() -> None:
    said = text(attractors(autonomous(lambda z: torch.relu(1 - 5 * z)), starts=20))
    assert "0 → 1" in said or "1 → 0" in said


def test_crowds_are_cut() -> None:
    said = text(attractors(autonomous(lambda z: -z), starts=60))
    assert "… and" in said and len(said.splitlines()) < 30


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_fate_is_drawn(size: int) -> None:
    found = mapped(size)
    figure = attractor_figure(found)
    left, right = figure.axes
    drawn = sum(len(c.get_offsets()) for c in left.collections)
    assert drawn >= len(found.starts)
    assert len([line for line in right.lines if len(np.atleast_1d(line.get_xdata())) > 2]) >= 8
    labels = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert any("fixed point" in label for label in labels) and labels[-1] == "repels"
    if size > 2:
        assert "principal component 1" in left.get_xlabel()


def test_figures_survive_starts_that_leave(tmp_path: Path) -> None:
    for step in (lambda z: 3 * z, lambda z: z * z + 1, lambda z: 1.0001 * z + 0.1):
        found = attractors(autonomous(step), starts=10)
        assert save_figure(attractor_figure(found), tmp_path / "map.png").stat().st_size > 5000
    wide = autonomous(lambda z: 3 * z, 4)
    assert save_figure(attractor_figure(attractors(wide, starts=10)), tmp_path / "map.svg").stat().st_size > 5000


def test_unreached_orbits_do_not_stretch_the_figure() -> None:
    left, _ = attractor_figure(attractors(autonomous(lambda z: 1.0001 * z + 0.1), starts=10)).axes
    assert left.get_xlim()[0] > -100  # the repelling fixed point is at −1000


def test_the_public_name() -> None:
    assert tv.attractors is attractors
