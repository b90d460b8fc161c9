"""A picture of synthetic anomalies:
``python -m rdx_fast.bench.gallery docs/images/synthetic_anomalies.png``.

Parts and textures are drawn here, so that the picture may be distributed; ``rdx-fast preview``
shows the same for your own images. There are three bands, each with a good part, its synthetic
anomaly and the mask in every column: textures from other images, as published; these cut and with
shifted colours, on the foreground that GrabCut finds; textures cut from the parts.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.training.contact_sheet import save_contact_sheet
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.synthetic import perlin_noise

SIZE = 128
COLUMNS = 6
_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def draw_part(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A gasket with four holes on brushed metal, at a random place."""
    brushed = 120 + 10 * rng.normal(size=(SIZE, 1)) + 3 * rng.normal(size=(SIZE, SIZE))
    picture = np.repeat(brushed[..., None], 3, axis=2)
    y, x = _Y - 64 - 2 * rng.normal(), _X - 64 - 2 * rng.normal()
    radius = np.hypot(y, x)
    picture[(radius > 22) & (radius < 50)] = (40, 60, 95)
    turn = rng.normal(scale=0.1)
    for quarter in range(4):
        angle = turn + quarter * np.pi / 2
        hole = np.hypot(y - 36 * np.sin(angle), x - 36 * np.cos(angle)) < 6
        picture[hole] = (205, 200, 190)
    return (picture + rng.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8)


def draw_texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Clouds, stripes or a checkerboard in two colours."""
    period = rng.uniform(4, 20)
    kind = rng.integers(3)
    if kind == 0:
        cells = int(rng.integers(4, 24))
        level = (perlin_noise(rng, SIZE, SIZE, (cells, cells)) + 1) / 2
    elif kind == 1:
        level = (np.sin((_X + rng.uniform(-1, 1) * _Y) / period * np.pi) + 1) / 2
    else:
        level = ((_X // period + _Y // period) % 2).astype(np.float32)
    dark, light = rng.uniform(0, 255, (2, 3))
    return (dark + level[..., None] * (light - dark)).astype(np.uint8)


def main(picture: Path, seed: int = 0) -> None:
    """Draw parts and textures and write the gallery."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [folder / f"part{i:02}.png" for i in range(16)]
        textures = [folder / f"texture{i:02}.png" for i in range(16)]
        for path in parts:
            Image.fromarray(draw_part(rng)).save(path)
        for path in textures:
            Image.fromarray(draw_texture(rng)).save(path)
        published = Recipe(method="rd-expert", image_size=(SIZE, SIZE), seed=seed)
        options = replace(published, texture_cuts=True, texture_colors=True, foreground="grabcut")
        bands = []
        for recipe, given in ((published, textures), (options, textures), (published, [])):
            save_contact_sheet(folder / "band.png", recipe, parts, given, count=COLUMNS)
            bands.append(np.asarray(Image.open(folder / "band.png")))
    picture.parent.mkdir(parents=True, exist_ok=True)
    gap = np.full((12, *bands[0].shape[1:]), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([bands[0], gap, bands[1], gap, bands[2]]))
    # A palette makes the file a third as large.
    palette = whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(picture, optimize=True)


if __name__ == "__main__":
    typer.run(main)
