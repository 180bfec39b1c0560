"""Replays the golden certificates through the kernel's zipapp, with whichever Python runs this file.

`certificates/corpus.json` is a list of cases:
`{"certificate": path, "weights": path, "arguments": [further arguments], "code": null or the expected code}`,
with paths relative to `certificates/`. Standard library only, so that it runs where nothing is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "certificates"


def build_archive(target: Path) -> Path:
    """Builds the zipapp from the sources of this checkout."""
    spec = importlib.util.spec_from_file_location("archive", ROOT / "trm_verify" / "archive.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("expected trm_verify/archive.py in the checkout, found none")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: Path = module.build(target)
    return built


def replay(archive: Path, case: dict[str, Any]) -> str:
    """Runs one case; returns what is wrong, or an empty string."""
    files = [str(CORPUS / case[key]) for key in ("certificate", "weights")]
    command = [sys.executable, "-I", "-S", str(archive), *files, *case["arguments"]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wanted_exit, wanted_word = (0, "VALID") if case["code"] is None else (1, case["code"])
    output = run.stdout + run.stderr
    if run.returncode == wanted_exit and re.search(rf"\b{wanted_word}\b", output):
        return ""
    found = f"exit {run.returncode}: {output.strip()[-400:]}"
    return f"{case['certificate']}: expected exit {wanted_exit} and {wanted_word}, found {found}"


def main() -> int:
    """Replays every case and prints a line for each that goes wrong, then a summary."""
    cases = json.loads((CORPUS / "corpus.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        archive = build_archive(Path(directory, "trm_kernel.pyz"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each case is a process of its own
            problems = [problem for problem in pool.map(lambda case: replay(archive, case), cases) if problem]
    for problem in problems:
        print(problem)
    good = sum(case["code"] is None for case in cases)
    print(
        f"Python {platform.python_version()}: {good} good and {len(cases) - good} bad certificates replayed,",
        end=" ",
    )
    print(f"{len(problems)} not as expected")
    return 1 if problems or not 0 < good < len(cases) else 0


if __name__ == "__main__":
    sys.exit(main())
