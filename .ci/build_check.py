"""Builds sdist and wheel, installs the wheel in a clean environment, and uses it from an empty directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SMOKE = """
import torch
import trm_verify as tv

linear = torch.nn.Linear(3, 3)
with torch.no_grad():
    linear.weight.copy_(torch.eye(3) / 2)
result = tv.verify_fixed_point(tv.recursive(lambda z: linear(z), state_shape=(3,)))
if result.verdict is not tv.PROVED:
    raise SystemExit(f"expected PROVED, found {result}")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command and returns its standard output; stops this program if the command fails."""
    print("+", *command, flush=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"expected exit 0 from {command[0]}, found {done.returncode}\n{done.stdout}")
    return done.stdout


def only(directory: Path, pattern: str) -> Path:
    """The one file that matches."""
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"expected one {pattern}, found {[file.name for file in found]}")
    return found[0]


def contents(wheel: Path) -> dict[str, int]:
    """Name and CRC of every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def main() -> None:
    """Build, compare, install, use."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        empty = work / "empty"
        empty.mkdir()
        build = (sys.executable, "-m", "build", "--no-isolation")
        # `build` makes the wheel from the unpacked sdist, so a file that the sdist lacks is missed here.
        run(*build, "--outdir", work / "dist", ROOT, cwd=empty)
        run(*build, "--wheel", "--outdir", work / "direct", ROOT, cwd=empty)
        wheel = only(work / "dist", "*.whl")
        only(work / "dist", "*.tar.gz")
        files = contents(wheel)
        if files != contents(only(work / "direct", "*.whl")):
            raise SystemExit("expected the wheel of the sdist to equal the wheel of the checkout, found a difference")
        for needed in (
            "trm_verify/py.typed",
            "trm_verify/trm_kernel.pyz",
            "trm_verify/kernel/__main__.py",
            "pytest_trm_verify.py",
        ):
            if needed not in files:
                raise SystemExit(f"expected {needed} in the wheel, found {sorted(files)}")

        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=empty)
        run(python, "-m", "pip", "check", cwd=empty)
        run(work / "venv" / "bin" / "trm-verify", "--help", cwd=empty)
        archive = Path(run(work / "venv" / "bin" / "trm-verify", "kernel-path", cwd=empty).strip())
        if archive.parent != only(work / "venv", "lib/python*/site-packages") / "trm_verify":
            raise SystemExit(f"expected the archive of the wheel, found {archive}")
        run(python, "-I", "-S", archive, "--help", cwd=empty)
        run(python, "-c", SMOKE, cwd=empty)
        if list(empty.iterdir()):
            raise SystemExit(f"expected nothing written to the current directory, found {list(empty.iterdir())}")
    print("wheel and sdist: built, equal, installed in a clean environment and used")


if __name__ == "__main__":
    main()
