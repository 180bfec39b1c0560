"""Every code block of every page does what the page says; links lead somewhere; every claim and rule has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, PageError, blocks, pages, run
from trm_verify import claims
from trm_verify.kernel.rules import RULES

PAGES = {path.relative_to(ROOT).as_posix(): path for path in pages()}
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)[^)]*\)")
FIGURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")  # a figure without a description shows nothing to some
# Pages with commands that train and certify in processes of their own, or with properties to test.
SLOW = {
    "docs/ci/README.md", "docs/guide/training.md", "docs/start/first_proof.md", "docs/start/your_model.md",
    "docs/testing.md",
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in PAGES])
def test_the_blocks_of_a_page_do_what_it_says(name: str, tmp_path: Path) -> None:
    run(PAGES[name], tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name: str) -> None:
    page = PAGES[name]
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_figure_is_shown_on_a_page() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in PAGES.values()
        for link in FIGURE.findall(page.read_text(encoding="utf-8"))
    }
    figures = [*ROOT.glob("docs/**/*.png"), *ROOT.glob("docs/**/*.svg")]
    assert len(figures) >= 20
    assert [figure.relative_to(ROOT).as_posix() for figure in sorted(figures) if figure not in shown] == []


def test_there_are_pages_and_blocks_to_run() -> None:
    assert PAGES.keys() >= SLOW
    found = [block for page in PAGES.values() for block in blocks(page)]
    assert sum(block.language == "python" for block in found) >= 40
    assert sum(block.language == "bash" for block in found) >= 5


def test_every_rule_is_explained_and_every_claim_has_its_page() -> None:
    rules = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs/rules").glob("*.md")))
    assert [name for name in RULES if f"../../proofs/{name}.md" not in rules] == []
    index = (ROOT / "docs/claims/README.md").read_text(encoding="utf-8")
    names = {kind.name for kind in vars(claims).values() if isinstance(kind, type) and hasattr(kind, "name")}
    assert len(names) >= 15
    assert [name for name in sorted(names) if f"[`{name}`](" not in index] == []


PAGE = ROOT / "docs" / "page.md"


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "the page shows"),
        ("```python\nprint(1)\n```\n\nIn between.\n\n```text\n1\n```\n", "expected a text block below"),
        ("Text.\n\n```python\n1 / 0\n```\n", r"page.md:4: .*ZeroDivisionError"),
        ("```bash\nfalse\n```\n", "expected exit 0, found 1"),
        ("```bash\necho a\n```\n\n```text\nb\n```\n", "the page shows"),
        ("```sh\ntrm-verify prove out\n```\n", "trm-verify prove out"),
        ("```sh\nmake coffee\n```\n", "coffee"),
        ('```sh\npip install "trm-verify[gpu]"\n```\n', "gpu"),
        ("```sh\npython -m benchmarks.nothing\n```\n", "benchmarks.nothing"),
        ("```sh\nfrobnicate\n```\n", "frobnicate"),
        ("```yaml\na: [1\n```\n", "expected yaml"),
        ("```toml\na = \n```\n", "expected toml"),
        ("```json\n{,}\n```\n", "expected json"),
        ("```pyhton\n1\n```\n", "pyhton"),
        ("```\n1\n```\n", "expected a fence of"),
        ("```python\ndef test_it(certify):\n    pass\n```\n", "test_it: expected a test without fixtures"),
        ("```python no-run\n1\n```\n", "expected a fence of"),
        ("Text.\n\n    trm-verify check\n", "indented"),
        ("!!! note\n\n    ```python\n    1 / 0\n    ```\n", "indented"),
    ],
)
def test_a_page_that_does_not_hold_is_refused(markdown: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=message):
        run(PAGE, tmp_path, markdown)


def test_tests_of_a_page_are_run(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(PAGE, tmp_path, "```python\ndef test_it():\n    1 / 0\n```\n")


def test_blocks_share_a_namespace_and_a_folder(tmp_path: Path) -> None:
    made = '```python title="made.py"\nvalue = 3\n```\n\n```python\nn = len(open("made.py").read())\n```\n'
    run(PAGE, tmp_path, made + "\n```python\nprint(n)\n```\n\n```text\n10\n```\n")
    assert (tmp_path / "made.py").read_text() == "value = 3\n"
