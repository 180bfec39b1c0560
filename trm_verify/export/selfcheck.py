"""Compare two exports with each other, and one with the eager model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.export.errors import BatchMixing, NotDeterministic
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.model import ModelSpec

Parts = tuple[Tensor, ...]
Graph = dict[str, Any]
Stored = dict[str, Tensor]


class Samples:
    """Random states and inputs in the model's dtype, reproducible from a seed."""

    def __init__(self, model: nn.Module, spec: ModelSpec, seed: int) -> None:
        tensors = (*model.parameters(), *model.buffers())
        like = next((t for t in tensors if t.is_floating_point()), None)
        self.dtype = torch.get_default_dtype() if like is None else like.dtype
        self.device = torch.device("cpu") if like is None else like.device
        self.spec = spec
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch: int) -> tuple[Parts, Tensor | None]:
        """States from a normal distribution, inputs from the domain (or a normal distribution)."""
        z = tuple(self._normal((batch, *part)) for part in self.spec.parts)
        return z, self._input(batch)

    def _normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(self.device, self.dtype)

    def _input(self, batch: int) -> Tensor | None:
        shape = self.spec.input_shape
        if shape is None:
            return None
        if self.spec.vocabulary is not None:
            drawn = torch.randint(self.spec.vocabulary, (batch, *shape), generator=self.generator)
            return drawn.to(self.device)
        if self.spec.domain is None:
            return self._normal((batch, *shape))
        lo, hi = (torch.from_numpy(end) for end in self.spec.domain.floats())
        part = torch.rand(batch, *shape, generator=self.generator, dtype=torch.float64)
        return (lo * (1 - part) + hi * part).to(self.device, self.dtype)


def compare_graphs(first: tuple[Graph, Stored], second: tuple[Graph, Stored]) -> None:
    """Two exports of one model must agree exactly.

    Raises:
        NotDeterministic: they do not.
    """
    hint = "the step must compute the same each time; look for random numbers, counters and clocks in Python"
    if first[0] != second[0]:
        raise NotDeterministic(f"expected two exports to agree, found two different graphs; {hint}")
    for name in sorted(first[1].keys() | second[1].keys()):
        p, q = first[1].get(name), second[1].get(name)
        if p is None or q is None or p.dtype != q.dtype or not torch.equal(p, q):
            raise NotDeterministic(f"expected two exports to agree, found two values of tensor {name!r}; {hint}")


def _eager(spec: ModelSpec, function: str, z: Parts, x: Tensor | None, batch: int) -> Parts:
    # Copies: a step that changes its argument in place must not disturb the comparison.
    z = tuple(part.clone() for part in z)
    state: Any = z if spec.tuple_state else z[0]
    with torch.no_grad():
        if function == "step":
            result = spec.step(state) if x is None else spec.step(state, x.clone())
        elif function == "init":
            result = spec.init(batch if x is None else x.clone())  # type: ignore[misc]
        else:
            result = spec.readout(state)  # type: ignore[misc]
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _lowered(graph: LoweredGraph, function: str, z: Parts, x: Tensor | None, batch: int) -> Parts:
    with torch.no_grad():
        if function == "step":
            return graph.step(z, x)
        return graph.init(x, batch) if function == "init" else (graph.readout(z),)


def _distance(a: Parts, b: Parts) -> float:
    """Largest difference relative to the size of the values (infinite for NaN or other shapes)."""
    worst = 0.0
    for p, q in zip(a, b, strict=True):
        if p.shape != q.shape:
            return float("inf")
        p, q = p.double().cpu(), q.double().cpu()
        relative = ((p - q).abs().amax() / (1 + p.abs().amax())).item()
        worst = max(worst, relative) if relative == relative else float("inf")
    return worst


def _rows(parts: Sequence[Tensor | None], index: Tensor) -> list[Any]:
    return [None if p is None else p[index] for p in parts]


def compare_with_eager(spec: ModelSpec, samples: Samples, graph: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """The graph against the eager model at batch sizes 1 and 3, and on permuted rows.

    The eager model computes in its own dtype, so values may differ by its rounding: half its digits are compared.
    This finds mistakes; it is no part of any proof.

    Raises:
        NotDeterministic: the eager model and the graph differ, or the eager model differs from itself.
        BatchMixing: a row's result depends on its batch.
    """
    lowered = lower(graph, tensors)
    tolerance = torch.finfo(samples.dtype).eps ** 0.5
    functions = ["step"] + [f for f in ("init", "readout") if graph[f] is not None]
    for function in functions:
        z, x = samples.draw(3)
        whole = _eager(spec, function, z, x, 3)
        again = _eager(spec, function, z, x, 3)
        if any(not torch.equal(p, q) for p, q in zip(whole, again, strict=True)):
            raise NotDeterministic(
                f"expected {function} to return the same for the same arguments, found that two calls differ; look for "
                "random numbers, counters and clocks"
            )
        expected = _lowered(lowered, function, z, x, 3)
        _require(_distance(whole, expected), tolerance, function, "a batch of 3")
        order = torch.tensor([2, 0, 1])
        *permuted_z, permuted_x = _rows((*z, x), order)
        permuted = _eager(spec, function, tuple(permuted_z), permuted_x, 3)
        if _distance(permuted, tuple(_rows(whole, order))) > tolerance:
            raise BatchMixing(f"expected {function} to treat rows alike, found that permuting them changes the result")
        for row in range(3):
            *one_z, one_x = _rows((*z, x), torch.tensor([row]))
            alone = _eager(spec, function, tuple(one_z), one_x, 1)
            part = tuple(_rows(expected, torch.tensor([row])))
            if _distance(alone, part) > tolerance:
                raise BatchMixing(
                    f"expected {function} to give a row the same result in every batch, found another one at batch "
                    "size 1; do not branch on the batch size, and keep batch statistics out"
                )


def _require(distance: float, tolerance: float, function: str, where: str) -> None:
    if not distance <= tolerance:
        raise NotDeterministic(
            f"expected the exported graph to agree with {function} on {where}, found a relative difference of "
            f"{distance:.2g}; look for something that changes and that the trace froze (a random number, a counter, a "
            "flag), and for steps that amplify rounding so far (long chains of steep layers)"
        )
