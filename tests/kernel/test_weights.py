"""The safetensors reader against the safetensors package and exact rationals, and against hostile files."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.weights import Weights

DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
FLOATS = [name for name in DTYPES if "F" in name]


def encode(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header whatever."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(first: Any, last: Any, shape: Any = None, dtype: Any = "U8") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [last - first] if shape is None else shape,
        "data_offsets": [first, last],
    }


def code_of(raw: bytes) -> str:
    with pytest.raises(CheckError) as caught:
        Weights(raw)
    return caught.value.code


def exact(weights: Weights, name: str) -> list[Fraction]:
    shape, integers, exponent = weights.tensor(name)
    assert shape == weights.shape(name)
    assert len(integers) == math.prod(shape)
    assert all(type(i) is int for i in integers)
    return [Fraction(i) * Fraction(2) ** exponent for i in integers]


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_every_dtype_against_the_safetensors_package(dtype: str) -> None:
    generator = torch.Generator().manual_seed(3)
    scales = torch.tensor([1.0, 100.0, 0.01]).reshape(3, 1, 1)
    values = (torch.randn(3, 4, 5, generator=generator) * scales * 10).to(DTYPES[dtype])
    raw = safetensors.torch.save({"w": values, "b": values[0, 0].clone(), "scalar": values[1, 1, 1].clone()})
    weights = Weights(raw)
    assert weights.names == ("b", "scalar", "w")
    assert weights.sha256 == hashlib.sha256(raw).hexdigest()
    assert weights.shape("w") == (3, 4, 5)
    assert weights.shape("scalar") == ()
    for name, loaded in safetensors.torch.load(raw).items():
        assert exact(weights, name) == [Fraction(v) for v in loaded.flatten().tolist()]


@pytest.mark.parametrize(("dtype", "bits"), [("F16", 16), ("BF16", 16)])
def test_every_sixteen_bit_pattern(dtype: str, bits: int) -> None:
    patterns = torch.arange(1 << bits, dtype=torch.int32).to(torch.uint16).view(DTYPES[dtype])
    finite = patterns[torch.isfinite(patterns.double())]
    weights = Weights(safetensors.torch.save({"w": finite}))
    assert exact(weights, "w") == [Fraction(v) for v in finite.double().tolist()]


@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_magnitudes_stay_exact(dtype: str) -> None:
    info = torch.finfo(DTYPES[dtype])
    tiny, largest = info.smallest_normal * info.eps, info.max  # the smallest subnormal
    cases = [
        [tiny],
        [largest],
        [tiny, largest],
        [-tiny, 0.0, -0.0, largest, 1.0, info.smallest_normal, 3 * tiny],
    ]
    for values in cases:
        tensor = torch.tensor(values, dtype=torch.float64).to(DTYPES[dtype])
        assert tensor.double().tolist() == values
        assert exact(Weights(safetensors.torch.save({"w": tensor})), "w") == [Fraction(v) for v in values]


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_zero_and_empty_tensors(dtype: str) -> None:
    zeros = torch.zeros(2, 3, dtype=DTYPES[dtype])
    raw = safetensors.torch.save({"z": zeros, "e": torch.zeros(0, 4, dtype=DTYPES[dtype])})
    weights = Weights(raw)
    assert weights.tensor("z") == ((2, 3), [0] * 6, 0)
    assert weights.tensor("e") == ((0, 4), [], 0)


def test_integer_extremes() -> None:
    for name, dtype in DTYPES.items():
        if "F" not in name:
            info = torch.iinfo(dtype)
            weights = Weights(safetensors.torch.save({"w": torch.tensor([info.min, info.max], dtype=dtype)}))
            assert weights.tensor("w") == ((2,), [info.min, info.max], 0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_doubles_round_trip(values: list[float]) -> None:
    raw = encode({"w": entry(0, 8 * len(values), [len(values)], "F64")}, struct.pack(f"<{len(values)}d", *values))
    assert exact(Weights(raw), "w") == [Fraction(v) for v in values]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=20))
def test_singles_round_trip(values: list[float]) -> None:
    raw = encode({"w": entry(0, 4 * len(values), [len(values)], "F32")}, struct.pack(f"<{len(values)}f", *values))
    assert exact(Weights(raw), "w") == [Fraction(v) for v in values]


@given(st.dictionaries(st.from_regex(r"[a-zé.]{1,6}", fullmatch=True), st.lists(st.integers(-128, 127), max_size=5)))
def test_files_of_the_package_round_trip(tensors: dict[str, list[int]]) -> None:
    arrays = {name: np.array(values, dtype=np.int8) for name, values in tensors.items()}
    weights = Weights(safetensors.numpy.save(arrays, metadata={"format": "np"}))
    assert weights.names == tuple(sorted(tensors))
    for name, values in tensors.items():
        assert weights.tensor(name) == ((len(values),), values, 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_nan_and_infinity(dtype: str, bad: float, position: int) -> None:
    values = [1.0, 0.0, -2.0]
    values[position] = bad
    raw = safetensors.torch.save({"bad": torch.tensor(values).to(DTYPES[dtype]), "good": torch.ones(2)})
    weights = Weights(raw)
    assert exact(weights, "good") == [1, 1]
    with pytest.raises(CheckError) as caught:
        weights.tensor("bad")
    assert caught.value.code == "NONFINITE"


def test_an_unknown_name() -> None:
    weights = Weights(encode({}))
    for call in (weights.tensor, weights.shape):
        with pytest.raises(CheckError) as caught:
            call("w")
        assert caught.value.code == "WEIGHTS"


def test_order_in_the_header_does_not_matter() -> None:
    weights = Weights(encode({"b": entry(2, 3), "e": entry(2, 2), "a": entry(0, 2)}, b"\1\2\3"))
    assert [weights.tensor(n)[1] for n in ("a", "b", "e")] == [[1, 2], [3], []]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "WEIGHTS"),
    "seven bytes": (b"\xff" * 7, "WEIGHTS"),
    "no header": (b"\0" * 8, "WEIGHTS"),
    "header longer than the file": (encode({}, length=3), "WEIGHTS"),
    "header of two gigabytes": (encode({}, length=2 << 30), "LIMIT"),
    "header of 2^64 - 1 bytes": (encode({}, length=(1 << 64) - 1), "LIMIT"),
    "header cut short": (encode({"a": entry(0, 1)}, b"1", length=20), "WEIGHTS"),
    "not an object": (encode([]), "WEIGHTS"),
    "leading space": (encode(b" {}"), "WEIGHTS"),
    "not JSON": (encode(b"{]"), "WEIGHTS"),
    "not UTF-8": (encode(b'{"\xff":1}'), "WEIGHTS"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00" + b"." * 64, "LIMIT"),
    "nested to depth 10^5": (encode(b'{"a":' * 10**5), "LIMIT"),
    "two tensors of one name": (
        encode(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 1)).encode(),) * 2), b"1"),
        "WEIGHTS",
    ),
    "a key twice in an entry": (
        encode(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
        "WEIGHTS",
    ),
    "float offset": (encode(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1.0]}}', b"1"), "WEIGHTS"),
    "NaN size": (encode(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"1"), "WEIGHTS"),
    "metadata not an object": (encode({"__metadata__": []}), "WEIGHTS"),
    "metadata not strings": (encode({"__metadata__": {"a": 1}}), "WEIGHTS"),
    "entry is a list": (encode({"a": [0, 1]}, b"1"), "WEIGHTS"),
    "entry lacks a key": (encode({"a": {"dtype": "U8", "shape": [1]}}, b"1"), "WEIGHTS"),
    "entry has a further key": (encode({"a": {**entry(0, 1), "x": 1}}, b"1"), "WEIGHTS"),
    "unknown dtype": (encode({"a": entry(0, 1, dtype="F8_E4M3")}, b"1"), "WEIGHTS"),
    "bool dtype": (encode({"a": entry(0, 1, dtype="BOOL")}, b"1"), "WEIGHTS"),
    "dtype is a number": (encode({"a": entry(0, 1, dtype=8)}, b"1"), "WEIGHTS"),
    "dtype is a list": (encode({"a": entry(0, 1, dtype=["U8"])}, b"1"), "WEIGHTS"),
    "shape is a number": (encode({"a": entry(0, 1, 1)}, b"1"), "WEIGHTS"),
    "shape is a string": (encode({"a": entry(0, 1, "1")}, b"1"), "WEIGHTS"),
    "negative size": (encode({"a": entry(0, 1, [-1])}, b"1"), "WEIGHTS"),
    "two negative sizes": (encode({"a": entry(0, 1, [-1, -1])}, b"1"), "WEIGHTS"),
    "bool size": (encode({"a": entry(0, 1, [True])}, b"1"), "WEIGHTS"),
    "null size": (encode({"a": entry(0, 1, [None])}, b"1"), "WEIGHTS"),
    "bool offset": (encode({"a": {**entry(0, 1), "data_offsets": [False, True]}}, b"1"), "WEIGHTS"),
    "one offset": (encode({"a": {**entry(0, 1), "data_offsets": [1]}}, b"1"), "WEIGHTS"),
    "three offsets": (encode({"a": {**entry(0, 1), "data_offsets": [0, 1, 2]}}, b"1"), "WEIGHTS"),
    "offsets backwards": (encode({"a": entry(1, 0, [1])}, b"1"), "WEIGHTS"),
    "negative offset": (encode({"a": entry(-1, 0, [1])}, b"1"), "WEIGHTS"),
    "range shorter than the shape": (encode({"a": entry(0, 1, [2])}, b"1"), "WEIGHTS"),
    "range longer than the shape": (encode({"a": entry(0, 2, [1])}, b"12"), "WEIGHTS"),
    "range of another dtype": (encode({"a": entry(0, 4, [4], "F32")}, b"1234"), "WEIGHTS"),
    "range beyond the file": (encode({"a": entry(0, 4)}, b"123"), "WEIGHTS"),
    "two gigabytes claimed": (encode({"a": entry(0, 2 << 30)}, b"123"), "WEIGHTS"),
    "product beyond 64 bits": (encode({"a": entry(0, 0, [1 << 32, 1 << 32])}), "WEIGHTS"),
    "product of 16 huge sizes": (encode({"a": entry(0, 0, [10**14] * 16)}), "WEIGHTS"),
    "size of 20 digits": (encode({"a": entry(0, 0, [10**20, 0])}), "LIMIT"),
    "17 dimensions": (encode({"a": entry(0, 1, [1] * 17)}, b"1"), "LIMIT"),
    "overlap": (encode({"a": entry(0, 2), "b": entry(1, 3)}, b"123"), "WEIGHTS"),
    "the same range twice": (encode({"a": entry(0, 3), "b": entry(0, 3)}, b"123"), "WEIGHTS"),
    "one range inside another": (encode({"a": entry(0, 3), "b": entry(1, 2)}, b"123"), "WEIGHTS"),
    "overlap, listed backwards": (encode({"b": entry(1, 3), "a": entry(0, 2)}, b"123"), "WEIGHTS"),
    "empty tensor inside another": (encode({"a": entry(0, 3), "e": entry(1, 1)}, b"123"), "WEIGHTS"),
    "gap": (encode({"a": entry(0, 1), "b": entry(2, 3)}, b"123"), "WEIGHTS"),
    "gap at the start": (encode({"a": entry(1, 3)}, b"123"), "WEIGHTS"),
    "trailing byte": (encode({"a": entry(0, 3)}, b"1234"), "WEIGHTS"),
    "data without tensors": (encode({}, b"1"), "WEIGHTS"),
    "escape sequence in a name": (encode({"\x1b[2J": entry(0, 1)}, b"1"), "WEIGHTS"),
    "lone surrogate in a name": (
        encode(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
        "WEIGHTS",
    ),
}


@pytest.mark.parametrize("case", list(HOSTILE))
def test_hostile_files(case: str) -> None:
    raw, code = HOSTILE[case]
    start = time.process_time()
    assert code_of(raw) == code
    assert time.process_time() - start < 1


def test_too_many_tensors() -> None:
    names = [f"{i:x}" for i in range(65537)]
    assert code_of(encode({name: entry(0, 0) for name in names})) == "LIMIT"
    assert len(Weights(encode({name: entry(0, 0) for name in names[1:]})).names) == 65536


def test_every_truncation_is_refused() -> None:
    raw = safetensors.numpy.save({"a": np.arange(5, dtype=np.float32), "b": np.arange(3, dtype=np.int8)})
    for size in range(len(raw)):
        assert code_of(raw[:size]) in ("WEIGHTS", "LIMIT")


def test_seven_million_singles_are_fast() -> None:
    values = np.random.default_rng(0).standard_normal(7_000_000).astype(np.float32)
    weights = Weights(safetensors.numpy.save({"w": values}))
    start = time.process_time()
    _, integers, exponent = weights.tensor("w")
    assert time.process_time() - start < 8  # about 1.7 s on the machine of the benchmarks
    for i in range(0, 7_000_000, 70_001):
        assert Fraction(integers[i]) * Fraction(2) ** exponent == Fraction(float(values[i]))
