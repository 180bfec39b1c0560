"""Searches for the worst case: sample points, directions that expand most, and fixed points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from tests.oracle.evaluate import FLOAT, Evaluator
from tests.oracle.files import Array, Json, Set, read_vector

EPS = np.finfo(np.float64).eps
SCALES = (0.05, 0.5, 2.0, 20.0)  # how far samples of an unbounded set reach


def samples(where: Set, size: int, count: int, rng: np.random.Generator, integral: bool = False) -> Array:
    """Points of a set: its midpoint, uniform ones and corners; of an unbounded set, normal ones of several sizes.

    Shape: (count, size).
    """
    if size == 0:
        return np.zeros((count, 0))
    if not where.bounded:
        scale = np.resize(SCALES, count)[:, None]
        points = rng.normal(size=(count, size)) * scale
        points[0] = 0.0
        return points
    lo, hi = where.floats()
    if integral:
        points = rng.integers(lo.astype(int), hi.astype(int) + 1, size=(count, size)).astype(float)
        points[0], points[-1] = lo, hi
        return points
    share = rng.uniform(size=(count, size))
    corner = rng.integers(0, 2, size=(count, size)).astype(float)
    points = np.where((np.arange(count) % 2 == 0)[:, None], share, corner)
    points[0], points[-1] = 0.5, 1.0
    return np.clip(lo + points * (hi - lo), lo, hi)


def inside(where: Set, points: Array) -> Array:
    """The points, moved into the set."""
    return np.clip(points, *where.floats()) if where.bounded else points


def jacobians(f: Callable[[Array], Array], z: Array) -> Array:
    """Central differences at one point. Shape: (n,) to (outputs, n)."""
    found: Array = jacobians_at(f, z[None])[0]
    return found


def jacobians_at(f: Callable[[Array], Array], z: Array) -> Array:
    """Central differences at several points. Shape: (points, n) to (points, outputs, n)."""
    points, n = z.shape
    h = 1e-6 * (1 + np.abs(z))
    moves = h[:, :, None] * np.eye(n)
    moved = np.concatenate([z[:, None] + moves, z[:, None] - moves])
    images = f(moved.reshape(-1, n)).reshape(2, points, n, -1)
    return ((images[0] - images[1]) / (2 * h)[:, :, None]).transpose(0, 2, 1)


def stretched(norm: Json, jacobian: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Directions that the norm sees expand most under a matrix."""
    n = jacobian.shape[1]
    if norm["kind"] == "metric":
        matrix = np.array([float(v) for v in read_vector(norm["matrix"])]).reshape(n, n)
        lower = np.linalg.cholesky(matrix)
        back = np.linalg.inv(lower).T
        yield back @ np.linalg.svd(lower.T @ jacobian @ back)[2][0]
        return
    sizes = [each for count, each in norm["runs"] for _ in range(count)]
    d = np.array([float(v) for v in read_vector(norm["weights"])])
    group = np.repeat(np.arange(len(sizes)), sizes)
    members = [np.flatnonzero(group == g) for g in range(len(sizes))]

    def dual(q: Array) -> Array:
        """The unit vector that q sees as largest."""
        out = np.zeros(n)
        for g, own in enumerate(members):
            length = np.linalg.norm(q[own])
            out[own] = d[g] * (q[own] / length if length > 0 else 1 / isqrt(len(own)))
        return out

    for own in members:  # for each group of outputs, alternate between its direction and the worst input
        u = np.linalg.svd(jacobian[own])[0][:, 0] if len(own) > 1 else np.ones(1)
        v = dual(u @ jacobian[own])
        for _ in range(6 if len(own) > 1 else 0):
            image = jacobian[own] @ v
            if not np.linalg.norm(image) > 0:
                break
            v = dual(image / np.linalg.norm(image) @ jacobian[own])
        yield v


@dataclass(frozen=True)
class Loop:
    """One operator of one model in doubles."""

    evaluator: Evaluator
    operator: Any

    def __call__(self, z: Array, x: Array) -> Array:
        return self.evaluator.apply(self.operator, z, x if len(x) == len(z) else np.repeat(x, len(z), axis=0))

    def at(self, x: Array) -> Callable[[Array], Array]:
        return lambda z: self(z, x[None])


def loop(evaluator: Evaluator, operator: Any) -> Loop:
    if evaluator.numbers is not FLOAT:
        raise ValueError("expected an evaluator in doubles")
    return Loop(evaluator, operator)


def fixed_points(f: Callable[[Array], Array], starts: Array, where: Set, newton: int = 6) -> list[Array]:
    """Approximate fixed points in a set: plain and damped iteration, and Newton's method from the first starts."""
    found: list[Array] = []
    with np.errstate(all="ignore"):
        reach = 1 + np.abs(starts).max() + np.nan_to_num(np.abs(f(starts))).max()  # the size of the step's own numbers

    def keep(points: Array) -> None:
        scale = 1 + np.abs(points).max(axis=1, initial=0)
        points = points[np.isfinite(points).all(axis=1) & (scale <= 1 + 1e12 * reach)]
        if not len(points):
            return
        scale = 1 + np.abs(points).max(axis=1, initial=0)
        off = np.abs(f(points) - points).max(axis=1, initial=0) > 1e-9 * scale
        outside = np.abs(inside(where, points) - points).max(axis=1, initial=0) > 1e-8 * scale
        for z, size in zip(points[~(off | outside)], scale[~(off | outside)], strict=True):
            if all(np.abs(z - w).max() > 1e-5 * size for w in found):
                found.append(z)

    with np.errstate(all="ignore"):
        z = np.concatenate([starts, starts])
        alpha = np.repeat([1.0, 0.2], len(starts))[:, None]
        for _ in range(120):
            before, z = z, (1 - alpha) * z + alpha * f(z)
            if not (np.abs(z - before) >= 1e-13).any():
                break
        keep(z)
        keep(_newton(f, starts[:newton]))
        if not found:  # a slow or kinked loop: small steps first, then Newton
            z = starts[:3]
            for share, steps in ((0.03, 1000), (0.005, 2000), (0.001, 6000)):
                for _ in range(steps):
                    z = (1 - share) * z + share * f(z)
                keep(_newton(f, z))
    return found


def _newton(f: Callable[[Array], Array], starts: Array) -> Array:
    """A few steps of Newton's method towards a fixed point, from every start at once."""
    z, going = starts.copy(), np.arange(len(starts))
    for _ in range(10):
        if not len(going):
            break
        at = z[going]
        slopes = np.eye(z.shape[1]) - jacobians_at(f, at)
        sound = np.isfinite(slopes).all(axis=(1, 2)) & np.isfinite(at).all(axis=1)
        going, at, slopes = going[sound], at[sound], slopes[sound]
        if not len(going):
            break
        inverse = np.linalg.pinv(slopes, rcond=EPS * z.shape[1])  # as of least squares: a slope may be singular
        step = (inverse @ (f(at) - at)[:, :, None])[:, :, 0]
        z[going] = at + step
        going = going[~(np.abs(step).max(axis=1) <= 1e-14 * (1 + np.abs(z[going]).max(axis=1)))]
    return z
