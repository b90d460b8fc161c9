"""Networks in torch, for training and export only; never imported at run time."""

from rdx_fast.models.backbones import BACKBONES, Backbone, backbone
from rdx_fast.models.methods import METHODS, make_network
from rdx_fast.models.published_weights import from_published
from rdx_fast.models.rd4ad import RD4AD, Features, ReverseDistillation
from rdx_fast.models.rd_expert import INJECTIONS, RDExpert
from rdx_fast.models.weights import load_teacher

__all__ = [
    "BACKBONES",
    "INJECTIONS",
    "METHODS",
    "RD4AD",
    "Backbone",
    "Features",
    "RDExpert",
    "ReverseDistillation",
    "backbone",
    "from_published",
    "load_teacher",
    "make_network",
]
