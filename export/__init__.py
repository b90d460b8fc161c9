"""Export of a trained checkpoint to an engine bundle; installed as ``rdx_fast.export``.

Needs torch.
"""

from rdx_fast.export.exporter import export_bundle

__all__ = ["export_bundle"]
