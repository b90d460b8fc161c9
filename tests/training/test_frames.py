"""Decoded images that are kept in memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.training import Recipe, frames, train
from rdx_fast.training.frames import Frames
from support.weights import assert_same_weights


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that ``Frames`` decodes, in order."""
    found: list[Path] = []
    read: Callable[[Path], np.ndarray] = read_image

    def note(path: Path) -> np.ndarray:
        found.append(path)
        return read(path)

    monkeypatch.setattr(frames, "read_image", note)
    return found


def test_what_fits_is_kept(parts: Path, decoded: list[Path]) -> None:
    paths = list_images(parts / "train" / "good")[:10]
    size = read_image(paths[0]).nbytes
    kept = Frames(paths)
    for budget, count in ((0.0, 0), (3.5 * size, 3), (10.0 * size, 10), (99.0 * size, 10)):
        assert kept.keep(budget) == budget - count * size
        decoded.clear()
        for i, path in enumerate(paths):
            np.testing.assert_array_equal(kept[i], read_image(path))
        assert decoded == paths[count:]


def test_another_process_decodes(parts: Path, decoded: list[Path]) -> None:
    kept = Frames(list_images(parts / "train" / "good")[:4])
    kept.keep(1e9)
    content = pickle.dumps(kept)
    assert len(content) < kept[0].nbytes
    decoded.clear()
    copy = pickle.loads(content)
    np.testing.assert_array_equal(copy[3], kept[3])
    assert decoded == kept.paths[3:]


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    with pytest.raises(ImageError, match=r"torn\.png"):
        Frames([tmp_path / "torn.png"]).keep(1e9)


def test_training_is_the_same_without_kept_images(
    parts: Path, tmp_path: Path, decoded: list[Path]
) -> None:
    images, textures = (list_images(parts / name) for name in ("train/good", "test"))
    recipe = Recipe(
        method="rd-expert",
        backbone="efficientnet_lite0",
        image_size=(32, 32),
        iterations=4,
        batch=8,
    )
    made = []
    for memory, name in ((2.0, "kept"), (0.0, "decoded")):
        decoded.clear()
        made.append(
            train(
                recipe,
                images,
                tmp_path / name,
                textures=textures,
                image_memory_gb=memory,
                workers=0,
            )
        )
        times = {path: decoded.count(path) for path in images}
        assert (max(times.values()) > 2) == (memory == 0)
    assert made[0].losses == made[1].losses
    assert made[0].partial_losses == made[1].partial_losses
    assert_same_weights(*made)
