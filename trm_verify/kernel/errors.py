"""The one exception of the kernel and its closed set of codes."""

from __future__ import annotations

from fractions import Fraction

CODES: dict[str, str] = {
    "LIMIT": "a size cap was exceeded (file, nesting, digits, tensor count, work)",
    "JSON": "not the strict JSON of the format (duplicate keys, floats, NaN, bad encoding)",
    "VERSION": "an unknown statement type, predicate type or semantics",
    "FIELD": "a key is missing, unknown, or of the wrong type",
    "NUMBER": "a malformed number or a vector of the wrong length",
    "WEIGHTS": "the safetensors file is malformed (short, gapped, overlapping, mistyped)",
    "NONFINITE": "a stored tensor holds NaN or an infinity",
    "DIGEST": "the weights file is not the one that the certificate names",
    "GRAPH": "the graph is ill-formed (dangling or forward reference, unused node, wrong part)",
    "OPERATION": "the graph uses an operation that the kernel does not know",
    "SHAPE": "shapes do not fit",
    "BOX": "an empty, inverted, unbounded or misplaced box",
    "NORM": "a norm without strictly positive weights, or that does not fit the state",
    "OPERATOR": "an unknown operator or a damping factor outside its range",
    "RULE": "an unknown rule",
    "PREMISE": "a premise is missing, of the wrong kind, or not an earlier step",
    "CONTEXT": "a premise speaks of another domain, region, norm or operator",
    "UNSUPPORTED": "the rule has no sound treatment of an operation where it stands",
    "WITNESS": "the witness is outside the range that the rule allows",
    "RATE": "a rate is negative or not below 1",
    "INEQUALITY": "the inequality that the rule needs does not hold",
    "DEFINITE": "the matrix was not shown to be positive semidefinite",
    "INCLUSION": "a set was not shown to lie inside another",
    "MARGIN": "a logit difference was not shown to be strictly positive",
    "UNUSED": "a step or a tensor is neither used nor listed as unused",
    "EMPTY": "nothing is claimed",
    "CLAIM": "a claim does not follow from the step it names",
    "EXPECTED": "the certificate is valid but does not prove what the caller expects",
}


def approximate(value: Fraction) -> str:
    """A short decimal or power of two, for messages: the numbers of a hostile certificate can be too long to print."""
    if value.denominator == 1 and abs(value.numerator) < 10**15:
        return str(value.numerator)
    sign, size = "-" if value < 0 else "", value.numerator.bit_length() - value.denominator.bit_length()
    if abs(size) > 60:
        return f"about {sign}2^{size}"
    whole, rest = divmod(abs(value.numerator) * 10**9 // value.denominator, 10**9)
    return f"{sign}{whole}.{rest:09d}"


def _printable(got: object) -> str:
    if isinstance(got, (int, Fraction)):
        return approximate(Fraction(got))
    try:
        text = str(got)
    except ValueError:  # a number with too many digits inside
        text = f"a {type(got).__name__} of numbers too long to print"
    return "".join(c if c.isprintable() else "?" for c in text)  # a hostile string must not forge a line of output


class CheckError(Exception):
    """A certificate was rejected.

    Attributes:
        code: one of `CODES`.
        step: index of the step concerned, or None.
        expected: what the kernel needed to see.
        got: what it found.
    """

    def __init__(self, code: str, expected: str, got: object = "", step: int | None = None) -> None:
        if code not in CODES:
            raise KeyError(code)
        self.code, self.expected, self.got, self.step = code, expected, got, step
        super().__init__(code, expected, got, step)

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        found = _printable(self.got)
        found = found if len(found) <= 200 else found[:197] + "..."
        return f"{self.code}{where}: expected {self.expected}" + (f"; got {found}" if found else "")
