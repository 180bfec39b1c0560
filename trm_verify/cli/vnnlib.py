"""`trm-verify vnnlib`: a VNN-LIB query, answered for the outputs that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.certify import write
from trm_verify.cli.loading import Loaded, load_model, model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage
from trm_verify.naming import SUFFIX

WORDS = {"unsat": "PROVED", "sat": "REFUTED"}
CODES = {"PROVED": Exit.GOOD, "REFUTED": Exit.INVALID, "UNKNOWN": Exit.UNKNOWN}


def run(options: Any) -> Outcome:
    """Answer the query; write the certificates and the result, if asked for."""
    from trm_verify.deploy.vnnlib import Unsupported, VnnlibError, VnnlibResult, read, verify_vnnlib
    from trm_verify.pretrained import write_files
    from trm_verify.result import CAVEAT, UNKNOWN

    loaded = load_model(options.model)
    if options.check:
        return _checked(options, loaded)
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
    certificates = []
    if options.out is not None:
        folder, stem = Path(options.out), Path(options.spec).stem
        weights = loaded.weights or folder / f"{loaded.name}.safetensors"
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
        if certificates:
            paths = " ".join(map(str, certificates))
            console.out(
                f"; check it: trm-verify vnnlib {options.model} {options.spec} --check {paths}", highlight=False
            )

    return Outcome(CODES[str(found.verdict)], data, show)


def _checked(options: Any, loaded: Loaded) -> Outcome:
    """Whether certificates prove the answer to the query, re-checked by the kernel.

    Raises:
        CheckError: they do not. Failure: a file cannot be read, or is no query.
    """
    from trm_verify.certificate import Certificate
    from trm_verify.deploy.vnnlib import VnnlibError, check_vnnlib, read
    from trm_verify.export import ExportError
    from trm_verify.result import CAVEAT

    try:
        word = check_vnnlib(loaded.module, read(options.spec), [Certificate.load(path) for path in options.check])
    except OSError as error:
        raise cannot("read", error) from error
    except (VnnlibError, ExportError) as error:
        raise usage(f"{options.spec}: {error}") from error
    data = {
        "model": options.model, "query": options.spec, "verdict": WORDS[word], "result": word, "caveat": CAVEAT,
        "certificates": list(options.check),
    }  # fmt: skip

    def show(console: Any) -> None:
        console.out(word, highlight=False)
        console.out(f"; {WORDS[word]} by {len(options.check)} certificates ({CAVEAT})", highlight=False)

    return Outcome(CODES[WORDS[word]], data, show)
