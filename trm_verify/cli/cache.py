"""What `trm-verify ci` remembers, by digests: verdicts on the very same bytes, and certificates of the same question.

A remembered certificate is checked again, so nobody has to trust it. A remembered verdict is as good as whoever can
write to the folder; `--check` uses none unless it is given one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trm_verify.cli.outcome import cannot, usage

Json = dict[str, Any]


@dataclass(frozen=True)
class Cache:
    """A folder with one file an entry, named by the digest of everything that the entry depends on."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """The cache in a folder, which is made if need be.

        Raises:
            Failure: it cannot be made or read, or is no folder.
        """
        if folder.exists() and not folder.is_dir():
            raise usage(f"--cache: expected a folder, found the file {str(folder)!r}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise cannot("write to the cache", error, "choose another folder with --cache") from error
        return cls(folder)

    def verdict(self, about: Json) -> Json | None:
        """What the kernel said about this before: only ever that it is valid. A spoiled entry is no entry."""
        try:
            entry = json.loads(self._path("check", about, ".json").read_bytes())
            if entry["about"] != about or entry["said"]["verdict"] != "VALID":
                return None
            said: Json = entry["said"]
            return said
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def remember(self, about: Json, said: Json) -> None:
        """File a verdict of the kernel."""
        self._write(self._path("check", about, ".json"), json.dumps({"about": about, "said": said}).encode())

    def certificate(self, about: Json) -> Path | None:
        """A certificate that was made for the same question; the caller checks it."""
        path = self._path("certificate", about, ".json")
        return path if path.is_file() else None

    def keep(self, about: Json, certificate: bytes) -> None:
        """File a certificate."""
        self._write(self._path("certificate", about, ".json"), certificate)

    def _path(self, kind: str, about: Json, suffix: str) -> Path:
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{kind}-{key}{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        """In one piece: jobs may share the folder."""
        handle, temporary = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
