"""The whole benchmark of tasks in its quick form: every task, every variant, each in a process of its own."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks.tasks.__main__ import main
from benchmarks.tasks.jobs import PROVED, Job, tasks, variants


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks())
def test_quick(task, tmp_path, capsys):
    assert main(["--quick", "--tasks", task, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "tasks.json").read_text())
    assert [name.split(".")[:2] for name in record["details"]] == [[task, variant] for variant in variants(task)]
    for name, known in record["details"].items():
        phases = Job(*name.split(".")[:2], 0, quick=True).phases
        assert list(known) == list(phases), name
        if "prove" in known:
            assert known["prove"]["answers"]["inputs"] == 1
            assert known["prove"]["verdict"] != "PROVED" or known["prove"]["kernel_seconds"] > 0
        for along in (known["learn"].get(where) for where in ("trained", "deployed") if "learn" in known):
            if along is not None:
                assert {"1", str(along["K"]), str(2 * along["K"]), str(5 * along["K"])} <= set(along["at"])
        if "solve" in known:
            assert known["solve"]["verdict"] == "PROVED" and known["solve"]["bounds_below_the_error"] == 0
    assert list(tmp_path.glob("tasks_*.png")) or not {"certified", "solver"} & set(variants(task))
    text = (tmp_path / "tasks.txt").read_text()
    assert "tiny recursive models" in text and task in text

    shutil.rmtree(tmp_path / "models")  # a second run has nothing to do, and does not miss what it would need to
    capsys.readouterr()
    assert main(["--quick", "--tasks", task, "--out", str(tmp_path)]) == 0
    assert f"{len(variants(task))} jobs, 0 of them to run" in capsys.readouterr().err
    assert set(PROVED) >= {v for v in variants(task) if "prove" in Job(task, v, 0).phases}
