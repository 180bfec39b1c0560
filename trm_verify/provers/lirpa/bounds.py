"""Bounds by auto_LiRPA (IBP, CROWN, alpha-CROWN) in floating point: guesses for provers, a baseline for benchmarks.

Its tracer is shown no layout operations, where it fails most, but flat vectors only: affine maps between units such as
ReLU or a product. Folding a graph into affine maps takes no new rules. An affine form is kept as a batch of values, its
constant in the first row and the coefficient of one coordinate in each other row; the graph's linear operations treat
rows alike, so the rules of `trm_verify.lowering` compute the coefficients of their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from trm_verify.encode import Json
from trm_verify.kernel.graph import CONSTANT, Function
from trm_verify.lowering import RULES, LoweredGraph, Node, lower, number
from trm_verify.provers.lirpa.compat import available, running
from trm_verify.provers.problem import Floats, Problem, floats

__all__ = ["Bounds", "Unsupported", "available", "margins", "node_bounds", "unrolled_bounds"]

METHODS = ("ibp", "crown", "alpha-crown")
MOST = 1 << 25  # coefficients of one affine map, 8 bytes each
JOINTLY = {"reshape", "permute", "slice", "select", "expand", "pad", "concat", "unfold", "sum", "scale", "add", "sub"}
PRODUCTS = {"linear", "matmul", "mul", "div"}  # linear in each argument when the other is constant; `div` in the first
UNITS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "abs": torch.abs,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "square": lambda a: a * a,
    "product": lambda a, b: a * b,
}


class Unsupported(Exception):
    """auto_LiRPA gives no bounds for this, and why; other provers may go on."""


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
    z, x = _Box.of(problem, [region]), _Box.of(problem, [domain])
    step = problem.graph.step
    order = sorted({i for at in range(len(step.nodes)) for i in _read(step, at)}.union(step.outputs))
    tape = _Tape()
    forms = tape.record(_graph(problem), "step", z, x)
    found = _bounds(_Segment(tape, [forms[i] for i in order]), [box for box in (z, x) if box.varies], method)
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
    graph, x = _graph(problem), _Box.of(problem, domains)
    matrix = None if C is None else _specification(problem, C, len(domains))
    return _bounds(_Unrolled(graph, x, steps, matrix is not None), [x] if x.varies else [], method, matrix)


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


@dataclass(frozen=True)
class _Box:
    """A batch of boxes. Shape: lo, hi (batch, size)."""

    lo: Tensor
    hi: Tensor

    @classmethod
    def of(cls, problem: Problem, boxes: Sequence[Json]) -> _Box:
        found = [problem.box(raw) for raw in boxes]
        if not all(box.bounded for box in found):
            raise Unsupported("expected a bounded domain and region, found an unbounded one")
        lo, hi = (np.array([floats(box.ends()[end], box.exp) for box in found]) for end in (0, 1))
        return cls(torch.from_numpy(lo), torch.from_numpy(hi))

    @property
    def varies(self) -> bool:
        """Whether it may be more than one point. A point is folded into the constants."""
        return len(self.lo) > 1 or bool((self.lo != self.hi).any())


class _Tape:
    """The units of a function as they are met, and forms of its variables and of the units so far.

    Attributes:
        sizes: coordinates of each variable, then of each unit.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.units: list[tuple[str, tuple[Tensor, ...]]] = []

    def variable(self, shape: Sequence[int]) -> Tensor:
        """The form of new coordinates."""
        rows, size = 1 + sum(self.sizes), prod(shape)
        if (rows + size) * size > MOST:
            raise Unsupported(f"expected affine maps of at most {MOST} coefficients, found {rows + size} × {size}")
        self.sizes.append(size)
        eye = torch.eye(size, dtype=torch.float64)
        return torch.cat([eye.new_zeros(rows, size), eye]).reshape(-1, *shape)

    def unit(self, op: str, *forms: Tensor) -> Tensor:
        self.units.append((op, forms))
        return self.variable(forms[0].shape[1:])

    def aligned(self, *forms: Tensor) -> list[Tensor]:
        """The forms with zero rows for the units that came after them."""
        rows = 1 + sum(self.sizes)
        return [torch.cat([a, a.new_zeros(rows - len(a), *a.shape[1:])]) for a in forms]

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.aligned(a, b)
        return a + b

    def record(self, graph: LoweredGraph, function: str, z: _Box | None, x: _Box | None) -> list[Tensor]:
        """The forms of all nodes of a function, in which z and x are variables if they vary."""
        shapes = [] if z is None else graph.state_shapes

        def parts(flat: Tensor) -> list[Tensor]:
            split = torch.split(flat, [prod(shape) for shape in shapes], 1)
            return [part.reshape(-1, *shape) for part, shape in zip(split, shapes, strict=True)]

        given = None if x is None or graph.input_shape is None else x.lo[:1].reshape(1, *graph.input_shape)
        fixed = [] if z is None else parts(z.lo[:1])
        values = graph.values(function, fixed, given)  # where they do not vary; and of all constants
        state = parts(self.variable([prod(z.lo.shape[1:])])) if z is not None and z.varies else fixed
        if given is not None and x is not None and x.varies:
            given = self.variable(given.shape[1:])
        forms: list[Tensor] = []
        for node, value in zip(graph.graph[function]["nodes"], values, strict=True):
            args = [forms[i] for i in node["in"]]
            if node["op"] == "state":
                forms.append(state[node["part"]])
            elif node["op"] == "input" and given is not None:
                forms.append(given)
            elif all(len(a) == 1 for a in args):
                forms.append(value.to(torch.float64))
            else:
                forms.append(self.apply(node, args))
        return forms

    def apply(self, node: Node, args: list[Tensor]) -> Tensor:
        """The form of a node that depends on a variable."""
        op, varying = node["op"], [len(a) > 1 for a in args]
        if op in JOINTLY:
            return RULES[op](node, self.aligned(*args))
        if op in PRODUCTS and (varying == [True, False] or (varying == [False, True] and op != "div")):
            return RULES[op](node, args)
        if op == "mul" and node["in"][0] == node["in"][1]:
            return self.unit("square", args[0])
        if op in UNITS:
            return self.unit(op, *args)
        if op in COMPOSED:
            return COMPOSED[op](self, node, *self.aligned(*args))
        raise Unsupported(f"expected operations that auto_LiRPA bounds, found {op!r}")


