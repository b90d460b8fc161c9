"""The picture in the README, with frames, heat maps and verdicts of drawn parts:
``python -m rdx_fast.bench.example docs/images/example.png``.

The parts, brackets of brushed metal, are drawn here, so that the picture may be distributed. A
network is trained on good ones, exported and run in the same way as by a user. Takes some minutes
on two cores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from rdx_fast.detector import Detector
from rdx_fast.overlay import overlay
from rdx_fast.result import Result
from rdx_fast.training.synthetic import perlin_noise

Plane = NDArray[np.float64]

SIZE = 384
TRAIN, HELD_OUT = 80, 60
DEFECTS = ("scratch", "stain", "missing hole")
_HOLES = ((-0.33, -0.2), (0.33, -0.2), (-0.33, 0.2), (0.33, 0.2))
_SHOWN = slice(52, 332)  # of the rows: above and below there is belt alone
_WIDTH, _HEIGHT, _GAP, _CAPTION = 192, 140, 6, 20
_GREEN, _RED = (20, 120, 60), (190, 30, 30)


def draw_part(rng: np.random.Generator, defect: str | None = None) -> NDArray[np.uint8]:
    """Draw a bracket with four holes and a slot on a dark belt, at a random place.

    Args:
        rng: source of place and noise
        defect: one of ``DEFECTS``, None for a good part

    Returns:
        ``[SIZE, SIZE, 3]`` uint8
    """
    v, u = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    angle = rng.normal(0, 0.02)
    x = np.cos(angle) * u + np.sin(angle) * v - rng.normal(0, 0.006)
    y = np.cos(angle) * v - np.sin(angle) * u - rng.normal(0, 0.006)
    plate = _rounded(x, y, 0.43, 0.31, 0.07)
    holes = [np.hypot(x - a, y - b) - 0.045 for a, b in _HOLES]
    if defect == "missing hole":
        del holes[rng.integers(len(holes))]
    openings = np.minimum.reduce([*holes, _rounded(x, y, 0.15, 0.035, 0.035)])

    brushed = ndimage.gaussian_filter(rng.normal(0, 60, (SIZE, SIZE)), (0.6, 14))
    glare = 40 * np.exp(-((u + 0.12) ** 2 + (v + 0.1) ** 2) / 0.15)
    metal = 132 + glare + brushed + 5 * perlin_noise(rng, SIZE, SIZE, (4, 4))
    if defect == "scratch":
        metal = _scratched(metal, x, y, rng)
    elif defect == "stain":
        metal = _stained(metal, x, y, rng)
    # A bevel catches the light at the top left of the plate, and at the bottom right of openings.
    metal += 45 * _side(plate) * np.exp(-((plate / 0.008) ** 2))
    metal -= 70 * _side(openings) * np.exp(-((openings / 0.008) ** 2))
    metal = _over(metal, 26 + 14 * v, _inside(openings))

    belt = 46 + 6 * perlin_noise(rng, SIZE, SIZE, (64, 64)) + 8 * u
    shadow = ndimage.gaussian_filter(ndimage.shift(_inside(plate), (9, 7)), 7)
    grey = _over(belt * (1 - 0.6 * shadow), metal, _inside(plate))
    frame = grey[..., None] * (0.97, 1.0, 1.04) + rng.normal(0, 2, (SIZE, SIZE, 3))
    return frame.clip(0, 255).astype(np.uint8)


def _rounded(x: Plane, y: Plane, width: float, height: float, radius: float) -> Plane:
    """Signed distance to a rectangle of these half sizes with round corners, negative inside."""
    dx, dy = np.abs(x) - width + radius, np.abs(y) - height + radius
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - radius


def _inside(distance: Plane) -> Plane:
    """1 inside, 0 outside, smooth over a pixel."""
    return np.clip(0.5 - distance * SIZE, 0, 1)


def _side(distance: Plane) -> Plane:
    """How much an edge faces the light at the top left, from -1 to 1."""
    down, right = np.gradient(distance * SIZE)
    return -(down + right) / np.sqrt(2)


def _over(below: Plane, above: Plane, opacity: Plane) -> Plane:
    return (1 - opacity) * below + opacity * above


def _scratched(metal: Plane, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    turn = rng.uniform(0.5, 1.1)
    along = np.cos(turn) * (x - 0.24) + np.sin(turn) * (y + 0.02)
    across = np.cos(turn) * (y + 0.02) - np.sin(turn) * (x - 0.24) + 1.2 * along**2
    line = np.exp(-((across / 0.0035) ** 2)) / (1 + np.exp((np.abs(along) - 0.13) * 150))
    return metal + 75 * line - 45 * np.roll(line, (2, 2), (0, 1))


def _stained(metal: Plane, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    ripple = 0.02 * perlin_noise(rng, SIZE, SIZE, (8, 8))
    edge = np.hypot((x + 0.12) / 1.3, y - 0.17) - 0.055 + ripple
    return metal * (1 - 0.45 / (1 + np.exp(edge * 250)))


def write_parts(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    """Write ``count`` images of good parts and return their paths."""
    files = [folder / f"{i:03}.png" for i in range(count)]
    for file in files:
        Image.fromarray(draw_part(rng)).save(file)
    return files


def trained_bundle(folder: Path, epochs: int, rng: np.random.Generator) -> Path:
    """Train on good parts and export; other good parts give the threshold."""
    from rdx_fast.export import export_bundle
    from rdx_fast.training import Recipe, train

    good = write_parts(folder, TRAIN + HELD_OUT, rng)
    # In float32, so that every machine gives about the same picture.
    recipe = Recipe(backbone="efficientnet_lite0", epochs=epochs, seed=0, amp=False)
    checkpoint = train(recipe, good[:TRAIN], folder / "run")
    return export_bundle(checkpoint, good[TRAIN:], folder / "part.rdx", precision="fp32").path


def columns(
    frames: dict[str, NDArray[np.uint8]], result: Result
) -> Iterator[tuple[str, str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Name, verdict, frame and heat map of each frame."""
    assert result.anomaly_maps is not None
    for i, (name, frame) in enumerate(frames.items()):
        verdict = result.verdicts[i]
        share = result.scores[i] / result.threshold
        heat = overlay(frame, result.anomaly_maps[i] / np.float32(result.threshold))
        yield name, f"{verdict}  {share:.2f} x threshold", frame, heat


