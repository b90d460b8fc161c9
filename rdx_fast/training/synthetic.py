"""Synthetic anomalies: textures blended into good images where Perlin noise is high.

By default they are made as in the published training of RD with Expert. Everything depends on seed
and step only, so a resumed run sees the same images as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.training.data import ImageDataset
from rdx_fast.training.foreground import Masks, TileMasks
from rdx_fast.training.frames import Frames
from rdx_fast.training.recipe import Recipe

NOISE_THRESHOLD = 0.5  # of noise in [-1, 1]
OPACITY = (0.2, 1.0)  # of the texture over the part
GAIN, SHIFT = (0.6, 1.4), (-0.2, 0.2)  # of each colour of the texture, in [0, 1]
CELLS = (1, 2, 4, 8, 16, 32)  # of the noise's grid, along each axis
TURN = 90  # degrees, the most that the noise is turned either way

Floats = NDArray[np.float32]


def perlin_noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]
) -> Floats:
    """Perlin's gradient noise.

    Args:
        rng: source of the noise
        height: in pixels
        width: in pixels
        cells: number of cells of the noise's grid across the image, vertically and horizontally

    Returns:
        ``[height, width]`` float32 in [-1, 1]
    """
    directions = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    down, right = np.sin(directions, dtype=np.float32), np.cos(directions, dtype=np.float32)
    top, dy, fade_y = _along(height, cells[0])
    left, dx, fade_x = _along(width, cells[1])
    # The sum over the corners of a cell is separable: first along the rows of the grid,
    # [cells + 1, width], then down the columns.
    across_down = _mix(down[:, left], down[:, left + 1], fade_x)
    across_right = _mix(right[:, left] * dx, right[:, left + 1] * (dx - 1), fade_x)
    upper = across_down[top] * dy[:, None] + across_right[top]
    lower = across_down[top + 1] * (dy[:, None] - 1) + across_right[top + 1]
    return np.sqrt(2, dtype=np.float32) * _mix(upper, lower, fade_y[:, None])


def _along(size: int, cells: int) -> tuple[NDArray[np.intp], Floats, Floats]:
    """The cell of each pixel of an axis, the place in it in [0, 1), and that place faded."""
    place = np.arange(size) * cells / size
    cell = place.astype(np.intp)
    d = (place - cell).astype(np.float32)
    return cell, d, d * d * d * (d * (d * 6 - 15) + 10)


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    return first + share * (second - first)


def turned(noise: Floats, degrees: float) -> Floats:
    """Turn noise counterclockwise about its centre, bilinearly; 0 where there was none.

    Args:
        noise: ``[H, W]`` float32
        degrees: angle

    Returns:
        ``[H, W]`` float32
    """
    return np.asarray(Image.fromarray(noise).rotate(degrees, Image.Resampling.BILINEAR))


def anomaly_mask(rng: np.random.Generator, foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Draw blobs of a random size inside the foreground.

    Args:
        rng: source of the blobs
        foreground: ``[H, W]`` bool

    Returns:
        ``[H, W]`` bool. It is empty at times, as published, where the noise stays low or misses
        the foreground
    """
    height, width = foreground.shape
    cells = rng.choice(CELLS, 2)
    noise = perlin_noise(rng, height, width, (int(cells[0]), int(cells[1])))
    return (turned(noise, rng.uniform(-TURN, TURN)) > NOISE_THRESHOLD) & foreground


