"""How long `import trm_verify` takes, and that it leaves torch alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench import ROOT, Json, Row

CODE = """
import sys, time
started = time.process_time()
import trm_verify
print(time.process_time() - started)
sys.exit("torch" in sys.modules)
"""


def run(out: Path) -> tuple[list[Row], Json]:
    """The best of five processes, in processor seconds."""
    seconds = [
        float(subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, cwd=ROOT).stdout)
        for _ in range(5)
    ]
    return [Row("imports", "import trm_verify, without torch", min(seconds), "s", 0.1)], {}
