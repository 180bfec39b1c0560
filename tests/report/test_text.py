"""What is printed of a bound stays a bound, and untrusted text stays harmless."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_verify.report.text import abbreviated, labels, short, size, upper


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 12))
def test_upper_never_prints_less(value: float, digits: int) -> None:
    printed = Fraction(upper(value, digits))
    assert Fraction(value) <= printed <= Fraction(value) * (1 + Fraction(10) ** (1 - digits))


@pytest.mark.parametrize(
    ("value", "text"), [(0.8999953, "0.900"), (1.0, "1"), (0.0, "0"), (None, "–"), (2.0001e-7, "2.01e-7")]
)
def test_upper(value: float | None, text: str) -> None:
    assert upper(value) == text


def test_labels() -> None:
    assert labels(None) == "–"
    assert labels((3,)) == "3"
    assert labels((1, 2, 3)) == "1-2-3"
    assert labels(tuple(range(5)), most=2) == "0-1-… (5)"


def test_short_text_cannot_drive_a_terminal() -> None:
    assert short("a\x1b[31mred\x00 \n b") == "a?[31mred? b"


def test_digests_are_cut() -> None:
    assert abbreviated("sha256:" + "0123456789ab" * 5 + "0123") == "sha256:0123456789ab…"
    assert abbreviated("0123456789abcdef") == "0123456789abcdef"


def test_size() -> None:
    assert [size(n) for n in (999, 12_345, 1_234_567)] == ["999 bytes", "12 kB", "1.2 MB"]
