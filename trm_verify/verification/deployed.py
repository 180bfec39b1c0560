"""A model as it is certified: baked, exported, with the bytes of its weights file, and run in floating point.

What runs here only finds starting points and likely answers; no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from trm_verify.encode import fractions
from trm_verify.export import Exported, export
from trm_verify.kernel.weights import Weights
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.model import Damped, ModelSpec, flatten_state, spec_of
from trm_verify.model import trace as recursive_trace
from trm_verify.models.base import ConfiguredModel
from trm_verify.nn import BoundedLayer, bake
from trm_verify.provers.fixed_points.continuity import solve
from trm_verify.provers.problem import Problem

MOST_ITERATIONS = 20000
SETTLED = 1e-15  # relative size of a step below which an iteration in doubles has arrived


@dataclass(frozen=True, eq=False)
class Deployed:
    """A model as it is certified.

    Attributes:
        model: the module that was exported: the library's own models baked, others as they are.
        spec: its description.
        exported: its exact graph and tensors.
        weights: the bytes of its weights file, which a certificate names by digest.
    """

    model: nn.Module
    spec: ModelSpec
    exported: Exported
    weights: bytes

    @classmethod
    def of(cls, model: nn.Module | Deployed, seed: int = 0) -> Deployed:
        """Bakes the library's own models; other models are exported with their parameter-only parts folded.

        Args:
            model: see `trm_verify.model`; what this made of one before is returned as it is.
            seed: for the inputs on which export compares the graph with the model.

        Raises:
            ExportError: the step cannot be exported. ValueError: the model's description is wrong.
        """
        if isinstance(model, Deployed):
            return model
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"expected a model, found a {type(model).__name__}; wrap a function with "
                "tv.recursive(step, state_shape=…, input_shape=…)"
            )
        deployed = model.bake() if isinstance(model, ConfiguredModel) else model
        exported = export(deployed, seed=seed)
        return cls(deployed, spec_of(deployed), exported, exported.to_bytes())

    @cached_property
    def problem(self) -> Problem:
        """What the provers work on."""
        return Problem(self.exported.graph, self.weights, self._hints())

    @cached_property
    def lowered(self) -> LoweredGraph:
        """The graph in float64."""
        return lower(self.exported.graph, self.exported.tensors)

    def _hints(self) -> list[np.ndarray]:
        """What layers suggest to provers: vectors ψ (see `nn.SandwichStep`) and the gains they aim for; untrusted."""
        layered = any(isinstance(module, BoundedLayer) for module in self.model.modules())
        source = bake(self.model) if layered else self.model
        found = [getattr(module, "psi", None) for module in source.modules()]
        gains = {getattr(module, "gains", None) for module in source.modules()}
        return [
            *(h.detach().cpu().double().numpy() for h in found if isinstance(h, torch.Tensor) and h.dim() == 1),
            *(np.array(each) for each in gains if isinstance(each, tuple) and len(each) > 1),
        ]

    @property
    def logits_shape(self) -> tuple[int, ...] | None:
        """Output positions, then classes; None without a readout."""
        readout = self.problem.graph.readout
        return None if readout is None else tuple(readout.nodes[readout.outputs[0]].shape)

    @property
    def operator(self) -> object:
        """The operator of the model's stated iteration, as certificates write it."""
        if isinstance(self.spec.iteration, Damped):
            return {"outer_damped": fractions(self.spec.iteration.alpha)}
        return self.spec.iteration

    def differs_from(self, weights: Weights) -> str | None:
        """The first tensor of the model whose values another weights file does not hold."""
        own = Weights(self.weights)
        if own.sha256 == weights.sha256:
            return None
        return next((n for n in own.names if n not in weights.names or own.tensor(n) != weights.tensor(n)), None)

    def fixed_points(self, x: torch.Tensor | None, iterations: int = MOST_ITERATIONS) -> np.ndarray:
        """Approximate fixed points by iterating in float64, flattened.

        Shape: x (batch, *input_shape), result (batch, n).
        """
        if self.spec.iteration == "implicit":
            return self._solved(x)
        alpha: torch.Tensor | float = 1.0
        if isinstance(self.spec.iteration, Damped):
            alpha = torch.tensor([float(a) for a in self.spec.iteration.alpha], dtype=torch.float64)
        flat = earlier = _flat(self.lowered.init(x))
        left, looked, ahead = iterations, 1, 0
        while left:
            after = alpha * _flat(self.lowered.step(self._parts(flat), x)) + (1 - alpha) * flat
            moved = float((after - flat).abs().max())
            flat, left, ahead = after, left - 1, ahead + 1
            if not moved > SETTLED * (1 + float(flat.abs().max())):
                break
            if torch.equal(flat, earlier):  # a cycle in doubles: whole rounds of it change nothing
                left %= ahead
            elif ahead == looked:  # Brent's method: wait twice as long for the next state to come back
                earlier, looked, ahead = flat, 2 * looked, 0
        found: np.ndarray = np.nan_to_num(flat.numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        return found

    def _solved(self, x: torch.Tensor | None) -> np.ndarray:
        """Newton's method on the equations of the step, for a model that names no iteration."""
        graph = self.problem.graph
        points = np.zeros((1, graph.input_size)) if x is None else x.double().reshape(len(x), -1).numpy()
        found = np.array([solve(self.problem, point) for point in points])
        settled: np.ndarray = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
        return settled

    def trace(self, x: torch.Tensor | None, steps: int) -> np.ndarray:
        """The model's own iterates in its own floating point, flattened, as doubles.

        Shape: x (1, *input_shape), result (steps + 1, n).
        """
        like = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        if x is not None:
            dtype = torch.get_default_dtype() if like is None else like.dtype
            x = x.to(torch.long if self.spec.vocabulary is not None else dtype)
            x = x if like is None else x.to(like.device)
        own = getattr(self.model, "trace", None)  # a model may bring its own solver
        run = partial(recursive_trace, self.model) if own is None else own
        with torch.no_grad():
            states = run(x, steps)
        return torch.cat([flatten_state(z).double().cpu() for z in states]).numpy()

    def logits(self, flat: np.ndarray) -> np.ndarray:
        """Shape: (batch, n) to (batch, positions, classes)."""
        logits = self.lowered.readout(self._parts(torch.from_numpy(flat)))
        return logits.reshape(len(flat), -1, logits.shape[-1]).numpy()

    def labels(self, flat: np.ndarray) -> np.ndarray:
        """Arg-max per output position. Shape: (batch, n) to (batch, positions)."""
        found: np.ndarray = self.logits(flat).argmax(axis=-1)
        return found

    def _parts(self, flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        split = torch.split(flat, [int(np.prod(p)) for p in self.spec.parts], dim=1)
        return tuple(t.reshape(flat.shape[0], *part) for t, part in zip(split, self.spec.parts, strict=True))


def _flat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.reshape(p.shape[0], -1) for p in parts], dim=1).double()
