"""`trm-verify report`: one HTML page about a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.loading import model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage

NAME = "report.html"


def run(options: Any) -> Outcome:
    """Check every certificate of the directory and write the page; exit 1 when the kernel rejects one."""
    from trm_verify.certificate import write_atomic
    from trm_verify.report import read_directory, report_page

    source = Path(options.directory)
    target = Path(options.out) if options.out is not None else source / NAME
    if target.suffix != ".html":
        raise usage(f"--out: expected a name that ends in .html, found {str(target)!r}")
    with model_errors("the model"):
        try:
            found = read_directory(source)
        except FileNotFoundError as error:
            raise usage(str(error)) from error
        except OSError as error:
            raise cannot("read the model directory", error) from error
        writable(target.parent, "--out")
        page = report_page(found).encode()
    write_atomic(target, page)
    claims = sum(len(c.claims) for c in found.certificates)
    rejected = [{"certificate": c.name, "message": c.error} for c in found.rejected]
    bad = bool(rejected) or found.same_graph is False
    data = {
        "model": str(source), "verdict": "INVALID" if bad else "VALID", "report": str(target), "bytes": len(page),
        "certificates": [c.name for c in found.certificates], "claims": claims, "rejected": rejected,
        "same_graph": found.same_graph,
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import short, size

        console.out(f"{data['verdict']}  {claims} claims in {len(found.certificates)} certificates", highlight=False)
        for each in found.rejected:
            console.out(f"  {short(each.name)}: {short(each.error)}", highlight=False)
        if found.same_graph is False:
            console.out("  a certificate is about another graph than the saved model's", highlight=False)
        console.out(f"report  {target} ({size(len(page))})", highlight=False)

    return Outcome(Exit.INVALID if bad else Exit.GOOD, data, show)
