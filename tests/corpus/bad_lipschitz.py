"""Refusals of the rule `lipschitz`: a constant that is too small, slopes that are not known, another kind of model."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.duals import enclosing
from tests.corpus.good import with_constant
from tests.corpus.good_lipschitz import claimed, hinges, near
from tests.corpus.sheet import F, Json, Nodes, Sheet, dyadic, graph, real, vector
from tests.corpus.traps import scalar

HINGES, MONOTONE = "lipschitz_of_two_hinges", "lipschitz_of_a_monotone_model"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# the constant

edit("DEFINITE", "relu(x + 1) + relu(x − 1) moves twice as far as x: less than 2 by one unit of a last place",
     "lipschitz_too_small", HINGES, steps__1__gamma=dyadic(2 - LAST),
     claims__0__constant=dyadic(2 - LAST))  # fmt: skip
edit("DEFINITE", "the same where the slopes are known", "lipschitz_too_small_on_a_ball", HINGES,
     steps__4__gamma=dyadic(1 - LAST), claims__1__constant=dyadic(1 - LAST))  # fmt: skip
edit("CLAIM", "a constant claimed smaller than it was shown", "lipschitz_claimed_smaller", HINGES,
     claims__0__constant=dyadic(2 - LAST))  # fmt: skip
edit("EXPECTED", "the caller wanted a smaller constant", "lipschitz_expected_smaller", HINGES, "--expect",
     "lipschitz(constant<=1.5, domain=all)")  # fmt: skip
edit("WITNESS", "γ = −2 has the square of 2", "lipschitz_negative", HINGES, steps__1__gamma=dyadic(-2))

# multipliers

edit("WITNESS", "a negative multiplier of a unit that may bend", "lipschitz_negative_multiplier", MONOTONE,
     steps__1__multipliers=vector([F(9, 32), 0, 0, 0, F(-9, 16), 0, 0, 0, F(5, 8)]))  # fmt: skip
edit("WITNESS", "a whole row for a unit that may bend", "lipschitz_row_of_a_bend", MONOTONE,
     steps__1__multipliers=vector([F(9, 32), F(1, 16), 0, 0, F(9, 16), 0, 0, 0, F(5, 8)]))  # fmt: skip
edit("NUMBER", "one multiplier a state, where a matrix is wanted", "lipschitz_diagonal", HINGES,
     steps__1__multipliers=vector([2, 2]))  # fmt: skip
edit("NUMBER", "a factor for every state, where one of them cannot move", "lipschitz_factor_of_all", HINGES,
     steps__4__factor=vector([0, 0, 0]))  # fmt: skip

# premises

edit("CLAIM", "slopes that are known on a ball, claimed for every input", "lipschitz_everywhere", HINGES,
     claims__1__domain=0)  # fmt: skip
edit("PREMISE", "an enclosure that may hold one fixed point of several", "lipschitz_without_uniqueness", HINGES,
     steps__4__premises=[2])  # fmt: skip
edit("PREMISE", "the constant of no model in particular", "lipschitz_alone", HINGES, steps__1__premises=[])


@refused("CLAIM", "a model that is well posed for |x| ≤ 1/4, and a constant for |x| ≤ 1/2")
def lipschitz_on_more_inputs() -> Sheet:
    sheet = hinges()
    posed = sheet.step("log_norm", domain=sheet.box([F(-1, 4)], [F(1, 4)], "input"), vector=vector([1, 1]))
    only = sheet.step("located", posed, near(sheet, sheet.box([F(-1, 4)], [F(1, 4)], "input")))
    step = sheet.step("lipschitz", only, gamma=dyadic(1), multipliers=vector([1, 0, 0, 0]), factor=vector([0]))
    claimed(sheet, step, 1, sheet.box([F(-1, 2)], [F(1, 2)], "input"))
    return sheet


@refused("CLAIM", "the fixed point of another region than the one it was shown to be the only one of")
def lipschitz_of_another_region() -> Sheet:
    sheet = hinges()
    domain = sheet.box([F(-1, 4)], [F(1, 4)], "input")
    only = near(sheet, domain, unique=True)
    step = sheet.step("lipschitz", only, gamma=dyadic(1), multipliers=vector([1, 0, 0, 0]), factor=vector([0]))
    claimed(sheet, step, 1, domain, sheet.box([0, -1], [2, 1]))
    return sheet


@refused("PREMISE", "clamp(3z − 1 + x) has three fixed points at x = 0: the logits jump, and x does not move")
def lipschitz_of_a_region() -> Sheet:
    nodes = Nodes()
    given = nodes.add("sub", nodes.add("input"), nodes.constant([1]))
    step = nodes.function(nodes.clamp(nodes.add("add", nodes.scale(nodes.state(), 3), given), 0, 1))
    sheet = Sheet(graph(step, [[1]], real(1), None, with_constant(0)))
    domain, region = sheet.box([F(-1, 4)], [F(1, 4)], "input"), sheet.box([0], [1])
    known = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    done = sheet.step("lipschitz", known, gamma=dyadic(8), multipliers=vector([0]), factor=vector([0]))
    claimed(sheet, done, 8, domain, region)
    return sheet


# the form


def contracting(model: Json, rate: Any, gamma: Any, multiplier: Any) -> Sheet:
    """A scalar model that contracts for all inputs, with a claim about its logits."""
    sheet = Sheet(model)
    domain = sheet.all("input")
    contracts = sheet.contraction(rate, sheet.block([1]), domain)
    converges = sheet.step("convergence", contracts, start=sheet.all())
    step = sheet.step(
        "lipschitz", converges, gamma=dyadic(gamma), multipliers=vector([multiplier]), factor=vector([0])
    )  # fmt: skip
    claimed(sheet, step, gamma, domain)
    return sheet


@refused("UNSUPPORTED", "the slope of GELU reaches 1.1289: gelu(x) moves farther than x")
def lipschitz_of_gelu() -> Sheet:
    model = scalar(lambda n, z: n.add("gelu", n.add("add", n.scale(z, 0), n.add("input"))), real(1))
    return contracting(model | {"readout": with_constant(0)}, F(1, 2), 1, 1)


@refused("UNSUPPORTED", "two layers: 3 relu(relu(x)) is not a layer whose argument is constant")
def lipschitz_of_two_layers() -> Sheet:
    def layers(nodes: Nodes, z: int) -> int:
        inner = nodes.add("relu", nodes.add("add", nodes.scale(z, 1, 16), nodes.add("input")))
        return nodes.add("relu", nodes.scale(inner, 3))

    return contracting(scalar(layers, real(1)) | {"readout": with_constant(0)}, F(1, 2), F(1, 4), 1)


@refused("UNSUPPORTED", "a readout that bends: 2 relu(z) has no matrix")
def lipschitz_of_a_bent_readout() -> Sheet:
    readout = Nodes()
    bent = readout.scale(readout.add("relu", readout.state()), 2)
    logits = readout.function(readout.add("concat", bent, readout.constant([0]), axis=0))
    model = scalar(lambda n, z: n.add("relu", n.add("add", n.scale(z, 0), n.add("input"))), real(1))
    return contracting(model | {"readout": logits}, F(1, 2), 1, 1)


@refused("NUMBER", "a leaky ReLU below 0 still moves: both states count")
def lipschitz_of_a_leak() -> Sheet:
    sheet = hinges("leaky_relu", slope=dyadic(F(1, 2)))
    posed = sheet.step("log_norm", domain=sheet.all("input"), vector=vector([1, 1]))
    domain = sheet.box([F(-1, 4)], [F(1, 4)], "input")
    region = sheet.box([F(1, 2), F(-3, 4)], [F(3, 2), F(-1, 4)])
    only = sheet.step("located", posed, enclosing(sheet, domain, region))
    step = sheet.step("lipschitz", only, gamma=dyadic(1), multipliers=vector([1, 0, 0, 0]), factor=vector([0]))
    claimed(sheet, step, 1, domain)
    return sheet
