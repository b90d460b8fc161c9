"""Accuracy of frames in tiles against frames resized as a whole, as rows for ``bench/results``:
``python -m rdx_fast.bench.tiles_accuracy --help``.

Both are trained for the same number of batches of the same size, from the same weights. All maps
are compared at the size of the tiled ones, to which the others are enlarged.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation import ScoredSet, evaluate_scored, score_set
from rdx_fast.evaluation.scored import read_mask
from rdx_fast.export import export_bundle
from rdx_fast.images import image_size, read_image
from rdx_fast.recipe.tiling import TileSpec, tiling
from rdx_fast.training import Checkpoint, Recipe, train


def enlarged(scored: ScoredSet, tiles: TileSpec, tile: tuple[int, int]) -> ScoredSet:
    """The same set with maps and masks of the size that tiled maps have.

    Args:
        scored: the scored test set
        tiles: of the tiled maps
        tile: height and width of the network's input for a tile
    """
    maps, masks = [], []
    for image, shown in zip(scored.images, scored.maps, strict=True):
        height, width = tiling(tiles, image_size(image.path), tile).size
        resized = Image.fromarray(shown).resize((width, height), Image.Resampling.BILINEAR)
        maps.append(np.asarray(resized))
        mask = image.mask if image.is_defective else None
        masks.append(read_mask(mask, height, width, image.mask_above))
    return replace(scored, maps=maps, masks=masks)


def measure(
    dataset: Path, run: Path, recipe: Recipe, tiles: TileSpec, tile: tuple[int, int], **options: Any
) -> dict[str, Any]:
    """Train a recipe and evaluate it at the size of tiled maps.

    Args:
        dataset: category folder with a test set
        run: folder for run and bundle
        recipe: options of the training, with tiles or without
        tiles: whose maps' size all are evaluated at
        tile: height and width of the network's input for a tile
        options: of ``train``

    Returns:
        What was trained, the figures, and the time of scoring a frame.
    """
    found = find_dataset(dataset)
    images, test = found.train(), found.test()
    started = time.monotonic()
    checkpoint: Checkpoint = train(recipe, images, run, resume=True, **options)
    minutes = (time.monotonic() - started) / 60
    bundle = run / "part.rdx"
    # No compared figure depends on the threshold, so a few images suffice to set it.
    export_bundle(checkpoint, images[:4], bundle, precision="fp32", overwrite=True)
    with Detector(bundle) as detector:
        frame = read_image(test[0].path)
        taken = [detector.score(frame, False).timings_ms["total"] for _ in range(7)]
        scored = score_set(detector, test)
    figures = evaluate_scored(enlarged(scored, tiles, tile), by_type=False).overall
    return {
        "recipe": asdict(checkpoint.recipe),
        "seed": recipe.seed,
        "batches": checkpoint.step,
        "minutes": round(minutes, 2),
        "frame_ms": round(float(np.median(taken)), 2),
        "figures": asdict(figures),
    }


def main(
    dataset: Annotated[Path, typer.Argument(help="Category folder with a test set.")],
    runs: Annotated[Path, typer.Argument(help="Folder for runs and bundles.")],
    tile: Annotated[tuple[int, int], typer.Option(help="Height and width of a tile.")],
    overlap: Annotated[int, typer.Option(min=0, help="Of neighbouring tiles.")] = 32,
    size: Annotated[tuple[int, int], typer.Option(help="The network's input.")] = (128, 128),
    also: Annotated[
        list[str] | None,
        typer.Option(help="Other inputs, such as 320x128, to which frames are resized as a whole."),
    ] = None,
    backbone: Annotated[str, typer.Option()] = "efficientnet_lite0",
    batch: Annotated[int, typer.Option(min=1, help="Images or tiles in a batch.")] = 8,
    iterations: Annotated[int, typer.Option(min=1, help="Batches of training.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each with its own seed.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Train and evaluate RD4AD on tiles and on frames resized as a whole, with several seeds."""
    torch.set_num_threads(threads)
    tiles = TileSpec(*tile, overlap)
    inputs = [size, *(_size(text) for text in also or [])]
    base = Recipe(backbone=backbone, batch=batch, iterations=iterations)
    recipes = {f"resized to {h} x {w}": replace(base, image_size=(h, w)) for h, w in inputs}
    name = f"tiles of {tile[0]} x {tile[1]}, each to {size[0]} x {size[1]}"
    recipes[name] = replace(base, image_size=size, tiles=tiles)
    for seed in range(111, 111 + seeds):
        for name, recipe in recipes.items():
            run = runs / f"{dataset.name}-{name.replace(' ', '-')}-seed{seed}"
            row = facts("tiles-accuracy", ("torch", "openvino", "numpy", "scikit-learn")) | {
                "dataset": dataset.name,
                "name": name,
                **measure(dataset, run, replace(recipe, seed=seed), tiles, size),
            }
            figures = row["figures"]
            told = ", ".join(f"{k} {figures[k]:.4f}" for k in ("image_auroc", "aupro"))
            print(f"{dataset.name}, {name}, seed {seed}: {told}, {row['minutes']} min", flush=True)
            if output is not None:
                append(output, [row])


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


if __name__ == "__main__":
    typer.run(main)
