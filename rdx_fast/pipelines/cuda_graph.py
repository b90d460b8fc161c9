"""Preprocessing, network and postprocessing on a GPU as one CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.devices.device import BoundNetwork, Device
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.gpu import cosine_map, fuse_mul, resize_normalize, smooth_map
from rdx_fast.kernels.gpu.launch import ALIGNMENT, Array, Launch
from rdx_fast.kernels.operators import packed
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    Crop,
    affine,
    check_crop,
    check_pixel_format,
    resize_taps,
)
from rdx_fast.manifest import InputSpec
from rdx_fast.pipelines.pipeline import ScoreOptions
from rdx_fast.postprocess import AnomalyMapper

MAX_KINDS = 8  # of borrowed frames, whose resize tables a graph keeps


class Kind(NamedTuple):
    """The kind of batches that one graph processes.

    Attributes:
        batch: number of frames
        maps: whether anomaly maps are copied to the host
        frame: shape of a frame in host memory; None for frames on the device, which are
            preprocessed outside the graph
        pixel_format: see ``Detector.score``; None if ``frame`` is None
        crop: see ``Detector.score``; None if ``frame`` is None
    """

    batch: int
    maps: bool
    frame: tuple[int, ...] | None
    pixel_format: str | None
    crop: Crop | None


class CudaGraph:
    """Everything that is queued for a batch of one kind, with its buffers.

    The steps in order: results are filled with NaN; frames are copied to the device;
    ``resize_normalize``; the network; ``cosine_map``; ``fuse_mul`` if scales are multiplied;
    ``smooth_map``; results, and maps if requested, are copied to the host.

    Args:
        device: owns the memory of this graph
        bound: the network for this batch size
        mapper: operators of the postprocessing
        spec: the network's input
        kind: the batches that this graph processes

    Attributes:
        staging: pinned uint8 array ``[B, *frame]`` to write frames to before ``run``; None for
            frames on the device
    """

    def __init__(
        self,
        device: Device,
        bound: BoundNetwork,
        mapper: AnomalyMapper,
        spec: InputSpec,
        kind: Kind,
    ) -> None:
        self.device = device
        self._kind = kind
        self._bound = bound
        self._mapper = mapper
        self._spec = spec
        batch, size = kind.batch, mapper.size
        # Areas, maxima and top means in one block, so that one copy transfers them all.
        self._offsets = np.cumsum([0, *(_rounded(item * batch) for item in (8, 4, 4))]).tolist()
        self._block = device.empty((self._offsets[-1],), np.uint8)
        self._results = device.pinned((self._offsets[-1],), np.uint8)
        self._maps = self._maps_host = None
        if kind.maps or mapper.epilogue.top_k:
            self._maps = device.empty((batch, *size), np.float32)
        if kind.maps:
            self._maps_host = device.pinned((batch, *size), np.float32)
        self._distances = [device.empty((batch, h, w), np.float32) for _, h, w in mapper.scales]
        rows, columns = mapper.rows, mapper.columns
        self._product = None
        if mapper.multiplies:
            self._product = device.empty((batch, *size), np.float32)
            rows, columns = ([axis] for axis in mapper.blur)
        matrices, bands = packed(rows, columns)
        self._operators = (device.upload(matrices), device.upload(bands))
        self._epilogue = self._make_epilogue()
        self._borrowing: OrderedDict[Any, tuple[Device, Launch]] = OrderedDict()
        self.staging: NDArray[np.uint8] | None = None
        if kind.frame is not None:
            self.staging = device.pinned((batch, *kind.frame), np.uint8)
            self._frames = device.empty((batch, *kind.frame), np.uint8)
            options = ScoreOptions(kind.maps, kind.pixel_format, kind.crop)
            self._preprocess = resize(device, self._frames, bound.image, spec, options)
        self._replay = device.record(self.steps)

    def steps(self) -> None:
        """Queue all steps."""
        device = self.device
        device.fill(self._block, 0xFF)
        if self.staging is not None:
            device.copy_in(self._frames, self.staging)
            device.launch(self._preprocess)
        teacher, student = self._bound.run()
        for launch in self.postprocess(teacher, student):
            device.launch(launch)
        device.copy_out(self._results, self._block)
        if self._maps_host is not None and self._maps is not None:
            device.copy_out(self._maps_host, self._maps)

    def postprocess(self, teacher: Sequence[Array], student: Sequence[Array]) -> list[Launch]:
        """The kernel launches from features to maps and their scores."""
        architecture, distances = self.device.architecture, self._distances
        found = [cosine_map.launch(teacher, student, distances, architecture)]
        if self._product is not None:
            found.append(fuse_mul.launch(distances, self._product, architecture))
            distances = [self._product]
        size, held = self._mapper.size, self._epilogue
        smooth = smooth_map.launch(distances, *self._operators, size, held, architecture)
        return [*found, smooth]

    def run(self) -> None:
        """Queue the recorded steps; results are NaN until the device has written them."""
        self._results.fill(0xFF)
        self._replay()

    def run_borrowed(self, frames: Array, options: ScoreOptions) -> None:
        """The same for frames on the device, which are preprocessed outside the graph."""
        kind = (frames.shape, frames.stride(), options)
        if kind not in self._borrowing:
            if len(self._borrowing) == MAX_KINDS:
                self.device.wait()
                _, (tables, _) = self._borrowing.popitem(last=False)
                tables.close()
            tables = self.device.child()
            launch = resize(tables, frames, self._bound.image, self._spec, options)
            self._borrowing[kind] = (tables, launch)
        launch = self._borrowing[kind][1]
        self.device.launch(launch._replace(arguments=(frames, *launch.arguments[1:])))
        self.run()

    def results(self) -> tuple[MapStats, NDArray[np.float32] | None]:
        """Results of the last run, valid once the device is done; the maps are the graph's own
        buffer, None if not requested."""
        areas, maxima, top_means = (
            self._results[begin:].view(dtype)[: self._kind.batch]
            for begin, dtype in zip(self._offsets, (np.int64, np.float32, np.float32), strict=False)
        )
        wanted = top_means if self._mapper.epilogue.top_k else None
        return MapStats(maxima, wanted, areas), self._maps_host

    def close(self) -> None:
        for tables, _ in self._borrowing.values():
            tables.close()
        self.device.close()

    def _make_epilogue(self) -> smooth_map.Epilogues:
        device, batch, block = self.device, self._kind.batch, self._block
        epilogue, (areas, maxima, top_means, _) = self._mapper.epilogue, self._offsets
        mask = np.zeros(1, np.uint8) if epilogue.mask is None else epilogue.mask.view(np.uint8)
        tiles = (batch, smooth_map.tile_count(*self._mapper.size, device.architecture))
        return smooth_map.Epilogues(
            mask=device.upload(mask),
            has_mask=epilogue.mask is not None,
            threshold=epilogue.threshold,
            top_k=epilogue.top_k,
            maps=device.empty((1,), np.float32) if self._maps is None else self._maps,
            write_maps=self._maps is not None,
            tile_maxima=device.empty(tiles, np.float32),
            tile_areas=device.empty(tiles, np.int32),
            tiles_done=device.upload(np.zeros(batch, np.int32)),
            areas=device.view(block, areas, (batch,), np.int64),
            maxima=device.view(block, maxima, (batch,), np.float32),
            top_means=device.view(block, top_means, (batch,), np.float32),
        )


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def resize(
    device: Device, frames: Array, image: Array, spec: InputSpec, options: ScoreOptions
) -> Launch:
    """The launch of ``resize_normalize`` for frames on the device; its tables are uploaded."""
    shape = tuple(frames.shape[1:])
    pixel_format = check_pixel_format(shape, options.pixel_format)
    top, left, height, width = check_crop(shape[:2], options.crop)
    bayer = pixel_format in BAYER
    rows = resize_taps(shape[0], top, height, spec.height, bayer)
    columns = resize_taps(shape[1], left, width, spec.width, bayer)
    gain, offset = affine(spec.mean, spec.std)
    return resize_normalize.launch(
        frames,
        pixel_format,
        BAYER.get(pixel_format, (0, 0)),
        (device.upload(rows.first), device.upload(rows.weights)),
        (device.upload(columns.first), device.upload(columns.weights)),
        device.upload(gain),
        device.upload(offset),
        image,
        device.architecture,
    )
