"""Markup: text is escaped, whatever it is and wherever it stands."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_verify.report.markup import Markup, escaped, joined, raw, tag


class Read(HTMLParser):
    """What a browser reads: elements with their attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_any_text_stays_text(content: str, attribute: str) -> None:
    read = Read(tag("p", content, title=attribute))
    shown = [t if t.isprintable() or t in "\n\t" else "?" for t in content], attribute
    assert [name for name, _ in read.tags] == ["p"]
    assert read.text == "".join(shown[0])
    assert list(read.tags[0][1]) == ["title"]


def test_children_and_attributes() -> None:
    assert tag("p", "a<b", None, [tag("b", 1), "&"], class_="x", hidden=True, open=False, data_k=1.50) == (
        '<p class="x" hidden data-k="1.5">a&lt;b<b>1</b>&amp;</p>'
    )
    assert tag("input", type="range") == '<input type="range">'
    assert isinstance(joined(["<"]), Markup)
    assert escaped("\x00\u202e") == "??"


def test_a_script_cannot_be_ended_early() -> None:
    with pytest.raises(ValueError, match="without '</'"):
        raw("script", "</script><script>alert(1)")
    assert raw("script", "1 < 2") == "<script>1 < 2</script>"
