"""Searches for the worst case: sample points, directions that expand most, and fixed points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from tests.oracle.evaluate import FLOAT, Evaluator
from tests.oracle.files import Array, Json, Set, read_vector

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
    n = len(z)
    h = 1e-6 * (1 + np.abs(z))
    moved = np.concatenate([z + np.diag(h), z - np.diag(h)])
    images = f(moved)
    return ((images[:n] - images[n:]) / (2 * h)[:, None]).T


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
        return self.evaluator.apply(self.operator, z, np.broadcast_to(x, (len(z), x.shape[-1])))

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
        for z in points:
            if not np.isfinite(z).all() or np.abs(z).max(initial=0) > 1e12 * reach:
                continue
            scale = 1 + np.abs(z).max()
            if np.abs(f(z[None])[0] - z).max() > 1e-9 * scale:
                continue
            if np.abs(inside(where, z) - z).max() > 1e-8 * scale:
                continue
            if all(np.abs(z - w).max() > 1e-5 * scale for w in found):
                found.append(z)

    with np.errstate(all="ignore"):
        for alpha in (1.0, 0.2):
            z = starts.copy()
            for _ in range(120):
                before, z = z, (1 - alpha) * z + alpha * f(z)
                if np.nanmax(np.abs(z - before), initial=0) < 1e-13:
                    break
            keep(z)
        for start in starts[:newton]:
            keep(_newton(f, start)[None])
        if not found:  # a slow or kinked loop: small steps first, then Newton
            z = starts[:3]
            for alpha, steps in ((0.03, 1000), (0.005, 2000), (0.001, 6000)):
                for _ in range(steps):
                    z = (1 - alpha) * z + alpha * f(z)
                for end in z:
                    keep(_newton(f, end)[None])
    return found


def _newton(f: Callable[[Array], Array], start: Array) -> Array:
    """A few steps of Newton's method towards a fixed point."""
    z = start
    for _ in range(10):
        jacobian = jacobians(f, z)
        if not np.isfinite(jacobian).all() or not np.isfinite(z).all():
            break
        step = np.linalg.lstsq(np.eye(len(z)) - jacobian, f(z[None])[0] - z, rcond=None)[0]
        z = z + step
        if np.abs(step).max() <= 1e-14 * (1 + np.abs(z).max()):
            break
    return z
