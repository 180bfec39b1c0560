"""Hypothesis strategies: steps, states, inputs, perturbations in a ball, adversarial ones, rounded variants.

Points are plain lists of floats, flat, on a coarse grid where that is possible: what Hypothesis prints can be pasted,
and shrinks to few and simple numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import nextafter
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from trm_verify.box import Box
from trm_verify.testing.checks import Norm, length
from trm_verify.testing.subjects import AffineStep, GraphModel, Subject, half, quantized

GRID = 32  # points a coordinate, on either side of the centre
Point = list[float]
Given = nn.Module | Callable[[], nn.Module] | Subject


def _entries(count: int, bound: float) -> st.SearchStrategy[Point]:
    """Multiples of bound/16, simplest first."""
    each = st.integers(-16, 16).map(lambda k: k * bound / 16)
    return st.lists(each, min_size=count, max_size=count)


@st.composite
def steps(
    draw: st.DrawFn, *, states: int = 3, inputs: int = 2, classes: int = 2, gain: float = 1.0,
    activations: Sequence[str] = ("identity", "relu", "tanh"),
) -> AffineStep:  # fmt: skip
    """Small steps `φ(Az + Bx + b)` with a readout, whose A has absolute row sums of at most `gain`.

    So for `gain < 1` they contract in ℓ∞ at that rate.

    Args:
        states: size of the state, at most.
        inputs: size of the input, at most; 0 gives models without input.
        classes: number of classes, at most; 0 gives models without readout.
    """
    n = draw(st.integers(1, states))
    m = draw(st.integers(1, inputs)) if inputs else 0
    rows = [draw(_entries(n, gain / n)) for _ in range(n)]
    return AffineStep(
        rows,
        [draw(_entries(m, 1.0)) for _ in range(n)] if m else None,
        draw(_entries(n, 1.0)),
        [draw(_entries(n, 1.0)) for _ in range(classes)] if classes else None,
        activation=draw(st.sampled_from(list(activations))),
    )


def states(model: Given, *, bound: float = 4.0, region: Box | None = None) -> st.SearchStrategy[Point]:
    """States of a model: of a region, or within `bound` in every coordinate."""
    size = Subject.of(model).spec.state_size
    return _in_box(Box(-bound, bound).expand((size,)) if region is None else region.expand((size,)))


def inputs(model: Given, *, bound: float = 4.0) -> st.SearchStrategy[Point | None]:
    """Inputs of a model: of its domain, or within `bound`; None for a model without input."""
    spec = Subject.of(model).spec
    if spec.input_shape is None:
        return st.none()
    if spec.vocabulary is not None:
        each = st.integers(0, spec.vocabulary - 1)
        return st.lists(each, min_size=spec.input_size, max_size=spec.input_size)
    return _in_box(spec.domain or Box(-bound, bound).expand(spec.input_shape))


def ball(model: Given, x: Any, eps: Any) -> st.SearchStrategy[Point]:
    """Inputs within eps of x in ℓ∞, cut to the model's domain. A float means its exact binary value."""
    return _in_box(ball_box(Subject.of(model), x, eps))


def ball_box(subject: Subject, x: Any, eps: Any) -> Box:
    """The ball as a box.

    Raises:
        ValueError: a model without input, or a ball outside the domain.
    """
    shape, domain = subject.spec.input_shape, subject.spec.domain
    if shape is None or subject.spec.vocabulary is not None:
        raise ValueError("expected a model with real inputs for a ball about one, found another")
    box = Box.ball(torch.as_tensor(x, dtype=torch.float64).reshape(shape), eps)
    return box if domain is None else box.intersect(domain)


def _in_box(box: Box) -> st.SearchStrategy[Point]:
    """Points of a box on a grid about its midpoint, its corners included, rounded to the inside."""
    ends = [(_inside(lo, 1), _inside(hi, -1)) for lo, hi in zip(box.lo, box.hi, strict=True)]

    def at(grid: Sequence[int]) -> Point:
        found = []
        for k, (lo, hi) in zip(grid, ends, strict=True):
            middle, reach = (lo + hi) / 2, (hi - lo) / 2
            found.append(hi if k == GRID else lo if k == -GRID else min(max(middle + reach * k / GRID, lo), hi))
        return found

    return st.lists(st.integers(-GRID, GRID), min_size=len(ends), max_size=len(ends)).map(at)


