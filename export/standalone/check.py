"""Comparison of a standalone file with its bundle, by OpenVINO on this CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino.properties import hint

from rdx_fast.bundle import Bundle
from rdx_fast.engines.openvino.compilation import CORE, INFERENCE_TYPE
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError, ExportError
from rdx_fast.export.standalone.frame import FrameFormat
from rdx_fast.manifest import ExecutionSpec
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input

# Largest allowed difference of a map pixel, as a share of the threshold. In float32 sums have
# another order; in int8 a value between two steps may then be rounded to the other one.
_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-4, "int8": 0.05}
_PATCH = 16  # pixels


def check_standalone(
    file: Path, bundle: Bundle, execution: ExecutionSpec, frame: FrameFormat, batch: int | None
) -> None:
    """Compare the maps of patchy frames.

    Args:
        file: the standalone file
        bundle: that it was made of
        execution: whose network is in the file
        frame: format of its frames
        batch: frames of a call; None for any number

    Raises:
        ExportError: the maps differ
        EngineError: OpenVINO rejects the file or the bundle's network
    """
    light = _patches((batch or 1, *frame.shape))
    manifest = bundle.manifest
    executed = "int8" if execution.executed == "int8" else "fp32"
    inputs = to_input(list(np.uint8(255) * light), manifest.input, frame.pixel_format, frame.crop)
    mapper = AnomalyMapper(manifest.map, manifest.scales)
    network = OpenVINONetwork(bundle.network(execution.stored), executed)
    expected = np.concatenate([mapper.maps(c.teacher, c.student) for c in network.run(inputs)])

    found = _run(file, _as_pixels(light, frame), executed)
    difference = float(np.abs(found - expected).max()) / execution.threshold.value
    # Written so that NaN fails.
    if not difference <= _TOLERANCE[execution.stored]:
        raise ExportError(
            f"the standalone file does not score as bundle {manifest.name}: maps differ by up to "
            f"{difference:.2%} of the threshold (allowed {_TOLERANCE[execution.stored]:.2%})"
        )


def _patches(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Dark and light patches ``[B, H, W, ...]``, of each channel by itself."""
    batch, height, width, *channels = shape
    coarse = (batch, -(-height // _PATCH), -(-width // _PATCH), *channels)
    patches = np.random.default_rng(0).random(coarse) < 0.5
    return patches.repeat(_PATCH, 1).repeat(_PATCH, 2)[:, :height, :width]


def _as_pixels(light: NDArray[np.bool_], frame: FrameFormat) -> NDArray[Any]:
    if frame.levels is None:
        return np.uint8(255) * light
    # At or beyond the levels: clipped.
    return np.where(light, np.uint16(2**16 - 1), np.uint16(0))


def _run(file: Path, frames: NDArray[Any], executed: str) -> NDArray[np.float32]:
    """The output ``map``."""
    config: dict[Any, Any] = {hint.inference_precision(): INFERENCE_TYPE[executed]}
    try:
        compiled = CORE.compile_model(CORE.read_model(file), "CPU", config)
        return compiled([frames])[compiled.output("map")]
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot run the standalone file: {error}") from error
