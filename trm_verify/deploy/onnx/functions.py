"""The certified functions as ONNX models: step, init, readout, and a fixed number of steps from init to logits.

They are written from the exact graph that certificates are about, node by node, with the stored tensors under their
own names, not traced from Python a second time: what a certificate proves and what the file computes then differ by
float32 rounding alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from trm_verify import __version__
from trm_verify.deploy.onnx.emitter import Emitter, Value
from trm_verify.deploy.onnx.operations import KEEP_INTEGERS, RULES
from trm_verify.lowering import number
from trm_verify.model import Damped
from trm_verify.result import CAVEAT
from trm_verify.verification.deployed import Deployed

OPSET, IR_VERSION = 18, 8
BATCH = "batch"
PREFIX = "trm_verify."


class OnnxError(ValueError):
    """A model, or a number of steps, that has no ONNX file, or one that computes something else."""


class OnnxDiffers(OnnxError):
    """An ONNX file that was not written, since it computes something else than the exact graph."""


def step_model(deployed: Deployed) -> onnx.ModelProto:
    """`z, x → f(z, x)`."""
    writer = _Writer(deployed)
    z, x = writer.state(), writer.input()
    after = writer.function("step", "step", z, x)
    return writer.model(after, writer.names("next_"), function="step")


def init_model(deployed: Deployed) -> onnx.ModelProto:
    """`x → z₀`; without input there is one row.

    Raises:
        OnnxError: the model starts from zeros.
    """
    writer = _Writer(deployed)
    if writer.graph["init"] is None:
        raise OnnxError("expected a model with an init(x), found one that starts from zeros; feed zeros to step.onnx")
    return writer.model(writer.start(writer.input()), writer.names(), function="init")


def readout_model(deployed: Deployed) -> onnx.ModelProto:
    """`z → logits`.

    Raises:
        OnnxError: the model has no readout.
    """
    writer = _Writer(deployed)
    if writer.graph["readout"] is None:
        raise OnnxError("expected a model with a readout(z), found none")
    return writer.model(writer.function("readout", "readout", writer.state(), None), ["logits"], function="readout")


def unrolled_model(deployed: Deployed, steps: int) -> onnx.ModelProto:
    """`x → logits` after `steps` applications of the model's own iteration (the state, for a model without readout).

    What depends on x alone is computed once for all steps (and once more for the first, if that starts from constants).

    Raises:
        OnnxError: the model names no iteration, or a number of steps below 0.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise OnnxError(f"expected a number of steps >= 0, found {steps!r}")
    iteration = deployed.spec.iteration
    if iteration == "implicit":
        raise OnnxError(
            'expected a model with an iteration, found iteration="implicit", whose fixed point any solver may look '
            "for; export the step and the readout without steps="
        )
    writer = _Writer(deployed)
    x = writer.input()
    z, known = writer.start(x), dict[int, Value]()
    for k in range(1, steps + 1):
        # A first state without batch axis is a constant. Its step shares nothing: Marabou 2.0 adds a constant into the
        # value it is added to, wherever else that value is used.
        shared = known if all(part.batched for part in z) else None
        after = writer.function("step", f"step.{k}", z, x, shared)
        z = writer.damped(iteration, z, after, f"step.{k}") if isinstance(iteration, Damped) else after
    outputs, names = z, writer.names()
    if writer.graph["readout"] is not None:
        outputs, names = writer.function("readout", "readout", z, None), ["logits"]
    return writer.model(outputs, names, function="unrolled", steps=str(steps))


