"""The GPU pipeline: handles batches, concurrent callers and failures around the CUDA graphs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import groupby, islice
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.devices.device import BoundNetwork, Device
from rdx_fast.errors import DeviceLostError, EngineError
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.gpu.launch import Array, dtype_name
from rdx_fast.kernels.resize_normalize import check_crop, check_pixel_format
from rdx_fast.manifest import InputSpec
from rdx_fast.pipelines.cuda_graph import CudaGraph, Kind
from rdx_fast.pipelines.pipeline import BatchScores, ScoreOptions
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import as_frames

MAX_GRAPHS = 8  # kept by each slot; the least recently used one is dropped


class ExecutionSlot:
    """A device's queue with its graphs; it processes one batch at a time."""

    def __init__(
        self,
        device: Device,
        bind: Callable[[Device, int], BoundNetwork],
        mapper: AnomalyMapper,
        spec: InputSpec,
    ) -> None:
        self.device = device
        self._bind = bind
        self._mapper = mapper
        self._spec = spec
        self._graphs: OrderedDict[Kind, CudaGraph] = OrderedDict()

    def begin(self, frames: list[NDArray[np.uint8]], options: ScoreOptions) -> CudaGraph:
        """Queue frames of one shape from host memory; ``graph.results`` are valid once the device
        is done."""
        shape = frames[0].shape
        pixel_format = check_pixel_format(shape, options.pixel_format)
        crop = check_crop(shape[:2], options.crop)
        graph = self._graph(Kind(len(frames), options.maps, shape, pixel_format, crop))
        assert graph.staging is not None
        for frame, target in zip(frames, graph.staging, strict=True):
            target[...] = frame
        graph.run()
        return graph

    def begin_borrowed(self, frames: Array, options: ScoreOptions) -> CudaGraph:
        """Queue frames ``[B, H, W, 3]`` or ``[B, H, W]`` that are on the device."""
        graph = self._graph(Kind(frames.shape[0], options.maps, None, None, None))
        graph.run_borrowed(frames, options)
        return graph

    def close(self, lost: bool = False) -> None:
        with suppress(EngineError):
            self.device.wait()
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self.device.close(lost)

    def _graph(self, kind: Kind) -> CudaGraph:
        if kind not in self._graphs:
            if len(self._graphs) == MAX_GRAPHS:
                self._graphs.popitem(last=False)[1].close()
            device = self.device.child()
            try:
                bound = self._bind(device, kind.batch)
                self._graphs[kind] = CudaGraph(device, bound, self._mapper, self._spec, kind)
            except BaseException:
                device.close()
                raise
        self._graphs.move_to_end(kind)
        return self._graphs[kind]


