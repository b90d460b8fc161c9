from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli.evaluation_tables import evaluation_table
from rdx_fast.datasets import LabelledImage
from rdx_fast.errors import DatasetError
from rdx_fast.evaluation import ScoredSet, compare, evaluate, evaluate_scored, pixels
from rdx_fast.evaluation.compare import _pixel_wins, _resampled_auroc
from rdx_fast.evaluation.metrics import auroc, average_precision_and_best_f1
from rdx_fast.evaluation.pixels import PixelFigures, pixel_figures
from rdx_fast.evaluation.scored import read_mask


def aupro_by_thresholds(masks: list[NDArray], maps: list[NDArray], limit: float) -> float:
    """The definition, one threshold after the other."""
    points = [(0.0, 0.0)]
    normal = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        overlaps = []
        for mask, values in zip(masks, maps, strict=True):
            labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
            overlaps += [(values[labelled == r] >= threshold).mean() for r in range(1, count + 1)]
        points.append(((normal >= threshold).mean(), float(np.mean(overlaps))))
    fpr, pro = (np.array(x) for x in zip(*points, strict=True))
    grid = np.unique(np.concatenate([fpr[fpr <= limit], [limit]]))
    area = 0.0
    for a, b in itertools.pairwise(grid):
        left = pro[np.flatnonzero(fpr == a)[-1]]
        right = pro[np.flatnonzero(fpr == b)[0]] if (fpr == b).any() else np.interp(b, fpr, pro)
        area += (b - a) * (left + right) / 2
    return area / limit


def overall(masks: list[NDArray], maps: list[NDArray], limit: float = 0.3) -> PixelFigures:
    """The figures of all images; those with an empty mask are good."""
    found, _ = pixel_figures(masks, maps, ["dent" if m.any() else None for m in masks], limit)
    assert found is not None
    return found


def assert_by_the_definitions(
    found: PixelFigures | None, masks: list[NDArray], maps: list[NDArray], limit: float
) -> None:
    truth, values = np.stack(masks).ravel(), np.stack(maps).ravel()
    precision, recall, _ = precision_recall_curve(truth, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found is not None
    assert found.pixel_auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert found.pixel_ap == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert found.pixel_best_f1 == pytest.approx(f1.max(), abs=1e-12)
    expected = aupro_by_thresholds(masks, maps, limit)
    assert found.aupro == pytest.approx(expected, abs=1e-12)
    expected = per_image_mean_by_loops(masks, maps, limit)
    assert found.aupro_per_image_mean == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("large", [2**20, 0])  # 0: every group is sorted in parts
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 20, 10_000]), st.sampled_from([0.05, 0.3, 1]))
def test_pixel_figures_are_the_definitions(
    large: int, seed: int, levels: int, limit: float
) -> None:
    rng = np.random.default_rng(seed)
    masks = [np.zeros((12, 15), bool) for _ in range(7)]
    masks[0][2:5, 3:9] = True
    masks[0][5, 9] = True  # touches by a corner: the same region
    masks[0][9:11, 1:3] = True
    masks[1][6:8, 6:8] = True
    masks[4][0, :3] = True
    types = ["dent", "crack", None, None, "dent", None, "dent"]  # the last mask is empty
    # Few levels make many ties, also of values inside masks with values outside; one level makes
    # every map constant.
    maps = [
        (rng.integers(0, levels, m.shape) + int(0.4 * levels) * m).astype(np.float32) for m in masks
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_LARGE", large)
        found, by_type = pixel_figures(masks, maps, types, limit)
    assert by_type.keys() == {"crack", "dent"}
    assert_by_the_definitions(found, masks, maps, limit)
    for name, figures in by_type.items():
        index = [i for i, of in enumerate(types) if of in (None, name)]
        assert_by_the_definitions(
            figures, [masks[i] for i in index], [maps[i] for i in index], limit
        )


def test_maps_are_not_sorted_in_place() -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((8, 8), bool), np.eye(8, dtype=bool)]
    maps = [rng.random((8, 8), np.float32) for _ in masks]
    before = [m.copy() for m in maps]
    overall(masks, maps)
    np.testing.assert_array_equal(maps, before)


