"""`divergence`: cones that are accepted are mapped into each other, point by point, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction as F
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, kernel_graph
from tests.kernel.graphs import Json, Nodes, dyadic, vector
from trm_verify.kernel.check import _box
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.rules.divergence import Cone, growth

OPS = ("relu", "leaky_relu", "abs", None)


def model(weights: list[list[F]], bias: list[F], op: str | None) -> Json:
    """z ← φ(Wz + b), and z ← Wz + b without φ."""
    nodes = Nodes()
    out = nodes.add("add", nodes.add("linear", nodes.state(), nodes.constant(weights)), nodes.constant(bias))
    if op is not None:
        out = nodes.add(op, out, **({"slope": dyadic(F(1, 4))} if op == "leaky_relu" else {}))
    return graph_json(nodes.function(out), [[len(bias)]])


def applied(weights: list[list[F]], bias: list[F], op: str | None, alpha: F, z: list[F]) -> list[F]:
    image = [sum(w * v for w, v in zip(row, z, strict=True)) + b for row, b in zip(weights, bias, strict=True)]
    if op is not None:
        below = {"relu": F(0), "leaky_relu": F(1, 4), "abs": F(-1)}[op]
        image = [v if v >= 0 else below * v for v in image]
    return [alpha * a + (1 - alpha) * b for a, b in zip(image, z, strict=True)]


def solve(columns: list[list[F]], point: list[F]) -> list[F]:
    """M⁻¹ point, by elimination."""
    n = len(point)
    rows = [[columns[j][i] for j in range(n)] + [point[i]] for i in range(n)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(n):
            if i != k:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[n] for row in rows]


def short(values: Any, bits: int = 12) -> list[list[F]]:
    return [[F(round(float(v) * 2**bits), 2**bits) for v in row] for row in np.atleast_2d(values)]


def cone_json(columns: list[list[F]], rows: list[list[F]], radii: list[F]) -> Json:
    matrix = [v for row in zip(*columns, strict=True) for v in row]
    return {"matrix": vector(matrix), "inverse": vector([v for row in rows for v in row]), "radii": vector(radii)}


def drawn(draw: Random) -> tuple[list[list[F]], list[F], str | None, F, Json, list[list[F]], list[F], F]:
    """A map with a dominant direction, and a cone about it that may or may not do."""
    n = draw.randint(1, 3)
    weights = [[F(draw.randint(-8, 24 if i == j else 8), 16) for j in range(n)] for i in range(n)]
    bias = [F(draw.randint(-16, 16), 8) for _ in range(n)]
    op = draw.choice(OPS)
    values, vectors = np.linalg.eig(np.array(weights, dtype=float))
    order = np.argsort(-values.real)
    basis = vectors[:, order].real * draw.choice((1, -1))
    if abs(np.linalg.det(basis)) < 1e-3:
        basis = np.eye(n)
    columns = short(basis.T)
    inverse = short(np.linalg.inv(np.array(columns, dtype=float).T), draw.choice((6, 12, 20)))
    radii = [F(draw.randint(0, 16), 16) for _ in range(n - 1)]
    least, alpha = F(draw.choice((1, 4, 64))), F(draw.choice((1, 2)), 2)
    return weights, bias, op, alpha, cone_json(columns, inverse, radii), columns, radii, least


@pytest.mark.parametrize("seed", range(12))
def test_accepted_cones_are_mapped_into_themselves(seed: int) -> None:
    draw, accepted = Random(seed), 0
    for _ in range(120):
        weights, bias, op, alpha, raw, columns, radii, least = drawn(draw)
        n = len(bias)
        sheet = Sheet(model(weights, bias, op))
        graph = kernel_graph(sheet.graph)
        operator = Operator("picard") if alpha == 1 else Operator("outer_damped", (alpha,) * n)
        try:
            nothing = _box(sheet.boxes[sheet.point()], graph)[1]
            factor = growth(graph, operator, nothing, [Cone.parse(raw, n, least)])
        except CheckError:
            continue
        accepted += factor > 1
        for _ in range(12):
            t = least * F(draw.choice((4, 5, 8, 64, 4096)), 4)
            y = [r * F(draw.randint(-4, 4), 4) for r in radii]
            z = [t * sum(c[i] * v for c, v in zip(columns, [F(1), *y], strict=True)) for i in range(n)]
            image = solve(columns, applied(weights, bias, op, alpha, z))
            assert image[0] >= factor * t
            assert all(abs(g) <= r * image[0] for g, r in zip(image[1:], radii, strict=True))
    assert accepted > 2


def ray(slope: Any, offset: Any, start: Any, least: Any, steps: int = 0, op: str | None = "relu") -> str:
    sheet = Sheet(model([[F(slope)]], [F(offset)], op))
    one = cone_json([[F(1)]], [[F(1)]], [])
    fields = {"operator": "picard", "domain": sheet.point()}
    step = sheet.step("divergence", start=sheet.box([F(start)], [F(start)]), steps=steps, least=dyadic(F(least)),
                      cones=[one], **fields)  # fmt: skip
    sheet.claim(step, "refutation", of="convergence", norm=None, rate=None, answer=None, region=sheet.all(), **fields)
    return sheet.verdict()


def test_a_hinge_runs_away_from_one_side_only() -> None:
    # relu(3z − 1): ½ stays, what lies above it runs away, what lies below ends at 0
    assert ray(3, -1, 1, 1) == ACCEPTED
    assert ray(3, -1, F(9, 16), 1, steps=4) == ACCEPTED
    assert ray(3, -1, F(9, 16), 1, steps=1) == "INCLUSION"
    for start in (F(1, 2), F(1, 4)):
        assert ray(3, -1, start, F(1, 2), steps=40) != ACCEPTED


def test_the_edge_of_growth() -> None:
    assert ray(1, 1, 4, 1) == "INEQUALITY"  # z + 1 runs away, but not by a factor
    assert ray(F(2**20 + 1, 2**20), 0, 4, 1) == ACCEPTED
    assert ray(2, -1, 1, 1) == "INEQUALITY"  # 1 is fixed
    assert ray(2, -1, 2, F(9, 8)) == ACCEPTED


def test_units_keep_their_sign_at_every_scale() -> None:
    # relu(z − 4) at 5 is positive; relu(4 − z/8) is positive there as well, and negative further out
    assert ray(F(-1, 8), 4, 5, 1) != ACCEPTED
