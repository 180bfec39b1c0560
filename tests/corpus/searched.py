"""Certificates that the provers find: for graphs of the exact corpus, and for models of torch."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import nn

import trm_verify as tv
from tests.corpus.build import SEARCHED
from tests.corpus.registers import GOOD
from tests.corpus.sheet import Json
from trm_verify.certificate import CertificateBuilder
from trm_verify.encode import dyadic
from trm_verify.export import export
from trm_verify.kernel.claims import Contraction
from trm_verify.models import SandwichRefiner
from trm_verify.provers.contraction import norms, wellposed
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, NO_INPUT, Problem

Found = tuple[bytes, bytes, str]


def contraction(name: str, norm: str) -> Found:
    """The best rate that a prover of one norm finds for a graph of the corpus, and what follows from it."""
    sheet = GOOD[name]()
    problem = Problem(sheet.graph, sheet.weights)
    domain = NO_INPUT if sheet.graph["input"] is None else ALL_INPUTS
    (attempt,) = norms.contraction_attempts(problem, domain, ALL_STATES, norm)
    if attempt.derivation is None:
        raise ValueError(f"{name}: expected a proof in {norm}, found none: {attempt.reason}")
    done = problem.conclude(attempt.derivation)
    if not isinstance(done, Contraction):
        raise TypeError(f"expected a contraction, found {type(done).__name__}")
    builder = CertificateBuilder(sheet.graph, sheet.weights, problem.unused)
    common: Json = {
        "operator": "picard",
        "domain": domain,
        "norm": attempt.derivation.steps[-1]["norm"],
        "rate": dyadic(done.rate),
    }
    builder.claim(builder.add(attempt.derivation), "contraction", region=ALL_STATES, **common)
    one = attempt.derivation.then("exactly_one")
    builder.claim(builder.add(one), "exactly_one", domain=domain, region=ALL_STATES)
    converges = attempt.derivation.then("convergence", start=ALL_STATES)
    builder.claim(
        builder.add(converges), "convergence",
        start=ALL_STATES, constant=dyadic(1), epsilon=None, steps=None, **common,
    )  # fmt: skip
    return builder.build().to_bytes(), sheet.weights, f"The {norm} prover on the graph of {name}."


def posed(name: str, prove: Callable[..., Any], operator: str) -> Found:
    """Well-posedness and a converging damped iteration, found by a prover of R4."""
    sheet = GOOD[name]()
    problem = Problem(sheet.graph, sheet.weights)
    domain = NO_INPUT if sheet.graph["input"] is None else ALL_INPUTS
    attempt = prove(problem, domain)
    converging = wellposed.prove_convergence(problem, domain, attempt)
    if converging.derivation is None:
        raise ValueError(f"{name}: expected a convergence, found none: {converging.reason}")
    done: Any = problem.conclude(converging.derivation)
    posed_by, n = attempt.derivation.steps[-1], problem.graph.size
    norm: Json = {"kind": "block", "runs": [[1, n]], "weights": {"exp": 0, "int": "1"}}
    if posed_by["rule"] == "log_norm":  # the weights of the log-norm are those of the norm
        norm = {"kind": "block", "runs": [[n, 1]], "weights": posed_by["vector"]}
    builder = CertificateBuilder(sheet.graph, sheet.weights, problem.unused)
    builder.claim(builder.add(attempt.derivation), "exactly_one", domain=domain, region=ALL_STATES)
    builder.claim(
        builder.add(converging.derivation), "convergence",
        operator={operator: converging.derivation.steps[-1]["alpha"]},
        domain=domain, start=ALL_STATES, norm=norm, constant=dyadic(1),
        rate=dyadic(done.rate), epsilon=None, steps=None,
    )  # fmt: skip
    return builder.build().to_bytes(), sheet.weights, f"The provers of R4 on the graph of {name}."


def refiner() -> Found:
    """A small SandwichRefiner: global facts, K(ε), and answers on two balls of inputs."""
    model = SandwichRefiner(state=8, hidden=10, inputs=4, classes=3, rho=0.8, seed=3)
    x = torch.tensor([[0.25, 0.5, 0.75, 1.0], [1.0, 0.0, 0.5, 0.25]])
    results: Any = tv.verify_fixed_point(model, x, eps="0.001")
    return (
        results.certificate.to_bytes(),
        export(model.bake()).to_bytes(),
        "A SandwichRefiner with answers on two balls.",
    )


def audited() -> Found:
    """The audit of one float32 inference of a SandwichRefiner."""
    model = SandwichRefiner(state=6, hidden=8, inputs=4, classes=3, rho=0.7, seed=5)
    trace: Any = tv.audit(model, torch.tensor([0.25, 0.5, 0.75, 1.0]), steps=12)
    return (
        trace.certificate.to_bytes(),
        export(model.bake()).to_bytes(),
        "The audit of a float32 inference, as it was stored.",
    )


def layers() -> Found:
    """Ordinary linear layers that merely happen to contract."""
    torch.manual_seed(7)
    inner, outer = nn.Linear(5, 5), nn.Linear(3, 5)
    with torch.no_grad():
        inner.weight.mul_(0.5)
    model = tv.recursive(
        lambda z, x: torch.tanh(inner(z) + outer(x)), state_shape=(5,), input_shape=(3,), domain=tv.Box(-1, 1)
    )
    result: Any = tv.verify_fixed_point(model)
    return result.certificate.to_bytes(), export(model).to_bytes(), "A plain torch step of ordinary linear layers."


def search() -> dict[str, Found]:
    """Everything, by name."""
    torch.set_num_threads(1)
    found = {
        "linf": contraction("weighted_linf_tanh", "linf"),
        "l2": contraction("l2_two_layers", "l2"),
        "parts": contraction("mixed_parts", "parts"),
        "tokens": contraction("mixed_attention", "tokens"),
        "metric_affine": contraction("metric_jordan", "metric"),
        "metric_program": contraction("metric_tanh", "metric"),
        "monotone": posed("monotone_relu", wellposed.prove_monotone, "inner_damped"),
        "log_norm": posed("log_norm_damped", wellposed.prove_log_norm, "outer_damped"),
        "refiner": refiner(),
        "audit": audited(),
        "layers": layers(),
    }
    return {SEARCHED + name: files for name, files in found.items()}


def rate_of(claim: Json) -> Fraction:
    """The rate of a claim."""
    return Fraction(int(claim["rate"]["int"], 16)) * Fraction(2) ** claim["rate"]["exp"]
