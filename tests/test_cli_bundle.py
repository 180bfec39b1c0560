"""`trm-verify bundle` and `check --bundle`: what is packed is proved, what is refused leaves nothing behind."""

from __future__ import annotations

import json
import random
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.deploy.keys import write_keys
from tests.report.saved import save
from trm_verify.cli import main
from trm_verify.deploy import pack, unpack

pytest.importorskip("model_signing", reason="model-signing is not installed (the extra sign)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, its signed bundle, and the keys."""
    folder = tmp_path_factory.mktemp("bundled")
    save(folder / "mine", audited=False)
    private, _ = write_keys(folder)
    assert main(["bundle", str(folder / "mine"), "--out", str(folder / "a.trmbundle"), "--key", str(private)]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(copytree(made, tmp_path / "copy"))


def ran(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def checked(capsys: pytest.CaptureFixture[str], folder: Path, *more: object) -> tuple[int, dict[str, Any]]:
    return ran(capsys, "check", "--bundle", folder / "a.trmbundle", *more)


def test_who_signed_and_why_it_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(capsys, folder, "--key", folder / "signing.pub", "--expect", "contraction(rate<=0.71)")
    assert (code, said["verdict"], said["not_compared"]) == (0, "VALID", [])
    assert len(said["signer"]["key_sha256"]) == 64 and "verifies with the public key" in said["signer"]["why"]
    assert [c["verdict"] for c in said["certificates"]] == ["VALID"]
    assert {f["name"] for f in said["files"]} >= {"config.json", "model.safetensors", "report.html"}
    main(["check", "--bundle", str(folder / "a.trmbundle"), "--key", str(folder / "signing.pub")])
    shown = capsys.readouterr().out
    assert shown.index("signed") < shown.index("digests") < shown.index("proof") < shown.index("proved")
    assert said["signer"]["key_sha256"] in shown


def test_without_a_key_nobody_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(capsys, folder)
    assert (code, said["signer"], said["not_compared"]) == (0, None, ["signature"])
    main(["check", "--bundle", str(folder / "a.trmbundle")])
    assert "VALID (signature not checked)" in capsys.readouterr().out


def test_the_same_model_gives_the_same_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = ran(capsys, "bundle", folder / "mine", "--out", folder / "again.trmbundle")
    assert code == 0
    assert (folder / "again.trmbundle").read_bytes() == (folder / "a.trmbundle").read_bytes()


def test_tampering_is_caught_with_and_without_the_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, chance = folder / "a.trmbundle", random.Random(0)
    whole = file.read_bytes()
    for at in chance.sample(range(len(whole)), 6):
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        for more, stage in (((), "bundle: "), (("--key", folder / "signing.pub"), "signature: ")):
            code, said = checked(capsys, folder, *more)
            assert code == 1 and said["error"]["message"].startswith(stage), at
    file.write_bytes(whole[: len(whole) // 2])
    assert checked(capsys, folder)[0] == 1


def test_a_bundle_that_was_made_anew_is_not_the_one_that_was_signed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "a.trmbundle"
    files = unpack(file.read_bytes())
    file.write_bytes(pack({**files, "report.html": b"<h1>All is well</h1>"}))
    assert checked(capsys, folder)[0] == 0, "the archive is whole and the proof holds; a report proves nothing"
    code, said = checked(capsys, folder, "--key", folder / "signing.pub")
    assert code == 1 and "changed after signing" in said["error"]["message"]


def test_the_proof_is_about_the_bundled_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "a.trmbundle"
    files = unpack(file.read_bytes())
    other = save(tmp_path / "other", audited=False, seed=1)
    stranger = (other / "model.trmcert.json").read_bytes()
    file.write_bytes(pack({**files, "model.trmcert.json": stranger}))
    code, said = checked(capsys, folder)
    assert code == 1 and "DIGEST" in said["error"]["message"]
    weights = (other / "model.safetensors").read_bytes()
    file.write_bytes(pack({**files, "model.safetensors": weights, "model.trmcert.json": stranger}))
    code, said = checked(capsys, folder)
    assert code == 1 and "cannot be used" in said["error"]["message"], "the configuration names other weights"
    config = files["config.json"].replace(b'"state": 4', b'"state": 5')
    file.write_bytes(pack({**files, "config.json": config}))
    assert checked(capsys, folder)[0] == 1


def test_wrong_keys_and_missing_signatures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, stranger = write_keys(folder, "stranger")
    code, said = checked(capsys, folder, "--key", stranger)
    assert code == 1 and "by another key" in said["error"]["message"]
    assert checked(capsys, folder, "--key", folder / "none.pub")[0] == 2
    (folder / "a.trmbundle.sig").rename(folder / "elsewhere.sig")
    code, said = checked(capsys, folder, "--key", folder / "signing.pub")
    assert code == 1 and "found none" in said["error"]["message"]
    assert checked(capsys, folder, "--key", folder / "signing.pub", "--signature", folder / "elsewhere.sig")[0] == 0


def test_a_claim_that_is_not_proved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(capsys, folder, "--expect", "contraction(rate<=0.1)")
    assert code == 1 and "contraction(rate<=0.1)" in said["error"]["message"]


def test_arguments_that_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = folder / "a.trmbundle"
    for argv in (
        ("check",), ("check", "x.trmcert.json", "--bundle", bundle), ("check", "--bundle", bundle, "--model", "m"),
        ("check", "x.trmcert.json", "--key", "k"), ("check", "--bundle", bundle, "--signature", "s"),
        ("check", "--bundle", folder / "none.trmbundle"), ("check", "--bundle", bundle, "--expect", "nonsense("),
        ("bundle", folder / "mine", "--out", "a.zip"), ("bundle", folder / "none"),
    ):  # fmt: skip
        assert ran(capsys, *argv)[0] == 2, argv


def test_what_is_not_packed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong, no bundle and no half of one is left."""
    source, target = folder / "mine", tmp_path / "out" / "b.trmbundle"

    def refused(code: int, *more: object) -> str:
        found, said = ran(capsys, "bundle", source, "--out", target, *more)
        assert found == code and (not target.parent.exists() or not list(target.parent.iterdir()))
        return str(said["error"]["message"])

    assert "openssl" in refused(2, "--key", folder / "signing.pub")
    assert "name a private key" in refused(2, "--key", folder / "none.key")
    certificate = source / "model.trmcert.json"
    whole = certificate.read_bytes()
    certificate.write_bytes(whole.replace(b'"exactly_one"', b'"at_most_one"', 1))
    assert "the kernel rejects model.trmcert.json" in refused(1)
    certificate.unlink()
    assert "trm-verify certify" in refused(2)
    certificate.write_bytes(whole)
    (source / "config.json").unlink()
    assert "save_pretrained" in refused(2)
