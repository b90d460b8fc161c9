"""Exceptions of rdx_fast. Each message says what was given, what is wanted and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class RdxError(Exception):
    """Base of every error that rdx_fast raises on its own account."""


class ImageError(RdxError):
    """A photograph cannot be read or is of a kind that is not taken.

    ``path`` is the file, ``reason`` what is wrong with it.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class DatasetError(RdxError):
    """A folder of photographs is missing, empty, incomplete or holds bad files."""


class WeightsError(RdxError):
    """Teacher weights are missing, corrupt or do not fit the backbone."""


class TrainingError(RdxError):
    """Training cannot start or cannot go on."""


class CheckpointError(RdxError):
    """A training checkpoint is missing, unreadable or belongs to another recipe."""


class ExportError(RdxError):
    """A network could not be exported, or the exported one does not score as the trained one."""


class BundleError(RdxError):
    """An engine bundle is incomplete, altered, of a newer format or otherwise not to be trusted."""


class EngineError(RdxError):
    """An engine cannot be opened or failed while running."""


class NoDriverError(EngineError):
    """A GPU is wanted, and there is no driver or no GPU for this process."""


class DriverTooOldError(EngineError):
    """NVIDIA's driver is older than what is wanted of it."""


class DeviceMemoryError(EngineError):
    """The GPU has not enough memory."""


class PlanError(EngineError):
    """TensorRT could not build or load a plan of the network."""


class DeviceLostError(EngineError):
    """The GPU failed in the middle of its work. Close the Detector and open a new one."""


class MissingDependencyError(RdxError):
    """An optional part of rdx_fast is wanted and not installed."""

    def __init__(self, module: str, wanted_for: str, extra: str) -> None:
        super().__init__(
            f"{wanted_for} needs the Python package '{module}', which is not installed: run  "
            f"{install_command(extra)}  in a checkout of rdx_fast"
        )


def install_command(extra: str) -> str:
    """How to add an extra to an installation, from a checkout."""
    return f'pip install -c constraints.txt ".[{extra}]"'


def listed(names: Sequence[object], most: int = 10) -> str:
    """Join names for an error message, one a line, cut after ``most``."""
    shown = "".join(f"\n  {name}" for name in names[:most])
    rest = len(names) - most
    return shown + (f"\n  ... and {rest} more" if rest > 0 else "")
