"""Whether calibrated limits keep what they promise, as rows for ``bench/results``:
``python -m rdx_fast.bench.promise --help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.detector import Detector
from rdx_fast.images import read_image
from rdx_fast.limits.promise import Wish, limits_from_scores
from rdx_fast.solar_cells import solar_cells

RATES = (0.005, 0.01, 0.02, 0.05)
IMAGES = (50, 100, 199)
REGIONS = (1, 4)


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the demo.")],
    seed: Annotated[int, typer.Option(help="The demo's, which drew its cells.")] = 0,
    splits: Annotated[int, typer.Option(min=2, help="Random splits.")] = 1000,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Calibrate on some good solar cells that the demo did not train on, drawn at random, and count
    false rejects among the others; again and again.

    Once with the whole cell as one region, once with its quarters as four.
    """
    cells = solar_cells(seed)
    good = [*cells.calibration, *cells.good]
    with Detector(bundle) as detector:
        common = facts("promise", ("numpy", "openvino")) | network_facts(detector)
        scores = quarter_scores(detector, good)
    rows = []
    for regions in REGIONS:
        of_regions = scores if regions == 4 else scores.max(axis=1, keepdims=True)
        for images in IMAGES:
            for rate in RATES:
                if regions / (images + 1) > rate:
                    continue  # so many images cannot promise it
                rng = np.random.default_rng(seed)  # the same splits for every rate
                found = realised(of_regions, images, rate, splits, rng)
                rows.append(
                    common
                    | {"regions": regions, "good_images": images, "rate": rate, "cells": len(good)}
                    | found
                )
                print(rows[-1])
    if output is not None:
        append(output, rows)


def quarter_scores(detector: Detector, images: list[Path]) -> NDArray[np.float32]:
    """Scores ``[n, 4]`` of the quarters of each image."""
    found = []
    for path in images:
        maps = detector.score(read_image(path)).anomaly_maps
        assert maps is not None
        halves = np.array_split(maps[0], 2)
        quarters = [quarter for half in halves for quarter in np.array_split(half, 2, axis=1)]
        found.append([quarter.max() for quarter in quarters])
    return np.array(found, np.float32)


def realised(
    scores: NDArray[np.float32],
    images: int,
    rate: float,
    splits: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What share of good parts is rejected by limits from ``images`` others, over random splits.

    Args:
        scores: ``[n, R]`` of good parts
        images: to calibrate on
        rate: of false rejects that is asked for
        splits: number of splits
        rng: draws them
    """
    names = [f"region {r}" for r in range(scores.shape[1])]
    wish = Wish(rate, weaker=True)
    shares = np.empty(splits)
    for split in range(splits):
        order = rng.permutation(len(scores))
        used, others = scores[order[:images]], scores[order[images:]]
        limits = limits_from_scores(names, used, used[:0], wish)
        values = np.array([limit.ng_above.value for limit in limits], np.float32)
        shares[split] = (others > values).any(axis=1).mean()
    promised = sum(limit.ng_above.expected_false_reject_rate or 0 for limit in limits)
    return {
        "splits": splits,
        "promised": promised,
        "realised": float(shares.mean()),
        "standard_error": float(shares.std(ddof=1) / np.sqrt(splits)),
        "in_90_percent_of_splits_at_most": float(np.quantile(shares, 0.9)),
    }


if __name__ == "__main__":
    typer.run(main)
