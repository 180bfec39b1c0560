"""Functions of a graph, and its unrolled loop, as modules that auto_LiRPA can trace."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm_verify.lowering import LoweredGraph
from trm_verify.provers.lirpa.tape import UNITS, Box, Tape


class Affine(nn.Module):
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


class Segment(nn.Module):
    """Forms of a tape, computed from its variables. Shape: (batch, size) each; returns (batch, all forms)."""

    def __init__(self, tape: Tape, forms: Sequence[Tensor]) -> None:
        super().__init__()

        def affine(*forms: Tensor) -> Affine:
            return Affine(torch.cat([form.flatten(1) for form in tape.aligned(*forms)], 1), tape.sizes)

        self.ops = [op for op, _ in tape.units]
        self.arguments: Any = nn.ModuleList(nn.ModuleList(map(affine, args)) for _, args in tape.units)
        self.result = affine(*forms)

    @classmethod
    def of(cls, graph: LoweredGraph, function: str, z: Box | None, x: Box | None) -> Segment:
        """A function of the graph, whose variables are those of z and x that vary."""
        tape = Tape()
        forms = tape.record(graph, function, z, x)
        return cls(tape, [forms[i] for i in graph.graph[function]["outputs"]])

    def forward(self, *variables: Tensor) -> Tensor:
        vectors = list(variables)
        for op, args in zip(self.ops, self.arguments, strict=True):
            vectors.append(UNITS[op](*(arg(vectors) for arg in args)))
        found: Tensor = self.result(vectors)
        return found


class Unrolled(nn.Module):
    """The state after some steps, or its logits, computed from the input if that varies."""

    def __init__(self, graph: LoweredGraph, x: Box, steps: int, readout: bool) -> None:
        super().__init__()
        n = sum(map(prod, graph.state_shapes))
        z = Box(torch.zeros(1, n), torch.ones(1, n))
        if graph.graph["init"] is None:
            tape = Tape()
            if x.varies:
                tape.variable(x.lo.shape[1:])
            self.init = Segment(tape, [torch.zeros(1, n, dtype=torch.float64)])
        else:
            self.init = Segment.of(graph, "init", None, x)
        self.step, self.steps = Segment.of(graph, "step", z, x), steps
        self.readout = Segment.of(graph, "readout", z, None) if readout else nn.Identity()

    def forward(self, *x: Tensor) -> Tensor:
        z = self.init(*x)
        for _ in range(self.steps):
            z = self.step(z, *x)
        found: Tensor = self.readout(z)
        return found
