"""How results show themselves in notebooks.

What they look like is the business of `trm_verify.report`, which lies above them and is looked up when it is asked for,
so that a result can be made, kept and sent without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTEBOOK = "trm_verify.report.notebook"


class Displayed:
    """A result that notebooks show as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(import_module(NOTEBOOK).html_of(self))


class Plotted(Displayed):
    """A result that can also be drawn."""

    __slots__ = ()

    def plot(self) -> Figure:
        """A matplotlib figure of this result; notebooks show it, `figure.savefig(…)` keeps it.

        Raises:
            ModuleNotFoundError: matplotlib is not installed (the extra `plot`).
            ValueError: there is nothing to draw.
        """
        figure: Any = import_module(NOTEBOOK).figure_of(self)
        return figure  # type: ignore[no-any-return]
