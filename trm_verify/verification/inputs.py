"""The inputs of a call: a box of inputs and its centre for each row, and the labels asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch

from trm_verify.box import Box, exact_array, exact_number
from trm_verify.verification.session import Verification, admissible

Input = torch.Tensor | np.ndarray | Sequence[Any] | Box
Number = float | str | Fraction | Decimal
Labels = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One input of a call.

    Attributes:
        box: the inputs in question; None for a model without input.
        centre: one of them, in doubles, at which the model is run; None for a model without input.
        wanted: the labels asked for; None for the model's own at the centre.
        error: why this row of a batch is no input of the model; then nothing else of it is looked at.
    """

    box: Box | None
    centre: np.ndarray | None
    wanted: Labels | None
    error: str = ""

    @property
    def centre_box(self) -> Box | None:
        """The centre alone, if it is exactly one of the inputs in question (its doubles could miss a thin box)."""
        point = None if self.centre is None else Box.point(self.centre)
        return point if self.box is not None and point is not None and self.box.contains(point) else None


@dataclass(frozen=True)
class Inputs:
    """The inputs of a call."""

    rows: tuple[Row, ...]
    batch: bool

    @property
    def centres(self) -> torch.Tensor | None:
        """Shape: (rows, *input_shape); None for a model without input."""
        found = [row.centre for row in self.rows if row.centre is not None]
        return torch.from_numpy(np.stack(found)) if found else None

    @classmethod
    def of(cls, session: Verification, x: Input | None, eps: Number | None, answer: Any) -> Inputs | None:
        """The rows of a call; None when it asks about the model for its whole domain.

        Raises:
            ValueError: x, eps and answer do not fit the model or each other; it names the row.
        """
        shape = session.spec.input_shape
        if shape is None:
            if x is not None or eps is not None:
                raise ValueError("expected no input x and no eps, since the model has no input")
            return cls((Row(None, None, labels(session, answer, 1, False)[0]),), False)
        if x is None:
            if eps is not None or answer is not None:
                raise ValueError("expected an input x to go with eps or answer, found none")
            return None
        boxes = [x] if isinstance(x, Box) else list(x) if _all_boxes(x) else []
        if boxes:
            if eps is not None:
                raise ValueError("expected either a Box or a point with eps, found both")
            batch = not isinstance(x, Box)
            rows = [_or_error(partial(_box_row, session, box, shape), batch) for box in boxes]
        else:
            radius = _radius(session, eps)
            points, batch = _points(x, shape)
            names = [f"row {i}" if batch else "x" for i in range(len(points))]
            rows = [
                _or_error(partial(_ball_row, session, p, radius, n), batch) for p, n in zip(points, names, strict=True)
            ]
        wanted = labels(session, answer, len(rows), batch)
        return cls(tuple(_row(row, w, shape) for row, w in zip(rows, wanted, strict=True)), batch)


def _or_error(make: Callable[[], tuple[Box, np.ndarray]], batch: bool) -> tuple[Box, np.ndarray] | str:
    """A row, or what is wrong with a row of a batch: the others go on."""
    try:
        return make()
    except ValueError as error:
        if not batch:
            raise
        return str(error)


def _row(found: tuple[Box, np.ndarray] | str, wanted: Labels | None, shape: tuple[int, ...]) -> Row:
    if isinstance(found, str):
        return Row(None, np.zeros(shape), wanted, found)
    return Row(*found, wanted)


def _all_boxes(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and bool(x) and all(isinstance(box, Box) for box in x)


def _radius(session: Verification, eps: Number | None) -> Fraction:
    radius = Fraction(0) if eps is None else exact_number(eps, "eps")
    if radius < 0:
        raise ValueError(f"expected eps >= 0, found {eps!r}")
    if radius and session.spec.vocabulary is not None:
        raise ValueError("expected no eps for integer inputs; give x as a tv.Box of integers instead")
    return radius


def _points(x: Any, shape: tuple[int, ...]) -> tuple[list[Any], bool]:
    """The rows of x, not yet read as exact numbers, and whether it has a batch axis."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        array: Any = (x.to(torch.float64) if x.is_floating_point() else x).numpy()
    else:
        array = np.asarray(x)
    if array.shape == shape:
        return [array], False
    if array.ndim == 0 or array.shape[1:] != shape:
        rows = ", ".join(map(str, ("batch", *shape)))
        raise ValueError(f"expected x of shape {shape} or ({rows}), found {array.shape}")
    if not len(array):
        raise ValueError("expected at least one input in the batch, found none")
    return list(array), True


def _ball_row(session: Verification, point: Any, radius: Fraction, name: str) -> tuple[Box, np.ndarray]:
    """The ball about a point, cut to the domain, and the point."""
    limit = session.domain_box
    exact = exact_array(point, name)
    centre, box = Box.point(exact), Box.ball(exact, radius)
    vocabulary = session.spec.vocabulary
    if vocabulary is not None and not all(v.denominator == 1 and 0 <= v < vocabulary for v in centre.lo):
        raise ValueError(f"expected integers from 0 to {vocabulary - 1} in {name}, found others")
    if limit is not None and not limit.contains(centre):
        raise ValueError(f"expected inputs inside the domain {limit}, found {name} outside it")
    return box if limit is None else box.intersect(limit), np.asarray(exact, dtype=np.float64)


def _box_row(session: Verification, box: Box, shape: tuple[int, ...]) -> tuple[Box, np.ndarray]:
    """A box of inputs, cut to the domain, and its midpoint (rounded down for integer inputs)."""
    box = admissible(box.expand(shape), session.spec.vocabulary)
    if session.domain_box is not None:
        try:
            box = box.intersect(session.domain_box)
        except ValueError:
            raise ValueError(
                f"expected inputs inside the domain {session.domain_box}, found {box} outside it"
            ) from None
    centre = box.center()
    return box, centre if session.spec.vocabulary is None else np.floor(centre)


def labels(session: Verification, answer: Any, rows: int, batch: bool) -> list[Labels | None]:
    """The labels asked for: one set for all rows, or one a row.

    Raises:
        ValueError: no readout, another shape, or labels that are no classes of it.
    """
    if answer is None:
        return [None] * rows
    logits = session.deployed.logits_shape
    if logits is None:
        raise ValueError("expected a model with a readout(z) to go with answer=, found none")
    positions, classes = logits[:-1], logits[-1]
    array = np.asarray(answer.detach().cpu() if isinstance(answer, torch.Tensor) else answer)
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() < classes):
        raise ValueError(f"expected labels from 0 to {classes - 1}, found {answer!r}")
    count = int(np.prod(positions, dtype=int))
    one = {positions, (count,)} | ({()} if count == 1 else set())
    if array.shape in one:
        return [tuple(int(v) for v in array.ravel())] * rows
    if batch and array.ndim and len(array) == rows and array.shape[1:] in one:
        return [tuple(int(v) for v in row.ravel()) for row in array]
    each = "" if not batch else f", or (batch, *{positions}) for one a row"
    raise ValueError(f"expected labels of shape {positions}{each}; found an answer of shape {array.shape}")
