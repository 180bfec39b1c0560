"""From one traced ATen program to one function of the exact graph, node by node."""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import isfinite
from typing import Any, TypeVar

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from trm_verify.export.axes import Axes, BatchSize, read_axes, read_size
from trm_verify.export.builder import Builder
from trm_verify.export.errors import (
    BatchMixing,
    BufferUpdate,
    DataDependent,
    ExportError,
    RandomInStep,
    TrainingMode,
    UnknownOperation,
)
from trm_verify.export.tensors import Tensors
from trm_verify.export.trace import ancestors, inert, leaves, map_leaves, source_line, uniform

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
HANDLERS: dict[str, Handler] = {}
LAYOUT_ONLY: set[str] = set()  # operations that only move entries: never baked, so that stored names survive

ROOTS = (
    "expected square roots only in a * rsqrt(mean(a**2, last axis, keepdim) + eps); write the normalization with "
    "torch.nn.functional.rms_norm"
)
LITERAL_LIMIT = 64  # entries up to which a tensor written in the model's code becomes a literal of the graph
TRAINING = {"dropout": 2, "batch_norm": 5}  # operations with a training flag, and its position
IGNORED = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")


def handles(*targets: str, layout_only: bool = False) -> Callable[[H], H]:
    """Register `handler(translator, out, *args, **kwargs)` for ATen overloads such as `"add.Tensor"`."""

    def register(handler: H) -> H:
        for target in targets:
            HANDLERS["aten." + target] = handler
            if layout_only:
                LAYOUT_ONLY.add("aten." + target)
        return handler

    return register


@dataclass(frozen=True, eq=False)
class Value:
    """A traced tensor.

    Attributes:
        axes: its shape and batch axis.
        node: its node in the graph; None for a batch-free constant that nothing has used yet.
        data: the value of such a constant.
        origin: where such a constant was computed.
        literal: whether it was computed from no parameter and no buffer.
        dtype: torch's type.
    """

    axes: Axes
    dtype: torch.dtype
    node: int | None = None
    data: Tensor | None = None
    origin: fx.Node | None = None
    literal: bool = False


