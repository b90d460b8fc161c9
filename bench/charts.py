"""Figures of Matplotlib, which is optional."""

from __future__ import annotations

from typing import Any

from rdx_fast.errors import MissingDependencyError


def new_figure(width: float, height: float) -> Any:
    """An empty figure, sizes in inches. Raises ``MissingDependencyError`` without Matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingDependencyError("matplotlib", "a plot", "bench") from error
    return Figure(figsize=(width, height), layout="constrained")
