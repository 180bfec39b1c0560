"""Methods of models and layers that take or give tensors say of which shapes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "trm_verify"
NAMES = {"encode", "refine", "weights", "forward", "matrix"}


def undocumented(source: Path) -> Iterator[str]:
    for owner in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(owner, ast.ClassDef) and not owner.name.startswith("_"):
            for method in owner.body:
                if isinstance(method, ast.FunctionDef) and method.name in NAMES:
                    text = ast.get_docstring(method) or ""
                    if not any(word in text.lower() for word in ("shape", "none of its own", "the weights that")):
                        yield f"{source.name}: {owner.name}.{method.name}"


def test_tensors_have_shapes() -> None:
    sources = [*PACKAGE.glob("models/*.py"), *PACKAGE.glob("nn/*.py")]
    assert len(sources) > 20
    assert [name for source in sources for name in undocumented(source)] == []
