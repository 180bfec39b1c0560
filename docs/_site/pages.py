"""Pages from outside docs/, and links that hold both in the repository and on the site.

A page of the site is a file of the repository under the same name; what lies in docs/ loses that prefix. Links are
written as they hold in the repository, and rewritten here when they would not hold on the site. `<!-- pages -->` is
replaced by a list of the pages beside the one it stands on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("TRUST.md", "CHANGELOG.md", "certificates/README.md", "proofs/**/*.md")
# What pages link to that is no page: served as it is.
ATTACHED = (
    "LICENSE", "action.yml", ".pre-commit-hooks.yaml", "certificates/schema.json", "certificates/corpus.json",
    "examples/*.py", "proofs/obligations/*.smt2", "benchmarks/kernel_size.py",
)  # fmt: skip
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)(?P<target>[^)\s#]+)(?P<rest>#[^)\s]*)?(?=\))")
LIST = re.compile(r"^<!-- pages -->$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/."""
    for pattern in (*PAGES, *ATTACHED):
        found = sorted(ROOT.glob(pattern))
        if not found:
            raise ValueError(f"docs/_site/pages.py: expected files {pattern}, found none")
        for path in found:
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    pages = sorted(f.src_uri for f in files.documentation_pages())
    config.nav = _expand(config.nav, [page for page in pages if page not in set(_named(config.nav))])
    return files


def _named(nav: Any) -> Iterator[str]:
    """Every page that has an entry of its own."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)


def _expand(nav: Any, pages: list[str]) -> Any:
    """Entries `folder/*` replaced by those of the pages that lie in that folder."""
    if isinstance(nav, dict):
        return {title: _expand(entry, pages) for title, entry in nav.items()}
    if not isinstance(nav, list):
        return nav
    entries: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and PurePosixPath(entry).name == "*":
            entries += [page for page in pages if PurePosixPath(page).parent == PurePosixPath(entry).parent]
        else:
            entries.append(_expand(entry, pages))
    return entries


def _listed(folder: Path) -> str:
    """The pages of a folder, each by its own title."""
    titles = {p.name: p.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for p in folder.glob("*.md")}
    return "\n".join(f"- [{title}]({name})" for name, title in sorted(titles.items()) if name != "README.md")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to files of the repository that the site has elsewhere."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    markdown = LIST.sub(lambda found: _listed(Path(source).parent), markdown)
    known = {Path(f.abs_src_path): f.src_uri for f in files if f.abs_src_path is not None}
    here = PurePosixPath(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(Path(source).parent / link["target"]))
        place = next((known[p] for p in (target, target / "README.md") if p in known), None)
        if target in (ROOT / "README.md", ROOT):
            place = "index.md"
        if place is None:
            return link[0]  # left for the strict build to complain about
        return os.path.relpath(place, here).replace(os.sep, "/") + (link["rest"] or "")

    # Code is left alone: `x[0](y)` is no link.
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(moved, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(moved, markdown[end:])])
