"""Everything export can refuse, each with the operation, the source line and what to do."""

from __future__ import annotations


class ExportError(ValueError):
    """A model could not be turned into an exact graph.

    Attributes:
        message: what was expected, what was found, what to do.
        op: the operation concerned, or None.
        source: the line of the model's code it came from, or None.
    """

    def __init__(self, message: str, op: str | None = None, source: str | None = None) -> None:
        self.message, self.op, self.source = message, op, source
        where = " ".join(part for part in (op, f"at {source}" if source else None) if part)
        super().__init__(f"{where}: {message}" if where else message)


class UnknownOperation(ExportError):
    """An operation, or a form of it, that the exact graph has no node for."""


class RandomInStep(ExportError):
    """The model draws random numbers."""


class BufferUpdate(ExportError):
    """The model changes one of its buffers, or its argument, in place."""


class TrainingMode(ExportError):
    """Dropout or batch normalisation in training mode."""


class BatchMixing(ExportError):
    """The rows of a batch influence each other, or the batch size influences the values."""


class DataDependent(ExportError):
    """Python control flow, or a shape, that depends on the values of the state or the input."""


class ShapeChanged(ExportError):
    """`step` or `init` does not return the state's shape."""


class WrongOutput(ExportError):
    """`readout` returns something that has no class axis."""


class NonFiniteWeights(ExportError):
    """A tensor that the graph uses holds NaN or an infinity."""


class NotDeterministic(ExportError):
    """Two calls, or the exported graph and the eager model, disagree."""
