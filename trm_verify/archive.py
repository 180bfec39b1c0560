"""The kernel as one file: a zipapp with the same bytes wherever and whenever it is built.

Run it as `python -I -S trm_kernel.pyz CERT WEIGHTS`. With `-I` neither the current directory nor the
environment can put another module in the place of one of the standard library's. This module itself imports
only the standard library: the wheel's build hook runs it before anything is installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "trm_kernel.pyz"

_PACKAGE = Path(__file__).resolve().parent
_MAIN = b"""import sys

from trm_verify.kernel.__main__ import main

sys.exit(main())
"""


def contents() -> bytes:
    """The archive's bytes: a function of the sources alone."""
    files = {"__main__.py": _MAIN}
    for source in [_PACKAGE / "__init__.py", *_PACKAGE.glob("kernel/**/*.py")]:
        files[source.relative_to(_PACKAGE.parent).as_posix()] = source.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            # Stored, with date, system and mode fixed: nothing of the machine or of zlib's version gets in.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def build(target: Path) -> Path:
    """Writes the archive to `target`, whole or not at all, and returns `target`.

    Raises:
        OSError: the target's directory is missing or not writable.
    """
    return _write(target, contents())


def path() -> Path:
    """The archive of exactly the installed sources: the shipped one, else one in the user's cache directory.

    Raises:
        OSError: there is no shipped archive and the cache directory is not writable.
    """
    data = contents()
    shipped = _PACKAGE / NAME
    if _holds(shipped, data):
        return shipped
    cached = _cache() / hashlib.sha256(data).hexdigest()[:16] / NAME
    if _holds(cached, data):
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    return _write(cached, data)


def _holds(file: Path, data: bytes) -> bool:
    return file.is_file() and file.read_bytes() == data


def _write(target: Path, data: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    return target


def _cache() -> Path:
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"]) / "trm_verify" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "trm_verify"
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(configured) if os.path.isabs(configured) else Path.home() / ".cache") / "trm_verify"
