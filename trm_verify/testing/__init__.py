"""For test suites: certificates as fixtures, Hypothesis strategies and properties, conformance of provers.

A name is imported when it is first used, so that certificates can be checked where Hypothesis is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trm_verify.testing.checks import Counterexample
    from trm_verify.testing.conformance import Conformance, ConformanceError, prover_conformance
    from trm_verify.testing.machine import chain_machine
    from trm_verify.testing.properties import answer_is_final, enclosure_holds, never_expands, runs_agree
    from trm_verify.testing.stored import CertificateProblem, Certified, certify
    from trm_verify.testing.strategies import adversarial, ball, inputs, states, steps, variants
    from trm_verify.testing.subjects import AffineStep, Subject, half, quantized

_NAMES = {
    "stored": ("CertificateProblem", "Certified", "certify"),
    "checks": ("Counterexample",),
    "conformance": ("Conformance", "ConformanceError", "prover_conformance"),
    "machine": ("chain_machine",),
    "properties": ("answer_is_final", "enclosure_holds", "never_expands", "runs_agree"),
    "strategies": ("adversarial", "ball", "inputs", "states", "steps", "variants"),
    "subjects": ("AffineStep", "Subject", "half", "quantized"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "AffineStep",
    "CertificateProblem",
    "Certified",
    "Conformance",
    "ConformanceError",
    "Counterexample",
    "Subject",
    "adversarial",
    "answer_is_final",
    "ball",
    "certify",
    "chain_machine",
    "enclosure_holds",
    "half",
    "inputs",
    "never_expands",
    "prover_conformance",
    "quantized",
    "runs_agree",
    "states",
    "steps",
    "variants",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'trm_verify.testing' has no attribute {name!r}")
    try:
        value: object = getattr(import_module(f"trm_verify.testing.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ModuleNotFoundError(
            f"trm_verify.testing.{name} needs Hypothesis, which is not installed; run: pip install 'trm-verify[test]'",
            name="hypothesis",
        ) from error
    globals()[name] = value
    return value
