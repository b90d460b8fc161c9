"""The demo's images of solar cells.

Electroluminescence images of the PyPI package ``elpv-dataset`` (CC BY-NC-SA 4.0; read from the
installed package, never copied). Of the monocrystalline cells, those labelled 0 are good and those
labelled 1 are defective.
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
    """Image files of the cells. No cell is in two lists.

    Attributes:
        train: good cells to train on
        calibration: good cells for the threshold
        good: good cells to test on
        defective: defective cells to test on
    """

    train: list[Path]
    calibration: list[Path]
    good: list[Path]
    defective: list[Path]


def solar_cells(seed: int) -> Cells:
    """Select the demo's cells at random.

    Args:
        seed: seed of the selection

    Returns:
        300 cells to train on, 120 good and 120 defective ones to test on, and all other good cells
        for the threshold.

    Raises:
        MissingDependencyError: ``elpv-dataset`` is not installed
        DatasetError: the package's files are incomplete
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise MissingDependencyError("elpv-dataset", "the demo", "demo")
    data = Path(found.origin).parent / "data"
    labels = data / "labels.csv"
    if not labels.is_file():
        raise DatasetError(f"{labels} is missing: reinstall elpv-dataset")
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
        raise DatasetError(
            f"{labels} lists {len(good)} good and {len(defective)} defective cells, wanted more "
            f"than {TRAIN + TEST} and at least {TEST}: reinstall elpv-dataset"
        )
    return Cells(
        train=good[:TRAIN],
        calibration=good[TRAIN + TEST :],
        good=good[TRAIN : TRAIN + TEST],
        defective=defective[:TEST],
    )
