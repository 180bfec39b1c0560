"""Ready-made properties: each returns a Hypothesis test, for pytest to collect under any name or to be called.

    test_never_expands = never_expands(make_model, rate=0.9)

They look for counterexamples in float64, with gradients where those help; what they do not find may still be there.
A certificate is the proof; a property is a test of what certificates, code and readers take for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trm_verify.box import Box
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.operators import parse_operator
from trm_verify.result import VerificationResult
from trm_verify.testing.checks import Norm, check_answer, check_contraction, check_enclosure, check_run, norm_of
from trm_verify.testing.strategies import Given, adversarial, ball, inputs, pairs, states
from trm_verify.testing.subjects import Subject

Property = Callable[[], None]
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def never_expands(
    model: Given, result: VerificationResult | None = None, *, rate: float | None = None, norm: Norm = "linf",
    region: Box | None = None, bound: float = 4.0, settings: settings = SETTINGS,
) -> Property:  # fmt: skip
    """No pair of states gets further apart than the rate allows, in one application of the model's own iteration.

    Args:
        result: takes rate, norm and region from what it proves; or give them.
        bound: states are drawn within it where there is no region.

    Raises:
        ValueError: neither a rate nor a result that proves one.
    """
    subject = Subject.of(model)
    if result is not None:
        rate, norm, region = _proved_rate(subject, result)
    if rate is None:
        raise ValueError("expected a rate, or a result that proves one, found neither")
    limit = rate

    @settings
    @given(pair=pairs(subject, norm, bound=bound, region=region))
    def property(pair: tuple[list[float], list[float], list[float] | None]) -> None:
        check_contraction(subject, *pair, rate=limit, norm=norm)

    return property


def _proved_rate(subject: Subject, result: VerificationResult) -> tuple[float, Norm, Box | None]:
    operator = subject.deployed.operator
    own = parse_operator("picard" if operator == "implicit" else operator, subject.spec.state_size)
    for claim in () if result.checked is None else result.checked[1].claims:
        if isinstance(claim, Contraction) and claim.operator == own:
            region = None
            if claim.region.bounded:
                ends = [claim.region.fraction(i) for i in range(claim.region.size)]
                region = Box([lo for lo, _ in ends], [hi for _, hi in ends])
            return float(claim.rate), norm_of(claim.norm), region
    raise ValueError(f"expected a result that proves a contraction of the model's iteration, found\n{result.explain()}")


def answer_is_final(
    model: Given, x: Any = None, *, eps: Any = 0, result: VerificationResult | None = None,
    answer: int | Sequence[int] | None = None, steps: int | None = None, more: int = 50, settings: settings = SETTINGS,
) -> Property:  # fmt: skip
    """From `steps` on the answer stays, for inputs of the ball about x, however long the loop runs on (up to `more`).

    Args:
        result: takes answer and steps from what it proves; or give them.
        eps: radius of the ball in ℓ∞; half of the inputs are looked for with gradients.

    Raises:
        ValueError: neither an answer and steps, nor a result that proves them.
    """
    subject = Subject.of(model)
    if result is not None:
        answer, steps = result.answer, result.answer_steps
    if answer is None or steps is None:
        raise ValueError("expected answer= and steps=, or a result that proves them, found neither")
    labels, first = [answer] if isinstance(answer, int) else list(answer), steps
    if subject.spec.input_shape is None:
        near: st.SearchStrategy[list[float] | None] = st.none()
    elif subject.spec.vocabulary is not None:
        near = st.just(torch.as_tensor(x).reshape(-1).tolist())
    else:
        near = st.one_of(ball(subject, x, eps), adversarial(subject, x, eps, steps=min(max(first, 1), 30)))

    @settings
    @given(x=near, more=st.integers(0, more))
    def property(x: list[float] | None, more: int) -> None:
        check_answer(subject, x, answer=labels, steps=first, more=more)

    return property


def enclosure_holds(
    model: Given, x: Any = None, *, eps: Any = 0, result: VerificationResult | None = None,
    center: Sequence[float] | None = None, radius: Sequence[float] | None = None, bound: float = 4.0,
    steps: int = 2000, settings: settings = SETTINGS,
) -> Property:  # fmt: skip
    """Every fixed point that is found for an input of the ball lies in the enclosure, from whatever start.

    Args:
        x: the centre of the ball; None for the whole domain.
        result: takes the enclosure from it; or give centre and radius, flat.
        bound: starts are drawn within it.
        steps: of a run from such a start.

    Raises:
        ValueError: neither centre and radius, nor a result with an enclosure.
    """
    subject = Subject.of(model)
    if result is not None and result.enclosure is not None:
        center, radius = result.enclosure.center.tolist(), result.enclosure.radius.tolist()
    if center is None or radius is None:
        raise ValueError("expected center= and radius=, or a result with an enclosure, found neither")
    middle, reach = list(center), list(radius)
    whole = x is None or subject.spec.input_shape is None or subject.spec.vocabulary is not None
    near: st.SearchStrategy[Any] = inputs(subject) if whole else ball(subject, x, eps)
    if x is not None and subject.spec.vocabulary is not None:
        near = st.just(torch.as_tensor(x).reshape(-1).tolist())

    @settings
    @given(x=near, start=st.none() | states(subject, bound=bound))
    def property(x: list[float] | None, start: list[float] | None) -> None:
        check_enclosure(subject, x, center=middle, radius=reach, start=start, steps=steps)

    return property


def runs_agree(
    model: Given, *, steps: int = 50, rows: int = 3, tolerance: float = 1e-3, settings: settings = SETTINGS
) -> Property:
    """A run is the same twice, the same alone and in a batch, and the same as the exact graph's in float64.

    Args:
        steps: at most so many.
        rows: at most so many.
        tolerance: relative to the state; within it the model's own arithmetic may differ from float64.
    """
    subject = Subject.of(model)
    row = inputs(subject).map(lambda x: [] if x is None else x)

    @settings
    @given(rows=st.lists(row, min_size=1, max_size=rows), steps=st.integers(1, steps))
    def property(rows: list[list[float]], steps: int) -> None:
        check_run(subject, rows, steps=steps, tolerance=tolerance)

    return property
