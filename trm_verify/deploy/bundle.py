"""Bundles: weights, configuration, certificates and report in one file, with a manifest of their digests.

A bundle is a ZIP archive, so that anyone can open it, but only one archive of given files is a bundle: stored without
compression, the manifest first, then the files by name, every date and attribute fixed. Reading builds that archive
again and compares all bytes. So nothing hides between the entries, every byte counts, and an archive that would unpack
to more than it is, to another folder or to two files of one name is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from trm_verify import __version__
from trm_verify.kernel import document
from trm_verify.kernel.errors import CheckError
from trm_verify.naming import CONFIG, SUFFIX, WEIGHTS
from trm_verify.pretrained import HINTS

BUNDLE_SUFFIX, MANIFEST, REPORT, ACCURACY = ".trmbundle", "manifest.json", "report.html", "accuracy.json"
FORMAT = "https://trm-verify.dev/bundle/v1"
MAX_BYTES, MAX_FILES, MAX_MANIFEST = 1 << 31, 1000, 1 << 20
_CERTIFICATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}" + re.escape(SUFFIX))
_FIXED = (CONFIG, WEIGHTS, HINTS, REPORT, ACCURACY)


class BundleError(ValueError):
    """A file that is no bundle, or a directory that cannot become one."""


def collect(directory: Path | str) -> dict[str, bytes]:
    """The files of a model directory that belong in a bundle; the trainable checkpoint stays behind.

    Raises:
        BundleError: a file that every bundle needs is missing, or a name that bundles do not have.
        OSError: a file cannot be read.
    """
    source = Path(directory)
    names = [name for name in (CONFIG, WEIGHTS, HINTS, ACCURACY) if (source / name).is_file()]
    names += sorted(path.name for path in source.glob(f"*{SUFFIX}"))
    files = {name: document.read_file(source / name, MAX_BYTES) for name in names}
    _require(files, f"the directory {source}")
    return files


def pack(files: Mapping[str, bytes]) -> bytes:
    """The bundle of these files: the same files give the same bytes, whenever and wherever.

    Raises:
        BundleError: a missing file, a name that bundles do not have, or too much.
    """
    _require(files, "the files")
    entries = [
        {"name": n, "size": len(files[n]), "sha256": hashlib.sha256(files[n]).hexdigest()} for n in sorted(files)
    ]
    manifest = {"_type": FORMAT, "files": entries, "produced_by": {"name": "trm_verify", "version": __version__}}
    return _archive(document.canonical(manifest) + b"\n", files)


def _archive(manifest: bytes, files: Mapping[str, bytes]) -> bytes:
    """The one archive of a manifest and its files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [(MANIFEST, manifest), *sorted(files.items())]:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a bundle, in memory, once every byte of it is accounted for.

    1  it is no larger than a bundle may be
    2  it is a ZIP archive of stored entries that together are no larger than it is
    3  the names are those that bundles have, each once
    4  the manifest is of this format and lists exactly these files, with their sizes and digests
    5  packing the files again gives the same bytes

    Raises:
        BundleError: which of these does not hold.
    """
    if len(data) > MAX_BYTES:
        raise BundleError(f"expected a bundle of at most {MAX_BYTES} bytes, found {len(data)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = _entries(archive, len(data))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error, zlib.error) as error:
        raise _broken(f"no complete archive ({error})") from error
    except (ValueError, OSError, OverflowError, LookupError) as error:
        if isinstance(error, BundleError):
            raise
        raise _broken(f"no complete archive ({error})") from error
    manifest = found.pop(MANIFEST, None)
    if manifest is None:
        raise _broken(f"no {MANIFEST}")
    _require(found, "the bundle")
    _match(manifest, found)
    if _archive(manifest, found) != data:
        raise _broken("other bytes than those of its files and manifest (it was changed, or made by another tool)")
    return found


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise _broken(f"{len(infos)} entries, at most {MAX_FILES} are allowed")
    total = 0
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise _broken(f"the entry {ascii(info.filename)}, which is compressed or encrypted")
        total += info.file_size
        if total > size:
            raise _broken("entries that claim more bytes than the file has")
        if info.filename != MANIFEST and not _named(info.filename):
            raise _broken(f"an entry named {ascii(info.filename)[:120]}, which no bundle has")
        if info.filename == MANIFEST and info.file_size > MAX_MANIFEST:
            raise _broken(f"a manifest of {info.file_size} bytes")
    names = [info.filename for info in infos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _broken(f"two entries named {ascii(twice[0])}")
    return {info.filename: archive.read(info) for info in infos}


def _match(manifest: bytes, files: Mapping[str, bytes]) -> None:
    """The manifest lists exactly these files."""
    try:
        fields = document.fields(document.load(manifest), "_type", "files", "produced_by", where=MANIFEST)
        if fields[0] != FORMAT:
            raise _broken(f"a manifest of type {ascii(fields[0])[:80]}; this version reads {FORMAT}")
        listed = {}
        for entry in document.items(fields[1], "files"):
            name, size, digest = document.fields(entry, "name", "size", "sha256", where=MANIFEST)
            listed[document.text(name, "name")] = (size, digest)
    except CheckError as error:
        raise _broken(f"a broken manifest ({error})") from error
    if sorted(listed) != sorted(files) or len(listed) != len(fields[1]):
        differ = sorted(set(listed) ^ set(files)) or sorted(listed)
        raise _broken(f"a manifest that lists other files than there are ({ascii(differ[0])})")
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        if listed[name] != (len(content), digest):
            raise _broken(f"the file {name} with SHA-256 {digest}, which is not the one in the manifest")


def _named(name: str) -> bool:
    return name in _FIXED or _CERTIFICATE.fullmatch(name) is not None


def _require(files: Mapping[str, bytes], where: str) -> None:
    """The files that make a bundle are there, and no others."""
    for name in files:
        if not _named(name):
            raise BundleError(
                f"expected certificates in {where} to have plain names (letters, digits, '.', '_', '-'), found "
                f"{ascii(name)}; rename it"
            )
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise BundleError(f"expected {name} in {where}, found none; save the model with save_pretrained")
    if not any(name.endswith(SUFFIX) for name in files):
        raise BundleError(
            f"expected a certificate (*{SUFFIX}) in {where}, found none; make one with trm-verify certify"
        )
    if len(files) >= MAX_FILES or sum(map(len, files.values())) > MAX_BYTES - MAX_MANIFEST:
        raise BundleError(f"expected at most {MAX_FILES} files and {MAX_BYTES} bytes in {where}, found more")


def _broken(found: str) -> BundleError:
    return BundleError(f"expected a bundle as trm-verify bundle writes it, found {found}; get the file again")
