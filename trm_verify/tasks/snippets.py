"""Code repair: lines of Python's standard library whose brackets and colons were corrupted."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterable
from functools import lru_cache, partial
from token import EXACT_TOKEN_TYPES
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import (
    IGNORE,
    Baseline,
    Split,
    Task,
    accuracy,
    check_sizes,
    one_hot,
    position_accuracy,
)
from trm_verify.tasks.library import modules, share

_SIZES = (16, 24, 32)
_TRAIN, _VALIDATION = 0.75, 0.1  # shares of the lines; the rest is to test
_FRAGILE = ("(", "[", "{", ")", "]", "}", ":")
_NAMES = ("x", "0", '""')  # what any name, number and string is written as
_OPERATORS = tuple(sorted(EXACT_TOKEN_TYPES.keys() - {*_FRAGILE, "!"}))  # "!" is one in newer versions alone
TOKENS = ("", *_FRAGILE, *_NAMES, *_OPERATORS, *sorted(keyword.kwlist))
"""The vocabulary; the empty token pads."""

_STRING = r"""(?:[rRbBuU]{0,2})(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_PATTERN = re.compile(
    rf"(?P<string>{_STRING})|(?P<number>\.?\d[\w.]*)|(?P<name>[A-Za-z_]\w*)|(?P<operator>"
    + "|".join(re.escape(sign) for sign in sorted((*_FRAGILE, *_OPERATORS), key=len, reverse=True))
    + r")|(?P<space>\s+|#.*)"
)


def snippets(
    length: int = 24,
    *,
    corruptions: int = 2,
    seed: int = 0,
    train: int = 4096,
    validation: int = 256,
    test: int = 512,
) -> Task:
    """Repair lines of code in which up to `corruptions` brackets or colons were replaced by others.

    A snippet is a line of the standard library that parses by itself (the head of a block with `pass`), as tokens:
    names, numbers and strings are one token each, keywords and operators are themselves. 1 to `corruptions` of the
    tokens `( [ { ) ] } :` become another one of them, in such a way that the line no longer parses.

    `exact`, the metric, wants the original; a line may have several repairs that parse, so perfection is out of reach.
    `parses` is the fraction of answers that `ast.parse` accepts. No two items have the same original, and which split
    a line is in depends on the line alone. The lines come from the Python that runs, so numbers of two Python versions
    differ a little.

    Shape: x (rows, length, tokens) one-hot; y (rows, length) tokens, `IGNORE` on the padding.

    Raises:
        ValueError: a small length, no corruptions, no rows, or fewer lines than rows.
        FileNotFoundError: a Python without the sources of its library.
    """
    check_sizes("snippets", length, 4, corrupt=corruptions, train=train, validation=validation, test=test)
    rng = np.random.default_rng([seed, length])
    lines = [line for line in _lines() if len(line) <= length]
    wanted = (train, validation, test)
    pairs: tuple[list[np.ndarray], ...] = ([], [], [])
    seen: set[bytes] = set()
    for place in rng.permutation(len(lines)):
        line = lines[place]
        side = _side(line)
        if len(pairs[side]) == wanted[side] or not parses(line):
            continue
        broken = _corrupted(rng, line, corruptions)
        if broken is not None and (key := broken.tobytes()) not in seen:
            seen.add(key)
            pairs[side].append(np.array([np.pad(half, (0, length - len(line))) for half in (broken, line)]))
        if tuple(map(len, pairs)) == wanted:
            break
    if (found := tuple(map(len, pairs))) != wanted:
        raise ValueError(
            f"snippets: expected {wanted} lines of up to {length} tokens for the splits, found {found}; ask for fewer"
        )
    splits = [_split(np.stack(side)) for side in pairs]
    return Task(
        "snippets",
        splits[0],
        splits[1],
        splits[2],
        classes=len(TOKENS),
        domain=Box(0, 1).expand((length, len(TOKENS))),
        metrics=MappingProxyType({"exact": accuracy, "parses": parse_rate, "position": position_accuracy}),
        difficulty=length,
        difficulties=_SIZES,
        sized=partial(snippets, corruptions=corruptions, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("left to right with a stack, each closing bracket made to fit", _greedy),
    )


def _side(line: Iterable[int]) -> int:
    """Which split a line is in, 0 to 2: whatever the seed and the length, so that sizes can be mixed in training."""
    where = share(written(line))
    return 0 if where < _TRAIN else 1 if where < _TRAIN + _VALIDATION else 2


def _split(pairs: np.ndarray) -> Split:
    x, y = (torch.from_numpy(side) for side in (pairs[:, 0], pairs[:, 1]))
    return Split(one_hot(x, len(TOKENS)), torch.where(y == 0, IGNORE, y))


@lru_cache(maxsize=1)
def _lines() -> list[tuple[int, ...]]:
    """The different lines of the library that hold a bracket, as tokens, in a fixed order."""
    found = {line for _, source in modules() for text in source.splitlines() if (line := tokens(text)) is not None}
    return sorted(line for line in found if any(1 <= token <= len(_FRAGILE) for token in line))


def tokens(text: str) -> tuple[int, ...] | None:
    """A line as tokens; None where it holds something else (an f-string, part of a longer string)."""
    found, place, text = [], 0, text.strip()
    while place < len(text):
        match = _PATTERN.match(text, place)
        if match is None:
            return None
        place, sign, kind = match.end(), match.group(), match.lastgroup
        if place < len(text) and text[place] in "'\"" and kind in ("name", "string"):
            return None  # a prefix such as f"…", or a string in three quotes
        if kind == "operator" or (kind == "name" and keyword.iskeyword(sign)):
            found.append(_NUMBERS[sign])
        elif kind != "space":
            found.append(_NUMBERS[_NAMES[("name", "number", "string").index(str(kind))]])
    return tuple(found)


_NUMBERS = {token: number for number, token in enumerate(TOKENS)}


def written(line: Iterable[int]) -> str:
    """Tokens as code."""
    return " ".join(TOKENS[token] for token in line if token)


def parses(line: Iterable[int]) -> bool:
    """Whether Python parses the tokens, as a line or as the head of a block."""
    code = written(line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as "x is 0"
        try:
            ast.parse(f"{code} pass" if code.endswith(":") else code)
        except SyntaxError:
            return False
    return True


def _corrupted(rng: np.random.Generator, line: tuple[int, ...], corruptions: int) -> np.ndarray | None:
    """The line with some fragile tokens replaced, no longer parsing; None where a few tries do not break it."""
    whole = np.array(line)
    fragile = np.flatnonzero((whole >= 1) & (whole <= len(_FRAGILE)))
    for _ in range(4):
        broken = whole.copy()
        places = rng.permutation(fragile)[: rng.integers(1, corruptions + 1)]
        shift = rng.integers(1, len(_FRAGILE), len(places))
        broken[places] = (broken[places] - 1 + shift) % len(_FRAGILE) + 1
        if not parses(broken.tolist()):
            return broken
    return None


def parse_rate(logits: Tensor, target: Tensor) -> float:
    """Fraction of answers that parse. Shape: logits (rows, length, tokens), target (rows, length)."""
    answers = torch.where(target == IGNORE, 0, logits.argmax(dim=-1))
    return sum(parses(line) for line in answers.tolist()) / len(answers)


def _greedy(task: Task) -> Tensor:
    x = task.test.x if task.vocabulary is not None else task.test.x.argmax(dim=-1)
    return one_hot(torch.tensor([_stacked(line) for line in x.tolist()]), task.classes)


def _stacked(line: list[int]) -> list[int]:
    repaired, stack = list(line), []
    for place, token in enumerate(line):
        if 1 <= token <= 3:
            stack.append(token)
        elif 4 <= token <= 6 and stack:
            repaired[place] = stack.pop() + 3
    return repaired


def _text(x: Tensor, y: Tensor) -> str:
    return f"{written(x.argmax(dim=-1).tolist())}\n{written(y.clamp_min(0).tolist())}"
