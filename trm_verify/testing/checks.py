"""What a property checks at one point, in float64. A violation is a `Counterexample` that prints as runnable code.

Theorems are about real arithmetic, and these checks are not: a violation within rounding is no violation. They find
models for which a claim is false; they prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.export import ExportError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.norms import Norm as KernelNorm
from trm_verify.kernel.numbers import dyadic
from trm_verify.model import flatten_state
from trm_verify.testing.subjects import Floats, Subject

ROUNDING = 1e-9
Given = nn.Module | Callable[[], nn.Module] | Subject


class Counterexample(AssertionError):
    """A point at which a property fails; `code` runs by itself and fails in the same way."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(f"{what}\n\nto see it again:\n\n{code}\n")
        self.what, self.code = what, code


@dataclass(frozen=True)
class Block:
    """`max_g ‖z_g‖₂ / d_g` over groups of these sizes."""

    sizes: Sequence[int]
    weights: Sequence[float]


@dataclass(frozen=True)
class Metric:
    """`√(zᵀPz)`."""

    matrix: Sequence[Sequence[float]]


Norm = str | Block | Metric


def norm_of(norm: KernelNorm) -> Norm:
    """A norm of a certificate, in floats."""
    if isinstance(norm, BlockNorm):
        if norm.family == "l2":
            return "l2"
        weights = [float(norm.weight(g)) for g in range(len(norm.sizes))]
        return "linf" if norm.family == "linf" else Block(list(norm.sizes), weights)
    scale = float(dyadic(1, norm.exp))
    return Metric([[v * scale for v in row] for row in norm.rows])


def length(norm: Norm, v: Tensor) -> Tensor:
    """N of each row. Shape: v (batch, n)."""
    if norm == "linf":
        return v.abs().amax(1)
    if norm == "l2":
        return v.square().sum(1).sqrt()
    if isinstance(norm, Metric):
        metric = torch.tensor(norm.matrix, dtype=v.dtype)
        square: Tensor = torch.einsum("bi,ij,bj->b", v, metric, v)
        return square.clamp(min=0).sqrt()
    if not isinstance(norm, Block):
        raise ValueError(f"expected the norm linf, l2, Block(…) or Metric(…), found {norm!r}")
    groups = torch.split(v, list(norm.sizes), dim=1)
    return torch.stack([g.square().sum(1).sqrt() / d for g, d in zip(groups, norm.weights, strict=True)]).amax(0)


def spelled(subjects: Sequence[Subject], call: str, norm: object = None, module: str = "checks") -> str:
    """The code of a counterexample: the models, and a call of a check in that module."""
    used = "\n".join(s.source for s in subjects)
    wanted = [n for n in ("AffineStep", "half", "quantized") if f"{n}(" in used]
    checks = [call.split("(")[0], *([type(norm).__name__] if isinstance(norm, (Block, Metric)) else [])]
    lines = [f"from trm_verify.testing import {', '.join(wanted)}"] if wanted else []
    lines.append(f"from trm_verify.testing.{module} import {', '.join(sorted(checks))}")
    if len(subjects) == 1:
        return "\n".join([*lines, "", used, call])
    made = []
    for i, subject in enumerate(subjects):
        made += [*subject.source.splitlines(), f"model_{i} = model"]
    models = ", ".join(f"model_{i}" for i in range(len(subjects)))
    return "\n".join([*lines, "", *made, f"models = [{models}]", call])


def check_contraction(
    model: Given, z: Floats, other: Floats, x: Floats | None = None, *, rate: float, norm: Norm = "linf"
) -> None:
    """`N(T(z, x) − T(other, x)) ≤ rate · N(z − other)`, T the model's own iteration.

    Raises:
        Counterexample: the pair expands by more.
    """
    subject = Subject.of(model)
    pair, given = torch.cat([subject.state(z), subject.state(other)]), subject.input(x)
    with torch.no_grad():
        images = subject.iterate(pair, None if given is None else given.expand(2, *given.shape[1:]))
        before, after = (float(length(norm, a[:1] - a[1:])[0]) for a in (pair, images))
    scale = float(pair.abs().max() + images.abs().max())
    if after <= rate * before * (1 + ROUNDING) + 1e-14 * (1 + scale) * _stretch(norm):
        return
    ratio = after / before if before else float("inf")
    call = f"check_contraction(model, z={list(z)}, other={list(other)}, x={_listed(x)}, rate={rate!r}, norm={norm!r})"
    raise Counterexample(
        f"expected one step to bring the pair {rate} times as close or closer, found {ratio:.9g} times "
        f"(from {before:.9g} to {after:.9g})", spelled([subject], call, norm),
    )  # fmt: skip


def _stretch(norm: Norm) -> float:
    """How large N of a rounding error of size one can be, roughly."""
    if isinstance(norm, Metric):
        return math.sqrt(max(max(map(abs, row)) for row in norm.matrix)) * len(norm.matrix)
    return sum(norm.sizes) / min(norm.weights) if isinstance(norm, Block) else 64.0


