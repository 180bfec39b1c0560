"""Small questions about traced programs and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, fx


def source_line(node: fx.Node) -> str | None:
    """The line of the model's code, as `capture` noted it."""
    return (node.meta.get("custom") or {}).get("line")


def ancestors(node: fx.Node) -> set[fx.Node]:
    """The node and everything it needs; dead code is not translated."""
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        at = stack.pop()
        if at not in seen:
            seen.add(at)
            stack.extend(at.all_input_nodes)
    return seen


def inert(node: fx.Node) -> bool:
    """Dropout in evaluation mode, attention without dropout: tagged random, but nothing is drawn."""
    target = str(node.target)
    if "attention" in target:
        return bool((node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)) == 0.0)
    return "dropout" in target and (node.args[2] if len(node.args) > 2 else node.kwargs.get("train")) is False


def uniform(data: Tensor) -> bool:
    return bool((data == data.reshape(-1)[0]).all())


def leaves(value: Any, kind: type) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v, kind)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()), kind)


def map_leaves(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [map_leaves(v, kind, function) for v in value]
    return {k: map_leaves(v, kind, function) for k, v in value.items()} if isinstance(value, dict) else value
