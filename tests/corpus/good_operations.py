"""Certificates that must stay valid: inputs, operations, data types."""

from __future__ import annotations

from tests.corpus.good import (
    first_steps,
    good,
    label,
    orbit,
    row_scaled,
    spectral,
    whole,
)
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    draw,
    dyadic,
    graph,
    real,
    stored,
    vector,
)
from tests.corpus.witnesses import (
    minus,
    scaled_identity,
    times,
    transposed,
)

# inputs, operations, data types


@good
def integer_embedding() -> Sheet:
    """Integer inputs through an embedding (int8 table): exactly one fixed point for each of 5² inputs, and answers."""
    table = [[F(v) for v in row] for row in ([4, -3], [0, 5], [-6, 1], [2, 2], [7, -8])]
    w = row_scaled(draw(71, 4, 4), F(1, 2))
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.add("input"), nodes.tensor("table"))
    mixed = nodes.linear(nodes.add("reshape", nodes.state(), shape=[4]), "W")
    out = nodes.add("add", nodes.add("reshape", mixed, shape=[2, 2]), rows)
    given: Json = {"shape": [2], "kind": "integer", "size": 5}
    readout = Nodes()
    logits = readout.linear(readout.state(), "R")
    tensors = {"table": stored(table, "I8"), "W": stored(w), "R": stored(draw(72, 3, 2))}
    sheet = Sheet(graph(nodes.function(out), [[2, 2]], given, None, readout.function(logits)), tensors)
    rate = max(sum(map(abs, row)) for row in w)
    norm, everything = sheet.block([1] * 4), sheet.all("input")
    converges = whole(sheet, rate, norm, everything)
    x = [1, 4]
    domain, states = sheet.point(x), orbit(sheet, x, 80)
    answer = label(sheet, states[-1])

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step(
            "answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps
        )
        sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=steps)

    first_steps(sheet, finish)
    between = sheet.box([0, 3], [2, 4], "input")
    bounded = sheet.step("initial_bound", converges, domain=between, center=vector([0] * 4))
    sheet.claim_convergence(bounded, "init", norm, rate, between, epsilon=F(1, 64), steps=60)
    return sheet


@good
def convolution() -> Sheet:
    """A 3×3 convolution with zero padding on a 1×4×4 state, as unfold and linear."""
    kernel = row_scaled(draw(81, 1, 9), F(3, 4))
    nodes = Nodes()
    patches = nodes.add("unfold", nodes.state(), kernel=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[1, 1])
    rows = nodes.linear(patches, "K")
    image = nodes.add("reshape", nodes.add("permute", rows, axes=[1, 0]), shape=[1, 4, 4])
    out = nodes.add("tanh", nodes.add("add", image, nodes.add("input")))
    sheet = Sheet(graph(nodes.function(out), [[1, 4, 4]], real(1, 4, 4)), {"K": stored(kernel, "F16")})
    rate = sum(map(abs, kernel[0]))
    whole(sheet, rate, sheet.block([1] * 16), sheet.all("input"))
    return sheet


@good
def row_norms() -> Sheet:
    """Layer norm, RMS norm and softmax of the state, scaled until they contract: one of each, all inputs."""
    nodes = Nodes()
    z = nodes.state()
    eps = dyadic(1)
    layer = nodes.scale(nodes.add("layer_norm", z, eps=eps), 1, 8)
    root = nodes.scale(nodes.add("rms_norm", z, eps=eps), 1, 8)
    soft = nodes.scale(nodes.add("softmax", z), 1, 4)
    both = nodes.add("add", nodes.add("add", layer, root), soft)
    out = nodes.add("add", both, nodes.linear(nodes.add("input"), "U"))
    sheet = Sheet(graph(nodes.function(out), [[2, 3]], real(2, 2)), {"U": stored(draw(91, 3, 2))})
    whole(sheet, F(1, 2), sheet.block([1, 1], [[2, 3]]), sheet.all("input"))
    return sheet


