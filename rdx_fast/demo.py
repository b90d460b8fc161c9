"""The demo: the whole main path on photographs of solar cells.

Electroluminescence photographs of the PyPI package ``elpv-dataset`` (CC BY-NC-SA 4.0; read where
pip put them, never copied): monocrystalline cells labelled 0 are good, those labelled 1 defective.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdx_fast.detector import Detector
from rdx_fast.errors import DatasetError, MissingDependencyError
from rdx_fast.images import read_image
from rdx_fast.overlay import save_overlay
from rdx_fast.training import Progress, Recipe, train

TRAIN, TEST = 300, 120
_OVERLAYS = 6


@dataclass(frozen=True, slots=True)
class Cells:
    """File lists; no cell is in two of them."""

    train: list[Path]
    calibration: list[Path]
    good: list[Path]
    defective: list[Path]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """``latency_ms``: of ``Detector.score`` on one frame, by percentile."""

    bundle: Path
    overlays: Path
    image_auroc: float
    threshold: float
    false_rejects: int
    escapes: int
    good: int
    defective: int
    latency_ms: dict[str, float]


def solar_cells(seed: int) -> Cells:
    """Draw the demo's cells. Raises ``MissingDependencyError`` or ``DatasetError``."""
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise MissingDependencyError("elpv-dataset", "the demo", "demo")
    data = Path(found.origin).parent / "data"
    labels = data / "labels.csv"
    if not labels.is_file():
        raise DatasetError(f"{labels} is missing: install elpv-dataset again")
    by_label: dict[float, list[Path]] = {0.0: [], 1.0: []}
    with labels.open(encoding="utf-8") as stream:
        for name, probability, kind in map(str.split, stream):
            if kind == "mono" and float(probability) in by_label:
                by_label[float(probability)].append(data / name)
    rng = np.random.default_rng(seed)
    good, defective = (
        [paths[i] for i in rng.permutation(len(paths))] for paths in by_label.values()
    )
    if len(good) <= TRAIN + TEST or len(defective) < TEST:
        raise DatasetError(f"{labels} lists {len(good)} good and {len(defective)} defective cells")
    return Cells(
        train=good[:TRAIN],
        calibration=good[TRAIN + TEST :],
        good=good[TRAIN : TRAIN + TEST],
        defective=defective[:TEST],
    )


def run_demo(
    output: Path,
    *,
    epochs: int = 12,
    seed: int = 0,
    max_minutes: float | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> DemoResult:
    """Train, export, calibrate and score; everything is written below ``output``. A run that is
    there already goes on, so a second demo only exports and scores."""
    from rdx_fast.evaluation.metrics import auroc
    from rdx_fast.export import export_bundle

    cells = solar_cells(seed)
    on_stage(f"training on {len(cells.train)} good cells")
    recipe = Recipe(backbone="efficientnet_lite0", epochs=epochs, seed=seed)
    checkpoint = train(
        recipe,
        cells.train,
        output / "run",
        resume=True,
        max_minutes=max_minutes,
        on_step=on_step,
    )
    on_stage(f"exporting, threshold from {len(cells.calibration)} other good cells")
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
            target = overlays / f"{kind}_{images[i].stem}.png"
            save_overlay(target, read_image(images[i]), maps[0], results[i].threshold)
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
