"""Bounds by auto_LiRPA (IBP, CROWN, alpha-CROWN) in floating point: guesses for provers, a baseline for benchmarks.

Its tracer is shown no layout operations, where it fails most, but flat vectors only: see `tape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from trm_verify.encode import Json
from trm_verify.kernel.graph import CONSTANT, Function
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.provers.lirpa.compat import available, running
from trm_verify.provers.lirpa.networks import Segment, Unrolled
from trm_verify.provers.lirpa.tape import COMPOSED, PRODUCTS, UNITS, Box, Tape, Unsupported
from trm_verify.provers.problem import Floats, Problem

__all__ = ["Bounds", "Unsupported", "available", "margins", "node_bounds", "unrolled_bounds"]

METHODS = ("ibp", "crown", "alpha-crown")


@dataclass(frozen=True)
class Bounds:
    """lo ≤ value ≤ hi entrywise, up to rounding and 1e-5 a sine or cosine; infinite where there is no bound."""

    lo: Floats
    hi: Floats


def node_bounds(problem: Problem, domain: Json, region: Json, method: str = "crown") -> dict[int, Bounds]:
    """Bounds over region × domain of all that the step's nonlinear nodes read, and of its outputs.

    Returns:
        Bounds of flattened nodes, by node index as in `problem.ranges`.

    Raises:
        Unsupported: no auto_LiRPA, an operation that it lacks, an unbounded box, or a failure of its own.
    """
    z, x = Box.of(problem, [region]), Box.of(problem, [domain])
    step = problem.graph.step
    order = sorted({i for at in range(len(step.nodes)) for i in _read(step, at)}.union(step.outputs))
    tape = Tape()
    forms = tape.record(_graph(problem), "step", z, x)
    found = _bounds(Segment(tape, [forms[i] for i in order]), [box for box in (z, x) if box.varies], method)
    ends = np.cumsum([step.nodes[i].size for i in order])[:-1]
    sides = (np.split(side[0], ends) for side in (found.lo, found.hi))
    return {i: Bounds(lo, hi) for i, lo, hi in zip(order, *sides, strict=True)}


def unrolled_bounds(
    problem: Problem, domains: Sequence[Json], steps: int, method: str = "crown", C: Floats | None = None
) -> Bounds:
    """Bounds of where `steps` steps lead from init(x), for all x of each domain.

    Args:
        domains: boxes of inputs, bounded together as one batch.
        C: None for the state itself; a matrix (see `margins`) for its product with the flattened logits there; or one
            matrix for each domain.

    Shape: C (rows, logits) or (len(domains), rows, logits); the bounds (len(domains), n) or (len(domains), rows).

    Raises:
        Unsupported: as in `node_bounds`. ValueError: no domain, fewer than 0 steps, no readout to apply C to, or a C
            of another shape.
    """
    if steps < 0 or not domains:
        raise ValueError(f"expected at least 0 steps and 1 domain, found {steps} and {len(domains)}")
    graph, x = _graph(problem), Box.of(problem, domains)
    matrix = None if C is None else _specification(problem, C, len(domains))
    return _bounds(Unrolled(graph, x, steps, matrix is not None), [x] if x.varies else [], method, matrix)


def margins(problem: Problem, answer: Sequence[int]) -> Floats:
    """The matrix C of rows (logit of the answer) − (another logit), for each position and each other class.

    Shape: answer (positions,); returns (positions · (classes − 1), positions · classes).
    """
    shape = _logits(problem)
    classes, positions = shape[-1], prod(shape[:-1])
    if len(answer) != positions or not all(0 <= label < classes for label in answer):
        raise ValueError(f"expected {positions} label(s) from 0 to {classes - 1}, found {list(answer)}")
    eye = np.eye(positions * classes)
    pairs = [(p * classes + y, p * classes + c) for p, y in enumerate(answer) for c in range(classes) if c != y]
    found: Floats = eye[[i for i, _ in pairs]] - eye[[j for _, j in pairs]]
    return found


def _read(function: Function, at: int) -> tuple[int, ...]:
    """The arguments of a node that is not linear in them."""
    node = function.nodes[at]
    linear = node.op in PRODUCTS and any(function.nodes[i].kind == CONSTANT for i in node.args)
    return node.args if (node.op in UNITS or node.op in COMPOSED) and not linear else ()


def _graph(problem: Problem) -> LoweredGraph:
    return problem.once("lirpa", None, lambda: lower(problem.raw_graph, load(problem.weights)))


def _logits(problem: Problem) -> tuple[int, ...]:
    readout = problem.graph.readout
    if readout is None:
        raise ValueError("expected a graph with a readout, found none; give the model a readout(z)")
    return readout.nodes[readout.outputs[0]].shape


def _specification(problem: Problem, C: Floats, batch: int) -> Tensor:
    width = prod(_logits(problem))
    if C.shape[-1] != width or C.ndim not in (2, 3) or (C.ndim == 3 and len(C) != batch):
        raise ValueError(f"expected C of shape (rows, {width}) or ({batch}, rows, {width}), found {C.shape}")
    return torch.as_tensor(C, dtype=torch.float64).expand(batch, *C.shape[-2:])


def _bounds(network: nn.Module, boxes: Sequence[Box], method: str, C: Tensor | None = None) -> Bounds:
    """Bounds of what the network, or C times it, makes of one vector of each box."""
    if method not in METHODS:
        raise ValueError(f"expected a method among {', '.join(METHODS)}, found {method!r}")
    if not boxes:
        value = network() if C is None else network() @ C[0].T
        return Bounds(value.numpy(), value.numpy())
    reason = available()
    if reason is not None:
        raise Unsupported(reason)
    with running() as library:
        try:
            lo, hi = _computed(library, network, boxes, method, C)
        except Exception as error:  # failures of a library that nobody believes are no failures of ours
            raise Unsupported(f"auto_LiRPA gave up ({type(error).__name__}: {error})") from error
    return Bounds(lo.nan_to_num(-inf, inf, -inf).numpy(), hi.nan_to_num(inf, inf, -inf).numpy())


def _computed(
    library: Any, network: nn.Module, boxes: Sequence[Box], method: str, C: Tensor | None
) -> tuple[Tensor, Tensor]:
    # The other mode, for convolutions, fails on sums of layers.
    module = library.BoundedModule(network, tuple(box.lo for box in boxes), bound_opts={"conv_mode": "matrix"})
    x = [library.BoundedTensor(b.lo, library.PerturbationLpNorm(norm=inf, x_L=b.lo, x_U=b.hi)) for b in boxes]
    with torch.no_grad():
        lo, hi = module.compute_bounds(x=tuple(x), C=C, method="ibp" if method == "ibp" else "crown")
    if method == "alpha-crown" and module.perturbed_optimizable_activations:
        # Optimizing the bounds of inner units as well, its default, takes some forty times as long for hardly more.
        inner = {a.name: (a.lower, a.upper) for node in module.children() for a in _bounded_before(node)}
        better = module.compute_bounds(x=tuple(x), C=C, method=method, intermediate_layer_bounds=inner)
        lo, hi = torch.maximum(lo, better[0].detach()), torch.minimum(hi, better[1].detach())
    return lo, hi


def _bounded_before(node: Any) -> list[Any]:
    """The arguments that the library bounds before it relaxes a node."""
    args = [node.inputs[i] for i in getattr(node, "requires_input_bounds", ())]
    return [arg for arg in args if arg.inputs and getattr(arg, "lower", None) is not None]
