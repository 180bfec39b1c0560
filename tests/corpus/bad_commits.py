"""Refusals of rounds that commit: too early, too late, without a margin, or from another input than the round's own."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good import whole
from tests.corpus.good_commits import SHOWN, dominoes, matrix, rounds
from tests.corpus.sheet import F, Nodes, Sheet, dyadic, graph, real, stored, vector

DOMINOES, LEADER = "commits_one_after_the_other", "commits_after_the_leader_changes"
OPEN = [1, 0, 0]

edit("CLAIM", "fewer iterations a round", "commits_too_soon", DOMINOES, claims__3__steps=11)
edit("CLAIM", "a smaller threshold: with it the last cell might be sure as well", "commits_above_less", DOMINOES,
     claims__3__threshold=dyadic(F(1, 4)))  # fmt: skip
edit("CLAIM", "a larger threshold: with it no cell might be sure", "commits_above_more", DOMINOES,
     claims__3__threshold=dyadic(100))  # fmt: skip
edit("CLAIM", "a cell that is said to be committed a round before it is", "commits_claimed_early", DOMINOES,
     claims__3__committed=[0, 1, 1, 0])  # fmt: skip
edit("CLAIM", "a cell that is never committed, said to be", "commits_claimed_for_more", DOMINOES,
     claims__3__committed=[0, 1, 2, 3])  # fmt: skip
edit("CLAIM", "another answer than the rounds end with", "commits_to_something_else", DOMINOES,
     claims__3__answer=[0, 0, 0, 1])  # fmt: skip
edit("CLAIM", "another channel as the blank", "commits_another_blank", DOMINOES, claims__3__blank=1)
edit("CLAIM", "the damped loop, which may be elsewhere", "commits_damped", DOMINOES,
     claims__3__operator={"outer_damped": vector([F(1, 2)])})  # fmt: skip
edit("CLAIM", "every input", "commits_for_every_input", DOMINOES, claims__3__domain=0)
edit("CLAIM", "the answer of one round is not that of several", "commits_is_no_answer", DOMINOES,
     claims__3={"step": 3, "claim": "answer", "operator": "picard", "domain": 2, "answer": [0, 0, 1, 1],
                "steps": 12})  # fmt: skip
edit("WITNESS", "a round without a commitment before the last: there the loop stops", "commits_with_a_gap", DOMINOES,
     steps__3__committed=[0, 1, 3, 0], claims__3__committed=[0, 1, 3, 0])  # fmt: skip
edit("WITNESS", "a given cell among the committed ones", "commits_what_is_given", DOMINOES,
     steps__3__committed=[1, 1, 2, 0], claims__3__committed=[1, 1, 2, 0])  # fmt: skip
edit("WITNESS", "rounds for three of four cells", "commits_some_cells", DOMINOES, steps__3__committed=[0, 1, 2])
edit("WITNESS", "a negative threshold", "commits_below_zero", DOMINOES, steps__3__threshold=dyadic(-1))
edit("WITNESS", "rivals of fewer classes than are undecided", "commits_with_few_rivals", DOMINOES,
     steps__3__rivals=[1, 0] * 3)  # fmt: skip
edit(
    "MARGIN", "a class that is its own rival", "commits_without_a_rival", DOMINOES, steps__3__rivals=[1, 0] * 3 + [0, 0]
)
edit("MARGIN", "rivals that are far below the leader of some inputs", "commits_with_weak_rivals", LEADER,
     steps__3__rivals=[2, 2, 1], steps__3__threshold=dyadic(F(1, 4)), claims__3__threshold=dyadic(F(1, 4)))  # fmt: skip
edit("NUMBER", "a class beyond the last as a rival", "commits_with_a_stranger", DOMINOES,
     steps__3__rivals=[1, 0] * 3 + [2, 0])  # fmt: skip
edit("NUMBER", "a channel beyond the last as the blank", "commits_no_blank", DOMINOES, steps__3__blank=3)
edit("NUMBER", "a centre for two of three rounds", "commits_with_few_centers", DOMINOES,
     steps__3__centers=vector([0] * 16))  # fmt: skip
edit("PREMISE", "a contraction in place of a convergence", "commits_by_contraction", DOMINOES, steps__3__premises=[0])
edit("PREMISE", "no premise", "commits_by_itself", DOMINOES, steps__3__premises=[])
edit("BOX", "a cell that is open for some inputs only", "commits_what_may_be_open", DOMINOES,
     boxes__2__lo=vector([[0, F(63, 64), 0], [F(1, 2), 0, 0], OPEN, OPEN]))  # fmt: skip
edit("UNSUPPORTED", "every input: open or not", "commits_everywhere", DOMINOES, steps__3__domain=0)
edit("MARGIN", "the centres of another round", "commits_about_elsewhere", DOMINOES,
     steps__3__centers=vector([100] * 24))  # fmt: skip
for name, text in {
    "commits_expected_sooner": "commits(rounds<=2)", "commits_expected_at_another_threshold": "commits(threshold=1/2)",
    "commits_expected_another_blank": "commits(blank=1)", "commits_expected_otherwise": "commits(committed=0-1-1-0)",
}.items():  # fmt: skip
    edit("EXPECTED", "the caller wanted another claim", name, DOMINOES, "--expect", text)


@refused("MARGIN", "a cell that is sure only after its neighbour is part of the input")
def commits_too_early() -> Sheet:
    return dominoes(committed=[0, 1, 1, 0])


@refused("MARGIN", "a cell that is sure and left open: the model would commit it")
def commits_too_late() -> Sheet:
    return dominoes(committed=[0, 0, 0, 0])


@refused("MARGIN", "two cells in the wrong order")
def commits_in_another_order() -> Sheet:
    return dominoes(committed=[0, 2, 1, 0])


@refused("MARGIN", "a largest logit that is above the others by less than the threshold")
def commits_what_is_not_sure() -> Sheet:
    return dominoes(committed=[0, 1, 2, 3])


@refused("MARGIN", "the wrong class")
def commits_the_wrong_class() -> Sheet:
    return dominoes(answer=[0, 1, 0, 1])


@refused("MARGIN", "another answer at a cell that stays open")
def commits_and_answers_otherwise() -> Sheet:
    return dominoes(answer=[0, 0, 1, 0])


@refused("MARGIN", "another answer at a cell that is given")
def commits_and_contradicts_what_is_given() -> Sheet:
    return dominoes(answer=[1, 0, 1, 1])


@refused("MARGIN", "no iteration at all: the state is still the initial one")
def commits_before_it_has_begun() -> Sheet:
    return dominoes(steps=0)


@refused(
    "CONTEXT", "a loop that is known to converge for the inputs of the first round, not for those with commitments"
)
def commits_out_of_the_domain() -> Sheet:
    return dominoes(known=SHOWN)


def fixed(gap: Any, committed: list[int], threshold: Any = 1) -> Sheet:
    """One cell whose logits do not depend on the state, and are `gap` apart."""
    nodes = Nodes()
    seen = nodes.linear(nodes.add("reshape", nodes.add("input"), shape=[3]), "U")
    out = nodes.add("add", nodes.add("reshape", seen, shape=[1, 2]), nodes.scale(nodes.state(), 0))
    readout = Nodes()
    logits = readout.function(readout.scale(readout.state(), 1))
    sheet = Sheet(graph(nodes.function(out), [[1, 2]], real(1, 3), None, logits),
                  {"U": stored(matrix(2, 3, {(0, 0): gap, (0, 1): gap}), "F64")})  # fmt: skip
    converges = whole(sheet, 0, sheet.block([1] * 2), sheet.all("input"))
    rounds(sheet, converges, [OPEN], [OPEN], [0], committed, threshold, 0, 1)
    return sheet


@refused("MARGIN", "logits that are apart by the threshold exactly, committed")
def commits_at_the_threshold() -> Sheet:
    return fixed(1, [1])


@refused("MARGIN", "logits that are apart by the threshold exactly, left open: a margin is strict on both sides")
def commits_not_at_the_threshold() -> Sheet:
    return fixed(1, [0])


@refused("MARGIN", "equal logits at a threshold of 0: neither is above the other")
def commits_to_a_tie() -> Sheet:
    return fixed(0, [1], threshold=0)


@refused("MARGIN", "equal logits in the last round: no answer")
def commits_and_ends_in_a_tie() -> Sheet:
    return fixed(0, [0])


@refused("SHAPE", "an input that has no channel for the blank")
def commits_without_a_blank() -> Sheet:
    nodes, readout = Nodes(), Nodes()
    out = nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.add("input"))
    logits = readout.function(readout.scale(readout.state(), 1))
    sheet = Sheet(graph(nodes.function(out), [[1, 2]], real(1, 2), None, logits))
    converges = whole(sheet, F(1, 2), sheet.block([1] * 2), sheet.all("input"))
    rounds(sheet, converges, [[0, 1]], [[0, 1]], [0], [0], 1, 0, 9)
    return sheet
