from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
import torch

from trm_verify.model import Box
from trm_verify.tasks import Split, Task, accuracy, digits, load_task

sklearn_datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")


def test_pixels_are_exact_and_inside_the_domain():
    task = digits()
    x = torch.cat([task.train.x, task.validation.x, task.test.x])
    assert x.dtype == torch.float32 and x.shape == (1797, 64)
    assert torch.equal(x * 16, (x * 16).round())
    assert float(x.min()) == 0 and float(x.max()) == 1
    assert task.domain == Box(0, 1).expand((64,))
    assert task.input_shape == (64,) and task.classes == 10


@pytest.mark.parametrize("split", ["images", "blocks"])
def test_splits_share_no_image_and_use_every_one(split):
    task = digits(split)
    parts = [{tuple(row) for row in (s.x * 16).int().tolist()} for s in (task.train, task.validation, task.test)]
    assert [len(part) for part in parts] == [1257, 180, 360]
    assert len(set().union(*parts)) == 1797
    for part in (task.train, task.validation, task.test):
        assert len(part.y.unique()) == 10
    raw, labels = sklearn_datasets.load_digits(return_X_y=True)
    stored = {tuple(row): label for row, label in zip(raw.astype(int).tolist(), labels.tolist(), strict=True)}
    rows = (task.test.x * 16).int().tolist()
    assert all(stored[tuple(row)] == label for row, label in zip(rows, task.test.y.tolist(), strict=True))
    if split == "blocks":
        assert rows == raw[-360:].astype(int).tolist()


def test_the_split_is_fixed_for_good():
    digest = hashlib.sha256((digits().test.x * 16).numpy().astype(np.uint8).tobytes()).hexdigest()
    assert digest == "0e1ea00faa7ac682842009a9ff8dd79d6e271110c28fe55dadc2c1337170e4a6"


def test_baseline_is_the_nearest_neighbour():
    assert 0.97 < digits().baseline() < 1
    assert digits("blocks").baseline() < digits().baseline()


def test_missing_scikit_learn_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install") as caught:
        digits()
    assert "scikit-learn" in str(caught.value)


def test_foreign_data_and_unknown_names_are_refused(monkeypatch):
    monkeypatch.setattr(sklearn_datasets, "load_digits", lambda return_X_y: (np.full((1797, 64), 0.5), np.zeros(1797)))
    with pytest.raises(ValueError, match="1797 images"):
        digits()
    with pytest.raises(ValueError, match="split"):
        digits("random")
    with pytest.raises(ValueError, match="digits"):
        load_task("mnist")


def test_accuracy_counts_rows_that_are_right_everywhere():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0]], [[2.0, 1.0], [0.0, 1.0]]])
    assert accuracy(logits, torch.tensor([[0, 1], [0, 0]])) == 0.5
    assert accuracy(logits[:, 0], torch.tensor([0, 0])) == 1.0


def test_splits_need_a_target_for_every_row():
    with pytest.raises(ValueError, match="one target"):
        Split(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="at least one row"):
        Split(torch.zeros(0, 3), torch.zeros(0))


def test_task_is_a_value():
    task = load_task("digits")
    assert isinstance(task, Task)
    with pytest.raises(AttributeError):
        task.name = "other"


def test_an_image_is_shown_with_its_label():
    task = digits()
    lines = task.show(torch.eye(8).flatten(), torch.tensor(7)).splitlines()
    assert lines == [f"{'  ' * i}@@" for i in range(8)] + ["→ 7"]
