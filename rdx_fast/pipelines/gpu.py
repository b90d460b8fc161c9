"""The GPU pipeline: handles batches, concurrent callers and failures around the CUDA graphs."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.devices.device import EXCLUSIVE, BoundNetwork, Device
from rdx_fast.errors import DeviceLostError, EngineError
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.gpu.launch import Array, dtype_name
from rdx_fast.pipelines.cuda_graph import CudaGraph
from rdx_fast.pipelines.pipeline import BatchScores, ScoreOptions, maps_of, nothing
from rdx_fast.pipelines.staging import FrameStaging
from rdx_fast.pipelines.window_staging import WindowStaging
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Frame, as_frames

MAX_GRAPHS = 8  # kept by each slot; the least recently used one is dropped
MAX_SLOTS = 2  # of one batch that is scored in parts: one part is staged while another is scored


class ExecutionSlot:
    """A device's queue with its graphs; it processes one batch at a time.

    There is a graph for each number of images, with and without maps. Size and format of the frames
    do not matter to it: they are preprocessed before it.
    """

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
        self._staging = FrameStaging(device, spec)
        self._windows = WindowStaging(device, spec)
        self._graphs: OrderedDict[tuple[int, bool], CudaGraph] = OrderedDict()

    def begin(self, frames: list[Frame] | Array, options: ScoreOptions) -> CudaGraph:
        """Queue a batch; ``graph.stats`` and ``graph.maps`` are valid once the device is done.

        Args:
            frames: in host memory, or ``[B, H, W, 3]`` or ``[B, H, W]`` on the device
            options: of scoring
        """
        graph = self._graph(_count(frames, options), options.maps)
        staging = self._staging if options.windows is None else self._windows
        staging.queue(frames, options, graph.image)
        graph.run()
        return graph

    def close(self) -> None:
        with suppress(EngineError):
            self.device.wait()
        with EXCLUSIVE:
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()
            self._staging.close()
            self._windows.close()
            self.device.close()

    def _graph(self, batch: int, maps: bool) -> CudaGraph:
        kind = (batch, maps)
        if kind not in self._graphs:
            with EXCLUSIVE:
                if len(self._graphs) == MAX_GRAPHS:
                    self._graphs.popitem(last=False)[1].close()
                device = self.device.child()
                try:
                    bound = self._bind(device, batch)
                    self._graphs[kind] = CudaGraph(device, bound, self._mapper, batch, maps)
                except BaseException:
                    with suppress(EngineError):
                        device.wait()  # what is queued may use the memory that is freed next
                    device.close()
                    raise
        self._graphs.move_to_end(kind)
        return self._graphs[kind]


class GpuPipeline:
    """A ``pipeline.WindowPipeline`` through an engine on a GPU.

    Each concurrent caller, and each batch of a stream in flight, has its own slot with memory for
    its batches. A batch of more images than the network takes at once is scored in parts, by two
    slots in turn.

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
        self.max_windows, self.parts_in_flight = max_batch, MAX_SLOTS
        self._engine_closed = engine_closed
        self._idle: list[ExecutionSlot] = []
        self._lock = threading.Lock()
        self._closed = False
        self._lost: DeviceLostError | None = None

    def score(
        self, batch: Any, options: ScoreOptions, check: Callable[[], None] = nothing
    ) -> BatchScores:
        finish = self.submit(batch, options)
        try:
            check()
        except BaseException:
            with suppress(EngineError):
                finish()
            raise
        return finish()

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        begin = perf_counter()
        work = _Work(self._take, self._give, self._mapper, self._max_batch, options)
        try:
            work.begin(batch)
        except BaseException as error:
            work.abandon(error)
            raise
        staged = perf_counter()

        def result() -> BatchScores:
            try:
                work.finish()
            except BaseException as error:
                work.abandon(error)
                raise
            seconds = {"staging": staged - begin, "device": perf_counter() - staged}
            return BatchScores(work.summary, work.maps, seconds)

        return result

    def shapes(self, batch: Any) -> list[tuple[int, ...]]:
        slot = self._take()
        try:
            frames = _frames_for(slot, batch)
        except BaseException as error:
            self._give(slot, error)
            raise
        self._give(slot)
        if isinstance(frames, list):
            return [frame.shape for frame in frames]
        return [tuple(frames.shape[1:])] * frames.shape[0]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            slots, self._idle = self._idle, []
        for slot in slots:
            self._close(slot)

    def _take(self) -> ExecutionSlot:
        with self._lock:
            if self._lost is not None:
                raise DeviceLostError(str(self._lost)) from self._lost
            if self._closed or self._engine_closed():
                raise EngineError("the engine is closed: open a new one")
            if self._idle:
                return self._idle.pop()
        with EXCLUSIVE:
            device = self._open_device()
            try:
                with device.current():
                    return ExecutionSlot(device, self._bind, self._mapper, self._spec)
            except BaseException:
                with device.current():
                    device.close()
                raise

    def _give(self, slot: ExecutionSlot, error: BaseException | None = None) -> None:
        if error is not None:
            # No queued work may still write into buffers that are used again.
            with suppress(EngineError):
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
            slot.close()


