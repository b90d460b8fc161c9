"""Running an exported network at export, and comparing it with the trained one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import EXECUTIONS, ExportCheck
from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError, ExportError, ImageError
from rdx_fast.export.gpu import FOR_GPUS
from rdx_fast.export.reference import RoundedNetwork
from rdx_fast.limits.calibration import calibrate_threshold
from rdx_fast.limits.limits import ThresholdSpec
from rdx_fast.models import ReverseDistillation
from rdx_fast.pipelines import Pipeline, ScoreOptions
from rdx_fast.training.frames import Frames

# What each ``precision`` of ``export_bundle`` writes, as (stored, executed). "auto" writes every
# execution that is the fastest on some machine. fp8 has not been timed, so it is not among them.
CONTENTS = {
    "auto": (
        ("fp32", "fp32"),
        ("fp32", "bf16"),
        ("fp16", "fp16"),
        ("int8", "int8"),
        ("int8_symmetric", "int8"),
    ),
    **EXECUTIONS,
}
# Largest allowed differences from the trained network, of a score and of a map pixel, as shares of
# the threshold, by executed precision. docs/measured/precision.md shows those of trained networks.
TOLERANCE = {
    "fp32": (1e-3, 1e-3),
    "fp16": (2e-2, 2e-2),
    "bf16": (5e-2, 0.12),
    "int8": (0.1, 0.15),
    "fp8": (0.1, 0.15),
}


def allowed(
    tolerance: Mapping[str, tuple[float, float]], stored: str, executed: str
) -> tuple[float, float]:
    """The tolerance for an execution: that of the executed precision, or of the stored one if that
    rounds more, since weights of a float16 network stay rounded when executed in float32."""
    return max(tolerance[executed], tolerance[stored.partition("_")[0]])


class Runner(Protocol):
    """Executes a network."""

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs``, ``[B, 3, H, W]`` float32 normalised."""


class TrainedMaps:
    """A ``Runner`` of the trained network itself, in torch."""

    def __init__(self, network: ReverseDistillation) -> None:
        self._network = network.eval()

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        with torch.inference_mode():
            features = self._network(torch.from_numpy(inputs))
        teacher, student = ([m.numpy() for m in maps] for maps in features)
        yield Chunk(0, teacher, student)


class NetworkMaps(NamedTuple):
    """Scores and maps that a network gives for the good images.

    Attributes:
        scores: ``[n]`` float32, of all images
        maps: ``[1, H, W]`` float32, of the images whose maps are compared
    """

    scores: NDArray[np.float32]
    maps: list[NDArray[np.float32]]

    @classmethod
    def of(cls, pipeline: Pipeline, images: Frames, compared: set[int]) -> NetworkMaps:
        """``compared``: indices of the images whose maps are compared."""
        scores, maps = [], []
        pixel_format, crop, levels, _ = images.options
        for index in range(len(images)):
            options = ScoreOptions(index in compared, pixel_format, crop, levels)
            frame = images[index]
            try:
                found = pipeline.score(frame, options)
            except ValueError as error:
                raise ImageError(images.paths[index], str(error)) from error
            scores.append(found.summary.maxima[0, 0])
            if found.anomaly_maps is not None:
                maps.append(found.anomaly_maps)
        pipeline.close()
        return cls(np.array(scores, np.float32), maps)


def open_execution(file: Path, stored: str, executed: str) -> tuple[Runner, str]:
    """Choose how to execute a network file in a precision on this machine.

    The OpenVINO engine executes it if this CPU has the precision. torch emulates bfloat16 on other
    CPUs, and always what is for GPUs: float16, int8_symmetric and fp8, with sums in float32 and
    each result rounded.

    Args:
        file: the ONNX file
        stored: precision in which it is stored
        executed: precision in which to execute it

    Returns:
        the runner and its name

    Raises:
        EngineError: OpenVINO rejects the network
    """
    for_gpus = stored in FOR_GPUS or executed == "fp16"
    if not for_gpus and (executed != "bf16" or "BF16" in capabilities()):
        try:
            return OpenVINONetwork(file, executed), f"openvino {version('openvino')}"
        except EngineError:
            if executed != "bf16":
                raise
    rounded = "bf16" if executed == "bf16" else "its type in the graph"
    name = f"torch {torch.__version__}, each result rounded to {rounded}"
    return RoundedNetwork(file, executed), name


def check_execution(
    label: str,
    tolerance: tuple[float, float],
    checked_by: str,
    trained: NetworkMaps,
    found: NetworkMaps,
    trained_threshold: ThresholdSpec,
    threshold: ThresholdSpec,
) -> ExportCheck:
    """Compare an execution with the trained network.

    Args:
        label: name of the execution, for the error message
        tolerance: largest allowed differences of a score and of a map pixel, as shares of the
            trained network's threshold
        checked_by: what executed the exported network
        trained: what the trained network gives
        found: what the execution gives
        trained_threshold: calibrated on the trained network's scores
        threshold: calibrated on the scores of the execution

    Raises:
        ExportError: the differences exceed ``tolerance``
    """
    scale = trained_threshold.value
    largest = float(np.abs(found.scores - trained.scores).max())
    pixels = zip(found.maps, trained.maps, strict=True)
    score_difference = largest / scale
    map_difference = max(float(np.abs(f - t).max()) for f, t in pixels) / scale
    score_tolerance, map_tolerance = tolerance
    # Written so that NaN fails.
    if not (score_difference <= score_tolerance and map_difference <= map_tolerance):
        raise ExportError(
            f"{label} does not score as the trained network: over {len(trained.scores)} images "
            f"scores differ by up to {score_difference:.2%} of the threshold (allowed "
            f"{score_tolerance:.2%}), over {len(trained.maps)} images maps by {map_difference:.2%} "
            f"(allowed {map_tolerance:.2%}). Choose a higher precision, such as fp32"
        )
    spread = float(trained.scores.std())
    assert threshold.false_reject_rate is not None  # which every calibrated threshold states
    return ExportCheck(
        checked_by=checked_by,
        images=len(trained.scores),
        map_images=len(trained.maps),
        score_difference=score_difference,
        score_tolerance=score_tolerance,
        map_difference=map_difference,
        map_tolerance=map_tolerance,
        score_difference_of_spread=largest / spread if spread > 0 else None,
        verdicts_that_differ=_verdicts_that_differ(trained, found, threshold.false_reject_rate),
    )


def _verdicts_that_differ(trained: NetworkMaps, found: NetworkMaps, rate: float) -> int | None:
    """Number of images with another verdict; None for a single image.

    Each image is judged by thresholds from the other images: a threshold always rejects the same
    number of the scores that it was calibrated on, whatever they are.
    """
    count = len(trained.scores)
    if count < 2:
        return None
    verdicts = [
        [
            scores[i] > calibrate_threshold(np.delete(scores, i), rate).value
            for scores in (trained.scores, found.scores)
        ]
        for i in range(count)
    ]
    return sum(bool(a != b) for a, b in verdicts)