def test_aupro_ends() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:9, 4:9] = True
    perfect = mask.astype(np.float32)
    assert overall([mask], [perfect]).aupro == pytest.approx(1.0)
    assert overall([mask], [-perfect]).aupro == pytest.approx(0.0)


def test_pixel_figures_need_both_kinds_of_pixels() -> None:
    values = [np.ones((4, 4), np.float32)] * 2
    nothing, everything = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    tiny = pixel_figures([nothing, nothing], values, [None, "tiny"])
    assert tiny == (None, {"tiny": None})
    assert pixel_figures([everything], values[:1], ["dent"]) == (None, {"dent": None})
    # Where another type has pixels, the images of the tiny defects still count as such outside.
    masks = [nothing, nothing, np.eye(4, dtype=bool)]
    maps = [*values, np.eye(4, dtype=np.float32)]
    found, by_type = pixel_figures(masks, maps, [None, "tiny", "dent"])
    assert by_type["tiny"] is None
    assert by_type["dent"] is not None
    assert_by_the_definitions(found, masks, maps, 0.3)


def test_image_figures() -> None:
    labels = np.array([False, False, True, True])
    scores = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    assert auroc(labels, scores) == pytest.approx(0.75)
    ap, f1 = average_precision_and_best_f1(labels, scores)
    assert ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert ap == pytest.approx(average_precision_score(labels, scores))
    assert f1 == pytest.approx(0.8)


@pytest.fixture
def category(parts: Path, tmp_path: Path) -> Path:
    """The drawn parts with masks for the notches."""
    root = Path(shutil.copytree(parts, tmp_path / "category"))
    truth = root / "ground_truth" / "notch"
    truth.mkdir(parents=True)
    for path in (root / "test" / "notch").iterdir():
        frame = np.asarray(Image.open(path)).astype(int)
        notch = ndimage.binary_opening(frame.sum(axis=2) < 140, np.ones((3, 3)))
        assert notch.any()
        Image.fromarray(notch.astype(np.uint8) * 255).save(truth / f"{path.stem}_mask.png")
    return root


def test_whole_evaluation(bundle: Bundle, category: Path) -> None:
    told: list[tuple[int, int]] = []
    with Detector(bundle.path) as detector:
        result = evaluate(detector, category, lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)
    assert result.by_type.keys() == {"notch"}
    assert result.by_type["notch"] == result.overall
    assert (result.overall.good, result.overall.defective) == (8, 8)
    assert result.overall.image_auroc == 1.0
    assert result.overall.pixel_auroc is not None
    assert result.overall.pixel_auroc > 0.9
    assert result.overall.aupro is not None
    assert result.overall.aupro_per_image_mean is not None
    assert (result.mask_threshold, result.aupro_fpr_limit) == (0.5, 0.3)
    assert result.overall.escapes == 0


def test_bad_images_are_left_out(bundle: Bundle, category: Path) -> None:
    truth = category / "ground_truth" / "notch"
    empty, missing = sorted(truth.iterdir())[:2]
    Image.fromarray(np.zeros_like(np.asarray(Image.open(empty)))).save(empty)
    missing.unlink()
    calls: list[tuple[int, int]] = []
    with Detector(bundle.path) as detector:
        with pytest.raises(DatasetError, match="2 of 16 test images cannot be used") as error:
            evaluate(detector, category, lambda done, total: calls.append((done, total)))
        assert not calls  # nothing was scored
        assert f"mask {missing}: no such file" in str(error.value)
        result = evaluate(detector, category, skip_bad=True)
        for bad in result.left_out:
            Path(bad.path).unlink()
        remaining = evaluate(detector, category)
    assert (result.overall.good, result.overall.defective) == (8, 6)
    empty_one, missing_one = result.to_dict()["left_out"]
    assert f"{empty.name}: marks no pixel" in empty_one["reason"]
    assert missing_one["reason"] == f"mask {missing}: no such file"
    assert result.overall == remaining.overall
    assert not remaining.left_out


def test_without_masks(bundle: Bundle, parts: Path) -> None:
    with Detector(bundle.path) as detector:
        result = evaluate(detector, parts)
    assert result.overall.image_auroc == 1.0
    assert result.overall.pixel_auroc is None
    assert result.overall.aupro is None


