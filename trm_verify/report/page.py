"""The report page: one HTML file that needs nothing else. Its policy forbids requests and all scripts but its own."""

from __future__ import annotations

import base64
import hashlib
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

from trm_verify import __version__
from trm_verify.kernel.claims import Answer, Conclusion, Contraction, ExactlyOne, FixedPointAnswer, Refuted
from trm_verify.kernel.expect import describe, rounded_up
from trm_verify.report import sections
from trm_verify.report.evidence import MOST_STEPS, bound, certified_traces, enclosures, measured_traces
from trm_verify.report.markup import Child, Markup, joined, raw, tag
from trm_verify.report.reading import ModelDirectory, read_directory
from trm_verify.report.text import size, upper
from trm_verify.report.words import up
from trm_verify.result import CAVEAT


def report_page(directory: Path | str | ModelDirectory) -> str:
    """The page about a model directory. The same directory gives the same text.

    Raises:
        FileNotFoundError: no directory, certificate or weights.
        PretrainedError: a configuration or weights that cannot be used.
        CheckError: figures of accuracy that are not those of `trm-verify curve`.
        OSError: a file cannot be read.
    """
    found = directory if isinstance(directory, ModelDirectory) else read_directory(directory)
    certified = certified_traces(found)
    measured = measured_traces(found, sections.steps_to_draw(found, MOST_STEPS))
    boxes = enclosures(found)
    parts: list[tuple[str, str, Markup | None]] = [
        ("claims", "What is proved", sections.claims(found)),
        ("convergence", "How fast it settles", sections.convergence(certified + measured, bound(found), found)),
        ("inference", "An inference, step by step", sections.inference(certified or measured[:1])),
        ("enclosures", "Where it settles, and how clearly", sections.enclosure(boxes, certified)),
        ("accuracy", "Certified accuracy", sections.accuracy(found.accuracy)),
        ("trust", "What has to be trusted", _trust(found)),
    ]
    shown = [(name, title, content) for name, title, content in parts if content]
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in shown]
    body = [
        tag("a", "Skip to the content", href="#main", class_="skip"),
        tag("header", tag("h1", f"Verification report: {found.name}"), tag("p", _subtitle(found), class_="muted"),
            _verdict(found)),
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag("main", _facts(found), [
            tag("section", tag("h2", title, id=f"{name}-heading"), content, id=name, aria_labelledby=f"{name}-heading")
            for name, title, content in shown
        ], id="main"),
        tag("footer", tag("p", f"Written by trm_verify {__version__} from files alone; the page loads nothing and "
                               "sends nothing.", class_="muted")),
    ]  # fmt: skip
    return _document(f"Verification report: {found.name}", joined(body))


