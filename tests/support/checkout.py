"""Where the checkout lies, and what the machine has."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def _gpu() -> bool:
    """Whether torch can use one. Where NVIDIA's driver is not, torch need not be asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


GPU = _gpu()
needs_no_gpu = pytest.mark.skipif(GPU, reason="there is a GPU")
