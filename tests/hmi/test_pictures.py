"""Pictures of parts as browsers get them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import ImageError
from rdx_fast.hmi.frame_views import FrameView, FrameViews
from rdx_fast.hmi.pictures import Picture, Pictures
from rdx_fast.images import read_image
from rdx_fast.kernels.resize_normalize import Pixels
from rdx_fast.overlay import heat_layer
from rdx_fast.station.config import CameraConfig, JobConfig, StationFile
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.status_client import LiveFrame
from support.small_bundle import write_bundle
from support.station_records import START, a_record

SIZE, MAP = (60, 80), (12, 16)


def live_frame(inspection_id: int, frame: Pixels, relative: NDArray[np.float32]) -> LiveFrame:
    return LiveFrame(inspection_id, frame, None, None, relative)


def a_file(bundle: Path, tmp_path: Path, **camera: object) -> StationFile:
    source = CameraConfig("folder", path=tmp_path, **camera)  # type: ignore[arg-type]
    return StationFile({"1": JobConfig(bundle=bundle)}, source)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    file = a_file(tmp_path / "none.rdx", tmp_path, levels=(100, 4095))
    return Pictures(tmp_path / "pictures", FrameViews(file))


def kept(
    tmp_path: Path, frame: Pixels, relative: NDArray[np.float32] | None = None
) -> InspectionRecord:
    store = PictureStore(tmp_path / "pictures", budget_mb=10)
    return a_record(7, "NG", picture=store.keep(7, START, frame, relative))


def decoded(picture: Picture | None) -> NDArray[np.uint8]:
    assert picture is not None
    with Image.open(io.BytesIO(picture.content)) as image:
        assert f"image/{str(image.format).lower()}" == picture.media_type
        return np.array(image)


def test_a_stored_frame_is_served_as_it_is(pictures: Pictures, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    record = kept(tmp_path, frame)
    picture = pictures.frame(record)
    assert picture is not None
    assert picture.content == pictures.frame_file(record).read_bytes()  # type: ignore[union-attr]
    assert (decoded(picture) == frame).all()


def test_a_frame_of_12_bits_is_shown_in_8_by_the_levels(pictures: Pictures, tmp_path: Path) -> None:
    frame = np.full(SIZE, 100, np.uint16)
    frame[:, 40:] = 4095
    record = kept(tmp_path, frame)
    shown = decoded(pictures.frame(record))
    assert shown.dtype == np.uint8
    assert (np.unique(shown) == [0, 255]).all()
    assert pictures.frame(record) is pictures.frame(record), "it is encoded once"


def test_a_small_picture_keeps_the_shape_and_none_grows(pictures: Pictures, tmp_path: Path) -> None:
    record = kept(tmp_path, np.full((*SIZE, 3), 90, np.uint8))
    for width, shape in ((20, (15, 20, 3)), (400, (60, 80, 3))):
        shown = decoded(pictures.frame(record, width))
        assert shown.shape == shape
        assert (abs(shown.astype(int) - 90) <= 2).all()


def test_a_live_frame_stands_in_for_a_stored_one_of_the_same_inspection(
    pictures: Pictures, tmp_path: Path
) -> None:
    stored = kept(tmp_path, np.zeros(SIZE, np.uint8))
    live = live_frame(7, np.full(SIZE, 255, np.uint8), np.full(MAP, 2, np.float32))
    unstored = replace(stored, picture=None)
    assert decoded(pictures.frame(stored, live=live)).max() == 0, "what is stored goes first"
    assert pictures.frame(a_record(8), live=live) is None
    assert pictures.heat_map(a_record(8), live=live) is None
    assert pictures.defects(a_record(8), live=live) is None
    assert decoded(pictures.frame(unstored, live=live)).min() == 255
    assert decoded(pictures.frame(unstored)).min() == 255, "remembered, when the line is further"
    assert decoded(pictures.heat_map(unstored, live=live)).shape == (*MAP, 4)
    found = pictures.defects(unstored, live=live)
    assert found is not None
    assert [d.box_px for d in found.regions] == [(0, 0, *SIZE)]


def test_heat_is_transparent_up_to_half_the_limit(pictures: Pictures, tmp_path: Path) -> None:
    relative = np.zeros(MAP, np.float32)
    relative[:, 8:] = 0.5
    relative[2, 3], relative[2, 4] = 0.6, 3.0
    record = kept(tmp_path, np.zeros(SIZE, np.uint8), relative)
    shown = decoded(pictures.heat_map(record))
    assert shown.shape == (*MAP, 4)
    opaque = np.argwhere(shown[..., 3])
    assert opaque.tolist() == [[2, 3], [2, 4]]
    assert (shown[2, 4] == heat_layer(relative)[2, 4]).all()
    assert 0 < shown[2, 3, 3] < shown[2, 4, 3]


def test_defects_are_in_frame_pixels_of_the_crop(tmp_path: Path) -> None:
    crop = (20, 40, 24, 32)
    views = FrameViews(a_file(tmp_path / "none.rdx", tmp_path, crop=crop))
    pictures = Pictures(tmp_path / "pictures", views)
    relative = np.zeros(MAP, np.float32)
    relative[3:5, 6:9], relative[3, 7] = 1.5, 2.5  # two by two frame pixels each
    relative[10, 0] = 1.25
    relative[8, 8] = 1.0  # at the limit is OK
    record = kept(tmp_path, np.zeros(SIZE, np.uint8), relative)
    found = pictures.defects(record)
    assert found is not None
    assert found.frame_size == SIZE
    first, second = found.regions
    assert (first.box_px, first.area_px, first.peak) == ((26, 52, 4, 6), 24.0, 2.5)
    assert (second.box_px, second.area_px, second.peak) == ((40, 40, 2, 2), 4.0, 1.25)
    heat = pictures.heat_map(record)
    assert heat is not None
    assert heat.crop == crop


@pytest.mark.parametrize("name", ["../secret", "/etc/secret", "2026-01-01/../../secret", "link/x"])
def test_no_file_outside_the_folder_is_read(pictures: Pictures, tmp_path: Path, name: str) -> None:
    (tmp_path / "pictures").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "pictures" / "link").symlink_to(outside)
    for file in (tmp_path / "secret_frame.png", outside / "x_frame.png"):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(file)
    assert pictures.frame(a_record(1, picture=name)) is None
    assert pictures.defects(a_record(1, picture=name)) is None


def test_pictures_that_were_deleted_or_damaged(pictures: Pictures, tmp_path: Path) -> None:
    record = kept(tmp_path, np.zeros(SIZE, np.uint16), np.ones(MAP, np.float32))
    file, map_file = pictures.frame_file(record), pictures.map_file(record)
    assert file is not None
    assert map_file is not None
    content = map_file.read_bytes()
    map_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError):
        pictures.heat_map(record)
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(ImageError):
        pictures.frame(record)
    file.unlink()
    assert pictures.frame(record) is None


def test_frames_are_shown_as_the_bundle_that_scored_them_says(tmp_path: Path) -> None:
    """Also when another bundle has taken its place since, which is kept beside it."""
    manifest = write_bundle(tmp_path / "small.rdx").manifest
    shas = []
    released = tmp_path / "part.rdx"
    for folder, crop in (
        (tmp_path / "part.rdx.versions" / "previous-1", (0, 0, 10, 10)),
        (tmp_path / "part.rdx.versions" / "previous-2", (0, 0, 20, 20)),
        (released, (0, 0, 30, 30)),
    ):
        folder.mkdir(parents=True)
        frame = replace(manifest.recipe.frame, height=64, width=64, crop=crop)
        changed = replace(manifest, recipe=replace(manifest.recipe, frame=frame))
        (folder / "manifest.json").write_text(changed.to_json())
        shas.append(hashlib.sha256(changed.to_json().encode()).hexdigest())
    views = FrameViews(a_file(released, tmp_path))
    for sha256, side in zip(shas, (10, 20, 30), strict=True):
        assert views.of(1, sha256) == FrameView((0, 0, side, side), None)
    for sha256 in ("f" * 64, None):
        assert views.of(1, sha256) == FrameView((0, 0, 30, 30), None)
    assert views.of(9, shas[0]) == FrameView()


def test_a_bundle_that_is_gone_is_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = write_bundle(tmp_path / "gone.rdx").manifest
    released = write_bundle(tmp_path / "part.rdx").path
    crop = (0, 0, 10, 10)
    frame = replace(gone.recipe.frame, height=64, width=64, crop=crop)
    gone = replace(gone, recipe=replace(gone.recipe, frame=frame))
    sha256 = hashlib.sha256(gone.to_json().encode()).hexdigest()
    views, looked = FrameViews(a_file(released, tmp_path)), []
    read = FrameViews._read
    monkeypatch.setattr(FrameViews, "_read", lambda *of: looked.append(of) or read(*of))
    for _ in range(3):
        assert views.of(1, sha256) == FrameView()
    assert len(looked) == 1
    folder = tmp_path / "part.rdx.versions" / "previous-1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(gone.to_json())
    assert views.of(1, sha256) == FrameView(crop), "the folder has changed"


def test_the_encoded_pictures_that_are_remembered_have_a_limit(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, SIZE, np.uint16)
    record = kept(tmp_path, noise)
    size = len(pictures.frame(record).content)  # type: ignore[union-attr]
    monkeypatch.setattr("rdx_fast.hmi.pictures._REMEMBERED_BYTES", 3 * size)
    for width in range(40, 80):
        pictures.frame(record, width)
    assert 0 < pictures._bytes <= 3 * size
    assert pictures._bytes == sum(len(p.content) for p in pictures._encoded.values())
    assert (read_image(pictures.frame_file(record)) == noise).all()  # type: ignore[arg-type]
