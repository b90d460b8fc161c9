from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from rdx_fast.bundle.manifest import RESIZE, InputSpec
from rdx_fast.deep_images import write_png
from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import FrameOptions, to_input, unit_spec
from rdx_fast.training import Recipe, synthetic, train
from rdx_fast.training.contact_sheet import save_contact_sheet
from rdx_fast.training.foreground import foreground_masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.synthetic import (
    AnomalyMaker,
    Floats,
    anomaly_mask,
    perlin_noise,
    shuffled_tiles,
    turned,
)

SPEC = unit_spec(64, 96)
NORMALISED = InputSpec(64, 96, (0.4, 0.5, 0.45), (0.3, 0.2, 0.25), RESIZE)


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
    assert not perlin_noise(np.random.default_rng(2), 64, 96, (8, 16))[::8, ::6].any()
    noise = perlin_noise(np.random.default_rng(1), 256, 256, (16, 16))
    assert abs(float(noise.mean())) < 0.05
    assert noise.max() > 0.6
    assert noise.min() < -0.6


@pytest.mark.parametrize(("size", "cells"), [((64, 96), (4, 8)), ((33, 20), (5, 3))])
def test_noise_is_interpolated_between_gradients(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    noise = perlin_noise(np.random.default_rng(3), *size, cells)
    shape = (cells[0] + 1, cells[1] + 1)
    directions = np.random.default_rng(3).uniform(0, 2 * np.pi, shape)
    for row, column in np.random.default_rng(4).integers(size, size=(50, 2)):
        y, x = row * cells[0] / size[0], column * cells[1] / size[1]
        # Each corner of the cell gives a slope, weighted by how near the corner is.
        wanted = 0.0
        for i in (int(y), int(y) + 1):
            for j in (int(x), int(x) + 1):
                slope = np.sin(directions[i, j]) * (y - i) + np.cos(directions[i, j]) * (x - j)
                near = (1 - abs(y - i), 1 - abs(x - j))
                wanted += slope * np.prod([6 * d**5 - 15 * d**4 + 10 * d**3 for d in near])
        assert noise[row, column] == pytest.approx(np.sqrt(2) * wanted, abs=1e-5)


def test_noise_is_turned_about_its_centre() -> None:
    noise = perlin_noise(np.random.default_rng(0), 64, 96, (4, 4))
    np.testing.assert_array_equal(turned(noise, 0), noise)
    square = noise[:, :64]
    np.testing.assert_allclose(turned(square, 90), np.rot90(square), atol=1e-6)
    for degrees in (-77.0, -30.0, 10.0, 45.0):
        wanted = ndimage.rotate(noise, degrees, reshape=False, order=1)
        inside = ndimage.rotate(np.ones_like(noise), degrees, reshape=False, order=1) > 0.999
        assert inside.mean() > 0.5
        np.testing.assert_allclose(turned(noise, degrees)[inside], wanted[inside], atol=1e-4)
    corners = turned(np.ones((64, 64), np.float32), 45)[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_array_equal(corners, 0)


def test_masks_are_drawn_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, angles = [], []

    def noise(rng: object, height: int, width: int, given: tuple[int, int]) -> Floats:
        cells.append(given)
        return np.ones((height, width), np.float32)

    def turn(noise: Floats, degrees: float) -> Floats:
        angles.append(degrees)
        return noise

    monkeypatch.setattr(synthetic, "perlin_noise", noise)
    monkeypatch.setattr(synthetic, "turned", turn)
    rng = np.random.default_rng(0)
    for _ in range(7200):
        anomaly_mask(rng, np.ones((1, 1), np.bool_))
    pairs = list(itertools.product((1, 2, 4, 8, 16, 32), repeat=2))
    counts = Counter(cells)
    assert set(counts) == set(pairs)
    # Each pair is expected 200 times, each tenth of the angles 720 times.
    assert all(abs(count - 200) < 5 * np.sqrt(200) for count in counts.values())
    tenths, _ = np.histogram(angles, 10, (-90, 90))
    assert tenths.sum() == 7200
    assert (abs(tenths - 720) < 5 * np.sqrt(720)).all()


def test_masks_stay_in_the_foreground_and_may_be_empty() -> None:
    foreground = np.zeros((64, 96), np.bool_)
    foreground[20:40, 30:60] = True
    shares = []
    for seed in range(60):
        mask = anomaly_mask(np.random.default_rng(seed), foreground)
        assert not (mask & ~foreground).any()
        shares.append(mask.sum() / foreground.sum())
    assert 0 < np.mean(np.equal(shares, 0)) < 0.5
    assert max(shares) > 0.1


@pytest.mark.parametrize("with_textures", [True, False])
def test_only_the_mask_is_changed(parts: Path, drawn: list[Path], with_textures: bool) -> None:
    good = list_images(parts / "train" / "good")
    maker = AnomalyMaker(SPEC, Frames(good), Frames(drawn[1:] if with_textures else []))
    changed = []
    for index, path in enumerate(good[:12]):
        image = to_input([read_image(path)], SPEC)[0]
        anomalous, mask = maker(np.random.default_rng(index), image, index)
        assert anomalous.dtype == np.float32
        assert anomalous.flags.c_contiguous
        np.testing.assert_array_equal(anomalous[:, ~mask], image[:, ~mask])
        assert -1e-6 <= anomalous.min() <= anomalous.max() <= 1 + 1e-6
        if mask.any():
            changed.append(np.abs(anomalous - image)[:, mask].mean())
        again, _ = maker(np.random.default_rng(index), image, index)
        np.testing.assert_array_equal(anomalous, again)
    assert len(changed) > 6
    assert np.median(changed) > 0.05  # to be seen


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A grey part, and a texture with another colour at every pixel."""
    folder = tmp_path_factory.mktemp("drawn")
    ramp = np.zeros((60, 90, 3), np.uint8)
    ramp[..., 0] = np.arange(60)[:, None] * 4
    ramp[..., 1] = np.arange(90)[None] * 2 + 20
    ramp[..., 2] = 230
    Image.fromarray(np.full((64, 96, 3), 100, np.uint8)).save(folder / "part.png")
    Image.fromarray(ramp).save(folder / "ramp.png")
    return [folder / "part.png", folder / "ramp.png"]


def made(maker: AnomalyMaker, image: Floats, count: int) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Anomalies of as many seeds, from 0 on, without the empty ones."""
    tried = (maker(np.random.default_rng(seed), image, 0) for seed in itertools.count())
    return list(itertools.islice((one for one in tried if one[1].any()), count))


def test_textures_are_shown_whole(drawn: list[Path]) -> None:
    part, ramp = (to_input([read_image(path)], NORMALISED)[0] for path in drawn)
    maker = AnomalyMaker(NORMALISED, Frames(drawn[:1]), Frames(drawn[1:]))
    opacities = []
    for anomalous, mask in made(maker, part, 80):
        opacity = ((anomalous - part) / (ramp - part))[:, mask]
        assert np.ptp(opacity) < 1e-4  # the same at every pixel, so the texture is the whole ramp
        opacities.append(opacity.mean())
    assert 0.2 <= min(opacities) < 0.25
    assert 0.95 < max(opacities) <= 1
    assert np.mean(opacities) == pytest.approx(0.6, abs=0.08)


def test_textures_are_drawn_uniformly(drawn: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "OPACITY", (1.0, 1.0))
    white = drawn[0].with_name("white.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(white)
    part = to_input([read_image(drawn[0])], SPEC)[0]
    maker = AnomalyMaker(SPEC, Frames(drawn[:1]), Frames([drawn[1], white, drawn[0]]))
    seen = Counter()
    for anomalous, mask in made(maker, part, 300):
        seen["white" if anomalous[0][mask].min() == 1 else str(anomalous[2][mask].max() > 0.5)] += 1
    assert sorted(seen) == ["False", "True", "white"]
    assert all(abs(count - 100) < 5 * np.sqrt(100) for count in seen.values())


def test_options_of_textures(drawn: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "OPACITY", (1.0, 1.0))
    part, ramp = (to_input([read_image(path)], SPEC)[0] for path in drawn)

    def textures(**options: bool) -> list[Floats]:
        maker = AnomalyMaker(SPEC, Frames(drawn[:1]), Frames(drawn[1:]), **options)
        return [image[:, mask] - ramp[:, mask] for image, mask in made(maker, part, 20)]

    for red, green, blue in textures(cuts=True):
        assert np.abs(red).max() + np.abs(green).max() > 0.05  # another place of the ramp
        assert np.abs(blue).max() < 1e-6  # the same at every place
    shifted = np.stack([change[2].mean() for change in textures(colors=True)])
    assert shifted.std() > 0.05
    assert all(np.ptp(change[2]) < 1e-6 for change in textures(colors=True))


def test_colors_are_shifted_before_they_are_normalised(drawn: list[Path]) -> None:
    made = []
    for spec in (SPEC, NORMALISED):
        image = to_input([read_image(drawn[0])], spec)[0]
        maker = AnomalyMaker(spec, Frames(drawn[:1]), Frames(drawn[1:]), colors=True)
        anomalous, _ = maker(np.random.default_rng(0), image, 0)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
        made.append(anomalous * std + mean)
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"texture_cuts": True}, {"texture_colors": True}, {"foreground": "otsu-bright"}]
)
def test_options_of_the_recipe_are_used(
    options: dict[str, Any], parts: Path, drawn: list[Path], tmp_path: Path
) -> None:
    good = list_images(parts / "train" / "good")
    made = []
    for name, changed in (("published", {}), ("changed", options)):
        recipe = Recipe("rd-expert", "efficientnet_lite0", image_size=(32, 32), batch=8, **changed)
        save_contact_sheet(tmp_path / f"{name}.png", recipe, good, drawn[1:])
        done = train(replace(recipe, iterations=3), good, tmp_path / name, textures=drawn[1:])
        made.append(((tmp_path / f"{name}.png").read_bytes(), done.losses))
    assert made[0][0] != made[1][0]
    assert made[0][1] != made[1][1]


