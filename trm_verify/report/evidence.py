"""The numbers behind the figures: what is proved comes from checked claims, what is measured from the saved model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from trm_verify.kernel.claims import Answer, Convergence, Encloses, FixedPointAnswer, Run
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.expect import describe
from trm_verify.kernel.graph import Function, Graph
from trm_verify.kernel.linear import linear_forms
from trm_verify.kernel.norms import BlockNorm, MetricNorm, coordinate_scale
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.model import Damped
from trm_verify.report.reading import ModelDirectory
from trm_verify.report.text import above
from trm_verify.verification.deployed import Deployed

MOST_STEPS, SAMPLES = 240, 6
MOST_WORK = 20_000_000  # multiplications of long integers spent on a drawing
Labels = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """One inference. What is certified of it is None when it was only measured.

    Shape: states (steps + 1, n), logits (steps + 1, positions, classes), moved (steps,), distances (steps + 1,).
    """

    title: str
    states: np.ndarray
    logits: np.ndarray | None
    answers: tuple[Labels | None, ...]
    distances: np.ndarray | None = None
    final: int | None = None
    low: np.ndarray | None = None  # proved bounds of the logits at the fixed point, from each step; as `logits`
    high: np.ndarray | None = None

    @property
    def moved(self) -> np.ndarray:
        found: np.ndarray = np.abs(np.diff(self.states, axis=0)).max(axis=1)
        return found

    @property
    def errors(self) -> np.ndarray:
        """Distance to the last state, which stands for the fixed point."""
        found: np.ndarray = np.abs(self.states - self.states[-1]).max(axis=1)
        return found


@dataclass(frozen=True)
class Bound:
    """After k steps every coordinate is within ε · rate^(k − steps) of the fixed point, for every input in question."""

    epsilon: float
    steps: int
    rate: float

    def at(self, k: int) -> float:
        exponent = math.log10(self.epsilon) + (k - self.steps) * math.log10(max(self.rate, 1e-300))
        return float(10.0 ** min(max(exponent, -300.0), 300.0))


def bound(directory: ModelDirectory) -> Bound | None:
    """The first claim K(ε) about the model's own iteration: that of the model as a whole comes first."""
    claims = [claim for each in directory.certificates for claim in each.claims if isinstance(claim, Convergence)]
    return bound_of([claim for claim in claims if directory.deployed is None or _own(claim, directory.deployed)])


def _own(claim: Convergence, deployed: Deployed) -> bool:
    """Whether the claim is about the iteration that the model states."""
    iteration = deployed.spec.iteration
    if isinstance(iteration, Damped):
        alpha = iteration.alpha * (deployed.spec.state_size if len(iteration.alpha) == 1 else 1)
        return claim.operator.kind == "outer_damped" and claim.operator.alpha == alpha
    return claim.operator.kind == iteration


def bound_of(claims: Sequence[Convergence]) -> Bound | None:
    """The first K(ε) among claims.

    Each was accepted because constant · rateᴷ · initial · scale ≤ ε, so the same line bounds every other step.
    """
    for claim in claims:
        if claim.epsilon is not None and claim.steps is not None and claim.rate > 0:
            return Bound(above(claim.epsilon), claim.steps, above(claim.rate))
    return None


def certified_traces(directory: ModelDirectory) -> list[Trace]:
    """The audited inferences, with what each step proves about the logits at the fixed point."""
    found: list[Trace] = []
    for certificate in directory.certificates:
        runs = [claim for claim in certificate.claims if isinstance(claim, Run)]
        for claim, states in zip(runs, certificate.runs, strict=True):
            if certificate.valid is None or len(states) < 2:
                continue
            scale = coordinate_scale(claim.norm)
            distances = np.array([above(d * scale) for d in claim.distances])
            logits = None if directory.deployed is None else measured_logits(directory.deployed, states)
            low, high = _logit_bounds(certificate.valid.graph, claim, states)
            title = f"audited inference {len(found) + 1} ({certificate.name})"
            found.append(Trace(title, states, logits, claim.answers, distances, claim.final, low, high))
    return found


