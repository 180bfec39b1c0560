"""What a model of this library adds to a recursive model: a configuration it can be rebuilt from, and
baking.
"""

from __future__ import annotations

import json
from typing import Any, Self, cast

from trm_verify import nn as layers
from trm_verify.model import RecursiveModel


class ConfiguredModel(RecursiveModel):
    """A recursive model that is rebuilt by `type(model)(**model.config)`.

    Subclasses pass every constructor argument to `set_config`, as plain JSON values, so that a saved model
    can be made again without storing code.
    """

    def __init__(self) -> None:
        super().__init__()
        # Text, so that the attribute is immutable and surely JSON.
        self._config = "{}"
        self.baked = False

    def set_config(self, **config: Any) -> None:
        """Remember the constructor's arguments (JSON values only)."""
        self._config = json.dumps(config, sort_keys=True, allow_nan=False)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        config: dict[str, Any] = json.loads(self._config)
        return config

    def bake(self) -> Self:
        """The deployed model: the same class, every bounded layer replaced by its baked form, frozen.

        Baking a baked model gives an equal copy.
        """
        clone = cast(Self, layers.bake(self))
        clone.baked = True
        return clone
