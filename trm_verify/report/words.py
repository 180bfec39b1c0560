"""Claims in plain words, for readers who do not know the field's notation. Numbers keep the side they bound."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel.claims import (
    Answer,
    AtMostOne,
    Commits,
    Conclusion,
    Contraction,
    Convergence,
    Encloses,
    ExactlyOne,
    FixedPointAnswer,
    Invariant,
    Lipschitz,
    Refuted,
    Run,
)
from trm_verify.kernel.expect import rounded_down
from trm_verify.kernel.norms import coordinate_scale
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.tensor import Tensor
from trm_verify.report.text import above, labels, upper

NORMS = {
    "linf": "largest coordinate",
    "weighted_linf": "largest weighted coordinate",
    "l2": "Euclidean length",
    "mixed": "largest Euclidean length of a group of coordinates",
    "metric": "length in a fixed quadratic metric",
}
_REFUTED = {
    "exactly_one": "there is exactly one fixed point",
    "at_most_one": "there is at most one fixed point",
    "convergence": "every run settles at a fixed point",
    "contraction": "the step contracts",
}


def plain(claim: Conclusion) -> str:
    """One or two sentences that say what the claim says, and no more."""
    if isinstance(claim, Contraction):
        return (
            f"{_each(claim.operator)} brings any two states{_within(claim.region)} closer together: their distance "
            f"({NORMS[claim.norm.family]}) shrinks to at most {up(claim.rate, 6)} of what it was, "
            f"for {inputs(claim.domain)}."
        )
    if isinstance(claim, ExactlyOne):
        return (
            f"For {inputs(claim.domain)} there is exactly one fixed point{_within(claim.region)}: "
            "one state that the step leaves as it is."
        )
    if isinstance(claim, AtMostOne):
        return f"For {inputs(claim.domain)} there is at most one fixed point{_within(claim.region)}."
    if isinstance(claim, Convergence):
        return _convergence(claim)
    if isinstance(claim, Answer):
        if claim.at:
            after = f"After exactly {_steps(claim.steps, claim.operator)} the answer is {labels(claim.answer)}"
            return f"{after}, for {inputs(claim.domain)}."
        damped = "" if claim.operator.kind == "picard" else " of the damped iteration"
        return (
            f"From step {claim.steps}{damped} on the answer is {labels(claim.answer)}, however long it runs, "
            f"for {inputs(claim.domain)}."
        )
    if isinstance(claim, Commits):
        return _commits(claim)
    if isinstance(claim, FixedPointAnswer):
        at = f"At every fixed point{_within(claim.region)}"
        return f"{at} the answer is {labels(claim.answer)}, for {inputs(claim.domain)}."
    if isinstance(claim, Encloses):
        which = {"all": "Every fixed point", "one": "At least one fixed point", "the": "The one fixed point"}
        lies = f"lies in a known box, at most {up(box_radius(claim.box))} from its centre in every coordinate"
        return f"{which[claim.kind]}{_within(claim.region)} {lies}, for {inputs(claim.domain)}."
    if isinstance(claim, Invariant):
        return f"{_each(claim.operator)} that starts in {_states(claim.region)} ends in it, for {inputs(claim.domain)}."
    if isinstance(claim, Lipschitz):
        return (
            f"Moving the input by some distance moves the final logits by at most {up(claim.constant)} times as much "
            f"(Euclidean lengths), for {inputs(claim.domain)}."
        )
    if isinstance(claim, Run):
        return _run(claim)
    if isinstance(claim, Refuted):
        return _refuted(claim)
    return ""


def up(value: Fraction, digits: int = 4) -> str:
    """A decimal that is at least the value."""
    text = upper(above(value), digits)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def inputs(domain: Tensor) -> str:
    """A set of inputs."""
    if domain.size == 0:
        return "the model, which has no input"
    if not domain.bounded:
        return "every input"
    if domain.is_point:
        return "one given input"
    ends = {domain.fraction(i) for i in range(domain.size)}
    if len(ends) == 1:
        low, high = ends.pop()
        return f"every input with values from {_exactly(low)} to {_exactly(high)}"
    return f"every input within {up(box_radius(domain))} of a given one"


def box_radius(box: Tensor) -> Fraction:
    """Half the widest side."""
    return max(b - a for a, b in map(box.fraction, range(box.size))) / 2


def _within(region: Tensor) -> str:
    return "" if not region.bounded else f" in {_states(region)}"


def _states(region: Tensor) -> str:
    if not region.bounded:
        return "the space of all states"
    ends = {region.fraction(i) for i in range(region.size)}
    if len(ends) == 1:
        low, high = ends.pop()
        return f"the box of states with coordinates from {_exactly(low)} to {_exactly(high)}"
    return "a given box of states"


def _exactly(value: Fraction) -> str:
    """A number that is printed as it is, or with a sign that it is not."""
    text = f"{float(value):.6g}"
    return text if Fraction(text) == value else f"about {text}"


def _each(operator: Operator) -> str:
    if operator.kind == "implicit":
        return "The equation's step"
    return "Each step" if operator.kind == "picard" else "Each damped step"


def _steps(count: int, operator: Operator) -> str:
    return f"{count} {'' if operator.kind == 'picard' else 'damped '}step{'' if count == 1 else 's'}"


def _convergence(claim: Convergence) -> str:
    start = "the model's own start" if claim.start is None else "every start" + _within(claim.start)
    if claim.epsilon is not None and claim.steps is not None:
        return (
            f"From {start}, after {_steps(claim.steps, claim.operator)} every coordinate of the state is within "
            f"{up(claim.epsilon)} of its final value and stays there, for {inputs(claim.domain)}."
        )
    factor = "" if claim.constant <= 1 else f" {up(claim.constant)} times"
    return (
        f"From {start}, repeating the {'' if claim.operator.kind == 'picard' else 'damped '}step leads to the fixed "
        f"point: after k steps the distance "
        f"({NORMS[claim.norm.family]}) is at most{factor} {up(claim.rate, 6)} to the power k times the first one, "
        f"for {inputs(claim.domain)}."
    )


def _commits(claim: Commits) -> str:
    cells, rounds = sum(r > 0 for r in claim.committed), claim.rounds
    filled = (
        f"{cells} open cell{' is' if cells == 1 else 's are'} filled in for good" if cells else "no cell is filled in"
    )
    return (
        f"In {rounds} round{'' if rounds == 1 else 's'} of at least {_steps(claim.steps, claim.operator)}, {filled}: "
        f"a cell is, once one class leads every other by more than {_exactly(claim.threshold)}. "
        f"In the end the answer is {labels(claim.answer)}, for {inputs(claim.domain)}."
    )


def _run(claim: Run) -> str:
    radius = claim.radius * coordinate_scale(claim.norm)
    return (
        f"One recorded inference of {_steps(len(claim.distances) - 1, claim.operator)}: from step {claim.final} on "
        f"the answer is {labels(claim.answer)} and continuing exactly from there never changes it. The last state is "
        f"within {up(radius)} of the fixed point in every coordinate."
    )


def _refuted(claim: Refuted) -> str:
    region = "" if claim.region is None else _within(claim.region)
    if claim.answer is not None:
        where = "every run from its start" if claim.of == "answer" else f"every fixed point{region}"
        return (
            f"It is false that {where} answers {labels(claim.answer)} for {inputs(claim.domain)}: "
            "the certificate holds an exact counterexample."
        )
    rate = "" if claim.rate is None else f" at a rate of {rounded_down(claim.rate)} or less"
    norm = "" if claim.norm is None else f" ({NORMS[claim.norm.family]})"
    what = _REFUTED.get(claim.of, f"what {claim.of} says")
    return (
        f"It is false that {what}{rate}{norm}{region}, for {inputs(claim.domain)}: "
        "the certificate holds an exact counterexample."
    )
