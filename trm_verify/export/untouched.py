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


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """The module's own attributes, each with a copy: containers all the way down, so that growing ones are noticed."""
    return {key: (value, _copied(value)) for key, value in vars(module).items()}


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(v) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value.copy() if isinstance(value, (list, dict, set)) else value


def _same(old: Any, new: Any) -> bool:
    """Equal as a value: tracing may put an equal container in a container's place, which is no memory."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return list(old) == list(new) and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, (list, tuple)):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, (set, frozenset)):
        return {id(v) for v in old} == {id(v) for v in new} or old == new
    return old is new or (isinstance(old, _PLAIN) and repr(old) == repr(new))


def _changed(before: dict[str, tuple[Any, Any]], after: dict[str, Any]) -> list[str]:
    """Names of attributes that were added, removed or changed."""
    return [
        key
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or not _same(before[key][1], after[key])
    ]


def _restore(module: nn.Module, before: dict[str, tuple[Any, Any]]) -> None:
    """The very objects that were there, with what they held."""
    own = vars(module)
    for key in set(own) - set(before):
        del own[key]
    for key, (original, copied) in before.items():
        own[key] = original
        if isinstance(original, (list, dict, set)) and not _same(copied, original):
            original.clear()
            original.extend(copied) if isinstance(original, list) else original.update(copied)


def _tensor_versions(model: nn.Module) -> dict[str, tuple[int, int]]:
    return {name: (id(t), t._version) for name, t in (*model.named_parameters(), *model.named_buffers())}


def _generators() -> list[Any]:
    name, key, *rest = np.random.get_state()
    return [random.getstate(), (name, np.asarray(key).tobytes(), *rest), torch.get_rng_state().numpy().tobytes()]


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
