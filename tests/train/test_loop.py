from __future__ import annotations

import dataclasses
import os
import stat

import pytest
import torch

from trm_verify.model import Box, Damped, recursive
from trm_verify.models import SandwichRefiner
from trm_verify.pretrained import PretrainedError
from trm_verify.tasks import Split, Task, digits
from trm_verify.train import evaluate, train
from trm_verify.train import loop as loop_module


def toy(rows: int = 96, seed: int = 0) -> Task:
    """Which of three coordinates is the largest."""
    x = torch.rand(rows, 3, generator=torch.Generator().manual_seed(seed))
    y = x.argmax(dim=1)
    third = rows // 3
    splits = [Split(x[i * third : (i + 1) * third], y[i * third : (i + 1) * third]) for i in range(3)]
    return Task("toy", *splits, 3, Box(0, 1).expand((3,)))


def small(seed: int = 0) -> SandwichRefiner:
    return SandwichRefiner(4, 6, 3, 3, seed=seed)


SHORT = {"epochs": 4, "batch_size": 8, "depth": (2, 5)}
LONG = {**SHORT, "epochs": 10, "lr": 0.05}
EPOCHS = 4  # completed before a long run is interrupted


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_training_learns_and_records_every_epoch():
    model, task = small(), toy(600)
    before = evaluate(model, task.test, task, 5)[-1]
    result = train(model, task, **{**SHORT, "epochs": 25}, lr=0.02)
    assert [record.epoch for record in result.history] == list(range(1, 26))
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    assert evaluate(model, task.test, task, 5)[-1] > max(before, 0.8)
    assert not result.interrupted
    best = max(result.history, key=lambda r: (r.validation, -r.validation_loss))
    assert (result.best_epoch, result.best_validation) == (best.epoch, best.validation)
    assert evaluate(model, task.validation, task, 5)[-1] == best.validation
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.best_epoch = 1


def test_same_seed_same_bits_other_seed_other_bits():
    models = [small() for _ in range(3)]
    for model, seed in zip(models, [1, 1, 2], strict=True):
        torch.manual_seed(id(model) % 1000)
        train(model, toy(), **SHORT, seed=seed)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_the_test_split_has_no_influence():
    task = toy()
    spoiled = dataclasses.replace(task, test=Split(task.test.x * float("nan"), task.test.y))
    first, second = small(), small()
    train(first, task, **SHORT)
    train(second, spoiled, **SHORT)
    assert same(first, second)


def test_epochs_differ_in_order_and_depth_and_train_in_training_mode(monkeypatch):
    seen, original = [], loop_module._Run._update

    def update(run, level, rows, steps, index, generator):
        assert level.model is run.model and run.model.training
        seen.append((tuple(rows.tolist()), steps, index))
        return original(run, level, rows, steps, index, generator)

    monkeypatch.setattr(loop_module._Run, "_update", update)
    model = small().eval()
    train(model, toy(), **SHORT)
    assert not model.training
    assert [index for _, _, index in seen] == list(range(16))
    assert len({rows for rows, _, _ in seen}) == 16
    assert {steps for _, steps, _ in seen} <= {2, 3, 4, 5} and len({steps for _, steps, _ in seen}) > 1
    for epoch in range(4):
        used = [row for rows, _, _ in seen[4 * epoch : 4 * epoch + 4] for row in rows]
        assert sorted(used) == list(range(32))


class Stop:
    """Raises KeyboardInterrupt at the n-th optimizer step."""

    def __init__(self, monkeypatch, step: int) -> None:
        original, count = loop_module._Run._update, 0

        def update(run, *args):
            nonlocal count
            count += 1
            if count == step:
                raise KeyboardInterrupt
            return original(run, *args)

        monkeypatch.setattr(loop_module._Run, "_update", update)


def test_interrupted_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole, reference = small(), tmp_path / "whole.safetensors"
    expected = train(whole, toy(), **LONG, checkpoint=reference)
    halted, path = small(), tmp_path / "run" / "state.safetensors"
    with monkeypatch.context() as patch:
        Stop(patch, 4 * EPOCHS + 3)  # four batches an epoch: in the middle of the next one
        partial = train(halted, toy(), **LONG, checkpoint=path)
    assert partial.interrupted and partial.history == expected.history[:EPOCHS]
    # The interesting case: the parameters to continue from are not the best ones.
    assert partial.best_epoch < EPOCHS < expected.best_epoch
    resumed = small(seed=9)
    result = train(resumed, toy(), **LONG, checkpoint=path, resume=True)
    assert result == expected
    assert same(resumed, whole)
    assert path.read_bytes() == reference.read_bytes()
    done = train(small(seed=3), toy(), **LONG, checkpoint=path, resume=True)
    assert done == expected


def test_interrupt_keeps_the_best_so_far(monkeypatch):
    reference, model = small(), small()
    expected = train(reference, toy(), **{**SHORT, "epochs": 2})
    Stop(monkeypatch, 4 * 2 + 3)
    # The same schedule needs the same number of epochs: compare with a run that ended by itself only in kind.
    result = train(model, toy(), **SHORT)
    assert result.interrupted and len(result.history) == len(expected.history) == 2
    assert result.best_epoch in (1, 2)
    assert evaluate(model, toy().validation, toy(), 5)[-1] == result.best_validation
    assert all(not layer._caching for layer in [model.cell])


