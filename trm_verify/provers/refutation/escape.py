"""Cones along which a loop runs away, for the rule `divergence`: from paths that leave, and the derivatives there.

Far out a loop of linear maps and ReLUs is linear along such a path, or one linear map after the other in turn, and its
largest eigenvalue, if it is real and positive, has an eigenvector around which a cone is mapped into itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trm_verify.encode import Json, dyadic, quantized, vector
from trm_verify.provers.problem import Floats
from trm_verify.provers.refutation.loops import Loop
from trm_verify.provers.refutation.survey import LEAVES, Survey

PATHS = 3  # that leave, of those that are looked at
STEPS = (8, 32, 128, 512)  # after which the loop may be linear
OUT, FAR = 1e2, 1e9  # how far out, at least where it gets there, and at most
PERIODS = (1, 2)  # a negative eigenvalue turns the axis round at every step
WIDTHS = (0.05, 1e-3, 0.5, 1e-6)  # of a cone, relative to its axis
CONDITION = 1e8  # of a basis
BITS = 40  # of its entries
LARGEST = 64  # states up to which the kernel's exact products are worth their time


@dataclass(frozen=True, eq=False)
class Escape:
    """Cones in turn, and a start that gets into the first of them. Shape: start (n,)."""

    start: Floats
    steps: int
    least: float
    factor: float
    cones: list[Json]

    @property
    def witness(self) -> Json:
        """All fields of the kernel's step but the operator and the inputs."""
        return {
            "start": {"space": "state", "point": vector(self.start)}, "steps": self.steps,
            "least": dyadic(float(np.float32(self.least))), "cones": self.cones,
        }  # fmt: skip


def escapes(loop: Loop, seen: Survey) -> Iterator[Escape]:
    """Proposals, the best first: starts that have been seen to leave, then a point on the axis of a cone."""
    leaving = [k for k, fate in enumerate(seen.fates) if fate == LEAVES][:PATHS]
    if loop.size > LARGEST:
        return
    for k in leaving:
        path = _path(loop, torch.from_numpy(seen.starts[k])[None])
        for steps in STEPS:
            if steps >= len(path) and steps != STEPS[0]:
                break
            at = min(steps, len(path) - 1)
            for period in PERIODS:
                yield from _around(loop, seen.starts[k], path[at], at, period)


def _path(loop: Loop, z: Tensor) -> list[Tensor]:
    """The states of a start until it is far out."""
    states, begun = [z], float(z.abs().max())
    while len(states) <= STEPS[-1]:
        z = loop(states[-1]).detach()
        if not bool(torch.isfinite(z).all()) or float(z.abs().max()) > FAR * (1 + begun):
            break
        states.append(z)
    return states


def _around(loop: Loop, start: Floats, z: Tensor, steps: int, period: int) -> Iterator[Escape]:
    """Cones about the dominant eigenvectors of the derivatives along one turn from a state."""
    states = loop.power(z, period)[:-1]
    derivatives = [loop.derivative(state)[0].detach().numpy() for state in states]
    if not all(np.isfinite(each).all() for each in derivatives):
        return
    bases: list[Floats] = []
    for j in range(period):
        turn = np.eye(loop.size)
        for k in range(period):
            turn = derivatives[(j + k) % period] @ turn
        if not np.isfinite(turn).all():
            return
        basis = _basis(turn, states[j][0].numpy())
        if basis is None:
            return
        bases.append(basis)
    changes: list[Floats] = [
        np.linalg.solve(bases[(j + 1) % period], d @ bases[j]).astype(np.float64) for j, d in enumerate(derivatives)
    ]
    factor = min(float(change[0, 0]) for change in changes)
    shape = _radii(changes, loop.size - 1) if factor > 1 else None
    if shape is None:
        return
    coordinate = float(np.linalg.solve(bases[0], z[0].numpy())[0])
    axis = bases[0][:, 0]
    for width in WIDTHS:
        cones = [
            {"matrix": quantized(basis, -BITS), "inverse": quantized(np.linalg.inv(_rounded(basis)), -BITS),
             "radii": quantized(width * radii, -BITS)}
            for basis, radii in zip(bases, shape, strict=True)
        ]  # fmt: skip
        if coordinate > 0:
            yield Escape(start, steps, 0.9 * coordinate, factor, cones)
        for least in (max(coordinate, 1.0) * 16, 2.0**20):
            yield Escape(_rounded(axis) * 2.0 ** np.ceil(np.log2(least)), 0, least, factor, cones)


def _rounded(values: Floats) -> Floats:
    return np.asarray(np.ldexp(np.round(np.ldexp(values, BITS)), -BITS), dtype=np.float64)


def _basis(turn: Floats, towards: Floats) -> Floats | None:
    """A real basis of eigenspaces, the dominant eigenvector first, on the side of a state; None without one."""
    values, vectors = np.linalg.eig(turn)
    order = np.argsort(-np.abs(values))
    first = values[order[0]]
    if abs(first.imag) > 1e-9 * abs(first) or first.real <= 1:
        return None
    columns: list[Floats] = []
    for k in order:
        if values[k].imag >= 0:
            columns.append(vectors[:, k].real)
        if values[k].imag > 0:
            columns.append(vectors[:, k].imag)
    basis: Floats = np.array(columns, dtype=np.float64).T.copy()
    basis /= np.abs(basis).max(axis=0)
    if not np.isfinite(basis).all() or np.linalg.cond(basis) > CONDITION:
        return None
    if float(np.linalg.solve(basis, towards)[0]) < 0:
        basis[:, 0] *= -1
    return basis


def _radii(changes: list[Floats], rest: int) -> list[Floats] | None:
    """Per cone, radii that shrink relative to the axis when it is mapped into the next one. Shape: (rest,) each."""
    if rest == 0:
        return [np.zeros(0) for _ in changes]
    count = len(changes)
    gains = np.zeros((count * rest, count * rest))
    for j, change in enumerate(changes):
        rows, columns = ((j + 1) % count) * rest, j * rest
        gains[rows : rows + rest, columns : columns + rest] += np.abs(change[1:, 1:]) / change[0, 0]
    if not np.isfinite(gains).all():
        return None
    spread = float(np.abs(np.linalg.eigvals(gains)).max())
    if not spread < 1:
        return None
    # (G − θ)r = −1 has a positive solution for every θ above the spectral radius: then Gr < θr, with room in each entry
    found = np.linalg.solve((1 + spread) / 2 * np.eye(len(gains)) - gains, np.ones(len(gains)))
    return list((found / found.max()).reshape(count, rest)) if found.min() > 0 else None