@good
def every_layout() -> Sheet:
    """slice, select, expand, pad, concat, permute, reshape, sum, amax, max, min, mul, div and sub in one step."""
    nodes = Nodes()
    z, x = nodes.state(), nodes.add("input")  # z: (2, 3), x: (3,)
    left = nodes.add("slice", z, axis=1, start=0, stop=2, step=1)
    turned = nodes.add("select", left, axis=0, indices=[1, 0])
    padded = nodes.add("pad", turned, pads=[[0, 0], [1, 0]])
    swapped = nodes.add("reshape", nodes.add("permute", z, axes=[1, 0]), shape=[2, 3])
    top = nodes.add("max", padded, nodes.scale(swapped, 1, 2))
    most = nodes.add("reshape", nodes.add("amax", z), shape=[2, 1])
    wide = nodes.add("expand", most, shape=[2, 3])
    low = nodes.add("min", wide, nodes.scale(z, 1, 2))
    row = nodes.add("reshape", x, shape=[1, 3])
    pair = nodes.add("concat", row, nodes.scale(row, -1, 2), axis=0)
    gate = nodes.add("sigmoid", pair)
    gated = nodes.add("mul", gate, nodes.add("sub", top, low))
    total = nodes.add("reshape", nodes.add("sum", z), shape=[2, 1])
    mean = nodes.scale(nodes.add("expand", total, shape=[2, 3]), 1, 12)
    divisor = nodes.add("add", nodes.add("abs", pair), nodes.constant([[2, 2, 2], [2, 2, 2]]))
    out = nodes.add("add", nodes.scale(gated, 1, 8), nodes.add("div", mean, divisor))
    shifted = nodes.add("add", out, pair)
    sheet = Sheet(graph(nodes.function(shifted), [[2, 3]], real(3)))
    domain = sheet.box([-1] * 3, [1] * 3, "input")
    whole(sheet, F(7, 8), sheet.block([1] * 6), domain)
    return sheet


@good
def every_activation() -> Sheet:
    """All elementwise activations side by side, one coordinate each; weights are stored as integers and halves."""
    ops = ["relu", "abs", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos"]
    nodes = Nodes()
    z = nodes.add("mul", nodes.state(), nodes.scale(nodes.tensor("s"), 1, 16))
    parts = [nodes.add(op, nodes.add("slice", z, axis=0, start=i, stop=i + 1, step=1)) for i, op in enumerate(ops)]
    rest = [nodes.add("slice", z, axis=0, start=i, stop=i + 1, step=1) for i in (9, 10)]
    parts.append(nodes.add("leaky_relu", rest[0], slope=dyadic(F(1, 8))))
    parts.append(nodes.clamp(rest[1], F(-1, 2), F(3, 4)))
    mixed = nodes.add("select", nodes.add("concat", *parts, axis=0), axis=0, indices=[*range(1, 11), 0])
    out = nodes.add("add", mixed, nodes.scale(nodes.tensor("b"), 1, 8))
    tensors = {
        "s": stored([8, -8, 9, 7, 8, -6, 5, 10, -10, 8, 12], "I8"),
        "b": stored([1, -2, 3, 0, 5, -1, 2, 2, -4, 1, 0], "I32"),
    }
    sheet = Sheet(graph(nodes.function(out), [[11]]), tensors)
    whole(sheet, F(3, 4), sheet.block([1] * 11), sheet.nothing())
    return sheet


@good
def unused_and_integer_tensors() -> Sheet:
    """A file with I64, I16 and U8 tensors, one of which the graph does not use and the certificate lists."""
    nodes = Nodes()
    out = nodes.add("add", nodes.scale(nodes.linear(nodes.state(), "W"), 1, 8), nodes.scale(nodes.tensor("b"), 1, 2))
    tensors = {
        "W": stored([[3, -2], [1, 4]], "I64"), "b": stored([1, -3], "I16"), "extra": stored([7, 255], "U8")
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(out), [[2]]), tensors, unused=["extra"])
    whole(sheet, F(5, 8), sheet.block([1, 1]), sheet.nothing())
    return sheet


@good
def constant_expressions() -> Sheet:
    """W = ½I − AᵀA/16 + B − Bᵀ as an expression over stored tensors, evaluated exactly."""
    a, b = [[F(1), F(-1)], [F(2), F(0)]], [[F(0), F(1, 4)], [F(1, 8), F(0)]]
    nodes = Nodes()
    z, ta, tb = nodes.state(), nodes.tensor("A"), nodes.tensor("B")
    square = nodes.scale(nodes.add("matmul", nodes.add("permute", ta, axes=[1, 0]), ta), -1, 16)
    skew = nodes.add("sub", tb, nodes.add("permute", tb, axes=[1, 0]))
    half = nodes.constant([[F(1, 2), 0], [0, F(1, 2)]])
    w = nodes.add("add", nodes.add("add", half, square), skew)
    out = nodes.add("clamp", nodes.add("linear", z, w), lo=None, hi=dyadic(4))
    out = nodes.add("add", out, nodes.constant([1, 1]))
    sheet = Sheet(graph(nodes.function(out), [[2]]), {"A": stored(a), "B": stored(b)})
    value = minus(
        [
            [p + q for p, q in zip(x, y, strict=True)]
            for x, y in zip(scaled_identity(2, F(1, 2)), minus(b, transposed(b)), strict=True)
        ],
        [[v / 16 for v in row] for row in times(transposed(a), a)],
    )
    bound, sigma = spectral(sheet, w, value)
    whole(sheet, sigma, sheet.block([1], [[1, 2]]), sheet.nothing(), premises=[bound])
    return sheet
