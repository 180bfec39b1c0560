"""Layout operations against numpy: the listed source positions say where every entry comes from."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel import graphs
from tests.kernel.graphs import EXACT, array
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.layout import LAYOUTS, concat, shape_of, strides


def moved(op: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> tuple[tuple[int, ...], list[int]]:
    """Shape and sources according to the reference evaluator, with the entries numbered from 1 and padding 0."""
    size = int(np.prod(shape))
    entries = array([F(i + 1) for i in range(size)], shape)
    nodes = [{"op": "state", "in": [], "part": 0}, {"op": op, "in": [0], **attrs}]
    value = graphs.run({"nodes": nodes, "outputs": [1]}, [entries], None, {}, EXACT)[1]
    return value.shape, [int(v) - 1 for v in value.ravel()]


CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("reshape", (2, 3), {"shape": [3, 2]}),
    ("reshape", (1,), {"shape": []}),
    ("reshape", (), {"shape": [1, 1]}),
    ("permute", (2, 3, 4), {"axes": [2, 0, 1]}),
    ("permute", (2, 3), {"axes": [0, 1]}),
    ("permute", (), {"axes": []}),
    ("slice", (5,), {"axis": 0, "start": 1, "stop": 5, "step": 2}),
    ("slice", (3, 4), {"axis": 1, "start": 0, "stop": 1, "step": 9}),
    ("slice", (3, 4), {"axis": 0, "start": 2, "stop": 3, "step": 1}),
    ("select", (3, 2), {"axis": 0, "indices": [2, 0, 0, 1]}),
    ("select", (2, 3), {"axis": 1, "indices": [1]}),
    ("expand", (1, 3), {"shape": [2, 3]}),
    ("expand", (2, 1, 2), {"shape": [2, 3, 2]}),
    ("expand", (1, 1), {"shape": [1, 1]}),
    ("pad", (2, 2), {"pads": [[1, 0], [0, 2]]}),
    ("pad", (1,), {"pads": [[0, 0]]}),
    ("unfold", (2, 5), {"kernel": [3], "stride": [1], "padding": [1], "dilation": [1]}),
    ("unfold", (1, 6), {"kernel": [2], "stride": [2], "padding": [0], "dilation": [3]}),
    ("unfold", (2, 3, 4), {"kernel": [2, 3], "stride": [1, 2], "padding": [1, 0], "dilation": [1, 1]}),
    ("unfold", (1, 2, 2), {"kernel": [2, 2], "stride": [1, 1], "padding": [2, 2], "dilation": [2, 1]}),
    ("unfold", (1, 2, 3, 2), {"kernel": [2, 2, 1], "stride": [1, 1, 2], "padding": [0, 1, 0], "dilation": [1, 1, 1]}),
]


@pytest.mark.parametrize(("op", "shape", "attrs"), CASES)
def test_sources(op: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    new, sources = LAYOUTS[op](attrs, shape)
    expected_shape, expected = moved(op, shape, attrs)
    assert new == expected_shape
    assert (list(range(len(expected))) if sources is None else sources) == expected


def test_every_layout_operation_has_a_case() -> None:
    assert {op for op, _, _ in CASES} == set(LAYOUTS)


@pytest.mark.parametrize(
    ("shapes", "axis"), [([(2, 3), (2, 1)], 1), ([(1, 2), (3, 2), (2, 2)], 0), ([(4,)], 0), ([(2, 1, 2), (2, 3, 2)], 1)]
)
def test_concatenation(shapes: list[tuple[int, ...]], axis: int) -> None:
    new, sources = concat({"axis": axis}, shapes)
    parts, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(np.arange(start, start + size).reshape(shape))
        start += size
    expected = np.concatenate(parts, axis=axis)
    assert new == expected.shape and sources == list(expected.ravel())


BAD: list[tuple[str, tuple[int, ...], dict[str, Any], str]] = [
    ("reshape", (2, 3), {"shape": [5]}, "SHAPE"),
    ("reshape", (2, 3), {"shape": [-1, 6]}, "NUMBER"),
    ("reshape", (2, 3), {"shape": [0]}, "NUMBER"),
    ("reshape", (2, 3), {"shape": [6.0]}, "FIELD"),
    ("reshape", (2, 3), {}, "FIELD"),
    ("permute", (2, 3), {"axes": [0, 0]}, "SHAPE"),
    ("permute", (2, 3), {"axes": [0]}, "SHAPE"),
    ("permute", (2, 3), {"axes": [1, -2]}, "NUMBER"),
    ("permute", (2, 3), {"axes": [True, False]}, "FIELD"),
    ("slice", (4,), {"axis": 0, "start": 2, "stop": 2, "step": 1}, "NUMBER"),
    ("slice", (4,), {"axis": 0, "start": 0, "stop": 5, "step": 1}, "NUMBER"),
    ("slice", (4,), {"axis": 0, "start": -1, "stop": 4, "step": 1}, "NUMBER"),
    ("slice", (4,), {"axis": 0, "start": 0, "stop": 4, "step": 0}, "NUMBER"),
    ("slice", (4,), {"axis": 0, "start": 3, "stop": 0, "step": -1}, "NUMBER"),
    ("slice", (4,), {"axis": 1, "start": 0, "stop": 4, "step": 1}, "NUMBER"),
    ("slice", (4,), {"axis": -1, "start": 0, "stop": 4, "step": 1}, "NUMBER"),
    ("slice", (), {"axis": 0, "start": 0, "stop": 1, "step": 1}, "SHAPE"),
    ("select", (4,), {"axis": 0, "indices": []}, "SHAPE"),
    ("select", (4,), {"axis": 0, "indices": [4]}, "NUMBER"),
    ("select", (4,), {"axis": 0, "indices": [-1]}, "NUMBER"),
    ("select", (), {"axis": 0, "indices": [0]}, "SHAPE"),
    ("expand", (2, 3), {"shape": [4, 3]}, "SHAPE"),
    ("expand", (2, 3), {"shape": [1, 3]}, "SHAPE"),
    ("expand", (3,), {"shape": [2, 3]}, "SHAPE"),
    ("expand", (1,), {"shape": [0]}, "NUMBER"),
    ("pad", (2,), {"pads": [[0, 0], [0, 0]]}, "SHAPE"),
    ("pad", (2,), {"pads": [[0]]}, "SHAPE"),
    ("pad", (2,), {"pads": [[-1, 0]]}, "NUMBER"),
    ("unfold", (2,), {"kernel": [], "stride": [], "padding": [], "dilation": []}, "SHAPE"),
    ("unfold", (1, 2), {"kernel": [3], "stride": [1], "padding": [0], "dilation": [1]}, "SHAPE"),
    ("unfold", (1, 4), {"kernel": [2, 2], "stride": [1], "padding": [0], "dilation": [1]}, "SHAPE"),
    ("unfold", (1, 4), {"kernel": [2], "stride": [0], "padding": [0], "dilation": [1]}, "NUMBER"),
    ("unfold", (1, 4), {"kernel": [2], "stride": [1], "padding": [-1], "dilation": [1]}, "NUMBER"),
    ("unfold", (1, 4), {"kernel": [0], "stride": [1], "padding": [0], "dilation": [1]}, "NUMBER"),
    ("expand", (1, 1), {"shape": [1 << 20, 1 << 20]}, "LIMIT"),
    ("pad", (1, 1, 1), {"pads": [[1 << 20, 0]] * 3}, "LIMIT"),
]


@pytest.mark.parametrize(("op", "shape", "attrs", "code"), BAD)
def test_rejects(op: str, shape: tuple[int, ...], attrs: dict[str, Any], code: str) -> None:
    with pytest.raises(CheckError) as caught:
        LAYOUTS[op](attrs, shape)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("shapes", "attrs", "code"),
    [
        ([], {"axis": 0}, "SHAPE"),
        ([(2, 3), (3, 3)], {"axis": 1}, "SHAPE"),
        ([(2,), (2, 1)], {"axis": 0}, "SHAPE"),
        ([()], {"axis": 0}, "SHAPE"),
        ([(2,), (2,)], {"axis": 1}, "NUMBER"),
        ([(2,), (2,)], {"axis": -1}, "NUMBER"),
        ([(2,), (2,)], {}, "FIELD"),
    ],
)
def test_concatenation_rejects(shapes: list[tuple[int, ...]], attrs: dict[str, Any], code: str) -> None:
    with pytest.raises(CheckError) as caught:
        concat(attrs, shapes)
    assert caught.value.code == code


def test_shapes() -> None:
    assert shape_of([2, 3], "x") == (2, 3) and shape_of([], "x") == ()
    assert strides((2, 3, 4)) == [12, 4, 1] and strides(()) == []
    for value, code in (
        ([1] * 17, "LIMIT"),
        ([1 << 14, 1 << 14], "LIMIT"),
        ([2, 0], "NUMBER"),
        ([-1], "NUMBER"),
        ("23", "FIELD"),
        ([True], "FIELD"),
    ):
        with pytest.raises(CheckError) as caught:
            shape_of(value, "x")
        assert caught.value.code == code