def _document(title: str, body: Markup) -> str:
    style, script = (files("trm_verify.report").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"), tag("title", title),
        tag("link", rel="icon", href="data:,"), raw("style", style),
    )  # fmt: skip
    page = tag("html", head, tag("body", body, raw("script", script)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _source(content: str) -> str:
    """The content's name in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _subtitle(found: ModelDirectory) -> str:
    kind = (found.config.get("architectures") or ["a recursive model"])[0]
    name, count, _ = found.weights
    parameters = (
        "" if found.model is None else f", {sum(t.numel() for t in found.model.state_dict().values()):,} numbers"
    )
    return f"{kind}{parameters}; {name}, {size(count)}"


def _verdict(found: ModelDirectory) -> Markup:
    """The first thing a reader sees: what the kernel said of all certificates together."""
    claims = _claims(found)
    refuted = sum(isinstance(claim, Refuted) for claim in claims)
    if found.rejected:
        names = ", ".join(c.name for c in found.rejected)
        return _banner(
            "bad", "✗", "INVALID", f"The kernel rejects {names}; nothing in a rejected certificate is believed."
        )
    if found.same_graph is False:
        return _banner("bad", "✗", "INVALID", "A certificate is about another graph than the saved model's.")
    proved = len(claims) - refuted
    if refuted:
        text = f"{_counted(refuted, 'claim')} refuted by an exact counterexample, {_counted(proved, 'claim')} proved."
        return _banner("open", "!", "REFUTED", text)
    certificates = _counted(len(found.certificates), "certificate")
    text = f"{_counted(proved, 'claim')} in {certificates}, re-checked exactly while this page was written."
    return _banner("good", "✓", "PROVED", text)


def _claims(found: ModelDirectory) -> list[Conclusion]:
    """Each claim once: certificates of one model may say the same."""
    return list({describe(claim): claim for each in found.certificates for claim in each.claims}.values())


def _banner(kind: str, sign: str, word: str, text: str) -> Markup:
    return tag("div", tag("strong", tag("span", f"{sign} ", aria_hidden="true"), word),
               tag("div", tag("p", text), tag("p", f"Stated in {CAVEAT}.", class_="muted")),
               class_=f"verdict {kind}", role="status")  # fmt: skip


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _facts(found: ModelDirectory) -> Markup | None:
    """The key numbers."""
    claims = _claims(found)
    facts: list[tuple[str, str, str]] = []
    rates = [(c.rate, c.norm.family) for c in claims if isinstance(c, Contraction)]
    if rates:
        rate, norm = min(rates)
        facts.append(("Contraction rate", f"≤ {rounded_up(Fraction(rate), 6)}", f"a step, in {norm}"))
    if any(isinstance(c, ExactlyOne) for c in claims):
        facts.append(("Fixed points", "exactly one", "for each input in question"))
    line = bound(found)
    if line is not None:
        facts.append(("Settled", f"{line.steps} steps", f"to within {upper(line.epsilon)} from its own start"))
    answers = [c for c in claims if isinstance(c, (Answer, FixedPointAnswer))]
    if answers:
        final = [c.steps for c in answers if isinstance(c, Answer) and not c.at]
        facts.append(("Answers proved", str(len(answers)), f"final by step {max(final)} at the latest" if final else
                      "at every fixed point"))  # fmt: skip
    balls = [c.domain for c in answers if c.domain.bounded and not c.domain.is_point and c.domain.size]
    if balls:
        widest = max(max(b - a for a, b in map(d.fraction, range(d.size))) for d in balls)
        facts.append(("Robust answers", str(len(balls)), f"for every input within {up(widest / 2)}"))
    if not facts:
        return None
    items = [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in facts]
    return tag("dl", items, class_="facts")


_TRUSTED = (
    (
        "Trusted",
        "Some six thousand lines of standard-library Python (the kernel) that recompute every step of a certificate "
        "exactly, the written proofs of its rules, the Python interpreter, and SHA-256.",
    ),
    (
        "Not trusted",
        "Training, the search for proofs, every solver, floating point, and the certificate itself: a wrong one is "
        "rejected.",
    ),
    ("Tested, not proved", "That the graph in the certificate computes what the model's code computes."),
    (
        "Not covered",
        "Rounding of float32 and lower precisions: claims are about exact arithmetic over the stored weights. "
        "Lines and dots called measured are floating point and prove nothing.",
    ),
)


def _listed(names: list[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more if names else "none"


def _trust(found: ModelDirectory) -> Markup:
    same = {
        True: "compared with the saved model, equal", False: "NOT the saved model's", None: "not compared with a model",
    }[found.same_graph]  # fmt: skip
    unused = sorted({name for c in found.certificates if c.valid is not None for name in c.valid.unused})
    name, _, digest = found.weights
    rows: list[tuple[str, Child]] = [
        (f"weights, {name}", tag("span", f"sha256:{digest}", class_="digest")),
        *((f"graph ({same})", tag("span", f"sha256:{graph}", class_="digest")) for graph in found.graphs),
        *((c.name, tag("span", f"sha256:{c.digest}", class_="digest")) for c in found.certificates),
        ("tensors that the graph does not use", _listed(unused)),
    ]
    lines = [tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in rows]
    table = tag("table", tag("caption", "What the claims are about"), tag("tbody", lines))
    terms = [(tag("dt", tag("b", key)), tag("dd", text)) for key, text in _TRUSTED]
    first = found.certificates[0].name
    commands = (
        f"trm-verify check {first} {name} --model .\n"
        f'python -I -S "$(trm-verify kernel-path)" {first} {name}'
    )  # fmt: skip
    return joined([
        tag("dl", terms, class_="terms"),
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Digests"),
        tag("p", "Do not believe this page: check it yourself, in the model's directory."), tag("pre", commands),
    ])  # fmt: skip
