"""The demo: trains, exports and scores on images of solar cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdx_fast.detector import Detector
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.export import export_bundle
from rdx_fast.images import read_image
from rdx_fast.overlay import save_overlay
from rdx_fast.solar_cells import solar_cells
from rdx_fast.training import Progress, Recipe, train

_OVERLAYS = 6


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        bundle: the exported bundle
        overlays: folder of the heat-map overlays
        image_auroc: image AUROC on the test cells, 0 to 1
        threshold: the bundle's threshold
        false_rejects: good test cells above the threshold
        escapes: defective test cells not above the threshold
        good: number of good test cells
        defective: number of defective test cells
        latency_ms: time of ``Detector.score`` on one frame in ms, by "p50" and "p99"
    """

    bundle: Path
    overlays: Path
    image_auroc: float
    threshold: float
    false_rejects: int
    escapes: int
    good: int
    defective: int
    latency_ms: dict[str, float]


def run_demo(
    output: Path,
    recipe: Recipe,
    *,
    max_minutes: float | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> DemoResult:
    """Train, export, calibrate and score.

    An existing run below ``output`` is resumed, so a second demo only exports and scores.

    Args:
        output: folder that everything is written to
        recipe: options of the training; its seed also chooses the cells
        max_minutes: stop training after this many minutes; None for no limit
        on_stage: called with the name of each stage
        on_step: called after each training step

    Returns:
        Figures, latencies and paths of the results.

    Raises:
        MissingDependencyError: a package of the demo is not installed
        DatasetError: the images of the solar cells are incomplete
    """
    cells = solar_cells(recipe.seed)
    on_stage(f"training on {len(cells.train)} good cells")
    checkpoint = train(
        recipe,
        cells.train,
        output / "run",
        resume=True,
        max_minutes=max_minutes,
        on_step=on_step,
    )
    on_stage(f"exporting, with the threshold from {len(cells.calibration)} other good cells")
    bundle = export_bundle(
        checkpoint, cells.calibration, output / "cells.rdx", name="solar cells", overwrite=True
    )
    on_stage(f"scoring {len(cells.good)} good and {len(cells.defective)} defective cells")
    images = [*cells.good, *cells.defective]
    labels = np.arange(len(images)) >= len(cells.good)
    with Detector(bundle.path) as detector:
        detector.warmup()
        results = [detector.score(read_image(path)) for path in images]
    scores = np.array([r.scores[0] for r in results])
    rejected = np.array([r.is_anomalous[0] for r in results])
    latencies = [r.timings_ms["total"] for r in results]
    overlays = output / "overlays"
    for kind, chosen in (
        ("defective", np.argsort(-scores[labels])[:_OVERLAYS] + len(cells.good)),
        ("escaped", np.flatnonzero(labels & ~rejected)[:_OVERLAYS]),
        ("false_reject", np.flatnonzero(~labels & rejected)[:_OVERLAYS]),
    ):
        for i in chosen:
            maps = results[i].anomaly_maps
            assert maps is not None
            heat = detector.relative_map(maps[0])
            target = overlays / f"{kind}_{images[i].stem}.png"
            save_overlay(target, read_image(images[i]), heat)
    return DemoResult(
        bundle=bundle.path,
        overlays=overlays,
        image_auroc=auroc(labels, scores),
        threshold=results[0].threshold,
        false_rejects=int((rejected & ~labels).sum()),
        escapes=int((~rejected & labels).sum()),
        good=len(cells.good),
        defective=len(cells.defective),
        latency_ms={f"p{p}": float(np.percentile(latencies, p)) for p in (50, 99)},
    )
