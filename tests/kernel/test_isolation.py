"""The laws that can be read off the kernel's source: what it imports, and what it must not contain."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "trm_verify" / "kernel").rglob("*.py"))


# Standard, but a way to run code, reach the network or other machines' state, or unpickle.
FORBIDDEN = {"ctypes", "importlib", "marshal", "multiprocessing", "pickle", "random", "shelve", "socket", "subprocess"}

# Floating point rounds, and `float` of a large rational raises OverflowError; the others run what they read.
BUILTINS = {"float", "round", "complex", "eval", "exec", "compile", "__import__", "breakpoint", "input"}


def violations(tree: ast.AST) -> Iterator[str]:
    """Every breach of a kernel law in one module, as text."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _import(alias.name)
            case ast.ImportFrom(module=module, level=level):
                if level or module is None:
                    yield "relative import"
                else:
                    yield from _import(module)
            case ast.Assert():
                yield "assert"
            case ast.Constant(value=float() | complex()):
                yield f"float literal {node.value}"
            case (
                ast.Attribute(attr="environ" | "environb" | "getenv" | "getenvb" | "putenv")
                | ast.alias(name="environ" | "environb" | "getenv" | "getenvb")
            ):
                yield "environment"
            case ast.Call(func=function, args=arguments):
                called = {n.id for n in (function, *arguments) if isinstance(n, ast.Name)}
                yield from (f"call of {name}" for name in sorted(called & BUILTINS))
            case ast.ExceptHandler(type=None):
                yield "bare except"


def _import(name: str) -> Iterator[str]:
    top = name.partition(".")[0]
    if top == "trm_verify":
        if name != "trm_verify.kernel" and not name.startswith("trm_verify.kernel."):
            yield f"import of {name}"
    elif top not in sys.stdlib_module_names or top in FORBIDDEN:
        yield f"import of {name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_kernel_keeps_its_laws(source: Path) -> None:
    assert list(violations(ast.parse(source.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import numpy",
        "import torch.nn",
        "from scipy import linalg",
        "from . import numbers",
        "from .numbers import floor_at",
        "import trm_verify",
        "from trm_verify import box",
        "from trm_verify.export import export",
        "import trm_verify.kernelish",
        "import pickle",
        "def f():\n    import safetensors",
        "assert True",
        "x = 1e-6",
        "x = 2j",
        "import os\nos.environ['X']",
        "import os\nos.getenv('X')",
        "from os import environ",
        "x = float(1)",
        "x = map(float, y)",
        "x = round(y)",
        "eval('1')",
        "try:\n    pass\nexcept:\n    pass",
    ],
)
def test_each_breach_is_seen(code: str) -> None:
    assert list(violations(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import json, os.path",
        "from fractions import Fraction",
        "from trm_verify.kernel.errors import CheckError",
        "from trm_verify.kernel import numbers",
        "x = map(float.as_integer_ratio, y)",
        "def f(x: tuple[float, ...]) -> None: ...",
        "x = self.input",
        "input: int = 1",
    ],
)
def test_what_is_allowed_passes(code: str) -> None:
    assert list(violations(ast.parse(code))) == []


def test_there_is_a_kernel_to_look_at() -> None:
    names = {source.name for source in SOURCES}
    assert {"errors.py", "document.py", "weights.py", "graph.py", "numbers.py"} <= names


def test_every_kernel_module_imports_without_site_packages() -> None:
    names = [s.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for s in SOURCES]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    code = f"import importlib\nfor m in {modules}: importlib.import_module(m)\nprint('ok')"
    run = subprocess.run(
        [sys.executable, "-E", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "ok\n"
