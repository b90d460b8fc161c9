"""Export of a trained checkpoint to an engine bundle; installed as ``rdx_fast.export``.

Needs torch, except for ``rdx_fast.export.standalone``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdx_fast.export.exporter import export_bundle

__all__ = ["export_bundle"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rdx_fast.export import exporter

        return getattr(exporter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