# Operations composed of the units that auto_LiRPA bounds soundly.


def _shifted(a: Tensor, by: float) -> Tensor:
    return torch.cat([a[:1] + by, a[1:]])


def _max(tape: _Tape, node: Node, a: Tensor, b: Tensor) -> Tensor:
    return tape.add(b, tape.unit("relu", a - b))


def _amax(tape: _Tape, node: Node, a: Tensor) -> Tensor:
    while (half := a.shape[-1] // 2) > 0:
        larger = _max(tape, node, a[..., :half], a[..., half : 2 * half])
        a = torch.cat(tape.aligned(larger, a[..., 2 * half :]), -1)
    return a[..., 0]


def _clamp(tape: _Tape, node: Node, a: Tensor) -> Tensor:
    """One ReLU inside the other: IBP bounds that exactly, and the difference of two not."""
    lo, hi = (None if node[key] is None else float(number(node[key])) for key in ("lo", "hi"))
    if lo is not None:
        a = _shifted(tape.unit("relu", _shifted(a, -lo)), lo)
    if hi is not None:
        a = _shifted(-tape.unit("relu", _shifted(-a, hi)), hi)
    return a


def _leaky_relu(tape: _Tape, node: Node, a: Tensor) -> Tensor:
    slope = float(number(node["slope"]))
    return tape.add(slope * a, (1 - slope) * tape.unit("relu", a))


def _matmul(tape: _Tape, node: Node, a: Tensor, b: Tensor) -> Tensor:
    left, right = a.unsqueeze(-2), b.transpose(-1, -2).unsqueeze(-3)
    shape = (*a.shape[:-1], *right.shape[-2:])
    return tape.unit("product", left.expand(shape), right.expand(shape)).sum(-1)


def _softmax(tape: _Tape, node: Node, a: Tensor) -> Tensor:
    """exp(−log Σⱼ exp(aⱼ − aᵢ)): no division, and a logarithm of 1 or more."""
    total = tape.unit("exp", a.unsqueeze(-2) - a.unsqueeze(-1)).sum(-1)
    return tape.unit("exp", -tape.unit("log", total))


COMPOSED: dict[str, Callable[..., Tensor]] = {
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
    "silu": lambda tape, node, a: tape.unit("product", a, tape.unit("sigmoid", a)),
    "softplus": lambda tape, node, a: tape.unit("log", _shifted(tape.unit("exp", a), 1.0)),
    "softmax": _softmax,
    "max": _max,
    "min": lambda tape, node, a, b: -_max(tape, node, -a, -b),
    "amax": _amax,
    "mul": lambda tape, node, a, b: tape.unit("product", a, b),
    "matmul": _matmul,
}


class _Affine(nn.Module):
    """A form as layers on the vectors that it depends on."""

    def __init__(self, form: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        bias, *blocks = torch.split(form.flatten(1), [1, *sizes])
        # Something has to say how large the batch is: a constant depends on the first vector, if there is one.
        self.sources = [i for i, block in enumerate(blocks) if block.any()] or [*range(len(blocks))][:1]
        self.weights = nn.ParameterList(nn.Parameter(blocks[i].T.contiguous(), False) for i in self.sources)
        self.bias = nn.Parameter(bias[0].contiguous(), False)
        alone = len(self.sources) == 1 and not self.bias.any()
        self.identity = alone and torch.equal(self.weights[0], torch.eye(len(self.bias), dtype=torch.float64))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        if self.identity:
            return vectors[self.sources[0]]
        if not self.sources:
            return self.bias[None]
        first, *others = (vectors[i] for i in self.sources)
        total = F.linear(first, self.weights[0], self.bias)
        for vector, weight in zip(others, self.weights[1:], strict=True):
            total = total + F.linear(vector, weight)
        return total


class _Segment(nn.Module):
    """Forms of a tape, computed from its variables. Shape: (batch, size) each; returns (batch, all forms)."""

    def __init__(self, tape: _Tape, forms: Sequence[Tensor]) -> None:
        super().__init__()

        def affine(*forms: Tensor) -> _Affine:
            return _Affine(torch.cat([form.flatten(1) for form in tape.aligned(*forms)], 1), tape.sizes)

        self.ops = [op for op, _ in tape.units]
        self.arguments: Any = nn.ModuleList(nn.ModuleList(map(affine, args)) for _, args in tape.units)
        self.result = affine(*forms)

    @classmethod
    def of(cls, graph: LoweredGraph, function: str, z: _Box | None, x: _Box | None) -> _Segment:
        """A function of the graph, whose variables are those of z and x that vary."""
        tape = _Tape()
        forms = tape.record(graph, function, z, x)
        return cls(tape, [forms[i] for i in graph.graph[function]["outputs"]])

    def forward(self, *variables: Tensor) -> Tensor:
        vectors = list(variables)
        for op, args in zip(self.ops, self.arguments, strict=True):
            vectors.append(UNITS[op](*(arg(vectors) for arg in args)))
        found: Tensor = self.result(vectors)
        return found


class _Unrolled(nn.Module):
    """The state after some steps, or its logits, computed from the input if that varies."""

    def __init__(self, graph: LoweredGraph, x: _Box, steps: int, readout: bool) -> None:
        super().__init__()
        n = sum(map(prod, graph.state_shapes))
        z = _Box(torch.zeros(1, n), torch.ones(1, n))
        if graph.graph["init"] is None:
            tape = _Tape()
            if x.varies:
                tape.variable(x.lo.shape[1:])
            self.init = _Segment(tape, [torch.zeros(1, n, dtype=torch.float64)])
        else:
            self.init = _Segment.of(graph, "init", None, x)
        self.step, self.steps = _Segment.of(graph, "step", z, x), steps
        self.readout = _Segment.of(graph, "readout", z, None) if readout else nn.Identity()

    def forward(self, *x: Tensor) -> Tensor:
        z = self.init(*x)
        for _ in range(self.steps):
            z = self.step(z, *x)
        found: Tensor = self.readout(z)
        return found


def _bounds(network: nn.Module, boxes: Sequence[_Box], method: str, C: Tensor | None = None) -> Bounds:
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
    library: Any, network: nn.Module, boxes: Sequence[_Box], method: str, C: Tensor | None
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
