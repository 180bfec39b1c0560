"""Refusals of row gains: subgraphs that are no function of one row, other sectors, other places, other numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good import whole
from tests.corpus.good_rows import (
    BIASES,
    HIGH,
    HIGH_GAINS,
    LOW,
    LOW_GAINS,
    a_row_gain_where_slopes_are_small,
    block,
    row_gain,
    scaled,
    two_timescales,
    two_timescales_by_row_gains,
)
from tests.corpus.sheet import F, Nodes, Sheet, dyadic, graph, stored, vector
from tests.corpus.witnesses import factor

ATTEND, TWO, LOCAL = "tokens_attend_then_sandwich", "two_timescales_by_row_gains", "a_row_gain_where_slopes_are_small"
LAST = F(1, 1 << 60)

# the inequality

edit("DEFINITE", "a gain below what the weights allow", "row_gain_too_small", ATTEND,
     steps__0__gains=vector([F(11, 16)]))  # fmt: skip
edit("DEFINITE", "the smaller of two gains given to the larger input", "row_gains_swapped", TWO,
     steps__0__gains=vector(LOW_GAINS[::-1]))  # fmt: skip
edit("DEFINITE", "no multipliers: nothing bounds the units", "row_gain_without_multipliers", TWO,
     steps__0__multipliers=vector([0, 0]))  # fmt: skip
edit("WITNESS", "a negative gain, whose square is that of the right one", "row_gain_negative", ATTEND,
     steps__0__gains=vector([F(-23, 32)]))  # fmt: skip
edit("WITNESS", "a negative multiplier", "row_gain_negative_multiplier", ATTEND,
     steps__0__multipliers=vector([F(17, 32), F(-17, 2)]))  # fmt: skip
edit("WITNESS", "multipliers for the units of every row", "row_gain_multipliers_of_all_rows", ATTEND,
     steps__0__multipliers=vector(scaled(F(17, 32)) * 3))  # fmt: skip
edit("WITNESS", "one gain for two inputs", "row_gain_of_one_input", TWO, steps__0__gains=vector([F(3, 4)]))
edit("INEQUALITY", "a rate below that of the gains, by one unit of a last place", "ulp_row_gain_rate", ATTEND,
     steps__1__rate=dyadic(F(23, 32) - LAST), claims__0__rate=dyadic(F(23, 32) - LAST))  # fmt: skip


@refused("DEFINITE", "the exact gain of a matrix, lowered by 2^-60")
def ulp_row_gain() -> Sheet:
    nodes = Nodes()
    z = nodes.state()
    out = nodes.linear(z, "W")
    sheet = Sheet(graph(nodes.function(out), [[2, 2]]), {"W": stored([[F(5, 8), 0], [0, F(5, 8)]])})
    step = sheet.step(
        "row_gain", domain=sheet.nothing(), region=sheet.all(), places=[{"inputs": [z], "output": out}],
        gains=vector([F(5, 8) - LAST]), multipliers=vector([]), factor=vector([0, 0, 0]),
    )  # fmt: skip
    whole(sheet, F(3, 4), sheet.block([1, 1], [[2, 2]]), sheet.nothing(), premises=[step])
    return sheet


# where it holds


@refused("CONTEXT", "gains of a region where tanh is flat, cited for all states")
def row_gain_region() -> Sheet:
    sheet = a_row_gain_where_slopes_are_small()
    sheet.steps[1]["region"] = sheet.claims[0]["region"] = sheet.all()
    return sheet


@refused("DEFINITE", "slopes of a smaller region in the gains of all states")
def row_gain_slopes_elsewhere() -> Sheet:
    sheet = a_row_gain_where_slopes_are_small()
    sheet.steps[0]["region"] = sheet.all()
    return sheet


edit(
    "PREMISE", "row gains where an invariant set belongs", "row_gain_as_invariant_set", LOCAL, steps__3__premises=[1, 0]
)


@refused("DEFINITE", "slopes of the token with the flattest activation, taken for both")
def row_gain_slopes_of_one_token() -> Sheet:
    nodes = Nodes()
    z = nodes.state()
    out = nodes.scale(nodes.add("tanh", nodes.add("add", z, nodes.tensor("b"))), 2)
    final = nodes.add("sub", out, nodes.constant([[F(29, 16)], [F(31, 16)]]))
    sheet = Sheet(graph(nodes.function(final), [[2, 1]]), {"b": stored(BIASES)})
    domain, region = sheet.nothing(), sheet.box([F(-1, 2)] * 2, [F(1, 2)] * 2)
    flat = (F(13, 512), F(13, 64))  # those of the second token
    cited = row_gain(sheet, domain, region, [([z], final)], [F(1, 2)], ([[F(1)]], [[F(2)]]), [F(4)], [flat])
    step = sheet.contraction(F(1, 2), sheet.block([1, 1]), domain, region, [cited])
    sheet.claim_contraction(step, F(1, 2), sheet.block([1, 1]), domain, region)
    return sheet


# subgraphs that are no function of one row


def tokens(make: Callable[[Nodes, int], tuple[int, int]], shape: Sequence[int] = (3, 2)) -> Sheet:
    """A step that a subgraph of gain 23/32 ends, from the nodes that `make` gives: (input of the place, argument)."""
    weights = block(F(33, 64), F(11, 16))
    nodes = Nodes()
    start, argument = make(nodes, nodes.state())
    out = nodes.linear(nodes.add("relu", nodes.linear(argument, "W1")), "W2")
    last = nodes.add("reshape", out, shape=list(shape))
    sheet = Sheet(graph(nodes.function(last), [list(shape)]), {"W1": stored(weights[0]), "W2": stored(weights[1])})
    domain, gain = sheet.nothing(), F(23, 32)
    cited = row_gain(sheet, domain, sheet.all(), [([start], out)], [gain], weights, scaled(F(17, 32)))
    whole(sheet, gain, sheet.block([1] * shape[0], [[shape[0], shape[1]]]), domain, premises=[cited])
    return sheet


@refused("UNSUPPORTED", "every token reads its neighbour: the rows of the result are not those of the input")
def row_gain_of_a_roll() -> Sheet:
    return tokens(lambda n, z: (z, n.add("select", z, axis=0, indices=[2, 0, 1])))


@refused("UNSUPPORTED", "a reshape that makes other rows of the same number")
def row_gain_of_a_transpose() -> Sheet:
    return tokens(lambda n, z: (z, n.add("permute", z, axes=[1, 0])), (2, 2))


@refused("UNSUPPORTED", "features that change places in one token only")
def row_gain_of_one_swap() -> Sheet:
    def make(n: Nodes, z: int) -> tuple[int, int]:
        first = n.add("slice", z, axis=0, start=0, stop=1, step=1)
        rest = n.add("slice", z, axis=0, start=1, stop=3, step=1)
        return z, n.add("concat", n.add("select", first, axis=1, indices=[1, 0]), rest, axis=0)

    return tokens(make)


@refused("SHAPE", "rows of another number between")
def row_gain_of_other_rows() -> Sheet:
    return tokens(lambda n, z: (z, n.add("reshape", z, shape=[3, 2])), (2, 3))


@refused("UNSUPPORTED", "a mean over tokens inside the subgraph")
def row_gain_of_a_mixture() -> Sheet:
    def make(n: Nodes, z: int) -> tuple[int, int]:
        thirds = n.constant([[F(1, 2), F(1, 4), F(1, 4)]] * 3)
        return z, n.add("matmul", thirds, z)

    return tokens(make)


@refused("UNSUPPORTED", "a way around the input: the state itself, added behind it")
def row_gain_around_the_input() -> Sheet:
    def make(n: Nodes, z: int) -> tuple[int, int]:
        half = n.scale(z, 1, 2)
        return half, n.add("add", half, z)

    return tokens(make)


@refused("WITNESS", "an input from which nothing leads to the output")
def row_gain_of_a_bystander() -> Sheet:
    sheet = two_timescales_by_row_gains()
    first, second = sheet.steps[0]["places"]
    first["inputs"].append(second["output"])
    return sheet


@refused("WITNESS", "one input named twice: its gains would add up")
def row_gain_of_twins() -> Sheet:
    sheet = two_timescales_by_row_gains()
    for place in sheet.steps[0]["places"]:
        place["inputs"].append(place["inputs"][0])
    return sheet


def cited(sheet: Sheet, places: Any, gains: Sequence[Fraction]) -> Sheet:
    """The two-timescale model with these places of the inner block."""
    domain, everywhere = sheet.all("input"), sheet.all()
    low = row_gain(sheet, domain, everywhere, places, gains, LOW, scaled(F(1, 2)))
    high_place = two_timescales(2, LOW, HIGH)[1]["high"]
    high = row_gain(sheet, domain, everywhere, high_place, HIGH_GAINS, HIGH, scaled(F(1, 2)))
    whole(sheet, F(7, 8), sheet.block([1] * 4, [[4, 2]]), domain, premises=[low, high])
    return sheet


@refused("WITNESS", "the output of a subgraph named as its input")
def row_gain_of_nothing() -> Sheet:
    sheet, places = two_timescales(2, LOW, HIGH)
    output = places["low"][0][1]
    return cited(sheet, [([output], output)], [F(3, 4)])


@refused("WITNESS", "the same copy twice")
def row_gain_of_one_copy_twice() -> Sheet:
    sheet, places = two_timescales(2, LOW, HIGH)
    return cited(sheet, [places["low"][0], places["low"][0]], LOW_GAINS)


@refused("WITNESS", "places whose inputs come in another order: the gains belong to other inputs")
def row_gain_of_crossed_copies() -> Sheet:
    sheet, places = two_timescales(2, LOW, HIGH)
    first, (inputs, output) = places["low"]
    return cited(sheet, [first, (inputs[::-1], output)], LOW_GAINS)


@refused("WITNESS", "two blocks with other weights behind one inequality")
def row_gain_of_another_block() -> Sheet:
    sheet, places = two_timescales(2, LOW, HIGH)
    return cited(sheet, [*places["low"], *places["high"]], LOW_GAINS)


# what follows from it


@refused("INEQUALITY", "mixing first: token weights (1, 10) see a token of weight 10 in one of weight 1")
def row_gain_unequal_token_weights() -> Sheet:
    weights = block(F(33, 64), F(11, 16))
    nodes = Nodes()
    mixed = nodes.add("matmul", nodes.constant([[0, 1], [0, 1]]), nodes.state())
    out = nodes.linear(nodes.add("relu", nodes.linear(mixed, "W1")), "W2")
    sheet = Sheet(graph(nodes.function(out), [[2, 2]]), {"W1": stored(weights[0]), "W2": stored(weights[1])})
    domain, gain = sheet.nothing(), F(23, 32)
    step = row_gain(sheet, domain, sheet.all(), [([mixed], out)], [gain], weights, scaled(F(17, 32)))
    whole(sheet, gain, sheet.block([1, 10], [[2, 2]]), domain, premises=[step])
    return sheet


@refused("INEQUALITY", "two tokens added up before the block, in one ℓ2 group: √2 more than one token")
def row_gain_of_a_sum_of_tokens() -> Sheet:
    weights = block(F(33, 64), F(11, 16))
    nodes = Nodes()
    mixed = nodes.add("matmul", nodes.constant([[1, 1], [0, 0]]), nodes.state())
    out = nodes.linear(nodes.add("relu", nodes.linear(mixed, "W1")), "W2")
    sheet = Sheet(graph(nodes.function(out), [[2, 2]]), {"W1": stored(weights[0]), "W2": stored(weights[1])})
    domain, gain = sheet.nothing(), F(23, 32)
    step = row_gain(sheet, domain, sheet.all(), [([mixed], out)], [gain], weights, scaled(F(17, 32)))
    whole(sheet, gain, sheet.block([1, 1], [[2, 2]]), domain, premises=[step])
    return sheet


@refused("INEQUALITY", "the gain 5/6 of a settled inner loop, where three steps of it are run and the whole diverges")
def gain_of_an_idealised_inner_loop() -> Sheet:
    nodes = Nodes()
    high, low = nodes.state(0), nodes.state(1)
    places = []
    for _ in range(3):  # z_L ← .8·(−z_L) + .3 z_H, close to .7 z_L + .3(−5 z_L + z_H)
        joined = nodes.add("concat", low, high, axis=1)
        out = nodes.linear(joined, "L")
        places.append(([low, high], out))
        low = out
    final = nodes.linear(low, "H")
    weights = [[F(-13, 16), F(5, 16)]]
    sheet = Sheet(graph(nodes.function(final, low), [[1, 1], [1, 1]]), {"L": stored(weights), "H": stored([[F(-5)]])})
    domain = sheet.nothing()
    wide = [F(9, 8), F(9, 16)]
    matrix = [
        [w * w * (i == j) - a * b for j, b in enumerate(weights[0])]
        for i, (a, w) in enumerate(zip(weights[0], wide, strict=True))
    ]
    step = sheet.step(
        "row_gain", domain=domain, region=sheet.all(), places=[{"inputs": i, "output": o} for i, o in places],
        gains=vector(wide), multipliers=vector([]), factor=factor(matrix),
    )  # fmt: skip
    whole(sheet, F(27, 32), sheet.block([1, F(1, 4)]), domain, premises=[step])
    return sheet