class _Part(NamedTuple):
    """Images of a batch that are queued on a slot."""

    where: slice
    slot: ExecutionSlot
    graph: CudaGraph


class _Work:
    """One batch: its parts are queued on slots in turn, and their results collected.

    Attributes:
        summary: of the whole batch, NaN until collected
        maps: ``[B, H, W]`` float32, None if not requested
    """

    summary: MapStats
    maps: NDArray[np.float32] | None = None

    def __init__(
        self,
        take: Callable[[], ExecutionSlot],
        give: Callable[[ExecutionSlot, BaseException | None], None],
        mapper: AnomalyMapper,
        max_batch: int,
        options: ScoreOptions,
    ) -> None:
        self._take = take
        self._give = give
        self._mapper = mapper
        self._max_batch = max_batch
        self._options = options
        self._slots: list[ExecutionSlot] = []
        self._queued: deque[_Part] = deque()

    def begin(self, batch: Any) -> None:
        """Queue the batch. Of more than ``MAX_SLOTS`` parts, the first are collected meanwhile."""
        self._batch = batch  # kept until its pixels were read
        slot = self._next_slot()
        frames = _frames_for(slot, batch)
        images = _count(frames, self._options)
        self.summary = MapStats.empty(images, self._mapper.epilogue)
        self.maps = maps_of(self._options, images, self._mapper.size)
        for start in range(0, images, self._max_batch):
            if start:
                slot = self._next_slot()
                if not isinstance(frames, list):  # each queue must wait for the owner's work
                    frames = _frames_for(slot, batch)
            where = slice(start, min(start + self._max_batch, images))
            with slot.device.current():
                graph = slot.begin(*_part_of(frames, self._options, where))
            self._queued.append(_Part(where, slot, graph))

    def finish(self) -> None:
        """Wait for all parts and collect their results."""
        while self._queued:
            self._collect()
        while self._slots:  # the first one last, so that the next batch takes them in this order
            self._give(self._slots.pop(), None)

    def abandon(self, error: BaseException) -> None:
        """Give the slots back after a failure."""
        while self._slots:
            self._give(self._slots.pop(), error)

    def _next_slot(self) -> ExecutionSlot:
        if len(self._queued) == MAX_SLOTS:
            return self._collect()
        self._slots.append(self._take())
        return self._slots[-1]

    def _collect(self) -> ExecutionSlot:
        """Wait for the oldest part, and copy its results to their place; returns its slot."""
        where, slot, graph = self._queued[0]
        slot.device.wait()
        self.summary.put(where, graph.stats)
        if self.maps is not None:
            self.maps[where] = graph.maps
        self._queued.popleft()
        return slot


def _frames_for(slot: ExecutionSlot, batch: Any) -> list[Frame] | Array:
    """The frames of a batch, in host memory or borrowed on the slot's device."""
    if not slot.device.holds(batch):
        return as_frames(batch)
    return check_borrowed(slot.device.borrow(batch))


def _count(frames: list[Frame] | Array, options: ScoreOptions) -> int:
    """Number of frames, or of their windows."""
    if options.windows is not None:
        return len(options.windows)
    return len(frames) if isinstance(frames, list) else frames.shape[0]


def _part_of(
    frames: list[Frame] | Array, options: ScoreOptions, where: slice
) -> tuple[list[Frame] | Array, ScoreOptions]:
    if options.windows is not None:
        return frames, options._replace(windows=options.windows[where])
    if isinstance(frames, list):
        return frames[where], options
    return frames.narrow(0, where.start, where.stop - where.start), options


def check_borrowed(frames: Array) -> Array:
    """Check an array on the device and return it as a batch, ``[B, H, W, 3]`` or ``[B, H, W]``.

    Args:
        frames: uint8 or uint16, one image or a batch, with dense pixels in rows of any pitch

    Raises:
        ValueError: another dtype or shape, or pixels that are not dense
    """
    shape, strides = tuple(frames.shape), tuple(frames.stride())
    colour = len(shape) > 2 and shape[-1] == 3
    dense = strides[-2:] == (3, 1) if colour else strides[-1:] == (1,)
    known = dtype_name(frames) in ("uint8", "uint16")
    if not known or len(shape) - colour not in (2, 3) or 0 in shape:
        raise ValueError(
            f"the batch on the GPU is {dtype_name(frames)} {list(shape)}, wanted uint8 or uint16 "
            f"[B, H, W, 3], [B, H, W], [H, W, 3] or [H, W]"
        )
    if not dense:
        raise ValueError(
            f"the batch on the GPU has strides {list(strides)}: the pixels of a row must be "
            f"contiguous (rows may have any pitch); make a contiguous copy first"
        )
    return frames.unsqueeze(0) if len(shape) - colour == 2 else frames