def check_answer(model: Given, x: Floats | None = None, *, answer: Sequence[int] | int, steps: int, more: int) -> None:
    """From `steps` on, for `more` further steps of the model's own iteration, the arg-max is `answer`.

    Raises:
        Counterexample: at one of these steps another class is ahead.
    """
    subject = Subject.of(model)
    labels = torch.tensor([answer] if isinstance(answer, int) else list(answer))
    given = subject.input(x)
    with torch.no_grad():
        z = subject.initial(given)
        for k in range(steps + more + 1):
            if k >= steps:
                logits = subject.logits(z)[0]
                own = logits.gather(1, labels[:, None])[:, 0]
                ahead = logits.amax(1) - own
                if not bool((ahead <= ROUNDING * (1 + logits.abs().amax(1))).all()):
                    found = tuple(logits.argmax(1).tolist())
                    call = f"check_answer(model, x={_listed(x)}, answer={labels.tolist()}, steps={steps}, more={more})"
                    raise Counterexample(
                        f"expected the answer {tuple(labels.tolist())} from step {steps} on, found {found} at step {k}",
                        spelled([subject], call),
                    )
            z = subject.iterate(z, given)


def check_enclosure(
    model: Given, x: Floats | None = None, *, center: Floats, radius: Floats, start: Floats | None = None,
    steps: int = 2000,
) -> None:  # fmt: skip
    """A fixed point that is found (by the model's own iteration from `start`, or a solver) lies within the enclosure.

    Raises:
        Counterexample: a fixed point outside.
    """
    subject = Subject.of(model)
    given = subject.input(x)
    with torch.no_grad():
        if start is None:
            z = torch.from_numpy(subject.deployed.fixed_points(given, steps))
        else:
            z = subject.state(start)
            for _ in range(steps):
                before, z = z, subject.iterate(z, given)
                if bool((before - z).abs().max() <= 1e-15 * (1 + z.abs().max())):
                    break
        moved = (subject.iterate(z, given) - z).abs().max()
    if not bool(moved <= 1e-12 * (1 + z.abs().max())):
        return  # no fixed point was found: nothing to compare
    distance = (z - subject.state(center)).abs()[0]
    outside = distance - torch.tensor(list(radius), dtype=torch.float64)
    if bool((outside <= 1e-7 * (1 + z.abs().max())).all()):
        return
    i = int(outside.argmax())
    call = (
        f"check_enclosure(model, x={_listed(x)}, center={_listed(center)}, radius={_listed(radius)}, "
        f"start={_listed(start)}, steps={steps})"
    )
    raise Counterexample(
        f"expected the fixed point within {float(radius[i])} of {float(center[i])} in coordinate {i}, "
        f"found {float(z[0, i]):.9g}", spelled([subject], call),
    )  # fmt: skip


def check_run(model: Given, rows: Sequence[Floats], *, steps: int, tolerance: float) -> None:
    """Runs of the model in its own arithmetic agree: the same twice, alone and in a batch, and with its exact graph.

    Args:
        rows: inputs that are run together; for a model without input, as many empty lists.

    Raises:
        Counterexample: two runs differ, the last two kinds by more than `tolerance` relative to the state.
    """
    subject = Subject.of(model)
    call = f"check_run(model, {[list(row) for row in rows]}, steps={steps}, tolerance={tolerance!r})"

    def fail(what: str) -> None:
        raise Counterexample(what, spelled([subject], call))

    batch = _own_run(subject, rows, steps)
    if not torch.equal(batch.nan_to_num(), _own_run(subject, rows, steps).nan_to_num()):
        fail(f"expected the same state after {steps} steps of the same run, found another")
    for i, row in enumerate(rows):
        apart = _apart(_own_run(subject, [row], steps)[0], batch[i])
        if not apart <= tolerance:
            fail(f"expected row {i} to end alone as in the batch, found a difference of {apart:.3g}")
    try:
        exact = subject.deployed
    except ExportError:
        return  # export says by itself what is wrong with such a model
    for i, row in enumerate(rows):
        given = subject.input(row)
        with torch.no_grad():
            z = subject.initial(given)
            for _ in range(steps):
                z = subject.iterate(z, given)
        apart = _apart(z[0], batch[i])
        if not apart <= tolerance:
            fail(
                f"expected row {i} to end after {steps} steps as its exact graph does in float64 "
                f"(sha256 {exact.exported.digest[:12]}…), found a difference of {apart:.3g}"
            )


def _own_run(subject: Subject, rows: Sequence[Floats], steps: int) -> Tensor:
    """The last states in the model's own arithmetic, flat, as doubles. Shape: (rows, n)."""
    from trm_verify.model import trace

    model = subject.model
    like = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.zeros(()))
    given = None
    if subject.spec.input_shape is not None:
        found = torch.cat([t for t in (subject.input(row) for row in rows) if t is not None])
        given = found if subject.spec.vocabulary is not None else found.to(like.dtype)
    with torch.no_grad():
        return flatten_state(trace(model, given, steps, len(rows))[-1]).double()


def _apart(a: Tensor, b: Tensor) -> float:
    """Relative to the state; two states that have both left the finite numbers agree."""
    both = ~a.isfinite() & ~b.isfinite()
    return float(((a - b).abs() / (1 + b.abs())).masked_fill(both, 0.0).max())


def _listed(values: Any) -> list[Any] | None:
    return None if values is None else torch.as_tensor(values).reshape(-1).tolist()
