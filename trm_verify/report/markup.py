"""HTML and SVG as values: text is escaped unless it is markup already, so nothing a file says can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = {"meta", "link", "input", "br", "col"}


class Markup(str):
    """Text that is markup and needs no escaping. Only this module makes it."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def escaped(value: object) -> Markup:
    """Any text as markup: special characters escaped, characters that do not print shown as `?`."""
    line = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(value))
    return Markup(html.escape(line, quote=True))


def joined(children: Iterable[Child]) -> Markup:
    """Children one after the other; None stands for nothing."""
    return Markup("".join(_child(child) for child in children))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, (str, int, float)):
        return escaped(child)
    return joined(child)


def tag(element: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """An element. In attribute names `_` stands for `-`, a trailing one is dropped (`class_`); None and False omit it.

    Numbers are written with at most two decimals, which is finer than a pixel.
    """
    parts = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(label if value is True else f'{label}="{_attribute(value)}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if element in _VOID else f"{start}{joined(children)}</{element}>")


def raw(name: str, content: str, **attributes: str) -> Markup:
    """A style or script element, whose content is ours.

    Raises:
        ValueError: the content would end the element.
    """
    if "</" in content:
        raise ValueError(f"expected the content of <{name}> without '</', found it")
    start = "".join(f' {key.rstrip("_")}="{escaped(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{start}>{content}</{name}>")


def _attribute(value: str | int | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escaped(value)
