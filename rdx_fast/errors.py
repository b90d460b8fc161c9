"""Exceptions of rdx_fast. Each message says what was given, what is wanted and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class RdxError(Exception):
    """Base class of all exceptions of rdx_fast."""


class ImageError(RdxError):
    """An image file cannot be read or has an unsupported format.

    Args:
        path: the file
        reason: what is wrong with it

    Attributes:
        path: the file
        reason: what is wrong with it
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class DatasetError(RdxError):
    """A data set is missing, empty or incomplete, or holds invalid files."""


class WeightsError(RdxError):
    """Teacher weights are missing, corrupt or do not match the backbone."""


class TrainingError(RdxError):
    """Training cannot start or cannot continue."""


class CheckpointError(RdxError):
    """A training checkpoint is missing, unreadable or of another recipe."""


class ExportError(RdxError):
    """Export failed, or the exported network's scores differ from those of the trained one."""


class BundleError(RdxError):
    """An engine bundle is incomplete, altered, of a newer format or otherwise invalid."""


class CalibrationError(RdxError):
    """Images cannot give the limits that are wanted."""


class RecipeError(RdxError):
    """An inspection recipe cannot be read, is invalid, or does not fit the bundle."""


class EngineError(RdxError):
    """An engine cannot be opened, or failed while running."""


class NoDriverError(EngineError):
    """A GPU was requested, but this process has no driver or no GPU.

    Args:
        reason: what is missing
        advice: what to do

    Attributes:
        reason: what is missing
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}: {advice}" if advice else reason)
        self.reason = reason


class DriverTooOldError(EngineError):
    """The NVIDIA driver is older than required."""


class DeviceMemoryError(EngineError):
    """The GPU does not have enough memory."""


class PlanError(EngineError):
    """TensorRT cannot build or load a plan of the network."""


class DeviceLostError(EngineError):
    """The GPU failed during operation. CUDA gives the process no GPU again: start a new one."""


class MissingDependencyError(RdxError):
    """An optional package is needed and not installed.

    Args:
        module: name of the Python package
        wanted_for: what needs it
        extra: the extra of rdx_fast that installs it
    """

    def __init__(self, module: str, wanted_for: str, extra: str) -> None:
        super().__init__(
            f"{wanted_for} needs the Python package '{module}', which is not installed: run  "
            f"{install_command(extra)}  in a checkout of rdx_fast"
        )


def install_command(extra: str) -> str:
    """Return the command that installs an extra from a checkout.

    Args:
        extra: name of the extra
    """
    return f'pip install -c constraints.txt ".[{extra}]"'


def listed(names: Sequence[object], most: int = 10) -> str:
    """Join names for an error message, one per line.

    Args:
        names: the names
        most: most names to show; the number of the others is added
    """
    shown = "".join(f"\n  {name}" for name in names[:most])
    rest = len(names) - most
    return shown + (f"\n  ... and {rest} more" if rest > 0 else "")
