"""The main path: frames in, verdicts out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle import open_bundle
from rdx_fast.engines import Engine, open_engine
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import Epilogue, Summary
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, as_frames, to_input
from rdx_fast.result import Result


class Detector:
    """Scores images with an engine bundle.

    ``engine``: path of a bundle, or an opened engine. ``backend``: "auto" or "openvino".
    ``threads``: CPU threads of the engine, None for its own choice. ``region``: the region of
    interest, bool of the manifest's map size ``[H, W]``; scores and areas are of what lies inside.
    ``top_k``: also give the mean of that many largest map values. Safe to call from several
    threads; a context manager.

    Raises ``BundleError`` (bundle not whole), ``EngineError`` (engine cannot be opened),
    ``ValueError`` (arguments).
    """

    def __init__(
        self,
        engine: str | Path | Engine,
        backend: str = "auto",
        threads: int | None = None,
        region: NDArray[np.bool_] | None = None,
        top_k: int = 0,
    ) -> None:
        if isinstance(engine, str | Path):
            self.engine = open_engine(open_bundle(engine), backend, threads)
        elif backend != "auto" or threads is not None:
            raise ValueError("backend and threads are the opened engine's own: leave them out")
        else:
            self.engine = engine
        self.manifest = self.engine.manifest
        epilogue = Epilogue(region, self.manifest.threshold.value, top_k)
        self._mapper = AnomalyMapper(self.manifest.map, self.manifest.scales, epilogue)
        self.description = f"{self.engine.description}; kernels {IMPLEMENTATION}"

    def score(
        self,
        batch: Batch,
        maps: bool = True,
        pixel_format: str | None = None,
        crop: Crop | None = None,
    ) -> Result:
        """Score one image or a batch.

        ``batch``: uint8 RGB ``[H, W, 3]``, mono ``[H, W]``, ``[B, H, W, 3]``, or a list of such
        images of any sizes. ``maps``: whether ``Result.anomaly_maps`` is wanted; without, none is
        written. ``pixel_format``: "rgb", "bgr", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg" or
        "bayer_gbrg"; None is RGB for three channels and mono for one. ``crop``: top, left, height,
        width in frame pixels of what is shown to the network.

        Raises ``ValueError`` for a batch of another type or shape, an empty one, or NaN;
        ``EngineError`` if the engine fails or gives a score that is not finite.
        """
        begin = perf_counter()
        frames = as_frames(batch)
        inputs = to_input(frames, self.manifest.input, pixel_format, crop)
        preprocessed = perf_counter()

        summary = Summary.empty(len(frames), self._mapper.epilogue.top_k)  # NaN until inspected
        anomaly_maps = np.empty((len(frames), *self._mapper.size), np.float32) if maps else None
        postprocess = 0.0
        for chunk in self.engine.run(inputs):
            arrived = perf_counter()
            where = slice(chunk.start, chunk.start + len(chunk.teacher[0]))
            target = None if anomaly_maps is None else anomaly_maps[where]
            summary.put(where, self._mapper(chunk.teacher, chunk.student, target))
            postprocess += perf_counter() - arrived

        # NaN compares false with any threshold: it must never pass for a good part.
        scores = summary.maxima
        if not np.isfinite(scores).all():
            bad = np.flatnonzero(~np.isfinite(scores)).tolist()
            raise EngineError(f"the engine gave scores that are not finite, for images {bad}")
        end = perf_counter()
        timings = {
            "preprocess": preprocessed - begin,
            "network": end - preprocessed - postprocess,
            "postprocess": postprocess,
            "total": end - begin,
        }
        return Result(
            scores=scores,
            anomaly_maps=anomaly_maps,
            top_means=summary.top_means,
            areas=summary.areas,
            is_anomalous=scores > self.manifest.threshold.value,
            threshold=self.manifest.threshold.value,
            timings_ms={stage: 1000 * seconds for stage, seconds in timings.items()},
            engine=self.description,
        )

    def warmup(self, runs: int = 3) -> None:
        """Score grey frames, so that the first real one finds buffers and caches ready."""
        spec = self.manifest.input
        grey = np.full((spec.height, spec.width, 3), 128, np.uint8)
        for _ in range(runs):
            self.score(grey)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
