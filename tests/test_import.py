"""`import trm_verify` is fast and imports nothing heavy; its public names are found when they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import trm_verify

INIT = Path(trm_verify.__file__)


def run(code: str) -> str:
    """Runs code in a fresh interpreter and returns what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=INIT.parents[1])
    return done.stdout.strip()


def test_import_is_fast_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import trm_verify; "
        "print(time.perf_counter() - start, sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    outputs = [run(code).split(" ", 1) for _ in range(3)]
    assert {loaded for _, loaded in outputs} == {"[]"}
    assert min(float(seconds) for seconds, _ in outputs) < 0.1


def test_the_trusted_init_imports_only_the_standard_library() -> None:
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    guarded = {
        id(node)
        for statement in tree.body
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        for node in ast.walk(statement)
    }
    modules = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    assert modules == {"__future__", "importlib", "typing"}


@pytest.mark.parametrize("name", trm_verify.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(trm_verify)
    assert getattr(trm_verify, name) is getattr(trm_verify, name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    guard = next(s for s in tree.body if isinstance(s, ast.If))
    seen = {alias.name for s in guard.body if isinstance(s, ast.ImportFrom) for alias in s.names}
    assert seen == set(trm_verify.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        trm_verify.no_such_name  # noqa: B018
    assert not hasattr(trm_verify, "api_")


def test_importing_a_submodule_does_not_replace_a_function() -> None:
    code = (
        "import importlib, pkgutil, trm_verify\n"
        "names = [m.name for m in pkgutil.iter_modules(trm_verify.__path__)]\n"
        "print([n for n in names if n in trm_verify._HOME])"
    )
    assert run(code) == "[]"


def test_the_version_is_the_installed_one() -> None:
    assert trm_verify.__version__ == version("trm-verify")
