"""`trm-verify vnnlib`: a VNN-LIB query, answered for the outputs that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.certify import write
from trm_verify.cli.loading import load_model, model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage
from trm_verify.naming import SUFFIX

CODES = {"PROVED": Exit.GOOD, "REFUTED": Exit.INVALID, "UNKNOWN": Exit.UNKNOWN}


def run(options: Any) -> Outcome:
    """Answer the query; write the certificates and the result, if asked for."""
    from trm_verify.deploy.vnnlib import Unsupported, VnnlibError, VnnlibResult, read, verify_vnnlib
    from trm_verify.pretrained import write_files
    from trm_verify.result import CAVEAT, UNKNOWN

    loaded = load_model(options.model)
    for target in (options.out, options.result and Path(options.result).parent):
        if target is not None:
            writable(Path(target), "--out" if target == options.out else "--result")
    with model_errors(options.model):
        try:
            found = verify_vnnlib(loaded.module, read(options.spec), timeout=options.timeout, norm=options.norm)
        except OSError as error:
            raise cannot("read the query", error) from error
        except Unsupported as error:
            found = VnnlibResult(UNKNOWN, "unknown", 0, reason=str(error))
        except VnnlibError as error:
            raise usage(f"{options.spec}: {error}") from error
    certificates, weights = [], loaded.weights
    if options.out is not None:
        folder, stem = Path(options.out), Path(options.spec).stem
        weights = weights or folder / f"{loaded.name}.safetensors"
        for i, each in enumerate(found.certificates):
            number = f"-{i}" if len(found.certificates) > 1 else ""
            certificates.append(folder / f"{stem}{number}{SUFFIX}")
            write(certificates[-1], weights, each, loaded)
    if options.result is not None:
        try:
            write_files({Path(options.result): (found.text() + "\n").encode()})
        except OSError as error:
            raise cannot("write the result", error, "choose another file with --result") from error
    example = found.counterexample
    data = {
        "model": options.model, "query": options.spec, "verdict": str(found.verdict), "result": found.word,
        "caveat": CAVEAT, "reason": found.reason, "boxes": found.boxes, "proved_boxes": found.proved,
        "counterexample": None if example is None else {
            "x": [str(v) for v in example.x], "y": list(example.y),
        },
        "certificates": [str(path) for path in certificates],
    }  # fmt: skip

    def show(console: Any) -> None:
        console.out(found.text(), highlight=False)
        if found.reason:
            console.out(f"; {found.reason}", highlight=False)
        console.out(f"; {found.verdict} for {found.proved} of {found.boxes} boxes ({CAVEAT})", highlight=False)
        for path in certificates:
            console.out(f"; check it: trm-verify check {path} {weights}", highlight=False)

    return Outcome(CODES[str(found.verdict)], data, show)