class GpuPipeline:
    """A ``pipeline.Pipeline`` through an engine on a GPU.

    Each concurrent caller, and each batch of a stream in flight, has its own slot with memory for
    its batches.

    Args:
        description: of engine and kernels
        open_device: opens a new queue on the GPU
        bind: prepares the network on a queue for a batch size
        mapper: operators of the postprocessing
        spec: the network's input
        max_batch: the most images that the network takes at once
        engine_closed: whether the engine was closed, with which the graphs' memory went
    """

    def __init__(
        self,
        description: str,
        open_device: Callable[[], Device],
        bind: Callable[[Device, int], BoundNetwork],
        mapper: AnomalyMapper,
        spec: InputSpec,
        max_batch: int,
        engine_closed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.description = description
        self._open_device = open_device
        self._bind = bind
        self._mapper = mapper
        self._spec = spec
        self._max_batch = max_batch
        self._engine_closed = engine_closed
        self._idle: list[ExecutionSlot] = []
        self._lock = threading.Lock()
        self._closed = False
        self._lost: DeviceLostError | None = None

    def score(self, batch: Any, options: ScoreOptions) -> BatchScores:
        return self.submit(batch, options)()

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        begin = perf_counter()
        slot = self._take()
        try:
            with slot.device.current():
                *first, last = self._sub_batches(slot, batch, options)
                images = sum(part.images for part in (*first, last))
                summary = MapStats.empty(images, self._mapper.epilogue.top_k)
                maps = np.empty((images, *self._mapper.size), np.float32) if options.maps else None
                for part in first:
                    _collect(part, part.begin(), slot, summary, maps)
                graph = last.begin()
        except BaseException as error:
            self._give(slot, error)
            raise
        staged = perf_counter()

        def result() -> BatchScores:
            try:
                with slot.device.current():
                    _collect(last, graph, slot, summary, maps)
            except BaseException as error:
                self._give(slot, error)
                raise
            self._give(slot)
            seconds = {"staging": staged - begin, "device": perf_counter() - staged}
            return BatchScores(summary, maps, seconds)

        return result

    def close(self) -> None:
        with self._lock:
            self._closed = True
            slots, self._idle = self._idle, []
        for slot in slots:
            self._close(slot)

    def _sub_batches(
        self, slot: ExecutionSlot, batch: Any, options: ScoreOptions
    ) -> list[_SubBatch]:
        """Parts of a batch that one graph each processes: consecutive frames of one shape."""
        if slot.device.holds(batch):
            array = check_borrowed(slot.device.borrow(batch), self._max_batch)
            return [_SubBatch(0, array.shape[0], lambda: slot.begin_borrowed(array, options))]
        sub_batches: list[_SubBatch] = []
        start = 0
        for _, group in groupby(as_frames(batch), key=lambda frame: frame.shape):
            while frames := list(islice(group, self._max_batch)):
                sub_batches.append(
                    _SubBatch(start, len(frames), partial(slot.begin, frames, options))
                )
                start += len(frames)
        return sub_batches

    def _take(self) -> ExecutionSlot:
        with self._lock:
            if self._lost is not None:
                raise DeviceLostError(str(self._lost)) from self._lost
            if self._closed or self._engine_closed():
                raise EngineError("the engine is closed: open a new one")
            if self._idle:
                return self._idle.pop()
        return ExecutionSlot(self._open_device(), self._bind, self._mapper, self._spec)

    def _give(self, slot: ExecutionSlot, error: BaseException | None = None) -> None:
        if error is not None:
            # No queued work may still write into buffers that are used again.
            with suppress(EngineError), slot.device.current():
                slot.device.wait()
        with self._lock:
            if isinstance(error, DeviceLostError):
                self._lost = error
            if not self._closed and self._lost is None:
                self._idle.append(slot)
                return
        self._close(slot)

    def _close(self, slot: ExecutionSlot) -> None:
        with suppress(EngineError), slot.device.current():
            slot.close(self._lost is not None)


class _SubBatch(NamedTuple):
    start: int
    images: int
    begin: Callable[[], CudaGraph]


def _collect(
    part: _SubBatch,
    graph: CudaGraph,
    slot: ExecutionSlot,
    summary: MapStats,
    maps: NDArray[np.float32] | None,
) -> None:
    """Wait for a part, and copy its results to their place in the batch."""
    slot.device.wait()
    where = slice(part.start, part.start + part.images)
    found, found_maps = graph.results()
    summary.put(where, found)
    if maps is not None:
        maps[where] = found_maps


def check_borrowed(frames: Array, max_batch: int) -> Array:
    """Check an array on the device and return it as a batch, ``[B, H, W, 3]`` or ``[B, H, W]``.

    Args:
        frames: uint8, one image or a batch, with dense pixels in rows of any pitch
        max_batch: the most frames that are accepted

    Raises:
        ValueError: another dtype or shape, pixels that are not dense, or more frames than
            ``max_batch``
    """
    shape, strides = tuple(frames.shape), tuple(frames.stride())
    colour = len(shape) > 2 and shape[-1] == 3
    dense = strides[-2:] == (3, 1) if colour else strides[-1:] == (1,)
    if dtype_name(frames) != "uint8" or len(shape) - colour not in (2, 3) or 0 in shape:
        raise ValueError(
            f"the batch on the GPU is {dtype_name(frames)} {list(shape)}, wanted uint8 "
            f"[B, H, W, 3], [B, H, W], [H, W, 3] or [H, W]"
        )
    if not dense:
        raise ValueError(
            f"the batch on the GPU has strides {list(strides)}: the pixels of a row must be "
            f"contiguous (rows may have any pitch); make a contiguous copy first"
        )
    if len(shape) - colour == 2:
        frames = frames.unsqueeze(0)
    if frames.shape[0] > max_batch:
        raise ValueError(
            f"the batch on the GPU has {frames.shape[0]} frames, this engine was opened for at "
            f"most {max_batch} at once: give fewer, or open it for more (GpuOptions.batches)"
        )
    return frames
