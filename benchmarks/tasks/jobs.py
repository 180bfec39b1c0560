"""What is run: the variants of every task, derived from its recipe as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trm_verify.models import ConfiguredModel, Stack
from trm_verify.tasks import TASKS, Split, Task
from trm_verify.train.config import RunConfig
from trm_verify.train.recipes import RECIPES, quick, recipe

SOLVERS: dict[str, dict[str, Any]] = {"jacobi": {"size": 32, "signs": "negative"}, "pagerank": {"size": 64}}
"""Tasks whose model is the method itself, with the options they are measured at. Nothing is trained."""

EXTENDED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mazes-13": ("mazes", {"size": 13, "train": 8192}, {"depth": (40, 56)}),
}
"""Further problems, trained with curricula only: the recipe they follow, and which options of its task and which of
its settings differ."""

LEFT_OUT = ("digits",)
"""Recipes of examples: whole images are classified, and the published recursion has no tokens to see."""

LEVELS: dict[str, tuple[int, ...]] = {
    "parity": (8, 12, 16), "addition": (8, 12, 16), "mazes": (7, 9), "mazes-13": (9, 11, 13),
}  # fmt: skip
"""The difficulties of the two curricula, the last one being that of the other variants."""

TWIN_UPDATES = 4
"""A twin trained at depth 1 makes so many times the updates: each of them costs less."""

VARIANTS = ("certified", "unconstrained", "convolutional", "twin", "stack", "single", "fixed", "learned", "solver")
PROVED = ("certified", "stack", "fixed", "learned")
"""Variants that are certified, and so are the answers of the first test inputs. The others are baselines."""

LOCAL = ("parity", "addition", "mazes", "regions")
"""Tasks whose cells follow from their neighbours: the baseline of convolutions can learn them."""

FREE_VARIANTS = ("unconstrained", "convolutional")
"""Two published recursions without a constraint. A certified model is compared with the better of them."""

STACKED = ("addition", "sudoku", "brackets", "snippets", "regions")
"""Tasks on which a cascade of two models is compared with one larger model, as far as they have recipes."""

PARTS, LARGER = 2, 2.5
"""Models of a stack, each with half the hidden units of the recipe's; and how many times the parameters of the whole
stack the single model has."""

PLAIN: dict[str, Any] = {"margin": 0.0, "flatness": 0.0, "descent": 0.0}
"""Terms of the objective that ask for a family with a proof, off."""

SIZED = (*FREE_VARIANTS, "stack", "single")
SCALES = [1 + step / 8 for step in range(25)]
WIDTHS, FACTORS, CHANNELS = range(4, 97, 2), (1, 2, 3), range(2, 65)
FREE_LR = 3e-3
FREE: dict[str, Any] = {"gradient": 4, "clip": 1.0}
FREE_OF: dict[str, dict[str, Any]] = {
    "parity": {"lr": 1e-2, "epochs": 72}, "addition": {"lr": 1e-2, "epochs": 72},
    "regions": {"epochs": 2},
}  # fmt: skip
"""Settings of the published recursion, which diverges at the rates of constrained models, and learns more from the last
recursions than from all of them. On the two tasks where it learns slowly, six times the updates; on the one where an
epoch takes it six minutes, as many as a quarter of an hour allows."""

CONVOLUTIONAL: dict[str, Any] = {"lr": 5e-3, "clip": 1.0, "supervise_from": 0.3}
CONVOLUTIONAL_OF: dict[str, dict[str, Any]] = {
    "parity": {"epochs": 36}, "addition": {"epochs": 36}, "mazes": {"epochs": 12},
}  # fmt: skip
"""Settings of the recurrent convolutional network, found by a few trials on seeds 0 and 1."""


@dataclass(frozen=True)
class Job:
    """One (task, variant, seed), in its full or in its quick form."""

    task: str
    variant: str
    seed: int
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.task}.{self.variant}.{self.seed}"

    @property
    def phases(self) -> tuple[str, ...]:
        if self.variant == "solver":
            return ("solve",)
        proved = ("certified",) if self.quick else PROVED
        return ("learn", "prove") if self.variant in proved else ("learn",)

    def config(self) -> RunConfig:
        """The training run.

        Raises:
            ValueError: a variant that the task does not have.
        """
        named = f"{self.task}-{self.variant}"
        if named in RECIPES:
            config = recipe(named)
        elif self.variant in DERIVED and self.variant in variants(self.task):
            config = DERIVED[self.variant](certified(self.task), self.task)
        else:
            raise ValueError(f"expected a variant among {', '.join(variants(self.task))}, found {self.variant!r}")
        config = config.with_seed(self.seed)
        return quick(config) if self.quick else config

    def load(self, config: RunConfig) -> Task:
        """The task; for a quick run with few rows to test on and to train on, whatever its options are."""
        task = config.load()
        if not self.quick:
            return task
        train, test = (Split(s.x[:rows], s.y[:rows]) for s, rows in ((task.train, 128), (task.test, 16)))
        return replace(task, train=train, test=test)

    def build(self, config: RunConfig, task: Task) -> ConfiguredModel:
        """The untrained model. What is compared by its size gets the size that the comparison asks for."""
        if self.variant not in SIZED or f"{self.task}-{self.variant}" in RECIPES:
            return config.build(task)
        if self.variant == "stack":
            return stacked(config, task)
        if self.variant in FREE_VARIANTS:
            wanted: float = replace(self, variant="certified").config().build(task).parameter_count
            attention = [published(width, factor) for width in WIDTHS for factor in FACTORS]
            sizes = attention if self.variant == "unconstrained" else [{"features": width} for width in CHANNELS]
        else:
            wanted = LARGER * stacked(config, task).parameter_count
            sizes = [{**config.model_options, **scaled(config.model_options, factor)} for factor in SCALES]
        models = (replace(config, model_options=size).build(task) for size in sizes)
        return min(models, key=lambda model: abs(model.parameter_count - wanted))

    def solver_options(self) -> dict[str, Any]:
        """What `load_task` takes for a task without training; another seed is another system."""
        options = SOLVERS[self.task] | {"seed": self.seed}
        return options | {"size": 16} if self.quick else options


def tasks() -> list[str]:
    """Every task with a recipe of its own, the problems that extend one, and those that need no training."""
    return [*(name for name in RECIPES if name in TASKS and name not in LEFT_OUT), *EXTENDED, *SOLVERS]


def variants(task: str) -> list[str]:
    """The variants of a task, in the order of `VARIANTS`."""
    if task in SOLVERS:
        return ["solver"]
    curricula = ("fixed", "learned") if task in LEVELS else ()
    stacks = ("stack", "single") if task in STACKED else ()
    free = FREE_VARIANTS if task in LOCAL else ("unconstrained",)
    derived = curricula if task in EXTENDED else ("certified", *free, "twin", *stacks, *curricula)
    return [name for name in VARIANTS if name in derived or f"{task}-{name}" in RECIPES]


def certified(task: str) -> RunConfig:
    """The recipe that the variants of a task are derived from."""
    base, options, changes = EXTENDED.get(task, (task, {}, {}))
    config = recipe(base)
    settings = replace(config.settings, **changes)
    return replace(config, task_options={**config.task_options, **options}, settings=settings)


def steps(config: RunConfig, model: ConfiguredModel) -> int:
    """K: what the run names, what a causal model settles after, else the largest depth it was trained at."""
    return config.steps or model.settles or config.settings.depth[1]


def published(width: int, factor: int) -> dict[str, Any]:
    """Options of the published recursion: features a token, and hidden units a feature."""
    return {"features": width, "hidden": factor * width, "heads": 2, "mixing": "attention"}


def _unconstrained(config: RunConfig, task: str) -> RunConfig:
    """The published recursion, with the same data and depths, cross-entropy alone, and settings of its own (`FREE`).

    `Job.build` gives it its width. Its embeddings of places fit one size alone, so it is measured at the size it is
    trained at.
    """
    found: dict[str, Any] = {"lr": min(config.settings.lr, FREE_LR), **FREE, **PLAIN, **FREE_OF.get(task, {})}
    settings = replace(config.settings, **found)
    return replace(
        config, model="Unconstrained", model_options=published(WIDTHS[0], FACTORS[0]), size=None, settings=settings
    )


def _convolutional(config: RunConfig, task: str) -> RunConfig:
    """The recurrent convolutional network, with the same data and depths, cross-entropy alone; `Job.build` sizes it."""
    settings = replace(config.settings, **{**PLAIN, **CONVOLUTIONAL, **CONVOLUTIONAL_OF.get(task, {})})
    return replace(config, model="DeepThinking", model_options={"features": CHANNELS[0]}, size=None, settings=settings)


def scaled(options: Mapping[str, Any], factor: float) -> dict[str, int]:
    """The widths among these options, times a factor."""
    return {name: round(factor * options[name]) for name in ("features", "hidden") if name in options}


def stacked(config: RunConfig, task: Task) -> Stack:
    """A cascade: every model but the first sees the answer of the one before it beside the input."""
    own = config.build(task).config
    own |= {"name": config.model, "hidden": own["hidden"] // 2}
    del own["seed"]  # the stack's seed counts on from part to part
    later = {**own, "channels": own["channels"] + task.classes}
    return Stack([own, *[later] * (PARTS - 1)], seed=config.settings.seed)


def _alone(config: RunConfig, task: str) -> RunConfig:
    """At the size it is trained at and, as a second part lags behind the first, after the largest depth; where it is
    trained as settled, after as many steps as that takes."""
    steps = None if config.settings.gradient == "settled" else config.settings.depth[1]
    return replace(config, size=None, steps=steps, settings=replace(config.settings, **PLAIN))


def _twin(config: RunConfig, task: str) -> RunConfig:
    """The same model, trained at depth 1 and read after one step."""
    alone = {"depth": (1, 1), "supervise_from": 0.0, "recall": 0.0, "gradient": "full"}
    settings = replace(config.settings, epochs=TWIN_UPDATES * config.settings.epochs, **alone)  # type: ignore[arg-type]
    return replace(config, settings=settings, steps=1)


def _curriculum(kind: str) -> Callable[[RunConfig, str], RunConfig]:
    def derived(config: RunConfig, task: str) -> RunConfig:
        return replace(config, settings=replace(config.settings, curriculum=kind, levels=LEVELS[task]))

    return derived


DERIVED: dict[str, Callable[[RunConfig, str], RunConfig]] = {
    "certified": lambda config, task: config, "unconstrained": _unconstrained, "convolutional": _convolutional,
    "twin": _twin, "stack": _alone, "single": _alone, "fixed": _curriculum("fixed"), "learned": _curriculum("learned"),
}  # fmt: skip
