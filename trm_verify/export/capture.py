"""One function of a model as an ATen program, traced by `torch.export` with a symbolic batch size."""

from __future__ import annotations

import io
import linecache
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import config
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode
from torch.fx.traceback import annotate, preserve_node_meta
from torch.overrides import TorchFunctionMode

from trm_verify.export.errors import (
    BatchMixing,
    DataDependent,
    ExportError,
    ShapeChanged,
    WrongOutput,
)
from trm_verify.export.translate import HANDLERS

Call = Callable[..., Any]
Shape = tuple[int, ...]

EXAMPLE_BATCH = 3
_TAKES = {
    "step": "it takes the state, then the input (without input_shape the state alone); compare it",
    "init": "it takes the input; compare it",
    "readout": "it takes the state; compare it",
}
# Every trace has a batch size of its own, so that torch's cache of shapes is filled and hardly ever met: a third of the
# time.
_UNCACHED = partial(config.patch, fake_tensor_cache_enabled=False)
_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parent)


class Traced(nn.Module):
    """Calls one of the model's functions; the model is a submodule only so that its parameters keep their names."""

    call: Call

    def __init__(self, owner: nn.Module, call: Call) -> None:
        super().__init__()
        self.owner = owner
        self.__dict__["call"] = call  # not a submodule of its own: that would give every parameter two names

    def forward(self, *args: Tensor) -> Any:
        with _Lines():
            return self.call(*args)


class _Lines(TorchFunctionMode):
    """Notes the line of the model's code with every operation (torch's own traces keep `forward` frames only)."""

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        line = _line(sys._getframe(1))
        if line is None:
            return func(*args, **(kwargs or {}))
        with annotate({"line": line}):
            return func(*args, **(kwargs or {}))


