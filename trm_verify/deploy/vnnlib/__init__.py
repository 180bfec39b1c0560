"""VNN-LIB 1.0: queries of others answered for fixed points, and our own questions written for other verifiers."""

from __future__ import annotations

from trm_verify.deploy.vnnlib.answering import Counterexample, VnnlibResult, verify_vnnlib
from trm_verify.deploy.vnnlib.rechecking import check_vnnlib
from trm_verify.deploy.vnnlib.specification import Atom, Specification, parse, read
from trm_verify.deploy.vnnlib.syntax import Unsupported, VnnlibError
from trm_verify.deploy.vnnlib.writing import arg_max_query

__all__ = [
    "Atom",
    "Counterexample",
    "Specification",
    "Unsupported",
    "VnnlibError",
    "VnnlibResult",
    "arg_max_query",
    "check_vnnlib",
    "parse",
    "read",
    "verify_vnnlib",
]