class _Writer:
    """Writes one ONNX model of a deployed model."""

    def __init__(self, deployed: Deployed) -> None:
        self.deployed, self.graph = deployed, deployed.exported.graph
        self.emitter = Emitter(deployed.exported.tensors)
        self.given: list[onnx.ValueInfoProto] = []

    def names(self, before: str = "") -> list[str]:
        parts = self.graph["state"]
        return [f"{before}z"] if len(parts) == 1 else [f"{before}z_{i}" for i in range(len(parts))]

    def state(self) -> list[Value]:
        """The state's parts, as inputs."""
        return [
            self._input(name, tuple(shape), False)
            for name, shape in zip(self.names(), self.graph["state"], strict=True)
        ]

    def input(self) -> Value | None:
        """x, as an input; None for a model without."""
        given = self.graph["input"]
        return None if given is None else self._input("x", tuple(given["shape"]), given["kind"] == "integer")

    def _input(self, name: str, shape: tuple[int, ...], integer: bool) -> Value:
        dtype = TensorProto.INT64 if integer else TensorProto.FLOAT
        self.given.append(helper.make_tensor_value_info(name, dtype, [BATCH, *shape]))
        self.emitter.batch = name
        return Value(name, shape, True, integer)

    def start(self, x: Value | None) -> list[Value]:
        """z₀."""
        if self.graph["init"] is not None:
            return self.function("init", "init", (), x)
        shapes = [tuple(shape) for shape in self.graph["state"]]
        return [Value(self.emitter.literal(np.zeros(shape, np.float32)), shape) for shape in shapes]

    def function(
        self, name: str, scope: str, z: Sequence[Value], x: Value | None, known: dict[int, Value] | None = None
    ) -> list[Value]:
        """One copy of a function of the graph.

        Args:
            known: values of an earlier copy that do not depend on the state; receives those of this one.
        """
        nodes = self.graph[name]["nodes"]
        values: list[Value] = []
        varies: list[bool] = []
        for index, node in enumerate(nodes):
            varies.append(node["op"] == "state" or any(varies[i] for i in node["in"]))
            if known is not None and index in known:
                values.append(known[index])
                continue
            self.emitter.scope = f"{scope}/{index}"
            values.append(self._value(node, [values[i] for i in node["in"]], z, x))
            if known is not None and not varies[-1]:
                known[index] = values[-1]
        self.emitter.scope = scope
        return [self.emitter.real(values[i]) for i in self.graph[name]["outputs"]]

    def _value(self, node: dict[str, Any], args: list[Value], z: Sequence[Value], x: Value | None) -> Value:
        op: str = node["op"]
        if op == "state":
            part: int = node["part"]
            return z[part]
        if op == "input" and x is not None:
            return x
        if op == "tensor":
            return self.emitter.stored(node["name"])
        if op == "constant":
            exp, entries = node["value"]["exp"], node["value"]["int"].split()
            flat = np.array([float(number({"exp": exp, "int": v})) for v in entries], dtype=np.float32)
            return Value(self.emitter.literal(flat.reshape(node["shape"])), tuple(node["shape"]))
        if op not in RULES:
            raise OnnxError(f"expected an operation of docs/format.md, found {op!r}")
        if op not in KEEP_INTEGERS:
            args = [self.emitter.real(a) for a in args]
        return RULES[op](self.emitter, node, args)

    def damped(self, iteration: Damped, z: list[Value], after: list[Value], scope: str) -> list[Value]:
        """`(1 − α)∘z + α∘f(z, x)`, part by part."""
        self.emitter.scope = f"{scope}/damped"
        sizes = [prod(value.shape) for value in z]
        alpha = np.array([float(a) for a in iteration.alpha] * (sum(sizes) if len(iteration.alpha) == 1 else 1))
        result = []
        for old, new, part in zip(z, after, np.split(alpha, np.cumsum(sizes)[:-1]), strict=True):
            keep, take = (
                self.emitter.literal(factor.reshape(old.shape).astype(np.float32)) for factor in (1 - part, part)
            )
            kept = self.emitter.add("Mul", [old.name, keep])
            taken = self.emitter.add("Mul", [new.name, take])
            name = self.emitter.add("Add", [kept, taken])
            result.append(Value(name, old.shape, old.batched or new.batched))
        return result

    def model(self, outputs: Sequence[Value], names: Sequence[str], **about: str) -> onnx.ModelProto:
        """The finished model, with what ties it to a certificate among its metadata."""
        self.emitter.scope = "output"
        rows = BATCH if self.given else 1
        shown = []
        for value, name in zip(outputs, names, strict=True):
            value = self.emitter.with_batch(value)
            self.emitter.nodes.append(helper.make_node("Identity", [value.name], [name], name=f"output/{name}"))
            shown.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, *value.shape]))
        initializers = [self.emitter.initializers[name] for name in sorted(self.emitter.initializers)]
        graph = helper.make_graph(self.emitter.nodes, about["function"], self.given, shown, initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="trm_verify",
            producer_version=__version__,
        )  # fmt: skip
        model.doc_string = f"{about['function']} of a recursive model, in float32; certificates: {CAVEAT}"
        metadata = {
            **about, "graph_sha256": self.deployed.exported.digest,
            "weights_sha256": hashlib.sha256(self.deployed.weights).hexdigest(),
            "iteration": json.dumps(self.deployed.operator, sort_keys=True),
        }  # fmt: skip
        helper.set_model_props(model, {PREFIX + key: value for key, value in sorted(metadata.items())})
        return model