def _line(frame: FrameType | None) -> str | None:
    """The innermost frame outside torch and this package."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_OWN):
            return None
        if not path.startswith(_TORCH):
            code = linecache.getline(path, frame.f_lineno).strip()
            return f"{path}:{frame.f_lineno}: {code}" if code else f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def check_parts(result: Any, parts: Sequence[Shape], multi: bool, what: str) -> list[Tensor]:
    """The state parts that `step` or `init` returned.

    Raises:
        ShapeChanged: another number of parts, or other shapes.
    """
    wanted = [f"(batch, {', '.join(map(str, p))})" for p in parts]
    hint = f"return a {'tuple of tensors' if multi else 'tensor'} of the shape state_shape names"
    if isinstance(result, (tuple, list)) != multi:
        raise ShapeChanged(f"expected {what} to return {wanted if multi else wanted[0]}, found {_kind(result)}; {hint}")
    tensors = list(result) if multi else [result]
    found = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in tensors]
    shapes = [f[1:] if isinstance(f, tuple) and f else f for f in found]
    if shapes != [tuple(p) for p in parts]:
        raise ShapeChanged(f"expected {what} to return {wanted}, found {found}; {hint}")
    return tensors


def check_logits(result: Any) -> list[Tensor]:
    """The logits that `readout` returned.

    Raises:
        WrongOutput: not one floating-point tensor with a class axis.
    """
    if not isinstance(result, Tensor) or result.dim() < 2 or not result.is_floating_point():
        raise WrongOutput(
            f"expected readout to return one tensor of logits, (batch, …, classes), found {_kind(result)}; put the "
            "classes on the last axis"
        )
    return [result]


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def capture(model: nn.Module, call: Call, examples: Sequence[Tensor], what: str) -> ExportedProgram:
    """Trace `call(*examples)`; every example's first axis is the batch.

    Raises:
        ExportError: the function cannot be traced.
    """
    batch = Dim("batch", min=1)
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quiet(), preserve_node_meta(), _UNCACHED():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                Traced(model, call), tuple(examples), strict=False,
                dynamic_shapes=(tuple({0: batch} for _ in examples),),
            )  # fmt: skip
            return _decompose(program)
    except ExportError:
        raise
    except GuardOnDataDependentSymNode as error:
        source = _source(error)
        detail = "" if source else f" ({_first_line(error)})"  # torch's own words are about its inside
        raise DataDependent(
            f"expected {what} to compute the same operations for all values, found control flow or a shape that "
            f"depends on values{detail}; use torch.where with a constant mask, clamp, or maximum",
            source=source,
        ) from error
    except (UserError, ConstraintViolationError) as error:
        if "onstraint" in str(error):
            raise BatchMixing(
                f"expected {what} to work alike for every batch size, found code that treats some sizes differently "
                f"({_first_line(error)}); do not branch on z.shape[0]"
            ) from error
        raise DataDependent(
            f"torch.export refused {what}: {_first_line(error)}; remove control flow that depends on values",
            source=_source(error),
        ) from error
    except Exception as error:  # the model's own code, which can raise anything
        _require_callable(call, examples, what)
        raise ExportError(
            f"torch.export could not trace {what}: {type(error).__name__}: {_first_line(error)}; keep to torch "
            "operations on tensors (no .numpy(), .tolist() or external libraries)",
            source=_source(error),
        ) from error


def _require_callable(call: Call, examples: Sequence[Tensor], what: str) -> None:
    """Whether it is tracing that a function does not stand, or any call at all: asked only once tracing has failed.

    Raises:
        ExportError: the function fails on tensors of the shapes that the model states.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*examples)
    except Exception as error:
        shapes = [f"{tuple(e.shape[1:])}" for e in examples]
        raise ExportError(
            f"expected {what} to take {len(examples)} tensor{'s' * (len(examples) > 1)} of shape "
            f"{' and '.join(shapes)} after the batch axis, found {type(error).__name__}: {_first_line(error)}; "
            f"{_TAKES.get(what, 'compare')} with state_shape and input_shape",
            source=_source(error),
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch from dumping what it cannot trace: the error says it, in a line. TORCH_LOGS=… shows it all."""
    if "TORCH_LOGS" in os.environ:
        yield
        return
    known = logging.root.manager.loggerDict.items()
    torchs = [each for name, each in known if f"{name}.".startswith("torch.") and isinstance(each, logging.Logger)]
    handlers = {handler for each in torchs for handler in each.handlers}
    written, dump = io.StringIO(), ""
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        with redirect_stderr(written):
            yield
    except Exception as error:
        graph = getattr(error, "partial_fx_graph", None)
        dump = "" if graph is None else f"{graph}\n"
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)
        text = written.getvalue()
        sys.stderr.write(text.replace(dump, "") if dump else text)  # the model's own words stay


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _source(error: Exception) -> str | None:
    """The innermost line of the model's own code that an error came through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_TORCH, _OWN, "<"))
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _decompose(program: ExportedProgram) -> ExportedProgram:
    """Make the program functional where it is not, and break up operations without a handler into ones that may
    have one. Operations with a handler stay whole: `linear`, `gelu`, `layer_norm` keep their meaning.
    """
    if any(_mutates(node) for node in program.graph.nodes):
        program = program.run_decompositions({})
    tried: set[Any] = set()
    while True:
        unknown = {node.target for node in program.graph.nodes if _unknown(node)} - tried
        chosen = {target: found for target in unknown if (found := _decomposition(target)) is not None}
        if not chosen:
            return program
        tried |= unknown
        program = program.run_decompositions(chosen)


@cache
def _decomposition(target: Any) -> Call | None:
    """What torch breaks an operation up into, by default. Its table takes long to make, and few operations need it."""
    try:
        found: Call = torch.export.default_decompositions()[target]  # the table's `get` never finds anything
    except KeyError:
        return None
    return found


def _unknown(node: torch.fx.Node) -> bool:
    tensor = not isinstance(node.meta.get("val"), (torch.SymInt, torch.SymBool, torch.SymFloat, int, float, bool))
    return node.op == "call_function" and tensor and str(node.target) not in HANDLERS and _depends(node)


def _mutates(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _depends(node: torch.fx.Node) -> bool:
    """Whether a user input reaches the node; parameter-only parts are evaluated whole instead."""
    seen, stack = set(), [node]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if at.op == "placeholder" and not at.name.startswith(("p_", "b_", "c_", "obj_", "token")):
            return True
        stack.extend(at.all_input_nodes)
    return False
