"""Good photographs, and changes of a line simulated in them: lamp, lens, material."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from rdx_fast.images import list_images, read_image
from rdx_fast.solar_cells import solar_cells

Frame = NDArray[np.uint8]
Change = Callable[[Frame, float, np.random.Generator], NDArray[np.float32]]
_GREY = 128.0  # of dirt


def _lamp(frame: Frame, gain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return np.float32(gain) * frame


def _stray_light(frame: Frame, levels: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return frame + np.float32(levels)


def _focus(frame: Frame, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return _blurred(frame, sigma)


def _veil(frame: Frame, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return (1 - share) * frame + np.float32(share * _GREY)


def _dirt(frame: Frame, radius: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Always at the same place: a round spot, blurred and with a veil of 30 %."""
    height, width = frame.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(rows / height - 0.4, columns / width - 0.6)
    inside = np.clip((radius - distance) / (0.3 * radius) + 0.5, 0, 1)
    inside = inside.reshape(height, width, *[1] * (frame.ndim - 2))
    spot = _veil(_blurred(frame, 3), 0.3, rng)  # type: ignore[arg-type]
    return (1 - inside) * frame + inside * spot


def _texture(frame: Frame, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another one on each part; ``share``: its standard deviation, of the range of grey levels."""
    height, width = frame.shape[:2]
    pattern = gaussian_filter(rng.normal(size=(height, width)), 0.02 * width, mode="wrap")
    pattern *= 255 * share / pattern.std()
    return frame + pattern.reshape(height, width, *[1] * (frame.ndim - 2))


def _colour(frame: Frame, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """More red and less blue, as bright as before."""
    tinted = frame * np.array([1 + share, 1, 1 - share], np.float32)
    return tinted * (frame.mean() / tinted.mean())


def _blurred(frame: Frame, sigma: float) -> NDArray[np.float32]:
    along = (sigma, sigma, *[0.0] * (frame.ndim - 2))
    return gaussian_filter(frame.astype(np.float32), along)


# Name, what its strength is, the change, strengths.
CHANGES: tuple[tuple[str, str, Change, tuple[float, ...]], ...] = (
    ("lamp", "gain", _lamp, (0.98, 0.95, 0.9)),
    ("stray light", "grey levels", _stray_light, (2, 5, 10)),
    ("veil on the lens", "share", _veil, (0.02, 0.05, 0.1)),
    ("focus", "sigma in pixels", _focus, (0.4, 0.5, 0.8)),
    ("dirt on the lens", "radius, of the frame", _dirt, (0.1, 0.2, 0.4)),
    ("texture of the material", "share of the range", _texture, (0.005, 0.01, 0.02)),
    ("colour of the material", "share", _colour, (0.02, 0.05, 0.1)),
)


def changed(frames: list[Frame], change: Change, strength: float, seed: int = 0) -> list[Frame]:
    """The frames after a change, rounded and clipped as a camera does.

    Args:
        frames: uint8 [H, W] or [H, W, 3] each
        change: of ``CHANGES``
        strength: of the change
        seed: of the texture
    """
    rng = np.random.default_rng(seed)
    found = (change(frame, strength, rng) for frame in frames)
    return [np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in found]


def good_frames(folder: Path | None) -> list[Frame]:
    """The images of a folder, with 8 bits; without one, the demo's good cells that were not trained
    on."""
    if folder is not None:
        files = list_images(folder)
    else:
        cells = solar_cells(0)
        files = [*cells.calibration, *cells.good]
    return [read_image(file).astype(np.uint8, casting="safe", copy=False) for file in files]