def test_shuffled_tiles_keep_every_pixel() -> None:
    texture = np.arange(3 * 64 * 96, dtype=np.float32).reshape(3, 64, 96)
    shuffled = shuffled_tiles(np.random.default_rng(0), texture)
    assert shuffled.shape == texture.shape
    assert (shuffled != texture).mean() > 0.5
    np.testing.assert_array_equal(np.sort(shuffled, axis=None), texture.ravel())
    # All channels of a pixel move together.
    np.testing.assert_array_equal(shuffled[1] - shuffled[0], 64 * 96)


@pytest.mark.parametrize("foreground", [False, True])
def test_gallery(parts: Path, tmp_path: Path, foreground: bool) -> None:
    good = list_images(parts / "train" / "good")
    mask_file = tmp_path / "left.png"
    left = np.zeros((64, 96), np.uint8)
    left[:, :48] = 255
    Image.fromarray(left).save(mask_file)
    way, masks = ("files", mask_file) if foreground else ("none", None)
    recipe = Recipe(method="rd-expert", image_size=(64, 96), seed=0, foreground=way)
    save_contact_sheet(tmp_path / "g.png", recipe, good, foreground=masks, count=5)
    picture = read_image(tmp_path / "g.png")
    assert picture.shape == (3 * 64, 5 * 96, 3)
    normal, anomalous, mask = np.split(picture, 3)
    assert len({column.tobytes() for column in np.split(normal, 5, axis=1)}) == 5
    assert set(np.unique(mask)) == {0, 255}
    outline = (normal == (0, 255, 0)).all(axis=2)
    changed = (normal != anomalous).any(axis=2) & ~outline
    inside = mask[..., 0] == 255
    assert not (changed & ~inside).any()
    assert changed[inside & ~outline].mean() > 0.5
    edges = np.zeros((64, 96), np.bool_)
    edges[:, 47] = foreground
    np.testing.assert_array_equal(outline, np.tile(edges, 5))


