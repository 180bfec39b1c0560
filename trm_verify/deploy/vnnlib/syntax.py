"""The text of a VNN-LIB file as nested lists: S-expressions, read without recursion and within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_BYTES, MAX_WORDS = 1 << 25, 1 << 22
MAX_DEPTH = 64  # of parentheses; what reads the expressions afterwards recurses
MAX_DIGITS, MAX_EXPONENT = 1000, 1000
_TOKEN = re.compile(r"\s+|;[^\n]*|[()]|[^\s();]+")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,6}))?", re.ASCII)


class VnnlibError(ValueError):
    """A file that is no VNN-LIB query, or one that does not fit the model."""


class Unsupported(VnnlibError):
    """A query in good order that is of no kind this library can answer."""


@dataclass(frozen=True, slots=True)
class Form:
    """A parenthesized list. `line` is where it begins."""

    items: tuple[Form | str, ...]
    line: int

    @property
    def head(self) -> str:
        """The first word; "" where there is none."""
        return self.items[0] if self.items and isinstance(self.items[0], str) else ""


Expression = Form | str


def forms(text: str) -> Iterator[Form]:
    """The commands of a file, in order.

    Raises:
        VnnlibError: parentheses that do not match, words outside of them, or more than the limits allow.
    """
    if len(text) > MAX_BYTES:
        raise VnnlibError(f"expected at most {MAX_BYTES} characters, found {len(text)}")
    open_forms: list[tuple[int, list[Expression]]] = []
    line = 1
    for count, token in enumerate(_TOKEN.finditer(text)):
        word = token.group()
        if count == MAX_WORDS:
            raise VnnlibError(f"line {line}: expected at most {MAX_WORDS} words and gaps, found more")
        if word == "(":
            if len(open_forms) == MAX_DEPTH:
                raise VnnlibError(f"line {line}: expected at most {MAX_DEPTH} nested parentheses, found more")
            open_forms.append((line, []))
        elif word == ")":
            if not open_forms:
                raise VnnlibError(f"line {line}: expected a command, found a ')' that closes nothing")
            begun, items = open_forms.pop()
            form = Form(tuple(items), begun)
            if not open_forms:
                yield form
            else:
                open_forms[-1][1].append(form)
        elif word[0] != ";" and not word[0].isspace():
            if not open_forms:
                raise VnnlibError(f"line {line}: expected a command in parentheses, found {word[:80]!r}")
            open_forms[-1][1].append(word)
        else:
            line += word.count("\n")
    if open_forms:
        raise VnnlibError(f"line {open_forms[0][0]}: expected a ')' that ends this command, found the end of the file")


def is_number(word: str) -> bool:
    """Whether a word looks like a number, whatever its size."""
    return _NUMBER.fullmatch(word) is not None


def exact(word: str, line: int) -> Fraction:
    """The exact value of a decimal.

    Raises:
        VnnlibError: more digits, or a larger exponent, than the limits allow.
    """
    found = _NUMBER.fullmatch(word)
    if found is None or len(word) > MAX_DIGITS or abs(int(found.group(1) or 0)) > MAX_EXPONENT:
        raise VnnlibError(
            f"line {line}: expected a decimal number of at most {MAX_DIGITS} digits and an exponent of at most "
            f"{MAX_EXPONENT}, found {word[:80]!r}"
        )
    return Fraction(word)
