"""Pipelines from frames to scores: preprocessing, network, postprocessing."""

from __future__ import annotations

from typing import cast

from rdx_fast.engines.engine import DeviceEngine, Engine, HostEngine
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.pipelines.pipeline import BatchScores, Pipeline, ScoreOptions, WindowPipeline
from rdx_fast.postprocess import AnomalyMapper

__all__ = ["BatchScores", "Pipeline", "ScoreOptions", "WindowPipeline", "open_pipeline"]


def open_pipeline(engine: Engine, mapper: AnomalyMapper) -> WindowPipeline:
    """Open the pipeline for an engine; ``mapper`` turns its features into maps and scores."""
    # Imported here, since each imports packages that the other does not need.
    if engine.on_device:
        from rdx_fast.pipelines.gpu import GpuPipeline

        on_device = cast(DeviceEngine, engine)
        return GpuPipeline(
            f"{engine.description}; kernels {on_device.kernels}",
            on_device.open_device,
            on_device.bind,
            mapper,
            engine.manifest.input,
            on_device.max_batch,
            lambda: on_device.closed,
        )
    from rdx_fast.pipelines.cpu import CpuPipeline

    on_host = cast(HostEngine, engine)
    return CpuPipeline(
        f"{engine.description}; kernels {IMPLEMENTATION}",
        on_host.run,
        engine.manifest.input,
        mapper,
        on_host.frame_threads,
    )
