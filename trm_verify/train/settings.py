"""What a training run does, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

CURRICULA = ("none", "fixed", "learned")
GRADIENTS = ("full", "implicit", "settled")


@dataclass(frozen=True)
class Settings:
    """What a training run does; two runs with equal settings, model and task give the same parameters.

    Attributes:
        epochs: passes over the training split.
        batch_size: rows a step; the rest of an epoch that fills no batch is left out.
        lr: peak learning rate (warm-up over at most 50 steps, then a cosine down to zero).
        weight_decay: AdamW's.
        depth: smallest and largest number of recursions; each step draws one at random.
        supervise_from: deep supervision: the loss is the mean over the recursions after this fraction of the depth.
        seed: seed of shuffling, random depths and everything else that is drawn.
        gradient: `"full"`: through all recursions. An integer j: the phantom gradient, through the last j recursions
            from a detached state. `"implicit"`: that of the fixed point, by the implicit function theorem.
            `"settled"`: that of the state in which a causal model settles, by one forward substitution whatever the
            depth; many times faster than unrolling, and the answer that a deployed loop ends with.
        recall: share of the loss that is taken from a second unrolling, which starts at a partially iterated,
            detached state.
        jacobian: weight of the estimated squared Frobenius norm of the step's Jacobian at the last state, a coordinate
            of the state, at the end of the run; it grows with the square of the share of the run that is over. For
            models that contract only where they are taught to.
        flatness: weight of the local gain of the step at the last state, layer by layer in ℓ∞, above one half; it grows
            like that of `jacobian`. It makes enclosures along a causal recursion narrow.
        descent: weight of all that the loss of a row rises from one supervised recursion to the next. It makes errors
            that fall from step to step, on rows that were never seen as well, at some cost of where they end.
        margin: weight of the cross-entropy of logits whose competitors are raised by all that the distance to the
            fixed point allows: it is small only where the answer is provably final.
        ema: decay of the moving average of the parameters that is validated and kept; 0 for none.
        clip: largest ℓ2 norm of a gradient; 0 for no limit.
        curriculum: `"none"`, `"fixed"` (`levels` in their order, in equal shares of the run, then all of them) or
            `"learned"` (a bandit on learning progress).
        levels: difficulties of the task that a curriculum chooses from; none for those that the task names.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 40
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 1e-2
    depth: tuple[int, int] = (6, 12)
    supervise_from: float = 0.5
    seed: int = 0
    gradient: int | str = "full"
    recall: float = 0.0
    jacobian: float = 0.0
    flatness: float = 0.0
    descent: float = 0.0
    margin: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    curriculum: str = "none"
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("depth", "levels"):  # lists, from a configuration file
            given = getattr(self, name)
            if not isinstance(given, (list, tuple)):
                raise ValueError(f"train: expected {name} as a list of whole numbers, found {given!r}")
            object.__setattr__(self, name, tuple(given))
        whole = {"epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}
        whole |= {f"{name}[{i}]": v for name in ("depth", "levels") for i, v in enumerate(getattr(self, name))}
        if other := {n: v for n, v in whole.items() if not isinstance(v, int) or isinstance(v, bool)}:
            raise ValueError(f"train: expected whole numbers for {', '.join(other)}; found {list(other.values())}")
        phantom = isinstance(self.gradient, int) and not isinstance(self.gradient, bool) and self.gradient >= 1
        checks = {
            "epochs >= 1": self.epochs >= 1,
            "batch_size >= 1": self.batch_size >= 1,
            "a finite lr > 0": 0 < self.lr < math.inf,
            "a finite weight_decay >= 0": 0 <= self.weight_decay < math.inf,
            "1 <= depth[0] <= depth[1]": len(self.depth) == 2 and 1 <= self.depth[0] <= self.depth[1],
            "supervise_from in [0, 1)": 0 <= self.supervise_from < 1,
            f"gradient among {GRADIENTS} or an integer >= 1": phantom or self.gradient in GRADIENTS,
            "recall in [0, 1)": 0 <= self.recall < 1,
            "finite jacobian, flatness, descent, margin and clip >= 0": all(
                0 <= v < math.inf for v in (self.jacobian, self.flatness, self.descent, self.margin, self.clip)
            ),
            "descent with unrolled recursions only": not self.descent or self.gradient == "full" or phantom,
            "ema in [0, 1)": 0 <= self.ema < 1,
            f"curriculum among {CURRICULA}": self.curriculum in CURRICULA,
            "levels with a curriculum only": not self.levels or self.curriculum != "none",
        }
        wrong = [text for text, good in checks.items() if not good]
        if wrong:
            raise ValueError(f"train: expected {' and '.join(wrong)}; found {self}")
