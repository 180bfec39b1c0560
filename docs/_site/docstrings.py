"""Docstrings of this library as Markdown: asterisks of z* and (batch, *shape) are no emphasis; labels stand out."""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")
LABEL = re.compile(r"^(?P<label>Shape|Norm|Source|Proved by|Sound if):", re.MULTILINE)


def as_markdown(text: str) -> str:
    """The docstring with asterisks outside code escaped, and a bold, separate paragraph for each label."""
    parts = CODE.split(text)
    escaped = "".join(part if part.startswith("`") else part.replace("*", r"\*") for part in parts)
    return LABEL.sub(r"\n**\g<label>:**", escaped)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """One object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
