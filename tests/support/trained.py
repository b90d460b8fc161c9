"""Drawn parts, and networks trained on them by both methods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.images import list_images

if TYPE_CHECKING:
    from rdx_fast.training import Recipe

# For bundles with bfloat16 and float8, which this small network is at the edge of holding.
WIDE = {
    "fp32": (1e-3, 1e-3),
    "fp16": (0.05, 0.05),
    "bf16": (0.2, 0.3),
    "int8": (0.2, 0.3),
    "fp8": (0.2, 0.3),
}
SIZE = (64, 96)  # of the trained network's input: not square, so that a swap shows


def draw_part(rng: np.random.Generator, defective: bool = False) -> NDArray[np.uint8]:
    """A bright disc on a striped plate; a defective one has a dark notch in the disc."""
    height, width = 80, 112
    y, x = np.mgrid[:height, :width]
    plate = 90 + 25 * np.sin(x / 5)[..., None] * np.ones(3)
    disc = (y - 40 - rng.normal()) ** 2 + (x - 56 - rng.normal()) ** 2 < 26**2
    plate[disc] = (200, 180, 120)
    if defective:
        top, left = rng.integers(24, 44), rng.integers(40, 60)
        plate[top : top + 12, left : left + 12] = (30, 20, 60)
    return (plate + rng.normal(0, 3, plate.shape)).clip(0, 255).astype(np.uint8)


def write_parts(folder: Path, count: int, seed: int, defective: bool = False) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(draw_part(rng, defective)).save(folder / f"{i:03}.png")


def write_category(root: Path) -> None:
    """A category folder in the MVTec AD layout, with a held-out ``calibration`` folder beside."""
    write_parts(root / "train" / "good", 24, seed=1)
    write_parts(root / "calibration", 20, seed=2)
    write_parts(root / "test" / "good", 8, seed=3)
    write_parts(root / "test" / "notch", 8, seed=4, defective=True)


def recipe(method: str) -> Recipe:
    from rdx_fast.training import Recipe

    # In float32 on every machine, so that all have about the same network.
    made = Recipe(
        backbone="efficientnet_lite0", image_size=SIZE, epochs=12, batch=8, seed=2, amp=False
    )
    if method == "rd4ad":
        return made
    return replace(made, method=method, teacher_learning_rate=0.001)


def train_run(method: str, parts: Path, folder: Path) -> None:
    """``folder/run``; by RD with Expert the textures are cut from the parts themselves."""
    from rdx_fast.training import train

    train(recipe(method), list_images(parts / "train" / "good"), folder / "run")


def export_part(run: Path, parts: Path, precision: str, folder: Path) -> None:
    """``folder/part.rdx``."""
    from rdx_fast.export import export_bundle
    from rdx_fast.export.check import TOLERANCE
    from rdx_fast.training import load_checkpoint

    good = list_images(parts / "calibration")
    tolerance = WIDE if precision in ("auto", "bf16", "fp8") else TOLERANCE
    export_bundle(
        load_checkpoint(run), good, folder / "part.rdx", precision=precision, tolerance=tolerance
    )
