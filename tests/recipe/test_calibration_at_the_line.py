"""Limits from scores, and the bundle that is calibrated at the line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast import recalibrate
from rdx_fast.bundle.bundle import Bundle, describe_file, open_bundle, replace_manifest
from rdx_fast.bundle.bundle_history import bundle_history, exported_history, verify_bundle
from rdx_fast.bundle.changes import override_limits, replace_recipe
from rdx_fast.detector import Detector
from rdx_fast.engines import Engine, open_engine
from rdx_fast.errors import (
    CalibrationError,
    RecipeError,
)
from rdx_fast.images import list_images, read_image
from rdx_fast.judge import Judge
from rdx_fast.limits.calibration import (
    best_f1_threshold,
    calibrate_threshold,
    escape_threshold,
    manual_threshold,
    p_values,
    share,
)
from rdx_fast.limits.limits import Limits
from rdx_fast.limits.promise import Wish, check_promise, limits_from_scores, suspicious_scores
from rdx_fast.recalibrate import calibrate_bundle
from rdx_fast.recipe.frame_check import FrameError
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from support.commands import run

NONE = np.empty((0, 1), np.float32)


def scores_of(rng: np.random.Generator, images: int, regions: int = 1) -> NDArray[np.float32]:
    return rng.gamma(9, 0.02, (images, regions)).astype(np.float32)


def test_shares_with_their_intervals() -> None:
    half = share(5, 10)
    assert half.rate == 0.5
    assert (half.low, half.high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert share(0, 20).low == 0
    assert share(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert share(20, 20).high == 1


def test_best_f1_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    good, bad = scores_of(rng, 60)[:, 0], scores_of(rng, 40)[:, 0] + np.float32(0.05)

    def f1(limit: float) -> float:
        found, rejected = (bad > limit).sum(), (good > limit).sum()
        return 2 * found / (found + rejected + len(bad))

    found = best_f1_threshold(good, bad)
    assert f1(found.value) == max(f1(limit) for limit in [0.0, *good, *bad])
    assert (found.method, found.false_reject_rate) == ("best-f1", None)


def test_escape_rate_is_kept_on_average() -> None:
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(400):
        bad = scores_of(rng, 99)[:, 0]
        limit = escape_threshold([0.01], bad, 0.05).value
        missed.append(np.mean(scores_of(rng, 500)[:, 0] <= limit))
    assert np.mean(missed) == pytest.approx(0.05, abs=0.005)
    with pytest.raises(ValueError, match=r"10 defective images cannot promise .* at least 19"):
        escape_threshold([0.01], np.ones(10), 0.05)


def test_p_values_are_those_of_their_rank() -> None:
    calibration = np.array([[0.1], [0.2], [0.2], [0.4]], np.float32)
    scores = np.array([[0.05], [0.2], [0.3], [0.4], [0.5]], np.float32)
    np.testing.assert_allclose(p_values(scores, calibration), [1, 0.8, 0.4, 0.4, 0.2])
    # Of two regions the smaller one, twice.
    both = np.hstack([calibration, calibration + 1])
    assert p_values(np.array([[0.5, 1.05]], np.float32), both).tolist() == [0.4]


def test_p_values_are_valid_for_many_regions() -> None:
    rng = np.random.default_rng(2)
    small = [
        p_values(scores_of(rng, 50, 3), np.sort(scores_of(rng, 200, 3), axis=0)) <= 0.1
        for _ in range(200)
    ]
    assert 0.07 < np.mean(small) <= 0.1


def test_regions_share_the_rate() -> None:
    rng = np.random.default_rng(3)
    rejected = []
    for _ in range(200):
        good = scores_of(rng, 119, 4)
        limits = limits_from_scores("abcd", good, good[:0], Wish(0.1))
        values = np.array([limit.ng_above.value for limit in limits], np.float32)
        rejected.append((scores_of(rng, 200, 4) > values).any(axis=1).mean())
    assert 0.08 < np.mean(rejected) <= 0.1


def test_review_lies_between_two_rates() -> None:
    good = scores_of(np.random.default_rng(4), 199)
    (limits,) = limits_from_scores(["all"], good, NONE, Wish(0.01, review_rate=0.1))
    assert limits.ok_below == calibrated(good, 0.1)
    assert limits.ng_above == calibrated(good, 0.01)
    assert limits.ok_below.value < limits.ng_above.value


def calibrated(good: NDArray[np.float32], rate: float):
    found = calibrate_threshold(good, rate)
    return replace(found, false_rejects=share(int((good > found.value).sum()), len(good)))


def test_escapes_below_and_false_rejects_above_leave_review_between() -> None:
    rng = np.random.default_rng(5)
    good, bad = scores_of(rng, 199), scores_of(rng, 99) + np.float32(0.08)
    wish = Wish(0.01, method="escape-rate", escape_rate=0.02)
    (limits,) = limits_from_scores(["all"], good, bad, wish)
    assert limits.ok_below.method == "escape-rate"
    assert limits.ok_below.escapes is not None
    assert limits.ok_below.escapes.rate <= 0.02
    assert limits.ng_above == calibrated_with(good, bad, 0.01)
    # Far apart, one limit keeps both promises.
    (limits,) = limits_from_scores(["all"], good, bad + np.float32(9), wish)
    assert limits.ok_below == limits.ng_above
    assert limits.ok_below.escapes is not None
    assert limits.ok_below.escapes.count == 0


def calibrated_with(good: NDArray[np.float32], bad: NDArray[np.float32], rate: float):
    found = calibrated(good, rate)
    escapes = share(int((bad <= np.float32(found.value)).sum()), len(bad))
    return replace(found, escapes=escapes, defective_images=len(bad))


def test_escapes_are_as_few_in_several_regions() -> None:
    """With one in a hundred allowed, none of 99 defective images that calibrate may escape."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        good, bad = scores_of(rng, 99, 3), scores_of(rng, 99, 3)
        wish = Wish(0.1, method="escape-rate", escape_rate=0.01)
        limits = limits_from_scores("abc", good, bad, wish)
        escapes = limits[0].ok_below.escapes
        assert escapes is not None
        assert escapes.count == 0


