"""Mutation tests: one change to a good certificate or to its model must be refused, or leave a true statement.

`tests/corpus/mutants.py` makes the mutants: even seeds change one field of the certificate, odd seeds the weights or
the graph, with all digests stated right, so that a rule has to notice. A mutant that the kernel accepts is judged by
`tests/oracle`, which shares no code with it. The oracle has to call every claim true: none may be "cannot tell".
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.corpus.mutants import Mutant, model_mutant, mutant, originals, rejection, sites
from tests.oracle.files import read_claims
from tests.oracle.judge import TRUE, Judge, Verdict
from trm_verify.kernel.check import check
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.rules import RULES

COUNT, CHUNK, FAST = 4900, 70, 2
CHUNKS = [pytest.param(i, marks=[] if i < FAST else [pytest.mark.slow]) for i in range(COUNT // CHUNK)]

_known: dict[tuple[str, bytes, str], Verdict] = {}


def judged(m: Mutant) -> list[tuple[str, Verdict]]:
    """Every claim with the oracle's verdict; the same claim about the same model is judged once."""
    model, claims = read_claims(m.certificate, m.weights)
    graph, judge = json.dumps(model.graph, sort_keys=True), Judge(model)
    found = []
    for claim in claims:
        key = graph, m.weights, claim.key()
        if key not in _known:
            _known[key] = judge.judge(claim)
        found.append((claim.name, _known[key]))
    return found


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_mutant_is_refused_or_true(chunk: int) -> None:
    for m in map(mutant, range(chunk * CHUNK, (chunk + 1) * CHUNK)):
        if rejection(m) is not None:  # any exception but CheckError comes through and fails the test
            continue
        for claim, verdict in judged(m):
            assert verdict.value == TRUE, f"seed {m.seed}: {m.good}, {m.field}: {claim} is {verdict}"


# the spread


@cache
def all_mutants() -> list[Mutant]:
    return [mutant(seed) for seed in range(COUNT)]


def test_there_are_enough_mutants_of_both_kinds() -> None:
    fields, models = all_mutants()[0::2], all_mutants()[1::2]
    assert len(all_mutants()) >= 2000 and len(fields) == len(models)
    for m in fields:
        assert m.weights == originals()[m.good][1]
    for m in models:  # only the model and its digest differ: boxes, norms, steps and claims are the original ones
        old, new = originals()[m.good][0]["predicate"], json.loads(m.certificate)["predicate"]
        assert {k: v for k, v in new.items() if k != "graph"} == {k: v for k, v in old.items() if k != "graph"}
        assert (m.weights, new["graph"]) != (originals()[m.good][1], old["graph"])


def test_every_field_of_every_rule_and_claim_is_changed() -> None:
    changed = Counter(m.field for m in all_mutants()[0::2])
    assert set(changed) == set(sites())
    assert min(changed.values()) >= 5
    wanted = set()
    for document, _ in originals().values():
        wanted |= {f"step {s['rule']}.{key}" for s in document["predicate"]["steps"] for key in s}
        wanted |= {f"claim {c['claim']}.{key}" for c in document["predicate"]["claims"] for key in c}
    assert wanted <= set(changed)
    assert {label.split(" ")[1].split(".")[0] for label in changed if label.startswith("step ")} == set(RULES)


def test_the_models_behind_every_rule_are_changed() -> None:
    under = Counter(rule for m in all_mutants()[1::2] for rule in m.rules)
    assert set(under) == set(RULES)
    assert min(under.values()) >= 20
    kinds = Counter(m.field.split(" ")[0] for m in all_mutants()[1::2])
    assert min(kinds["weights"], kinds["graph"]) >= 300


def refusing_rule(m: Mutant) -> str | None:
    """The rule whose step refuses a mutant, for more than a claim."""
    try:
        check(m.certificate, m.weights)
    except CheckError as error:
        if error.step is not None and error.code != "CLAIM":
            rule: str = json.loads(m.certificate)["predicate"]["steps"][error.step]["rule"]
            return rule
    return None


@pytest.mark.slow
def test_rules_themselves_catch_changed_models() -> None:
    """Each rule with an inequality of its own refuses some model that every digest fits."""
    caught = {refusing_rule(m) for m in all_mutants()[1::2]}
    only_combine = {
        "damping", "at_most_one", "exactly_one", "convergence", "initial_bound", "located", "joined_domains",
        "two_fixed_points", "other_answer", "fixed_points_in", "exhibited", "settled_in",
        "invariant_radius",  # refused by the contraction that its certificate proves first
    }  # fmt: skip
    for rule in set(RULES) - only_combine - caught:  # rarely the first to refuse: more models of its certificates
        names = [
            name for name, (d, _) in originals().items() if any(s["rule"] == rule for s in d["predicate"]["steps"])
        ]
        more = (model_mutant(COUNT + k, name) for k in range(1000) for name in names)
        assert any(refusing_rule(m) == rule for m in more), rule


def test_the_oracle_shares_no_code_with_the_kernel() -> None:
    for path in (Path(__file__).parent / "oracle").glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("trm_verify", "tests.corpus", "tests.kernel", "torch")) for name in names)
