"""Square roots, which the exact graph has only inside RMS normalization."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.export.axes import Axes
from trm_verify.export.errors import UnknownOperation
from trm_verify.export.translate import ROOTS, Translator, Value, handles


@handles("rsqrt.default", "sqrt.default")
def root(t: Translator, out: Axes, a: Value) -> int:
    """A marker that only `a · rsqrt(mean a² + eps)` and `a / sqrt(mean a² + eps)` consume: they are `rms_norm`."""
    node = t.use(a)
    return t.mark("rsqrt" if t.current.startswith("aten.rsqrt") else "sqrt", node)


def rms_from_root(t: Translator, node: int, below: int) -> int:
    """Recognise a · rsqrt(mean(a², last axis) + eps)."""
    b = t.b

    def peel(at: int, *ops: str) -> int:
        while b.nodes[at]["op"] in ops:
            at = b.nodes[at]["in"][0]
        return at

    total = b.nodes[below]
    if total["op"] == "add":
        parts = [peel(i, "expand", "reshape") for i in total["in"]]
        for mean_node, eps in (parts, parts[::-1]):
            scaled, literal = b.nodes[mean_node], b.nodes[eps]
            if literal["op"] != "constant" or scaled["op"] not in ("scale", "sum"):
                continue
            inner = peel(scaled["in"][0], "reshape") if scaled["op"] == "scale" else mean_node
            factor = Fraction(int(scaled["num"], 16), int(scaled["den"], 16)) if scaled["op"] == "scale" else 1
            if b.nodes[inner]["op"] != "sum":
                continue
            (squares,) = b.nodes[inner]["in"]
            size = b.shapes[node][-1]
            plain = b.nodes[squares]["op"] == "mul" and b.nodes[squares]["in"] == [node, node]
            if plain and factor == Fraction(1, size):
                value = literal["value"]
                if " " in value["int"] or int(value["int"], 16) <= 0:
                    continue
                return b.unary("rms_norm", node, eps=dict(value))
    raise UnknownOperation(ROOTS)
