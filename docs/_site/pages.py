"""Pages from outside docs/, and links that hold both in the repository and on the site.

A page of the site is a file of the repository under the same name; what lies in docs/ loses that prefix. Links are
written as they hold in the repository, and rewritten here when they would not hold on the site.
"""

from __future__ import annotations

import os
import re
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
    config.nav = _expand(config.nav, files)
    return files


def _expand(nav: Any, files: Files) -> Any:
    """Entries `folder/*` replaced by the pages of that folder, its index left out."""
    if isinstance(nav, dict):
        return {title: _expand(entry, files) for title, entry in nav.items()}
    if not isinstance(nav, list):
        return nav
    entries: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/*"):
            folder = entry.removesuffix("/*")
            pages = sorted(f.src_uri for f in files.documentation_pages() if os.path.dirname(f.src_uri) == folder)
            entries += [page for page in pages if not page.endswith("/README.md")]
        else:
            entries.append(_expand(entry, files))
    return entries


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to files of the repository that the site has elsewhere."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
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
