"""Frames that cannot be pictures of a part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.detector import Detector
from rdx_fast.errors import CalibrationError
from rdx_fast.recipe.frame_check import (
    FrameCheck,
    FrameError,
    FrameStatistics,
    check_frame,
    look_at,
    sharpness_of,
)


def part(seed: int, bright: float = 0.5, shape: tuple[int, ...] = (300, 400)) -> NDArray[np.uint8]:
    """A grey part with texture."""
    rng = np.random.default_rng(seed)
    values = rng.normal(bright, 0.1, shape)
    return (255 * np.clip(values, 0, 1)).astype(np.uint8)


GOOD = FrameStatistics.of([part(seed, 0.5 + 0.002 * seed) for seed in range(20)])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((300, 400), np.uint8), "the frame is black"),
        (np.random.default_rng(0).integers(0, 4, (300, 400, 3), np.uint8), "the frame is black"),
        (np.full((300, 400, 3), 128, np.uint8), "no contrast, its brightness is 50.2% everywhere"),
        (np.full((300, 400), 255, np.uint8), "no contrast"),
        (part(9, 1.1), r"\d+% of the frame is saturated, of good parts at most 0%"),
        (
            part(9, 0.3),
            f"far from that of good parts, {GOOD.brightness.low:.1%} to {GOOD.brightness.high:.1%}",
        ),
        (part(9, 0.75), "far from that of good parts"),
    ],
)
def test_frames_that_are_none(frame: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        check_frame(look_at(frame), GOOD)


def test_frames_of_parts_pass() -> None:
    for bright in (0.45, 0.5, 0.6):
        check_frame(look_at(part(7, bright)), GOOD)
    check_frame(look_at(part(7, 0.2)), None)
    dark = np.zeros((300, 400), np.uint8)
    dark[100:200, 100:200] = 90  # a small part in the dark
    check_frame(look_at(dark), None)


def test_few_good_frames_tell_little_of_the_brightness() -> None:
    few = FrameStatistics.of([part(seed) for seed in range(5)])
    check_frame(look_at(part(9, 0.65)), few)
    for good, bright in ((few, 0.72), (GOOD, 0.65)):
        with pytest.raises(FrameError, match="far from that of good parts"):
            check_frame(look_at(part(9, bright)), good)


def test_what_is_outside_the_crop_does_not_matter() -> None:
    frame = np.zeros((600, 800), np.uint8)
    frame[100:400, 200:600] = part(3)
    crop = (100, 200, 300, 400)
    assert look_at(frame, crop) == look_at(part(3))
    assert sharpness_of(frame, crop) == sharpness_of(part(3))
    check_frame(look_at(frame, crop), GOOD)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3, 3), (4000, 30)])
def test_frames_of_any_shape_are_looked_at(shape: tuple[int, ...]) -> None:
    frame = part(1, shape=shape)
    assert look_at(frame).brightness == pytest.approx(frame.mean() / 255, abs=0.1)
    assert sharpness_of(frame) >= 0


def test_sixteen_bits_by_their_levels() -> None:
    frame = part(2)
    deep = frame.astype(np.uint16) * 16 + 64
    levels = (64, 64 + 255 * 16)
    np.testing.assert_allclose(look_at(deep, levels=levels), look_at(frame), rtol=1e-5)
    assert sharpness_of(deep, levels=levels) == pytest.approx(sharpness_of(frame), rel=1e-5)


def test_a_blurred_frame_is_less_sharp() -> None:
    frame = part(4).astype(np.float32)
    blurred = (frame[:, 1:] + frame[:, :-1]) / 2
    assert sharpness_of(blurred.astype(np.uint8)) < 0.8 * sharpness_of(part(4))


def test_the_size_of_frames_on_a_gpu() -> None:
    check = FrameCheck((30, 40), True, None)
    for shape in ((5, 30, 40, 3), (5, 30, 40), (30, 40, 3), (30, 40)):
        check.on_device(shape)
    with pytest.raises(FrameError, match="does not tell its shape"):
        check.on_device(None)
    FrameCheck(None, True, None).on_device(None)
    for wrong in ((5, 40, 30, 3), (30, 41)):
        with pytest.raises(FrameError, match="the recipe is for 30 x 40"):
            check.on_device(wrong)


def test_the_detector_refuses_them(bundle: Bundle) -> None:
    detector = Detector(bundle.path)
    with pytest.raises(FrameError, match="the frame is black"):
        detector.score(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(FrameError, match="the frame is black"):
        next(detector.stream([np.zeros((64, 96, 3), np.uint8)]))
    trusting = Detector(detector.engine, check_frames=False)
    assert np.isfinite(trusting.score(np.zeros((64, 96, 3), np.uint8)).scores[0])


def dark_part(seed: int) -> NDArray[np.uint8]:
    """A few grey levels of texture, as of a dull part in a dark field."""
    return np.random.default_rng(seed).integers(0, 6, (300, 400)).astype(np.uint8)


def test_parts_in_a_dark_field_are_compared_with_their_own() -> None:
    good = FrameStatistics.of([dark_part(seed) for seed in range(5)])
    with pytest.raises(FrameError, match="the frame is black"):
        check_frame(look_at(dark_part(9)), None)
    check_frame(look_at(dark_part(9)), good)
    for frame in (np.zeros((300, 400), np.uint8), dark_part(9) // 3):
        with pytest.raises(FrameError, match="the frame is black"):
            check_frame(look_at(frame), good)


def test_empty_frames_among_the_good_are_listed(tmp_path: Path) -> None:
    frames = {f"{seed}.png": part(seed) for seed in range(5)}
    frames |= {"lid.png": np.zeros((300, 400), np.uint8), "over.png": part(1, 9)}
    for name, frame in frames.items():
        Image.fromarray(frame).save(tmp_path / name)
    files = sorted(tmp_path.iterdir())
    for dark_field in (False, True):
        with pytest.raises(CalibrationError) as raised:
            FrameStatistics.of_files(files, dark_field=dark_field)
        listed = str(raised.value).splitlines()
        assert "2 of 7 good images show nothing" in listed[0]
        assert [Path(line.strip()).name for line in listed[1:]] == ["lid.png", "over.png"]
    kept = [file for file in files if file.name not in ("lid.png", "over.png")]
    assert FrameStatistics.of_files(kept) == FrameStatistics.of([part(s) for s in range(5)])


def test_empty_frames_alone_are_no_good_parts(tmp_path: Path) -> None:
    """A camera without light, or parts in a dark field: whoever calibrates says which."""
    frames = {f"{seed}.png": dark_part(seed) for seed in range(20)}
    frames["lid.png"] = (np.random.default_rng(0).random((300, 400)) < 0.2).astype(np.uint8)
    for name, frame in frames.items():
        Image.fromarray(frame).save(tmp_path / name)
    files = sorted(tmp_path.iterdir())
    with pytest.raises(CalibrationError, match=r"21 of 21 good images show nothing"):
        FrameStatistics.of_files(files)
    with pytest.raises(CalibrationError, match=r"1 of 21 good images show nothing.*\n.*lid\.png"):
        FrameStatistics.of_files(files, dark_field=True)
    (tmp_path / "lid.png").unlink()
    good = FrameStatistics.of_files(sorted(tmp_path.iterdir()), dark_field=True)
    check_frame(look_at(dark_part(30)), good)
    with pytest.raises(FrameError, match="the frame is black"):
        check_frame(look_at(frames["lid.png"]), good)
