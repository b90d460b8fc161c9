"""Preprocessing of windows on a GPU: what they show of a frame is staged once, and
``resize_normalize`` is queued for each window.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.devices.device import EXCLUSIVE, Device
from rdx_fast.kernels.gpu import resize_normalize
from rdx_fast.kernels.gpu.launch import Array, aligned, dtype_name
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    Levels,
    affine,
    check_crop,
    check_levels,
    check_pixel_format,
)
from rdx_fast.kernels.resize_taps import Taps, Window, window_taps
from rdx_fast.pipelines.pipeline import ScoreOptions
from rdx_fast.pipelines.staging import READ_IN_PLACE, GrowingBlock
from rdx_fast.preprocess import Frame

_Kind = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype of a frame

MAX_PARTS = 32  # kept by each queue; the frames of a line have the same parts


class WindowStaging:
    """Queues the preprocessing of one part after the other on one device's queue.

    A part are the windows that are scored at once. The previous one must be done before the next is
    queued.

    Args:
        device: the queue
        spec: the network's input
    """

    def __init__(self, device: Device, spec: InputSpec) -> None:
        self._device = device
        self._spec = spec
        self._frames = GrowingBlock(device)
        self._parts: OrderedDict[Any, _Part] = OrderedDict()

    def queue(self, frames: list[Frame] | Array, options: ScoreOptions, image: Array) -> None:
        """Queue the preprocessing of a part.

        Args:
            frames: of the batch, ``[H, W, 3]`` or ``[H, W]`` of any sizes in host memory, from
                which what is needed is copied before it returns; or ``[B, H, W, 3]`` or ``[B, H,
                W]`` on the device
            options: of scoring, with windows
            image: ``[B, 3, height, width]`` on the device, which is written

        Raises:
            ValueError: the options do not fit a frame
        """
        part = self._part(frames, options)
        if not isinstance(frames, list):
            arrays = [
                _cut(frames.narrow(0, region.frame, 1), region.rows, region.columns)
                for region in part.regions
            ]
            for launch in self._prepare(part, arrays, image):
                launch()
            return
        offsets = np.cumsum([0, *(aligned(region.nbytes) for region in part.regions)]).tolist()
        memory = self._frames
        memory.reserve(offsets[-1])
        in_place = offsets[-1] <= READ_IN_PLACE
        source = memory.pinned if in_place else memory.copy
        for region, offset in zip(part.regions, offsets, strict=False):
            target = memory.host[offset : offset + region.nbytes].view(region.dtype)
            target.reshape(region.shape)[...] = frames[region.frame][region.rows, region.columns]
        if not in_place:
            memory.queue_copy(offsets[-1])
        place = (source.data_ptr(), image.data_ptr())
        if place != part.place:
            arrays = [
                self._device.view(source, offset, (1, *region.shape), region.dtype)
                for region, offset in zip(part.regions, offsets, strict=False)
            ]
            part.launches, part.place = self._prepare(part, arrays, image), place
        for launch in part.launches:
            launch()

    def close(self) -> None:
        self._frames.close()
        for part in self._parts.values():
            part.tables.close()

    def _part(self, frames: list[Frame] | Array, options: ScoreOptions) -> _Part:
        """The part, whose filters are on the device."""
        windows = options.windows or ()
        kinds: dict[int, _Kind] = {}
        for i, _ in windows:
            if isinstance(frames, list):
                kinds[i] = frames[i].shape, frames[i].dtype
            else:
                kinds[i] = tuple(frames.shape[1:]), np.dtype(dtype_name(frames))
        kind = (tuple(kinds.items()), options._replace(windows=tuple(windows), out=None))
        if kind not in self._parts:
            with EXCLUSIVE:
                if len(self._parts) == MAX_PARTS:
                    self._parts.popitem(last=False)[1].tables.close()
                tables = self._device.child()
                try:
                    regions = [
                        _Region.of(i, kinds[i], options, [w for _, w in own], self._spec, tables)
                        for i, own in groupby(windows, key=itemgetter(0))
                    ]
                except BaseException:
                    tables.close()
                    raise
                self._parts[kind] = _Part(tables, regions)
        self._parts.move_to_end(kind)
        return self._parts[kind]

    def _prepare(self, part: _Part, arrays: list[Array], image: Array) -> list[Callable[[], None]]:
        """Prepare a launch for each window; ``arrays`` are ``[1, H, W, 3]`` or ``[1, H, W]``, what
        the part's regions show."""
        launches: list[Callable[[], None]] = []
        for region, array in zip(part.regions, arrays, strict=True):
            for rows, columns in region.windows:
                launch = resize_normalize.launch(
                    _cut(array, rows.within(region.rows), columns.within(region.columns)),
                    region.pixel_format,
                    BAYER.get(region.pixel_format, (0, 0)),
                    region.levels,
                    rows.tables,
                    columns.tables,
                    *region.affine,
                    image.narrow(0, len(launches), 1),
                    self._device.architecture,
                )
                launches.append(self._device.prepare(launch))
        return launches


