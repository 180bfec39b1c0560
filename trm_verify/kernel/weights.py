"""A safetensors reader that loses nothing: every stored number is an integer times a power of two."""

from __future__ import annotations

import hashlib
import math
import struct
from itertools import repeat
from typing import Any, NamedTuple

from trm_verify.kernel.document import fields, integer, items, load, text
from trm_verify.kernel.errors import CheckError

MAX_HEADER = 16 * 1024 * 1024
MAX_TENSORS = 65536
MAX_DIMENSIONS = 16
MAX_SIZE = 10**15

# dtype -> (bytes, struct code, significant bits; 0 for integers)
_DTYPES = {
    **{"F16": (2, "e", 11), "BF16": (2, "f", 8), "F32": (4, "f", 24), "F64": (8, "d", 53)},
    **{"I64": (8, "q", 0), "I32": (4, "i", 0), "I16": (2, "h", 0), "I8": (1, "b", 0), "U8": (1, "B", 0)},
}


class _Entry(NamedTuple):
    first: int  # bytes, counted from the end of the header
    last: int
    dtype: str
    shape: tuple[int, ...]


class Weights:
    """The tensors of one safetensors file, held as bytes and decoded on demand.

    Attributes:
        sha256: lower-case hex digest of the whole file.
        names: every tensor, in alphabetical order.

    Raises:
        CheckError: WEIGHTS or LIMIT.
    """

    def __init__(self, raw: bytes) -> None:
        self.sha256 = hashlib.sha256(raw).hexdigest()
        length = int.from_bytes(raw[:8], "little")
        if len(raw) >= 8 and length > MAX_HEADER:
            raise CheckError("LIMIT", f"a header of at most {MAX_HEADER} bytes", f"{length} bytes")
        if len(raw) < 8 + length or raw[8:9] != b"{":
            raise CheckError("WEIGHTS", f"a JSON header of {length} bytes", f"a file of {len(raw)} bytes")
        try:
            self._entries = _read_header(load(raw[8 : 8 + length]))
        except CheckError as error:
            code = "LIMIT" if error.code == "LIMIT" else "WEIGHTS"
            raise CheckError(code, f"safetensors header: {error.expected}", error.got) from error
        self.names = tuple(sorted(self._entries))
        self._data = memoryview(raw)[8 + length :]
        # Every byte of data belongs to exactly one tensor: nothing hides in a gap, nothing counts twice.
        end = 0
        for entry in sorted(self._entries.values()):
            if entry.first != end:
                raise CheckError("WEIGHTS", f"a tensor that begins at byte {end}", f"byte {entry.first}")
            end = entry.last
        if end != len(self._data):
            raise CheckError("WEIGHTS", f"{end} bytes of tensor data", f"{len(self._data)} bytes")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a stored tensor."""
        return self._entry(name).shape

    def tensor(self, name: str) -> tuple[tuple[int, ...], list[int], int]:
        """Returns (shape, integers in row-major order, e): entry i is exactly `integers[i] * 2**e`.

        Raises:
            CheckError: WEIGHTS (no such tensor) or NONFINITE (it holds a NaN or an infinity).
        """
        first, last, dtype, shape = self._entry(name)
        data: bytes | memoryview = self._data[first:last]
        if dtype == "BF16":  # the upper half of a little-endian float32
            wide = bytearray(2 * len(data))
            wide[2::4], wide[3::4] = data[0::2], data[1::2]
            data = bytes(wide)
        _, code, bits = _DTYPES[dtype]
        values = struct.unpack(f"<{math.prod(shape)}{code}", data)
        if not bits:
            return shape, list(values), 0
        if not all(map(math.isfinite, values)):
            raise CheckError("NONFINITE", f"finite entries in tensor {name!r}", "a NaN or an infinity")
        return shape, *_integers(values, bits)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise CheckError("WEIGHTS", f"a stored tensor {name!r}", f"{len(self.names)} others")
        return self._entries[name]


def _read_header(header: dict[str, Any]) -> dict[str, _Entry]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckError("WEIGHTS", "__metadata__ that maps strings to strings", type(metadata).__name__)
    if len(header) > MAX_TENSORS:
        raise CheckError("LIMIT", f"at most {MAX_TENSORS} tensors", len(header))
    entries = {}
    for name, value in header.items():
        where = f"tensor {text(name, 'tensor name')!r}"
        dtype, sizes, offsets = fields(value, "dtype", "shape", "data_offsets", where=where)
        if text(dtype, where) not in _DTYPES:
            raise CheckError("WEIGHTS", f"{where}: a dtype among {', '.join(_DTYPES)}", dtype)
        if len(items(sizes, where)) > MAX_DIMENSIONS:
            raise CheckError("LIMIT", f"{where}: at most {MAX_DIMENSIONS} dimensions", len(sizes))
        shape = tuple(integer(size, 0, MAX_SIZE, where) for size in sizes)
        span = [integer(offset, 0, MAX_SIZE, where) for offset in items(offsets, where)]
        size = math.prod(shape) * _DTYPES[dtype][0]
        if len(span) != 2 or span[1] - span[0] != size:
            raise CheckError("WEIGHTS", f"{where}: two data_offsets {size} bytes apart", span[:3])
        entries[name] = _Entry(span[0], span[1], dtype, shape)
    return entries


def _integers(values: tuple[float, ...], bits: int) -> tuple[list[int], int]:
    """Finite floats of at most `bits` significant bits as integers with a shared exponent, exactly.

    A non-zero x is f * 2**e with 1/2 <= |f| < 1 (frexp), and f * 2**bits is an integer. Let k = bits - e for
    the smallest non-zero |x|; no other e is smaller, so every x * 2**k is an integer, and 0 or at least
    2**(bits - 1) in magnitude. Such a product has the significand of x and no underflow, so `ldexp` is exact
    unless it overflows, which it reports; `trunc` of a float that is an integer is exact. After an overflow
    integer arithmetic gives the same integers.
    """
    smallest = min(filter(None, map(abs, values)), default=0)
    if not smallest:
        return [0] * len(values), 0
    k = bits - math.frexp(smallest)[1]
    try:
        return list(map(math.trunc, map(math.ldexp, values, repeat(k)))), -k
    except OverflowError:  # so k > 0, and the denominator of each x is a power of two that divides 2**k
        ratios = map(float.as_integer_ratio, values)
        return [top << (k - bottom.bit_length() + 1) for top, bottom in ratios], -k
