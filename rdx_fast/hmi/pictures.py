"""Pictures of parts for browsers: frames in 8 bits, heat maps, and the defects in them."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import ImageError
from rdx_fast.hmi.frame_views import FrameView, FrameViews
from rdx_fast.images import image_size, read_image, to_8bit
from rdx_fast.kernels.resize_normalize import WHITEST, Crop, Levels, Pixels
from rdx_fast.kernels.threshold_regions import Region, threshold_regions
from rdx_fast.overlay import heat_layer
from rdx_fast.station.records.pictures import LEVEL_OF_LIMIT
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.status_client import LiveFrame

WIDTHS = range(16, 4097)  # of small pictures, in pixels
MOST_DEFECTS = 100  # of one part that are shown, those with the highest peaks
_REMEMBERED_BYTES = 64_000_000
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a browser takes it.

    Attributes:
        content: the encoded picture
        media_type: "image/png" or "image/jpeg"
        crop: top, left, height and width in frame pixels of what a heat map shows; None for all
    """

    content: bytes
    media_type: str
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Defects:
    """What exceeds the limits in a map.

    Attributes:
        frame_size: height and width of the frame in pixels
        regions: those with the highest peaks, at most ``MOST_DEFECTS``, the highest first. Peaks
            are multiples of the limit; a stored map has none above 4. What crosses the border of
            two regions of the recipe is one
    """

    frame_size: tuple[int, int]
    regions: list[Region]


class Pictures:
    """Reads the pictures that a station stores. Safe to call from several threads.

    Files are found by the record's own ``picture`` alone. Where none is stored, a live frame of the
    inspection is shown if there is one.

    Args:
        folder: the station's folder of pictures
        views: how frames are shown
    """

    def __init__(self, folder: Path, views: FrameViews) -> None:
        self._folder, self._views = folder, views
        self._lock = threading.Lock()
        self._encoded: OrderedDict[tuple[object, ...], Picture] = OrderedDict()
        self._bytes = 0

    def frame_file(self, record: InspectionRecord) -> Path | None:
        """The stored frame; None if there is none, or none any more."""
        return self._file(record, "frame")

    def map_file(self, record: InspectionRecord) -> Path | None:
        """The stored map, likewise."""
        return self._file(record, "map")

    def frame(
        self, record: InspectionRecord, width: int | None = None, live: LiveFrame | None = None
    ) -> Picture | None:
        """A part's frame in 8 bits.

        Args:
            record: the part's record
            width: for a JPEG of at most this width in pixels, one of ``WIDTHS``; None for a PNG of
                the frame's own size
            live: the station's live frame, used if it is of this inspection and none is stored

        Returns:
            The picture; None if there is none.

        Raises:
            ImageError: the stored frame cannot be read
        """
        file = self.frame_file(record)
        key = ("frame", record.inspection_id, record.triggered_at, file, width)
        if (known := self._known(key)) is not None:
            return known
        if file is not None and width is None and (content := _if_8bit(file)) is not None:
            return Picture(content, "image/png")
        held = _live_of(record, live)
        if file is None and held is None:
            return None
        pixels = read_image(file) if file is not None else held.frame  # type: ignore[union-attr]
        stated = self._view(record).levels if file is not None else held.levels  # type: ignore[union-attr]
        shown = _shown(pixels, stated)
        return self._remember(key, _png(shown) if width is None else _jpeg(shown, width))

    def heat_map(self, record: InspectionRecord, live: LiveFrame | None = None) -> Picture | None:
        """A part's heat map as an RGBA PNG of the map's size, see ``rdx_fast.overlay.heat_layer``.

        Args:
            record: the part's record
            live: as for ``frame``

        Returns:
            The picture with its ``crop``; None if there is none.

        Raises:
            ImageError: the stored map cannot be read
        """
        file = self.map_file(record)
        key = ("map", record.inspection_id, record.triggered_at, file)
        if (known := self._known(key)) is not None:
            return known
        levels, crop = self._map(record, live)
        if levels is None:
            return None
        return self._remember(key, _png(_heat_of_level()[levels], crop))

    def defects(self, record: InspectionRecord, live: LiveFrame | None = None) -> Defects | None:
        """The defects in a part's map.

        Args:
            record: the part's record
            live: as for ``frame``

        Returns:
            The defects; None if there is no frame, no defects if there is no map.

        Raises:
            ImageError: a stored picture cannot be read
        """
        file, held = self.frame_file(record), _live_of(record, live)
        if file is None and held is None:
            return None
        size = image_size(file) if file is not None else held.frame.shape[:2]  # type: ignore[union-attr]
        levels, crop = self._map(record, live)
        if levels is None:
            return Defects(size, [])
        relative = levels.astype(np.float32) / np.float32(LEVEL_OF_LIMIT)
        return Defects(size, threshold_regions(relative, 1.0, size, crop)[:MOST_DEFECTS])

    def _map(
        self, record: InspectionRecord, live: LiveFrame | None
    ) -> tuple[NDArray[np.uint16] | None, Crop | None]:
        """The map as it is stored, uint16 [h, w], and what of the frame it shows."""
        file = self.map_file(record)
        if file is not None:
            return read_image(file).astype(np.uint16, copy=False), self._view(record).crop
        held = _live_of(record, live)
        if held is None or held.relative is None:
            return None, None
        levels = (held.relative * LEVEL_OF_LIMIT).clip(0, WHITEST).round().astype(np.uint16)
        return levels, held.crop

    def _view(self, record: InspectionRecord) -> FrameView:
        return self._views.of(record.job, record.bundle_sha256)

    def _file(self, record: InspectionRecord, kind: str) -> Path | None:
        if record.picture is None:
            return None
        folder = self._folder.resolve()
        path = (folder / f"{record.picture}_{kind}.png").resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None

    def _known(self, key: tuple[object, ...]) -> Picture | None:
        with self._lock:
            if key in self._encoded:
                self._encoded.move_to_end(key)
            return self._encoded.get(key)

    def _remember(self, key: tuple[object, ...], picture: Picture) -> Picture:
        with self._lock:
            if key not in self._encoded:
                self._encoded[key] = picture
                self._bytes += len(picture.content)
            while self._bytes > _REMEMBERED_BYTES:
                _, oldest = self._encoded.popitem(last=False)
                self._bytes -= len(oldest.content)
        return picture


