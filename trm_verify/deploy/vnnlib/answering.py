"""Answers to VNN-LIB queries about a model: is there an input of the boxes at whose fixed point the output is unsafe?

The outputs in question are those that stay: at the fixed point of an implicit model, and from some step on of a loop.
Every verdict rests on claims that the kernel accepted. "unsat" is PROVED: for all inputs of every box, each clause has
an inequality that is violated, strictly. "sat" is REFUTED: at one input all inequalities of some clause hold, with
room. A box that leaves the model's own domain is answered as the file states it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN
from fractions import Fraction
from math import floor, prod

import numpy as np
import torch
from torch import nn

from trm_verify.api import verify_fixed_point
from trm_verify.box import Box
from trm_verify.certificate import Certificate
from trm_verify.deploy.vnnlib.asking import SATISFIED, VIOLATED, asking, labels_of
from trm_verify.deploy.vnnlib.rechecking import stated
from trm_verify.deploy.vnnlib.specification import Atom, Clause, Specification
from trm_verify.deploy.vnnlib.syntax import VnnlibError
from trm_verify.deploy.vnnlib.writing import decimal
from trm_verify.model import unflatten_state
from trm_verify.result import PROVED, REFUTED, UNKNOWN, Checked, Verdict, VerificationResult, VerificationResults
from trm_verify.verification.session import Deployed, admissible

SAMPLES = 64  # inputs tried before any proof, over all boxes together
TRIALS = 4  # inputs that look unsafe in floating point, of which one has to be confirmed
MOST_DIGITS = 2000
Place = Box | None  # a box of inputs; None for the only input of a model without any
Point = tuple[Fraction, ...]


@dataclass(frozen=True)
class Counterexample:
    """An input, exactly, and its outputs in floating point."""

    x: Point
    y: tuple[float, ...]

    def text(self) -> str:
        """As the competitions of neural-network verifiers write it."""
        named = [f"(X_{i} {decimal(v, ROUND_HALF_EVEN, MOST_DIGITS)})" for i, v in enumerate(self.x)]
        return "(" + "\n ".join([*named, *(f"(Y_{j} {v!r})" for j, v in enumerate(self.y))]) + ")"


@dataclass(frozen=True)
class VnnlibResult:
    """The answer to a query.

    Attributes:
        verdict: PROVED, REFUTED or UNKNOWN.
        word: the same in the words of the competitions: unsat, sat, unknown or timeout.
        boxes: how many boxes of inputs the query has. proved: how many of them were shown to be safe.
        reason: why it is unknown.
        counterexample: when REFUTED.
        certificates: of what the verdict rests on. Each is about the model's weights, and about its graph or the same
            graph with inequalities as its readout.
    """

    verdict: Verdict
    word: str
    boxes: int
    proved: int = 0
    reason: str = ""
    counterexample: Counterexample | None = None
    certificates: tuple[Certificate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def text(self) -> str:
        """The word, and the counterexample below it."""
        return self.word if self.counterexample is None else f"{self.word}\n{self.counterexample.text()}"


def verify_vnnlib(
    model: nn.Module | Deployed,
    specification: Specification,
    *,
    timeout: float | None = None,
    norm: str = "auto",
    seed: int = 0,
) -> VnnlibResult:
    """Answer a query.

    Complete where `verify_fixed_point` is: for models and readouts that are piecewise linear, up to inputs at which an
    inequality holds with equality.

    Args:
        model: see `verify_fixed_point`. Its input, flattened, is X; its logits, flattened, are Y.
        specification: what `read` or `parse` returns.
        timeout: seconds in all. norm: where to look for a contraction. seed: of the inputs that are tried.

    Raises:
        VnnlibError: the query is about another number of inputs or outputs, or the model has no logits.
        ExportError: the model cannot be exported exactly. ValueError: its description is wrong.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected timeout >= 0 seconds, found {timeout!r}")
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    search = _Search(Deployed.of(model, seed), specification, deadline, norm, seed)
    left: dict[Place, str] = {}
    found = search.refuted(search.samples())
    if found is None:
        for clauses, boxes in specification.properties.items():
            left |= search.left_open(clauses, boxes)
        found = search.refuted(search.tips) if left else None
    count = len(specification.cases)
    checked = search.checked if found is None else [found[1]]
    certificates, proved = tuple(each for each, _ in checked), count - len(left)
    if found is not None or not left:
        word = "unsat" if found is None else "sat"
        said = stated(search.deployed, specification, [valid for _, valid in checked])
        if said != word:
            raise RuntimeError(f"expected certificates that say {word}, found that they say {said}: a defect")
        if found is not None:
            return VnnlibResult(REFUTED, word, count, counterexample=found[0], certificates=certificates)
        return VnnlibResult(PROVED, word, count, proved, certificates=certificates)
    word = "timeout" if time.monotonic() >= deadline else "unknown"
    return VnnlibResult(UNKNOWN, word, count, proved, next(iter(left.values())), certificates=certificates)


