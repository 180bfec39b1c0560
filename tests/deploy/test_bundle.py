"""Bundles: one archive of given files, and every byte of it counts."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_verify.deploy import BundleError, collect, pack, unpack
from trm_verify.deploy.bundle import MANIFEST

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(40)),
    "model.trmcert.json": b'{"claims": []}',
    "report.html": b"<!doctype html>",
}


def archive(entries: list[tuple[str, bytes]], change: Callable[[zipfile.ZipInfo], None] = lambda info: None,
            kind: int = zipfile.ZIP_STORED) -> bytes:  # fmt: skip
    """A ZIP file of these entries, in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as made:
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr, info.compress_type = 3, 0o100644 << 16, kind
            change(info)
            made.writestr(info, data)
    return buffer.getvalue()


def manifest(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(pack(FILES))) as made:
        found = json.loads(made.read(MANIFEST))
    found["files"] = [
        {"name": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in sorted(files.items())
    ]
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def with_manifest(files: dict[str, bytes], listed: dict[str, bytes] | None = None) -> list[tuple[str, bytes]]:
    return [(MANIFEST, manifest(files if listed is None else listed)), *sorted(files.items())]


def test_what_goes_in_comes_out() -> None:
    assert unpack(pack(FILES)) == FILES
    assert pack(dict(reversed(FILES.items()))) == pack(FILES)
    assert archive(with_manifest(FILES)) == pack(FILES), "the helper below writes the same archive"


@given(st.dictionaries(st.from_regex(r"[a-zA-Z0-9][a-z._-]{0,9}", fullmatch=True), st.binary(max_size=60), max_size=4))
def test_any_contents_survive(more: dict[str, bytes]) -> None:
    files = {**FILES, **{f"{name}.trmcert.json": data for name, data in more.items()}}
    assert unpack(pack(files)) == files
    assert pack(unpack(pack(files))) == pack(files)


def test_a_bundle_is_an_archive_that_others_can_open() -> None:
    with zipfile.ZipFile(io.BytesIO(pack(FILES))) as made:
        assert made.testzip() is None
        assert made.namelist() == [MANIFEST, *sorted(FILES)]


def test_every_flipped_byte_is_caught() -> None:
    """Every byte, not a sample: flipped in one random bit, and replaced by another random byte."""
    data, chance = pack(FILES), random.Random(0)
    for at in range(len(data)):
        for mask in (1 << chance.randrange(8), chance.randrange(1, 256)):
            changed = bytearray(data)
            changed[at] ^= mask
            with pytest.raises(BundleError):
                unpack(bytes(changed))


@given(st.data())
def test_cut_and_stretched_bundles_are_refused(data: st.DataObject) -> None:
    whole = pack(FILES)
    at, more = data.draw(st.integers(0, len(whole))), data.draw(st.binary(min_size=1, max_size=30))
    for changed in (whole[:at], whole[at:], whole[:at] + more + whole[at:]):
        if changed != whole:
            with pytest.raises(BundleError):
                unpack(changed)


@given(st.binary(max_size=300))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        unpack(data)


@pytest.mark.parametrize(
    "name",
    ["../evil.trmcert.json", "/etc/evil.trmcert.json", "a/b.trmcert.json", "..\\evil.trmcert.json",
     "C:evil.trmcert.json", ".trmcert.json", "notes.txt", "model.safetensors/", "checkpoint.safetensors",
     "a\n.trmcert.json", "x.trmcert.json\x00"],
)  # fmt: skip
def test_names_that_no_bundle_has(name: str) -> None:
    with pytest.raises(BundleError, match=r"no bundle has|no complete archive|broken manifest"):
        unpack(archive(with_manifest({**FILES, name: b"x"})))
    with pytest.raises(BundleError, match="plain names"):
        pack({**FILES, name: b"x"})


def test_two_entries_of_one_name() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive([*with_manifest(FILES), ("config.json", b'{"evil": 1}')])
    with pytest.raises(BundleError, match="two entries named 'config.json'"):
        unpack(data)


def test_links_and_other_attributes() -> None:
    def link(info: zipfile.ZipInfo) -> None:
        if info.filename == "config.json":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(BundleError, match="other bytes"):
        unpack(archive(with_manifest(FILES), link))


def test_bombs() -> None:
    files = {**FILES, "model.safetensors": bytes(10**7)}
    small = archive(with_manifest(files), kind=zipfile.ZIP_DEFLATED)
    assert len(small) < 20_000
    with pytest.raises(BundleError, match="compressed"):
        unpack(small)
    with pytest.raises(BundleError, match="2000 entries|2001 entries"):
        unpack(archive([(f"{k}.trmcert.json", b"") for k in range(2000)]))


def test_overlapping_entries() -> None:
    """Ten directory records that share one body: together they claim more than the file has."""
    body = archive([("config.json", bytes(5000))])
    end = body.rindex(b"PK\x05\x06")
    start = body.index(b"PK\x01\x02")
    record = body[start:end]
    tail = bytearray(body[end:])
    tail[8:10] = tail[10:12] = (10).to_bytes(2, "little")
    tail[12:16] = (10 * len(record)).to_bytes(4, "little")
    with pytest.raises(BundleError):
        unpack(body[:start] + 10 * record + bytes(tail))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.trmcert.json"])
def test_every_bundle_has_these(name: str) -> None:
    files = {n: d for n, d in FILES.items() if n != name}
    with pytest.raises(BundleError, match="found none"):
        pack(files)
    with pytest.raises(BundleError, match="found none"):
        unpack(archive(with_manifest(files)))


def test_manifests_that_lie() -> None:
    other = {**FILES, "config.json": b"[]"}
    fewer = {n: d for n, d in FILES.items() if n != "report.html"}
    for listed, found in ((other, "not the one in the manifest"), (fewer, "lists other files"),
                          ({**FILES, "more.trmcert.json": b""}, "lists other files")):  # fmt: skip
        with pytest.raises(BundleError, match=found):
            unpack(archive(with_manifest(FILES, listed)))
    with pytest.raises(BundleError, match=f"no {MANIFEST}"):
        unpack(archive(sorted(FILES.items())))
    text = manifest(FILES)
    for broken in (b"[" * 10_000, b"{}", text.replace(b"bundle/v1", b"bundle/v2"), text[:-5], b"\xff" + text,
                   text.replace(b'"size":2}', b'"size":2,"size":2}')):  # fmt: skip
        with pytest.raises(BundleError, match="manifest"):
            unpack(archive([(MANIFEST, broken), *sorted(FILES.items())]))


def test_the_manifest_comes_first() -> None:
    entries = with_manifest(FILES)
    with pytest.raises(BundleError, match="other bytes"):
        unpack(archive([*entries[1:], entries[0]]))


def test_what_is_collected(tmp_path: Path) -> None:
    for name, data in {**FILES, "checkpoint.safetensors": b"secret", "notes.txt": b"", "report.html": b"old"}.items():
        (tmp_path / name).write_bytes(data)
    assert sorted(collect(tmp_path)) == ["config.json", "model.safetensors", "model.trmcert.json"]
    (tmp_path / "my model.trmcert.json").write_bytes(b"")
    with pytest.raises(BundleError, match="rename it"):
        collect(tmp_path)