class Translator:
    """Translates one program. `roles` says what each user input is: ("state", part), ("input", 0) or ("batch", 0).

    Raises:
        ExportError: a subclass for everything that has no exact meaning.
    """

    def __init__(
        self, program: ExportedProgram, roles: Sequence[tuple[str, int]], tensors: Tensors, fold: bool, name: str
    ) -> None:
        self.program, self.roles, self.tensors, self.fold, self.name = program, roles, tensors, fold, name
        self.b = Builder()
        self.env: dict[fx.Node, Any] = {}
        self.symbol: Any = None
        self._node: fx.Node
        self.current = ""
        self._marks: dict[int, fx.Node] = {}
        self._used: dict[fx.Node, int] = {}
        self._parameters: dict[fx.Node, frozenset[str]] = {}

    # --- the program -------------------------------------------------------------------------------------------

    def run(self) -> list[Value]:
        """Translate everything; the values that the program returns."""
        self._placeholders()
        self._refuse_side_effects()
        output = next(n for n in self.program.graph.nodes if n.op == "output")
        needed = ancestors(output)
        for node in self.program.graph.nodes:
            if node not in needed:
                continue
            if node.op == "call_function":
                self._guarded(node, partial(self._call, node))
            elif node.op not in ("placeholder", "output"):
                raise UnknownOperation(
                    "expected plain tensor operations; avoid higher-order operators such as autocast, cond or "
                    "checkpoint inside a step",
                    str(node.target),
                    source_line(node),
                )
        return [self.env[node] for node in output.args[0]]

    def _placeholders(self) -> None:
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        roles = iter(self.roles)
        users = []
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind == InputKind.USER_INPUT:
                users.append(node)
                self.symbol = node.meta["val"].shape[0].node.expr
                continue
            if spec.target is None:
                pure = "expected operations that only compute, found one that checks its values while it runs"
                raise UnknownOperation(f"{pure}, as torch.linalg.solve does; multiply by a matrix that you store")
            target = str(spec.target)
            source = self.program.state_dict if target in self.program.state_dict else self.program.constants
            data = source[target]
            if not isinstance(data, Tensor):
                raise UnknownOperation(f"expected tensors, found a constant {type(data).__name__}", target)
            known = self.tensors.name_of(data)
            self._parameters[node] = frozenset([known] if known else [])
            self.env[node] = Value(Axes(tuple(data.shape)), data.dtype, None, data.detach(), node, known is None)
        for node in users:
            role, part = next(roles)
            val = node.meta["val"]
            axes = read_axes(val.shape, self.symbol)
            if role == "batch":
                self.env[node] = Value(axes, val.dtype, self.b.constant(axes.shape, [Fraction(0)]))
                continue
            attributes = {"part": part} if role == "state" else {}
            self.env[node] = Value(axes, val.dtype, self.b.emit(role, [], axes.shape, **attributes))

    def _refuse_side_effects(self) -> None:
        """Training mode first, since it explains the buffer updates it causes."""
        for node in self.program.graph.nodes:
            target = str(node.target)
            if node.op != "call_function":
                continue
            flags = [node.args[i] for word, i in TRAINING.items() if word in target and i < len(node.args)]
            if True in flags:
                raise TrainingMode("expected evaluation mode, found a layer in training mode; call model.eval() first",
                                   target, source_line(node))  # fmt: skip
            if "aten.item" in target or "local_scalar" in target:
                raise DataDependent("expected values to stay in tensors, found a number read out of one (item, tolist, "
                                    "float); compute with the tensor itself", target, source_line(node))  # fmt: skip
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and not inert(node):
                raise RandomInStep("expected a deterministic model, found random numbers; remove them, or draw them "
                                   "once in __init__ and keep them in a buffer", target, source_line(node))  # fmt: skip
        signature = self.program.graph_signature
        changed = [*signature.buffers_to_mutate.values(), *getattr(signature, "parameters_to_mutate", {}).values()]
        if changed:
            names = ", ".join(c.removeprefix("owner.") for c in changed)
            raise BufferUpdate(f"expected a step without memory, found that it updates {names}; call model.eval(), or "
                               "make what it remembers a part of the state")  # fmt: skip
        if signature.user_inputs_to_mutate:
            raise BufferUpdate("expected a step that leaves its arguments alone, found an in-place change of one; "
                               "use the out-of-place form (z * 0.5 for z.mul_(0.5))")  # fmt: skip

    def _guarded(self, node: fx.Node, action: Callable[[], Any]) -> Any:
        """Name the operation and the line in errors that do not yet."""
        try:
            return action()
        except ExportError as error:
            if error.source is not None:
                raise
            raise type(error)(error.message, str(node.target), source_line(node)) from error

    def _call(self, node: fx.Node) -> None:
        target, val = str(node.target), node.meta.get("val")
        if any(word in target for word in IGNORED):
            return
        if isinstance(val, (torch.SymInt, int)) and not isinstance(val, bool):
            self.env[node] = read_size(val, self.symbol)
            return
        if isinstance(val, (torch.SymBool, torch.SymFloat, float, bool)):
            self.env[node] = BatchSize(None)
            return
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        if node.target is operator.getitem:
            part = args[0][args[1]]
            if part is None:
                raise DataDependent("expected values, found the positions of extreme values (arg-max) in use")
            constant = isinstance(part, Value) and part.data is not None
            self.env[node] = replace(part, origin=node) if constant else part
            return
        values, sizes = list(leaves((args, kwargs), Value)), list(leaves((args, kwargs), BatchSize))
        if all(v.data is not None for v in values) and not sizes:
            self._evaluate(node, args, kwargs, values)
        else:
            self.env[node] = self.translate(node, args, kwargs)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.env[value]
        if isinstance(value, (list, tuple)):
            return [self._resolve(v) for v in value]
        return {k: self._resolve(v) for k, v in value.items()} if isinstance(value, dict) else value

    # --- constants ---------------------------------------------------------------------------------------------

    def _evaluate(self, node: fx.Node, args: Any, kwargs: Any, values: list[Value]) -> None:
        """A batch-free subgraph of parameters: evaluated by torch, in the dtype the model uses."""
        plain = map_leaves((args, kwargs), Value, lambda v: v.data)
        with torch.no_grad():
            result = node.target(*plain[0], **plain[1])  # type: ignore[operator]
        if "empty" in str(node.target):
            result = torch.full_like(result, float("nan")) if result.is_floating_point() else result.zero_()
        origins = [v.origin for v in values if v.origin is not None]
        self._parameters[node] = frozenset().union(*(self._parameters.get(o, ()) for o in origins))
        literal = all(v.literal for v in values)

        def wrap(tensor: Tensor) -> Value:
            return Value(Axes(tuple(tensor.shape)), tensor.dtype, None, tensor, node, literal)

        if isinstance(result, Tensor):
            self.env[node] = wrap(result)
        else:
            self.env[node] = [wrap(t) if isinstance(t, Tensor) else t for t in result]

    def use(self, value: Value) -> int:
        """The graph node of a value; constants enter the graph here, when something needs them."""
        if value.node is not None:
            return value.node
        if value.origin is None or value.data is None:
            raise UnknownOperation("expected a tensor")
        if value.origin not in self._used:
            self._used[value.origin] = self._enter(value, value.data, value.origin)
        return self._used[value.origin]

    def _enter(self, value: Value, data: Tensor, origin: fx.Node) -> int:
        part = None
        if origin.target is operator.getitem:
            origin, part = origin.args  # type: ignore[assignment]
        target = str(origin.target)
        if value.literal:
            if data.numel() <= LITERAL_LIMIT or uniform(data):
                return self._literal(data)
            return self._stored(self.tensors.bake(data, "constant", True), data)
        if origin.op == "placeholder":
            (name,) = self._parameters[origin]
            return self._stored(self.tensors.own(name), data)
        if target in LAYOUT_ONLY or not self.fold:
            if target not in HANDLERS:
                raise UnknownOperation(
                    "expected an operation that the exact graph knows in a constant expression; export with fold=True "
                    "to evaluate parameters in the model's own arithmetic",
                    target,
                    source_line(origin),
                )
            args, kwargs = self._resolve(origin.args), self._resolve(origin.kwargs)
            translated = self._guarded(origin, lambda: self.translate(origin, args, kwargs))
            return self.use(translated if part is None else translated[part])
        stem, numbered = self._stem(origin)
        return self._stored(self.tensors.bake(data, stem, numbered), data)

    def _stem(self, origin: fx.Node) -> tuple[str, bool]:
        """`layer.weight` for what a parametrization of `layer.weight` computes, else a number."""
        stems = set()
        for name in self._parameters.get(origin, ()):
            head, mark, tail = name.partition("parametrizations.")
            stems.add(head + tail.split(".")[0] if mark else None)
        stem = stems.pop() if len(stems) == 1 else None
        return (stem, False) if stem else (f"baked.{self.name}", True)

    def _stored(self, name: str, data: Tensor) -> int:
        return self.b.emit("tensor", [], tuple(data.shape), name=name)

    def _literal(self, data: Tensor) -> int:
        values = data.detach().cpu().reshape(-1).tolist()
        return self.b.constant(tuple(data.shape), [self.number(v) for v in values])

    @staticmethod
    def number(value: Any) -> Fraction:
        """The exact value of a number in the model's code.

        Raises:
            BatchMixing: it is the batch size. UnknownOperation: it is not finite.
        """
        if isinstance(value, BatchSize):
            raise BatchMixing(
                "expected values that do not depend on the batch size, found the batch size used as a number"
            )
        if isinstance(value, complex) or not isfinite(value):
            raise UnknownOperation(f"expected a finite real number, found {value}; masks with -inf have no exact form")
        return Fraction(value)

    # --- translation -------------------------------------------------------------------------------------------

    def translate(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        handler = HANDLERS.get(str(node.target))
        if handler is None:
            if list(leaves((args, kwargs), BatchSize)):
                raise BatchMixing("expected values that do not depend on the batch size, found it used here")
            raise UnknownOperation(
                "expected an operation with an exact form, found one without; rewrite the step with the operations "
                "that docs/format.md lists"
            )
        val = node.meta["val"]
        out: Any
        minor = any(v.axes.minor for v in leaves((args, kwargs), Value))
        if isinstance(val, Tensor):
            out = self._read(val, minor)
        else:
            out = [self._read(v, minor) if isinstance(v, Tensor) else None for v in val]
        self.current, self._node = str(node.target), node
        try:
            result = handler(self, out, *args, **kwargs)
        except TypeError as error:
            if len(traceback.extract_tb(error.__traceback__)) > 1:
                raise
            raise UnknownOperation(f"this form of the operation is not supported ({error})") from error
        if isinstance(result, int):
            if self.b.shapes[result] != out.shape:
                raise ExportError(
                    f"internal: expected shape {out.shape}, built {self.b.shapes[result]}; please report this"
                )
            return Value(out, val.dtype, result)
        if isinstance(result, list):
            return [Value(o, v.dtype, r) if isinstance(r, int) else r for o, v, r in zip(out, val, result, strict=True)]
        return result

    def _read(self, val: Tensor, minor: bool) -> Axes:
        """The axes of a traced result; where the batch is the minor part of an argument's axis, it stays so."""
        axes = read_axes(val.shape, self.symbol)
        return replace(axes, minor=True) if minor and axes.merged else axes

    def mark(self, op: str, node: int) -> int:
        """A node that is no operation of the format: a later handler must consume it, see `function`."""
        marked = self.b.emit(op, [node], self.b.shapes[node])
        self._marks.setdefault(marked, self._node)
        return marked

    def function(self, outputs: Sequence[int]) -> dict[str, Any]:
        """The finished graph function.

        Raises:
            UnknownOperation: a marker is left in it.
        """
        for index in self.b.reachable(outputs):
            if index in self._marks:
                node = self._marks[index]
                raise UnknownOperation(ROOTS, str(node.target), source_line(node))
        return self.b.function(outputs)

    def align(self, value: Value | float, out: Axes) -> int:
        """A node that broadcasts, the way torch would have it, to the graph shape of `out`."""
        if not isinstance(value, Value):
            return self.b.constant((), [self.number(value)])
        node, axes = self.use(value), value.axes
        if out.batch is None:
            return node
        position = out.batch - (out.rank - axes.rank)
        if axes.batch is None:
            if position < 0 or out.merged:
                return node
            if axes.shape[position] != 1:
                raise BatchMixing("expected one value per row, found a constant with an entry per row")
            return self.b.reshape(node, axes.shape[:position] + axes.shape[position + 1 :])
        if axes.batch != position or axes.place[1:] != out.place[1:]:
            raise BatchMixing(
                "expected the batch axes of both arguments to meet, found a broadcast across rows; keep the batch axis "
                "first and give both arguments the same number of axes"
            )
        return node

    def constant_data(self, value: Value, what: str) -> Tensor:
        """The value of a constant.

        Raises:
            DataDependent: it depends on the state or the input.
        """
        if value.data is None:
            raise DataDependent(f"expected constant {what}, found one computed from the state or the input")
        return value.data
