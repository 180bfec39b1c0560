"""What the site's build does to pages: `make docs` itself runs in `.ci/run`."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.docs.blocks import ROOT
from trm_verify.cli.arguments import COMMANDS


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "_site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages, numbers, offline, docstrings = map(hook, ("pages", "numbers", "offline", "docstrings"))


def shown(markdown: str, place: str, files: dict[str, str]) -> str:
    """The Markdown of a page of the site; `files` maps places in the repository to places on the site."""
    known = [SimpleNamespace(abs_src_path=str(ROOT / path), src_uri=uri) for path, uri in files.items()]
    file = next(f for f in known if f.src_uri == place)
    text: str = pages.on_page_markdown(markdown, SimpleNamespace(file=file), None, known)
    return text


SITE = {
    "docs/claims/run.md": "claims/run.md", "docs/tasks.md": "tasks.md", "docs/ci/README.md": "ci/README.md",
    "docs/index.md": "index.md", "proofs/run.md": "proofs/run.md", "TRUST.md": "TRUST.md",
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "link", "moved"),
    [
        ("claims/run.md", "../../proofs/run.md", "../proofs/run.md"),
        ("claims/run.md", "../tasks.md#leaks", "../tasks.md#leaks"),
        ("TRUST.md", "docs/tasks.md#leaks", "tasks.md#leaks"),
        ("TRUST.md", "docs/ci", "ci/README.md"),
        ("TRUST.md", "README.md", "index.md"),
        ("proofs/run.md", "../docs/ci/README.md", "../ci/README.md"),
        ("index.md", "../TRUST.md", "TRUST.md"),
        ("index.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("index.md", "nowhere.md", "nowhere.md"),
    ],
)
def test_a_link_of_the_repository_holds_on_the_site(place: str, link: str, moved: str) -> None:
    assert shown(f"See [it]({link}).", place, SITE) == f"See [it]({moved})."


def test_code_is_no_link() -> None:
    text = "[a](docs/tasks.md)\n\n```python\nx = f[0](docs/tasks.md)\n```\n\n[b](docs/tasks.md)\n"
    assert shown(text, "TRUST.md", SITE).count("(tasks.md)") == 2


def test_navigation_takes_in_pages_without_an_entry() -> None:
    nav = [{"Guide": ["a.md", {"B": "b.md"}, "*"]}, {"More": [{"All": "more/README.md"}, "more/*"]}]
    found = pages._expand(nav, ["new.md", "more/one.md", "other/two.md"])
    assert found == [{"Guide": ["a.md", {"B": "b.md"}, "new.md"]}, {"More": [{"All": "more/README.md"}, "more/one.md"]}]
    assert list(pages._named(nav)) == ["a.md", "b.md", "*", "more/README.md", "more/*"]


def record(path: Path, rows: list[dict[str, Any]], key: str = "measures") -> Path:
    path.write_text(json.dumps({"machine": {"python": "3.11"}, key: rows}), encoding="utf-8")
    return path


ROW = {"row": "a", "what": "x | y", "value": 0.125, "unit": "s", "least": None, "most": 1, "note": "n", "reached": True}


def test_measured_numbers_become_a_table(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"row": "b", "value": None, "reached": False}]
    table = numbers.table(record(tmp_path / "t.json", rows), ["a", "b", "c?"])
    assert re.findall(r"^\|.*", table, re.MULTILINE)[2:] == [
        '| `a` | x \\| y | <span class="number">0.125 s</span> | <span class="number">≤ 1</span> ✓ | n |',
        '| `b` | x \\| y | – | <span class="number">≤ 1</span> **missed** | n |',
    ]
    assert table.endswith("Not part of the published run: `c`.")
    topics = [{k: v for k, v in ROW.items() if k not in ("row", "least")} | {"topic": "a", "most": None}]
    assert "| `a` | x \\| y |" in numbers.table(record(tmp_path / "u.json", topics, "rows"), [])


def test_a_row_that_is_gone_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected rows among a; found b"):
        numbers.table(record(tmp_path / "t.json", [ROW]), ["a", "b"])


def test_every_command_is_on_the_page_of_commands() -> None:
    text = numbers.commands()
    assert [name for name in COMMANDS if f"## `{name}`\n" not in text] == []


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<a href="https://example.org">elsewhere</a>', 0),
        ('<link rel="canonical" href="https://example.org/">', 0),
        ('<img src="images/a.png"><script src="/a.js"></script>', 0),
        ('<script src="https://example.org/a.js"></script>', 1),
        ('<link rel="stylesheet" href="//example.org/a.css">', 1),
        ('<link rel="preconnect" href="https://fonts.example.org">', 1),
        ('<img src="http://example.org/a.png">', 1),
        ("<style>@font-face { src: url('https://example.org/f.woff2') }</style>", 1),
        ('<style>@import "https://example.org/a.css";</style>', 1),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(html: str, count: int) -> None:
    assert len(offline.loads(html)) == count


def test_a_site_that_loads_from_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>fine</p>", encoding="utf-8")
    offline.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    (tmp_path / "index.html").write_text('<img src="https://example.org/a.png">', encoding="utf-8")
    with pytest.raises(ValueError, match="index.html: <img src=https://example.org/a.png>"):
        offline.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


def test_docstrings_keep_their_asterisks_and_their_emphasis() -> None:
    text = "N(z − z*) of `a * b`, the *only* one.\n\nShape: z (batch, *shape), x (batch, *shape).\nNorm: none."
    assert docstrings.as_markdown(text) == (
        "N(z − z\\*) of `a * b`, the *only* one.\n\n"
        "\n**Shape:** z (batch, \\*shape), x (batch, \\*shape).\n\n**Norm:** none."
    )
