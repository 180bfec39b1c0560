"""Code lines of the kernel, by module: lines that hold code, without blanks, comments and docstrings.

python benchmarks/kernel_size.py
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

KERNEL = Path(__file__).parents[1] / "trm_verify" / "kernel"
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def code_lines(source: str) -> int:
    """How many lines of a module hold code."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in SILENT
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print one line a module and the sum."""
    sizes = {
        str(p.relative_to(KERNEL)): code_lines(p.read_text(encoding="utf-8")) for p in sorted(KERNEL.rglob("*.py"))
    }
    for name, size in sizes.items():
        print(f"{size:5d}  {name}")
    print(f"{sum(sizes.values()):5d}  in all")


if __name__ == "__main__":
    main()
