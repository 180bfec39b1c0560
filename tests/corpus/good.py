"""The register of certificates that must stay valid, and what they are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tests.corpus.sheet import (
    F,
    Json,
    Matrix,
    Nodes,
    Sheet,
    dyadic,
    graph,
    round_up,
    vector,
)
from tests.corpus.witnesses import (
    factor,
    norm_bound,
    norm_gap,
)
from tests.oracle.evaluate import FLOAT, Evaluator
from tests.oracle.files import Model, read_tensors
from trm_verify.certificate import Derivation
from trm_verify.kernel.check import check
from trm_verify.kernel.errors import CheckError
from trm_verify.provers.problem import Problem

GOOD: dict[str, Callable[[], Sheet]] = {}


def good(build: Callable[[], Sheet]) -> Callable[[], Sheet]:
    GOOD[build.__name__] = build
    return build


# helpers


def orbit(sheet: Sheet, x: Sequence[Any], steps: int, operator: Any = "picard", bits: int = 16) -> list[list[Fraction]]:
    """Iterates from init(x) in doubles, each rounded to multiples of 2^-bits."""
    run = Evaluator(Model(sheet.graph, read_tensors(sheet.weights)), FLOAT)
    given = np.array([[float(v) for v in x]])
    z = run.init(given)
    states = [z]
    for _ in range(steps):
        z = run.apply(operator, z, given)
        states.append(z)
    return [[F(round(float(v) * (1 << bits)), 1 << bits) for v in state[0]] for state in states]


def label(sheet: Sheet, state: Sequence[Fraction]) -> list[int]:
    run = Evaluator(Model(sheet.graph, read_tensors(sheet.weights)), FLOAT)
    logits = run.readout(np.array([[float(v) for v in state]]))
    return [int(v) for v in logits[0].argmax(axis=-1)]


def first_steps(sheet: Sheet, finish: Callable[[Sheet, int], None]) -> None:
    """Finishes the sheet with the smallest number of steps, of a short list, that the kernel accepts."""
    kept = len(sheet.steps), len(sheet.claims)
    for steps in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300):
        finish(sheet, steps)
        try:
            check(sheet.certificate(), sheet.weights)
            return
        except CheckError as error:
            if error.code not in ("MARGIN", "INCLUSION", "CLAIM"):
                raise
            del sheet.steps[kept[0] :], sheet.claims[kept[1] :]
    raise ValueError("expected an answer within 300 steps, found none")


def affine(
    weight: str = "W", bias: str | None = "b", activation: str | None = None, given: str | None = None, **attrs: Any
) -> Json:
    """z ↦ φ(Wz + b + Ux). Node 1 is W."""
    nodes = Nodes()
    out = nodes.linear(nodes.state(), weight, bias)
    if given:
        out = nodes.add("add", out, nodes.linear(nodes.add("input"), given))
    if activation:
        out = nodes.add(activation, out, **attrs)
    return nodes.function(out)


def from_input(weight: str) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.linear(nodes.add("input"), weight))


def from_state(weight: str, bias: str | None = None) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.linear(nodes.state(), weight, bias))


def row_scaled(matrix: Matrix, total: Fraction) -> Matrix:
    """Rows shrunk (by powers of two) until each has absolute sum at most `total`."""
    rows = []
    for row in matrix:
        while sum(map(abs, row)) > total:
            row = [v / 2 for v in row]
        rows.append(row)
    return rows


def column(rows: Matrix) -> list[Fraction]:
    return [row[0] for row in rows]


def whole(sheet: Sheet, rate: Any, norm: int, domain: int, premises: Sequence[int] = ()) -> int:
    """Contraction, one fixed point and convergence in all of the space; returns the convergence step."""
    everywhere = sheet.all()
    contracts = sheet.contraction(rate, norm, domain, premises=premises)
    sheet.claim_contraction(contracts, rate, norm, domain)
    one = sheet.step("exactly_one", contracts)
    sheet.claim(one, "exactly_one", domain=domain, region=everywhere)
    converges = sheet.step("convergence", contracts, start=everywhere)
    sheet.claim_convergence(converges, everywhere, norm, rate, domain)
    return converges


def spectral(sheet: Sheet, node: int, matrix: Matrix, sigma: Fraction | None = None) -> tuple[int, Fraction]:
    """A spectral step for a stored matrix."""
    bound = norm_bound(matrix) if sigma is None else sigma
    return sheet.step("spectral", matrix=node, sigma=dyadic(bound), factor=factor(norm_gap(matrix, bound))), bound


def audit(
    sheet: Sheet, converges: int, x: Sequence[Any], norm: int, states: list[list[Fraction]], operator: Any = "picard",
    domain: int | None = None,
) -> None:  # fmt: skip
    """A `run` step and its claim, with bounds read off what the kernel concludes."""
    point = (sheet.nothing() if not x else sheet.point(x)) if domain is None else domain
    final = len(states) - 1
    answers: list[list[int] | None] = [label(sheet, s) for s in states]
    answers[0] = None
    while final > 1 and answers[final - 1] == answers[-1]:
        final -= 1
    problem = Problem(sheet.graph, sheet.weights)
    tables = {"domain": sheet.boxes, "region": sheet.boxes, "start": sheet.boxes, "norm": sheet.norms}
    spelled = [{k: tables[k][v] if k in tables else v for k, v in raw.items()} for raw in sheet.steps[: converges + 1]]
    while True:
        fields: Json = {"domain": point, "states": vector(states), "answers": answers, "final": final}
        try:
            done: Any = problem.conclude(
                Derivation(tuple(spelled)).then("run", **{**fields, "domain": sheet.boxes[point]})
            )
            break
        except CheckError as error:
            if error.code not in ("MARGIN", "INCLUSION") or final == len(states) - 1:
                raise
            final += 1
    step = sheet.step("run", converges, **fields)
    up = [vector([round_up(v, 60) for v in bounds]) for bounds in (done.drifts, done.distances)]
    sheet.claim(
        step, "run", operator=operator, domain=point, norm=norm, state=vector(states[-1]),
        radius=dyadic(round_up(done.radius, 60)), answer=answers[-1], final=final, drifts=up[0], distances=up[1],
        answers=answers,
    )  # fmt: skip


def with_constant(value: Any) -> Json:
    """The state's entries and one constant as logits."""
    nodes = Nodes()
    return nodes.function(nodes.add("concat", nodes.state(), nodes.constant([value]), axis=0))


def local_sheet(
    step: Json, lo: Any, hi: Any, rate: Any, readout: Json | None = None
) -> tuple[Sheet, int, int, int, int]:
    """A scalar model with a contraction on [lo, hi]: (sheet, norm, domain, region, contraction)."""
    sheet = Sheet(graph(step, [[1]], None, None, readout))
    norm, domain, region = sheet.block([1]), sheet.nothing(), sheet.box([lo], [hi])
    contracts = sheet.contraction(rate, norm, domain, region)
    sheet.claim_contraction(contracts, rate, norm, domain, region)
    return sheet, norm, domain, region, contracts