def test_interrupt_before_the_first_epoch_keeps_the_initial_parameters(monkeypatch):
    model = small()
    Stop(monkeypatch, 2)
    result = train(model, toy(), **SHORT)
    assert result == loop_module.TrainResult((), 0, None, True)
    assert same(model, small())


def test_resume_refuses_other_settings_models_and_files(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileNotFoundError):
        train(small(), toy(), **SHORT, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="checkpoint"):
        train(small(), toy(), **SHORT, resume=True)
    train(small(), toy(), **SHORT, checkpoint=path)
    with pytest.raises(PretrainedError, match="settings"):
        train(small(), toy(), **{**SHORT, "epochs": 5}, checkpoint=path, resume=True)
    with pytest.raises(PretrainedError, match="another"):
        train(SandwichRefiner(5, 6, 3, 3), toy(), **SHORT, checkpoint=path, resume=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(PretrainedError, match="truncated"):
        train(small(), toy(), **SHORT, checkpoint=path, resume=True)
    from safetensors.torch import save

    path.write_bytes(save({"a": torch.zeros(2)}))
    with pytest.raises(PretrainedError, match="another kind of file"):
        train(small(), toy(), **SHORT, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": -1.0}, {"depth": (0, 2)},
     {"depth": (3, 2)}, {"supervise_from": 1.0}, {"batch_size": 1000}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    model = small()
    with pytest.raises(ValueError, match="expected"):
        train(model, toy(), **{**SHORT, **wrong})
    assert same(model, small())


def test_models_that_do_not_fit_are_refused():
    layer = torch.nn.Linear(3, 3)
    silent = recursive(lambda z, x: layer(x), state_shape=(3,), input_shape=(3,))
    with pytest.raises(ValueError, match="readout"):
        train(silent, toy(), **SHORT)
    with pytest.raises(ValueError, match="readout"):
        evaluate(silent, toy().test, toy(), 2)
    with pytest.raises(ValueError, match="input_shape"):
        train(SandwichRefiner(4, 6, 5, 3), toy(), **SHORT)
    with pytest.raises(ValueError, match="readout of shape"):
        train(SandwichRefiner(4, 6, 3, 4), toy(), **SHORT)
    with pytest.raises(ValueError, match="trainable"):
        train(small().bake(), toy(), **SHORT)
    with pytest.raises(ValueError, match="steps"):
        evaluate(small(), toy().test, toy(), 0)


def test_nan_is_an_error_not_a_result():
    task = toy()
    spoiled = dataclasses.replace(task, train=Split(task.train.x * float("nan"), task.train.y))
    with pytest.raises(FloatingPointError, match="finite loss"):
        train(small(), spoiled, **SHORT)


def test_progress_goes_to_stderr(capsys):
    train(small(), toy(), **SHORT, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "loss" in shown.err and "validation" in shown.err
    train(small(), toy(), **SHORT)
    assert capsys.readouterr() == ("", "")


def test_damped_models_and_several_output_positions():
    """Two answers a row from a two-position readout, under the model's own damped iteration."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(96, 3, generator=generator)
    y = torch.stack([x.argmax(dim=1), x.argmin(dim=1)], dim=1)
    task = Task("two", *(Split(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)), 3, None)
    base = SandwichRefiner(8, 12, 3, 3)
    head = torch.nn.Linear(8, 6)
    torch.nn.init.normal_(head.weight, std=0.3, generator=generator)
    torch.nn.init.zeros_(head.bias)

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, z):
            return self.head(z).reshape(-1, 2, 3)

    model = recursive(base.cell, state_shape=(8,), input_shape=(3,), readout=Two(), iteration=Damped(0.5))
    before = evaluate(model, task.test, task, 6)[-1]
    train(model, task, epochs=40, batch_size=8, depth=(4, 6), lr=0.02)
    assert evaluate(model, task.test, task, 6)[-1] > before + 0.2


def test_threads_are_given_back():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train(small(), toy(), **SHORT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_unwritable_checkpoint_is_an_error(tmp_path):
    target = tmp_path / "file"
    target.write_text("in the way")
    with pytest.raises(OSError):
        train(small(), toy(), **SHORT, checkpoint=target / "state.safetensors")
    assert target.read_text() == "in the way"
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir()
        closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(PermissionError):
            train(small(), toy(), **SHORT, checkpoint=closed / "state.safetensors")


@pytest.mark.slow
def test_demo_model_reads_digits():
    """The demo's target: at least 95 % of the test images, refined step by step, still right after 100
    steps.
    """
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    task, model = digits(), SandwichRefiner()
    train(model, task)
    reached = evaluate(model.bake(), task.test, task, 100)
    assert reached[-1] >= 0.95
    assert reached[0] < reached[5]
    assert min(reached[10:]) >= 0.95
