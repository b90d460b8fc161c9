"""Decoding of image files with 16 bits per channel, and what is shown of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.deep_images import write_png
from rdx_fast.errors import ImageError
from rdx_fast.images import read_grey, read_image, to_8bit

# Every pair of a high and a low byte that can be told apart, in no order.
DEEP = np.random.default_rng(0).permutation(65536)[: 60 * 90].astype(np.uint16).reshape(60, 30, 3)
GREY = DEEP[..., 0]


def write(path: Path, pixels: NDArray[np.uint16], *options: int) -> Path:
    """By OpenCV, which keeps blue first."""
    order = {2: ..., 3: np.s_[..., ::-1], 4: np.s_[..., [2, 1, 0, 3]]}[
        pixels.ndim if pixels.ndim == 2 else pixels.shape[2]
    ]
    assert cv2.imwrite(str(path), pixels[order], options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_grey(tmp_path: Path, name: str, byte_order: str) -> None:
    Image.fromarray(GREY.astype(f"{byte_order}u2")).save(tmp_path / name)
    found = read_image(tmp_path / name)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, GREY)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", ()),
        *(("a.tif", (cv2.IMWRITE_TIFF_COMPRESSION, kind)) for kind in (1, 5, 8)),  # none, LZW, ZIP
    ],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_colour(tmp_path: Path, name: str, options: tuple[int, ...], alpha: bool) -> None:
    given = np.dstack([DEEP, GREY]) if alpha else DEEP
    found = read_image(write(tmp_path / name, given, *options))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, DEEP)


@pytest.mark.parametrize("pixels", [GREY, DEEP, to_8bit(DEEP, (0, 65535))])
def test_what_is_written_is_read(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    by_another = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert by_another is not None
    np.testing.assert_array_equal(by_another, pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def test_levels_of_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(GREY.astype(np.int32)).save(path)
    np.testing.assert_array_equal(read_image(path), GREY)
    for level in (-1, 65536):
        Image.fromarray(np.array([[7, level]], np.int32)).save(path)
        with pytest.raises(ImageError, match=rf"levels from .*{level}.*: save it with 16 bits"):
            read_image(path)


def test_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(ImageError, match=r"pixel format F;32F is not supported: save it with 8 or"):
        read_image(tmp_path / "real.tif")
    # Grey with alpha, of which Pillow would keep the high bytes alone.
    content = bytearray(write(tmp_path / "grey.png", GREY).read_bytes())
    content[16:20], content[25] = struct.pack(">I", GREY.shape[1] // 2), 4
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "alpha.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"alpha\.png: pixel format LA;16B is not supported"):
        read_image(tmp_path / "alpha.png")
    for pixels in (DEEP, GREY):
        whole = write(tmp_path / "cut.png", pixels).read_bytes()
        (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImageError, match=r"cut\.png: cannot be decoded"):
            read_image(tmp_path / "cut.png")
    with pytest.raises(ImageError, match=r"has 16 bits per channel: save a mask with 8"):
        read_grey(write(tmp_path / "mask.png", GREY))


def test_to_8bit() -> None:
    frame = np.array([[0, 99, 100], [101, 355, 356]], np.uint16)
    np.testing.assert_array_equal(to_8bit(frame, (100, 355)), [[0, 0, 0], [1, 255, 255]])
    bytes_ = np.arange(256, dtype=np.uint8)
    assert to_8bit(bytes_) is bytes_
    np.testing.assert_array_equal(to_8bit(7 + 16 * bytes_.astype(np.uint16), (7, 4087)), bytes_)
    with pytest.raises(ValueError, match="range is unknown"):
        to_8bit(frame)
    with pytest.raises(ValueError, match="this one is uint8"):
        to_8bit(bytes_, (0, 4095))