@dataclass(frozen=True, slots=True)
class AnomalyMaker:
    """Adds a synthetic anomaly to a good image.

    Attributes:
        spec: the network's input
        good: images of good parts
        textures: images to blend in; if empty, random cuts of good images in shuffled tiles
        foreground: ``[n, H, W]`` bool, True where the part is, one mask for each image or tile
            that gets an anomaly, or one for all; if None, anomalies may be anywhere
        cuts: cut textures out of their images at random and flip them, instead of showing them
            whole
        colors: shift the colours of textures at random
        tile: height and width of what an image shows of a good image, in its pixels, which cuts of
            good images do not exceed; None for all of it
    """

    spec: InputSpec
    good: Frames
    textures: Frames
    foreground: Masks | TileMasks | None = None
    cuts: bool = False
    colors: bool = False
    tile: tuple[int, int] | None = None

    def __call__(
        self, rng: np.random.Generator, image: Floats, index: int
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Add an anomaly to an image.

        Args:
            rng: source of the anomaly
            image: ``[3, H, W]`` float32 normalised
            index: of the image, by which its mask is found in ``foreground``

        Returns:
            the image with an anomaly, and the mask ``[H, W]`` bool of what was changed; the image
            as it is where the mask is empty

        Raises:
            ImageError: a texture cannot be read
        """
        mask = anomaly_mask(rng, self.foreground_of(index))
        opacity = np.float32(rng.uniform(*OPACITY))
        blended = image + opacity * (self._texture(rng) - image)
        return np.where(mask, blended, image), mask

    def foreground_of(self, index: int) -> NDArray[np.bool_]:
        """Where an image may have an anomaly, ``[H, W]`` bool."""
        if self.foreground is None:
            return np.ones((self.spec.height, self.spec.width), np.bool_)
        return self.foreground[index if len(self.foreground) > 1 else 0]

    def _texture(self, rng: np.random.Generator) -> Floats:
        """A texture ``[3, H, W]`` float32 normalised."""
        source = self.textures or self.good
        index = int(rng.integers(len(source)))
        # A tile of a good part that is not cut shows the part as it is, and sometimes in its place.
        if self.cuts or not self.textures:
            most = None if self.textures else self.tile
            texture = _random_cut(rng, source, index, self.spec, most)
        else:
            texture = source.input(index, self.spec)
        if not self.textures:
            texture = shuffled_tiles(rng, texture)
        return self._shifted(rng, texture) if self.colors else texture

    def _shifted(self, rng: np.random.Generator, texture: Floats) -> Floats:
        """The texture with shifted colours, which stay in the range of colours."""
        mean, std = (
            np.array(v, np.float32)[:, None, None] for v in (self.spec.mean, self.spec.std)
        )
        gain = rng.uniform(*GAIN, (3, 1, 1)).astype(np.float32)
        shift = rng.uniform(*SHIFT, (3, 1, 1)).astype(np.float32)
        return (np.clip(gain * (texture * std + mean) + shift, 0, 1) - mean) / std


def anomaly_maker(
    recipe: Recipe, images: ImageDataset, good: Frames, textures: Frames, masks: Masks | None
) -> AnomalyMaker:
    """What adds anomalies to a data set as a recipe says; ``masks`` are of its whole images."""
    tiles = recipe.tiles
    foreground: Masks | TileMasks | None = masks
    if masks is not None and images.windows is not None:
        foreground = TileMasks(masks, images.windows, recipe.image_size)
    return AnomalyMaker(
        images.spec,
        good,
        textures,
        foreground,
        recipe.texture_cuts,
        recipe.texture_colors,
        None if tiles is None else (tiles.height, tiles.width),
    )


def _random_cut(
    rng: np.random.Generator,
    source: Frames,
    index: int,
    spec: InputSpec,
    most: tuple[int, int] | None,
) -> Floats:
    """A rectangle of half to all of each side, or of what it is at most, anywhere in the frame,
    flipped at random."""
    frame = source[index]
    top, left, height, width = source.options.check(frame)
    share = rng.uniform(0.5, 1, 2)
    sides = most or (height, width)
    h, w = (max(1, int(side * part)) for side, part in zip(sides, share, strict=True))
    top += int(rng.integers(height - h, endpoint=True))
    left += int(rng.integers(width - w, endpoint=True))
    # Not cut out of the array: a cut would start at any colour of a Bayer pattern.
    texture = source.options.to_input(frame, spec, (top, left, h, w))
    for axis in (1, 2):
        if rng.random() < 0.5:
            texture = np.flip(texture, axis)
    return texture


def shuffled_tiles(rng: np.random.Generator, texture: Floats) -> Floats:
    """Shuffle an image's 4 x 4 or 8 x 8 tiles, so that it no longer shows a part."""
    n = int(rng.choice((4, 8)))
    channels, height, width = texture.shape
    tiles = texture.reshape(channels, n, height // n, n, width // n).transpose(1, 3, 0, 2, 4)
    shuffled = rng.permutation(tiles.reshape(n * n, *tiles.shape[2:])).reshape(tiles.shape)
    return shuffled.transpose(2, 0, 3, 1, 4).reshape(texture.shape)
