"""What is published can be drawn again, without measuring: every figure from the numbers beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.fixed_points import figures as fixed_points
from benchmarks.tasks import figures as tasks
from benchmarks.tasks.jobs import Job
from benchmarks.tasks.results import Results

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


def record(name: str) -> dict:
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


def names(paths) -> set[str]:
    return {path.name for path in paths}


def test_results_are_drawn_from_their_table(tmp_path):
    drawn = names(figures.draw(record("results"), tmp_path))
    published = {path.name for path in PUBLISHED.glob("*.png") if "_" not in path.name}
    # the rounds behind scale.png are kept since the run after the one that is published
    assert drawn | {"scale.png"} == published


def test_a_topic_without_results_has_no_figure(tmp_path):
    assert figures.draw({"rows": []}, tmp_path) == []


def test_fixed_points_are_drawn_from_their_details(tmp_path):
    drawn = names(fixed_points.draw(record("fixed_points")["details"], tmp_path))
    assert drawn == names(PUBLISHED.glob("fixed_points_*.png"))


@pytest.mark.slow
def test_tasks_are_drawn_from_their_details(tmp_path):
    details = record("tasks")["details"]
    jobs = [Job(task, variant, int(seed)) for task, variant, seed in (name.split(".") for name in details)]
    assert names(tasks.draw(Results(jobs, details), tmp_path)) == names(PUBLISHED.glob("tasks_*.png"))
