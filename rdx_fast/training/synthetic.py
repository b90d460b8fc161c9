"""Synthetic anomalies: textures blended into good images where Perlin noise is high.

Everything depends on seed and step only, so a resumed run sees the same images as an uninterrupted
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import DatasetError, listed
from rdx_fast.images import read_grey, read_image, resize_mask
from rdx_fast.manifest import InputSpec
from rdx_fast.preprocess import to_input

NOISE_THRESHOLD = 0.5  # of noise in [-1, 1]
OPACITY = (0.2, 1.0)  # of the texture over the part
GAIN, SHIFT = (0.6, 1.4), (-0.2, 0.2)  # of each colour of the texture, in [0, 1]
_MAX_CELLS = 6  # log2 of the noise's finest grid
_TRIES = 20

Floats = NDArray[np.float32]


def perlin_noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]
) -> Floats:
    """Perlin's gradient noise, rotated by a random angle.

    Args:
        rng: source of the noise
        height: in pixels
        width: in pixels
        cells: number of cells of the noise's grid across the image, vertically and horizontally

    Returns:
        ``[height, width]`` float32 in [-1, 1]
    """
    angle = rng.uniform(0, 2 * np.pi)
    y = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :]
    # A rotated unit square lies within +-0.71 of its centre.
    v = (np.cos(angle) * y - np.sin(angle) * x + 0.75) * cells[0]
    u = (np.sin(angle) * y + np.cos(angle) * x + 0.75) * cells[1]
    top, left = v.astype(np.intp), u.astype(np.intp)
    dy, dx = (v - top).astype(np.float32), (u - left).astype(np.float32)
    directions = rng.uniform(0, 2 * np.pi, (2 * cells[0] + 2, 2 * cells[1] + 2))
    gradient_y, gradient_x = np.sin(directions, dtype=np.float32), np.cos(directions).astype("f4")

    def corner(down: int, right: int) -> Floats:
        at = (top + down, left + right)
        return gradient_y[at] * (dy - down) + gradient_x[at] * (dx - right)

    fade_y, fade_x = (d * d * d * (d * (d * 6 - 15) + 10) for d in (dy, dx))
    upper = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    lower = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.sqrt(2, dtype=np.float32) * (upper + fade_y * (lower - upper))


def anomaly_mask(rng: np.random.Generator, foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Draw blobs of a random size inside the foreground.

    Args:
        rng: source of the blobs
        foreground: ``[H, W]`` bool, with at least one pixel True

    Returns:
        ``[H, W]`` bool, with at least one pixel True
    """
    height, width = foreground.shape
    for _ in range(_TRIES):
        cells = 2 ** rng.integers(0, _MAX_CELLS, 2, endpoint=True)
        noise = perlin_noise(rng, height, width, (int(cells[0]), int(cells[1])))
        mask = (noise > NOISE_THRESHOLD) & foreground
        if mask.any():
            return mask
    # A foreground of a few pixels that the noise keeps missing.
    return foreground


