"""What was found, asked by task and variant: numbers over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.table import Json
from benchmarks.tasks.jobs import Job

PERCENT = 100.0


@dataclass(frozen=True)
class Results:
    """All jobs with what is known of each.

    Attributes:
        known: by the job's name: phase → what it reported.
    """

    jobs: Sequence[Job]
    known: dict[str, Json]

    def of(self, task: str, variant: str = "certified") -> list[Json]:
        """One entry a seed, without those of which nothing is known."""
        found = [self.known[j.name] for j in self.jobs if (j.task, j.variant) == (task, variant)]
        return [k for k in found if k]

    def seeds(self, task: str, variant: str = "certified") -> int:
        """How many seeds were asked for."""
        return sum((j.task, j.variant) == (task, variant) for j in self.jobs)

    def tasks(self, *needed: str) -> list[str]:
        """Tasks of which there are results of all these variants, in order."""
        names = dict.fromkeys(job.task for job in self.jobs)
        return [name for name in names if all(self.of(name, variant) for variant in needed)]

    def each(self, task: str, variant: str, ask: Callable[[Json], Any]) -> list[Any]:
        """What is found in the results of each seed, where it is."""
        return [value for known in self.of(task, variant) if (value := _asked(ask, known)) is not None]


def _asked(ask: Callable[[Json], Any], known: Json) -> Any:
    try:
        return ask(known)
    except KeyError:
        return None


def scale(task: str) -> tuple[float, str]:
    """What a metric is multiplied with to be read, and its unit then: shares in per cent, decibels as they are."""
    return (1.0, "dB") if task == "denoise" else (PERCENT, "%")


def where(known: Json, deployed: bool) -> Json:
    """The measurement along the loop: at the size of the deployment, or at the one trained at."""
    learned = known["learn"]
    found: Json = learned.get("deployed", learned["trained"]) if deployed else learned["trained"]
    return found


def metric(times: int, deployed: bool = False, name: str = "metric") -> Callable[[Json], float]:
    """Asks for the metric at `times` K steps (0: after one step)."""

    def ask(known: Json) -> float:
        found = where(known, deployed)
        at: Json = found["at"][str(times * found["K"] or 1)]
        return float(at[name])

    return ask


def best(known: Json) -> float:
    """The metric at the model's best number of steps, chosen on the test split: kind to the model."""
    return float(max(known["learn"]["trained"]["curve"].values()))


def proved(known: Json) -> bool:
    return bool(known["prove"]["verdict"] == "PROVED")


def seconds(known: Json, *names: str) -> float:
    """Processor seconds of these parts, of all without any."""
    spent = [(n, s) for result in known.values() for n, s in result.get("seconds", {}).items()]
    return float(sum(s for n, s in spent if not names or n in names))


def listed(values: Iterable[float], digits: int = 4) -> str:
    return ", ".join(f"{value:.{digits}g}" for value in values)


def average(values: Sequence[float]) -> float | None:
    return mean(values) if values else None
