"""Leave a model, and the random number generators, as they were; refuse models that do not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from trm_verify.export.errors import BufferUpdate, NotDeterministic, RandomInStep

_PLAIN = (int, float, complex, bool, str, bytes, type(None), tuple, frozenset)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """The module's own attributes; containers copied one level deep, so that growing ones are noticed."""
    return {key: value.copy() if isinstance(value, (list, dict, set)) else value for key, value in vars(module).items()}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            names.append(key)
            continue
        old, new = before[key], after[key]
        if isinstance(old, (list, dict, set)) and type(old) is type(new):
            same = len(old) == len(new) and _members(old) == _members(new)
        elif isinstance(old, _PLAIN) and isinstance(new, _PLAIN):
            same = type(old) is type(new) and (old is new or repr(old) == repr(new))
        else:
            same = old is new
        if not same:
            names.append(key)
    return names


def _members(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, id(v)) for key, v in value.items()]
    return [id(v) for v in value] if isinstance(value, list) else {id(v) for v in value}


def _restore(module: nn.Module, before: dict[str, Any]) -> None:
    own = vars(module)
    for key in set(own) - set(before):
        del own[key]
    for key, old in before.items():
        now = own.get(key)
        if isinstance(old, list) and isinstance(now, list):
            now[:] = old
        elif isinstance(old, dict) and isinstance(now, dict) or isinstance(old, set) and isinstance(now, set):
            now.clear()
            now.update(old)
        else:
            own[key] = old


def _tensor_versions(model: nn.Module) -> dict[str, tuple[int, int]]:
    return {name: (id(t), t._version) for name, t in (*model.named_parameters(), *model.named_buffers())}


def _generators() -> list[Any]:
    return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore the model's Python attributes and the global generators afterwards.

    Raises:
        NotDeterministic: running the model changed an attribute (a counter, a cache, a log).
        BufferUpdate: running it changed a parameter or buffer.
        RandomInStep: running it drew from a global random number generator.
    """
    modules = list(model.named_modules())
    before = {name: _attributes(module) for name, module in modules}
    versions, generators = _tensor_versions(model), _generators()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
        drawn = [n for n, a, b in zip(("random", "numpy", "torch"), generators, _generators(), strict=True) if a != b]
        if drawn:
            raise RandomInStep(
                f"expected a deterministic model, found that it draws random numbers from {', '.join(drawn)}; remove "
                "them, or draw them once in __init__ and keep them in a buffer"
            )
        after = _tensor_versions(model)
        touched = sorted(k for k in versions.keys() | after.keys() if versions.get(k) != after.get(k))
        if touched:
            raise BufferUpdate(
                f"expected a step without memory, found that it changes {touched}; call model.eval(), or make what it "
                "remembers a part of the state"
            )
        for name, module in modules:
            changed = _changed(before[name], vars(module))
            if changed:
                raise NotDeterministic(
                    f"expected a step without memory, found that it changes {changed} of {name or 'the model'}; make "
                    "what it remembers a part of the state, and keep counters outside"
                )
    finally:
        for name, module in modules:
            _restore(module, before[name])
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
