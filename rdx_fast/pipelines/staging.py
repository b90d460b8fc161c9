"""Preprocessing on a GPU: frames are staged and ``resize_normalize`` is queued, before the graph.

Nothing of this is recorded: another frame size, pixel format, crop or range of grey levels changes
tables and arguments of a launch, and costs no new graph.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.devices.device import EXCLUSIVE, Device
from rdx_fast.kernels.gpu import resize_normalize
from rdx_fast.kernels.gpu.launch import Array, aligned, dtype_name
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    Crop,
    Levels,
    affine,
    check_crop,
    check_levels,
    check_pixel_format,
)
from rdx_fast.kernels.resize_taps import Taps, resize_taps
from rdx_fast.pipelines.pipeline import ScoreOptions
from rdx_fast.preprocess import Frame

# Bytes of frames that the kernel reads out of pinned memory itself. That saves a copy's fixed cost;
# of larger frames the kernel reads most pixels more than once. Chosen by reasoning: one frame of
# 256 x 256 x 3 is below it.
READ_IN_PLACE = 2**18


class Group(NamedTuple):
    """Consecutive frames of one kind, which one launch preprocesses.

    Attributes:
        images: number of frames
        shape: of each, ``[H, W, 3]`` or ``[H, W]``
        dtype: of each, uint8 or uint16
        pixel_format: see ``Detector.score``
        crop: see ``Detector.score``
        levels: black and white
    """

    images: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_format: str
    crop: Crop
    levels: Levels

    @classmethod
    def of(
        cls, images: int, shape: tuple[int, ...], dtype: np.dtype[Any], options: ScoreOptions
    ) -> Group:
        """Raises ``ValueError`` if the options do not fit frames of this shape and dtype."""
        pixel_format = check_pixel_format(shape, options.pixel_format)
        crop = check_crop(shape[:2], options.crop)
        return cls(images, shape, dtype, pixel_format, crop, check_levels(dtype, options.levels))

    @property
    def nbytes(self) -> int:
        return self.images * prod(self.shape) * self.dtype.itemsize

    def tables(self, spec: InputSpec) -> list[NDArray[Any]]:
        """First inputs and weights of the rows, those of the columns, gain and offset."""
        rows, columns = self.taps(spec)
        return [*rows, *columns, *affine(spec.mean, spec.std, self.levels[1] - self.levels[0])]

    def taps(self, spec: InputSpec) -> tuple[Taps, Taps]:
        """Filters of rows and columns."""
        top, left, height, width = self.crop
        bayer = self.pixel_format in BAYER
        return (
            resize_taps(self.shape[0], top, height, spec.height, bayer),
            resize_taps(self.shape[1], left, width, spec.width, bayer),
        )


class FrameStaging:
    """Queues the preprocessing of one batch after the other on one device's queue.

    The previous batch must be done before the next is queued.

    Args:
        device: the queue
        spec: the network's input
    """

    def __init__(self, device: Device, spec: InputSpec) -> None:
        self._device = device
        self._spec = spec
        self._frames = GrowingBlock(device)
        self._tables = GrowingBlock(device)
        self._groups: tuple[Group, ...] = ()  # whose filters and gains are in the tables
        self._views: list[list[Array]] = []
        # Of the last batch: the next one of a line differs from it in its pixels alone.
        self._kind: Any = None
        self._targets: list[Frame] = []
        self._copied = 0
        self._launches: list[Callable[[], None]] = []

    def queue(self, frames: list[Frame] | Array, options: ScoreOptions, image: Array) -> None:
        """Queue the preprocessing of a batch.

        Args:
            frames: ``[H, W, 3]`` or ``[H, W]`` of any sizes in host memory, which are copied
                before it returns; or ``[B, H, W, 3]`` or ``[B, H, W]`` on the device
            options: of scoring
            image: ``[B, 3, height, width]`` on the device, which is written

        Raises:
            ValueError: the options do not fit a frame
        """
        if not isinstance(frames, list):
            dtype = np.dtype(dtype_name(frames))
            group = Group.of(frames.shape[0], tuple(frames.shape[1:]), dtype, options)
            for launch in self._prepare((group,), [frames], image):
                launch()
            return
        arrays = [(frame.shape, frame.dtype) for frame in frames]
        kind = (arrays, options.pixel_format, options.crop, options.levels, image.data_ptr())
        if kind != self._kind:
            self._kind = None  # until all is ready
            self._arrange(arrays, options, image)
            self._kind = kind
        for frame, target in zip(frames, self._targets, strict=True):
            target[...] = frame
        if self._copied:
            self._frames.queue_copy(self._copied)
        for launch in self._launches:
            launch()

    def close(self) -> None:
        self._frames.close()
        self._tables.close()

    def _arrange(
        self,
        frames: list[tuple[tuple[int, ...], np.dtype[Any]]],
        options: ScoreOptions,
        image: Array,
    ) -> None:
        """Choose each frame's place in pinned memory, and prepare the launches that read them.
        ``frames``: shape and dtype of each."""
        groups = tuple(Group.of(len(list(same)), *kind, options) for kind, same in groupby(frames))
        offsets = np.cumsum([0, *(aligned(group.nbytes) for group in groups)]).tolist()
        memory = self._frames
        memory.reserve(offsets[-1])
        in_place = offsets[-1] <= READ_IN_PLACE
        source = memory.pinned if in_place else memory.copy
        targets: list[Frame] = []
        arrays = []
        for group, offset in zip(groups, offsets, strict=False):
            shape = (group.images, *group.shape)
            place = memory.host[offset : offset + group.nbytes].view(group.dtype)
            targets.extend(place.reshape(shape))
            arrays.append(self._device.view(source, offset, shape, group.dtype))
        self._launches = self._prepare(groups, arrays, image)
        self._targets, self._copied = targets, 0 if in_place else offsets[-1]

    def _prepare(
        self, groups: tuple[Group, ...], arrays: list[Array], image: Array
    ) -> list[Callable[[], None]]:
        """Prepare a launch for each group of frames; their tables are queued if they are new."""
        if groups != self._groups:
            self._kind, self._groups = None, ()  # until the tables are complete
            self._views = self._write_tables(groups)
            self._groups = groups
        launches, start = [], 0
        for group, frames, tables in zip(groups, arrays, self._views, strict=True):
            launch = resize_normalize.launch(
                frames,
                group.pixel_format,
                BAYER.get(group.pixel_format, (0, 0)),
                group.levels,
                (tables[0], tables[1]),
                (tables[2], tables[3]),
                tables[4],
                tables[5],
                image.narrow(0, start, group.images),
                self._device.architecture,
            )
            launches.append(self._device.prepare(launch))
            start += group.images
        return launches

    def _write_tables(self, groups: tuple[Group, ...]) -> list[list[Array]]:
        """Put the tables of all groups into one block, which one copy brings to the device.

        Returns:
            by group, its ``tables`` on the device
        """
        tables = [table for group in groups for table in group.tables(self._spec)]
        offsets = np.cumsum([0, *(aligned(table.nbytes) for table in tables)]).tolist()
        memory = self._tables
        memory.reserve(offsets[-1])
        views = []
        for table, offset in zip(tables, offsets, strict=False):
            memory.host[offset : offset + table.nbytes] = np.frombuffer(table.tobytes(), np.uint8)
            views.append(self._device.view(memory.copy, offset, table.shape, table.dtype))
        memory.queue_copy(offsets[-1])
        return [views[i : i + 6] for i in range(0, len(views), 6)]


class GrowingBlock:
    """Pinned memory and a copy of it on the device, which grow with what is staged.

    Attributes:
        host: the pinned memory as the host sees it, uint8
        pinned: the same as kernels take it
        copy: the memory on the device
    """

    host: NDArray[np.uint8]
    pinned: Array
    copy: Array

    def __init__(self, device: Device) -> None:
        self._device = device
        self._owner: Device | None = None
        self._size = 0

    def reserve(self, size: int) -> None:
        """Make room for ``size`` bytes; what was staged is lost if that takes new memory."""
        if size <= self._size:
            return
        with EXCLUSIVE:
            self.close()
            self._owner = self._device.child()
            size = 1 << (size - 1).bit_length()  # so that growing frames move it rarely
            self.host, self.pinned = self._owner.pinned((size,), np.uint8)
            self.copy = self._owner.empty((size,), np.uint8)
            self._size = size

    def queue_copy(self, size: int) -> None:
        """Queue a copy of the first bytes to the device."""
        view = self._device.view
        target, source = (view(x, 0, (size,), np.uint8) for x in (self.copy, self.pinned))
        self._device.copy(target, source)

    def close(self) -> None:
        if self._owner is not None:
            self._owner.close()
        self._owner, self._size = None, 0
