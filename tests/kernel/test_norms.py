"""Block and metric norms: bounds over enclosures, spreads, supports, and what is no norm."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel.graphs import REAL, dyadic, to_real, vector
from tests.kernel.test_evaluate import box, flat, inside, random_box
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm, MetricNorm, Norm, coordinate_scale, parse_norm


def value(norm: Norm, v: list[F]) -> Any:
    """N(v) in 400 bits."""
    if isinstance(norm, MetricNorm):
        rows = [[F(m) * F(2) ** norm.exp for m in row] for row in norm.rows]
        return REAL.sqrt(
            to_real(sum((p * r * q for p, row in zip(v, rows, strict=True) for r, q in zip(row, v, strict=True)), F(0)))
        )
    best, start = REAL.mpf(0), 0
    for size, d in zip(norm.sizes, norm.weights, strict=True):
        part = sum((x * x for x in v[start : start + size]), F(0))
        best = max(best, REAL.sqrt(to_real(part)) / to_real(F(d) * F(2) ** norm.exp))
        start += size
    return best


def block(sizes: tuple[int, ...], weights: tuple[int, ...], exp: int = -1) -> BlockNorm:
    return BlockNorm(sizes, weights, exp)


def metric(seed: int, n: int = 3) -> MetricNorm:
    rng = np.random.default_rng(seed)
    root = rng.integers(-5, 6, (n, n))
    p = root @ root.T + 2 * np.eye(n, dtype=int)
    return MetricNorm(tuple(int(v) for v in p.ravel()), -2, F(1, 2), n)


NORMS: list[Norm] = [
    block((1, 1, 1), (1, 2, 5)),
    block((3,), (3,)),
    block((1, 2), (7, 2)),
    block((2, 1), (1, 1), 3),
    block((1, 1, 1), (4, 4, 4)),
    metric(0),
    metric(1),
    metric(2),
]


@pytest.mark.parametrize("norm", NORMS)
def test_the_bound_holds_at_every_point_of_an_enclosure(norm: Norm) -> None:
    rng = Random(1)
    for _ in range(25):
        bounds = random_box(rng, 3)
        bound = to_real(norm.bound(box(bounds)))
        for _ in range(4):
            v = inside(rng, bounds)
            assert value(norm, v) <= bound * (1 + REAL.mpf(2) ** -300)
            close = to_real(norm.bound(flat(v)))
            assert value(norm, v) <= close * (1 + REAL.mpf(2) ** -300) <= value(norm, v) * (1 + REAL.mpf(2) ** -80)


@pytest.mark.parametrize("norm", NORMS)
def test_spread_and_support_hold_on_the_ball_and_are_reached(norm: Norm) -> None:
    rng = Random(2)
    for _ in range(60):
        v = [F(rng.randint(-9, 9), 4) for _ in range(3)]
        q = [rng.randint(-9, 9) for _ in range(3)]
        size = value(norm, v)
        radius = F(rng.randint(1, 9), 2)
        for x, s in zip(v, norm.spread(radius), strict=True):
            assert abs(to_real(x)) * to_real(radius) <= to_real(s) * size * (1 + REAL.mpf(2) ** -80)
        product = abs(sum(a * b for a, b in zip(q, v, strict=True)))
        assert to_real(product) / 4 <= to_real(norm.support(q, -2)) * size * (1 + REAL.mpf(2) ** -80)
        assert abs(to_real(max(map(abs, v)))) <= to_real(coordinate_scale(norm)) * size * (1 + REAL.mpf(2) ** -80)


def test_block_supports_are_exact() -> None:
    assert block((1, 1, 1), (1, 2, 5), 0).support([3, -4, 1], -1) == F(3 + 8 + 5, 2)
    assert block((2, 1), (2, 1), 0).support([3, -4, 7], 0) == 2 * 5 + 7
    assert block((2, 1), (2, 1), 0).spread(F(3)) == [6, 6, 3]
    assert coordinate_scale(block((2, 1), (2, 1), 0)) == 2
    assert block((2,), (2,), 0).bound(flat([F(3), F(-4)])) == F(5, 2)


def test_a_metric_spread_divides_by_the_root_of_the_floor() -> None:
    norm = MetricNorm((4, 0, 0, 4), 0, F(1, 4), 2)
    assert norm.spread(F(1)) == [2, 2] and norm.support([3, 4], 0) == 10
    uneven = MetricNorm((1, 0, 0, 1), 0, F(1, 2), 2).spread(F(1))[0]
    assert uneven * uneven >= 2 and uneven < F(142, 100)


@pytest.mark.parametrize(
    ("norm", "family"),
    [
        (block((1, 1), (3, 3)), "linf"),
        (block((1, 1), (3, 4)), "weighted_linf"),
        (block((2,), (9,)), "l2"),
        (block((1,), (9,)), "linf"),
        (block((2, 1), (1, 1)), "mixed"),
        (block((2, 2), (1, 1)), "mixed"),
        (metric(0), "metric"),
    ],
)
def test_families(norm: Norm, family: str) -> None:
    assert norm.family == family


def test_groups() -> None:
    assert block((2, 1), (1, 1)).groups == [0, 0, 1] and block((2, 1), (3, 5), 1).weight(1) == 10


def raw_block(runs: Any, weights: Any, **extra: Any) -> dict[str, Any]:
    return {"kind": "block", "runs": runs, "weights": vector(weights)} | extra


def test_parsing_runs() -> None:
    assert parse_norm(raw_block([[2, 1], [1, 2]], [1, F(1, 2), 3]), 4) == BlockNorm((1, 1, 2), (2, 1, 6), -1)
    raw = {"kind": "metric", "matrix": vector([2, 1, 1, 2]), "floor": dyadic(F(1, 2))}
    assert parse_norm(raw, 2) == MetricNorm((2, 1, 1, 2), 0, F(1, 2), 2)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (raw_block([[3, 1]], [1, 1, 0]), "NORM"),
        (raw_block([[3, 1]], [1, 1, -1]), "NORM"),
        (raw_block([[3, 1]], [1, 1]), "NUMBER"),
        (raw_block([[2, 1]], [1, 1]), "NORM"),
        (raw_block([[4, 1]], [1] * 4), "NUMBER"),
        (raw_block([[2, 2]], [1, 1]), "NORM"),
        (raw_block([[1, 3], [1, 3]], [1, 1]), "NORM"),
        (raw_block([], []), "NORM"),
        (raw_block([[0, 1], [3, 1]], [1, 1, 1]), "NUMBER"),
        (raw_block([[-1, 1], [4, 1]], [1, 1, 1]), "NUMBER"),
        (raw_block([[3, 1, 1]], [1, 1, 1]), "FIELD"),
        (raw_block([[True, 3]], [1]), "FIELD"),
        (raw_block([[3, 1]], [1, 1, 1], extra=1), "FIELD"),
        ({"kind": "linf", "runs": [[3, 1]], "weights": vector([1, 1, 1])}, "NORM"),
        ({"kind": "block", "runs": [[3, 1]]}, "FIELD"),
        ({"kind": "metric", "matrix": vector([1, 0, 0, 0, 1, 0, 0, 0]), "floor": dyadic(1)}, "NUMBER"),
        ({"kind": "metric", "matrix": vector([1, 0, 0, 0, 1, 2, 0, -2, 1]), "floor": dyadic(1)}, "NORM"),
        ({"kind": "metric", "matrix": vector([1, 0, 0, 0, 1, 0, 0, 0, 1]), "floor": dyadic(0)}, "NORM"),
        ({"kind": "metric", "matrix": vector([1, 0, 0, 0, 1, 0, 0, 0, 1]), "floor": dyadic(-1)}, "NORM"),
        ({"kind": "metric", "matrix": vector([1, 0, 0, 0, 1, 0, 0, 0, 1])}, "FIELD"),
        ([], "FIELD"),
        (None, "FIELD"),
    ],
)
def test_what_is_no_norm(raw: Any, code: str) -> None:
    with pytest.raises(CheckError) as caught:
        parse_norm(raw, 3)
    assert caught.value.code == code
