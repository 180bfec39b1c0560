"""Random models over every operation of docs/format.md. Imports nothing of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from random import Random
from typing import Any

import numpy as np

from tests.kernel.graphs import Array, Json, Nodes, array, dyadic, vector


@dataclass
class Sample:
    """A random model: its graph, the stored tensors and the random source that made it."""

    graph: Json
    tensors: dict[str, Array]
    rng: Random = field(repr=False)

    @property
    def shapes(self) -> list[list[int]]:
        return self.graph["state"]

    @property
    def size(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def input_size(self) -> int:
        return 0 if self.graph["input"] is None else prod(self.graph["input"]["shape"])

    @property
    def vocabulary(self) -> int | None:
        return None if self.graph["input"] is None else self.graph["input"].get("size")

    def given(self, flat: Sequence[Any]) -> Array | None:
        return None if self.graph["input"] is None else array(flat, self.graph["input"]["shape"])


STATES = ([[3]], [[2, 3]], [[4], [2, 2]], [[1, 2, 2]], [[2], [3], [1]], [[1]])
MOST = 18  # entries in a tensor of a random graph


class Generator(Nodes):
    def __init__(self, rng: Random, ops: Sequence[str], state: list[list[int]], given: Json | None) -> None:
        super().__init__()
        self.rng, self.ops, self.given = rng, ops, given
        self.shapes: list[tuple[int, ...]] = []
        self.varies: list[bool] = []  # with the state or the input
        self.of_state: list[bool] = []
        self.tensors: dict[str, Array] = {}
        self.leaves = [self.place("state", (), tuple(shape), part=k) for k, shape in enumerate(state)]
        if given is not None:
            self.leaves.append(self.place("input", (), tuple(given["shape"])))

    def place(self, op: str, args: Sequence[int], shape: Sequence[int], /, **attrs: Any) -> int:
        self.shapes.append(tuple(shape))
        self.varies.append(op in ("state", "input") or any(self.varies[i] for i in args))
        self.of_state.append(op == "state" or any(self.of_state[i] for i in args))
        return self.add(op, *args, **attrs)

    def number(self, scale: int = 2) -> Fraction:
        return Fraction(self.rng.randint(-8 * scale, 8 * scale), 8)

    def values(self, shape: Sequence[int], scale: int = 1) -> Array:
        return array([self.number(scale) for _ in range(prod(shape))], shape)

    def fixed(self, shape: Sequence[int]) -> int:
        """A constant: a literal or a stored tensor."""
        values = self.values(shape)
        if self.rng.random() < 0.5:
            return self.place("constant", (), shape, shape=list(shape), value=vector(values))
        name = f"t{len(self.nodes)}"
        self.tensors[name] = np.array([float(v) for v in values.ravel()], dtype=np.float32).reshape(tuple(shape))
        return self.place("tensor", (), shape, name=name)

    def pick(self, good: Callable[[int], bool] = lambda i: True) -> int | None:
        """A varying node; recent ones are likelier, so that graphs grow deep."""
        found = [i for i in range(len(self.nodes)) if self.varies[i] and good(i) and prod(self.shapes[i]) <= MOST]
        return None if not found else found[max(self.rng.randrange(len(found)) for _ in range(2))]

    def grow(self, count: int) -> None:
        for _ in range(count):
            op = self.rng.choice(self.ops)
            getattr(self, f"_{op}", lambda op=op: self._unary(op))()

    def _unary(self, op: str) -> None:
        if (a := self.pick()) is not None:
            self.place(op, (a,), self.shapes[a])

    def _ranked(self, least: int) -> tuple[int, tuple[int, ...]] | None:
        a = self.pick(lambda i: len(self.shapes[i]) >= least)
        return None if a is None else (a, self.shapes[a])

    def _reshape(self) -> None:
        a = self.pick()
        if a is None:
            return
        size, shape = prod(self.shapes[a]), []
        for _ in range(self.rng.randint(0, 2)):
            shape.append(self.rng.choice([d for d in range(1, size + 1) if size % d == 0]))
            size //= shape[-1]
        shape.append(size)
        self.place("reshape", (a,), shape, shape=shape)

    def _permute(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axes = self.rng.sample(range(len(shape)), len(shape))
            self.place("permute", (a,), [shape[k] for k in axes], axes=axes)

    def _slice(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axis = self.rng.randrange(len(shape))
            start = self.rng.randrange(shape[axis])
            stop, step = self.rng.randint(start + 1, shape[axis]), self.rng.randint(1, 2)
            new = [*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :]]
            self.place("slice", (a,), new, axis=axis, start=start, stop=stop, step=step)

    def _select(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axis = self.rng.randrange(len(shape))
            indices = [self.rng.randrange(shape[axis]) for _ in range(self.rng.randint(1, shape[axis] + 1))]
            self.place("select", (a,), [*shape[:axis], len(indices), *shape[axis + 1 :]], axis=axis, indices=indices)

    def _expand(self) -> None:
        if found := self._ranked(0):
            a, shape = found
            source = [1, *shape]
            b = self.place("reshape", (a,), source, shape=source)
            new = [self.rng.randint(1, 3) if s == 1 else s for s in source]
            self.place("expand", (b,), new, shape=new)

    def _pad(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            pads = [[self.rng.randint(0, 1), self.rng.randint(0, 1)] for _ in shape]
            self.place("pad", (a,), [s + sum(p) for s, p in zip(shape, pads, strict=True)], pads=pads)

    def _concat(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            same = [i for i in range(len(self.nodes)) if self.shapes[i] == shape]
            args = [a, *(self.rng.choice(same) for _ in range(self.rng.randint(0, 2)))]
            if self.rng.random() < 0.3:
                args.append(self.fixed(shape))
            self.rng.shuffle(args)
            axis = self.rng.randrange(len(shape))
            new = [*shape[:axis], shape[axis] * len(args), *shape[axis + 1 :]]
            self.place("concat", args, new, axis=axis)

    def _unfold(self) -> None:
        if found := self._ranked(2):
            a, shape = found
            kernel = [self.rng.randint(1, min(s, 2)) for s in shape[1:]]
            stride = [self.rng.randint(1, 2) for _ in kernel]
            padding = [self.rng.randint(0, 1) for _ in kernel]
            dilation = [self.rng.randint(1, 2) if n >= 3 else 1 for n in shape[1:]]
            sizes = zip(shape[1:], padding, dilation, kernel, stride, strict=True)
            counts = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sizes]
            self.place(
                "unfold",
                (a,),
                (prod(counts), shape[0] * prod(kernel)),
                kernel=kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
            )

    def _linear(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            out = self.rng.randint(1, 4)
            w = self.fixed((out, shape[-1]))
            if self.rng.random() < 0.3:  # a constant expression
                w = self.place("scale", (w,), self.shapes[w], num="-3", den="4")
            self.place("linear", (a, w), (*shape[:-1], out))

    def _matmul(self) -> None:
        if not (found := self._ranked(2)):
            return
        a, shape = found
        *lead, rows, columns = shape
        kind = self.rng.randrange(4)
        if kind == 0:  # a constant matrix from the left
            count = self.rng.randint(1, 3)
            self.place("matmul", (self.fixed((*lead, count, rows)), a), (*lead, count, columns))
        elif kind == 1:  # both factors vary
            axes = [*range(len(lead)), len(lead) + 1, len(lead)]
            b = self.place("permute", (a,), (*lead, columns, rows), axes=axes)
            self.place("matmul", (a, b), (*lead, rows, rows))
        else:  # attention
            count = rows if kind == 2 else self.rng.randint(1, 3)
            source = a
            if kind == 3 and (other := self.pick(lambda i: self.shapes[i] == shape)) is not None:
                source = other
            scores = self.place("linear", (source, self.fixed((rows, columns))), (*lead, rows, rows))
            weights = self.place("softmax", (scores,), (*lead, rows, rows)) if "softmax" in self.ops else scores
            if count != rows:
                axis = len(lead)
                chosen = [self.rng.randrange(rows) for _ in range(count)]
                weights = self.place("select", (weights,), (*lead, count, rows), axis=axis, indices=chosen)
            self.place("matmul", (weights, a), (*lead, count, columns))

    def _sum(self, op: str = "sum") -> None:
        if found := self._ranked(1):
            self.place(op, (found[0],), found[1][:-1])

    def _amax(self) -> None:
        self._sum("amax")

    def _scale(self) -> None:
        if (a := self.pick()) is not None:
            den = self.rng.choice([1, 2, 8] if "tanh" not in self.ops else [1, 2, 3, 7])
            self.place("scale", (a,), self.shapes[a], num=format(self.rng.randint(-5, 5), "x"), den=format(den, "x"))

    def _binary(self, op: str) -> None:
        if (a := self.pick()) is not None:
            same = [i for i in range(len(self.nodes)) if self.shapes[i] == self.shapes[a]]
            b = self.rng.choice(same) if self.rng.random() < 0.7 else self.fixed(self.shapes[a])
            self.place(op, (a, b) if self.rng.random() < 0.5 else (b, a), self.shapes[a])

    def _add(self) -> None:
        self._binary("add")

    def _sub(self) -> None:
        self._binary("sub")

    def _max(self) -> None:
        self._binary("max")

    def _min(self) -> None:
        self._binary("min")

    def _mul(self) -> None:
        if (a := self.pick()) is None:
            return
        bounded = self.rng.choice(["tanh", "sigmoid", "cos", None] if "tanh" in self.ops else [None])
        if bounded and self.rng.random() < 0.8:  # a gate
            gate = self.place(bounded, (self.pick(lambda i: self.shapes[i] == self.shapes[a]) or a,), self.shapes[a])
            self.place("mul", (a, gate), self.shapes[a])
        else:
            self._binary("mul")

    def _div(self) -> None:
        """By a constant that is not 0, or by a number computed from the input and clamped away from it."""
        if (a := self.pick()) is None:
            return
        shape = self.shapes[a]
        if self.given is not None and self.given["kind"] == "real" and self.rng.random() < 0.7:
            flat = self.place(
                "reshape", (self.leaves[-1],), (prod(self.given["shape"]),), shape=[prod(self.given["shape"])]
            )
            total = self.place("sum", (flat,), ())
            safe = self.place("clamp", (total,), (), lo=dyadic(Fraction(1, 2)), hi=dyadic(3))
            ones = [1] * len(shape)
            b = self.place("expand", (self.place("reshape", (safe,), ones, shape=ones),), shape, shape=list(shape))
        else:
            nonzero = [self.rng.choice([-1, 1]) * Fraction(self.rng.randint(2, 16), 8) for _ in range(prod(shape))]
            b = self.place("constant", (), shape, shape=list(shape), value=vector(nonzero))
        self.place("div", (a, b), shape)

    def _embedding(self) -> None:
        if self.given is None or self.given["kind"] != "integer":
            return
        width, shape = self.rng.randint(1, 3), self.given["shape"]
        self.place("embedding", (self.leaves[-1], self.fixed((self.given["size"], width))), (*shape, width))

    def _leaky_relu(self) -> None:
        if (a := self.pick()) is not None:
            self.place("leaky_relu", (a,), self.shapes[a], slope=dyadic(Fraction(self.rng.randint(0, 8), 8)))

    def _clamp(self) -> None:
        if (a := self.pick()) is not None:
            lo = self.number()
            hi = lo + Fraction(self.rng.randint(0, 16), 8)
            ends = [(lo, hi), (lo, None), (None, hi)][self.rng.randrange(3)]
            self.place(
                "clamp",
                (a,),
                self.shapes[a],
                **{k: None if v is None else dyadic(v) for k, v in zip(("lo", "hi"), ends, strict=True)},
            )

    def _row_norm(self, op: str) -> None:
        if found := self._ranked(1):
            eps = {} if op == "softmax" else {"eps": dyadic(Fraction(1, 2 ** self.rng.randint(0, 4)))}
            self.place(op, (found[0],), found[1], **eps)

    def _softmax(self) -> None:
        self._row_norm("softmax")

    def _rms_norm(self) -> None:
        self._row_norm("rms_norm")

    def _layer_norm(self) -> None:
        self._row_norm("layer_norm")

    def finish(self, shapes: Sequence[Sequence[int]]) -> Json:
        """One output a shape, which together use every node."""
        used = {i for node in self.nodes for i in node["in"]}
        sinks = [i for i in range(len(self.nodes)) if i not in used]
        found = []
        for k, shape in enumerate(shapes):
            total = None
            for sink in sinks[k :: len(shapes)] or sinks[:1]:
                size = prod(self.shapes[sink])
                flat = self.place("reshape", (sink,), (size,), shape=[size])
                if size == prod(shape) and self.rng.random() < 0.5:
                    mapped = flat
                else:
                    mapped = self.place("linear", (flat, self.fixed((prod(shape), size))), (prod(shape),))
                total = mapped if total is None else self.place("add", (total, mapped), (prod(shape),))
            if total is None:
                raise ValueError("a function without nodes")
            found.append(self.place("reshape", (total,), shape, shape=list(shape)))
        return self.function(*found)


def sample(seed: int, ops: Sequence[str], count: int = 9, given: str | None = "any") -> Sample:
    """A random model whose step uses the operations `ops`. `given` is real, integer, any or None."""
    rng = Random(seed)
    state = [list(s) for s in rng.choice(STATES)]
    kind = rng.choice(["real", "integer", None]) if given == "any" else given
    spec: Json | None = None
    if kind == "real":
        spec = {"shape": rng.choice([[2], [2, 3], [1]]), "kind": "real"}
    elif kind == "integer":
        spec = {"shape": rng.choice([[2], [3]]), "kind": "integer", "size": 4}
    generator = Generator(rng, ops, state, spec)
    generator.grow(count)
    step = generator.finish(state)
    graph = {"state": state, "input": spec, "step": step, "init": None, "readout": None}
    return Sample(graph, generator.tensors, rng)