def compose(frames: dict[str, NDArray[np.uint8]], result: Result) -> Image.Image:
    """A column for each frame: its name, the frame, the heat map, the verdict."""
    width = len(frames) * (_WIDTH + _GAP) - _GAP
    picture = Image.new("RGB", (width, 2 * _HEIGHT + _GAP + 2 * _CAPTION), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for i, (name, verdict, frame, heat) in enumerate(columns(frames, result)):
        left = i * (_WIDTH + _GAP)
        draw.text((left + 2, 1), name, "black", font)
        for row, shown in enumerate((frame, heat)):
            small = Image.fromarray(shown[_SHOWN]).resize((_WIDTH, _HEIGHT))
            picture.paste(small, (left, _CAPTION + row * (_HEIGHT + _GAP)))
        colour = _GREEN if verdict.startswith("OK") else _RED
        draw.text((left + 2, picture.height - _CAPTION + 3), verdict, colour, font)
    return picture


def main(picture: Path, epochs: int = 90, seed: int = 0) -> None:
    """Draw parts, train, score a good one and one with each defect, and write the picture."""
    rng = np.random.default_rng(seed)
    frames = {"good": draw_part(rng)} | {name: draw_part(rng, name) for name in DEFECTS}
    with tempfile.TemporaryDirectory() as name:
        bundle = trained_bundle(Path(name), epochs, rng)
        with Detector(bundle) as detector:
            result = detector.score(list(frames.values()))
    picture.parent.mkdir(parents=True, exist_ok=True)
    # A palette makes the file a third as large.
    composed = compose(frames, result)
    palette = composed.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(picture, optimize=True)


if __name__ == "__main__":
    typer.run(main)
