"""The kernel as one file: reproducible, complete, and out of reach of its surroundings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from trm_verify import archive

PACKAGE = Path(archive.__file__).parent


def test_two_builds_are_byte_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = archive.build(tmp_path / "a.pyz")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    mask = os.umask(0o077)
    second = archive.build(tmp_path / "b.pyz")
    os.umask(mask)
    monkeypatch.undo()
    time.tzset()
    assert first.read_bytes() == second.read_bytes() == archive.contents()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyz", "b.pyz"]


def test_it_holds_exactly_the_trusted_sources() -> None:
    expected = {"__main__.py", "trm_verify/__init__.py"}
    expected |= {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.joinpath("kernel").rglob("*.py")}
    with zipfile.ZipFile(archive.path()) as file:
        infos = file.infolist()
        assert [info.filename for info in infos] == sorted(expected)
        for info in infos:
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            if info.filename != "__main__.py":
                assert file.read(info) == PACKAGE.parent.joinpath(info.filename).read_bytes()


def test_path_rebuilds_what_is_missing_or_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "NAME", "test.pyz")  # so that no shipped archive is found
    monkeypatch.setattr(archive, "_cache", lambda: tmp_path / "cache")
    built = archive.path()
    assert built.is_relative_to(tmp_path / "cache")
    assert built.read_bytes() == archive.contents()
    stamp = built.stat().st_mtime_ns
    assert archive.path() == built
    assert built.stat().st_mtime_ns == stamp
    built.write_bytes(built.read_bytes()[:-1])
    assert archive.path().read_bytes() == archive.contents()


def test_a_shipped_archive_is_used_only_if_it_equals_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "trm_verify"
    package.joinpath("kernel").mkdir(parents=True)
    package.joinpath("__init__.py").write_text("")
    package.joinpath("kernel", "__main__.py").write_text("def main():\n    return 0\n")
    monkeypatch.setattr(archive, "_PACKAGE", package)
    monkeypatch.setattr(archive, "_cache", lambda: tmp_path / "cache")
    shipped = archive.build(package / archive.NAME)
    assert archive.path() == shipped
    package.joinpath("kernel", "__main__.py").write_text("def main():\n    return 1\n")
    assert archive.path().is_relative_to(tmp_path / "cache")


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archive.build(tmp_path / "missing" / "a.pyz")
    (tmp_path / "a.pyz").mkdir()
    with pytest.raises(OSError):
        archive.build(tmp_path / "a.pyz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pyz"]


def test_it_runs_safely_among_hostile_files(tmp_path: Path) -> None:
    evil = "open('owned', 'w').close()\nraise SystemExit(0)\n"
    for module in ("json", "re", "hashlib", "fractions", "argparse", "sitecustomize", "usercustomize"):
        tmp_path.joinpath(f"{module}.py").write_text(evil)
    kernel = tmp_path / "trm_verify" / "kernel"
    kernel.mkdir(parents=True)
    for file in (kernel / "__main__.py", kernel / "__init__.py", kernel.parent / "__init__.py"):
        file.write_text(evil)
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(archive.path()), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "weights" in run.stdout
    assert not tmp_path.joinpath("owned").exists()
    # The trap works: without -I the same interpreter does import the hostile module.
    subprocess.run([sys.executable, "-S", "-c", "import json"], cwd=tmp_path, timeout=60, check=False)
    assert tmp_path.joinpath("owned").exists()