def measured_traces(directory: ModelDirectory, steps: int, seed: int = 0) -> list[Trace]:
    """A few inputs of the domain, run in the model's own floating point; none where the domain is not known."""
    deployed = directory.deployed
    if deployed is None or deployed.spec.iteration == "implicit" and not hasattr(deployed.model, "trace"):
        return []
    spec, x = deployed.spec, None
    if spec.input_shape is not None:
        generator = np.random.default_rng(seed)
        shape = (SAMPLES, *spec.input_shape)
        if spec.vocabulary is not None:
            x = torch.from_numpy(generator.integers(0, spec.vocabulary, shape))
        elif spec.domain is None:
            return []
        else:
            low, high = (np.array([float(v) for v in side]) for side in (spec.domain.lo, spec.domain.hi))
            x = torch.from_numpy(generator.uniform(low, high, (SAMPLES, len(low))).reshape(shape))
    found = []
    for row in range(SAMPLES if x is not None else 1):
        try:
            states = deployed.trace(None if x is None else x[row : row + 1], steps)
        except ValueError:  # an implicit model without a solver of its own
            return []
        if not np.isfinite(states).all():
            continue
        logits = measured_logits(deployed, states)
        answers = tuple(None if logits is None else tuple(int(v) for v in row) for row in _labels(logits, len(states)))
        found.append(Trace(f"input {row + 1}, drawn at random", states, logits, answers))
    return found


def _labels(logits: np.ndarray | None, count: int) -> Sequence[Sequence[int]]:
    return [[]] * count if logits is None else logits.argmax(axis=-1).tolist()


def measured_logits(deployed: Deployed, states: np.ndarray) -> np.ndarray | None:
    """The readout of each state in double precision. Shape: (steps + 1, positions, classes)."""
    if deployed.logits_shape is None:
        return None
    sizes = [math.prod(part) for part in deployed.spec.parts]
    parts = torch.split(torch.from_numpy(np.ascontiguousarray(states)), sizes, dim=1)
    shaped = [p.reshape(len(states), *shape) for p, shape in zip(parts, deployed.spec.parts, strict=True)]
    values = deployed.lowered.readout(shaped)
    found: np.ndarray = values.detach().numpy().reshape(len(states), -1, deployed.logits_shape[-1])
    return found