class _Filter(NamedTuple):
    """The filter of a window along one axis.

    Attributes:
        pixels: of the frame that it draws on; the first is even, so that Bayer patterns stay
        tables: ``Taps`` on the device, counted from the first of these
    """

    pixels: slice
    tables: tuple[Array, Array]

    @classmethod
    def of(cls, taps: Taps, device: Device) -> _Filter:
        start = int(taps.first[0]) // 2 * 2
        stop = int(taps.first[-1]) + taps.weights.shape[2]
        tables = (device.upload(taps.first - np.int32(start)), device.upload(taps.weights))
        return cls(slice(start, stop), tables)

    def within(self, shown: slice) -> slice:
        """Its pixels, counted from the first that is shown."""
        return slice(self.pixels.start - shown.start, self.pixels.stop - shown.start)


class _Region(NamedTuple):
    """What windows show of one frame.

    Attributes:
        frame: its index in the batch
        shape: of the region, ``[H, W, 3]`` or ``[H, W]``
        dtype: uint8 or uint16
        pixel_format: see ``Detector.score``
        levels: black and white
        affine: gain and offset on the device
        rows: of the frame
        columns: of the frame
        windows: filters of rows and columns of each window
    """

    frame: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_format: str
    levels: Levels
    affine: tuple[Array, Array]
    rows: slice
    columns: slice
    windows: list[tuple[_Filter, _Filter]]

    @classmethod
    def of(
        cls,
        frame: int,
        kind: _Kind,
        options: ScoreOptions,
        windows: list[Window],
        spec: InputSpec,
        device: Device,
    ) -> _Region:
        shape, dtype = kind
        pixel_format = check_pixel_format(shape, options.pixel_format)
        levels = check_levels(dtype, options.levels)
        gain, offset = affine(spec.mean, spec.std, levels[1] - levels[0])
        crop = check_crop(shape[:2], options.crop)
        down: dict[int, _Filter] = {}  # windows in a line share a filter
        across: dict[int, _Filter] = {}
        for window in windows:
            size = (spec.height, spec.width)
            rows, columns = window_taps(shape, crop, window, size, pixel_format in BAYER)
            if window.top not in down:
                down[window.top] = _Filter.of(rows, device)
            if window.left not in across:
                across[window.left] = _Filter.of(columns, device)
        shown_rows, shown_columns = (_around(found.values()) for found in (down, across))
        height, width = (part.stop - part.start for part in (shown_rows, shown_columns))
        return cls(
            frame,
            (height, width, *shape[2:]),
            dtype,
            pixel_format,
            levels,
            (device.upload(gain), device.upload(offset)),
            shown_rows,
            shown_columns,
            [(down[window.top], across[window.left]) for window in windows],
        )

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(slots=True)
class _Part:
    """Windows that are scored at once.

    Attributes:
        tables: memory of the filters
        regions: what is shown of each frame
        launches: those of frames in host memory, when they were staged
        place: addresses that these read from and write to
    """

    tables: Device
    regions: list[_Region]
    launches: list[Callable[[], None]] = field(default_factory=list)
    place: tuple[int, int] | None = None


def _around(filters: Iterable[_Filter]) -> slice:
    pixels = [found.pixels for found in filters]
    return slice(min(p.start for p in pixels), max(p.stop for p in pixels))


def _cut(frames: Array, rows: slice, columns: slice) -> Array:
    """Part of ``[B, H, W, 3]`` or ``[B, H, W]``."""
    cut = frames.narrow(1, rows.start, rows.stop - rows.start)
    return cut.narrow(2, columns.start, columns.stop - columns.start)
