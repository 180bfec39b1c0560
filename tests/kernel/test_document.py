"""The strict JSON reader: what it refuses, with which code, and how fast it refuses it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_verify.kernel import document
from trm_verify.kernel.errors import CheckError

# Everything below a document object is built from these, as a certificate is.
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15) + 1, 10**15 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=25,
)
_objects = st.dictionaries(st.text(max_size=5), _json, max_size=4)


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(CheckError) as caught:
        call(*args, **kwargs)
    return caught.value.code


@given(_objects)
def test_load_inverts_canonical(value: dict[str, Any]) -> None:
    assert document.load(document.canonical(value)) == value
    assert document.load(json.dumps(value, ensure_ascii=True, indent=1).encode()) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "JSON"),
        (b"   ", "JSON"),
        (b"[]", "JSON"),
        (b"1", "JSON"),
        (b'"text"', "JSON"),
        (b"null", "JSON"),
        (b"{", "JSON"),
        (b"{}{}", "JSON"),
        (b"{},", "JSON"),
        (b"{'a':1}", "JSON"),
        (b'{"a":1,}', "JSON"),
        (b'{"a":1 "b":2}', "JSON"),
        (b"{a:1}", "JSON"),
        (b'{"a":1}//', "JSON"),
        (b'{"a":01}', "JSON"),
        (b'{"a":+1}', "JSON"),
        (b'{"a":0x1}', "JSON"),
        (b'{"a":1.0}', "JSON"),
        (b'{"a":1e3}', "JSON"),
        (b'{"a":-0.0}', "JSON"),
        (b'{"a":NaN}', "JSON"),
        (b'{"a":Infinity}', "JSON"),
        (b'{"a":-Infinity}', "JSON"),
        (b'{"a":1,"a":1}', "JSON"),
        (b'{"a":1,"\\u0061":2}', "JSON"),
        (b'{"x":[{"a":1,"b":2,"a":3}]}', "JSON"),
        (b'\xef\xbb\xbf{"a":1}', "JSON"),
        (b'{"a":"\xff"}', "JSON"),
        (b'{"a":"\xed\xa0\x80"}', "JSON"),
        (b'{"a":"\xc0\xaf"}', "JSON"),
        ('{"a":1}'.encode("utf-16"), "JSON"),
        (b'{"a":"line\nbreak"}', "JSON"),
        (b'{"a":"\\x"}', "JSON"),
        (b'{"a":"unclosed}', "JSON"),
        (b'{"a":"unclosed\\', "JSON"),
        (b'{"a":1000000000000000}', "LIMIT"),
        (b'{"a":-1000000000000000}', "LIMIT"),
        (b'{"a":' + b"9" * 100_000 + b"}", "LIMIT"),
        (b'{"a":' * 32 + b"{}" + b"}" * 32, "LIMIT"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "LIMIT"),
    ],
)
def test_load_refuses(raw: bytes, code: str) -> None:
    assert code_of(document.load, raw) == code


def test_load_accepts_the_limits_themselves() -> None:
    assert document.load(b'{"a":999999999999999,"b":-999999999999999}') == {"a": 10**15 - 1, "b": 1 - 10**15}
    deep = document.load(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")
    for _ in range(31):
        deep = deep["a"] if isinstance(deep, dict) else deep[0]
    assert deep == []


def test_brackets_inside_strings_are_not_nesting() -> None:
    inner = '[{"' * 1000 + "\\" * 3
    assert document.load(json.dumps({inner: inner, "b": "\\\\"}).encode()) == {inner: inner, "b": "\\\\"}
    assert document.load(json.dumps({"\\": ["]" * 100]}).encode()) == {"\\": ["]" * 100]}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"[" * 10**5, "LIMIT"),
        (b'{"a":' * 10**5, "LIMIT"),
        (b"[" * 10**5 + b"]" * 10**5, "LIMIT"),
        (b"[" * 10**7, "LIMIT"),
        (b"]" * 10**5 + b"[" * 10**5, "JSON"),  # closes more than it opens: a syntax error at once
        (b'"' + b'\\"' * 10**6, "JSON"),  # quadratic for a scanner that looks for the end from every quote
        (b'{"a":"' + b"\\" * 10**6 + b"1", "JSON"),
        (b"{" + b'"a",' * 10**6, "JSON"),
    ],
)
def test_hostile_files_are_refused_quickly(raw: bytes, code: str) -> None:
    start = time.process_time()
    assert code_of(document.load, raw) == code
    assert time.process_time() - start < 5


def test_load_refuses_more_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    assert document.load(b'{"a": 123}') == {"a": 123}
    assert code_of(document.load, b'{"a": 1234}') == "LIMIT"


def test_read_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert document.read_file(path, 5) == b"12345"
    assert document.read_file(str(path), 6) == b"12345"
    assert code_of(document.read_file, path, 4) == "LIMIT"
    with pytest.raises(FileNotFoundError):
        document.read_file(tmp_path / "missing", 5)
    with pytest.raises(OSError, match="regular file"):
        document.read_file(tmp_path, 5)


def test_read_file_does_not_read_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    start = time.process_time()
    assert code_of(document.read_file, path, 1 << 20) == "LIMIT"
    assert time.process_time() - start < 0.1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_read_file_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular file"):
        document.read_file(tmp_path / "pipe", 100)


def test_fields() -> None:
    assert document.fields({"b": 2, "a": 1}, "a", "b", where="x") == [1, 2]
    assert document.fields({}, where="x") == []
    for obj in ({"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 2}, [1, 2], None, "ab"):
        assert code_of(document.fields, obj, "a", "b", where="x") == "FIELD"


def test_integer_text_items() -> None:
    assert document.integer(3, 3, 3, "x") == 3
    for value, code in [
        (2, "NUMBER"),
        (4, "NUMBER"),
        (True, "FIELD"),
        ("3", "FIELD"),
        (None, "FIELD"),
        (3.0, "FIELD"),
    ]:
        assert code_of(document.integer, value, 3, 3, "x") == code
    assert document.integer(False + 0, 0, 1, "x") == 0
    assert document.text("größe.weight", "x") == "größe.weight"
    for value in (1, None, "a\nb", "\x1b[2J", "\ud800", "\u202e", ["a"]):
        assert code_of(document.text, value, "x") == "FIELD"
    assert document.items([1], "x") == [1]
    for value in ({}, "ab", None, (1,)):
        assert code_of(document.items, value, "x") == "FIELD"


def test_dyadic_and_vector_examples_of_the_format() -> None:
    assert document.dyadic({"exp": -3, "int": "-1f"}, "x") == (-31, -3)
    assert document.dyadic({"exp": 0, "int": "0"}, "x") == (0, 0)
    assert document.vector({"exp": -3, "int": "1 -2 ff"}, 3, "x") == ([1, -2, 255], -3)
    assert document.vector({"exp": 0, "int": ""}, 0, "x") == ([], 0)
    assert document.vector({"exp": 7, "int": "0"}, None, "x") == ([0], 7)
    digits = "f" * 8192
    assert document.dyadic({"exp": 20000, "int": "-" + digits}, "x") == (1 - (1 << 32768), 20000)
    assert document.vector({"exp": -20000, "int": f"1 -{digits}"}, 2, "x")[0][1] == 1 - (1 << 32768)


_BAD_NUMBERS = [
    "-0",
    "00",
    "01",
    "-01",
    "-",
    "--1",
    "+1",
    "1-",
    "A",
    "FF",
    "0x1",
    "1_0",
    " 1",
    "1 ",
    "1\n",
    "1\t2",
    "g",
    "1.0",
    "१",
    "\uff11",
    "\x00",
]


@pytest.mark.parametrize("digits", [*_BAD_NUMBERS, "", "1 2"])
def test_dyadic_refuses(digits: str) -> None:
    assert code_of(document.dyadic, {"exp": 0, "int": digits}, "x") == "NUMBER"


@pytest.mark.parametrize("digits", [*_BAD_NUMBERS, " ", "1  2"])
def test_vector_refuses(digits: str) -> None:
    assert code_of(document.vector, {"exp": 0, "int": digits}, None, "x") == "NUMBER"
    assert code_of(document.vector, {"exp": 0, "int": f"1 {digits} 2"}, None, "x") == "NUMBER"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"exp": 20001, "int": "1"}, "NUMBER"),
        ({"exp": -20001, "int": "1"}, "NUMBER"),
        ({"exp": "0", "int": "1"}, "FIELD"),
        ({"exp": True, "int": "1"}, "FIELD"),
        ({"exp": None, "int": "1"}, "FIELD"),
        ({"exp": 0, "int": 1}, "FIELD"),
        ({"exp": 0, "int": None}, "FIELD"),
        ({"exp": 0, "int": ["1"]}, "FIELD"),
        ({"exp": 0}, "FIELD"),
        ({"exp": 0, "int": "1", "more": 1}, "FIELD"),
        ("1", "FIELD"),
        (1, "FIELD"),
        ({"exp": 0, "int": "1" * 8193}, "LIMIT"),
        ({"exp": 0, "int": "-" + "1" * 8193}, "LIMIT"),
    ],
)
def test_numbers_refuse(value: object, code: str) -> None:
    assert code_of(document.dyadic, value, "x") == code
    assert code_of(document.vector, value, None, "x") == code


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_vector_of_the_wrong_length(length: int) -> None:
    assert code_of(document.vector, {"exp": 0, "int": "1 2 3"}, length, "x") == "NUMBER"


@given(st.lists(st.integers(-(1 << 200), 1 << 200)), st.integers(-20000, 20000))
def test_vectors_round_trip(values: list[int], exponent: int) -> None:
    form = {"exp": exponent, "int": " ".join(format(v, "x") for v in values)}
    assert document.vector(form, len(values), "x") == (values, exponent)
    for value in values[:3]:
        mantissa, e = document.dyadic({"exp": exponent, "int": format(value, "x")}, "x")
        assert Fraction(mantissa) * Fraction(2) ** e == Fraction(value) * Fraction(2) ** exponent


def test_a_vector_of_a_million_entries_is_fast() -> None:
    form = {
        "exp": 0,
        "int": " ".join(format(v * 0x9E3779B97F4A7C15 % (1 << 56), "x") for v in range(1_000_000)),
    }
    start = time.process_time()
    values, _ = document.vector(form, 1_000_000, "x")
    assert time.process_time() - start < 5
    assert values[1] == 0x9E3779B97F4A7C15 % (1 << 56)


def test_canonical_form_and_digest() -> None:
    value = {"b": [1, {"z": None, "a": True}], "a": "é\n"}
    assert document.canonical(value) == b'{"a":"\\u00e9\\n","b":[1,{"a":true,"z":null}]}'
    assert document.digest(value) == hashlib.sha256(document.canonical(value)).hexdigest()
    assert document.digest({"a": 1, "b": 2}) == document.digest({"b": 2, "a": 1})
