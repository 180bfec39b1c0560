"""What is iterated: the step itself, the step damped from outside or inside, or nothing in particular."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel.document import digest, dyadic, fields, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import step
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.tensor import Tensor, common, settle


@dataclass(frozen=True)
class Operator:
    """`alpha` has one entry per coordinate for outer damping, one in all for inner damping, none otherwise."""

    kind: str
    alpha: tuple[Fraction, ...] = ()

    def __str__(self) -> str:
        if not self.alpha:
            return self.kind
        texts = [f"{a.numerator:x}/{a.denominator:x}" for a in self.alpha]
        first = self.alpha[0]
        short = all(a == first for a in self.alpha) and max(first.numerator, first.denominator) < 1 << 60
        return f"{self.kind}({first if short else 'sha256:' + digest(texts)})"


PICARD = Operator("picard")
IMPLICIT = Operator("implicit")


def parse_operator(raw: object, size: int) -> Operator:
    if raw in ("picard", "implicit"):
        return PICARD if raw == "picard" else IMPLICIT
    if isinstance(raw, dict) and set(raw) == {"outer_damped"}:
        ints, exp = vector(fields(raw, "outer_damped", where="operator")[0], None, "alpha")
        alphas = [value_of(v, exp) for v in ints]
        if len(alphas) not in (1, size) or any(not 0 < alpha <= 1 for alpha in alphas):
            raise CheckError("OPERATOR", f"1 or {size} damping factors in (0, 1]", f"{len(alphas)} factors")
        return Operator("outer_damped", tuple(alphas * size if len(alphas) == 1 else alphas))
    if isinstance(raw, dict) and set(raw) == {"inner_damped"}:
        alpha = value_of(*dyadic(fields(raw, "inner_damped", where="operator")[0], "alpha"))
        if alpha <= 0:
            raise CheckError("OPERATOR", "a positive damping factor", alpha)
        return Operator("inner_damped", (alpha,))
    raise CheckError("OPERATOR", "picard, implicit, outer_damped or inner_damped", raw)


def require_loop(operator: Operator) -> None:
    """The operators whose iterates the kernel can follow."""
    if operator.kind not in ("picard", "outer_damped"):
        raise CheckError("UNSUPPORTED", "the picard or outer_damped operator", operator)


def apply(graph: Graph, operator: Operator, state: Tensor, given: Tensor) -> Tensor:
    """One application of the operator to every state of a flat tensor."""
    require_loop(operator)
    image = step(graph, state, given)
    if operator.kind == "picard":
        return image
    exp, lo, hi, image_lo, image_hi = common(state, image)
    shift = max(a.denominator.bit_length() for a in operator.alpha) - 1
    scaled = [int(a * (1 << shift)) for a in operator.alpha]

    def mix(old: list[int], new: list[int]) -> list[int]:
        return [((1 << shift) - a) * p + a * q for a, p, q in zip(scaled, old, new, strict=True)]

    exact = state.is_point and image.is_point
    return settle(state.shape, exp - shift, mix(lo, image_lo), None if exact else mix(hi, image_hi))


def difference(a: Tensor, b: Tensor) -> Tensor:
    """a − b for flat tensors that vary independently."""
    exp, lo, hi, low, high = common(a, b)
    exact = a.is_point and b.is_point
    return settle(
        a.shape, exp, [p - q for p, q in zip(lo, high, strict=True)],
        None if exact else [p - q for p, q in zip(hi, low, strict=True)],
    )  # fmt: skip
