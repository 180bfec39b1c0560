"""The rules about fixed points on random tiny models: every conclusion is compared with the fixed points themselves.

The reference reads the graph's JSON alone. For a piecewise-linear step and one rational input it goes through every
activation pattern and solves it exactly; for a smooth step it finds some fixed points with 60 digits. The provers are
as simple as can be: one linear system for the multipliers, the inverse of one Jacobian, boxes about what was found.
The last tests break the kernel on purpose, and the same comparison has to notice.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction as F
from random import Random
from typing import Any

import mpmath
import numpy as np
import pytest

from tests.kernel.certificates import graph_json, kernel_graph, real
from tests.kernel.graphs import Json, Nodes, dyadic, read_dyadic, read_vector, vector
from trm_verify.kernel import affine, bounding, columns, relaxation, spans, units
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    Convergence,
    FixedPointAnswer,
    FixedPointAt,
    FixedPoints,
    Refuted,
)
from trm_verify.kernel.context import Context
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.relaxation import Functional, System
from trm_verify.kernel.rules import RULES, enclosure, fixed_point_answers, fixed_points, refutation
from trm_verify.kernel.rules.invariance import midpoint
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval

MP = mpmath.mp.clone()
MP.dps = 60
SLACK = F(1, 10**40)  # of numbers that were computed with 60 digits
SMOOTH: dict[str, Callable[[Any], Any]] = {"tanh": MP.tanh, "sin": MP.sin, "sigmoid": lambda v: 1 / (1 + MP.exp(-v))}
Point = tuple[F, ...]


class WrongError(Exception):
    """The kernel accepted something false."""


# The reference


def exact(v: Any) -> F:
    """The value of an mpmath number."""
    sign, mantissa, exp, _ = v._mpf_
    return F(-mantissa if sign else mantissa) * F(2) ** exp


def short(v: F) -> F:
    return F(round(v * 2**180), 2**180)


@dataclass(frozen=True)
class Affine:
    """c_0 + Σ c_i z_i."""

    c: tuple[F, ...]

    def __add__(self, other: Any) -> Affine:
        if isinstance(other, F):
            return Affine((self.c[0] + other, *self.c[1:]))
        return Affine(tuple(a + b for a, b in zip(self.c, other.c, strict=True)))

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Affine:
        if isinstance(factor, Affine):
            return self * factor.c[0] if not any(factor.c[1:]) else factor * self.c[0]
        return Affine(tuple(a * factor for a in self.c))

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Affine:
        return self + other * F(-1)

    def __rsub__(self, other: Any) -> Affine:
        return self * F(-1) + other


Activation = Callable[[str, Json, Any], Any]  # (operation, attributes, argument) ↦ value


def walk(function: Json, parts: list[list[Any]], given: Sequence[Any], activation: Activation) -> list[Any]:
    """The outputs, laid end to end. Vectors only; maxima are written with ReLUs, as proofs/affine_forms.md says."""
    values: list[list[Any]] = []

    def larger(a: Any, b: Any) -> Any:
        return a + activation("relu", {}, b - a)

    for node in function["nodes"]:
        op, args = node["op"], [values[i] for i in node["in"]]
        if op == "state":
            value = parts[node["part"]]
        elif op == "input":
            value = list(given)
        elif op == "constant":
            value = list(read_vector(node["value"]))
        elif op == "linear":
            weights = iter(args[1])
            value = [sum((v * next(weights) for v in args[0]), F(0)) for _ in range(len(args[1]) // len(args[0]))]
        elif op in ("add", "sub"):
            value = [a + b if op == "add" else a - b for a, b in zip(*args, strict=True)]
        elif op == "mul":
            value = [activation("mul", {}, pair) for pair in zip(*args, strict=True)]
        elif op == "max":
            value = list(map(larger, *args))
        elif op == "min":
            value = [a - activation("relu", {}, a - b) for a, b in zip(*args, strict=True)]
        elif op == "amax":
            value = [args[0][0]]
            for other in args[0][1:]:
                value = [larger(value[0], other)]
        elif op == "concat":
            value = [v for part in args for v in part]
        elif op == "slice":
            value = args[0][node["start"] : node["stop"]]
        elif op == "reshape":
            value = args[0]
        else:
            value = [activation(op, node, v) for v in args[0]]
        values.append(value)
    return [v for i in function["outputs"] for v in values[i]]


def pieces(op: str, attrs: Json) -> list[tuple[F, F, F | None, F | None]]:
    """(slope, offset, from, to) of a piecewise-linear activation."""
    zero, one = F(0), F(1)
    if op == "clamp":
        lo, hi = read_dyadic(attrs["lo"]), read_dyadic(attrs["hi"])
        return [(zero, lo, None, lo), (one, zero, lo, hi), (zero, hi, hi, None)]
    if op == "scale":
        return [(F(int(attrs["num"], 16), int(attrs["den"], 16)), zero, None, None)]
    left = {"relu": zero, "abs": -one}.get(op)
    left = read_dyadic(attrs["slope"]) if left is None else left
    return [(left, zero, None, zero), (one, zero, zero, None)]


def solve(matrix: list[list[F]], right: list[F]) -> list[F] | None:
    """Gauss; None when the matrix is singular."""
    n = len(matrix)
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(n):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(n):
            if i != k and rows[i][k]:
                rows[i] = [v - rows[i][k] * w for v, w in zip(rows[i], rows[k], strict=True)]
    return [row[n] for row in rows]


class Model:
    """A graph with its reference."""

    def __init__(self, raw: Json, ends: Sequence[tuple[F, F]], smooth: bool = False) -> None:
        self.raw, self.ends, self.smooth = raw, list(ends), smooth
        self.graph = kernel_graph(raw)
        self.n, self.m = self.graph.size, self.graph.input_size
        self.wide = any(a != b for a, b in ends)
        self._found: dict[Point, list[Point] | None] = {}

    def parts(self, flat: Sequence[Any]) -> list[list[Any]]:
        rest = iter(flat)
        return [list(itertools.islice(rest, size)) for (size,) in self.raw["state"]]

    def at(self, name: str, z: Sequence[Any], x: Sequence[F]) -> tuple[list[Any], list[Any]]:
        """(outputs, arguments of the kernel's units) at one point; None for a unit that has no argument."""
        arguments: list[Any] = []

        def activation(op: str, attrs: Json, v: Any) -> Any:
            if op == "mul":
                arguments.extend([None] * self.wide)  # exact where the input is a single point
                return v[0] * v[1]
            if op == "scale" and not (int(attrs["den"], 16) & (int(attrs["den"], 16) - 1)):
                return v * pieces(op, attrs)[0][0]
            arguments.append(v)
            if isinstance(v, float) and op in SMOOTH:
                return math.tanh(v) if op == "tanh" else math.sin(v) if op == "sin" else 0.5 + 0.5 * math.tanh(v / 2)
            if op in SMOOTH:
                return exact(SMOOTH[op](MP.mpf(v.numerator) / v.denominator))
            fits = [p for p in pieces(op, attrs) if (p[2] is None or p[2] <= v) and (p[3] is None or v <= p[3])]
            return v * fits[0][0] + fits[0][1]

        return walk(self.raw[name], self.parts(z), x, activation), arguments

    def patterns(self, x: Sequence[F]) -> Iterator[tuple[list[Affine], list[tuple[Any, F | None, F | None]]]]:
        """Every activation pattern: the affine outputs of the step, and where it holds."""
        states = [Affine(tuple(F(j == i + 1) for j in range(self.n + 1))) for i in range(self.n)]
        none = Affine((F(0),) * (self.n + 1))
        choices: list[int] = []
        while True:
            counts: list[int] = []
            holds: list[tuple[Any, F | None, F | None]] = []

            def activation(
                op: str, attrs: Json, v: Any, counts: list[int] = counts, holds: list[Any] = holds,
            ) -> Any:  # fmt: skip
                if op == "mul":
                    return v[0] * v[1]
                each = pieces(op, attrs)
                if len(counts) == len(choices):
                    choices.append(0)
                slope, offset, lo, hi = each[choices[len(counts)]]
                counts.append(len(each))
                holds.append((v + none, lo, hi))
                return v * slope + offset

            yield [v + none for v in walk(self.raw["step"], self.parts(states), x, activation)], holds
            while choices and choices[-1] + 1 == counts[len(choices) - 1]:
                choices.pop()
            if not choices:
                return
            choices[-1] += 1

    def fixed_points(self, x: Point) -> list[Point] | None:
        """All of them (some, for a smooth step); None when there may be a continuum."""
        if x not in self._found:
            self._found[x] = self._some(x) if self.smooth else self._all(x)
        return self._found[x]

    def _all(self, x: Point) -> list[Point] | None:
        found = set()
        for outputs, holds in self.patterns(x):
            matrix = [[F(i == j) - out.c[1 + j] for j in range(self.n)] for i, out in enumerate(outputs)]
            z = solve(matrix, [out.c[0] for out in outputs])
            if z is None:
                return None
            at = [(v.c[0] + sum(map(F.__mul__, v.c[1:], z)), lo, hi) for v, lo, hi in holds]
            if all((lo is None or lo <= v) and (hi is None or v <= hi) for v, lo, hi in at):
                found.add(tuple(z))
        return sorted(found)

    def residual(self, z: Sequence[Any], x: Point) -> list[Any]:
        return [a - b for a, b in zip(self.at("step", z, x)[0], z, strict=True)]

    def _some(self, x: Point) -> list[Point]:
        """Newton's method in floats, then with the last Jacobian in long numbers."""
        rng = np.random.default_rng(1)
        found: list[Point] = []
        for _ in range(6):
            z, jacobian = rng.uniform(-2, 2, self.n), -np.eye(self.n)
            for _ in range(12):
                gap = np.array(self.residual(list(z), x), dtype=float)
                moved = [self.residual(list(z + 1e-7 * e), x) for e in np.eye(self.n)]
                jacobian = (np.array(moved, dtype=float).T - gap[:, None]) * 1e7
                z = z - np.linalg.lstsq(jacobian, gap, rcond=None)[0]
            if np.abs(gap).max() > 1e-9 or np.abs(np.linalg.det(jacobian)) < 1e-2:
                continue
            inverse = [[F(v) for v in row] for row in np.linalg.inv(jacobian)]
            point = tuple(map(F, z))
            for _ in range(7):
                gap = self.residual(point, x)
                point = tuple(short(v - sum(map(F.__mul__, row, gap))) for v, row in zip(point, inverse, strict=True))
            if max(map(abs, self.residual(point, x))) < SLACK / 1000 and all(
                max(abs(a - b) for a, b in zip(point, w, strict=True)) > SLACK for w in found
            ):
                found.append(point)
        return found

    def inside(self, x: Point, region: Tensor) -> list[Point] | None:
        found = self.fixed_points(x)
        return None if found is None else [z for z in found if self.holds(region, z)]

    def holds(self, box: Tensor, z: Sequence[Any]) -> bool:
        slack = SLACK if self.smooth else F(0)
        return not box.bounded or all(
            lo <= v + slack and v <= hi + slack
            for v, (lo, hi) in zip(z, map(box.fraction, range(box.size)), strict=True)
        )


def inputs_of(domain: Tensor) -> list[Point]:
    """Some corners, and points inside."""
    ends = [domain.fraction(i) for i in range(domain.size)]
    rng = Random(2)
    corners = list(itertools.product(*ends))
    inside = [tuple(a + (b - a) * F(rng.randint(1, 6), 7) for a, b in ends) for _ in range(2)]
    return list(dict.fromkeys([*rng.sample(corners, min(3, len(corners))), *inside]))


def logit_gaps(model: Model, z: Sequence[Any], answer: Sequence[int]) -> list[Any]:
    logits = model.at("readout", z, ())[0]
    return [logits[answer[0]] - v for k, v in enumerate(logits) if k != answer[0]]


def twice(raw: Json) -> Json:
    """The step whose fixed points (z_0, z_1) are the orbits of period 2 of an undamped step."""
    parts = len(raw["state"])
    nodes: list[Json] = []
    outputs: list[int] = []
    for copy in range(2):
        shift = len(nodes)
        for node in raw["step"]["nodes"]:
            own = {"part": node["part"] + (1 - copy) * parts} if node["op"] == "state" else {}
            nodes.append({**node, "in": [i + shift for i in node["in"]], **own})
        outputs += [i + shift for i in raw["step"]["outputs"]]
    return {**raw, "state": raw["state"] * 2, "step": {"nodes": nodes, "outputs": outputs}, "readout": None}


def require(truth: bool, what: str) -> None:
    if not truth:
        raise WrongError(what)


def judge(model: Model, done: Conclusion) -> None:
    """Raises `WrongError` when a fixed point contradicts the conclusion."""
    if isinstance(done, FixedPoints):
        for x in inputs_of(done.domain):
            found = model.inside(x, done.region)
            for z in found or []:
                require(model.holds(done.box, z), "a fixed point outside the box")
                judge_arguments(model, done, z, x)
            if found is not None and not model.smooth:
                require(not done.exists or bool(found), "no fixed point where there is one")
            require(found is None or not done.unique or len(found) <= 1, "two fixed points where there is one")
    elif isinstance(done, FixedPointAnswer):
        for x in inputs_of(done.domain):
            found = model.inside(x, done.region)
            require(found is None or bool(found) or model.smooth, "an answer without fixed points")
            for z in found or []:
                for gap, margin in zip(logit_gaps(model, z, done.answer), done.margins, strict=True):
                    require(gap > 0 and gap + SLACK >= margin, "another answer, or a smaller margin")
    elif isinstance(done, Answer):
        for x in inputs_of(done.domain):
            z: Sequence[Any] = [F(0)] * model.n
            for k in range(done.steps + 6):
                if k >= done.steps:
                    require(min(logit_gaps(model, z, done.answer)) > 0, "an iterate that answers otherwise")
                z = model.at("step", z, x)[0]
    elif isinstance(done, Refuted):
        judge_refutation(model, done)


def judge_arguments(model: Model, done: FixedPoints, z: Point, x: Point) -> None:
    arguments = model.at("step", z, x)[1]
    require(len(arguments) == len(done.arguments), "another number of units")
    if done.scale is not None:
        raw = list(arguments)
        for i, k in slaved(model, done.domain, done.region).items():
            if done.scale[i] != 1:
                arguments[k] = z[i] + done.scale[i] * (raw[k] - z[i])
    for v, (lo, hi) in zip(arguments, done.arguments, strict=True):
        if v is not None:
            require((lo is None or lo <= v + SLACK) and (hi is None or v <= hi + SLACK), "an argument outside")


def judge_refutation(model: Model, done: Refuted) -> None:
    if not done.domain.is_point and all(b - a < F(1, 2**200) for a, b in map(done.domain.fraction, range(model.m))):
        return  # it is about one input that is no binary fraction, and judged where the fixed point is found
    for x in inputs_of(done.domain):
        if done.of == "contraction":
            continue  # judged where the pair is chosen
        if done.of == "convergence":
            pairs = Model(twice(model.raw), model.ends).fixed_points(x)
            starts = None if pairs is None else [p for p in pairs if p[: model.n] != p[model.n :]]
            require(
                starts is None or any(model.holds(done.region, p[: model.n]) for p in starts if done.region), "no cycle"
            )
            continue
        if done.region is None or (found := model.inside(x, done.region)) is None or model.smooth:
            continue
        if done.of == "at_most_one":
            require(len(found) >= 2, "no two fixed points")
        elif done.of == "exactly_one":
            require(len(found) != 1, "exactly one fixed point")
        elif done.of == "fixed_point_answer" and done.answer is not None:
            require(any(min(logit_gaps(model, z, done.answer)) <= 0 for z in found), "the answer that was refuted")


def slaved(model: Model, domain: Tensor, region: Tensor) -> dict[int, int]:
    return relaxation.slaved_states(spans.forms_over(model.graph, domain, region, None))


# Random models


def small(rng: Random, spread: int = 6) -> F:
    return F(rng.randint(-spread, spread), 4)


def matrix(rng: Random, rows: int, columns: int, spread: int) -> np.ndarray[Any, Any]:
    return np.array([[small(rng, spread) for _ in range(columns)] for _ in range(rows)], dtype=object)


def activation(rng: Random, nodes: Nodes, a: int, smooth: bool) -> int:
    op = rng.choice(["relu", "relu", "abs", "leaky_relu", "clamp", "scale"] if not smooth else list(SMOOTH))
    if op == "leaky_relu":
        return nodes.add(op, a, slope=dyadic(F(rng.randint(0, 4), 8)))
    if op == "clamp":
        lo = small(rng)
        return nodes.clamp(a, lo, lo + F(rng.randint(0, 8), 4))
    return nodes.scale(a, rng.choice([1, -2]), 3) if op == "scale" else nodes.add(op, a)


def random_model(rng: Random, smooth: bool) -> Model:
    n, m, spread = rng.randint(1, 3), rng.randint(0, 2), rng.choice([1, 2, 4])
    ends = []
    for _ in range(m):
        lo = small(rng)
        ends.append((lo, lo + rng.choice([F(0), F(1, 8), F(1)])))
    nodes = Nodes()
    state = [[n]] if n == 1 or rng.random() < 0.7 else [[1], [n - 1]]
    z = nodes.state() if len(state) == 1 else nodes.add("concat", nodes.state(1), nodes.state(0), axis=0)
    x = nodes.add("input") if m else -1

    def dense(a: int, inputs: int, outputs: int, with_input: bool = True) -> int:
        out = nodes.add("linear", a, nodes.constant(matrix(rng, outputs, inputs, spread)))
        if m and with_input:
            out = nodes.add("add", out, nodes.add("linear", x, nodes.constant(matrix(rng, outputs, m, 4))))
        return nodes.add("add", out, nodes.constant(np.array([small(rng) for _ in range(outputs)], dtype=object)))

    kinds = ["implicit", "implicit", "layers", "max", "amax", "gate", "skip", "mixed", "shared", "deep", "loop", "bare"]
    kind = rng.choice(kinds)
    if kind == "loop":  # orbits of period 2, or three fixed points in each coordinate
        slope, back = F(rng.randint(5, 12), 4), rng.random() < 0.5
        out = nodes.add("linear", z, nodes.constant(np.diag([-slope if back else slope] * n)))
        out = nodes.add("add", out, nodes.constant([F(1) if back else (1 - slope) / 2] * n))
        out = (
            activation(rng, nodes, out, True) if smooth else nodes.add("relu", out) if back else nodes.clamp(out, 0, 1)
        )
        out = nodes.add("add", out, nodes.add("linear", x, nodes.constant(matrix(rng, n, m, 1)))) if m else out
    elif kind == "implicit":
        out = activation(rng, nodes, dense(z, n, n), smooth)
    elif kind == "layers":
        out = dense(activation(rng, nodes, dense(z, n, 2), smooth), 2, n, False)
    elif kind == "max":
        out = nodes.add(rng.choice(["max", "min"]), dense(z, n, n), dense(z, n, n, False))
    elif kind == "amax":
        out = nodes.add("reshape", nodes.add("amax", dense(z, n, 3)), shape=[1])
        out = nodes.add("linear", out, nodes.constant(matrix(rng, n, 1, spread)))
    elif kind == "gate":
        gate = nodes.add("linear", x, nodes.constant(matrix(rng, n, m, 2))) if m else nodes.constant([F(1, 2)] * n)
        out = nodes.add("add", nodes.add("mul", gate, z), activation(rng, nodes, dense(z, n, n), smooth))
    elif kind == "skip":
        out = nodes.add("add", nodes.scale(z, 1, 4), activation(rng, nodes, dense(z, n, n), smooth))
    elif kind == "mixed":  # some states equal a unit, some do not; later units read earlier ones
        first = activation(rng, nodes, dense(z, n, 1), smooth)
        out = first if n == 1 else nodes.add("concat", first, dense(first, 1, n - 1), axis=0)
    elif kind == "shared":  # one unit is every state
        first = activation(rng, nodes, dense(z, n, 1), smooth)
        out = first if n == 1 else nodes.add("concat", *[first] * n, axis=0)
    elif kind == "bare":  # a state that is an input, a constant or another state
        first = dense(z, n, 1)
        last = rng.choice([x if m == n - 1 else -1, nodes.constant([small(rng)] * (n - 1)) if n > 1 else -1])
        out = nodes.add("concat", first, last, axis=0) if n > 1 and last >= 0 else dense(z, n, n)
    else:
        hidden = activation(rng, nodes, dense(z, n, 2), smooth)
        out = activation(rng, nodes, dense(hidden, 2, n, False), smooth)
    cuts = [nodes.add("slice", out, axis=0, start=a, stop=b, step=1) for a, b in ((0, 1), (1, n)) if len(state) > 1]
    step = trimmed(nodes.function(*cuts or [out]))
    nodes = Nodes()
    z = nodes.state() if len(state) == 1 else nodes.add("concat", nodes.state(0), nodes.state(1), axis=0)
    out = nodes.add("linear", z, nodes.constant(matrix(rng, 2, n, 4)))
    if rng.random() < 0.5:
        out = activation(rng, nodes, out, smooth)
        out = nodes.add("linear", out, nodes.constant(matrix(rng, 2, 2, 4)))
    readout = nodes.function(nodes.add("add", out, nodes.constant([small(rng), small(rng)])))
    return Model(graph_json(step, state, real(m) if m else None, None, readout), ends, smooth)


def trimmed(function: Json) -> Json:
    """Without the nodes that no output reads."""
    nodes, used = function["nodes"], set(function["outputs"])
    for i in range(len(nodes) - 1, -1, -1):
        used |= set(nodes[i]["in"]) if i in used else set()
    place = {old: new for new, old in enumerate(sorted(used))}
    return {
        "nodes": [{**nodes[i], "in": [place[j] for j in nodes[i]["in"]]} for i in sorted(used)],
        "outputs": [place[i] for i in function["outputs"]],
    }


# Provers


def dyadics(values: Any, bits: int = 16) -> Json:
    return vector([F(round(float(v) * 2**bits), 2**bits) for v in np.asarray(values).ravel()])


def multipliers(system: System, functional: Functional, slopes: Sequence[float]) -> np.ndarray[Any, Any]:
    """Those that leave no kept state, and of each unit as much as a line of its slope through it would take away."""
    rows = np.array(system.rows, dtype=float).reshape(len(system.rows), system.width) * 2.0**system.exp
    q = np.array(functional.row, dtype=float) * 2.0**functional.exp
    kept = len(system.kept)
    equations, right = [], []
    for j in range(1 + system.inputs, system.first):
        equations.append(rows[:, j])
        right.append(-q[j])
    for place, k in enumerate(system.active):
        own = np.zeros(len(rows))
        own[kept + place] = 1
        column = system.first + k
        equations.append(slopes[k] * rows[:, column] - own)
        right.append(-slopes[k] * q[column] - (functional.sign if functional.unit == k else 0))
    if not equations:
        return np.zeros(0)
    return np.linalg.lstsq(np.array(equations), np.array(right), rcond=None)[0]


class Bench:
    """Applies rules to one model and has every conclusion judged."""

    def __init__(self, model: Model, rng: Random, accepted: Counter[str]) -> None:
        self.model, self.rng, self.accepted = model, rng, accepted
        self.boxes: list[tuple[str, Tensor]] = []
        self.norms = (BlockNorm((1,) * model.n, (1,) * model.n, 0),)
        self.domain = self.box("input", model.ends)

    def box(self, space: str, ends: Sequence[tuple[Any, Any]] | None) -> int:
        size = self.model.n if space == "state" else self.model.m
        if ends is None:
            box = Tensor((size,))
        else:
            lo, hi = ([round(F(end[side]) * 2**40) for end in ends] for side in (0, 1))
            box = Tensor((size,), -40, lo, lo if lo == hi else hi)
        self.boxes.append((space, box))
        return len(self.boxes) - 1

    def step(self, rule: str, *premises: Conclusion | None, **witness: Any) -> Any:
        if any(p is None for p in premises):
            return None
        context = Context(self.model.graph, tuple(self.boxes), self.norms)
        try:
            done = RULES[rule](context, [p for p in premises if p is not None], witness)
        except CheckError:
            return None
        judge(self.model, done)
        self.accepted[rule] += 1
        return done

    # witnesses

    def centre(self) -> tuple[Point, Point]:
        """(the middle of the domain, a fixed point there, or any state)."""
        x = tuple((a + b) / 2 for a, b in self.model.ends)
        found = self.model.fixed_points(x)
        if found and self.rng.random() < 0.9:
            return x, tuple(F(float(v)) for v in self.rng.choice(found))
        return x, tuple(small(self.rng) for _ in range(self.model.n))

    def around(self, z: Point, reach: F) -> list[tuple[F, F]]:
        return [(v - reach * self.rng.randint(1, 4) / 4, v + reach * self.rng.randint(1, 4) / 4) for v in z]

    def scale(self, domain: Tensor, region: Tensor) -> Json | None:
        if self.rng.random() < 0.6:
            return None
        forms = spans.forms_over(self.model.graph, domain, region, None)
        own = relaxation.slaved_states(forms)
        fit = [i in own and forms.units[own[i]].op in relaxation.PROJECTIONS for i in range(self.model.n)]
        return vector([self.rng.choice([F(1, 4), F(1, 2), F(2)]) if ok else F(1) for ok in fit])

    def slopes(self, units: Sequence[Any], arguments: Sequence[Any]) -> list[float]:
        found = []
        for unit, v in zip(units, arguments, strict=True):
            if unit.op is None:
                found.append(0.0)
                continue
            low, high = (units_value(unit, v + e) for e in (-F(1, 64), F(1, 64)))
            found.append(float((high - low) * 32) if self.rng.random() < 0.7 else self.rng.uniform(0, 1))
        return found

    def tree(self, system: System, known: FixedPoints, cuts: int) -> tuple[list[int], list[F]]:
        """A random tree: preorder of units and inputs to cut, and where."""
        able = [*system.active, *(len(system.units) + j for j in range(system.inputs))]
        if not cuts or not able:
            return [-1], []
        split = self.rng.choice(able)
        at = F(0)
        if split >= len(system.units):
            lo, hi = known.domain.fraction(split - len(system.units))
            at = (lo + hi) / 2
        elif self.rng.random() < 0.3:
            at = small(self.rng)
        sides = [self.tree(system, known, self.rng.randint(0, cuts - 1)) for _ in range(2)]
        return [split, *sides[0][0], *sides[1][0]], [at, *sides[0][1], *sides[1][1]]

    def bounding(
        self, known: FixedPoints, system: System, functionals: list[Functional], cuts: int, besides: int = 0,
    ) -> Json:  # fmt: skip
        """splits, at, weights and multipliers for these functionals; `besides` multiples of those of some state."""
        other = system.of_state(self.rng.randrange(self.model.n), self.rng.choice([-1, 1]))
        arguments = self.arguments(known)
        arguments += [F(0)] * (len(system.units) - len(arguments))
        splits: list[int] = []
        at: list[F] = []
        weights: list[int] = []
        rows: list[Any] = []
        for functional in functionals:
            own = self.tree(system, known, cuts)
            splits += own[0]
            at += own[1]
            for _ in range(own[0].count(-1)):
                weights.append(self.rng.choice([0, 1, 1, 1, 1, 1, 1, 1]) if cuts else 1)
                chosen = functional if weights[-1] else Functional([0] * system.width, 0)
                if not weights[-1]:
                    k = self.rng.choice(system.active) if system.active else -1
                    chosen = Functional([0] * system.width, 0, k, self.rng.choice([1, -1])) if k >= 0 else chosen
                slopes = self.slopes(system.units, arguments)
                rows.append(multipliers(system, chosen, slopes) + besides * multipliers(system, other, slopes))
        return {"splits": splits, "at": vector(at), "weights": vector(weights), "multipliers": dyadics(np.array(rows))}

    def arguments(self, known: FixedPoints) -> list[F]:
        """Plausible arguments of the units."""
        return [F(0) if lo is None or hi is None else (lo + hi) / 2 for lo, hi in known.arguments]

    def tightening(self, known: FixedPoints, sides: list[tuple[int, int]], cuts: int, besides: int = 0) -> Json:
        forms = spans.forms_over(self.model.graph, known.domain, known.box, known.scale)
        system, n = relaxation.system_of(self.model.graph, forms), self.model.n
        functionals = [system.of_state(t, s or 1) if t < n else system.of_argument(t - n, s or 1) for t, s in sides]
        return {
            "targets": [t for t, _ in sides], "signs": [s or "both" for _, s in sides],
            **self.bounding(known, system, functionals, cuts, besides),
        }  # fmt: skip

    # chains of rules

    def duality(self, known: FixedPoints | None) -> FixedPoints | None:
        for _ in range(self.rng.randint(0, 2)):
            if known is None or not known.box.bounded:
                break
            system = relaxation.system_of(
                self.model.graph,
                spans.forms_over(self.model.graph, known.domain, known.box, known.scale),
            )
            n = self.model.n
            able = [*range(n), *(n + k for k in system.active)]
            sides = [(self.rng.choice(able), self.rng.choice([-1, 0, 1])) for _ in range(self.rng.randint(1, 4))]
            known = self.step("duality", known, **self.tightening(known, sides, self.rng.randint(0, 2))) or known
        return known

    def enclosure(self, ends: list[tuple[F, F]] | None = None) -> FixedPoints | None:
        x, z = self.centre()
        ends = ends or self.around(z, self.rng.choice([F(1, 64), F(1, 4), F(1)]))
        flat = self.rng.random() < 0.15  # a wide box, and a chord that sees no slope
        if flat and (found := self.model.fixed_points(x)):
            ends = [(min(v) - F(1, 2), max(v) + F(1, 2)) for v in zip(*found, strict=True)]
        region = self.box("state", ends)
        domain, box = self.boxes[self.domain][1], self.boxes[region][1]
        scale = self.scale(domain, box)
        alphas = None if scale is None else tuple(read_vector(scale))
        forms = spans.forms_over(self.model.graph, domain, box, alphas)
        slopes = [round(s * 64) / 64 for s in self.slopes(forms.units, self.at_point(forms, z, x))]
        slopes = [0.0] * len(slopes) if flat else slopes
        inverse = jacobian_inverse(forms, slopes, self.model.n)
        return self.step(  # type: ignore[no-any-return]
            "enclosure", domain=self.domain, region=region, scale=scale, slopes=vector(slopes),
            matrix=dyadics(inverse, 10), unique=self.rng.random() < 0.6,
        )  # fmt: skip

    def at_point(self, forms: AffineForms, z: Point, x: Point) -> list[F]:
        """The arguments of all units at one point, roughly."""
        known = [F(1), *map(F, z), *x]
        found = []
        for unit, row in zip(forms.units, forms.arguments.rows, strict=True):
            at = sum((v * c for v, c in zip(row, known, strict=False)), F(0)) * F(2) ** forms.arguments.exp
            found.append(at)
            known.append(F(0) if unit.op is None else units_value(unit, at))
        return found

    def contraction(self) -> Convergence | None:
        """In ℓ∞, everywhere or on a box."""
        rate = dyadic(F(7, 8))
        z = self.centre()[1]
        local = self.rng.random() < 0.5
        region = self.box("state", self.around(z, F(2)) if local else None)
        done = self.step("radius_contraction", domain=self.domain, region=region, norm=0, rate=rate)
        premises = [done]
        if local:
            premises.append(self.step("invariant_box", operator="picard", domain=self.domain, region=region))
        if self.rng.random() < 0.5:
            self.step("exactly_one", *premises)
        return self.step("convergence", *premises, start=region)  # type: ignore[no-any-return]

    def well_posed(self) -> Conclusion | None:
        n = self.model.n
        return self.step("monotone", domain=self.domain, m=dyadic(F(1, 64)), factor=vector([0] * (n * (n + 1) // 2)))  # type: ignore[no-any-return]

    def continuity(self, premise: Any) -> FixedPoints | None:
        if premise is None:
            return None
        x, z = self.centre()
        inputs = inputs_of(self.boxes[self.domain][1]) if self.rng.random() < 0.8 else [x]
        found = [w for y in inputs for w in self.model.fixed_points(y) or []]
        if self.rng.random() < 0.1:  # elsewhere
            inputs, found, z = [], [], tuple(v + small(self.rng) for v in z)
        reach = F(self.rng.randint(1, 8), 16)
        ends = [(F(float(min(v))) - reach, F(float(max(v))) + reach) for v in zip(*found, z, strict=True)]
        region = self.box("state", ends)
        domain, box = self.boxes[self.domain][1], self.boxes[region][1]
        scale = self.scale(domain, box)
        alphas = None if scale is None else tuple(read_vector(scale))
        forms = spans.forms_over(self.model.graph, domain, box, alphas)
        system = relaxation.system_of(self.model.graph, forms)
        at = [self.at_point(forms, w, y) for y in inputs for w in self.model.fixed_points(y) or []]
        at = [[F(float(v)) for v in each] for each in [*at, self.at_point(forms, z, x)]]
        grow = [F(self.rng.randint(1, 8), 16) for _ in system.units]
        lo, hi = ([pick(v) + sign * g for v, g in zip(zip(*at, strict=True), grow, strict=True)]
                  for pick, sign in ((min, -1), (max, 1)))  # fmt: skip
        known = FixedPoints(domain, box, box, tuple(zip(lo, hi, strict=True)), alphas, True, True)
        n = self.model.n
        targets = [*system.kept, *(n + k for k in system.active)]
        sides = [(t, s) for t in targets for s in self.rng.choice([(1, -1), (0,)])]
        return self.step(  # type: ignore[no-any-return]
            "by_continuity", premise, domain=self.domain, region=region, scale=scale, input=vector(x),
            center=vector(z), lo=vector(lo), hi=vector(hi),
            **self.tightening(known, sides, self.rng.choice([0, 0, 1]), 0 if inputs else 20),
        )  # fmt: skip

    def everywhere(self) -> FixedPoints | None:
        z = self.centre()[1]
        region = self.box("state", self.around(z, self.rng.choice([F(1, 2), F(2)])))
        scale = self.scale(self.boxes[self.domain][1], self.boxes[region][1])
        return self.step("fixed_points_in", domain=self.domain, region=region, scale=scale)  # type: ignore[no-any-return]

    def answer(self, known: FixedPoints | None) -> FixedPointAnswer | None:
        if known is None or not known.exists:
            return None
        system, _, logits = fixed_point_answers.with_readout(self.model.graph, known)
        for label in (0, 1):
            row = [p - q for p, q in zip(logits.rows[label], logits.rows[1 - label], strict=True)]
            witness = self.bounding(known, system, [Functional(row, logits.exp)], self.rng.choice([0, 0, 1]))
            if done := self.step("fixed_point_answer", known, answer=[label], **witness):
                self.step("other_answer", done, answer=[1 - label])
                return done  # type: ignore[no-any-return]
        return None

    def none_at_all(self, known: FixedPoints | None) -> None:
        if known is None or known.exists or not known.box.bounded:
            return
        forms = spans.forms_over(self.model.graph, known.domain, known.box, known.scale)
        system = relaxation.system_of(self.model.graph, forms)
        for _ in range(4):
            q = self.rng.choice([system.of_state(i, s) for i in range(self.model.n) for s in (1, -1)])
            witness = self.bounding(known, system, [q], 0)
            self.step("no_fixed_point", known, **{**witness, "weights": vector([0])})

    def points(self) -> None:
        """Exact fixed points, at an input that may be no binary fraction."""
        if self.model.smooth:
            return
        x = self.rng.choice(inputs_of(self.boxes[self.domain][1]))
        found = self.model.fixed_points(x)
        done = []
        for z in (found or [])[:2]:
            point = self.step("fixed_point_at", input=rational(x), state=rational(z))
            products = any(node["op"] == "mul" for node in self.model.raw["step"]["nodes"])
            require(point is not None or self.model.wide and products, "a fixed point that the kernel does not accept")
            done.append(point)
            if point is not None:
                require(FixedPointAt(x, z, point.labels) == point, "another fixed point")
                self.step("other_answer", point, answer=[self.rng.randint(0, 1)])
        if len(done) == 2:
            self.step("two_fixed_points", *done)
        near = tuple(v + F(1, 3**50) for v in found[0]) if found else None
        if near and near not in (found or []):
            require(self.step("fixed_point_at", input=rational(x), state=rational(near)) is None, "no fixed point")

    def cycle(self) -> None:
        model, double = self.model, Model(twice(self.model.raw), self.model.ends)
        if model.smooth or model.n > 2:
            return
        x = tuple((a + b) / 2 for a, b in model.ends)
        pairs = double.fixed_points(x) or []
        pairs = [p for p in pairs if p[: model.n] != p[model.n :]] or pairs
        if not pairs:
            return
        point = tuple(F(float(v)) for v in self.rng.choice(pairs))
        reach = F(1, self.rng.choice([4, 64, 2**20]))
        box = Tensor((2 * model.n,), -60, *([int((v + s * reach) * 2**60) for v in point] for s in (-1, 1)))
        forms = spans.forms_over(double.graph, self.boxes[self.domain][1], box, None)
        slopes = [round(s * 64) / 64 for s in self.slopes(forms.units, self.at_point(forms, point, x))]
        inverse = jacobian_inverse(forms, slopes, 2 * model.n)
        lo, hi = (vector([v + s * reach for v in point]) for s in (-1, 1))
        self.step(
            "cycle", operator="picard", domain=self.domain, period=2, lo=lo, hi=hi, slopes=vector(slopes),
            matrix=dyadics(inverse, 10),
        )  # fmt: skip

    def pair(self) -> None:
        """Two states that the step does not bring together."""
        x, z = self.centre()
        a, b = (tuple(v + small(self.rng) for v in z) for _ in range(2))
        point = self.box("input", [(v, v) for v in x])
        rate = F(self.rng.randint(0, 12), 4)
        a, b = (tuple(F(round(v * 64), 64) for v in w) for w in (a, b))
        done = self.step("expanding_pair", operator="picard", domain=point, norm=0, rate=dyadic(rate),
                         first=vector(a), second=vector(b))  # fmt: skip
        if done is not None:
            x = inputs_of(self.boxes[point][1])[0]
            images = [self.model.at("step", w, x)[0] for w in (a, b)]
            far, near = (max(abs(p - q) for p, q in zip(*w, strict=True)) for w in (images, (a, b)))
            require(far > rate * near, "a pair that does not expand")

    def halves(self) -> None:
        """The answer on two halves of the domain, and on the whole."""
        if not self.model.wide:
            return
        j = next(j for j, (lo, hi) in enumerate(self.model.ends) if lo != hi)
        region = self.around(self.centre()[1], F(1))
        whole, middle = self.domain, sum(self.model.ends[j]) / 2
        gap = F(1, 8) if self.rng.random() < 0.2 else F(0)
        answers = []
        for k in range(2):
            ends = list(self.model.ends)
            ends[j] = (ends[j][0], middle) if k == 0 else (middle + gap * (ends[j][1] - middle), ends[j][1])
            self.domain = self.box("input", ends)
            answers.append(self.answer(self.enclosure(region)))
        self.domain = whole
        self.step("joined_domains", *answers)

    def curves(self) -> None:
        """The least of w·φ(a) − v·a over an interval, against points of it."""
        rng = self.rng
        op = rng.choice(["tanh", "sin", "sigmoid", "relu", "abs", "leaky_relu", "clamp", "scale"])
        attrs = {"slope": F(1, 4), "lo": F(-1, 2), "hi": small(rng) + F(3, 2), "factor": F(-2, 3)}
        unit = affine.Unit(op, attrs)
        lo = small(rng, 16)
        interval = (lo, lo + F(rng.randint(0, 40), 4))
        w, v = small(rng), small(rng)
        known = units.table(unit, interval)
        least, ends = known.least(w, v), known.ends()
        for k in range(41):
            at = interval[0] + (interval[1] - interval[0]) * k / 40
            low, high = units.value(unit, at)
            require(least is not None and least <= max(w * low, w * high) - v * at, "a lower value of a unit")
            require(ends[0] is not None and ends[0] <= high and ends[1] is not None and low <= ends[1], "a range")

    def everything(self) -> None:
        self.curves()
        loop = self.contraction() if self.rng.random() < 0.7 else None
        premise = loop or self.well_posed()
        start = self.rng.choice([self.everywhere, self.enclosure, lambda: self.continuity(premise)])()
        known = self.duality(start)
        one = self.enclosure()
        self.step("located", known if self.rng.random() < 0.5 else premise, one)
        self.step("two_fixed_points", known, one)
        self.none_at_all(known)
        for each in (known, one):
            answered = self.answer(each)
            for steps in (0, 3, 12):
                self.step("answer_by_fixed_point", loop, answered, steps=steps)
        self.points()
        self.pair()
        self.halves()
        self.cycle()


def rational(values: Sequence[F]) -> Json:
    denominator = int(np.lcm.reduce([1, *(v.denominator for v in values)], dtype=object)) if values else 1
    return {"numerators": vector([v * denominator for v in values]), "denominator": dyadic(denominator)}


def units_value(unit: Any, at: F) -> F:
    return F(float(units.value(unit, at)[0])) if unit.op in SMOOTH else units.value(unit, at)[0]


def jacobian_inverse(forms: AffineForms, slopes: Sequence[float], n: int) -> np.ndarray[Any, Any]:
    """(I − J)⁻¹ for the step with each unit replaced by its slope."""
    outputs = np.array(forms.outputs.rows, dtype=float) * 2.0**forms.outputs.exp
    unit_rows: list[Any] = []
    arguments = (
        np.array(forms.arguments.rows, dtype=float).reshape(len(slopes), forms.first + len(slopes))
        * 2.0**forms.arguments.exp
    )

    def of_state(row: Any) -> Any:
        return row[1 : 1 + n] + sum((c * u for c, u in zip(row[forms.first :], unit_rows, strict=False)), np.zeros(n))

    for slope, row in zip(slopes, arguments, strict=True):
        unit_rows.append(slope * of_state(row))
    return np.linalg.pinv(np.eye(n) - np.array([of_state(row) for row in outputs]))


def explore(seeds: range, smooth: bool = False, task: Callable[[Bench], Any] = Bench.everything) -> Counter[str]:
    accepted: Counter[str] = Counter()
    for seed in seeds:
        rng = Random(seed)
        task(Bench(random_model(rng, smooth), rng, accepted))
    return accepted


# The tests


@pytest.mark.parametrize("smooth", [False, True])
def test_no_conclusion_is_contradicted_by_a_fixed_point(smooth: bool) -> None:
    accepted = explore(range(40 if smooth else 150), smooth)
    wanted = {"fixed_points_in", "duality", "enclosure", "located", "by_continuity", "fixed_point_answer"}
    wanted |= {"answer_by_fixed_point", "joined_domains", "no_fixed_point", "expanding_pair", "other_answer"}
    wanted |= set() if smooth else {"two_fixed_points", "cycle", "fixed_point_at"}
    assert not {rule for rule in wanted if not accepted[rule]}


# Broken kernels


def _middles(inputs: Tensor, states: Tensor, *tables: Any) -> columns.Sets:
    return columns.Sets(*(midpoint(box) if box.bounded else box for box in (inputs, states)), *tables)


def _unwidened(self: Any, bound: F | None, *half: Any) -> F | None:
    return bound


def _one_half_for_both(self: Any, target: int, sign: int) -> Any:
    return HALF(self, target, sign or 1)


def _no_dips(self: Any, w: F, v: F) -> F:
    return min(w * (lo if w >= 0 else hi) - v * a for a, (lo, hi) in zip(self.points, self.values, strict=True))


def _half_as_wide(self: Any, form: Any) -> Interval:
    lo, hi = RANGE(self, form)
    return (lo, hi) if lo is None or hi is None else ((3 * lo + hi) / 4, (lo + 3 * hi) / 4)


def _blind_to_later_units(system: System, domain: Tensor, region: Tensor, known: Any = ()) -> list[Interval]:
    """The rows of a merged system, as if a state that is a later unit were 0."""
    first = [
        replace_row(row, system.first + k)
        for k, row in zip(system.active, system.rows[len(system.kept) :], strict=True)
    ]
    return INTERVALS(replace(system, rows=[*system.rows[: len(system.kept)], *first]), domain, region, known)


def replace_row(row: list[int], stop: int) -> list[int]:
    return [*row[:stop], *[0] * (len(row) - stop)]


def _exact_products(self: Any, *args: int) -> Any:
    form = PRODUCT(self, *args)
    self.kinds = [replace(u, range=(F(0), F(0))) if u.op is None and u.range else u for u in self.kinds]
    return form


def _any_fixed_point(graph: Any, function: Any, states: Any, inputs: Any) -> Any:
    return states if function is graph.step else EXACT(graph, function, states, inputs)


RANGE = enclosure._Reduction.range
INTERVALS = spans.interval_arguments
PRODUCT = affine._AffineBuilder.product
EXACT = refutation._exact
LEAVES, BOUNDS, SYSTEM = relaxation.leaves_of, relaxation.bounds, relaxation.system_of
HALF, ALL = bounding.Tightening.half, bounding._all
ANY_UNIT = ("relu", "clamp", "abs", "leaky_relu", "scale", "tanh", "sin", "sigmoid")

BROKEN: dict[str, list[tuple[Any, str, Any]]] = {
    "no breakpoints": [(units, "kinks", lambda unit: [])],
    "curves without dips": [(units.Smooth, "least", _no_dips)],
    "boxes without width": [(bounding, "Sets", _middles)],
    "halves not widened": [(bounding.Tightening, "end", _unwidened)],
    "bounds a little too high": [
        (bounding, "bounds", lambda *a: [e and (None if e[0] is None else e[0] + F(1, 8), e[1]) for e in BOUNDS(*a)])
    ],
    "upper bounds a little too low": [
        (bounding, "bounds", lambda *a: [e and (e[0], None if e[1] is None else e[1] - F(1, 8)) for e in BOUNDS(*a)])
    ],
    "upper bounds of the first leaf": [
        (bounding, "_all", lambda pick, ends: ALL(pick, ends if pick is min else ends[:1]))
    ],
    "both sides on one half": [(bounding.Tightening, "half", _one_half_for_both)],
    "a leaf is lost": [(bounding, "leaves_of", lambda *a: LEAVES(*a)[:1] * len(LEAVES(*a)))],
    "arguments of later units": [
        (fixed_points, "system_of", lambda graph, forms, merge=True: SYSTEM(graph, forms)),
        (fixed_points, "interval_arguments", _blind_to_later_units),
    ],
    "every unit rescaled": [(relaxation, "PROJECTIONS", ANY_UNIT)],
    "boundaries not checked": [(fixed_points, "_is_inside", lambda *a: True)],
    "an image too narrow": [(enclosure._Reduction, "range", _half_as_wide)],
    "uniqueness for nothing": [(enclosure, "_require_unique", lambda *a: None)],
    "located anywhere": [(enclosure, "contains", lambda *a: True)],
    "exact products": [(affine._AffineBuilder, "product", _exact_products)],
    "readouts without reach": [(fixed_point_answers, "logit_reach", lambda g, n, pairs: [F(0)] * len(pairs))],
    "boxes said to be disjoint": [(refutation, "_disjoint", lambda *a: True)],
    "any pair expands": [(BlockNorm, "exceeds", lambda *a: True)],
    "any point is fixed": [(refutation, "_exact", _any_fixed_point)],
}


TASKS: dict[str, Callable[[Bench], Any]] = {
    "boundaries not checked": lambda bench: bench.continuity(bench.contraction()),
    "halves not widened": lambda bench: bench.duality(bench.everywhere()),
    "upper bounds of the first leaf": lambda bench: bench.duality(bench.everywhere()),
    "both sides on one half": lambda bench: bench.duality(bench.everywhere()),
    "uniqueness for nothing": Bench.enclosure,
    "located anywhere": lambda bench: bench.step("located", bench.everywhere(), bench.enclosure()),
    "curves without dips": Bench.curves,
    "exact products": lambda bench: bench.duality(bench.everywhere()),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kernel_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, attribute, replacement in BROKEN[name]:
        monkeypatch.setattr(place, attribute, replacement)
    with pytest.raises(WrongError):
        explore(range(2000), name == "curves without dips", TASKS.get(name, Bench.everything))