def test_defective_images_move_the_limits_of_all_regions_alike() -> None:
    rng = np.random.default_rng(6)
    good, bad = scores_of(rng, 99, 2), scores_of(rng, 50, 2)
    bad[:, 1] *= 3
    first, second = limits_from_scores(["a", "b"], good, bad, Wish(0.1, method="best-f1"))
    alone = limits_from_scores(["a", "b"], good, bad[:0], Wish(0.1))
    factor = first.ok_below.value / alone[0].ng_above.value
    assert second.ok_below.value / alone[1].ng_above.value == pytest.approx(factor, rel=1e-6)
    assert first.ok_below.false_rejects == second.ok_below.false_rejects


def test_defective_among_the_good_are_named() -> None:
    rng = np.random.default_rng(7)
    good = scores_of(rng, 200)
    before = set(suspicious_scores(good))
    assert len(before) <= 2
    good[[17, 40]] = 5
    assert set(suspicious_scores(good)) == before | {17, 40}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"false_reject_rate": 0.0}, "false_reject_rate is 0.0, wanted between"),
        ({"false_reject_rate": 0.1, "review_rate": 0.05}, "review_rate is 0.05 and"),
        ({"method": "luck"}, "method is 'luck'"),
        ({"escape_rate": 0.1}, "give both, or neither"),
        (
            {"method": "best-f1", "review_rate": 0.1},
            "review_rate is for the method conformal, and the method is best-f1",
        ),
        ({"method": "escape-rate"}, "give both, or neither"),
    ],
)
def test_wishes_that_contradict_themselves(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wish(**wrong)


def test_how_many_images_a_promise_takes() -> None:
    with pytest.raises(
        CalibrationError, match=r"^1 good image cannot .* 2\.000% false rejects; the"
    ):
        check_promise(1, Wish(), 1)
    with pytest.raises(
        CalibrationError, match=r"^98 good images cannot .* in 2 regions; .* 99 good"
    ):
        check_promise(98, Wish(), 2)
    check_promise(99, Wish(), 2)


def test_verdicts_by_region() -> None:
    def limits(name: str, ok: float, ng: float) -> Limits:
        return Limits(name, manual_threshold(ok, "test"), manual_threshold(ng, "test"))

    judge = Judge([limits("a", 0.1, 0.2), limits("b", 0.5, 1.0)])
    scores = np.array([[0.1, 0.5], [0.15, 0.4], [0.05, 1.5], [0.19, 0.9], [0.3, 1.2]], np.float32)
    found = judge(scores)
    assert found.verdicts == ["OK", "REVIEW", "NG", "REVIEW", "NG"]
    assert found.deciding.tolist() == [0, 0, 1, 0, 0]
    assert found.p_values is None
    with pytest.raises(ValueError, match="wrong order: OK below 2, NG above 1"):
        limits("a", 2, 1)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def test_a_bundle_is_calibrated_at_the_line(copy: Bundle, parts: Path) -> None:
    good = list_images(parts / "test" / "good")
    steps: list[tuple[int, int]] = []
    found = calibrate_bundle(
        copy,
        good,
        Wish(0.2, weaker=True),
        user="anna",
        on_image=lambda done, of: steps.append((done, of)),
    )
    (execution,) = found.bundle.manifest.executions
    assert found.limits == {execution.label: execution.limits}
    assert steps[-1] == (len(good), len(good))
    with Detector(copy.path) as detector:
        result = detector.score([read_image(path) for path in good])
    kept = found.bundle.calibration()[execution.label]
    np.testing.assert_array_equal(kept[:, 0], np.sort(result.scores))
    assert calibrate_threshold(result.scores, 0.2).value == execution.threshold.value
    assert result.p_values is not None
    ranks = len(good) - np.argsort(np.argsort(result.scores))
    np.testing.assert_allclose(result.p_values, (1 + ranks) / (1 + len(good)))
    last = verify_bundle(open_bundle(copy.path))[-1]
    assert (last.action, last.user) == ("calibrate", "anna")
    assert set(last.after) == {"limits of fp32", "frames", "files"}


def test_another_lamp_needs_another_calibration(copy: Bundle, parts: Path, tmp_path: Path) -> None:
    """Frames that the bundle refuses so far are what it is calibrated on."""
    (tmp_path / "new").mkdir()
    for file in list_images(parts / "test" / "good"):
        brighter = 255 - read_image(file) // 4
        Image.fromarray(brighter).save(tmp_path / "new" / file.name)
    good = list_images(tmp_path / "new")
    with Detector(copy.path) as detector, pytest.raises(FrameError, match="far from that of good"):
        detector.score(read_image(good[0]))
    calibrate_bundle(copy, good, Wish(0.5, weaker=True), user="anna")
    with Detector(copy.path) as detector:
        assert np.isfinite(detector.score(read_image(good[0])).scores).all()


@pytest.mark.slow
def test_an_execution_is_checked_by_the_frames_of_its_own_limits(
    whole_bundle: Bundle, parts: Path, tmp_path: Path
) -> None:
    copy = open_bundle(shutil.copytree(whole_bundle.path, tmp_path / "copy.rdx"))
    (tmp_path / "new").mkdir()
    for file in list_images(parts / "test" / "good"):
        Image.fromarray(255 - read_image(file) // 4).save(tmp_path / "new" / file.name)
    good = list_images(tmp_path / "new")
    wish = Wish(0.5, weaker=True)
    calibrate_bundle(copy, good, wish, user="anna", backend="openvino", precision="fp32")
    with Detector(copy.path, "openvino", precision="fp32") as calibrated:
        assert calibrated.score(read_image(good[0])).executed == "fp32"
    others = Detector(copy.path, "openvino", precision="int8")
    with others, pytest.raises(FrameError, match="far from that of good parts"):
        others.score(read_image(good[0]))


def test_calibration_by_another_backend(
    copy: Bundle, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = list_images(parts / "test" / "good")
    wish = Wish(0.5, weaker=True)
    with pytest.raises(ValueError, match="backend is 'gpu', wanted one of auto"):
        calibrate_bundle(copy, good, wish, user="anna", backend="gpu")
    opened = []

    def on_a_gpu(bundle: Bundle, backend: str, threads: None, **options: Any) -> Engine:
        opened.append((backend, options["precision"]))
        return open_engine(bundle, "openvino", threads, **options)

    monkeypatch.setattr(recalibrate, "open_engine", on_a_gpu)
    found = calibrate_bundle(copy, good, wish, user="anna", backend="torch")
    assert opened == [("torch", "fp32")]
    assert list(found.limits) == ["fp32"]


def test_too_few_images_for_the_promise(copy: Bundle, parts: Path) -> None:
    good = list_images(parts / "test" / "good")
    with pytest.raises(CalibrationError, match=r"promise at most 0\.500% false .* least 199"):
        calibrate_bundle(copy, good, Wish(0.005), user="anna")
    with pytest.raises(CalibrationError, match="best-f1 needs defective images"):
        calibrate_bundle(copy, good, Wish(0.5, method="best-f1"), user="anna")
    assert open_bundle(copy.path).manifest == copy.manifest


def test_another_recipe_needs_another_calibration(copy: Bundle, parts: Path) -> None:
    good = list_images(parts / "test" / "good")
    height, width = read_image(good[0]).shape[:2]
    left = ((0.0, 0.0), (width / 2, 0.0), (width / 2, height), (0.0, height))
    right = ((width / 2, 0.0), (width, 0.0), (width, height), (width / 2, height))
    regions = (RegionSpec("left", polygon=left), RegionSpec("right", polygon=right))
    recipe = InspectionRecipe(FrameSpec(height, width), regions)
    with Detector(copy.path) as detector:
        before = detector.score(read_image(good[0]))
    changed = replace_recipe(copy, recipe, {}, "anna")
    assert changed.manifest.stale_executions() == ["fp32"]
    with pytest.raises(RecipeError, match="calibrate them again"):
        Detector(copy.path)
    with pytest.raises(RecipeError, match="calibrate them first"):
        override_limits(changed, "why", ok_below=1, region="left", user="anna")
    calibrate_bundle(changed, good, Wish(0.4, weaker=True), user="anna")
    with Detector(copy.path) as detector:
        result = detector.score(read_image(good[0]))
        with pytest.raises(ValueError, match="the recipe is for"):
            detector.score(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ValueError, match="the recipe has regions and states no crop"):
            detector.score(read_image(good[0]), crop=(0, 0, 32, 32))
        with pytest.raises(ValueError, match="region is given and the recipe has regions"):
            Detector(copy.path, region=np.ones((64, 96), bool))
    assert [limit.region for limit in result.limits] == ["left", "right"]
    assert result.region_scores.max() == before.scores[0]
    assert before.anomaly_maps is not None
    assert result.region_scores[0, 0] == before.anomaly_maps[0, :, :48].max()
    assert [c.action for c in bundle_history(open_bundle(copy.path))] == [
        "export",
        "recipe",
        "calibrate",
    ]


def test_limits_by_hand_are_marked(copy: Bundle) -> None:
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "lamp is old", ng_above=2 * value, user="otto")
    (limits,) = changed.manifest.executions[0].limits
    assert limits.ok_below.value == value
    assert (limits.ng_above.method, limits.ng_above.reason) == ("manual", "lamp is old")
    with Detector(copy.path) as detector:
        assert detector.limits == (limits,)
    for arguments, message in (
        ({"ok_below": 3 * value}, "wrong order"),
        ({}, "no limit was given"),
        (
            {"ok_below": value, "region": "lid"},
            r"'lid' is given as region, .* all: choose one \(region=\.\.\., --region\)",
        ),
        ({"ok_below": value, "executed": "int8"}, "'int8' is given as precision"),
    ):
        with pytest.raises(CalibrationError, match=message):
            override_limits(changed, "why", user="otto", **arguments)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="states no reason"):
        override_limits(changed, " ", ok_below=value, user="otto")


def test_limits_of_an_earlier_recipe_are_not_set_by_hand(copy: Bundle) -> None:
    """Another execution of the precision does not stand in the way, such as one of a GPU."""
    manifest, history = copy.manifest, copy.path / str(copy.manifest.history)
    network = manifest.networks["fp32"]
    int8 = replace(manifest.executions[0], stored="int8", executed="int8")
    earlier = replace(int8, stored="int8_symmetric", inspected_sha256="0" * 64)
    manifest = replace(
        manifest,
        networks={"int8": network, "int8_symmetric": network},
        executions=(int8, earlier),
        calibration=None,
    )
    history.write_text(exported_history(copy.path, "anna", manifest))
    files = manifest.files | {history.name: describe_file(history)}
    replace_manifest(replace(manifest, files=files), copy.path)

    value = 2 * int8.threshold.value
    done = run("override", copy.path, "--ng-above", value, "--reason", "lamp is old")
    changed = open_bundle(copy.path).manifest
    assert changed.executions[0].limits[0].ng_above.value == value
    assert changed.executions[1] == earlier
    assert f"left as they are, since their limits are of an earlier recipe: {earlier.label}" in (
        done.stderr
    )
