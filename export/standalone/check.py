"""Comparison of a standalone file with its bundle, by OpenVINO on this CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino.properties import hint

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.manifest import ExecutionSpec
from rdx_fast.engines.openvino.compilation import CORE, INFERENCE_TYPE
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError, ExportError
from rdx_fast.export.standalone.frame import FrameFormat
from rdx_fast.export.standalone.inspection import VERDICTS
from rdx_fast.judge import Judge
from rdx_fast.kernels.epilogue import Epilogue, summarize
from rdx_fast.kernels.resize_normalize import WHITE, WHITEST
from rdx_fast.limits.limits import Limits
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import FrameOptions

# Largest allowed difference of a map pixel, as a share of the threshold. In float32 sums have
# another order; in int8 a value between two steps may then be rounded to the other one.
_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-4, "int8": 0.05}
_PATCH = 16  # pixels


def check_standalone(
    file: Path,
    bundle: Bundle,
    execution: ExecutionSpec,
    frame: FrameFormat,
    labels: NDArray[np.uint8] | None,
    batch: int | None,
) -> None:
    """Compare maps of patchy frames with the bundle's, and verdicts with those of its limits.

    Args:
        file: the standalone file
        bundle: that it was made of
        execution: whose network and limits are in the file
        frame: format of its frames
        labels: of the map's regions; None if the whole map is one
        batch: frames of a call; None for any number

    Raises:
        ExportError: the maps or the verdicts differ
        EngineError: OpenVINO rejects the file or the bundle's network
    """
    frames = _patches(frame, batch or 1)
    manifest = bundle.manifest
    executed = "int8" if execution.executed == "int8" else "fp32"
    options = FrameOptions(frame.pixel_format, frame.crop, frame.levels)
    inputs = np.stack([options.to_input(one, manifest.input) for one in frames])
    mapper = AnomalyMapper(manifest.map, manifest.scales)
    network = OpenVINONetwork(bundle.network(execution.stored), executed)
    expected = np.concatenate([mapper.maps(c.teacher, c.student) for c in network.run(inputs)])

    found = _run(file, frames, executed)
    difference = float(np.abs(found["map"] - expected).max()) / execution.threshold.value
    # Written so that NaN fails.
    if not difference <= _TOLERANCE[execution.stored]:
        raise ExportError(
            f"the standalone file does not score as bundle {manifest.name}: maps differ by up to "
            f"{difference:.2%} of the threshold (allowed {_TOLERANCE[execution.stored]:.2%})"
        )
    _check_verdicts(found, execution.limits, labels)


def _check_verdicts(
    found: Mapping[str, NDArray[Any]], limits: Sequence[Limits], labels: NDArray[np.uint8] | None
) -> None:
    """Compare what follows from the file's own map, exactly."""
    thresholds = tuple(limit.ok_below.value for limit in limits)
    summary = summarize(found["map"], Epilogue(labels, thresholds))
    judged = Judge(limits)(summary.maxima)
    expected: dict[str, NDArray[Any]] = {
        "region_scores": summary.maxima,
        "area": summary.areas,
        "verdict": np.array([VERDICTS.index(verdict) for verdict in judged.verdicts]),
        "region": judged.deciding,
        "score": np.take_along_axis(summary.maxima, judged.deciding[:, None], axis=1)[:, 0],
    }
    for name, wanted in expected.items():
        if not np.array_equal(found[name], wanted):
            raise ExportError(
                f"the standalone file does not judge as the bundle: {name} is "
                f"{found[name].tolist()}, wanted {wanted.tolist()}"
            )


def _patches(frame: FrameFormat, batch: int) -> NDArray[Any]:
    """Frames of dark and light patches, of each channel by itself, up to the levels and beyond."""
    black, white = frame.levels or (0, WHITE)
    dtype, whitest = (np.uint8, WHITE) if frame.levels is None else (np.uint16, WHITEST)
    tones = np.array([0, black, (black + white) // 2, white, whitest], dtype)
    height, width, *channels = frame.shape
    coarse = (batch, -(-height // _PATCH), -(-width // _PATCH), *channels)
    patches = np.random.default_rng(0).choice(tones, coarse)
    return patches.repeat(_PATCH, 1).repeat(_PATCH, 2)[:, :height, :width]


def _run(file: Path, frames: NDArray[Any], executed: str) -> dict[str, NDArray[Any]]:
    """The outputs by name."""
    config: dict[Any, Any] = {hint.inference_precision(): INFERENCE_TYPE[executed]}
    try:
        compiled = CORE.compile_model(CORE.read_model(file), "CPU", config)
        found = compiled([frames])
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot run the standalone file: {error}") from error
    return {output.any_name: found[output] for output in compiled.outputs}
