"""Segments a part from its background through OpenCV. The only file of training that imports it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import MissingDependencyError

try:
    import cv2
except ModuleNotFoundError as _error:
    if _error.name != "cv2":
        raise
    raise MissingDependencyError(
        "opencv-python-headless", "making foreground masks", "train"
    ) from None

_ITERATIONS = 11  # of GrabCut, as published


def segment(frame: NDArray[np.uint8], method: str) -> NDArray[np.bool_]:
    """Find the part in a frame.

    Args:
        frame: ``[H, W, 3]`` uint8 RGB
        method: "grabcut", "otsu-dark" or "otsu-bright"

    Returns:
        ``[H, W]`` bool, True where the part is
    """
    if method == "grabcut":
        return _grabcut(frame)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    _, bright = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return (bright == 0) if method == "otsu-dark" else (bright != 0)


def _grabcut(frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """GrabCut from a rectangle that leaves out the top row and the left column, as published."""
    # It draws random numbers. Each thread has its own generator.
    cv2.setRNGSeed(0)
    height, width = frame.shape[:2]
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    rectangle = (1, 1, width - 1, height - 1)
    cv2.grabCut(frame, labels, rectangle, *models, _ITERATIONS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
