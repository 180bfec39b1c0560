"""Numbers for people that are still bounds."""

from __future__ import annotations

from fractions import Fraction
from math import nextafter

import numpy as np


def up(value: Fraction) -> float:
    """A double ≥ value, whose shortest decimal form is ≥ value too, so that the number as printed is a bound."""
    try:
        nearest = float(value)
    except OverflowError:
        return float("inf") if value > 0 else -float(np.finfo(np.float64).max)
    while nearest < float("inf") and (Fraction(nearest) < value or Fraction(repr(nearest)) < value):
        nearest = nextafter(nearest, float("inf"))
    return nearest
