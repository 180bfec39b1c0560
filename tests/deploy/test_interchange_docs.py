"""The code of docs/interchange.md runs and prints what the page says; its command lines parse."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from trm_verify.cli.arguments import parser

TEXT = (Path(__file__).parents[2] / "docs" / "interchange.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.slow
def test_the_code_of_the_page_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs.interchange"}
    ran = 0
    for (kind, code), (after, shown) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "docs/interchange.md", "exec"), names)
            assert after == "text" and printed.getvalue() == shown
            ran += 1
    assert ran == 6


def test_its_command_lines_parse() -> None:
    lines = [line for kind, code in BLOCKS if kind == "sh" for line in code.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("trm-verify ")]
    assert [parser().parse_args(words).command for words in commands] == ["vnnlib", "vnnlib", "queries"]
