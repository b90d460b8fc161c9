"""The methods, by their names in recipes and manifests."""

from __future__ import annotations

from rdx_fast.models.rd4ad import RD4AD, ReverseDistillation
from rdx_fast.models.rd_expert import RDExpert

METHODS = ("rd4ad", "rd-expert")


def make_network(method: str, backbone_name: str, injection: str = "guided") -> ReverseDistillation:
    """Create an untrained network.

    Args:
        method: one of ``METHODS``
        backbone_name: a key of ``BACKBONES``
        injection: one of ``INJECTIONS``, for RD with Expert only

    Raises:
        ValueError: unknown method, backbone or injection
    """
    if method == "rd4ad":
        return RD4AD(backbone_name)
    if method == "rd-expert":
        return RDExpert(backbone_name, injection)
    raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
