"""Plain safetensors in and out: all tensors or none, and an error for each way to be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import trm_verify as tv
from tests.small import tanh_model
from trm_verify.deploy.weights import INDEX, load_weights, save_weights
from trm_verify.export import NonFiniteWeights
from trm_verify.models import SandwichRefiner
from trm_verify.pretrained import PretrainedError


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_there_and_back(tmp_path: Path) -> None:
    model, other = tanh_model(1), tanh_model(2)
    path = save_weights(model, tmp_path / "deep" / "model.safetensors")
    assert not same(state(model), state(other))
    load_weights(other, path)
    assert same(state(model), state(other))
    # the loop that the function closes over has changed, and so has what is certified
    result = tv.verify_fixed_point(other)
    assert result.weights_digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.proves("contraction(rate<=0.51)")
    x = torch.zeros(1, 3)
    assert torch.equal(model.run(x, 3), other.run(x, 3))


def test_the_layout_of_save_pretrained_is_plain_safetensors_and_json(tmp_path: Path) -> None:
    model = SandwichRefiner(state=4, hidden=6, inputs=3, classes=3, seed=1)
    tv.save_pretrained(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["architectures"] == ["SandwichRefiner"] and config["model_type"] == "trm_verify"
    again = tv.from_pretrained(tmp_path / "m")
    assert same(load_file(tmp_path / "m" / "model.safetensors"), state(again))
    assert (save_weights(again, tmp_path / "w.safetensors")).read_bytes() == (
        tmp_path / "m" / "model.safetensors"
    ).read_bytes()
    other = SandwichRefiner(state=4, hidden=6, inputs=3, classes=3, seed=2).bake()
    load_weights(other, tmp_path / "m")  # the folder, as well as the file
    assert same(state(other), state(again))
    assert tv.verify_fixed_point(other).weights_digest == config["weights_sha256"]


def test_names_of_others(tmp_path: Path) -> None:
    model = tanh_model(1)
    theirs = {"model.layers.0." + name: value for name, value in state(tanh_model(3)).items()}
    save_file(theirs, tmp_path / "w.safetensors", metadata={"format": "pt"})
    names = {name: "model.layers.0." + name for name in state(model)}
    load_weights(model, tmp_path / "w.safetensors", names=names)
    assert same(state(model), state(tanh_model(3)))
    with pytest.raises(PretrainedError, match="names=: expected tensors of the model"):
        load_weights(model, tmp_path / "w.safetensors", names={**names, "more": "x"})


def test_folders_of_several_files(tmp_path: Path) -> None:
    wanted = state(tanh_model(4))
    parts = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(wanted))}
    for part in set(parts.values()):
        save_file({n: v for n, v in wanted.items() if parts[n] == part}, tmp_path / part)
    index = {"metadata": {"total_size": 1}, "weight_map": parts}
    (tmp_path / INDEX).write_text(json.dumps(index))
    model = tanh_model(1)
    load_weights(model, tmp_path)
    assert same(state(model), wanted)
    first = sorted(parts)[0]
    outside = {**parts, first: "../model-00001-of-00002.safetensors"}
    moved = {**parts, first: next(p for p in parts.values() if p != parts[first])}
    for text, words in [
        (json.dumps({"weight_map": outside}), "beside it"),
        (json.dumps({"weight_map": moved}), "lists, found others"),
        (json.dumps({"weight_map": [1]}), "weight_map"),
        ("[" * 100_000, "weight_map"),
        ("{}", "weight_map"),
    ]:
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(PretrainedError, match=words):
            load_weights(model, tmp_path)


def without(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name != "drive.bias"}


WRONG: list[tuple[str, Any, str]] = [
    ("missing", without, "none called drive.bias"),
    ("extra", lambda t: {**t, "more": torch.zeros(1)}, "more, which the model does not have"),
    ("misspelled", lambda t: {**without(t), "drive.Bias": t["drive.bias"]}, "none called drive.bias; drive.Bias"),
    ("shape", lambda t: {**t, "inner.weight": torch.zeros(5, 4)}, r"inner.weight of shape \(5, 5\), found \(5, 4\)"),
    ("transposed", lambda t: {**t, "drive.weight": t["drive.weight"].T.contiguous()}, "drive.weight of shape"),
    ("scalar", lambda t: {**t, "drive.bias": torch.zeros(())}, r"found \(\)"),
    ("dtype", lambda t: {**t, "drive.bias": t["drive.bias"].double()}, r"model.to\(torch.float64\)"),
    ("nan", lambda t: {**t, "drive.bias": t["drive.bias"] * float("nan")}, "finite numbers in tensor drive.bias"),
    ("infinity", lambda t: {**t, "drive.bias": t["drive.bias"] + float("inf")}, "finite numbers"),
]


@pytest.mark.parametrize(("what", "change", "words"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_files_change_nothing(what: str, change: Any, words: str, tmp_path: Path) -> None:
    save_file(change(state(tanh_model(2))), tmp_path / "w.safetensors")
    model = tanh_model(1)
    before = state(model)
    with pytest.raises(PretrainedError, match=words):
        load_weights(model, tmp_path / "w.safetensors")
    assert same(state(model), before)


def test_broken_files(tmp_path: Path) -> None:
    path = save_weights(tanh_model(), tmp_path / "w.safetensors")
    whole = path.read_bytes()
    for data in (whole[:-1], b"", b"PK\x03\x04"):
        path.write_bytes(data)
        with pytest.raises(PretrainedError, match="truncated"):
            load_weights(tanh_model(), path)
    for missing in (tmp_path / "none", tmp_path):
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
        with pytest.raises(OSError):
            load_weights(tanh_model(), missing)


def test_tied_tensors_may_be_stored_once_or_twice_but_not_differently(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        model["b"].weight = model["a"].weight
        return model

    path, value = tmp_path / "w.safetensors", torch.tensor([[1.0, 2], [3, 4]])
    for stored in ({"a.weight": value}, {"b.weight": value}, {"a.weight": value, "b.weight": value.clone()}):
        save_file(stored, path)
        model = tied()
        load_weights(model, path)
        assert torch.equal(model["a"].weight, value) and model["a"].weight is model["b"].weight
    save_file({"a.weight": value, "b.weight": value + 1}, path)
    with pytest.raises(PretrainedError, match="which are one tensor, found two"):
        load_weights(tied(), path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = tanh_model()
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(NonFiniteWeights):
        save_weights(model, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