def test_parts_of_16_bits(parts: Path, tmp_path: Path) -> None:
    """They give the anomalies, and the foreground, of the same parts in 8 bits."""
    paths = list_images(parts / "train" / "good")[:4]
    for path in paths:
        write_png(tmp_path / path.name, read_image(path).astype(np.uint16) * 16)
    crop = (3, 5, 70, 90)
    shallow = Frames(paths, FrameOptions(crop=crop))
    deep = Frames(list_images(tmp_path), FrameOptions(crop=crop, levels=(0, 4080)))
    for index in range(len(paths)):
        made = []
        for frames in (shallow, deep):
            maker = AnomalyMaker(SPEC, frames, Frames([]))
            made.append(maker(np.random.default_rng(index), frames.input(index, SPEC), index))
        np.testing.assert_array_equal(made[0][1], made[1][1])
        np.testing.assert_allclose(made[0][0], made[1][0], rtol=0, atol=1e-6)
    masks = [
        foreground_masks("otsu-bright", None, frames, SPEC.height, SPEC.width).masks
        for frames in (shallow, deep)
    ]
    np.testing.assert_array_equal(*masks)
    with pytest.raises(ImageError, match=r"000\.png: a uint16 frame's range is unknown"):
        Frames(deep.paths).input(0, SPEC)


def test_cuts_of_bayer_images_keep_their_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "OPACITY", (1.0, 1.0))
    raw = np.full((40, 50), 102, np.uint8)
    raw[::2, ::2], raw[1::2, 1::2] = 204, 51  # red, blue
    Image.fromarray(raw).save(tmp_path / "raw.png")
    good = Frames([tmp_path / "raw.png"], FrameOptions("bayer_rggb", (1, 1, 37, 45)))
    black = np.zeros((3, SPEC.height, SPEC.width), np.float32)
    for anomalous, mask in made(AnomalyMaker(SPEC, good, Frames([])), black, 8):
        for plane, level in zip(anomalous, (0.8, 0.4, 0.2), strict=True):
            np.testing.assert_allclose(plane[mask], level, atol=1e-5)
