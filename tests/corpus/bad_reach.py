"""Certificates that must be refused: iterates that are not where the certificate needs them."""

from __future__ import annotations

from tests.corpus.bad import edit

R = "reach_of_a_shrinking_turn"

edit(
    "INCLUSION",
    "a step too early: not yet inside",
    "reach_too_early",
    R,
    steps__1__steps=4,
    steps__1__slopes={"exp": -4, "int": " ".join(["f"] * 8)},
    steps__2__steps=4,
    claims__0__steps=4,
)
edit("CONTEXT", "the box of another iterate", "reach_of_another_step", R, steps__2__steps=11, claims__0__steps=11)
edit(
    "NUMBER", "a slope is missing", "reach_slope_missing", R, steps__1__slopes={"exp": -4, "int": " ".join(["f"] * 19)}
)
edit(
    "NUMBER",
    "no step at all",
    "reach_without_a_step",
    R,
    steps__1__steps=0,
    steps__1__slopes={"exp": 0, "int": ""},
    steps__2__steps=0,
    claims__0__steps=0,
)
edit(
    "CONTEXT",
    "the iterates of another operator",
    "reach_of_the_undamped_loop",
    R,
    steps__0__operator={"outer_damped": {"exp": -1, "int": "1"}},
    claims__0__operator={"outer_damped": {"exp": -1, "int": "1"}},
)
edit(
    "INCLUSION",
    "slopes that fit nothing give a large box",
    "reach_with_steep_slopes",
    R,
    steps__1__slopes={"exp": 0, "int": " ".join(["9"] * 20)},
)
edit("PREMISE", "an iterate alone, without an invariant box", "reach_without_invariance", R, steps__2__premises=[1])
edit("UNSUPPORTED", "an implicit model has no iterates", "reach_of_an_implicit_model", R, steps__1__operator="implicit")
