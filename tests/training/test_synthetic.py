from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rdx_fast.errors import DatasetError
from rdx_fast.images import list_images, read_image
from rdx_fast.manifest import RESIZE, InputSpec
from rdx_fast.preprocess import to_input
from rdx_fast.training.contact_sheet import save_contact_sheet
from rdx_fast.training.synthetic import (
    AnomalyMaker,
    anomaly_mask,
    foreground_masks,
    perlin_noise,
    shuffled_tiles,
)

SPEC = InputSpec(64, 96, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), RESIZE)


@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.tuples(st.sampled_from([1, 2, 8, 64]), st.sampled_from([1, 4, 64])),
)
def test_noise_stays_in_range(seed: int, size: tuple[int, int], cells: tuple[int, int]) -> None:
    noise = perlin_noise(np.random.default_rng(seed), *size, cells)
    assert noise.shape == size
    assert noise.dtype == np.float32
    assert np.abs(noise).max() <= 1.0


def test_noise_is_smooth_and_as_fine_as_its_grid() -> None:
    def steps(cells: int) -> float:
        noise = perlin_noise(np.random.default_rng(0), 256, 256, (cells, cells))
        return float(np.abs(np.diff(noise, axis=1)).mean() / noise.std())

    assert steps(4) < 0.05  # 64 pixels a cell
    assert 3 < steps(32) / steps(4) < 12
    # Gradient noise is zero on the grid's own points, so it is of both signs everywhere.
    noise = perlin_noise(np.random.default_rng(1), 256, 256, (16, 16))
    assert abs(float(noise.mean())) < 0.05
    assert noise.max() > 0.6
    assert noise.min() < -0.6


def test_masks_are_never_empty_and_stay_in_the_foreground() -> None:
    foreground = np.zeros((64, 96), np.bool_)
    foreground[20:40, 30:60] = True
    shares = []
    for seed in range(60):
        mask = anomaly_mask(np.random.default_rng(seed), foreground)
        assert mask.any()
        assert not (mask & ~foreground).any()
        shares.append(mask.sum() / foreground.sum())
    assert min(shares) < 0.1 < max(shares)
    point = np.zeros((64, 96), np.bool_)
    point[5, 7] = True
    np.testing.assert_array_equal(anomaly_mask(np.random.default_rng(0), point), point)


@pytest.mark.parametrize("with_textures", [True, False])
def test_only_the_mask_is_changed(parts: Path, with_textures: bool) -> None:
    good = list_images(parts / "train" / "good")
    maker = AnomalyMaker(SPEC, good, list_images(parts / "test") if with_textures else [])
    changed = []
    for index, path in enumerate(good[:12]):
        image = to_input([read_image(path)], SPEC)[0]
        anomalous, mask = maker(np.random.default_rng(index), image, index)
        assert anomalous.dtype == np.float32
        assert anomalous.flags.c_contiguous
        np.testing.assert_array_equal(anomalous[:, ~mask], image[:, ~mask])
        assert 0 <= anomalous.min() <= anomalous.max() <= 1
        changed.append(np.abs(anomalous - image)[:, mask].mean())
        again, _ = maker(np.random.default_rng(index), image, index)
        np.testing.assert_array_equal(anomalous, again)
    assert np.median(changed) > 0.05  # to be seen


def testshuffled_tiles_keep_every_pixel() -> None:
    texture = np.arange(3 * 64 * 96, dtype=np.float32).reshape(3, 64, 96)
    shuffled = shuffled_tiles(np.random.default_rng(0), texture)
    assert shuffled.shape == texture.shape
    assert (shuffled != texture).mean() > 0.5
    np.testing.assert_array_equal(np.sort(shuffled, axis=None), texture.ravel())
    # All channels of a pixel move together.
    np.testing.assert_array_equal(shuffled[1] - shuffled[0], 64 * 96)


def test_foreground(parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "train" / "good")
    left = np.zeros((80, 112), np.uint8)
    left[:, :56] = 255
    one = tmp_path / "one.png"
    Image.fromarray(left).save(one)
    each = tmp_path / "each"
    each.mkdir()
    for i, path in enumerate(good):
        Image.fromarray(left if i % 2 else left[:, ::-1]).save(each / f"{path.stem}.png")
    image = to_input([read_image(good[0])], SPEC)[0]
    for index in range(6):
        rng = np.random.default_rng(index)
        _, mask = AnomalyMaker(SPEC, good, (), foreground_masks(one, good))(rng, image, index)
        assert not mask[:, 49:].any()
        _, mask = AnomalyMaker(SPEC, good, (), foreground_masks(each, good))(rng, image, index)
        assert not (mask[:, 49:] if index % 2 else mask[:, :47]).any()
    (each / f"{good[3].stem}.png").unlink()
    with pytest.raises(DatasetError, match=rf"1 foreground masks are missing.*\n.*{good[3].stem}"):
        foreground_masks(each, good)
    Image.fromarray(left * 0).save(one)
    with pytest.raises(DatasetError, match=r"one\.png is black: white \(255\) marks the part"):
        foreground_masks(one, good)


def test_gallery(parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "train" / "good")
    save_contact_sheet(tmp_path / "g.png", good, [], None, (64, 96), count=5, seed=0)
    picture = read_image(tmp_path / "g.png")
    assert picture.shape == (3 * 64, 5 * 96, 3)
    normal, anomalous, mask = np.split(picture, 3)
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(normal[mask == 0], anomalous[mask == 0])
    assert (normal[mask == 255] != anomalous[mask == 255]).mean() > 0.5
