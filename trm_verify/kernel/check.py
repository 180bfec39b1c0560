"""The verification workflow, without files or output.

1  the statement is of this format, and names one weights file
2  the weights file has the digest that the statement names
3  the graph parses, and every tensor is used or listed as unused
4  boxes and norms parse
5  every step is a known rule, whose premises are earlier steps; its conclusion is recomputed
6  there is a claim; each follows from the step it names
7  every step is cited, directly or through others, by a claim
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trm_verify.kernel import document
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
    Settled,
    implies,
)  # fmt: skip
from trm_verify.kernel.context import Context, number, numbers
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.graph import Graph, parse
from trm_verify.kernel.norms import parse_norm
from trm_verify.kernel.rules import RULES
from trm_verify.kernel.tensor import Tensor, parse_box
from trm_verify.kernel.weights import Weights

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://trm-verify.dev/certificate/v1"
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Valid:
    """An accepted certificate: what it is about, and the claims that hold."""

    weights_digest: str
    graph: Graph
    unused: tuple[str, ...]
    semantics: str
    claims: tuple[Conclusion, ...]


def check(certificate: bytes, weights: bytes) -> Valid:
    """Accepts a certificate against the bytes of its weights file, or raises `CheckError`."""
    statement = document.load(certificate)
    kind, subject, predicate_type, predicate = document.fields(
        statement, "_type", "subject", "predicateType", "predicate", where="statement"
    )
    if kind != STATEMENT or predicate_type != PREDICATE:
        raise CheckError("VERSION", f"{STATEMENT} with {PREDICATE}", f"{kind} with {predicate_type}")
    semantics, raw_graph, raw_unused, raw_boxes, raw_norms, raw_steps, raw_claims, _ = document.fields(
        predicate, "semantics", "graph", "unused", "boxes", "norms", "steps", "claims", "produced_by", where="predicate"
    )
    if semantics != "real":
        raise CheckError("VERSION", "semantics real", semantics)
    stored = Weights(weights)
    _check_subject(subject, stored)
    graph = parse(raw_graph, stored)
    unused = tuple(document.text(name, "unused") for name in document.items(raw_unused, "unused"))
    if (
        len(set(unused)) != len(unused)
        or set(unused) | graph.tensors != set(stored.names)
        or set(unused) & graph.tensors
    ):
        raise CheckError("UNUSED", "every tensor used by the graph or listed as unused, not both", sorted(stored.names))
    boxes = tuple(_box(raw, graph) for raw in document.items(raw_boxes, "boxes"))
    norms = tuple(parse_norm(raw, graph.size) for raw in document.items(raw_norms, "norms"))
    context = Context(graph, boxes, norms)
    conclusions, premises = _derive(context, document.items(raw_steps, "steps"))
    claims, cited = [], set()
    for raw in document.items(raw_claims, "claims"):
        step, claim = parse_claim(context, raw, len(conclusions))
        if not implies(conclusions[step], claim):
            raise CheckError("CLAIM", f"a claim that step {step} implies", type(claim).__name__, step)
        claims.append(claim)
        cited.add(step)
    if not claims:
        raise CheckError("EMPTY", "at least one claim", "none")
    for step in range(len(conclusions) - 1, -1, -1):
        if step not in cited:
            raise CheckError("UNUSED", "every step to be cited", "one that is not", step)
        cited.update(premises[step])
    return Valid(stored.sha256, graph, unused, semantics, tuple(claims))


def _check_subject(subject: object, stored: Weights) -> None:
    entries = document.items(subject, "subject")
    if len(entries) != 1:
        raise CheckError("FIELD", "one subject", len(entries))
    name, digest = document.fields(entries[0], "name", "digest", where="subject")
    document.text(name, "subject name")
    (sha256,) = document.fields(digest, "sha256", where="digest")
    if sha256 != stored.sha256:
        raise CheckError("DIGEST", f"weights with SHA-256 {ascii(sha256)}", stored.sha256)


def _box(raw: object, graph: Graph) -> tuple[str, Tensor]:
    """A box; for an integer input, one with admissible integer corners."""
    space, box = parse_box(raw, {"input": graph.input_size, "state": graph.size})
    if space == "input" and graph.vocabulary is not None:
        if not box.bounded:
            return space, Tensor(box.shape, 0, [0] * box.size, [graph.vocabulary - 1] * box.size)
        ends = [box.fraction(i) for i in range(box.size)]
        if any(a.denominator != 1 or b.denominator != 1 or not 0 <= a <= b < graph.vocabulary for a, b in ends):
            raise CheckError("BOX", f"integers from 0 to {graph.vocabulary - 1}", "another input")
    return space, box


def _derive(context: Context, raw_steps: list[Any]) -> tuple[list[Conclusion], list[list[int]]]:
    if len(raw_steps) > MAX_STEPS:
        raise CheckError("LIMIT", f"at most {MAX_STEPS} steps", len(raw_steps))
    conclusions: list[Conclusion] = []
    premises: list[list[int]] = []
    for i, raw in enumerate(raw_steps):
        try:
            if not isinstance(raw, dict) or "rule" not in raw or "premises" not in raw:
                raise CheckError("FIELD", "a step with rule and premises", type(raw).__name__)
            witness = dict(raw)
            name, cited = (
                document.text(witness.pop("rule"), "rule"),
                document.items(witness.pop("premises"), "premises"),
            )
            if name not in RULES:
                raise CheckError("RULE", "a rule of the format", name)
            if any(type(j) is not int or not 0 <= j < i for j in cited):
                raise CheckError("PREMISE", "indices of earlier steps", cited)
            conclusions.append(RULES[name](context, [conclusions[j] for j in cited], witness))
            premises.append(cited)
        except CheckError as error:
            raise CheckError(error.code, error.expected, error.got, i) from error
    return conclusions, premises


CLAIMS: dict[str, tuple[type, tuple[str, ...]]] = {
    "contraction": (Contraction, ("operator", "domain", "region", "norm", "rate")),
    "at_most_one": (AtMostOne, ("domain", "region")),
    "exactly_one": (ExactlyOne, ("domain", "region")),
    "invariant": (Invariant, ("operator", "domain", "region")),
    "convergence": (
        Convergence, ("operator", "domain", "start", "norm", "constant", "rate", "epsilon", "steps"),
    ),
    "answer": (Answer, ("operator", "domain", "answer", "steps")),
    "answer_at": (Answer, ("operator", "domain", "answer", "steps")),
    "commits": (Commits, ("operator", "domain", "answer", "committed", "steps", "threshold", "blank")),
    "run": (
        Run, ("operator", "domain", "norm", "state", "radius", "answer", "final", "drifts", "distances", "answers"),
    ),
    **{f"encloses_{kind}": (Encloses, ("domain", "region", "box")) for kind in ("all", "one", "the")},
    "fixed_point_answer": (FixedPointAnswer, ("domain", "region", "answer")),
    "lipschitz": (Lipschitz, ("domain", "region", "constant")),
    "settles": (Settled, ("operator", "domain", "steps")),
    "refutation": (Refuted, ("of", "operator", "domain", "region", "norm", "rate", "answer")),
}  # fmt: skip


def _field(context: Context, claim: str, name: str, raw: Any) -> Any:
    """One field of a claim."""
    if claim == "refutation" and raw is None:
        return None
    if name == "of":
        return document.text(raw, name)
    if claim == "convergence" and (raw is None and name in ("epsilon", "steps") or name == "start" and raw == "init"):
        return None
    if name in ("rate", "constant", "epsilon", "radius", "threshold"):
        return number(raw, name)
    if name in ("steps", "final", "blank"):
        return document.integer(raw, 0, 10**12, name)
    if name in ("drifts", "distances"):
        return tuple(numbers(raw, None, name))
    if name in ("domain", "region", "start", "box"):
        return context.box(raw, "input" if name == "domain" else "state")
    if name == "committed":
        return tuple(document.integer(v, 0, 10**12, name) for v in document.items(raw, name))
    if name == "answers":
        return tuple(None if a is None else context.answer(a) for a in document.items(raw, name))
    if name == "state":
        return context.state(raw)
    return {"operator": context.operator, "norm": context.norm, "answer": context.answer}[name](raw)


def parse_claim(context: Context, raw: object, count: int) -> tuple[int, Conclusion]:
    """(step, claim) of one entry of the claims list."""
    if not isinstance(raw, dict) or "claim" not in raw or "step" not in raw:
        raise CheckError("FIELD", "a claim with step and claim", type(raw).__name__)
    body = dict(raw)
    step = document.integer(body.pop("step"), 0, count - 1, "step of a claim")
    name = document.text(body.pop("claim"), "claim")
    if name not in CLAIMS:
        raise CheckError("CLAIM", f"a claim among {sorted(CLAIMS)}", name)
    kind, names = CLAIMS[name]
    values = zip(names, document.fields(body, *names, where=name), strict=True)
    found = {field: _field(context, name, field, value) for field, value in values}
    if name == "answer_at":
        found["at"] = True
    if kind is Encloses:
        found["kind"] = name.removeprefix("encloses_")
    if found.get("start", found) is None:
        initial_state(context.graph, found["domain"])  # init(x) exists for every x of the domain
    if name == "convergence" and (found["epsilon"] is None) != (found["steps"] is None):
        raise CheckError("CLAIM", "epsilon and steps together, or neither", name)
    return step, kind(**found)
