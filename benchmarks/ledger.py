"""What has been measured already, one line of JSON each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import trm_verify

Json = dict[str, Any]


@cache
def code(*parts: str) -> str:
    """A digest of the library's sources: what was measured with other sources is measured again.

    Args:
        parts: the modules and packages that matter; all of the library without any.
    """
    digest = hashlib.sha256()
    folder = Path(trm_verify.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if not parts or name.parts[0].removesuffix(".py") in parts:
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Ledger:
    """A file of results by key, each of them under the settings that it was measured with. Failures are tried again.

    Args:
        settings: results of other settings, or of another version of the library, are kept in the file, unused.
        any_code: use results of other versions as well; they keep the digest of theirs.
        parts: what of the library the results depend on, see `code`.
    """

    def __init__(self, path: Path, settings: Json, any_code: bool = False, parts: Sequence[str] = ()) -> None:
        self.path, self.settings, self.code = path, settings, code(*parts)
        self._known: dict[str, Json] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that an interruption cut short
                continue
            usable = any_code or entry["code"] == self.code
            if usable and entry["settings"] == settings and entry["result"].get("verdict") != "failed":
                self._known[entry["key"]] = {**entry["result"], "code": entry["code"]}

    @property
    def known(self) -> list[Json]:
        """What the file holds under these settings."""
        return list(self._known.values())

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Json:
        return self._known[key]

    def add(self, key: str, result: Json) -> None:
        """Write down a result."""
        entry = {"key": key, "settings": self.settings, "code": self.code, "result": result}
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        fresh = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("" if fresh else "\n") + text + "\n")
        self._known[key] = {**result, "code": self.code}

    def measured(
        self, keys: Iterable[object], measure: Callable[[Any], Json], tick: Callable[[Json], None]
    ) -> list[Json]:
        """The results of all keys, in order; those not yet known are measured and written down one by one."""
        found = []
        for key in keys:
            name = str(key)
            if name not in self:
                self.add(name, measure(key))
            found.append({"key": key, **self[name]})
            tick(found[-1])
        return found
