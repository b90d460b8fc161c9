"""The report of a real bundle, as a user makes it."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.datasets import find_dataset
from rdx_fast.evaluation import CheckedSet, check_images, evaluate_scored, score_checked
from rdx_fast.images import list_images, read_image
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import VERDICTS, Limits
from rdx_fast.overlay import overlay
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.recipe.recipe_rows import recipe_rows
from rdx_fast.report import make_report, render
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
    assert "<td>top 10, left 20, 64 x 80 pixels</td>" in text
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
        assert abs(heat - overlay(small, found[0] / np.float32(0.2), None, scaled)).mean() < 6
        changed = np.argwhere(abs(marked - small).max(axis=2) > 90)
        assert changed.min(axis=0) == pytest.approx((15 - 4, 22 - 4), abs=2)
        assert changed.max(axis=0) == pytest.approx((25 + 3, 33 + 3), abs=2)
        assert (first.name, first.index) == (str(images[bad].path.relative_to(category)), bad)
        assert [caption for caption, _ in second.pictures] == ["frame", "heat map"]


def under(bundle: Bundle, recipe: InspectionRecipe, folder: Path) -> Path:
    copy = open_bundle(shutil.copytree(bundle.path, folder / "copy.rdx"))
    return replace_recipe(copy, recipe, {}, "anna").path


def limits_of(name: str, ok_below: float, ng_above: float) -> Limits:
    return Limits(name, *(manual_threshold(value, "test") for value in (ok_below, ng_above)))


def test_two_regions(bundle: Bundle, category: Path, tmp_path: Path) -> None:
    """Verdicts, counts, maps and pictures are by each region's own limits."""
    sides = [((20, 10), (56, 10), (56, 74), (20, 74)), ((56, 10), (90, 10), (90, 74), (56, 74))]
    regions = [RegionSpec(n, polygon=of) for n, of in zip(("left", "right"), sides, strict=True)]
    of_frame = FrameSpec(80, 112, crop=CROP)
    recipe = InspectionRecipe(of_frame, tuple(regions), mm_per_pixel=0.1, deadline_ms=80)
    part = under(bundle, recipe, tmp_path)
    checked = check_images(find_dataset(category).test(), crop=CROP)
    never = [limits_of(region.name, 1e3, 1e3) for region in regions]
    with Detector(part, limits=never, check_frames=False) as detector:
        found = [detector.score(read_image(m.path)).region_scores[0] for m in checked.images]
    # All verdicts occur, from either region, with limits that are a hundred times apart.
    low, high = np.quantile(found, (0.4, 0.7), axis=0)
    limits = [limits_of("left", low[0], high[0]), limits_of("right", low[1], 100 * low[1])]
    with Detector(part, limits=limits, check_frames=False) as detector:
        scored = score_checked(detector, replace(checked, crop=None))
        made = make_report(detector, checked, scored, category, gallery=8, picture=112)
        assert len(set(scored.verdicts)) == 3
        assert scored.region_of is not None
        assert set(scored.region_of) == {0, 1}
        assert [VERDICTS[v] for v in made.limits.verdicts(scored.scores)] == scored.verdicts
        for of, mask in zip(scored.maps, scored.masks, strict=True):
            assert detector.labels is not None
            assert not of[detector.labels == 0].any()
            assert of.shape == mask.shape
        for shown, score in zip(scored.maps, scored.scores, strict=True):
            assert shown.max() == score
        rows = dict(made.facts[0].rows)  # type: ignore[arg-type]
        assert rows.items() >= dict(recipe_rows(recipe)).items()
        assert rows["frame"].startswith("80 x 112 pixels")
        assert rows["scale"] == "0.1 mm a pixel"
        assert rows["deadline"] == "80 ms"
        card = made.cards[0]
        source = read_image(checked.images[card.index].path)
        maps = detector.score(source).anomaly_maps
        assert maps is not None
        wanted = overlay(source, detector.relative_map(maps[0]), detector.labels, CROP)
        assert abs(pixels(card.pictures[1][1]).astype(int) - wanted).mean() < 8  # WebP
    text = render(made)
    assert "The regions left, right have limits of their own" in text
    assert "score, relative to its region" in text
    region = scored.regions[scored.region_of[card.index]]
    assert f"{scored.scores[card.index]:.4f} in {region}<" in text


def test_16_bits(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """Pictures are scored in 16 bits and shown in 8."""
    good = tmp_path / "set" / "test" / "good"
    good.mkdir(parents=True)
    grey = np.asarray(Image.open(list_images(parts / "test" / "good")[0]).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 16).save(good / "0.png")
    part = under(bundle, InspectionRecipe(FrameSpec(levels=(0, 4095))), tmp_path)
    with Detector(part, limits=[limits_of("all", 1e-3, 1e-3)]) as detector:
        checked = check_images(find_dataset(tmp_path / "set", False).test(), levels=(0, 4095))
        (card,) = cards(detector, checked, [0], tmp_path, 1e-3, 112)
    frame, heat = (pixels(url).astype(int) for _, url in card.pictures)
    assert abs(frame - grey[..., None]).mean() < 6
    assert abs(heat - frame).mean() > 20


def test_facts_and_times(bundle: Bundle, detector: Detector, category: Path) -> None:
    checked = check_images(find_dataset(category).test())
    told: list[tuple[int, int]] = []
    scored = score_checked(detector, checked)
    made = make_report(
        detector,
        checked,
        scored,
        category,
        gallery=2,
        picture=64,
        on_image=lambda *done: told.append(done),
    )
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
        ("fp32 (in force)", "all", name, *of_each) for name in ("OK up to", "NG above")
    ]
    assert dict(training.rows)["images"] == "24"
    assert bundle.manifest.files["network_fp32.onnx"].sha256 in dict(recipe.rows)["network"]
    assert [row[2] for row in history.rows] == ["export"]
    assert evaluate_scored(scored).threshold == threshold.value
