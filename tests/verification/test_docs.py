"""The code of docs/scale.md runs and prints what the page says; its examples need no second process."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_examples_print_what_the_page_says() -> None:
    blocks = re.findall(r"```(python|text)\n(.*?)```", TEXT, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 2
    names: dict[str, Any] = {}
    for (_, code), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/scale.md", "exec"), names)
        assert printed.getvalue() == shown
