"""Writes the examples in proofs/obligations: `python -m tests.obligations.examples`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.obligations.scripts import exported

FOLDER = Path(__file__).resolve().parents[2] / "proofs" / "obligations"
EXAMPLES = [
    ("l2_rotation", "step_000_spectral.smt2"),
    ("weighted_linf_reducible", "step_000_radius_contraction.smt2"),
    ("answer_of_an_oscillation", "step_000_invariant_box.smt2"),
    ("fixed_point_one_sixth", "step_001_enclosure.smt2"),
    ("linf_affine", "claim_000_contraction.smt2"),
]


def examples() -> dict[str, str]:
    """Every example by the name of its file."""
    found = {}
    for name, script in EXAMPLES:
        texts = {item.name: item.text for item in exported(name).items}
        found[f"{name}.{script}"] = texts[script]
    return found


def main() -> int:
    for path in FOLDER.glob("*.smt2"):
        path.unlink()
    for name, text in examples().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(EXAMPLES)} scripts in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