@dataclass(frozen=True, slots=True)
class AnomalyMaker:
    """Adds a synthetic anomaly to a good image.

    Attributes:
        spec: the network's input
        good: images of good parts
        textures: images to blend in; if empty, good images cut into shuffled tiles
        foreground: one mask for all images or one for each, white where the part is; if empty,
            anomalies may be anywhere
    """

    spec: InputSpec
    good: Sequence[Path]
    textures: Sequence[Path] = ()
    foreground: Sequence[Path] = ()

    def __call__(
        self, rng: np.random.Generator, image: Floats, index: int
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Add an anomaly to an image.

        Args:
            rng: source of the anomaly
            image: ``[3, H, W]`` float32 normalised
            index: of the image in ``good``

        Returns:
            the image with an anomaly, and the mask ``[H, W]`` bool of what was changed

        Raises:
            ImageError: a texture or mask cannot be read
            DatasetError: a foreground mask is black
        """
        mask = anomaly_mask(rng, self._foreground(index))
        opacity = np.float32(rng.uniform(*OPACITY))
        blended = image + opacity * (self._texture(rng) - image)
        return np.where(mask, blended, image), mask

    def _foreground(self, index: int) -> NDArray[np.bool_]:
        size = (self.spec.height, self.spec.width)
        if not self.foreground:
            return np.ones(size, np.bool_)
        return read_foreground(self.foreground[index % len(self.foreground)], *size)

    def _texture(self, rng: np.random.Generator) -> Floats:
        """A texture ``[3, H, W]`` float32 normalised: a random crop, flipped at random, with its
        colours shifted."""
        paths = self.textures or self.good
        frame = read_image(paths[int(rng.integers(len(paths)))])
        # Colours are shifted in [0, 1], whatever the network's normalisation.
        plain = replace(self.spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        texture = to_input([_random_cut(rng, frame)], plain)[0]
        if not self.textures:
            texture = shuffled_tiles(rng, texture)
        for axis in (1, 2):
            if rng.random() < 0.5:
                texture = np.flip(texture, axis)
        gain = rng.uniform(*GAIN, (3, 1, 1)).astype(np.float32)
        shift = rng.uniform(*SHIFT, (3, 1, 1)).astype(np.float32)
        mean, std = (
            np.array(v, np.float32)[:, None, None] for v in (self.spec.mean, self.spec.std)
        )
        return (np.clip(gain * texture + shift, 0, 1) - mean) / std


def foreground_masks(given: Path | None, images: Sequence[Path]) -> list[Path]:
    """Find the foreground masks of images and check that they can be used.

    Args:
        given: one mask file for all images, or a folder with a .png of each image's name; None for
            no masks
        images: good images

    Returns:
        the mask files, one or as many as images; empty if ``given`` is None

    Raises:
        DatasetError: a mask is missing or black
        ImageError: a mask cannot be read
    """
    if given is None:
        return []
    each = given.is_dir()
    paths = [given / f"{path.stem}.png" for path in images] if each else [given]
    if missing := [path for path in paths if not path.is_file()]:
        raise DatasetError(
            f"{len(missing)} foreground masks are missing (give one image for all parts, or a "
            f"folder with a .png of each image's name):{listed(missing)}"
        )
    for path in paths:
        read_foreground(path, 1024, 1024)
    return paths


def read_foreground(path: Path, height: int, width: int) -> NDArray[np.bool_]:
    """Read a foreground mask.

    Args:
        path: image, white where the part is
        height: to resize it to, in pixels
        width: to resize it to, in pixels

    Returns:
        ``[height, width]`` bool, True where the part is

    Raises:
        DatasetError: the mask is black
        ImageError: the file cannot be read
    """
    mask = resize_mask(read_grey(path), height, width)
    if not mask.any():
        raise DatasetError(
            f"foreground mask {path} is black: white (255) marks the part; draw it white, or leave "
            f"the mask out"
        )
    return mask


def _random_cut(rng: np.random.Generator, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A rectangle of half to all of each side, anywhere in the frame."""
    height, width = frame.shape[:2]
    share = rng.uniform(0.5, 1, 2)
    h, w = max(1, int(height * share[0])), max(1, int(width * share[1]))
    top, left = rng.integers(height - h, endpoint=True), rng.integers(width - w, endpoint=True)
    return np.ascontiguousarray(frame[top : top + h, left : left + w])


def shuffled_tiles(rng: np.random.Generator, texture: Floats) -> Floats:
    """Shuffle an image's 4 x 4 or 8 x 8 tiles, so that it no longer shows a part."""
    n = int(rng.choice((4, 8)))
    channels, height, width = texture.shape
    tiles = texture.reshape(channels, n, height // n, n, width // n).transpose(1, 3, 0, 2, 4)
    shuffled = rng.permutation(tiles.reshape(n * n, *tiles.shape[2:])).reshape(tiles.shape)
    return shuffled.transpose(2, 0, 3, 1, 4).reshape(texture.shape)
