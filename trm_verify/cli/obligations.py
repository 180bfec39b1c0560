"""`trm-verify obligations`: the side conditions of a certificate as SMT-LIB 2 scripts, and other solvers' answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify.cli.loading import writable
from trm_verify.cli.outcome import Exit, Failure, Outcome, cannot, combined, usage
from trm_verify.naming import SUFFIX, weights_beside

if TYPE_CHECKING:
    from trm_verify.obligations import Obligations

INDEX = "index.json"
CODES = {"unsat": Exit.GOOD, "sat": Exit.INVALID}  # anything else is unknown


def run(options: Any) -> Outcome:
    """Write the scripts of each certificate, and have solvers answer them."""
    if not options.check and (options.solver or options.timeout is not None):
        raise usage("--solver and --timeout need --check, found neither scripts nor answers to use them on")
    solvers = _solvers(options) if options.check else ()
    source, out = Path(options.certificate), Path(options.out)
    certificates = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else [source]
    if not certificates:
        raise Failure(Exit.NOTHING, f"expected certificates named *{SUFFIX} in {str(source)!r}, found none")
    if source.is_dir() and options.weights is not None:
        raise usage("expected one certificate beside WEIGHTS, found a directory of them")
    writable(out, "--out")
    found = []
    for certificate in certificates:
        folder = out / certificate.name.removesuffix(SUFFIX) if source.is_dir() else out
        found.append(_one(certificate, options, folder, solvers))
    code = combined(item["exit_code"] for item in found)
    data = {"certificates": found} if source.is_dir() else {k: v for k, v in found[0].items() if k != "exit_code"}

    def show(console: Any) -> None:
        from trm_verify.report import print_obligations

        print_obligations(console, found, each=not source.is_dir())

    return Outcome(code, data, show)


def _solvers(options: Any) -> tuple[str, ...]:
    """The solvers to ask: those named, or all that are installed.

    Raises:
        Failure: one is missing.
    """
    from trm_verify.obligations.solve import INSTALL, SOLVERS, available

    installed = available()
    missing = [name for name in options.solver or () if name not in installed]
    if missing or not installed:
        names = " and ".join(missing or SOLVERS)
        raise usage(f"--check: expected the solver {names}, found it not installed; {INSTALL}, or leave out --check")
    return tuple(name for name in installed if name in (options.solver or installed))


def _one(certificate: Path, options: Any, folder: Path, solvers: tuple[str, ...]) -> dict[str, Any]:
    """The scripts of one certificate, with their answers and an exit code."""
    from trm_verify.kernel.errors import CheckError
    from trm_verify.obligations import EXPORTED, Obligations, export

    weights = Path(options.weights) if options.weights is not None else weights_beside(certificate)
    if weights is None:
        raise usage(f"expected the weights of {certificate.name} beside it, found none; name them: CERT WEIGHTS")
    try:
        made = export(_read(certificate), _read(weights))
    except CheckError as error:
        if not Path(options.certificate).is_dir():
            raise
        made = Obligations("", "", f"unreadable: {error}", ())
    _write(folder, made)
    rows = []
    for item in made.items:
        row = {**asdict(item), "answers": {}}
        del row["text"]
        if item.status == EXPORTED:
            row["answers"] = {name: _answer(name, folder / item.name, options) for name in solvers}
        rows.append(row)
    data = {
        "certificate": str(certificate), "weights_file": str(weights), "out": str(folder),
        "certificate_sha256": made.certificate, "weights_sha256": made.weights, "kernel": made.kernel or "VALID",
        "solvers": list(solvers), "exported": sum(item.status == EXPORTED for item in made.items),
        "obligations": rows,
    }  # fmt: skip
    data["exit_code"] = int(_code(made, rows, solvers))
    index = {key: value for key, value in data.items() if key not in ("certificate", "weights_file", "out")}
    (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return data


def _read(path: Path) -> bytes:
    from trm_verify.kernel.document import MAX_BYTES, read_file

    try:
        return read_file(path, 8 * MAX_BYTES)
    except OSError as error:
        raise cannot("read the file", error) from error


def _write(folder: Path, made: Obligations) -> None:
    """The scripts, in place of those that an earlier call wrote there.

    Raises:
        Failure: the folder holds other files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX
        old = set()
        if index.is_file():
            listed = json.loads(index.read_text(encoding="utf-8"))["obligations"]
            old = {Path(row["name"]).name for row in listed} | {INDEX}
        others = sorted(p.name for p in folder.iterdir() if p.name not in old)
        if others:
            raise usage(f"--out: expected an empty folder or one written by this command, found {others[0]!r} in it")
        for name in old:
            (folder / name).unlink(missing_ok=True)
        for item in made.items:
            (folder / item.name).write_text(item.text, encoding="utf-8")
    except OSError as error:
        raise cannot("write the scripts", error, "choose another folder with --out") from error
    except (LookupError, TypeError, ValueError) as error:
        raise usage(f"--out: expected {INDEX} of an earlier call in {str(folder)!r}, found another file") from error


def _answer(solver: str, script: Path, options: Any) -> dict[str, Any]:
    from trm_verify.obligations.solve import solve

    verdict = solve(solver, script, 30.0 if options.timeout is None else options.timeout)
    return {"answer": verdict.answer, "seconds": round(verdict.seconds, 3), "note": verdict.note}


def _code(made: Obligations, rows: list[dict[str, Any]], solvers: tuple[str, ...]) -> Exit:
    """0 only if the kernel accepts the certificate and every script has the answer unsat from every solver."""
    if made.kernel:
        return Exit.INVALID
    if not any(row["status"] == "exported" for row in rows):
        return Exit.NOTHING
    answers = [answer["answer"] for row in rows for answer in row["answers"].values()]
    return combined(CODES.get(answer, Exit.UNKNOWN) for answer in answers) if solvers else Exit.GOOD
