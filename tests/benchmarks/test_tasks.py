"""The whole benchmark of tasks in its quick form: every task, every variant, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bench import ROOT
from benchmarks.tasks import runner
from benchmarks.tasks.__main__ import main
from benchmarks.tasks.jobs import PROVED, Job, tasks, variants

FRESH = ("denoise", "jacobi", "pagerank")
"""Tasks whose jobs are started as the runner starts them. Among them are all phases."""

# It imports what other projects wrote; a job imports this one by itself, in a process of its own all the same.
TEMPLATE = """
import json, os, runpy, sys
import numpy, scipy.optimize, sympy, torch
example = {"args": (torch.ones(3, 1),), "dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},)}
torch.export.export(torch.nn.Linear(1, 1), **example, strict=False)  # imports most of torch
for line in sys.stdin:
    module, arguments, out, log = json.loads(line)
    child = os.fork()
    if not child:
        for path, stream in ((out, 1), (log, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        raise AssertionError("expected the module to exit")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Template:
    """A process with torch in it, and its forks: four of the five seconds that most jobs take are imports."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TEMPLATE], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def popen(self, command: list[str], *, stderr: Any, **_: Any) -> Template.Fork:
        """In the place of `subprocess.Popen`, with the command of the runner."""
        python, flag, module, *arguments = command
        assert (python, flag) == (sys.executable, "-m")
        assert self.process.stdin is not None and self.process.stdout is not None
        out = Path(stderr.name).with_name("out.txt")
        print(json.dumps([module, arguments, str(out), stderr.name]), file=self.process.stdin, flush=True)
        return Template.Fork(int(self.process.stdout.readline()), out)

    class Fork:
        """A job that has ended."""

        def __init__(self, code: int, out: Path) -> None:
            self.code, self.stdout = code, out.read_text(encoding="utf-8").splitlines()
            out.unlink()

        def wait(self) -> int:
            return self.code

        def terminate(self) -> None:
            pass


@pytest.fixture(scope="module")
def template():
    made = Template()
    yield made
    made.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks())
def test_quick(task, tmp_path, capsys, monkeypatch, template):
    if task not in FRESH:
        started = SimpleNamespace(Popen=template.popen, PIPE=subprocess.PIPE)
        monkeypatch.setattr(runner, "subprocess", started)
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