def _logit_bounds(graph: Graph, claim: Run, states: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """From each step, an enclosure of the logits at the fixed point: it lies in the ball of the certified distance."""
    if graph.readout is None:
        return None, None
    logits = graph.readout.nodes[graph.readout.outputs[0]]
    if logits.size != logits.shape[-1] or logits.size * graph.size * len(states) > MOST_WORK:
        return None, None  # drawn for one position only
    low, high = [], []
    for state, distance in zip(states, claim.distances, strict=True):
        try:
            ends = readout_over_ball(graph, claim.norm, state, distance)
        except CheckError:  # an activation that has no bounds there, or too much work: nothing is drawn
            return None, None
        low.append([a for a, _ in ends])
        high.append([b for _, b in ends])
    shape = (len(states), 1, logits.size)
    return np.array(low).reshape(shape), np.array(high).reshape(shape)


def readout_over_ball(
    graph: Graph, norm: BlockNorm | MetricNorm, centre: np.ndarray, radius: Fraction
) -> list[tuple[float, float]]:
    """Bounds of each logit over {N(z − centre) ≤ radius}: of an affine readout by its rows, of others by intervals."""
    if graph.readout is None:
        return []
    exact = [Fraction(float(v)) for v in centre]
    spread = norm.spread(radius)
    box = from_fractions([(c - s, c + s) for c, s in zip(exact, spread, strict=True)])
    over = evaluate(graph, graph.readout, box, Tensor((graph.input_size,)))
    logits = over[graph.readout.outputs[0]]
    ends = [logits.fraction(i) for i in range(logits.size)]
    forms = linear_forms(graph, graph.readout, over)
    if not forms.units:
        at = evaluate(graph, graph.readout, from_fractions([(c, c) for c in exact]), Tensor((graph.input_size,)))
        middle = at[graph.readout.outputs[0]]
        for i, row in enumerate(forms.outputs.rows):
            reach = radius * norm.support(row[: graph.size], forms.outputs.exp)
            (a, b), (low, high) = middle.fraction(i), ends[i]
            ends[i] = max(low, a - reach), min(high, b + reach)
    return [(-above(-a), above(b)) for a, b in ends]


@dataclass(frozen=True, eq=False)
class Enclosed:
    """A box that holds fixed points. Shape: low and high (n,)."""

    title: str
    low: np.ndarray
    high: np.ndarray
    margin: float | None = None  # of the answer over the whole box, as far as the box alone shows it

    @property
    def width(self) -> np.ndarray:
        found: np.ndarray = self.high - self.low
        return found


def enclosures(directory: ModelDirectory) -> list[Enclosed]:
    """The boxes of checked claims; where an answer is proved for the same inputs, with its margin over the box."""
    found: list[Enclosed] = []
    for certificate in directory.certificates:
        if certificate.valid is None:
            continue
        graph = certificate.valid.graph
        answers = [c for c in certificate.claims if isinstance(c, FixedPointAnswer)]
        for claim in certificate.claims:
            if not isinstance(claim, Encloses) or not claim.box.bounded:
                continue
            ends = [claim.box.fraction(i) for i in range(claim.box.size)]
            answer = next((a.answer for a in answers if a.domain == claim.domain), None)
            found.append(
                Enclosed(f"enclosure {len(found) + 1} ({certificate.name})",
                         np.array([-above(-a) for a, _ in ends]), np.array([above(b) for _, b in ends]),
                         None if answer is None else box_margin(graph, claim.box, answer))
            )  # fmt: skip
    return found


def box_margin(graph: Graph, box: Tensor, answer: Labels) -> float | None:
    """A lower bound of the smallest logit difference in favour of the answer, over a box of states."""
    if graph.readout is None:
        return None
    try:
        return _box_margin(graph, graph.readout, box, answer)
    except CheckError:  # an activation that has no bounds over the box, or too much work
        return None


def _box_margin(graph: Graph, readout: Function, box: Tensor, answer: Labels) -> float | None:
    over = evaluate(graph, readout, box, Tensor((graph.input_size,)))
    logits = over[readout.outputs[0]]
    forms = linear_forms(graph, readout, over)
    classes, least = logits.shape[-1], []
    exact = not forms.units and logits.size * classes * box.size <= MOST_WORK // 10
    middle = [(a + b) / 2 for a, b in map(box.fraction, range(box.size))]
    half = [(b - a) / 2 for a, b in map(box.fraction, range(box.size))]
    at = evaluate(graph, readout, from_fractions([(m, m) for m in middle]), Tensor((graph.input_size,)))
    centre = at[readout.outputs[0]]
    for position, label in enumerate(answer):
        own = position * classes + label
        for other in range(position * classes, (position + 1) * classes):
            if other == own:
                continue
            plain = logits.fraction(own)[0] - logits.fraction(other)[1]
            if exact:
                pairs = zip(forms.outputs.rows[own], forms.outputs.rows[other], strict=True)
                q = [abs(a - b) for a, b in pairs][: box.size]
                reach = sum((a * h for a, h in zip(q, half, strict=True)), Fraction(0)) * dyadic(1, forms.outputs.exp)
                plain = max(plain, centre.fraction(own)[0] - centre.fraction(other)[1] - reach)
            least.append(plain)
    return -above(-min(least)) if least else None


def settling(directory: ModelDirectory) -> list[tuple[str, int, Labels]]:
    """(certificate, step from which it is final, answer) of each answer that is proved for good, each once."""
    found = {
        describe(claim): (certificate.name, claim.steps, claim.answer)
        for certificate in directory.certificates
        for claim in certificate.claims
        if isinstance(claim, Answer) and not claim.at
    }
    return list(found.values())
