"""`trm-verify refute`: two fixed points, a cycle, or states that move apart."""

from __future__ import annotations

from typing import Any

from trm_verify.cli.audit import one_input
from trm_verify.cli.certify import targets, write
from trm_verify.cli.loading import box, load_model, model_errors, region_of
from trm_verify.cli.outcome import Exit, Outcome

SUFFIX = ".refutation.trmcert.json"


def run(options: Any) -> Outcome:
    """Search, have the kernel accept what was found, and write the certificate of it."""
    from trm_verify.auditing import refute
    from trm_verify.result import CAVEAT

    region, domain = region_of(options), box(options.domain, "domain")
    loaded = load_model(options.model)
    x = one_input(options)
    target, weights = targets(options.out, loaded, SUFFIX)
    with model_errors(options.model):
        found = refute(
            loaded.module, x, eps=options.eps, domain=domain, region=region, norm=options.norm, rate=options.rate,
            timeout=options.timeout, seed=options.seed,
        )  # fmt: skip
    written = bool(found.refutations)
    if written:
        write(target, weights, found.certificate, loaded)
    data = {
        "model": options.model, "verdict": str(found.verdict), "caveat": CAVEAT, "graph": found.graph_digest,
        "weights": found.weights_digest, "certificate": str(target) if written else None, "weights_file": str(weights),
        "refutations": [
            {"kind": each.kind, "of": each.of, "sentence": each.sentence, "statement": statement,
             "input": each.given.tolist(), "states": each.states.tolist(), "numbers": dict(each.numbers)}
            for each, statement in zip(found.refutations, found.statements, strict=True)
        ],
        "observations": list(found.observations), "reasons": list(found.reasons), "expansion": found.expansion,
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import print_refutations

        print_refutations(console, found)
        if written:
            console.out(f"certificate  {target} ({target.stat().st_size / 1000:.0f} kB)", highlight=False)
            console.out(f"check it     trm-verify check {target} {weights} --model {options.model}", highlight=False)

    return Outcome(Exit.INVALID if written else Exit.UNKNOWN, data, show)
