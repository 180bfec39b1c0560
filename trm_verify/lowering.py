"""From the exact graph back to torch: callables for provers, and for export's check of itself.

Floating point: nothing here is part of a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Node = dict[str, Any]
Rule = Callable[[Node, list[Tensor]], Tensor]


def number(value: dict[str, Any]) -> Fraction:
    """A dyadic of the format."""
    exp: int = value["exp"]
    return int(value["int"], 16) * (Fraction(1 << exp) if exp >= 0 else Fraction(1, 1 << -exp))


# An iteration of thousands of steps meets the same few numbers at every step.
REMEMBERED = 4096


def _float(value: dict[str, Any]) -> float:
    return _dyadic(value["int"], value["exp"])


@lru_cache(REMEMBERED)
def _dyadic(digits: str, exp: int) -> float:
    return float(number({"int": digits, "exp": exp}))


@lru_cache(REMEMBERED)
def _ratio(num: str, den: str) -> float:
    return float(Fraction(int(num, 16), int(den, 16)))


def _vector(value: dict[str, Any]) -> list[float]:
    scale = number({"exp": value["exp"], "int": "1"})
    return [float(int(v, 16) * scale) for v in value["int"].split()]


# Every value carries a leading batch axis: the batch size, or 1 for what depends on neither state nor input.


def _reshape(node: Node, a: list[Tensor]) -> Tensor:
    return a[0].reshape(a[0].shape[0], *node["shape"])


def _permute(node: Node, a: list[Tensor]) -> Tensor:
    return a[0].permute(0, *(axis + 1 for axis in node["axes"]))


def _slice(node: Node, a: list[Tensor]) -> Tensor:
    index = [slice(None)] * a[0].dim()
    index[node["axis"] + 1] = slice(node["start"], node["stop"], node["step"])
    return a[0][tuple(index)]


def _select(node: Node, a: list[Tensor]) -> Tensor:
    indices = torch.tensor(node["indices"], dtype=torch.long, device=a[0].device)
    return a[0].index_select(node["axis"] + 1, indices)


def _expand(node: Node, a: list[Tensor]) -> Tensor:
    return a[0].expand(a[0].shape[0], *node["shape"])


def _pad(node: Node, a: list[Tensor]) -> Tensor:
    return F.pad(a[0], [size for pair in reversed(node["pads"]) for size in pair])


def _concat(node: Node, a: list[Tensor]) -> Tensor:
    batch = max(t.shape[0] for t in a)
    return torch.cat([t.expand(batch, *t.shape[1:]) for t in a], dim=node["axis"] + 1)


def _unfold(node: Node, a: list[Tensor]) -> Tensor:
    """im2col in any number of spatial axes: one gather per axis, then the taps behind the channels."""
    x = F.pad(a[0], [p for p in reversed(node["padding"]) for _ in range(2)])
    spatial = len(node["kernel"])
    for axis, (kernel, stride, dilation) in enumerate(
        zip(node["kernel"], node["stride"], node["dilation"], strict=True)
    ):
        x = x.unfold(2 + axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    # (batch, channels, *positions, *taps)
    x = x.permute(0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial))
    positions = prod(x.shape[1 : 1 + spatial])
    return x.reshape(x.shape[0], positions, -1)


def _linear(node: Node, a: list[Tensor]) -> Tensor:
    return F.linear(a[0], a[1][0])


def _scale(node: Node, a: list[Tensor]) -> Tensor:
    return a[0] * _ratio(node["num"], node["den"])


def _rms_norm(node: Node, a: list[Tensor]) -> Tensor:
    return a[0] * torch.rsqrt(a[0].square().mean(-1, keepdim=True) + _float(node["eps"]))


def _layer_norm(node: Node, a: list[Tensor]) -> Tensor:
    centred = a[0] - a[0].mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + _float(node["eps"]))


def _embedding(node: Node, a: list[Tensor]) -> Tensor:
    return a[1][0][a[0].long()]


def _softplus(node: Node, a: list[Tensor]) -> Tensor:
    return torch.logaddexp(a[0], torch.zeros_like(a[0]))


def _leaky_relu(node: Node, a: list[Tensor]) -> Tensor:
    return F.leaky_relu(a[0], _float(node["slope"]))


def _clamp(node: Node, a: list[Tensor]) -> Tensor:
    lo, hi = (None if node[k] is None else _float(node[k]) for k in ("lo", "hi"))
    return a[0] if lo is None and hi is None else a[0].clamp(lo, hi)


RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "select": _select,
    "expand": _expand,
    "pad": _pad,
    "concat": _concat,
    "unfold": _unfold,
    "linear": _linear,
    "matmul": lambda node, a: a[0] @ a[1],
    "sum": lambda node, a: a[0].sum(-1),
    "scale": _scale,
    "add": lambda node, a: a[0] + a[1],
    "sub": lambda node, a: a[0] - a[1],
    "mul": lambda node, a: a[0] * a[1],
    "div": lambda node, a: a[0] / a[1],
    "max": lambda node, a: torch.maximum(a[0], a[1]),
    "min": lambda node, a: torch.minimum(a[0], a[1]),
    "amax": lambda node, a: a[0].amax(-1),
    "softmax": lambda node, a: torch.softmax(a[0], -1),
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "embedding": _embedding,
    "relu": lambda node, a: torch.relu(a[0]),
    "abs": lambda node, a: torch.abs(a[0]),
    "tanh": lambda node, a: torch.tanh(a[0]),
    "sigmoid": lambda node, a: torch.sigmoid(a[0]),
    "softplus": _softplus,
    "silu": lambda node, a: F.silu(a[0]),
    "gelu": lambda node, a: F.gelu(a[0]),
    "sin": lambda node, a: torch.sin(a[0]),
    "cos": lambda node, a: torch.cos(a[0]),
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
}


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """A graph that torch can run and differentiate.

    Attributes:
        graph: the graph as in docs/format.md.
        tensors: its stored tensors, in `dtype` on `device` (integer ones converted too).
        dtype, device: where it computes.
    """

    graph: dict[str, Any]
    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    device: torch.device

    @property
    def state_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.graph["state"]]

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return None if self.graph["input"] is None else tuple(self.graph["input"]["shape"])

    def step(self, z: Sequence[Tensor], x: Tensor | None = None) -> tuple[Tensor, ...]:
        """One step on a batch.

        Shape: z one tensor (batch, *part) per state part, x (batch, *input_shape); returns the parts.
        """
        return self._outputs("step", z, x)

    def init(self, x: Tensor | None = None, batch_size: int = 1) -> tuple[Tensor, ...]:
        """z₀ on a batch of inputs; without input `batch_size` rows."""
        batch = batch_size if x is None else x.shape[0]
        if self.graph["init"] is None:
            return tuple(
                torch.zeros(batch, *shape, dtype=self.dtype, device=self.device) for shape in self.state_shapes
            )
        return self._outputs("init", (), x, batch)

    def readout(self, z: Sequence[Tensor]) -> Tensor:
        """Logits on a batch.

        Raises:
            ValueError: the graph has no readout.
        """
        if self.graph["readout"] is None:
            raise ValueError("expected a graph with a readout, found none; give the model a readout(z)")
        return self._outputs("readout", z, None)[0]

    def values(self, function: str, z: Sequence[Tensor] = (), x: Tensor | None = None) -> list[Tensor]:
        """Every node's value: (batch, *shape), or (1, *shape) for constants.

        Raises:
            ValueError: the arguments do not fit the graph.
        """
        z, x = self._checked(function, z, x)
        results: list[Tensor] = []
        for place, node in enumerate(self.graph[function]["nodes"]):
            op = node["op"]
            if op == "state":
                results.append(z[node["part"]])
            elif op == "input":
                results.append(_present(x))
            elif op == "tensor":
                results.append(self.tensors[node["name"]][None])
            elif op == "constant":
                results.append(self._constants[function][place])
            elif op in RULES:
                arguments = [results[i] for i in node["in"]]
                if op != "embedding":  # integer inputs used as numbers
                    arguments = [a if a.is_floating_point() else a.to(self.dtype) for a in arguments]
                results.append(RULES[op](node, arguments))
            else:
                raise ValueError(f"expected an operation of docs/format.md, found {op!r}")
        return results

    @cached_property
    def _constants(self) -> dict[str, dict[int, Tensor]]:
        """The values of the constants, by function and place; shape (1, *shape)."""
        return {
            name: {i: self._constant(node) for i, node in enumerate(function["nodes"]) if node["op"] == "constant"}
            for name in ("step", "init", "readout")
            if (function := self.graph[name]) is not None
        }

    def _constant(self, node: Node) -> Tensor:
        flat = torch.tensor(_vector(node["value"]), dtype=self.dtype, device=self.device)
        return flat.reshape(1, *node["shape"])

    def _checked(self, function: str, z: Sequence[Tensor], x: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        shapes = self.state_shapes if function != "init" else []
        found = [tuple(part.shape[1:]) for part in z]
        if found != shapes:
            raise ValueError(f"expected state parts of shapes {shapes} after the batch axis, found {found}")
        if function != "readout" and (None if x is None else tuple(x.shape[1:])) != self.input_shape:
            got = None if x is None else tuple(x.shape)
            raise ValueError(f"expected an input of shape (batch, *{self.input_shape}), found {got}")
        parts = [part.to(self.device, self.dtype) for part in z]
        if x is not None:
            integer = self.graph["input"] is not None and self.graph["input"]["kind"] == "integer"
            x = x.to(self.device, torch.long if integer else self.dtype)
        return parts, x

    def _outputs(self, function: str, z: Sequence[Tensor], x: Tensor | None, batch: int = 1) -> tuple[Tensor, ...]:
        results = self.values(function, z, x)
        batch = next((t.shape[0] for t in (*z, x) if t is not None), batch)
        outputs = [results[i] for i in self.graph[function]["outputs"]]
        return tuple((t if t.is_floating_point() else t.to(self.dtype)).expand(batch, *t.shape[1:]) for t in outputs)


def _present(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("expected an input, found none")
    return x


def lower(
    graph: dict[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> LoweredGraph:
    """Make a graph runnable.

    Args:
        graph: as in docs/format.md.
        tensors: the stored tensors it names.
        dtype, device: where to compute; weights are converted once.

    Raises:
        ValueError: a tensor is missing.
    """
    place = torch.device(device)
    names = {
        node["name"]
        for function in (graph["step"], graph["init"], graph["readout"])
        if function is not None
        for node in function["nodes"]
        if node["op"] == "tensor"
    }
    missing = sorted(names - set(tensors))
    if missing:
        raise ValueError(f"expected the tensors that the graph names, found none called {missing}")
    moved = {name: tensors[name].detach().to(place, dtype) for name in sorted(names)}
    return LoweredGraph(graph, moved, dtype, place)
