"""Docstrings of this library as Markdown: the asterisks of z* and *shape are no emphasis; labels stand out."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Left as it is: code, and words that are meant to stand out.
KEPT = re.compile(r"(`[^`]*`|(?<![\w*])\*\w[\w ]*\*(?!\w))")
LABEL = re.compile(r"^(?P<label>Shape|Norm|Source|Proved by|Sound if):", re.MULTILINE)


def as_markdown(text: str) -> str:
    """The docstring with asterisks that mean nothing escaped, and a bold, separate paragraph for each label."""
    parts = KEPT.split(text)
    escaped = "".join(part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(parts))
    return LABEL.sub(r"\n**\g<label>:**", escaped)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """One object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
