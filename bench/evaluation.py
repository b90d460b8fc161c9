"""Cost of an evaluation's figures, relative to scoring: ``python -m rdx_fast.bench.evaluation
--help``.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bench.result_rows import append, facts, network_facts, spread
from rdx_fast.datasets import LabelledImage, find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation import ScoredSet, check_images, compare, evaluate_scored, score_checked


def enlarged(images: Sequence[LabelledImage], wanted: int, folder: Path) -> list[LabelledImage]:
    """Enlarge a test set with turned and mirrored copies.

    Args:
        images: the test set
        wanted: number of images, at most eight times as many
        folder: where copies are written

    Returns:
        The images, then their copies by one transposition after the other, with their masks.
    """
    turns = [None, *Image.Transpose]
    if wanted > len(turns) * len(images):
        raise typer.BadParameter(f"at most {len(turns) * len(images)} images can be made")

    def copy(path: Path, name: str, turn: Image.Transpose) -> Path:
        target = folder / f"{name}.png"
        with Image.open(path) as image:
            image.transpose(turn).save(target, compress_level=1)
        return target

    found = []
    for k, (turn, image) in enumerate(list(product(turns, images))[:wanted]):
        if turn is None:
            found.append(image)
        else:
            mask = image.mask and copy(image.mask, f"{k}_mask", turn)
            found.append(replace(image, path=copy(image.path, str(k), turn), mask=mask))
    return found


def measure(detector: Detector, images: Sequence[LabelledImage], rounds: int) -> dict[str, Any]:
    """Time the steps of an evaluation, in turn, and measure the memory of the figures.

    Args:
        detector: the opened Detector
        images: the labelled images of a set with masks
        rounds: how often each step is timed

    Returns:
        Seconds of each step, and its share of scoring, as percentiles over the rounds (see
        ``spread``); bytes beside maps and masks, see ``_memory``.
    """
    detector.warmup()
    seconds: dict[str, list[float]] = {}

    def timed(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begin = perf_counter()
        result = call(*arguments)
        seconds.setdefault(step, []).append(perf_counter() - begin)
        return result

    for _ in range(rounds):
        checked = timed("check", check_images, images)
        scored = timed("scoring", score_checked, detector, checked)
        timed("figures", evaluate_scored, scored)
        # The figures are computed by then, as in ``evaluate --compare``.
        timed("comparison", compare, scored, scored)
    seconds["comparison"] = [taken / 2 for taken in seconds["comparison"]]  # of two bundles
    scoring = np.array(seconds["scoring"])
    pixels = sum(m.size for m in scored.maps)
    return {
        "images": len(scored.images),
        "pixels": pixels,
        "defective_pixels": sum(int(m.sum()) for m in scored.masks),
        "rounds": rounds,
        "seconds": {step: spread(np.array(taken), 3) for step, taken in seconds.items()},
        "of_scoring": {
            step: spread(np.array(taken) / scoring, 3) for step, taken in seconds.items()
        },
        **_memory(scored),
    }


def _memory(scored: ScoredSet) -> dict[str, float]:
    """Bytes that the figures need at most at the same time, beside maps and masks: for each pixel,
    and for each defective one besides.

    A line through the peaks of two sets: the set as it is, and with masks that mark the left half
    of each defective image.
    """

    def left(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        half = np.zeros_like(mask)
        half[:, : mask.shape[1] // 2] = mask.any()
        return half

    pixels = sum(m.size for m in scored.maps)
    shares, peaks = [], []
    for masks in (scored.masks, [left(mask) for mask in scored.masks]):
        shares.append(sum(int(m.sum()) for m in masks) / pixels)
        again = replace(scored, masks=masks)  # without the figures that it keeps
        tracemalloc.start()
        evaluate_scored(again)
        peaks.append(tracemalloc.get_traced_memory()[1] / pixels)
        tracemalloc.stop()
    slope = (peaks[1] - peaks[0]) / (shares[1] - shares[0])
    return {
        "bytes_per_pixel": round(peaks[0] - slope * shares[0], 1),
        "bytes_per_defective_pixel": round(slope, 1),
    }


def main(
    bundle: Path,
    dataset: Annotated[Path, typer.Argument(help="Category folder of a data set with masks.")],
    images: Annotated[
        int | None,
        typer.Option(help="Enlarge the test set to this many images by turned copies."),
    ] = None,
    precision: Annotated[str | None, typer.Option()] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Measure checking, scoring and figures of a test set, and print one row."""
    test = find_dataset(dataset).test()
    with TemporaryDirectory() as folder, Detector(bundle, precision=precision) as detector:
        row = {
            **facts("evaluation", ("openvino", "numpy", "scipy", "scikit-learn")),
            **network_facts(detector),
            "dataset": dataset.name,
            **measure(detector, enlarged(test, images or len(test), Path(folder)), rounds),
        }
    for step, share in row["of_scoring"].items():
        print(f"{step:12} {row['seconds'][step][1]:8.3f} s {share[1]:8.1%} of scoring")
    print(
        f"memory of the figures: {row['bytes_per_pixel']} bytes for each map pixel, and "
        f"{row['bytes_per_defective_pixel']} for each defective one"
    )
    if output is not None:
        append(output, [row])


if __name__ == "__main__":
    typer.run(main)
