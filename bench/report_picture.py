"""Draws the picture of a report in the documentation:
``python -m rdx_fast.bench.report_picture docs/images/report.png``.

The parts are those of ``bench/example.py``, which are drawn, so that the picture may be
distributed. Needs Debian's ``chromium``; takes some minutes on two cores.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from rdx_fast.bench.example import DEFECTS, draw_part, trained_bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation import check_images, score_checked
from rdx_fast.report import make_report, render, write_page

GOOD, DEFECTIVE = 40, 10  # images in the test set, the latter of each type
_DIFFERENT = 10  # mean grey levels by which a defect differs from the same part without it
_SIZE = (1280, 2110)  # of the window, in CSS pixels
_SCALE = 0.75


def draw_defect(seed: int, defect: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a defective part, and mark where it differs from the same part without the defect.

    Args:
        seed: of the part
        defect: one of ``DEFECTS``

    Returns:
        The frame, uint8 [H, W, 3], and its mask, bool [H, W].
    """
    with_it, without = (draw_part(np.random.default_rng(seed), of) for of in (defect, None))
    difference = abs(with_it.mean(axis=2) - without.mean(axis=2))
    labelled, _ = ndimage.label(ndimage.gaussian_filter(difference, 2) > _DIFFERENT)
    largest = np.bincount(labelled.ravel())[1:].argmax() + 1
    return with_it, labelled == largest


def write_test_set(root: Path, rng: np.random.Generator) -> None:
    """Write good and defective parts, with masks, in MVTec AD's layout."""
    for defect in DEFECTS:
        folders = [root / of / defect.replace(" ", "_") for of in ("test", "ground_truth")]
        for folder in folders:
            folder.mkdir(parents=True)
        for i in range(DEFECTIVE):
            frame, mask = draw_defect(int(rng.integers(2**31)), defect)
            Image.fromarray(frame).save(folders[0] / f"{i:03}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folders[1] / f"{i:03}_mask.png")
    good = root / "test" / "good"
    good.mkdir()
    for i in range(GOOD):
        Image.fromarray(draw_part(rng)).save(good / f"{i:03}.png")


def screenshot(page: Path, picture: Path) -> None:
    """Take a picture of the upper part of a page."""
    command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars"]
    command += ["--window-size={},{}".format(*_SIZE), f"--force-device-scale-factor={_SCALE}"]
    command += [f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(picture) as taken:
        # A palette makes the file smaller, as in the example.
        shown = taken.convert("RGB")
        palette = shown.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(picture, optimize=True)


def main(picture: Path, epochs: int = 90, seed: int = 0) -> None:
    """Draw parts, train, make a report and take its picture."""
    picture = picture.absolute()
    picture.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    # The report names the data set by the path it is given.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        bundle = trained_bundle(Path(), epochs, rng)
        dataset = Path("brackets")
        write_test_set(dataset, rng)
        with Detector(bundle) as detector:
            detector.warmup()
            checked = check_images(find_dataset(dataset).test())
            scored = score_checked(detector, checked)
            report = make_report(detector, checked, scored, dataset)
        page = Path("report.html").absolute()
        write_page(render(report), page)
        screenshot(page, picture)


if __name__ == "__main__":
    typer.run(main)
