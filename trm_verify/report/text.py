"""Numbers and untrusted text as short printable strings."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from typing import Any

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def upper(value: float | None, digits: int = 3) -> str:
    """A decimal ≥ value with that many significant digits: what is printed stays a bound."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    text = Context(prec=digits, rounding=ROUND_CEILING).create_decimal(Decimal(value))
    return format(text, "e" if value and not 1e-4 <= abs(value) < 1e6 else "f")


def above(value: Fraction) -> float:
    """A float that is at least the value."""
    try:
        found = float(value)
    except OverflowError:
        return math.inf if value > 0 else -sys.float_info.max
    return found if Fraction(found) >= value else math.nextafter(found, math.inf)


def labels(answer: Sequence[int] | None, most: int = 24) -> str:
    """An answer: one label, or the labels of all positions, cut after `most`."""
    if answer is None:
        return "–"
    text = "-".join(map(str, answer[:most]))
    return text if len(answer) <= most else f"{text}-… ({len(answer)})"


def short(text: str) -> str:
    """Digests cut to twelve digits, everything on one line, nothing that a terminal would obey."""
    line = " ".join(text.split())
    return abbreviated("".join(c if c.isprintable() else "?" for c in line))


def abbreviated(text: str) -> str:
    """Digests cut to twelve digits."""
    return _DIGEST.sub(r"\1…", text)


def size(count: int) -> str:
    """A number of bytes."""
    return (
        f"{count} bytes" if count < 1000 else f"{count / 1000:.0f} kB" if count < 10**6 else f"{count / 10**6:.1f} MB"
    )


def pace(run: Any) -> str:
    """How a `RunResult` gets to its fixed point."""
    if run.rate is not None:
        return f"contracts at rate <= {upper(run.rate, 9)} in {run.norm}"
    return f"settles exactly after {run.settles} steps; distances in {run.norm}"
