"""One change to a value, to the weights or to a graph, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
import struct
from random import Random
from typing import Any

from tests.corpus.sheet import Json

UNARY = ["relu", "abs", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos", "softmax"]
BINARY = ["add", "sub", "mul", "max", "min", "div"]
NAMES = {
    "claim": [
        "contraction", "at_most_one", "exactly_one", "invariant", "convergence", "answer", "answer_at", "run",
        "encloses_all", "encloses_one", "encloses_the", "fixed_point_answer", "refutation",
    ],
    "of": ["contraction", "at_most_one", "exactly_one", "convergence", "answer", "fixed_point_answer"],
    "rule": [
        "spectral", "spectral_abs", "radius_contraction", "metric_contraction", "damping", "monotone", "log_norm",
        "invariant_box", "invariant_radius", "at_most_one", "exactly_one", "convergence", "answer_at", "run",
        "enclosure", "located", "fixed_points_in", "duality", "by_continuity", "fixed_point_answer", "no_fixed_point",
        "answer_by_fixed_point", "joined_domains", "fixed_point_at", "two_fixed_points", "other_answer", "cycle",
    ],
}  # fmt: skip


# changes of one value


def _integer(value: int, rng: Random) -> int:
    return rng.choice([value + 1, value - 1, 2 * value + 1, rng.randrange(9), 0, -1, rng.randrange(1000)])


def mantissa(value: int, rng: Random) -> int:
    digits = list(format(abs(value), "x"))
    digits[rng.randrange(len(digits))] = rng.choice("0123456789abcdef")
    changed = int("".join(digits), 16) * (-1 if value < 0 else 1)
    return rng.choice(
        [
            changed,
            changed,
            value + 1,
            value - 1,
            value + 1,
            value - 1,
            -value,
            0,
            2 * value,
            value * 3 // 2,
            value * 3 // 4,
        ]
    )


def _vector(raw: Json, rng: Random) -> Json:
    """A number or vector with one entry, its length or its exponent changed."""
    ints = [int(token, 16) for token in raw["int"].split()]
    exp = raw["exp"]
    way = rng.randrange(12)
    if way == 0:
        return {"exp": exp + rng.choice([-1, 1]), "int": raw["int"]}
    if way == 1 and len(ints) > 1:
        del ints[rng.randrange(len(ints))]
    elif way == 2:
        ints.append(rng.randrange(4))
    elif way == 3 and len(ints) > 1:
        i, j = rng.sample(range(len(ints)), 2)
        ints[i], ints[j] = ints[j], ints[i]
    elif ints:
        shift = rng.choice([0, 0, 0, 12, 60])  # one unit in a last place that may be far finer
        ints, exp = [v << shift for v in ints], exp - shift
        i = rng.randrange(len(ints))
        ints[i] = mantissa(ints[i], rng)
    else:
        ints.append(1)
    return {"exp": exp, "int": " ".join(format(v, "x") for v in ints)}


def _operator(value: Any, rng: Random) -> Any:
    if isinstance(value, dict) and rng.random() < 0.5:
        return {kind: _vector(raw, rng) for kind, raw in value.items()}
    half = {"exp": -1, "int": "1"}
    return rng.choice(
        ["picard", "implicit", {"outer_damped": half}, {"inner_damped": half}, {"outer_damped": {"exp": 0, "int": "1"}}]
    )


def changed(key: Any, value: Any, rng: Random) -> Any:
    """Another value for a field."""
    if key == "operator":
        return _operator(value, rng)
    if isinstance(value, dict) and set(value) == {"exp", "int"}:
        return _vector(value, rng)
    if value is None:
        return rng.choice([{"exp": -1, "int": "1"}, 3, [0]])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return _integer(value, rng)
    if isinstance(value, str):
        return rng.choice(NAMES.get(key, [value + "x", value[:-1], value.upper(), "state", "input", "real", "block"]))
    if isinstance(value, list):
        return listed(value, rng)
    return {k: v for k, v in value.items() if k != rng.choice(sorted(value))} if value else 0


def listed(value: list[Any], rng: Random) -> list[Any]:
    result = copy.deepcopy(value)
    way = rng.randrange(4)
    if way == 0 and result:
        del result[rng.randrange(len(result))]
    elif way == 1 or not result:
        result.append(copy.deepcopy(rng.choice(result)) if result else 0)
    else:
        i = rng.randrange(len(result))
        result[i] = changed(None, result[i], rng)
    return result


# weights


def _number(kind: str, value: Any, rng: Random) -> Any:
    if kind[0] in "IU":
        low, high = (0, 255) if kind == "U8" else (-128, 127)
        return max(low, min(high, rng.choice([value + 1, value - 1, -value, 0, 2 * value, 3])))
    bits = {"F64": ("<d", "<Q", 64), "F32": ("<f", "<I", 32), "F16": ("<e", "<H", 16)}.get(kind)
    if kind == "BF16":  # stored as an unsigned half-word
        return value ^ (1 << rng.randrange(16))
    if bits is not None and rng.random() < 0.4:
        floating, whole, count = bits
        (raw,) = struct.unpack(whole, struct.pack(floating, value))
        (flipped,) = struct.unpack(floating, struct.pack(whole, raw ^ (1 << rng.randrange(count))))
        return flipped
    return rng.choice([-value, 0.0, value / 2, value * 0.75, value * 1.0078125, value * 1.5, value + 0.125, value * 3])


CODES = {"F64": "d", "F32": "f", "F16": "e", "BF16": "H", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B"}


def changed_weights(weights: bytes, rng: Random) -> tuple[str, bytes]:
    """One entry changed, two swapped, or a tensor scaled; (label, file)."""
    (length,) = struct.unpack("<Q", weights[:8])
    header, data = json.loads(weights[8 : 8 + length]), bytearray(weights[8 + length :])
    name = rng.choice(sorted(k for k in header if k != "__metadata__"))
    kind, (first, last) = header[name]["dtype"], header[name]["data_offsets"]
    values = list(struct.unpack(f"<{(last - first) // struct.calcsize(CODES[kind])}{CODES[kind]}", data[first:last]))
    way = rng.randrange(6)
    i = rng.randrange(len(values))
    if way == 0 and len(values) > 1:
        j = rng.randrange(len(values))
        values[i], values[j] = values[j], values[i]
        label = "two entries swapped"
    elif way == 1 and kind[0] == "F":
        factor = rng.choice([0.5, 0.96875, 1.001953125, 1.0625])
        values = [v * factor for v in values]
        label = "tensor scaled"
    else:
        values[i] = _number(kind, values[i], rng)
        label = "entry changed"
    try:
        data[first:last] = struct.pack(f"<{len(values)}{CODES[kind]}", *values)
    except OverflowError:  # too large for a half: leave the file alone, and the caller draws again
        return label, weights
    return f"weights {kind}: {label}", weights[: 8 + length] + bytes(data)


# graphs


def _pruned(function: Json) -> None:
    """Drops nodes that no output needs any more, in place."""
    needed = set(function["outputs"])
    for i in range(len(function["nodes"]) - 1, -1, -1):
        if i in needed:
            needed.update(function["nodes"][i]["in"])
    place = {old: new for new, old in enumerate(sorted(needed))}
    function["nodes"] = [
        {**n, "in": [place[a] for a in n["in"]]} for i, n in enumerate(function["nodes"]) if i in needed
    ]
    function["outputs"] = [place[i] for i in function["outputs"]]


def changed_graph(graph: Json, rng: Random) -> tuple[str, Json]:
    """One node of one function changed, or an edge moved; (label, graph)."""
    result = copy.deepcopy(graph)
    which = rng.choice([k for k in ("step", "step", "step", "init", "readout") if result[k] is not None])
    function = result[which]
    at = rng.randrange(len(function["nodes"]))
    node = function["nodes"][at]
    attributes = sorted(set(node) - {"op", "in"})
    if node["in"] and rng.random() < 0.2:
        node["in"][rng.randrange(len(node["in"]))] = rng.randrange(max(at, 1))
        _pruned(function)
        return "graph edge", result
    if attributes and rng.random() < 0.7:
        key = rng.choice(attributes)
        if key in ("num", "den"):
            node[key] = format(mantissa(int(node[key], 16), rng), "x")
        else:
            node[key] = changed(key, node[key], rng)
        return f"graph {node['op']}.{key}", result
    if node["op"] in UNARY or node["op"] in BINARY:
        node["op"] = rng.choice(UNARY if node["op"] in UNARY else BINARY)
        return "graph operation", result
    # one more activation, sign or scale behind this node
    function["nodes"].insert(at + 1, {"op": rng.choice(UNARY), "in": [at]})
    if rng.random() < 0.5:
        num, den = rng.choice([("-1", "1"), ("3", "2"), ("1", "2"), ("81", "80"), ("7f", "80")])
        function["nodes"][at + 1] = {"op": "scale", "in": [at], "num": num, "den": den}
    for later in function["nodes"][at + 2 :]:
        later["in"] = [a + (a >= at) for a in later["in"]]
    function["outputs"] = [a + (a >= at) for a in function["outputs"]]
    return "graph node inserted", result
