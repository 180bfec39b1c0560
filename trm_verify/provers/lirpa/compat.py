"""auto_LiRPA 0.3 on a torch and a NumPy years younger than itself, leaving no trace in the process.

The release imports two names that are gone, uses a third when it reads a traced graph, and overrides a method of
`torch.nn.Module` with an outdated signature. Importing it moreover sends the root logger to standard output, changes
the warning filters, makes a directory in the user's home, switches off a part of torch's JIT and lifts the recursion
limit so far that a hostile JSON file overflows the stack. All this is mended or undone here, for as long as the library
runs. The whole process sees the patches meanwhile (a print from another thread is lost), hence the lock.
"""

from __future__ import annotations

import io
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch

INSTALL = "pip install 'trm-verify[lirpa]', then pip install --no-deps auto-LiRPA==0.3"
RECURSION_LIMIT = 20_000  # enough to walk a graph unrolled to some hundred steps
_LOCK = threading.RLock()
_TABLES: dict[str, dict[str, Any]] = {}


def available() -> str | None:
    """Why auto_LiRPA cannot be used; None when it can."""
    try:
        with running():
            return None
    except Exception as error:  # whatever an outdated library does while it is imported
        return f"auto_LiRPA cannot be used ({type(error).__name__}: {error}); {INSTALL}"


@contextmanager
def running() -> Iterator[Any]:
    """The library: imported, silent, computing in float64.

    Raises:
        ImportError: it, or a package that it imports, is not installed.
    """
    with _LOCK, warnings.catch_warnings(), redirect_stdout(io.StringIO()), ExitStack() as undo:
        warnings.simplefilter("ignore")
        for switch in (torch._C._jit_set_profiling_executor, torch._C._jit_set_profiling_mode):
            undo.callback(switch, switch(False))
        undo.callback(sys.setrecursionlimit, sys.getrecursionlimit())
        library = _imported()
        sys.setrecursionlimit(RECURSION_LIMIT)
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        # It takes 0 for the NaN that an infinite term becomes, and 0 would pass for a bound.
        warnings.filterwarnings("error", "There is an inf value in the bias")
        undo.enter_context(patched(logging.getLogger("auto_LiRPA.utils"), "disabled", True))
        undo.enter_context(patched(torch._C.Node, "__getitem__", _attribute))
        module = library.BoundedModule
        undo.enter_context(patched(module, "_named_members", _with_duplicates(module._named_members)))
        curve = import_module("auto_LiRPA.bound_ops").BoundTanh
        undo.enter_context(patched(curve, "precompute_relaxation", _once(curve.precompute_relaxation)))
        yield library


def _imported() -> Any:
    if "auto_LiRPA" in sys.modules:
        return import_module("auto_LiRPA")
    with ExitStack() as undo:
        if "numpy.lib.arraysetops" not in sys.modules:
            gone = sys.modules["numpy.lib.arraysetops"] = ModuleType("numpy.lib.arraysetops")
            gone.__dict__["isin"] = np.isin
            undo.callback(sys.modules.pop, gone.__name__)
        # The few operations that we have it trace are spelled alike in every version of ONNX.
        helper = import_module("torch.onnx.symbolic_helper")
        undo.enter_context(patched(helper, "_set_opset_version", lambda version: None))
        undo.enter_context(patched(logging, "basicConfig", lambda **options: None))
        undo.enter_context(patched(warnings, "simplefilter", lambda *filters, **options: None))
        undo.enter_context(patched(import_module("appdirs"), "user_data_dir", lambda name: tempfile.gettempdir()))
        return import_module("auto_LiRPA")


def _attribute(node: Any, name: str) -> Any:
    """An attribute of a node of a traced graph, whatever its kind."""
    return getattr(node, node.kindOf(name))(name)


def _with_duplicates(original: Callable[..., Any]) -> Callable[..., Any]:
    """The library's method under the signature that torch calls today; it never gives duplicates."""

    def named_members(
        self: Any, get_members_fn: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Any:
        return original(self, get_members_fn, prefix, recurse)

    return named_members


def _once(original: Callable[..., Any]) -> Callable[..., Any]:
    """The library's tables of tangents to a curve, which it would compute again for each layer, in a quarter second."""

    def precompute_relaxation(self: Any, name: str, *curve: Any) -> None:
        if name not in _TABLES:
            before = set(vars(self))
            original(self, name, *curve)
            _TABLES[name] = {key: value for key, value in vars(self).items() if key not in before}
        vars(self).update(_TABLES[name])

    return precompute_relaxation


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` for a while, and afterwards what it was, or absent."""
    missing = name not in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
