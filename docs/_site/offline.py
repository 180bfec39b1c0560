"""A site that loads nothing from another machine: links may lead away, scripts, styles, fonts and images may not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig

REMOTE = re.compile(r"^(?:\w+:)?//")
LOADED = {"link": ("href",), "a": (), "area": ()}
ATTRIBUTES = ("src", "srcset", "data", "poster", "action")
STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        # `rel=canonical` and the like name an address, they load nothing.
        inert = tag == "link" and given.get("rel") in ("canonical", "next", "prev", "alternate", "edit")
        for name in () if inert else LOADED.get(tag, ATTRIBUTES):
            if REMOTE.match(given.get(name) or ""):
                self.found.append(f"<{tag} {name}={given[name]}>")


def loads(html: str) -> list[str]:
    """What a page would load from another machine."""
    parser = _Loads()
    parser.feed(html)
    return parser.found + STYLE.findall(html)


def on_post_build(config: MkDocsConfig) -> None:
    """Look through the whole site."""
    site = Path(config.site_dir)
    found = {path: loads(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found |= {path: STYLE.findall(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.css"))}
    bad = [f"{path.relative_to(site)}: {what}" for path, all_ in found.items() for what in all_]
    if bad:
        raise ValueError("expected a site that loads nothing from elsewhere, found\n" + "\n".join(bad))