def _ends(box: Box) -> tuple[torch.Tensor, torch.Tensor]:
    """The corners, rounded to the inside. Shape: (1, size)."""
    lo, hi = ([_inside(v, sign) for v in side] for side, sign in ((box.lo, 1), (box.hi, -1)))
    return torch.tensor([lo], dtype=torch.float64), torch.tensor([hi], dtype=torch.float64)


def _inside(end: Fraction, sign: int) -> float:
    """The double nearest to an end of an interval that lies inside it."""
    value = float(end)
    if (Fraction(value) - end) * sign < 0:
        value = nextafter(value, sign * float("inf"))
    return value


def adversarial(model: Given, x: Any, eps: Any, *, steps: int = 10) -> st.SearchStrategy[Point]:
    """Inputs of the ball that gradients have moved towards another answer after so many steps of the loop.

    A drawn number of signed gradient steps (none is the simplest) from a drawn point of the ball.
    """
    subject = Subject.of(model)  # once: the model is exported when it is first used
    return _adversarial(subject, ball_box(subject, x, eps), steps)


@st.composite
def _adversarial(draw: st.DrawFn, subject: Subject, box: Box, steps: int) -> Point:
    start = draw(_in_box(box))
    pushes = draw(st.integers(0, 6))
    with torch.no_grad():
        own = _logits(subject, torch.tensor([start], dtype=torch.float64), steps).argmax(-1)

    def loss(point: torch.Tensor) -> torch.Tensor:
        logits = _logits(subject, point, steps)
        kept = logits.gather(2, own[..., None])[..., 0]
        others = logits.scatter(2, own[..., None], float("-inf")).amax(2)
        return (others - kept).sum()

    lo, hi = _ends(box)
    return _ascend(torch.tensor([start], dtype=torch.float64), loss, pushes, (hi - lo) / 4, lo, hi)


def _logits(subject: Subject, flat: torch.Tensor, steps: int) -> torch.Tensor:
    given = flat.reshape(1, *(subject.spec.input_shape or ()))
    z = subject.initial(given)
    for _ in range(steps):
        z = subject.iterate(z, given)
    return subject.logits(z)


def pairs(
    model: Given, norm: Norm, *, bound: float = 4.0, region: Box | None = None
) -> st.SearchStrategy[tuple[Point, Point, Point | None]]:
    """Two states and an input; gradients may have moved the second state to where one step expands the pair most."""
    subject = Subject.of(model)
    size = subject.spec.state_size
    return _pairs(subject, norm, Box(-bound, bound).expand((size,)) if region is None else region.expand((size,)))


@st.composite
def _pairs(draw: st.DrawFn, subject: Subject, norm: Norm, box: Box) -> tuple[Point, Point, Point | None]:
    z, other, x = draw(_in_box(box)), draw(_in_box(box)), draw(inputs(subject))
    pushes = draw(st.integers(0, 6))
    if z == other or not pushes:
        return z, other, x
    first, given = subject.state(z), subject.input(x)

    def loss(second: torch.Tensor) -> torch.Tensor:
        moved = subject.iterate(first, given) - subject.iterate(second, given)
        return (length(norm, moved) / length(norm, first - second).clamp(min=1e-6)).sum()

    lo, hi = _ends(box)
    reach = (subject.state(other) - first).abs().clamp(min=1e-3) / 2
    return z, _ascend(subject.state(other), loss, pushes, reach, lo, hi), x


def _ascend(
    point: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], pushes: int, size: torch.Tensor,
    lo: torch.Tensor, hi: torch.Tensor,
) -> Point:  # fmt: skip
    """Signed gradient steps inside the box; the best point that was met."""
    best, value = point, float(loss(point).detach())
    for _ in range(pushes):
        variable = point.detach().requires_grad_()
        gained = loss(variable)
        if not gained.requires_grad:  # it does not depend on the point
            break
        (slope,) = torch.autograd.grad(gained, variable)
        point = torch.minimum(torch.maximum(point + size * slope.nan_to_num().sign(), lo), hi)
        now = float(loss(point).detach())
        if now > value:
            best, value = point, now
        else:
            size = size / 2
            point = best
    found: Point = best[0].tolist()
    return found


def variants(model: nn.Module, *, bits: Sequence[int] = (8, 6)) -> st.SearchStrategy[GraphModel]:
    """The model over weights rounded to float16, or quantized to so many bits; each is made when it is first drawn."""
    made: dict[int, GraphModel] = {}

    def variant(width: int) -> GraphModel:
        if width not in made:
            made[width] = half(model) if width == 16 else quantized(model, bits=width)
        return made[width]

    return st.sampled_from([16, *bits]).map(variant)
