"""The inputs of a call: a box of inputs and its centre for each row, and the labels asked for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from trm_verify.box import Box, exact_number
from trm_verify.verification import Verification

Input = torch.Tensor | np.ndarray | Box
Number = float | str | Fraction


@dataclass(frozen=True)
class Inputs:
    """The inputs of a call: a box of inputs and the centre for each, and the labels asked for."""

    boxes: tuple[Box, ...]
    centres: torch.Tensor
    wanted: tuple[tuple[int, ...] | None, ...]
    batch: bool

    @classmethod
    def of(cls, session: Verification, x: Input | None, eps: Number | None, answer: Any) -> Inputs | None:
        spec = session.spec
        if x is None:
            if eps is not None or answer is not None:
                raise ValueError("expected an input x to go with eps or answer, found none")
            return None
        if spec.input_shape is None:
            raise ValueError("expected no input x, since the model has none")
        shape, limit = spec.input_shape, session.domain_box
        if isinstance(x, Box):
            boxes, batch = [x.expand(shape)], False
        else:
            array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
            if array.shape not in (shape,) and array.shape[1:] != shape:
                raise ValueError(f"expected x of shape {shape} or (batch, *{shape}), found {array.shape}")
            batch = array.shape != shape
            boxes = [Box.point(row) for row in (array if batch else array[None])]
            if not boxes:
                raise ValueError("expected at least one input in the batch, found none")
        for row, box in enumerate(boxes):
            if limit is not None and not isinstance(x, Box) and not limit.contains(box):
                raise ValueError(f"expected inputs inside the model's domain, found row {row} outside it")
        if eps is not None:
            if isinstance(x, Box):
                raise ValueError("expected either a Box or a point with eps, found both")
            radius = exact_number(eps, "eps")
            if radius < 0:
                raise ValueError(f"expected eps >= 0, found {eps!r}")
            boxes = [Box.ball(np.array(box.lo, dtype=object).reshape(shape), radius) for box in boxes]
        if limit is not None:
            boxes = [box.intersect(limit) for box in boxes]
        centres = torch.from_numpy(np.stack([np.asarray(box.center(), dtype=np.float64) for box in boxes]))
        if not isinstance(x, Box):
            centres = torch.from_numpy((array if batch else array[None]).astype(np.float64))
        return cls(tuple(boxes), centres, cls._labels(session, answer, len(boxes), batch), batch)

    @staticmethod
    def _labels(session: Verification, answer: Any, rows: int, batch: bool) -> tuple[tuple[int, ...] | None, ...]:
        if answer is None:
            return (None,) * rows
        if session.problem.graph.readout is None:
            raise ValueError("expected a model with a readout(z) to go with answer=, found none")
        node = session.problem.graph.readout.nodes[session.problem.graph.readout.outputs[0]]
        positions, classes = int(np.prod(node.shape[:-1])), node.shape[-1]
        array = np.asarray(answer.cpu() if isinstance(answer, torch.Tensor) else answer)
        if array.size == positions * rows:
            array = array.reshape(rows, positions)
        elif array.size == positions:
            array = np.tile(array.reshape(1, positions), (rows, 1))
        else:
            raise ValueError(f"expected {positions} label(s) an input, found an answer of shape {array.shape}")
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
            raise ValueError(f"expected labels from 0 to {classes - 1}, found {answer!r}")
        return tuple(tuple(int(v) for v in row) for row in array)