def per_image_mean_by_loops(masks: list[NDArray], maps: list[NDArray], limit: float = 0.3) -> float:
    """The RD4AD authors' figure, from its description: one image, one level, one region at a
    time."""
    areas = []
    for mask, values in zip(masks, maps, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        if not count:
            continue
        points = []
        for level in np.linspace(values.min(), values.max(), 200, endpoint=False):
            binary = values > level
            overlaps = [binary[labelled == r].mean() for r in range(1, count + 1)]
            fpr = binary[~mask].mean()
            if fpr < limit:
                points.append((fpr, np.mean(overlaps)))
        most = max((fpr for fpr, _ in points), default=0)
        if most == 0:
            areas.append(max((pro for _, pro in points), default=0.0))
            continue
        points = sorted((fpr / most, pro) for fpr, pro in points)
        areas.append(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points)))
    return float(np.mean(areas))


def test_per_image_mean_is_of_each_image_alone() -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((40, 50), bool) for _ in range(3)]
    masks[0][5:15, 5:20] = True
    masks[0][30:35, 40:45] = True
    masks[1][20:30, 10:14] = True
    maps = [(rng.random(m.shape) + 0.5 * m).astype(np.float32) for m in masks]
    found = overall(masks, maps)
    assert found.aupro_per_image_mean == pytest.approx(per_image_mean_by_loops(masks, maps))
    # A good image that is brighter as a whole costs the figure over the whole set, not this one.
    brighter = overall(masks, [maps[0], maps[1], maps[2] + 1])
    assert brighter.aupro_per_image_mean == found.aupro_per_image_mean
    assert brighter.aupro < found.aupro - 0.1
    perfect = overall(masks, [m.astype(np.float32) for m in masks])
    assert perfect.aupro_per_image_mean == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("value", "area"), [(2, 1.0), (1, 0.0), (0, 0.0)])
def test_a_map_without_a_curve_is_worth_what_it_finds(value: float, area: float) -> None:
    """Above the rest of the map, as high, and below it."""
    mask = np.zeros((20, 20), bool)
    mask[4:8, 4:8] = True
    values = np.where(mask, value, 1).astype(np.float32)
    found = overall([mask], [values]).aupro_per_image_mean
    assert found == per_image_mean_by_loops([mask], [values]) == area


def test_per_image_mean_ends_below_the_limit() -> None:
    values = np.array([[0, 1, 2, 3], [1, 2, 3, 4]], np.float32)
    mask = np.array([[False] * 4, [True] * 4])
    # A rate of exactly 0.5 occurs, and is not below 0.5.
    found = overall([mask], [values], 0.5).aupro_per_image_mean
    assert found == pytest.approx(per_image_mean_by_loops([mask], [values], 0.5), abs=1e-12)


