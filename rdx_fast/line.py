"""The former name of ``rdx_fast.station``."""

from __future__ import annotations

import warnings

from rdx_fast.station import *  # noqa: F403
from rdx_fast.station import HandshakeConfig as Rules
from rdx_fast.station import __all__ as _names

__all__ = [*_names, "Rules"]  # noqa: PLE0604

warnings.warn(
    "rdx_fast.line is called rdx_fast.station now; the old name goes with the next release",
    DeprecationWarning,
    stacklevel=2,
)
