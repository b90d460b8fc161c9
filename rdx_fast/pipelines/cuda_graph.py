"""The network and its postprocessing as one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.devices.device import BoundNetwork, Device
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.gpu import cosine_map, fuse_mul, smooth_map
from rdx_fast.kernels.gpu.launch import Array, Launch, aligned
from rdx_fast.kernels.operators import packed
from rdx_fast.postprocess import AnomalyMapper


class CudaGraph:
    """The steps from the network's input to the results in host memory, recorded once.

    The steps in order: the network; ``cosine_map``; ``fuse_mul`` if scales are multiplied;
    ``smooth_map``, which writes results, and maps if requested, to pinned memory. Only where the
    mean of the largest values is read off the maps, they are written on the device and copied.

    Args:
        device: owns the memory of this graph
        bound: the network for this batch size
        mapper: operators of the postprocessing
        batch: number of images
        maps: whether anomaly maps are wanted in host memory

    Attributes:
        device: as given
        image: the network's input ``[B, 3, H, W]``, to be written before ``run``
        stats: results of the last run, valid once the device is done
        maps: maps of the last run ``[B, H, W]`` float32, likewise; None if not wanted
    """

    def __init__(
        self, device: Device, bound: BoundNetwork, mapper: AnomalyMapper, batch: int, maps: bool
    ) -> None:
        self.device = device
        self.image = bound.image
        self._bound = bound
        self._mapper = mapper
        self._batch = batch
        size, top_k = mapper.size, mapper.epilogue.top_k
        # Areas, maxima and top means in one block, so that one fill resets them all.
        self._each = (batch, mapper.epilogue.regions)
        sizes = (8 * prod(self._each), 4 * prod(self._each), 4 * batch)
        self._offsets = np.cumsum([0, *map(aligned, sizes)]).tolist()
        self._results = device.pinned((self._offsets[-1],), np.uint8)
        self.stats = self._read_results()
        pinned = device.pinned((batch, *size), np.float32) if maps else None
        self.maps = None if pinned is None else pinned.host
        self._maps_out: Array | None = None if pinned is None else pinned.device
        self._maps = device.empty((batch, *size), np.float32) if top_k else self._maps_out
        self._distances = [device.empty((batch, h, w), np.float32) for _, h, w in mapper.scales]
        rows, columns = mapper.rows, mapper.columns
        self._product = None
        if mapper.multiplies:
            self._product = device.empty((batch, *size), np.float32)
            rows, columns = ([axis] for axis in mapper.blur)
        matrices, bands = packed(rows, columns)
        self._operators = (device.upload(matrices), device.upload(bands))
        self._epilogue = self._make_epilogue()
        self._replay = device.record(self.steps)

    def steps(self) -> None:
        """Queue all steps."""
        teacher, student = self._bound.run()
        for launch in self.postprocess(teacher, student):
            self.device.prepare(launch)()
        if self._maps_out is not None and self._maps is not self._maps_out:
            self.device.copy(self._maps_out, self._maps)

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
        self._results.host.fill(0xFF)
        self._replay()

    def close(self) -> None:
        self.device.close()

    def _read_results(self) -> MapStats:
        areas, maxima, top_means, _ = self._offsets
        block, each = self._results.host, self._each

        def read(begin: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
            return block[begin:].view(dtype)[: prod(shape)].reshape(shape)

        return MapStats(
            read(maxima, each, np.float32),
            read(top_means, (self._batch,), np.float32) if self._mapper.epilogue.top_k else None,
            read(areas, each, np.int64),
        )

    def _make_epilogue(self) -> smooth_map.Epilogues:
        device, batch, each, block = self.device, self._batch, self._each, self._results.device
        epilogue, (areas, maxima, top_means, _) = self._mapper.epilogue, self._offsets
        labels = epilogue.labels
        return smooth_map.Epilogues(
            labels=device.upload(np.zeros(1, np.uint8) if labels is None else labels),
            has_labels=labels is not None,
            thresholds=device.upload(np.array(epilogue.thresholds, np.float32)),
            regions=epilogue.regions,
            top_k=epilogue.top_k,
            maps=device.empty((1,), np.float32) if self._maps is None else self._maps,
            write_maps=self._maps is not None,
            keys_so_far=device.upload(np.zeros(each, np.uint32)),
            areas_so_far=device.upload(np.zeros(each, np.int32)),
            tiles_done=device.upload(np.zeros(batch, np.int32)),
            areas=device.view(block, areas, each, np.int64),
            maxima=device.view(block, maxima, each, np.float32),
            top_means=device.view(block, top_means, (batch,), np.float32),
        )
