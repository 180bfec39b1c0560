"""Every script of every golden certificate has the answer unsat, and no script has it for want of anything possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.obligations.scripts import GOOD, answer, answer_here, assumptions, exported, needs_cvc5, needs_z3, scripts
from trm_verify.kernel.rules import RULES
from trm_verify.obligations import NOT_EXPORTED
from trm_verify.obligations.export import CONDITIONS

# What interval arithmetic does not export; with variables for a solver to choose, everything is exported.
INTERVALS = {
    "a_growing_oscillation": {"step_000_divergence.smt2"},
    "a_growing_pair_of_hinges": {"step_000_divergence.smt2"},
    "local_contraction_located": {"step_003_enclosure.smt2"},
    "logistic_period_two": {"step_000_cycle.smt2"},
    "mixed_units": {"step_003_enclosure.smt2"},
}


@needs_z3
@pytest.mark.parametrize("name", GOOD)
def test_every_script_is_refuted(name: str, tmp_path: Path) -> None:
    made = exported(name)
    assert made.kernel == "" and scripts(made)
    assert [(item.name, item.reason) for item in made.items if item.status == NOT_EXPORTED] == []
    assert {item.name: answer(item.text, tmp_path) for item in scripts(made)} == {
        item.name: "unsat" for item in scripts(made)
    }


@needs_z3
@pytest.mark.parametrize("name", GOOD)
def test_assumptions_do_not_contradict_each_other(name: str) -> None:
    """A script whose assumptions are false of everything would be refuted whatever its goals."""
    nothing_fixed = {"no_fixed_point", "fixed_points_in"} if name.startswith("no_fixed_point") else set()
    for item in scripts(exported(name)):
        found = answer_here(assumptions(item.text))
        assert found == "sat" or item.rule in nothing_fixed, item.name


@needs_z3
@pytest.mark.parametrize("name", GOOD)
def test_the_same_by_interval_arithmetic(name: str, tmp_path: Path) -> None:
    """What is done for large models, done for small ones."""
    made = exported(name, -1)
    assert {item.name for item in made.items if item.status == NOT_EXPORTED} == INTERVALS.get(name, set())
    plain = {item.name: item.text for item in exported(name).items}
    changed = [item for item in scripts(made) if item.text != plain.get(item.name)]
    assert {item.name: answer(item.text, tmp_path) for item in changed} == {item.name: "unsat" for item in changed}


@pytest.mark.slow
@needs_cvc5
@pytest.mark.parametrize("name", GOOD)
def test_another_solver_agrees(name: str) -> None:
    found = {item.name: answer_here(item.text, "cvc5") for item in scripts(exported(name))}
    assert set(found.values()) == {"unsat"}, found


def test_every_rule_has_a_script() -> None:
    assert set(CONDITIONS) == set(RULES)
    used = {item.rule for name in GOOD for item in exported(name).items if not item.of_claim}
    assert used >= set(RULES)


@pytest.mark.parametrize("name", GOOD)
def test_scripts_say_what_they_are_about(name: str) -> None:
    made = exported(name)
    assert len({item.name for item in made.items}) == len(made.items)
    for item in made.items:
        head = [line for line in item.text.splitlines() if line.startswith("; ")]
        assert any(made.certificate in line for line in head) and any(made.weights in line for line in head)
        assert any("proofs/" in line for line in head)
        if item.status == "exported":
            assert any(line.startswith("; shown") for line in head)
            assert any(line.startswith("; assumed") for line in head)
            assert f"(set-logic {item.logic})" in item.text
            assert item.text.count("(check-sat)") == 1
        else:
            assert "(check-sat)" not in item.text


def test_scripts_are_the_same_every_time() -> None:
    from tests.obligations.scripts import files
    from trm_verify.obligations import export

    first, second = (export(*files("weighted_linf_tanh")) for _ in range(2))
    assert first == second


def test_the_examples_are_what_the_exporter_writes() -> None:
    from tests.obligations.examples import FOLDER, examples

    assert {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.smt2")} == examples()
