"""The inputs of a call: exact boxes, centres inside them, labels of the right shape, refusals that name the row."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, tanh_model
from trm_verify.verification.inputs import Inputs, Row
from trm_verify.verification.session import Verification

X = torch.tensor([0.25, -0.5, 0.125])


@pytest.fixture(scope="module")
def session() -> Verification:
    return Verification(tanh_model())


@pytest.fixture(scope="module")
def positions() -> Verification:
    """Two output positions of three classes, without a bound on the input."""
    return Verification(
        tv.recursive(
            lambda z, x: z / 2 + x, state_shape=(2, 3), input_shape=(2, 3), readout=lambda z: z
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def counted() -> Verification:
    """Two integer inputs from 0 to 4."""
    table = torch.eye(5)
    return Verification(
        tv.recursive(
            lambda z, x: z / 2 + torch.nn.functional.embedding(x, table), state_shape=(2, 5), input_shape=(2,),
            vocabulary=5, domain=tv.Box(0, "7/2"),
        )
    )  # fmt: skip


def of(session: Verification, x: Any, eps: Any = None, answer: Any = None) -> Inputs:
    found = Inputs.of(session, x, eps, answer)
    assert found is not None
    return found


def test_a_ball_is_exact_and_cut_to_the_domain(session: Verification) -> None:
    row = of(session, X, "0.8").rows[0]
    assert row.box is not None
    assert row.box.lo == [Fraction(-11, 20), Fraction(-1), Fraction(-27, 40)]
    assert row.box.hi == [Fraction(1), Fraction(3, 10), Fraction(37, 40)]
    assert np.array_equal(row.centre, X.double()) and row.centre_box == tv.Box.point(X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_means_its_exact_values(session: Verification, dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, -0.3, 0.7], dtype=dtype)
    assert of(session, x).rows[0].box == tv.Box.point(x)
    assert of(session, x.requires_grad_()).rows[0].box == tv.Box.point(x)


def test_a_batch_is_rows_and_a_single_input_is_not(session: Verification) -> None:
    batch = of(session, torch.stack([X, -X]).numpy())
    assert batch.batch and len(batch.rows) == 2 and batch.centres.shape == (2, 3)
    single = of(session, X)
    assert not single.batch and single.rows[0].box == batch.rows[0].box


def test_a_box_has_its_midpoint_and_is_cut_to_the_domain(session: Verification) -> None:
    row = of(session, tv.Box([0, 0, 0], [1, 2, "1/2"])).rows[0]
    assert row.box == tv.Box([0, 0, 0], [1, 1, "1/2"]) and row.centre.tolist() == [0.5, 0.5, 0.25]
    thin = of(session, tv.Box.point(["1/3"] * 3)).rows[0]
    assert thin.centre_box is None, "no double lies in it, so nothing can be refuted there"


def test_integer_boxes_hold_integers(counted: Verification) -> None:
    row = of(counted, tv.Box(["1/2", -3], [9, "1.5"])).rows[0]
    assert row.box == tv.Box([1, 0], [3, 1]) and row.centre.tolist() == [2, 0]
    assert counted.domain_box == tv.Box([0, 0], [3, 3]), "the integers that the domain holds"
    assert of(counted, [1, 3]).rows[0].box == tv.Box.point([1, 3])


def test_a_model_without_input_is_its_own_row() -> None:
    session = Verification(autonomous(torch.tanh))
    assert of(session, None).rows == (Row(None, None, None),)
    for x, eps in ((X, None), (None, 0.1)):
        with pytest.raises(ValueError, match="the model has no input"):
            Inputs.of(session, x, eps, None)


def test_no_input_asks_about_the_model(session: Verification) -> None:
    assert Inputs.of(session, None, None, None) is None


@pytest.mark.parametrize(
    ("x", "eps", "answer", "message"),
    [
        (None, 0.1, None, "expected an input x"),
        (None, None, 1, "expected an input x"),
        (torch.zeros(4), None, None, r"expected x of shape \(3,\) or \(batch, 3\), found \(4,\)"),
        (torch.zeros(2, 2, 3), None, None, "expected x of shape"),
        (torch.zeros(()), None, None, "expected x of shape"),
        (torch.zeros(0, 3), None, None, "at least one input"),
        (torch.tensor([0, np.inf, 0]), None, None, "finite numbers in x"),
        (torch.tensor([0, 1.5, 0]), 1, None, "found x outside"),
        (tv.Box(2, 3), None, None, "expected inputs inside the domain"),
        (tv.Box(0, 1), 0.1, None, "either a Box or a point"),
        (tv.Box([0, 0], [1, 1]), None, None, "expected a box of shape"),
        (X, -0.1, None, "eps >= 0"),
        (X, float("nan"), None, "finite numbers in eps"),
        (X, float("inf"), None, "finite numbers in eps"),
        (X, "small", None, "finite numbers in eps, found .small.; they are written 0.01"),
        (X, "1e-1000000000", None, "at most 5000 digits"),
        (X, "9e9999", None, "at most 5000 digits"),
        (X, None, 4, "labels from 0 to 3, found 4"),
        (X, None, -1, "labels from 0 to 3, found -1"),
        (X, None, 1.0, "labels from 0 to 3"),
        (X, None, True, "labels from 0 to 3"),
        (X, None, [1, 2], "expected labels of shape"),
        (torch.stack([X, X]), None, [1, 2, 3], "expected labels of shape"),
        (["a", "b", "c"], None, None, "real numbers in x"),
        (torch.zeros(3, dtype=torch.complex64), None, None, "real numbers in x"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(session: Verification, x: Any, eps: Any, answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inputs.of(session, x, eps, answer)


@pytest.mark.parametrize(
    ("x", "eps", "message"),
    [
        ([1, 2], 1, "no eps for integer inputs"),
        ([1.5, 2], None, "integers from 0 to 4 in x"),
        ([1, 5], None, "integers from 0 to 4 in x"),
        ([1, 4], None, "x outside"),
        (tv.Box("1/4", "3/4"), None, "which holds none"),
    ],
)
def test_what_is_no_admissible_integer_is_refused(counted: Verification, x: Any, eps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inputs.of(counted, x, eps, None)


@pytest.mark.parametrize(
    ("x", "place", "message"),
    [
        (torch.tensor([[0, 0, 0], [0, np.nan, 0]]), 1, "finite numbers in row 1"),
        (np.array([[0, 0, 0], [0, 0, 0], [0, 1.5, 0]]), 2, "row 2 outside"),
    ],
)
def test_a_bad_row_leaves_the_others_alone(session: Verification, x: Any, place: int, message: str) -> None:
    rows = of(session, x, "1/8").rows
    assert [message in row.error for row in rows] == [i == place for i in range(len(rows))]
    assert all((row.box is None) == bool(row.error) for row in rows)


def test_a_bad_row_of_integers(counted: Verification) -> None:
    rows = of(counted, [[1, 1], [-1, 1]], None).rows
    assert rows[0].error == "" and "integers from 0 to 4 in row 1" in rows[1].error


def test_a_radius_of_zero_is_no_ball(counted: Verification) -> None:
    assert of(counted, [1, 2], 0).rows[0].box == tv.Box.point([1, 2])


@pytest.mark.parametrize("answer", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), np.array([1, 2], np.uint8)])
def test_labels_a_position(positions: Verification, answer: Any) -> None:
    one, two = torch.zeros(2, 3), torch.zeros(2, 2, 3)
    assert of(positions, one, None, answer).rows[0].wanted == (1, 2)
    assert [row.wanted for row in of(positions, two, None, answer).rows] == [(1, 2), (1, 2)]


def test_labels_a_row_and_a_position(positions: Verification) -> None:
    rows = of(positions, torch.zeros(2, 2, 3), None, [[0, 1], [2, 0]]).rows
    assert [row.wanted for row in rows] == [(0, 1), (2, 0)]
    for bad in (1, [0, 1, 2], [[0, 1]], [[0, 1, 2], [0, 1, 2]]):
        with pytest.raises(ValueError, match="labels of shape"):
            Inputs.of(positions, torch.zeros(2, 2, 3), None, bad)


def test_labels_a_row(session: Verification) -> None:
    rows = of(session, torch.stack([X, -X]), None, [3, 0]).rows
    assert [row.wanted for row in rows] == [(3,), (0,)]
    assert [row.wanted for row in of(session, torch.stack([X, -X]), None, 2).rows] == [(2,), (2,)]


def test_an_answer_needs_a_readout() -> None:
    with pytest.raises(ValueError, match=r"readout\(z\)"):
        Inputs.of(Verification(tanh_model(readout=False)), X, None, 1)
