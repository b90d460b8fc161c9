"""The report of a real bundle, as a user makes it."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bundle import Bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.evaluation import CheckedSet, check_images, evaluate_scored, score_checked
from rdx_fast.images import read_image
from rdx_fast.overlay import overlay
from rdx_fast.report import make_report
from rdx_fast.report.gallery import cards
from support.commands import run, unboxed

CROP = (10, 20, 64, 80)  # top, left, height, width in the 80 x 112 pixels of a part
EVIL = "<script>alert(1)<%2Fscript>"


@pytest.fixture
def category(parts: Path, tmp_path: Path) -> Path:
    """The drawn parts; of the defective ones the middle is marked."""
    root = Path(shutil.copytree(parts, tmp_path / "category"))
    truth = root / "ground_truth" / "notch"
    truth.mkdir(parents=True)
    mask = np.zeros((80, 112), np.uint8)
    mask[30:50, 45:67] = 255
    for path in (root / "test" / "notch").iterdir():
        Image.fromarray(mask).save(truth / path.name)
    return root


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


def pixels(url: str) -> np.ndarray:
    kind, _, data = url.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_command(bundle: Bundle, detector: Detector, category: Path, tmp_path: Path) -> None:
    for folder in (category / "test" / "notch", category / "ground_truth" / "notch"):
        (folder / "000.png").rename(folder / f"{EVIL}.png")
    bad = category / "test" / "good" / "000.png"
    bad.write_text("no image")
    command = ["report", bundle.path, category, "-o", tmp_path / "new" / "report.html"]
    command += ["--crop", *CROP, "--precision", "fp32", "--gallery", 8]
    assert "1 of 16 test images cannot be used" in run(*command, code=2).stderr
    assert not (tmp_path / "new").exists()
    done = run(*command, "--skip-bad")
    page = tmp_path / "new" / "report.html"
    assert f"wrote {page}, {page.stat().st_size / 1e6:.1f} MB" in done.stderr
    text = page.read_text(encoding="utf-8")
    checked = check_images(find_dataset(category).test(), skip_bad=True, crop=CROP)
    overall = evaluate_scored(score_checked(detector, checked)).overall
    assert overall.aupro is not None
    for figure in (overall.image_auroc, overall.aupro):
        assert f"<td>{100 * figure:.2f}%</td>" in text
    assert f'"escapes.count">{overall.escapes}<' in text
    assert f'"false_rejects.count">{overall.false_rejects}<' in text
    assert "1 image left out of this report" in text
    assert f"<li>{bad}: " in text
    assert "crop: top 10, left 20, height 64, width 80 pixels" in text
    assert "test/notch/&lt;script&gt;alert(1)&lt;%2Fscript&gt;.png" in text
    assert len(re.findall("<script", text)) == 2


def test_wrong_use(bundle: Bundle, category: Path, tmp_path: Path) -> None:
    folder = run("report", bundle.path, category, "-o", tmp_path, code=2)
    assert "a folder: give the name of a file" in unboxed(folder.stderr)
    shutil.rmtree(category / "test" / "good")
    missing = run("report", bundle.path, category, "-o", tmp_path / "r.html", code=2)
    assert "a test set needs 'good'" in missing.stderr
    assert not (tmp_path / "r.html").exists()


def test_good_images_alone(bundle: Bundle, category: Path, tmp_path: Path) -> None:
    shutil.rmtree(category / "test" / "notch")
    run("report", bundle.path, category, "-o", tmp_path / "r.html", "--gallery", 0)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The data set has no defective images" in text
    assert '"false_rejects.count"' in text
    assert '"escapes.count"' not in text


def test_pictures(detector: Detector, category: Path) -> None:
    """Frame, heat map and outline, small and where they belong."""
    images = find_dataset(category).test()
    bad, good = (
        next(i for i, m in enumerate(images) if m.is_defective is of) for of in (True, False)
    )
    for crop in (None, CROP):
        checked = CheckedSet(images, (), (), None, crop)
        first, second = cards(detector, checked, [bad, good], category, 0.2, 56)
        captions, urls = zip(*first.pictures, strict=True)
        assert captions == ("frame", "heat map", "marked defect")
        frame, heat, marked = (pixels(url).astype(int) for url in urls)
        assert frame.shape == (40, 56, 3)
        source = read_image(images[bad].path)
        small = np.asarray(Image.fromarray(source).resize((56, 40), Image.Resampling.BOX))
        assert abs(frame - small).mean() < 6  # WebP
        found = detector.score(source, crop=crop).anomaly_maps
        assert found is not None
        scaled = None if crop is None else (5, 10, 32, 40)
        assert abs(heat - overlay(small, found[0], 0.2, scaled)).mean() < 6
        changed = np.argwhere(abs(marked - small).max(axis=2) > 90)
        assert changed.min(axis=0) == pytest.approx((15 - 4, 22 - 4), abs=2)
        assert changed.max(axis=0) == pytest.approx((25 + 3, 33 + 3), abs=2)
        assert (first.name, first.index) == (str(images[bad].path.relative_to(category)), bad)
        assert [caption for caption, _ in second.pictures] == ["frame", "heat map"]


def test_facts_and_times(bundle: Bundle, detector: Detector, category: Path) -> None:
    checked = check_images(find_dataset(category).test())
    told: list[tuple[int, int]] = []
    scored = score_checked(detector, checked)
    made = make_report(detector, checked, scored, category, 2, 64, lambda *done: told.append(done))
    assert {len(times) for times in scored.timings_ms.values()} == {16}
    assert (scored.timings_ms["total"] >= scored.timings_ms["network"]).all()
    assert told[-1] == (len(made.cards), len(made.cards))
    assert made.limits.ok_below == made.limits.ng_above == scored.threshold
    rows = dict(made.header)
    assert rows["Images"] == "8 good, 8 defective"
    assert rows["Engine"] == scored.engine
    recipe, limits, training, history = made.facts
    threshold = bundle.manifest.executions[0].threshold
    of_each = (f"{threshold.value:.4f}", "conformal", "2.00%", "4.76%", "20")
    assert limits.rows == [
        ("fp32 (in force)", "all", name, *of_each) for name in ("OK below", "NG above")
    ]
    assert dict(training.rows)["images"] == "24"
    assert bundle.manifest.files["network_fp32.onnx"].sha256 in dict(recipe.rows)["network"]
    assert [row[2] for row in history.rows] == ["export"]
    assert evaluate_scored(scored).threshold == threshold.value
