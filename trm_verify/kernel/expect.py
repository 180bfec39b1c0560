"""What the caller wants proved, as one line of text, and whether a valid certificate proves it.

    contraction(rate<=0.9, norm=linf)      answer(answer=7, steps<=40, domain=sha256:…)      exactly_one(domain=all)

Bounds take `<=`, everything else `=`. A field that is left out is reported as not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel.check import CLAIMS, Valid
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    Encloses,
    ExactlyOne,
    FixedPointAnswer,
    Invariant,
    Lipschitz,
    Refuted,
    Run,
    equal,
)  # fmt: skip
from trm_verify.kernel.document import digest
from trm_verify.kernel.errors import CheckError, approximate
from trm_verify.kernel.norms import coordinate_scale
from trm_verify.kernel.numbers import dyadic, floor_at
from trm_verify.kernel.tensor import GRID, Tensor, contains, from_fractions

BOUNDS = {"rate", "constant", "epsilon", "radius", "steps", "drift", "final", "rounds"}
EXACT = {"threshold", "blank"}  # numbers that have to be equal
LABELS = {"answer", "committed"}  # integers joined by hyphens, one a position
NORMS = ("linf", "weighted_linf", "l2", "mixed", "metric")  # the families that norms of certificates belong to
FIELDS = {
    "contraction": ("rate", "norm", "operator", "domain", "region"),
    "at_most_one": ("domain", "region"),
    "exactly_one": ("domain", "region"),
    "invariant": ("operator", "domain", "region"),
    "convergence": ("rate", "constant", "norm", "operator", "domain", "start", "epsilon", "steps"),
    "answer": ("answer", "steps", "operator", "domain"),
    "answer_at": ("answer", "steps", "operator", "domain"),
    "commits": ("answer", "rounds", "committed", "steps", "threshold", "blank", "operator", "domain"),
    **{f"encloses_{kind}": ("radius", "domain", "region") for kind in ("all", "one", "the")},
    "fixed_point_answer": ("answer", "domain", "region"),
    "lipschitz": ("constant", "domain", "region"),
    "settles": ("steps", "operator", "domain"),
    "refutation": ("of", "answer", "rate", "norm", "operator", "domain", "region"),
    "run": ("answer", "radius", "drift", "final", "norm", "operator", "domain"),
}
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,60})?(e-?[0-9]{1,4})?|-?[0-9]{1,60}/[0-9]{1,60}")
_ITEM = re.compile(r"\s*([a-z]+)\s*(<=|=)\s*([^,()\s]+(?:\([^()]*\))?)\s*(?:,|$)")


@dataclass(frozen=True)
class Expectation:
    """A claim name and the fields to compare: numbers for bounds, `Tensor` or text for sets, text for the rest."""

    claim: str
    fields: tuple[tuple[str, object], ...] = ()

    @property
    def not_compared(self) -> tuple[str, ...]:
        return tuple(name for name in FIELDS[self.claim] if name not in dict(self.fields))


def _bad(expected: str, got: object) -> ValueError:
    return ValueError(f"expected {expected}, for example contraction(rate<=0.9,norm=linf); got {got!r}")


def parse_number(text: str) -> Fraction:
    if not _NUMBER.fullmatch(text):
        raise _bad("a number such as 0.9, 1e-6 or 9/10", text)
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise _bad("a non-zero denominator", text) from None


def norm_named(text: object) -> str:
    """The family of a norm. Raises `ValueError` for a name that no claim can have: it would never be proved."""
    if isinstance(text, str) and text in NORMS:
        return text
    raise _bad(f"a norm among {', '.join(NORMS)} (mixed: a maximum over parts or tokens of l2)", text)


def parse_expectation(text: str) -> Expectation:
    """Raises `ValueError` with an example when the text is not a claim."""
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*", text)
    if not match or match[1] not in CLAIMS:
        raise _bad(f"a claim among {', '.join(CLAIMS)}", text)
    body, fields, at = match[2] or "", {}, 0
    while at < len(body):
        item = _ITEM.match(body, at)
        if not item or item[1] not in FIELDS[match[1]] or item[1] in fields:
            raise _bad(f"fields among {', '.join(FIELDS[match[1]])}, each once, separated by commas", body[at:])
        name, relation, value = item[1], item[2], item[3]
        wanted = "=" if name not in BOUNDS or match[1] == "answer_at" else "<="
        if relation != wanted:
            raise _bad(f"{name}{wanted}…", item[0])
        fields[name] = parse_number(value) if name in BOUNDS | EXACT else norm_named(value) if name == "norm" else value
        at = item.end()
    return Expectation(match[1], tuple(fields.items()))


def box_digest(box: Tensor) -> str:
    """A name for a box: SHA-256 of its corners as reduced fractions."""
    if not box.bounded:
        return digest("all")
    ends = [box.fraction(i) for i in range(box.size)] or [(Fraction(0), Fraction(0))]
    lo, hi = ([f"{v.numerator:x}/{v.denominator:x}" for v in side] for side in zip(*ends, strict=True))
    return digest({"lo": lo, "hi": hi})


def _holds_set(wanted: object, given: Tensor, vocabulary: int | None, exactly: bool) -> bool:
    """Whether `given` holds (or equals) the wanted set: a Tensor, all, box(lo,hi) or sha256:…"""
    if isinstance(wanted, str):
        if wanted.startswith("sha256:"):
            return box_digest(given) == wanted[7:]
        uniform = re.fullmatch(r"box\(([^,]+),([^,]+)\)", wanted.replace(" ", ""))
        if wanted == "all":
            lo_hi = None if vocabulary is None else (Fraction(0), Fraction(vocabulary - 1))
        elif uniform:
            lo_hi = parse_number(uniform[1]), parse_number(uniform[2])
            if lo_hi[0] > lo_hi[1]:
                raise _bad("lo ≤ hi in a box", wanted)
        else:
            raise _bad("all, box(lo,hi) or sha256:…", wanted)
        if lo_hi is None:
            return not given.bounded
        wanted = from_fractions([lo_hi] * given.size)
        if exactly and not wanted.is_point and any(dyadic(floor_at(v, GRID), GRID) != v for v in lo_hi):
            raise _bad("binary fractions as the corners of an exact region", lo_hi)
    if not isinstance(wanted, Tensor):
        raise _bad("a box", wanted)
    return equal(wanted, given) if exactly else contains(given, wanted)


def _value(claim: Conclusion, name: str) -> object:
    if isinstance(claim, Run) and name == "drift":
        return max(claim.drifts)
    if isinstance(claim, Encloses) and name == "radius":
        if not claim.box.bounded:
            return None
        lo, hi = claim.box.ends()
        return dyadic(max(b - a for a, b in zip(lo, hi, strict=True)), claim.box.exp - 1)
    value = getattr(claim, name)
    if value is None:
        return None
    if isinstance(claim, Run) and name == "radius":
        return claim.radius * coordinate_scale(claim.norm)  # a distance in every coordinate, whatever the weights
    if name == "norm":
        return value.family
    return str(value) if name == "operator" else value


def _meets(claim: Conclusion, expectation: Expectation, vocabulary: int | None) -> bool:
    for name, wanted in expectation.fields:
        found = _value(claim, name)
        if isinstance(claim, Refuted) and isinstance(found, Tensor):  # where it fails: named exactly
            if not _holds_set(wanted, found, vocabulary if name == "domain" else None, True):
                return False
        elif found is None and name != "start":
            return False
        elif name in BOUNDS:
            at = isinstance(claim, Answer) and claim.at
            if isinstance(claim, Refuted):  # what fails at a rate fails at every smaller one, and not the other way
                found, wanted = wanted, found
            if found is None or (found != wanted if at else found > wanted):  # type: ignore[operator]
                return False
        elif name in ("domain", "region", "start"):
            if name == "start" and (found is None or wanted == "init"):
                # a start of all states includes init(x)
                if wanted != "init" or (isinstance(found, Tensor) and found.bounded):
                    return False
            elif not isinstance(found, Tensor) or not _holds_set(
                wanted, found, vocabulary if name == "domain" else None, name == "region" and not _shrinks(claim)
            ):
                return False
        elif name == "norm":
            if found != wanted and (wanted, found) != ("weighted_linf", "linf"):
                return False
        elif name in LABELS:
            if "-".join(map(str, found)) != str(wanted):  # type: ignore[call-overload]
                return False
        elif found != wanted:
            return False
    return True


def _shrinks(claim: Conclusion) -> bool:
    """Whether the claim holds on every smaller region too."""
    whole = isinstance(claim, Encloses) and claim.kind != "all"
    return not isinstance(claim, (ExactlyOne, Invariant, FixedPointAnswer, Lipschitz)) and not whole


def name_of(claim: Conclusion) -> str:
    """The claim's name in certificates and expectations."""
    if isinstance(claim, Answer):
        return "answer_at" if claim.at else "answer"
    if isinstance(claim, Encloses):
        return f"encloses_{claim.kind}"
    names = {
        "FixedPointAnswer": "fixed_point_answer", "Refuted": "refutation", "Contraction": "contraction",
        "AtMostOne": "at_most_one", "ExactlyOne": "exactly_one", "Run": "run", "Invariant": "invariant",
        "Commits": "commits", "Convergence": "convergence", "Lipschitz": "lipschitz", "Settled": "settles",
    }  # fmt: skip
    return names[type(claim).__name__]


