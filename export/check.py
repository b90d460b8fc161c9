"""What runs an exported network at export, and how far it is from the trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rdx_fast.calibration import calibrate_threshold
from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError, ExportError
from rdx_fast.export.reference import OnnxNetwork, RoundedNetwork
from rdx_fast.manifest import EXECUTIONS, ExportCheck, ThresholdSpec
from rdx_fast.models import ReverseDistillation
from rdx_fast.postprocess import AnomalyMapper

# What each choice of --precision writes, as (stored, executed). "auto": all that some machine runs
# fastest.
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
# Largest difference allowed from the trained network, of a score and of a pixel of the map, as a
# share of the threshold; by what is executed. What trained networks showed is in
# docs/measured/precision.md.
TOLERANCE = {
    "fp32": (1e-3, 1e-3),
    "fp16": (2e-2, 2e-2),
    "bf16": (5e-2, 0.12),
    "int8": (0.1, 0.15),
}


def allowed(
    tolerance: Mapping[str, tuple[float, float]], stored: str, executed: str
) -> tuple[float, float]:
    """Of what is executed, or of what is stored if that rounds more: weights of a float16 network
    stay rounded in float32."""
    return max(tolerance[executed], tolerance[stored.partition("_")[0]])


class Runner(Protocol):
    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs: [B, 3, H, W] float32``."""


class TrainedMaps:
    """The trained network itself, in torch."""

    def __init__(self, network: ReverseDistillation) -> None:
        self._network = network.eval()

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        with torch.inference_mode():
            features = self._network(torch.from_numpy(inputs))
        teacher, student = ([m.numpy() for m in maps] for maps in features)
        yield Chunk(0, teacher, student)


class NetworkMaps(NamedTuple):
    """``scores: [n]`` of all images, ``maps`` of those whose maps are compared."""

    scores: NDArray[np.float32]
    maps: list[NDArray[np.float32]]

    @classmethod
    def of(
        cls,
        runner: Runner,
        mapper: AnomalyMapper,
        images: Sequence[Path],
        load: Callable[[Path], NDArray[np.float32]],
        compared: set[Path],
    ) -> NetworkMaps:
        scores, maps = [], []
        for path in images:
            (chunk,) = runner.run(load(path))
            found = mapper.maps(chunk.teacher, chunk.student)
            scores.append(found.max())
            if path in compared:
                maps.append(found)
        return cls(np.array(scores, np.float32), maps)


def open_execution(file: Path, stored: str, executed: str) -> tuple[Runner, str]:
    """What executes a network file in a precision on this machine, and its name.

    On the engine itself where this CPU has the precision. bfloat16 that it has not, and float16
    always, since that is meant for GPUs, by torch: sums in float32, each result rounded.
    int8_symmetric, likewise for GPUs, by ONNX Runtime.
    """
    if stored == "int8_symmetric":
        return OnnxNetwork(file), f"onnxruntime {version('onnxruntime')}, exact int8"
    native = executed != "fp16" and (executed != "bf16" or "BF16" in capabilities())
    if native:
        try:
            return OpenVINONetwork(file, executed), f"openvino {version('openvino')}"
        except EngineError:
            if executed != "bf16":
                raise
    name = f"torch {torch.__version__}, each result rounded to {executed}"
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
    """Compare an execution with the trained network. Raises ``ExportError`` if they differ by more
    than ``tolerance``, of a score and of a pixel, as a share of the threshold."""
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
            f"(allowed {map_tolerance:.2%}). Choose a higher precision (fp32 is exact)"
        )
    spread = float(trained.scores.std())
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
    """Each image is judged by thresholds from the others: a threshold rejects as many of the scores
    that it was made of, whatever they are."""
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
