"""`import trm_verify` is fast and imports nothing heavy; its public names are found when they are used."""

from __future__ import annotations

import ast
import inspect
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


TYPED = """
import torch
import trm_verify as tv
from trm_verify.models import TinyRecursive

def use(model: torch.nn.Module, x: torch.Tensor) -> tv.VerificationResult:
    whole = tv.verify_fixed_point(model, norm="l2", timeout=5)
    reveal_type(whole.rate)
    reveal_type(tv.verify_fixed_point(model, tv.Box(0, 1), eps="0.1"))
    reveal_type(tv.verify_fixed_point(model, x, workers=2))
    reveal_type(TinyRecursive.from_pretrained("directory"))
    tv.verify_fixed_point(model, eps=0.1, nrom="l2")
    tv.verify_fixedpoint(model)
    return whole
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_public_calls(tmp_path: Path) -> None:
    source = tmp_path / "typed.py"
    source.write_text(TYPED)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(source)],
        capture_output=True,
        text=True,
        cwd=INIT.parents[1],
        check=False,
    )
    # mypy may answer from its cache, with the path that this file had in another run
    lines = [line.split(": ", 1)[1] for line in ran.stdout.splitlines() if f"{source.name}:" in line]
    revealed = [line.split('"')[1] for line in lines if "Revealed" in line]
    result = "trm_verify.result.VerificationResult"
    assert revealed == [
        "float | None", result, f"{result} | {result}s", "trm_verify.models.tiny.TinyRecursive",
    ]  # fmt: skip
    errors = [line for line in lines if line.startswith("error")]
    assert "nrom" in errors[0] and "has no attribute" in errors[-1], ran.stdout
    assert all("[call-overload]" in error for error in errors[:-1])


def test_the_typed_arguments_are_those_of_the_call() -> None:
    """The overloads take theirs from a dictionary type, which nothing else holds to the function."""
    from trm_verify import api

    parameters = inspect.signature(api.verify_fixed_point).parameters.values()
    own = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert own == {name: str(kind.__forward_arg__) for name, kind in api.Options.__annotations__.items()}
