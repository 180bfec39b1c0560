"""Several models as one: each sees the input and the answer of the one before it, or a ring of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from trm_verify.model import Box, Damped, initial_state, state_parts
from trm_verify.models.base import ConfiguredModel

WIRINGS = ("cascade", "feedback")


class Stack(ConfiguredModel):
    """`z_i ← f_i(z_i, [x, p_{i−1}])` for models 1 … k at once, `p_i = softmax(g_i(z_i)/τ)` the answer of model i.

    In a cascade the first model sees x alone: the parts are ordered, so that any finite gains between them will do and
    the stack settles when each part does, given what it sees. With feedback the first model sees p_k as well, and the
    product of the gains around the ring decides. Every model but the first (in a cascade) is made for inputs of
    `channels + classes` channels. The readout is that of the last model.

    Proved by: a cascade by the rules of the parts in order; a ring by their gains, where these are small enough.
    Nothing is promised by construction: encoders are free, and so is what the answers do to them. A planner that sees
    another one's answer multiplies its state with gates that this answer moves, which no gain bounds for all states:
    such a cascade is proved where its loop goes, by `region="invariant"` of `verify_fixed_point`.

    Shape: z a tuple of the parts' states, x (batch, *positions, channels) of reals, readout that of the last part.

    Args:
        parts: of each model `{"name": a key of MODELS, …constructor arguments}`.
        wiring: "cascade" or "feedback".
        temperature: τ of the answers that are passed on.
        seed: added to the seeds of the parts, which otherwise count up from 0.

    Raises:
        ValueError: parts that do not fit together.
    """

    def __init__(
        self, parts: Sequence[dict[str, Any]], *, wiring: str = "cascade", temperature: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        from trm_verify.models import MODELS  # the table holds this class as well

        if not parts or wiring not in WIRINGS or not 0 < temperature < float("inf"):
            raise ValueError(f"Stack: expected parts, wiring in {WIRINGS} and a positive temperature, found {parts!r}")
        unknown = [part.get("name") for part in parts if part.get("name") not in MODELS or part.get("name") == "Stack"]
        if unknown:
            raise ValueError(f"Stack: expected parts named among {', '.join(sorted(MODELS))}, found {unknown}")
        self.set_config(parts=[dict(p) for p in parts], wiring=wiring, temperature=temperature, seed=seed)
        made = []
        for index, part in enumerate(parts):
            arguments = {"seed": index + seed, **{k: v for k, v in part.items() if k != "name"}}
            made.append(MODELS[str(part["name"])](**arguments))
        self.parts = nn.ModuleList(made)
        self.temperature, self.ring = temperature, wiring == "feedback"
        self._check()
        shapes = [state_parts(model.state_shape) for model in made]
        self.state_shape = tuple(shape for own in shapes for shape in own)
        self.ends = [0, *accumulate(len(own) for own in shapes)]
        ends = [model.settles for model in made if model.settles is not None]
        self.settles = sum(ends) if len(ends) == len(made) and not self.ring else None
        first, classes = made[0].input_shape or (), self.classes
        self.input_shape = (*first[:-1], first[-1] - classes * self.ring)
        if made[0].domain is not None:
            lo, hi = min(made[0].domain.lo), max(made[0].domain.hi)
            self.domain = Box(lo, hi).expand(self.input_shape)

    def _check(self) -> None:
        shapes, answers = [], []
        for model in self.parts:
            assert isinstance(model, ConfiguredModel)
            if model.readout is None or model.vocabulary is not None or isinstance(model.iteration, Damped):
                raise ValueError("Stack: expected parts with a readout, real inputs and undamped steps, found others")
            shape = model.input_shape or ()
            with torch.no_grad():
                start = torch.zeros(1, *shape, dtype=next(model.parameters()).dtype)
                answers.append(tuple(model.readout(initial_state(model, start)).shape[1:]))
            shapes.append(shape)
        self.classes = answers[-1][-1]
        wide = shapes if self.ring else shapes[1:]
        narrow = shapes[0][-1] - self.classes * self.ring
        fits = all(s == (*shapes[0][:-1], narrow + self.classes) for s in wide) and len(set(answers)) == 1
        if not fits or narrow < 1 or answers[0][:-1] != shapes[0][:-1]:
            raise ValueError(
                "Stack: expected parts whose inputs have the channels of x and the classes of the answer that they "
                f"see, all with answers of one shape, found inputs {shapes} and answers {answers}"
            )

    def init(self, x: Tensor) -> tuple[Tensor, ...]:
        """The starts of the parts."""
        seen = torch.cat([x, x.new_zeros(*x.shape[:-1], self.classes)], dim=-1)
        starts = [self._start(i, seen if i or self.ring else x) for i in range(len(self.parts))]
        return tuple(part for start in starts for part in start)

    def _start(self, index: int, seen: Tensor) -> tuple[Tensor, ...]:
        start = initial_state(self.parts[index], seen)
        return start if isinstance(start, tuple) else (start,)

    def step(self, z: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
        """One step of every part, from what the parts said before it."""
        states = [self._own(z, i) for i in range(len(self.parts))]
        after: list[Tensor] = []
        for index, model in enumerate(self.parts):
            seen = x
            if index or self.ring:
                seen = self._passed_on(index - 1, states[index - 1], x)
            moved = model(states[index], seen)
            after += moved if isinstance(moved, tuple) else (moved,)
        return tuple(after)

    def settled(self, x: Tensor) -> tuple[Tensor, ...]:
        """Part after part."""
        if self.settles is None:
            super().settled(x)
        found: list[Tensor] = []
        seen = x
        for index, model in enumerate(self._models()):
            z = model.settled(seen)
            found += z if isinstance(z, tuple) else (z,)
            seen = self._passed_on(index, z, x)
        return tuple(found)

    def readout(self, z: tuple[Tensor, ...]) -> Tensor:
        """The answer of the last part."""
        logits: Tensor = self._models()[-1].readout(self._own(z, len(self.parts) - 1))
        return logits

    def _passed_on(self, index: int, own: Any, x: Tensor) -> Tensor:
        """What the model after part `index` sees: the input, and that part's answer in this state of its own."""
        answer = self._models()[index].readout(own)
        return torch.cat([x, torch.softmax(answer / self.temperature, dim=-1)], dim=-1)

    def _models(self) -> list[ConfiguredModel]:
        return list(self.parts)  # type: ignore[arg-type]

    def _own(self, z: tuple[Tensor, ...], index: int) -> Any:
        """The state of one part, a tensor or a tuple as its model has it."""
        own = z[self.ends[index] : self.ends[index + 1]]
        shape = self._models()[index].state_shape
        return own if isinstance(shape[0], (tuple, list)) else own[0]