def scored_set(name: str, scores: NDArray, strength: float, seed: int) -> ScoredSet:
    """Half of the images good; maps that show the defects as much as ``strength``."""
    n = len(scores)
    rng = np.random.default_rng(seed)
    images = [
        LabelledImage(Path(f"{i}.png"), "good" if i < n // 2 else "dent", None) for i in range(n)
    ]
    masks = [np.zeros((16, 16), bool) for _ in range(n)]
    for mask in masks[n // 2 :]:
        mask[3:8, 4:12] = True
    maps = [(rng.random(m.shape) + strength * m).astype(np.float32) for m in masks]
    verdicts = ["NG" if score > 0.5 else "OK" for score in scores]
    return ScoredSet(name, "", 0.5, images, scores.astype(np.float32), verdicts, maps, masks)


def test_verdicts_are_counted() -> None:
    """Half of eight images is good; each verdict means something else for either half."""
    verdicts = ["OK", "REVIEW", "NG", "NG", "OK", "OK", "REVIEW", "NG"]
    scored = replace(scored_set("a", np.arange(8.0), 1.0, 0), verdicts=verdicts)
    found = evaluate_scored(scored)
    assert (found.overall.false_rejects, found.overall.good_reviews) == (2, 1)
    assert (found.overall.escapes, found.overall.defective_reviews) == (2, 1)
    console = Console(width=100)
    with console.capture() as shown:
        console.print(evaluation_table(found))
    table = " ".join(shown.get().split())
    assert "good to review │ 1 of 4" in table
    assert "defective to review │ 1 of 4" in table


@pytest.mark.slow
def test_comparison_against_resampling_by_hand() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) >= 30
    a = scored_set("a", rng.normal(size=60) + labels, 0.3, 1)
    b = scored_set("b", np.round(rng.normal(size=60) + 2 * labels, 1), 0.6, 2)  # with ties
    image, pixel = compare(a, b)
    assert (image.figure, image.baseline, image.name) == ("image AUROC", "a", "b")
    assert image.difference == pytest.approx(auroc(labels, b.scores) - auroc(labels, a.scores))
    assert pixel.difference == pytest.approx(
        auroc(np.stack(b.masks), np.stack(b.maps)) - auroc(np.stack(a.masks), np.stack(a.maps))
    )
    by_hand: dict[str, list[float]] = {"image": [], "pixel": []}
    for _ in range(600):
        index = np.concatenate([rng.integers(0, 30, 30), rng.integers(30, 60, 30)])
        by_hand["image"].append(
            auroc(labels[index], b.scores[index]) - auroc(labels[index], a.scores[index])
        )
        truth = np.stack(a.masks)[index]
        by_hand["pixel"].append(
            auroc(truth, np.stack(b.maps)[index]) - auroc(truth, np.stack(a.maps)[index])
        )
    for found, kind in ((image, "image"), (pixel, "pixel")):
        low, high = np.percentile(by_hand[kind], (2.5, 97.5))
        width = high - low
        assert found.low == pytest.approx(low, abs=0.2 * width)
        assert found.high == pytest.approx(high, abs=0.2 * width)
        assert found.low < found.difference < found.high


def test_resamples_count_equal_map_values_half() -> None:
    scored = scored_set("a", np.random.default_rng(0).normal(size=20), 0.3, 1)
    maps = [np.round(4 * m) for m in scored.maps]  # few values, each in a bin of its own
    once = np.ones((1, 20))
    (found,) = _resampled_auroc(_pixel_wins(replace(scored, maps=maps)), once)
    assert found == pytest.approx(auroc(np.stack(scored.masks), np.stack(maps)), abs=1e-12)


def test_resamples_are_as_exact_for_skewed_maps() -> None:
    """Such as products of distances, most of which are near 0."""
    scored = scored_set("a", np.random.default_rng(0).normal(size=20), 0.3, 1)
    maps = [m**9 for m in scored.maps]
    (found,) = _resampled_auroc(_pixel_wins(replace(scored, maps=maps)), np.ones((1, 20)))
    assert found == pytest.approx(auroc(np.stack(scored.masks), np.stack(maps)), abs=1e-5)


def test_comparison_with_itself_is_nothing() -> None:
    a = scored_set("a", np.random.default_rng(0).normal(size=20), 0.3, 1)
    for found in compare(a, a):
        assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_several_are_compared_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (scored_set(name, rng.normal(size=20), 0.3, 1) for name in "abc")
    assert compare(a, b, c) == [*compare(a, b), *compare(a, c)]


def test_resamples_without_a_defective_pixel_are_left_out() -> None:
    def only_one_marked(scored: ScoredSet) -> ScoredSet:
        masks = [m if i == 10 else np.zeros_like(m) for i, m in enumerate(scored.masks)]
        return replace(scored, masks=masks)

    scores = np.random.default_rng(0).normal(size=20)
    a, b = (only_one_marked(scored_set("a", scores, 0.3, seed)) for seed in (1, 2))
    _, pixel = compare(a, b)
    assert pixel.low < pixel.difference < pixel.high


def test_comparison_wants_the_same_images() -> None:
    scores = np.random.default_rng(0).normal(size=20)
    a, b = scored_set("a", scores, 0.3, 1), scored_set("b", scores[:18], 0.3, 1)
    with pytest.raises(ValueError, match="did not score the same images"):
        compare(a, b)


def test_masks(tmp_path: Path) -> None:
    white = np.zeros((40, 60), np.uint8)
    white[10:20, 30:50] = 255
    Image.fromarray(white).save(tmp_path / "a_mask.png")
    mask = read_mask(tmp_path / "a_mask.png", 20, 30)
    expected = np.zeros((20, 30), bool)
    expected[5:10, 15:25] = True
    np.testing.assert_array_equal(mask, expected)
    assert not read_mask(None, 4, 4).any()
