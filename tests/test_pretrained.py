from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trm_verify import pretrained
from trm_verify.export import export
from trm_verify.models import CausalRefiner, ConfiguredModel, SandwichRefiner
from trm_verify.pretrained import PretrainedError, from_pretrained, save_pretrained

FILES = {"model.safetensors", "checkpoint.safetensors", "hints.safetensors", "config.json"}


def small(**changes):
    model = SandwichRefiner(**{"state": 4, "hidden": 6, "inputs": 3, "classes": 3, "seed": 5, **changes})
    with torch.no_grad():
        model.cell.log_psi.add_(torch.linspace(-0.5, 0.5, 6))
    return model


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key]) for key in first
    )


def edit(directory: Path, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """One saved model for all tests: an export takes a second or two."""
    directory = tmp_path_factory.mktemp("original") / "m"
    save_pretrained(small(), directory)
    return directory


@pytest.fixture
def saved(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "m"))


def test_the_weights_file_is_what_is_exported_and_deployed(tmp_path):
    model = small()
    path = save_pretrained(model, tmp_path / "deep" / "m")
    assert path == tmp_path / "deep" / "m" / "model.safetensors"
    assert {p.name for p in path.parent.iterdir()} == FILES
    baked = model.bake()
    exported = export(baked)
    assert equal(load_file(path), exported.tensors)
    exported.save(tmp_path / "exported.safetensors")
    assert path.read_bytes() == (tmp_path / "exported.safetensors").read_bytes()
    loaded = from_pretrained(path.parent)
    assert loaded.baked and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert equal(loaded.state_dict(), baked.state_dict())
    assert torch.equal(loaded.cell.psi, baked.cell.psi)
    assert export(loaded).digest == exported.digest
    x = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.run(x, 5), baked.run(x, 5))
    config = json.loads((path.parent / "config.json").read_text())
    assert config["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_trainable_parameters_come_back_and_bake_to_the_same_bytes(saved, tmp_path):
    model = from_pretrained(saved, trainable=True)
    assert equal(model.state_dict(), small().state_dict())
    assert all(p.requires_grad for p in model.parameters()) and not model.baked
    save_pretrained(model, tmp_path / "again")
    for name in FILES:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("changes", [{"features": 4, "offset": True}, {"dtype": torch.float64}, {"domain": None}])
def test_other_configurations_round_trip(changes, tmp_path):
    model = small(**changes)
    save_pretrained(model, tmp_path)
    for trainable in (False, True):
        loaded = from_pretrained(tmp_path, trainable=trainable)
        wanted = model if trainable else model.bake()
        assert equal(loaded.state_dict(), wanted.state_dict())
        assert loaded.config == model.config and loaded.domain == model.domain


def test_a_baked_model_saves_without_checkpoint(saved, tmp_path):
    save_pretrained(from_pretrained(saved), tmp_path / "b")
    assert {p.name for p in (tmp_path / "b").iterdir()} == FILES - {"checkpoint.safetensors"}
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()
    assert equal(from_pretrained(tmp_path / "b").state_dict(), small().bake().state_dict())
    with pytest.raises(PretrainedError, match="saved baked"):
        from_pretrained(tmp_path / "b", trainable=True)


def test_a_checkpoint_that_bakes_to_other_weights_is_refused(saved):
    checkpoint = load_file(saved / "checkpoint.safetensors")
    checkpoint["cell.log_psi"] = checkpoint["cell.log_psi"] + 2.0**-20
    save_file(checkpoint, saved / "checkpoint.safetensors")
    digest = hashlib.sha256((saved / "checkpoint.safetensors").read_bytes()).hexdigest()
    with pytest.raises(PretrainedError, match="do not belong together"):
        from_pretrained(saved, trainable=True)
    edit(saved, checkpoint_sha256=digest)
    with pytest.raises(PretrainedError, match="bit for bit"):
        from_pretrained(saved, trainable=True)
    assert from_pretrained(saved).baked


@pytest.mark.parametrize("name", sorted(FILES - {"config.json", "checkpoint.safetensors"}))
def test_missing_truncated_foreign_and_changed_files_are_refused(saved, name):
    path = saved / name
    whole = path.read_bytes()
    for data, words in [(whole[:-3], "truncated"), (b"", "truncated"), (b"PK\x03\x04 pickle", "truncated")]:
        path.write_bytes(data)
        with pytest.raises(PretrainedError, match=words):
            from_pretrained(saved)
    changed = bytearray(whole)
    changed[-1] ^= 1
    path.write_bytes(bytes(changed))
    with pytest.raises(PretrainedError, match="do not belong together"):
        from_pretrained(saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        from_pretrained(saved)


def test_other_tensors_under_the_right_digest_are_refused(saved, tmp_path):
    save_pretrained(small(state=5), tmp_path / "other")
    for name in ("model.safetensors", "hints.safetensors"):
        kept = (saved / name).read_bytes()
        data = (tmp_path / "other" / name).read_bytes() if name.startswith("model") else kept
        if name.startswith("hints"):
            save_file({"cell.psi": torch.ones(7)}, saved / name)
            data = (saved / name).read_bytes()
        (saved / name).write_bytes(data)
        key = "weights_sha256" if name.startswith("model") else "hints_sha256"
        before = json.loads((saved / "config.json").read_text())[key]
        edit(saved, **{key: hashlib.sha256(data).hexdigest()})
        with pytest.raises(PretrainedError, match="expected (tensor|hints)"):
            from_pretrained(saved)
        (saved / name).write_bytes(kept)
        edit(saved, **{key: before})
    assert from_pretrained(saved).baked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "JSON"),
        ('{"model_type": "bert"}', "another library"),
        ("[]", "another library"),
        ("[" * 100_000, "JSON"),
        ('{"model_type": "trm_verify"}', "keys"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_foreign_configurations_are_refused(saved, text, words):
    data = text if isinstance(text, bytes) else text.encode()
    (saved / "config.json").write_bytes(data)
    with pytest.raises(PretrainedError, match=words):
        from_pretrained(saved)


@pytest.mark.parametrize(
    "names",
    [["os.system"], ["ConfiguredModel"], ["trm_verify.models:SandwichRefiner"], [], ["A", "B"], [3], "SandwichRefiner"],
)
def test_unknown_classes_are_refused(saved, names):
    edit(saved, architectures=names)
    with pytest.raises(PretrainedError, match="config.json"):
        from_pretrained(saved)


@pytest.mark.parametrize("config", [{"state": -1}, {"color": "red"}, {"state": "many"}, {"rho": 2.0}])
def test_bad_configurations_are_refused(saved, config):
    edit(saved, config=config)
    with pytest.raises(PretrainedError, match="configuration of SandwichRefiner"):
        from_pretrained(saved)


def test_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_pretrained(tmp_path / "nowhere")


def test_only_known_classes_with_finite_weights_are_saved(tmp_path):
    class Mine(SandwichRefiner):
        pass

    with pytest.raises(PretrainedError, match="SandwichRefiner"):
        save_pretrained(Mine(4, 6, 3, 3), tmp_path / "a")
    broken = small()
    with torch.no_grad():
        broken.readout.weight[0, 0] = float("nan")
    with pytest.raises(PretrainedError, match=r"readout\.weight"):
        save_pretrained(broken, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_failed_save_leaves_the_old_model_whole(saved, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    calls = 0
    original = pretrained.os.fsync

    def full_disk(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(pretrained.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_pretrained(small(seed=6), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        save_pretrained(small(), tmp_path / "file" / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_saving_over_a_model_replaces_it(saved):
    save_pretrained(small(seed=6), saved)
    assert {p.name for p in saved.iterdir()} == FILES
    assert equal(from_pretrained(saved).state_dict(), small(seed=6).bake().state_dict())


def test_models_save_themselves_and_classes_load_their_own(saved, tmp_path):
    model = small()
    path = model.save_pretrained(tmp_path / "other")
    assert path.read_bytes() == (saved / "model.safetensors").read_bytes()
    for family in (SandwichRefiner, ConfiguredModel):
        loaded = family.from_pretrained(path.parent)
        assert type(loaded) is SandwichRefiner and loaded.baked
    trainable = SandwichRefiner.from_pretrained(path.parent, trainable=True, device="cpu")
    assert equal(trainable.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match=r"expected a saved CausalRefiner in .*, found a SandwichRefiner"):
        CausalRefiner.from_pretrained(path.parent)
