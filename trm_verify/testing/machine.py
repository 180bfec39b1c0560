"""A state machine that hands one state from model to model, deeply, and looks for drift between float32 and float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trm_verify.testing.chain import Chain
from trm_verify.testing.strategies import Given, inputs, states
from trm_verify.testing.subjects import Subject


def chain_machine(
    models: Sequence[Given], *, tolerance: float = 1e-3, steps: int = 200, bound: float = 4.0, eps: float = 0.125
) -> type[RuleBasedStateMachine]:
    """A Hypothesis state machine over models whose states have one size.

        TestChain = chain_machine([make_first, make_second]).TestCase

    Its rules run any of the models for up to `steps` steps on an input of its own, move the state by up to `eps`, or
    start again within `bound`. After each, the float32 state and the float64 state must be finite and within
    `tolerance` of each other, relative to the state. A failure shrinks to few operations and few steps.

    Raises:
        ValueError: the models have states of different sizes.
    """
    subjects = [Subject.of(model) for model in models]
    Chain(subjects, tolerance)  # refuses what does not fit before Hypothesis runs
    runs: Any = st.one_of(
        [st.tuples(st.just(i), inputs(subject), st.integers(1, steps)) for i, subject in enumerate(subjects)]
    )

    class ChainMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.chain = Chain(subjects, tolerance)

        @rule(run=runs)
        def run(self, run: tuple[int, list[float] | None, int]) -> None:
            self.chain.apply(("run", *run))

        @rule(by=states(subjects[0], bound=eps))
        def move(self, by: list[float]) -> None:
            self.chain.apply(("move", by))

        @rule(state=states(subjects[0], bound=bound))
        def restart(self, state: list[float]) -> None:
            self.chain.apply(("restart", state))

        @invariant()
        def float32_and_float64_stay_together(self) -> None:
            self.chain.check()

    return ChainMachine