def _wanted(name: str, value: object) -> str:
    shown = approximate(value) if isinstance(value, Fraction) else value if isinstance(value, str) else "…"
    return f"{name}{'<=' if name in BOUNDS else '='}{shown}"


def find(valid: Valid, expectation: Expectation) -> Conclusion:
    """The first claim that meets the expectation. Raises `CheckError` EXPECTED when there is none."""
    for claim in valid.claims:
        if name_of(claim) == expectation.claim and _meets(claim, expectation, valid.graph.vocabulary):
            return claim
    wanted = f"a claim that meets {expectation.claim}({', '.join(_wanted(*f) for f in expectation.fields)})"
    norms = _other_norms(valid, expectation)
    if norms:
        advice = " or ".join(f"norm={norm}" for norm in norms)
        raise CheckError(
            "EXPECTED", wanted, f"one in another norm, {' and '.join(norms)}; write {advice}, or leave norm out"
        )
    raise CheckError("EXPECTED", wanted, [describe(c) for c in valid.claims[:4]])


def _other_norms(valid: Valid, expectation: Expectation) -> list[str]:
    """The norms of the claims that meet everything else: rates in different norms cannot be compared."""
    rest = Expectation(expectation.claim, tuple(f for f in expectation.fields if f[0] != "norm"))
    if rest == expectation:
        return []
    claims = [c for c in valid.claims if name_of(c) == rest.claim and _meets(c, rest, valid.graph.vocabulary)]
    return sorted({norm for c in claims if isinstance(norm := _value(c, "norm"), str)})


