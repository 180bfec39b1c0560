"""Strict reading of the certificate's JSON: size caps come first, and a number has one spelling."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from itertools import accumulate, repeat
from typing import Any, NoReturn

from trm_verify.kernel.errors import CheckError

MAX_BYTES = 256 * 1024 * 1024
MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 15
MAX_MANTISSA_DIGITS = 8192
MAX_EXPONENT = 20000

# Possessive quantifiers: no backtracking, so linear time. An unclosed string runs to the end of the file.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NESTING = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_DYADIC = re.compile(r"0|-?[1-9a-f][0-9a-f]*+")
_VECTOR = re.compile(rf"(?:(?:{_DYADIC.pattern})(?: (?:{_DYADIC.pattern}))*+)?+")


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Reads a regular file of at most `limit` bytes; a larger one is refused before any of it is read.

    Raises:
        CheckError: LIMIT.
        OSError: the file is missing, unreadable or not a regular file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever, a device never ends
        raise OSError(f"expected a regular file, found something else at {os.fspath(path)!r}")
    if status.st_size > limit:
        raise CheckError("LIMIT", f"a file of at most {limit} bytes", status.st_size)
    with open(path, "rb") as file:
        raw = file.read(status.st_size + 1)
    if len(raw) != status.st_size:
        raise OSError(f"expected {status.st_size} bytes, found another length: {os.fspath(path)!r} changed while read")
    return raw


def load(raw: bytes) -> dict[str, Any]:
    """Parses one JSON object; every cap is applied before the parser runs.

    Raises:
        CheckError: LIMIT (size, nesting, digits) or JSON (anything outside the strict subset).
    """
    if len(raw) > MAX_BYTES:
        raise CheckError("LIMIT", f"at most {MAX_BYTES} bytes of JSON", f"{len(raw)} bytes")
    # Up to the first syntax error this sees the same strings as the parser, hence the same nesting.
    brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    if any(map(MAX_DEPTH.__lt__, accumulate(map(_NESTING.__getitem__, brackets)))):
        raise CheckError("LIMIT", f"JSON nested at most {MAX_DEPTH} deep", "deeper nesting")
    hooks: dict[str, Any] = {"parse_int": _integer, "parse_float": _no_number, "parse_constant": _no_number}
    try:  # a leading byte order mark is an error in a str
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, **hooks)
    except ValueError as error:  # covers UnicodeDecodeError and json.JSONDecodeError
        raise CheckError("JSON", "strict UTF-8 JSON", error) from error
    if not isinstance(value, dict):
        raise CheckError("JSON", "an object at the top level", type(value).__name__)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise CheckError("JSON", "distinct keys in an object", f"{len(pairs)} keys, {len(result)} distinct")
    return result


def _integer(token: str) -> int:
    if len(token.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise CheckError("LIMIT", f"JSON integers of at most {MAX_INTEGER_DIGITS} digits", token[:40])
    return int(token)


def _no_number(token: str) -> NoReturn:
    raise CheckError("JSON", "integers only (no fraction, exponent, NaN or Infinity)", token[:40])


def fields(obj: object, *names: str, where: str) -> list[Any]:
    """Returns the values of `names`, in order, of an object with exactly these keys (FIELD otherwise)."""
    if not isinstance(obj, dict) or obj.keys() != set(names):
        found = sorted(obj) if isinstance(obj, dict) else type(obj).__name__
        raise CheckError("FIELD", f"{where}: an object with exactly the keys {sorted(names)}", ascii(found))
    return [obj[name] for name in names]


def integer(v: object, lo: int, hi: int, where: str) -> int:
    """Returns an integer in [lo, hi]: FIELD for another type (a bool is none), NUMBER if out of range."""
    if type(v) is not int:
        raise CheckError("FIELD", f"{where}: an integer", type(v).__name__)
    if not lo <= v <= hi:
        raise CheckError("NUMBER", f"{where}: an integer from {lo} to {hi}", v)
    return v


def text(v: object, where: str) -> str:
    """Returns a string without control characters or lone surrogates, which could falsify a printed line."""
    if not isinstance(v, str) or not v.isprintable():
        raise CheckError("FIELD", f"{where}: a printable string", ascii(v)[:80])
    return v


def items(v: object, where: str) -> list[Any]:
    """Returns a list, or raises FIELD."""
    if not isinstance(v, list):
        raise CheckError("FIELD", f"{where}: a list", type(v).__name__)
    return v


def dyadic(v: object, where: str) -> tuple[int, int]:
    """Returns (m, e) for a number m * 2**e; see `docs/format.md`, section 1."""
    exponent, (mantissa,) = _number(v, _DYADIC, where)
    return int(mantissa, 16), exponent


def vector(v: object, length: int | None, where: str) -> tuple[list[int], int]:
    """Returns (integers, e) for numbers m_i * 2**e; `length` None accepts any number of entries."""
    exponent, mantissas = _number(v, _VECTOR, where)
    values = list(map(int, mantissas, repeat(16)))
    if length is not None and len(values) != length:
        raise CheckError("NUMBER", f"{where}: a vector of {length} entries", f"{len(values)} entries")
    return values, exponent


def _number(v: object, pattern: re.Pattern[str], where: str) -> tuple[int, list[str]]:
    exponent, digits = fields(v, "exp", "int", where=where)
    integer(exponent, -MAX_EXPONENT, MAX_EXPONENT, f"{where}.exp")
    if not isinstance(digits, str):
        raise CheckError("FIELD", f"{where}.int: a string", type(digits).__name__)
    if not pattern.fullmatch(digits):
        raise CheckError("NUMBER", f"{where}: lower-case hex in its shortest spelling", ascii(digits[:99]))
    tokens = digits.split()
    longest = max(map(len, tokens), default=0)  # with its sign
    if longest > MAX_MANTISSA_DIGITS and max(len(token.lstrip("-")) for token in tokens) > MAX_MANTISSA_DIGITS:
        raise CheckError("LIMIT", f"{where}: at most {MAX_MANTISSA_DIGITS} digits a number", "more digits")
    return exponent, tokens


def canonical(obj: object) -> bytes:
    """The canonical JSON of a value: sorted keys, no white space, ASCII."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(obj: object) -> str:
    """SHA-256 of the canonical JSON, in lower-case hex."""
    return hashlib.sha256(canonical(obj)).hexdigest()