def _live_of(record: InspectionRecord, live: LiveFrame | None) -> LiveFrame | None:
    return live if live is not None and live.inspection_id == record.inspection_id else None


def _if_8bit(file: Path) -> bytes | None:
    """Contents of a PNG that a browser shows as it is, which the header's depth says.

    Raises ``ImageError`` if it is gone.
    """
    try:
        with file.open("rb") as stream:
            header = stream.read(25)
            return header + stream.read() if header[24:] == b"\x08" else None
    except OSError as error:
        raise ImageError(file, f"cannot be read: {error.strerror}") from error


def _shown(pixels: Pixels, levels: Levels | None) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return to_8bit(pixels)
    # Of a job that is configured no more: the brightest pixel is white.
    return to_8bit(pixels, levels or (0, max(1, int(pixels.max()))))


@cache
def _heat_of_level() -> NDArray[np.uint8]:
    """RGBA of each 16-bit level of a stored map, [65536, 4]."""
    levels = np.arange(WHITEST + 1, dtype=np.float32) / np.float32(LEVEL_OF_LIMIT)
    return heat_layer(levels[None])[0]


def _png(pixels: NDArray[np.uint8], crop: Crop | None = None) -> Picture:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    return Picture(encoded.getvalue(), "image/png", crop)


def _jpeg(pixels: NDArray[np.uint8], width: int) -> Picture:
    image = Image.fromarray(pixels)
    if width < image.width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return Picture(encoded.getvalue(), "image/jpeg")
