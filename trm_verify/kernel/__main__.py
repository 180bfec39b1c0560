"""Re-check a certificate with the standard library alone.

    python -I -S trm_kernel.pyz CERTIFICATE WEIGHTS [--expect CLAIM]… [--graph SHA256] [--json]
    python -E -S -m trm_verify.kernel CERTIFICATE WEIGHTS …          (from the repository root)

Exit codes: 0 valid, 1 invalid, 2 usage or unreadable file, 4 internal error.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from typing import Any

from trm_verify.kernel.check import Valid, check
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CODES, CheckError
from trm_verify.kernel.expect import Expectation, describe, find, parse_expectation

MAX_WEIGHTS = 1 << 36


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="trm_kernel", description="Re-check a proof-carrying certificate, exactly.",
        epilog="example: python -I -S trm_kernel.pyz m.trmcert.json m.safetensors --expect 'contraction(rate<=0.9)'",
    )  # fmt: skip
    parser.add_argument("certificate", help="the .trmcert.json file")
    parser.add_argument("weights", help="the .safetensors file that it is about")
    parser.add_argument("--expect", metavar="CLAIM", action="append", default=[], help="a claim that must be proved")
    parser.add_argument("--graph", metavar="SHA256", help="the digest that the model's exact graph must have")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def compare(valid: Valid, expectations: list[Expectation], graph: str | None) -> list[str]:
    """What was not compared, in words. Raises `CheckError` EXPECTED on a mismatch."""
    if graph is not None and graph != valid.graph.digest:
        raise CheckError("EXPECTED", f"the graph {graph}", valid.graph.digest)
    missing = [] if graph else ["graph"]
    for expectation in expectations:
        find(valid, expectation)
        missing += [f"{expectation.claim}.{name}" for name in expectation.not_compared]
    return missing if expectations else ["claim", *missing]


def report(valid: Valid, missing: list[str]) -> dict[str, Any]:
    return {
        "verdict": "VALID", "not_compared": missing, "semantics": valid.semantics, "weights": valid.weights_digest,
        "graph": valid.graph.digest, "unused": list(valid.unused), "claims": [describe(c) for c in valid.claims],
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    options = _arguments(argv)
    try:
        expectations = [parse_expectation(text) for text in options.expect]
        raw, weights = read_file(options.certificate, MAX_BYTES), read_file(options.weights, MAX_WEIGHTS)
        valid = check(raw, weights)
        result, code = report(valid, compare(valid, expectations, options.graph)), 0
    except CheckError as error:
        result, code = (
            {"verdict": "INVALID", "code": error.code, "message": str(error), "meaning": CODES[error.code]},
            1,
        )
    except (OSError, ValueError) as error:
        result, code = {"verdict": "UNREADABLE", "message": str(error)}, 2
    except (RecursionError, MemoryError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        result, code = {"verdict": "INTERNAL ERROR", "message": f"{type(error).__name__}: {error}"}, 4
    if options.json:
        print(json.dumps(result))
    elif code:
        print(f"{result['verdict']}: {result['message']}", file=sys.stderr)
    else:
        missing = result["not_compared"]
        joined = " and ".join(m for m in missing if m in ("claim", "graph"))
        print("VALID" + (f" ({joined} not compared)" if joined else ""))
        print(f"  semantics {result['semantics']} (float32 rounding not covered)")
        print(f"  weights   sha256:{result['weights']}")
        print(f"  graph     sha256:{result['graph']}")
        names = [ascii(name) for name in result["unused"]]
        print(f"  unused    {len(names)} tensor(s){': ' if names else ''}{', '.join(names)}")
        for line in result["claims"]:
            print(f"  proved    {line}")
        fields = [m for m in missing if m not in ("claim", "graph")]
        if fields:
            print(f"  not compared: {', '.join(fields)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
