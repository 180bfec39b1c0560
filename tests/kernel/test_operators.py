"""Operators: parsing, one application, differences."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel import graphs
from tests.kernel.certificates import kernel_graph, linear_model, real
from tests.kernel.generator import sample
from tests.kernel.graphs import EXACT, dyadic, vector
from tests.kernel.test_evaluate import EXACT_OPS, box, ends, flat, inside, random_box, reference
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.operators import IMPLICIT, PICARD, Operator, apply, difference, parse_operator
from trm_verify.kernel.tensor import Tensor

EMPTY = Tensor((0,), 0, [], [])


def test_parsing() -> None:
    assert parse_operator("picard", 3) is PICARD and parse_operator("implicit", 3) is IMPLICIT
    one = parse_operator({"outer_damped": vector([F(1, 4)])}, 3)
    assert one == parse_operator({"outer_damped": vector([F(1, 4)] * 3)}, 3) == Operator("outer_damped", (F(1, 4),) * 3)
    assert one != parse_operator({"outer_damped": vector([F(1, 4), F(1, 4), F(1, 2)])}, 3)
    assert one != PICARD and parse_operator({"outer_damped": vector([1])}, 1) != PICARD
    assert parse_operator({"inner_damped": dyadic(3)}, 3) == Operator("inner_damped", (F(3),))


@pytest.mark.parametrize(
    "raw",
    [
        "Picard",
        "damped",
        None,
        0,
        [],
        {},
        {"picard": 1},
        {"outer_damped": vector([F(1, 2)]), "inner_damped": dyadic(1)},
        {"outer_damped": vector([0])},
        {"outer_damped": vector([F(5, 4)])},
        {"outer_damped": vector([-1])},
        {"outer_damped": vector([])},
        {"outer_damped": vector([F(1, 2)] * 2)},
        {"outer_damped": vector([F(1, 2), F(1, 2), 0])},
        {"inner_damped": dyadic(0)},
        {"inner_damped": dyadic(-1)},
    ],
)
def test_what_is_no_operator(raw: Any) -> None:
    with pytest.raises(CheckError) as caught:
        parse_operator(raw, 3)
    assert caught.value.code == "OPERATOR"


@pytest.mark.parametrize("seed", range(25))
def test_one_application_is_exact_at_points_and_encloses_boxes(seed: int) -> None:
    model = sample(70_000 + seed, EXACT_OPS, 8)
    graph, rng = kernel_graph(model.graph, model.tensors), model.rng
    whole = model.vocabulary is not None
    alpha = tuple(F(rng.randint(1, 8), 8) for _ in range(model.size))
    states, inputs = random_box(rng, model.size), random_box(rng, model.input_size, model.vocabulary)
    damped = Operator("outer_damped", alpha)
    over = [apply(graph, op, box(states), box(inputs)) for op in (PICARD, damped)]
    for _ in range(6):
        z, x = inside(rng, states), inside(rng, inputs, whole)
        image = graphs.outputs(model.graph["step"], reference(model, z, x, EXACT))
        mixed = [(1 - a) * p + a * q for a, p, q in zip(alpha, z, image, strict=True)]
        for operator, truth, enclosure in zip((PICARD, damped), (image, mixed), over, strict=True):
            assert ends(apply(graph, operator, flat(z), flat(x))) == [(v, v) for v in truth]
            assert all(lo <= v <= hi for v, (lo, hi) in zip(truth, ends(enclosure), strict=True))


@pytest.mark.parametrize("operator", [IMPLICIT, Operator("inner_damped", (F(1, 2),))])
def test_only_picard_and_outer_damping_can_be_applied(operator: Operator) -> None:
    graph = kernel_graph(linear_model([[F(1, 2)]]))
    with pytest.raises(CheckError) as caught:
        apply(graph, operator, flat([F(0)]), EMPTY)
    assert caught.value.code == "UNSUPPORTED"


def test_differences_of_independent_values() -> None:
    a, b = box([(F(1), F(2)), (F(-1), F(0))]), box([(F(0), F(3)), (F(1, 2), F(1, 2))])
    assert ends(difference(a, b)) == [(-2, 2), (F(-3, 2), F(-1, 2))]
    assert ends(difference(a, a))[0] == (-1, 1)  # the two vary independently
    point = difference(flat([F(1)]), flat([F(1, 4)]))
    assert point.is_point and ends(point) == [(F(3, 4), F(3, 4))]


def test_an_unbounded_image_stays_unbounded() -> None:
    graph = kernel_graph(linear_model([[F(1, 2)]], given=real(1)))
    assert not apply(graph, PICARD, flat([F(0)]), Tensor((1,))).bounded


def test_different_damping_prints_differently() -> None:
    texts = {
        str(Operator("outer_damped", a))
        for a in ((F(1, 2),), (F(1, 2) + F(1, 2**80),), (F(1, 2), F(1, 4)), (F(1, 4), F(1, 2)))
    }
    assert len(texts) == 4
