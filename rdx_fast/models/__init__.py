"""Networks, in torch. Used for training and export only; never imported at run time."""

from rdx_fast.models.backbones import BACKBONES, Backbone, backbone
from rdx_fast.models.rd4ad import RD4AD, Features
from rdx_fast.models.weights import load_teacher

__all__ = ["BACKBONES", "RD4AD", "Backbone", "Features", "backbone", "load_teacher"]
