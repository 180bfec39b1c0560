"""`norm="auto"`: contraction in the best norm found, from cheap provers to dear ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from typing import Protocol

from trm_verify.encode import Json
from trm_verify.provers.contraction import metric, radius, spectral
from trm_verify.provers.problem import Attempt, Problem

LARGE = 1024  # smaller side of a matrix above which ℓ2 witnesses are made only when asked for


class Prover(Protocol):
    """A strategy. `limit` is the best rate proved so far when there is no point in much work for another."""

    def __call__(self, problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt: ...


PROVERS: dict[str, Prover] = {
    "linf": radius.prove_linf,
    "l2": spectral.prove_l2,
    "parts": spectral.prove_parts,
    "tokens": spectral.prove_tokens,
    "metric": metric.prove_metric,
}


def _applies(problem: Problem, name: str) -> str:
    """Why a prover is not worth trying under `auto`; empty when it is."""
    shapes = problem.graph.state
    if name == "parts" and len(shapes) == 1:
        return "the state has one part"
    if name == "tokens" and all(prod(s[:-1]) == 1 for s in shapes):
        return "the state has no token axis"
    if name in ("l2", "parts", "tokens"):
        sides = [min(problem.graph.step.nodes[i].shape) for i in spectral.needed_matrices(problem)]
        if max(sides, default=0) > LARGE:
            return f"a matrix is larger than {LARGE}; ask for norm={name!r} to try it all the same"
    if name == "metric" and problem.graph.size > LARGE:
        return "the state is too large for a dense metric"
    return ""


def contraction_attempts(
    problem: Problem, domain: Json, region: Json, norm: str = "auto", provers: Sequence[str] | None = None
) -> Iterator[Attempt]:
    """One attempt a strategy, as they finish.

    Raises:
        ValueError: an unknown norm or prover.
    """
    names = list(PROVERS) if provers is None else list(provers)
    if norm != "auto":
        names = [name for name in names if name == norm]
    unknown = [n for n in (*(provers or ()), *(() if norm == "auto" else (norm,))) if n not in PROVERS]
    if unknown or not names:
        raise ValueError(f"expected norms and provers among auto, {', '.join(PROVERS)}; found {unknown or norm}")
    asked = norm != "auto" or provers is not None
    limit: Fraction | None = None
    for name in names:
        skipped = "" if asked else _applies(problem, name)
        if skipped:
            yield Attempt(name, name, 0.0, reason=f"skipped: {skipped}")
            continue
        attempt = PROVERS[name](problem, domain, region, None if asked else limit)
        if attempt.rate is not None:
            limit = attempt.rate if limit is None else min(limit, attempt.rate)
        yield attempt


def best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The proved attempt with the smallest rate."""
    return min((a for a in attempts if a.rate is not None), key=lambda a: a.rate or 0, default=None)
