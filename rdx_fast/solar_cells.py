"""The demo's photographs of solar cells.

Electroluminescence photographs of the PyPI package ``elpv-dataset`` (CC BY-NC-SA 4.0; read where
pip put them, never copied): monocrystalline cells labelled 0 are good, those labelled 1 defective.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdx_fast.errors import DatasetError, MissingDependencyError

TRAIN, TEST = 300, 120


@dataclass(frozen=True, slots=True)
class Cells:
    """File lists; no cell is in two of them."""

    train: list[Path]
    calibration: list[Path]
    good: list[Path]
    defective: list[Path]


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
