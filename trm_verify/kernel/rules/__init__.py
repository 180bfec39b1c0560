"""The proof rules, one family a file. `RULES` is the closed table."""

from __future__ import annotations

from collections.abc import Callable

from trm_verify.kernel.claims import Conclusion
from trm_verify.kernel.context import Context, Witness
from trm_verify.kernel.rules import (
    answers,
    committing,
    contraction,
    divergence,
    enclosure,
    exhibited,
    fixed_point_answers,
    fixed_points,
    invariance,
    lipschitz,
    metric,
    refutation,
    row_gains,
    settled,
    several_steps,
    triangular,
    wellposed,
)

Rule = Callable[[Context, list[Conclusion], Witness], Conclusion]

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        contraction.spectral,
        contraction.spectral_abs,
        contraction.radius_contraction,
        contraction.damping,
        metric.metric_contraction,
        row_gains.row_gain,
        wellposed.monotone,
        wellposed.log_norm,
        wellposed.monotone_convergence,
        wellposed.log_norm_convergence,
        invariance.invariant_box,
        invariance.invariant_radius,
        invariance.invariant_ball,
        invariance.at_most_one,
        invariance.exactly_one,
        invariance.convergence,
        invariance.initial_bound,
        several_steps.several_steps,
        answers.answer_by_convergence,
        answers.answer_by_invariance,
        settled.answer_when_settled,
        answers.answer_at,
        answers.run,
        settled.settled_run,
        committing.commits,
        enclosure.enclosure,
        enclosure.reach,
        enclosure.located,
        fixed_points.fixed_points_in,
        fixed_points.duality,
        fixed_points.by_continuity,
        fixed_point_answers.fixed_point_answer,
        fixed_point_answers.no_fixed_point,
        fixed_point_answers.answer_by_fixed_point,
        fixed_point_answers.joined_domains,
        lipschitz.lipschitz,
        triangular.triangular,
        settled.settled_in,
        exhibited.exhibited,
        refutation.fixed_point_at,
        refutation.two_fixed_points,
        refutation.other_answer,
        refutation.cycle,
        refutation.expanding_pair,
        divergence.divergence,
    )
}