class _Search:
    """One query about one model.

    Attributes:
        checked: what was proved. tips: inputs that may be counterexamples, each with its box.
    """

    def __init__(self, deployed: Deployed, specification: Specification, deadline: float, norm: str, seed: int) -> None:
        self.deployed, self.specification, self.deadline = deployed, specification, deadline
        self.norm, self.seed = norm, seed
        self.checked: list[Checked] = []
        self.tips: list[tuple[Place, np.ndarray]] = []
        shape, logits = deployed.spec.input_shape, deployed.logits_shape
        if logits is None:
            raise VnnlibError("expected a model with a readout(z), whose logits are Y, found none")
        self.shape, self.logits = shape or (), logits
        expected = 0 if shape is None else prod(shape), prod(logits)
        found = specification.inputs, specification.outputs
        if expected != found:
            raise VnnlibError(
                f"expected {expected[0]} inputs X and {expected[1]} outputs Y, as the model has, found {found[0]} and "
                f"{found[1]}"
            )

        try:
            for box in specification.cases:
                if box is not None:
                    admissible(box, deployed.spec.vocabulary)
        except ValueError as error:
            raise VnnlibError(f"{error}; there is nothing to check") from error

    def samples(self) -> list[tuple[Place, np.ndarray]]:
        """Inputs to try first: the middle of every box, then some of its corners and points inside."""
        rng = np.random.default_rng(self.seed)
        each = max(SAMPLES // len(self.specification.cases), 1)
        found: list[tuple[Place, np.ndarray]] = []
        for box in self.specification.cases:
            if box is None:
                return [(None, np.zeros(0))]
            lo, hi = box.floats()
            parts = rng.random((each, box.size))
            parts[::2] = parts[::2] > 0.5
            parts[0] = 0.5
            found += [(box, lo * (1 - part) + hi * part) for part in parts]
        return found

    def refuted(self, inputs: Sequence[tuple[Place, np.ndarray]]) -> tuple[Counterexample, Checked] | None:
        """An input, exactly in its box, at which some clause is shown to hold; None where none was confirmed."""
        places = [(box, self._inside(box, x)) for box, x in inputs]
        if not places:
            return None
        likely = [
            (max(_margin(atom, y) for atom in clause), point, y, clause)
            for (box, point), y in zip(places, self._outputs([point for _, point in places]), strict=True)
            for clause in self.specification.cases[box]
        ]
        for worst, point, y, clause in sorted(likely, key=lambda each: each[0])[:TRIALS]:
            if worst > 0 or time.monotonic() > self.deadline:
                break
            at = Box(list(point), list(point)) if point else None
            ((reason, _),), checked = self._ask([clause], SATISFIED, [at])
            if not reason and checked is not None:
                return Counterexample(point, tuple(y)), checked
        return None

    def left_open(self, clauses: Sequence[Clause], boxes: Sequence[Place]) -> dict[Place, str]:
        """The boxes in which not every clause is shown to be violated throughout, each with the reason."""
        if time.monotonic() > self.deadline:
            return dict.fromkeys(boxes, "not reached: the time was used up")
        found, checked = self._ask(clauses, VIOLATED, boxes, labels_of(clauses, self.logits))
        if checked is not None:
            self.checked.append(checked)
        self.tips += [(box, x) for box, (_, x) in zip(boxes, found, strict=True) if x is not None]
        return {box: reason for box, (reason, _) in zip(boxes, found, strict=True) if reason}

    def _ask(
        self, clauses: Sequence[Clause], answer: int, boxes: Sequence[Place], labels: tuple[int, ...] | None = None
    ) -> tuple[list[tuple[str, np.ndarray | None]], Checked | None]:
        """Whether all clauses are violated (or all satisfied) throughout each box.

        Args:
            labels: the model's own answer that says the same, if there is one; then the graph stays as it is.

        Returns:
            For each box why not ("" where it is shown) and a counterexample if there is one; and what was proved.
        """
        domain = _hull([box for box in boxes if box is not None])
        if labels is None:
            asked, labels = asking(self.deployed, clauses, domain), (answer,) * len(clauses)
        else:
            asked = replace(self.deployed, spec=replace(self.deployed.spec, domain=domain))
        given = None if domain is None else [box.expand(self.shape) for box in boxes if box is not None]
        left = None if self.deadline == float("inf") else max(self.deadline - time.monotonic(), 0.0)
        wanted = np.array(labels).reshape(asked.logits_shape[:-1] if asked.logits_shape else ())
        found = verify_fixed_point(asked, given, answer=wanted, norm=self.norm, budget=left, seed=self.seed)
        results: Iterable[VerificationResult] = found if isinstance(found, VerificationResults) else [found]
        said = [(self._why_not(each, labels), each.counterexample) for each in results]
        return said, found.checked

    def _why_not(self, result: VerificationResult, labels: tuple[int, ...]) -> str:
        """Why the outputs that stay are not shown to answer so; "" where they are."""
        implicit = self.deployed.spec.iteration == "implicit"
        if result.answer == labels and (bool(result) or not implicit):
            return ""
        reasons = [claim.reason for claim in result.claims.values() if claim.reason and not claim]
        return reasons[-1] if reasons else "it was not proved"

    def _inside(self, box: Place, x: np.ndarray) -> Point:
        """The input, moved into the box exactly."""
        if box is None:
            return ()
        whole = self.deployed.spec.vocabulary is not None
        box = admissible(box, self.deployed.spec.vocabulary)
        given = (Fraction(floor(v)) if whole else Fraction(v) for v in x.ravel().tolist())
        return tuple(min(max(v, lo), hi) for v, lo, hi in zip(given, box.lo, box.hi, strict=True))

    def _outputs(self, points: Sequence[Point]) -> list[list[float]]:
        """The logits at the fixed points of these inputs, in double precision, flattened."""
        x = None
        if self.deployed.spec.input_shape is not None:
            flat = np.array([[float(v) for v in point] for point in points]).reshape(len(points), *self.shape)
            x = torch.from_numpy(flat if self.deployed.spec.vocabulary is None else flat.astype(np.int64))
        states = torch.from_numpy(self.deployed.fixed_points(x))
        parts = unflatten_state(states, self.deployed.spec.parts)
        with torch.no_grad():
            logits = self.deployed.lowered.readout(parts if isinstance(parts, tuple) else (parts,))
        found: list[list[float]] = logits.reshape(len(points), -1).tolist()
        return found


def _margin(atom: Atom, outputs: Sequence[float]) -> float:
    """How far outputs are from satisfying an inequality, in floating point; at most 0 where they do."""
    return sum(float(value) * outputs[j] for j, value in atom.coefficients) - float(atom.bound)


def _hull(boxes: Sequence[Box]) -> Box | None:
    """A box that holds all of them."""
    if len(boxes) < 2:
        return boxes[0] if boxes else None
    ends = [box.floats() for box in boxes]
    return Box(np.min([lo for lo, _ in ends], axis=0), np.max([hi for _, hi in ends], axis=0))