def _set(box: Tensor | None) -> str:
    if box is None:
        return "init"
    if not box.bounded:
        return "all"
    kind = "point" if box.is_point else "box"
    return f"{kind} of dimension {box.size} sha256:{box_digest(box)}"


def describe(claim: Conclusion) -> str:
    """One line: every field of the claim, rates as decimals rounded up."""
    parts = []
    for name in FIELDS[name_of(claim)]:
        found = _value(claim, name)
        if name in ("domain", "region", "start") and (isinstance(found, Tensor) or found is None and name == "start"):
            parts.append(f"{name}={_set(found)}")
        elif found is None:
            continue
        elif name in EXACT and isinstance(found, (int, Fraction)):
            parts.append(f"{name}={_exactly(found)}")
        elif isinstance(found, Fraction):
            parts.append(f"{name}<={rounded_down(found) if isinstance(claim, Refuted) else rounded_up(found)}")
        elif name in LABELS:
            parts.append(f"{name}=" + "-".join(map(str, found)))  # type: ignore[call-overload]
        else:
            parts.append(f"{name}{'<=' if name in BOUNDS and name_of(claim) != 'answer_at' else '='}{found}")
    return f"{name_of(claim)}({', '.join(parts)})"


def _exactly(value: int | Fraction) -> str:
    """A number as it is, or about so where it is too long to print."""
    exact = Fraction(value)
    return str(exact) if max(abs(exact.numerator), exact.denominator) < 10**60 else approximate(exact)


def rounded_down(value: Fraction) -> str:
    """A decimal ≤ value ≥ 0, with eight places."""
    return rounded_up(Fraction(value.numerator * 10**8 // value.denominator, 10**8), 40)


def rounded_up(value: Fraction, digits: int = 9) -> str:
    """A decimal ≥ value with the given number of significant digits."""
    if value <= 0:
        return "0" if value == 0 else str(value)
    bits = value.numerator.bit_length() - value.denominator.bit_length()
    if abs(bits) > 1000:  # too long to print
        return f"2^{bits + 1}"
    scale = 0
    while value * 10**scale < 10 ** (digits - 1) and scale < 400:
        scale += 1
    scaled = -(-value.numerator * 10**scale // value.denominator)
    whole = str(scaled).rjust(scale + 1, "0")
    text = (whole[: len(whole) - scale] + "." + whole[len(whole) - scale :]) if scale else whole
    text = text.rstrip("0").rstrip(".") if scale else text
    return rounded_up(value, digits + 9) if text == "1" and value < 1 and digits < 300 else text
