"""The code of docs/testing.md runs, its properties included."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "docs.testing"}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(code, "docs/testing.md", "exec"), names)
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("expected one step to bring the pair 0.9 times as close") and second == "True True"
    properties: list[Callable[[], None]] = [value for name, value in names.items() if name.startswith("test_")]
    assert len(properties) == 4
    for each in properties:
        each()
