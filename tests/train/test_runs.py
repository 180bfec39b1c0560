"""Resuming with every piece that remembers something, logs, configurations, and whole runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

import trm_verify as tv
from tests.train.toys import causal, largest, parity, refiner
from trm_verify.models import MODELS
from trm_verify.pretrained import PretrainedError, from_pretrained
from trm_verify.tasks import TASKS
from trm_verify.train import Settings, train
from trm_verify.train import loop as loop_module
from trm_verify.train.config import RunConfig, parsed, read
from trm_verify.train.recipes import RECIPES, quick, recipe
from trm_verify.train.run import run

MANY = {
    "epochs": 5, "batch_size": 8, "depth": (6, 8), "lr": 0.02, "ema": 0.9, "curriculum": "learned", "levels": (4, 6),
    "recall": 0.3, "gradient": 4, "clip": 1.0,
}  # fmt: skip


def same(first, second):
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_that_remembers_much_resumes_bit_for_bit(tmp_path, monkeypatch):
    whole, reference = causal(), tmp_path / "whole.safetensors"
    expected = train(whole, parity(), **MANY, checkpoint=reference, log=tmp_path / "whole.csv")
    original, count = loop_module._Run.epoch, 0

    def stop(self):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        original(self)

    path = tmp_path / "part.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(loop_module._Run, "epoch", stop)
        halted = train(causal(), parity(), **MANY, checkpoint=path, log=tmp_path / "part.csv")
    assert halted.interrupted and len(halted.history) == 3
    resumed = causal(seed=5)
    assert train(resumed, parity(), **MANY, checkpoint=path, resume=True, log=tmp_path / "part.csv") == expected
    assert same(resumed, whole) and path.read_bytes() == reference.read_bytes()
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with pytest.raises(PretrainedError, match="settings"):
        train(causal(), parity(), **{**MANY, "ema": 0.8}, checkpoint=path, resume=True)


def test_the_log_has_a_row_an_epoch(tmp_path):
    result = train(refiner(), largest(), epochs=3, batch_size=8, depth=(2, 4), log=tmp_path / "a" / "log.csv")
    rows = list(csv.DictReader((tmp_path / "a" / "log.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["loss"]) for row in rows] == [record.loss for record in result.history]


def test_the_certified_rate_is_recorded_and_changes_nothing(capsys):
    short = {"epochs": 2, "batch_size": 8, "depth": (2, 4)}
    plain, watched = refiner(), refiner()
    train(plain, largest(), **short)
    result = train(watched, largest(), **short, certify_every=2, progress=True)
    assert same(plain, watched)
    assert result.history[0].rate is None and 0.8 < result.history[1].rate <= 0.9
    assert "certified rate" in capsys.readouterr().err


def test_tensorboard_is_optional(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="log="):
            train(refiner(), largest(), epochs=1, batch_size=8, tensorboard=tmp_path)
    else:
        train(refiner(), largest(), epochs=1, batch_size=8, tensorboard=tmp_path)
        assert list(tmp_path.iterdir())


SMALL = {
    "task": {"name": "parity", "length": 5, "train": 16, "validation": 8, "test": 8},
    "model": {"name": "CausalRefiner", "features": 3, "hidden": 6},
    "train": {"epochs": 1, "batch_size": 8, "depth": [5, 6], "seed": 4},
    "deploy": {"size": 7, "certify": 1},
}


def test_a_configuration_is_read_from_json_and_toml(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SMALL))
    (tmp_path / "a.toml").write_text(
        '[task]\nname = "parity"\nlength = 5\ntrain = 16\nvalidation = 8\ntest = 8\n'
        '[model]\nname = "CausalRefiner"\nfeatures = 3\nhidden = 6\n'
        "[train]\nepochs = 1\nbatch_size = 8\ndepth = [5, 6]\nseed = 4\n[deploy]\nsize = 7\ncertify = 1\n"
    )
    one, two = read(tmp_path / "a.json"), read(tmp_path / "a.toml")
    assert one == two and one.settings == Settings(epochs=1, batch_size=8, depth=(5, 6), seed=4)
    assert parsed(one.as_json(), "again") == one
    model = one.build(one.load())
    assert (model.input_shape, model.config["seed"], model.config["domain"]) == ((5, 1), 4, [0.0, 1.0])
    assert one.with_seed(9).build(one.load()).config["seed"] == 9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": {"name": "chess"}}, "expected one of"), ({"model": {"name": "Oracle"}}, "expected one of"),
        ({"task": {"length": 5}}, "a name in task"), ({"model": "CausalRefiner"}, "a table model"),
        ({"train": {"epoch": 3}}, "options among"), ({"train": {"epochs": 0}}, "epochs >= 1"),
        ({"train": {"epochs": "many"}}, "whole numbers for epochs"), ({"train": {"epochs": 2.5}}, "whole numbers"),
        ({"train": {"depth": 6}}, "a list"), ({"train": {"lr": "fast"}}, "expected numbers"),
        ({"deploy": {"certify": -1}}, "certify >= 0"),
        ({"extra": {}}, "expected the tables"), ({"deploy": {"steps": 0}}, "steps >= 1"),
    ],
)  # fmt: skip
def test_wrong_configurations_say_what_is_wrong(change, said):
    with pytest.raises(ValueError, match=said):
        parsed({**SMALL, **change}, "file")
    with pytest.raises(ValueError, match="expected the tables"):
        parsed([SMALL], "file")


def test_a_task_and_a_size_are_checked_before_training(tmp_path):
    with pytest.raises(ValueError, match="task parity: expected values of the kinds"):
        parsed({**SMALL, "task": {"name": "parity", "length": "six"}}, "file").load()
    with pytest.raises(ValueError, match="expected"):
        run(parsed({**SMALL, "deploy": {"size": 2}}, "file"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arguments_of_the_model_are_checked_before_training():
    config = parsed({**SMALL, "model": {"name": "CausalRefiner", "depth": 3}}, "file")
    with pytest.raises(ValueError, match="arguments of its constructor"):
        config.build(config.load())
    with pytest.raises(ValueError, match="expected"):
        RunConfig("parity", "GatedMaxPlanner").build(parity())


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "a.json"
    for text in ("{", "[1, 2]", '{"task": 3}', "[" * 5000, "\udc80"):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ValueError, match="expected"):
            read(path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_tasks_and_models_that_fit(name):
    config = recipe(name)
    assert config.task in TASKS and config.model in MODELS and name.split("-")[0] == config.task
    small = {"train": 32, "validation": 8, "test": 8} if config.task not in ("digits", "denoise") else {}
    task = TASKS[config.task](**{**config.task_options, **small})
    model = config.build(task)
    loop_module.fits(model, task, Settings(**{**config.as_json()["train"], "batch_size": 8}))
    assert model.parameter_count < 100_000
    with pytest.raises(ValueError, match="expected one of"):
        recipe("no-such-recipe")


@pytest.mark.parametrize("name", RECIPES)
def test_a_quick_run_is_small_and_of_the_same_kind(name):
    config, small = recipe(name), quick(recipe(name))
    assert (small.task, small.model, small.settings.depth) == (config.task, config.model, config.settings.depth)
    assert small.settings.epochs == 1 and small.certify <= 1 and (small.size is None) == (config.size is None)
    assert small.model_options.keys() == config.model_options.keys()
    if name not in ("digits", "denoise"):
        assert len(small.load().train) <= 256


def test_a_run_ends_with_a_certified_bundle(tmp_path):
    done = run(parsed(SMALL, "small"), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "checkpoint.safetensors", "config.json", "run.json", "training.csv"} <= names
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report == json.loads(json.dumps(done.report)) and report["difficulty"] == 7
    assert set(report["test"]) == {"1", "7", "14", "35"} and report["test"]["7"] == report["test"]["35"]
    assert report["verdict"] == "PROVED"
    model = from_pretrained(tmp_path / "out")
    assert model.input_shape == (7, 1)
    for name in ("model.trmcert.json", "model.answers.trmcert.json"):
        tv.check(tmp_path / "out" / name, tmp_path / "out" / "model.safetensors", model=model)
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in done.model.bake().state_dict().items())


def test_an_interrupted_run_is_saved_and_not_certified(tmp_path, monkeypatch):
    original = loop_module._Run.epoch

    def second(self):
        if self.state.history:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(loop_module._Run, "epoch", second)
    done = run(parsed({**SMALL, "train": {**SMALL["train"], "epochs": 3}}, "small"), tmp_path)
    assert done.trained.interrupted and done.metrics is None and done.whole is None
    assert (tmp_path / "model.safetensors").is_file() and not (tmp_path / "model.trmcert.json").exists()
    assert json.loads((tmp_path / "run.json").read_text())["verdict"] is None


def test_paths_may_be_strings(tmp_path):
    train(refiner(), largest(), epochs=1, batch_size=8, depth=(2, 3), log=str(tmp_path / "log.csv"))
    assert Path(tmp_path / "log.csv").is_file()
