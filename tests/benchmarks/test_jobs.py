"""The jobs of the benchmark of tasks are what their names say, and their numbers are put together rightly."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest
import torch

from benchmarks.ledger import Ledger
from benchmarks.tasks import runner as running
from benchmarks.tasks.curve import along, ladder, marks
from benchmarks.tasks.floors import measures
from benchmarks.tasks.jobs import EXTENDED, SOLVERS, TWIN_UPDATES, Job, certified, tasks, variants
from benchmarks.tasks.runner import Runner
from trm_verify.models import CausalRefiner
from trm_verify.tasks import load_task
from trm_verify.train.loop import fits
from trm_verify.train.run import measured


def test_every_variant_is_a_run_of_its_own():
    for task in tasks():
        for variant in variants(task):
            job, other = Job(task, variant, 0), Job(task, variant, 1)
            if task in SOLVERS:
                assert job.solver_options() != other.solver_options() and job.phases == ("solve",)
                continue
            config, base = job.config(), certified(task)
            assert config.task == base.task and dict(config.task_options) == dict(base.task_options)
            assert config.settings.seed == 0 and other.config().settings.seed == 1
            if variant == "twin":
                assert config.settings.depth == (1, 1) and config.steps == 1 and config.model == base.model
                assert config.settings.epochs == TWIN_UPDATES * base.settings.epochs
            if variant in ("fixed", "learned"):
                assert config.settings.curriculum == variant and config.settings.depth == base.settings.depth
    assert all(set(variants(task)) == {"fixed", "learned"} for task in EXTENDED)
    with pytest.raises(ValueError, match="expected a variant among solver"):
        Job("jacobi", "twin", 0).config()


def test_every_variant_can_be_trained():
    for task in tasks():
        for variant in (v for v in variants(task) if task not in SOLVERS):
            job = Job(task, variant, 0, quick=True)
            config = job.config()
            problem = job.load(config)
            fits(job.build(config, problem), problem, config.settings)
            assert len(problem.test) <= 16


@pytest.mark.parametrize("task", ["parity", "mazes"])
@pytest.mark.parametrize(("variant", "family"), [("unconstrained", "Unconstrained"), ("convolutional", "DeepThinking")])
def test_a_derived_baseline_has_about_the_same_size(task, variant, family):
    job = Job(task, variant, 0)
    problem = job.config().load()
    wanted = certified(task).build(problem).parameter_count
    model = job.build(job.config(), problem)
    assert type(model).__name__ == family and abs(model.parameter_count / wanted - 1) < 0.15


def test_a_single_model_is_larger_than_the_stack_it_is_compared_with():
    stack, single = (Job("addition", variant, 0) for variant in ("stack", "single"))
    problem = stack.config().load()
    parts, whole = (job.build(job.config(), problem) for job in (stack, single))
    assert len(parts.parts) == 2 and type(whole).__name__ == "CausalRefiner"
    assert 2 <= whole.parameter_count / parts.parameter_count <= 3
    assert stack.config().settings == single.config().settings and stack.config().steps == single.config().steps
    assert parts.readout(parts.run(problem.test.x[:2], 3)).shape == (*problem.test.y[:2].shape, problem.classes)


def test_the_steps_at_which_a_loop_is_measured():
    assert marks(1) == [1, 2, 5] and marks(16) == [1, 16, 32, 80]
    steps = ladder(512)
    assert steps[:40] == list(range(1, 41)) and steps[-1] == 2560 and set(marks(512)) <= set(steps) and len(steps) < 80
    assert ladder(2) == list(range(1, 11))


def test_a_loop_is_measured_as_training_measures_it():
    task = load_task("parity", length=8, train=64, validation=16, test=32)
    model = CausalRefiner(8, features=4, hidden=8, channels=1, seed=3).bake()
    found = along(model, task, 8)
    assert {int(k): v["metric"] for k, v in found["at"].items()} == measured(model, task, 8)
    assert all(found["curve"][k] == v["metric"] for k, v in found["at"].items())
    z = model.run(task.test.x, 8)
    assert found["at"]["8"]["residual"] == float((model.step(z, task.test.x) - z).abs().max()) == 0.0
    z = model.run(task.test.x, 1)
    assert found["at"]["1"]["residual"] == pytest.approx(float((model.step(z, task.test.x) - z).abs().max()))
    first, last = (model.readout(model.run(task.test.x, k)).argmax(-1) for k in (1, 8))
    assert found["at"]["1"]["changed_since_K"] == float((first != last).any(dim=1).double().mean())
    assert torch.equal(torch.tensor(found["item"]["answers"]["1"]), first[0])


def test_a_ledger_forgets_what_other_sources_measured(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    Ledger(path, {"a": 1}).add("x", {"value": 2})
    Ledger(path, {"a": 1}).add("failed", {"verdict": "failed"})
    with path.open("a") as file:
        file.write('{"key": "cut sh')
    assert Ledger(path, {"a": 1}).known[0]["value"] == 2 and "failed" not in Ledger(path, {"a": 1})
    assert "x" not in Ledger(path, {"a": 2}) and "x" not in Ledger(path, {"a": 1}, parts=("tasks",))
    assert "x" in Ledger(path, {"a": 1}, any_code=True, parts=("tasks",))
    Ledger(path, {"a": 1}).add("y", {"value": 3})
    assert {k["value"] for k in Ledger(path, {"a": 1}).known} == {2, 3}


CHILD = """
import json, os, signal, sys
print(json.dumps({"learn": {"weights": "w", "seconds": {"train": 1.0}}}), flush=True)
print(json.dumps({"learn": {"done": True}}), flush=True)
print(json.dumps({"prove": {"verdict": "PROVED", "rate": 0.5, "seconds": {"certify": 2.0}}}), flush=True)
if len(sys.argv) > 1: os.kill(os.getpid(), getattr(signal, sys.argv[1]))
print(json.dumps({"prove": {"done": True}}), flush=True)
"""


def instead(monkeypatch, command):
    """Children run this command, which is told the arguments of the job."""

    class Popen(running.subprocess.Popen):
        def __init__(self, arguments, **options):
            super().__init__(command(arguments), **options)

    monkeypatch.setattr(running.subprocess, "Popen", Popen)


@pytest.mark.parametrize(("ends", "kept"), [("", True), ("SIGXCPU", True), ("SIGKILL", False)])
def test_jobs_that_end_early_keep_what_they_reported(tmp_path, monkeypatch, ends, kept):
    instead(monkeypatch, lambda _: [sys.executable, "-c", CHILD, *([ends] if ends else [])])
    job, told = Job("parity", "certified", 0), []
    runner = Runner(tmp_path, tell=told.append)
    found, interrupted = runner.results([job])
    known = found[job.name]
    assert not interrupted and known["learn"]["weights"] == "w" and "done" not in known["learn"]
    assert ("prove" in known) is kept and (job.name in runner.failed) is not kept
    assert runner.missing(job) == ([] if kept else ["prove"])
    if ends == "SIGXCPU":
        assert known["prove"]["stopped"].endswith("processor seconds") and known["prove"]["verdict"] == "PROVED"
    if ends == "SIGKILL":
        assert f"exit code {-signal.SIGKILL}" in runner.failed[job.name] and "prove failed" in told[-1]


def test_an_interruption_ends_the_children_and_keeps_what_was_finished(tmp_path, monkeypatch):
    lasting = "import time; time.sleep(600)"
    instead(monkeypatch, lambda a: [sys.executable, "-c", CHILD if "certified" in a else lasting])

    def tell(text):
        if text.startswith("1 of"):
            raise KeyboardInterrupt

    runner = Runner(tmp_path, workers=2, tell=tell)
    done, cut = Job("parity", "certified", 0), Job("parity", "twin", 0)
    started = time.monotonic()
    known, interrupted = runner.results([cut, done])
    assert interrupted and time.monotonic() - started < 300
    assert known[cut.name] == {} and runner.missing(cut) == ["learn"] and known[done.name]["prove"]["rate"] == 0.5
    assert Runner(tmp_path).missing(done) == []


def at(steps, **metrics):
    """A measurement along a loop. metrics: one_step, k, k2, k5."""
    values = dict(zip((1, steps, 2 * steps, 5 * steps), metrics["m"], strict=True))
    entry = {str(k): {"metric": v, "residual": 0.0, "residual_median": 0.0, "changed_since_K": 0.0}
             for k, v in values.items()}  # fmt: skip
    return {"K": steps, "rows": 1, "at": entry, "curve": {str(k): v for k, v in values.items()}, "item": None}


def known(m, verdict="PROVED", rate=0.9, proved=10, twin=False):
    learn = {"trained": at(1 if twin else 10, m=m) if not twin else {**at(10, m=m), "K": 1, "at": at(10, m=m)["at"]},
             "parameters": 5, "size": None, "baseline": 0.1, "seconds": {"train": 60.0}}  # fmt: skip
    answers = {"inputs": 10, "proved": proved, "proved_right": proved, "final": [12] * proved, "seconds_each": 0.5}
    prove = {"verdict": verdict, "rate": rate, "norm": "l2", "answers": answers, "seconds": {"certify": 30.0}}
    return {"learn": learn} if twin else {"learn": learn, "prove": prove}


def test_a_certified_model_is_compared_with_the_better_baseline():
    jobs = [Job("parity", v, 0) for v in ("certified", "unconstrained", "convolutional")]
    found = {
        "parity.certified.0": known((0.0, 0.995, 0.995, 0.995)), "parity.unconstrained.0": known((0.0, 0.5, 0.5, 0.5)),
        "parity.convolutional.0": known((0.0, 1.0, 1.0, 0.25)),
    }  # fmt: skip
    rows = {m.what: m for m in measures(jobs, found) if m.row == "constraint"}
    near = rows["tasks within 1 point of the better unconstrained one"]
    assert near.value == 1 and near.note == "points ahead of: parity convolutional -0.5"
    assert rows["what an unconstrained one loses from its best to 5K, most"].value == pytest.approx(75)


def test_floors_take_the_worst_seed_and_never_lose_a_row():
    jobs = [Job("sudoku", v, s) for v in ("certified", "unconstrained", "twin") for s in (0, 1)]
    found = {
        "sudoku.certified.0": known((0.1, 1.0, 1.0, 0.995)), "sudoku.certified.1": known((0.0, 1.0, 0.98, 1.0)),
        "sudoku.unconstrained.0": known((0.2, 1.0, 0.5, 0.25)), "sudoku.unconstrained.1": {},
        "sudoku.twin.0": known((0.5, 0.0, 0.0, 0.0), twin=True), "sudoku.twin.1": {},
    }  # fmt: skip
    rows = {(m.row, m.what): m for m in measures(jobs, found)}
    exact = rows["sudoku", "exact at K, 2K and 5K, orbits never seen"]
    assert exact.value == pytest.approx(98.0) and exact.reached is False
    assert rows["sudoku", "rate"].reached and rows["sudoku", "seeds certified"].value == 2
    late = rows["constraint", "what the certified one loses from K to 5K, most"]
    assert late.value == pytest.approx(0.5) and late.reached is False
    assert rows["constraint", "what an unconstrained one loses from its best to 5K, most"].value == pytest.approx(75)
    assert rows["recursion", "tasks at least 20 points above that twin"].value == 1
    assert rows["recursion", "tasks where K steps are no better than one of the same weights"].value == 0
    assert rows["answers", "sudoku: certified final answers"].reached
    assert rows["time", "a task end to end, the longest"].value == 90
    for row in (("parity", "exact at 512 bits, trained on 16"), ("brackets", "exact"),
                ("jacobi", "bound over true error, median"), ("answers", "mazes: certified final answers"),
                ("stack", "tasks equal or better than one larger model")):  # fmt: skip
        assert rows[row].value is None and rows[row].reached is False
    assert json.dumps([m.note for m in rows.values()])
