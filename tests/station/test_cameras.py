from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rdx_fast.images import list_images, read_image
from rdx_fast.station import BadFrameError, CameraTimeoutError, FolderReplay, StillImage


def test_folder_replay_at_a_rate(parts: Path) -> None:
    now = [50.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    folder = parts / "test" / "good"
    camera = FolderReplay(folder, rate=10, buffers=2, clock=lambda: now[0], sleep=sleep)
    assert [camera.grab(1).number for _ in range(3)] == [0, 1, 2]
    assert now[0] == pytest.approx(50.2)
    now[0] += 0.5  # frames 3 to 7 are exposed, two are kept
    assert camera.grab(1).number == 6
    assert camera.grab(1).number == 7
    with pytest.raises(CameraTimeoutError, match=r"next is due in 0\.1"):
        camera.grab(0.01)
    files = list_images(folder)
    frame = FolderReplay(folder).grab(0)
    np.testing.assert_array_equal(frame.pixels, read_image(files[0]))
    again = FolderReplay(folder)
    shown = [again.grab(0).pixels for _ in range(len(files) + 1)]
    np.testing.assert_array_equal(shown[0], shown[-1])
    with pytest.raises(ValueError, match="rate is 0"):
        FolderReplay(folder, rate=0)


def test_folder_replay_of_a_file_cut_in_two(parts: Path, tmp_path: Path) -> None:
    whole = list_images(parts / "test" / "good")[0]
    shutil.copy(whole, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(whole.read_bytes()[:3000])
    camera = FolderReplay(tmp_path)
    assert camera.grab(0).number == 0
    with pytest.raises(BadFrameError, match=r"b\.png"):
        camera.grab(0)
    assert camera.grab(0).number == 2


def test_still_image(parts: Path) -> None:
    path = list_images(parts / "test" / "good")[0]
    camera = StillImage(path)
    assert [camera.grab(0).number for _ in range(2)] == [1, 2]
    assert camera.shape == (80, 112, 3)
