"""Export: network, threshold and the check against the trained network, written as one bundle."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from rdx_fast.bundle import (
    SYMMETRIC,
    Bundle,
    describe_file,
    new_bundle,
    open_bundle,
    write_manifest,
)
from rdx_fast.calibration import calibrate_threshold
from rdx_fast.engines.openvino import OpenVINOEngine
from rdx_fast.errors import ExportError
from rdx_fast.export.graph import output_shapes, to_onnx
from rdx_fast.export.reference import OnnxNetwork
from rdx_fast.images import read_image
from rdx_fast.manifest import (
    BORDER,
    FORMAT,
    PRECISIONS,
    ExportCheck,
    Manifest,
    MapSpec,
    ScaleSpec,
    ThresholdSpec,
)
from rdx_fast.models import ReverseDistillation
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input
from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.data import input_spec

NETWORK = "network.onnx"
# Largest difference allowed between trained network and engine, as a share of the threshold.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 0.25}
_CALIBRATION_IMAGES = 128
_RANGE_IMAGES = 16


def export_bundle(
    checkpoint: Checkpoint,
    good: Sequence[Path],
    output: Path,
    *,
    precision: str = "fp32",
    fusion: str = "add",
    sigma: float = 4.0,
    false_reject_rate: float = 0.02,
    check_images: int = 16,
    name: str | None = None,
    overwrite: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Write ``output`` (``part.rdx``) from a checkpoint and return it opened.

    ``good``: images of good parts that were not trained on; they give the threshold (see
    ``calibrate_threshold``), the ranges of int8, and the check of the engine against the trained
    network. ``sigma``: of the Gaussian, in pixels of the map (4, as published).

    Raises ``ExportError`` if the engine's scores or maps differ by more than ``TOLERANCE``,
    ``ImageError`` for an unreadable image, ``BundleError`` if ``output`` exists.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(PRECISIONS)}")
    if not good:
        raise ValueError("no good images were given: the threshold and the check need some")
    spec = input_spec(checkpoint.recipe)
    network = checkpoint.build()

    def load(path: Path) -> NDArray[np.float32]:
        return to_input([read_image(path)], spec)

    with new_bundle(output, overwrite) as folder:
        on_stage("network")
        scales = tuple(ScaleSpec(*shape) for shape in output_shapes(network, spec))
        ranges = map(load, _spread(good, _RANGE_IMAGES)) if precision == "fp16" else ()
        model = to_onnx(network, spec, precision, len(scales), ranges)
        if precision == "int8":
            on_stage("quantisation")
            from rdx_fast.export.quantize import quantize, symmetric

            model = quantize(model, map(load, _spread(good, _CALIBRATION_IMAGES)))
            onnx.save(symmetric(model), folder / SYMMETRIC)
        onnx.save(model, folder / NETWORK)

        draft = Manifest(
            format=FORMAT,
            name=name or output.stem,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            method=checkpoint.recipe.method,
            backbone=checkpoint.recipe.backbone,
            precision=precision,
            input=spec,
            scales=scales,
            map=MapSpec(spec.height, spec.width, fusion, sigma, truncate=4.0, border=BORDER),
            threshold=ThresholdSpec(0.0, false_reject_rate, 1.0, 0),
            network=NETWORK,
            files={file.name: describe_file(file) for file in sorted(folder.iterdir())},
            check=ExportCheck(0, 0.0, 0.0, TOLERANCE[precision], ""),
            training=_training_facts(checkpoint),
            versions=_versions(precision),
        )
        on_stage("threshold")
        engine = OpenVINOEngine(Bundle(folder, draft))
        mapper = AnomalyMapper(draft.map, scales)
        scores = [_engine_map(engine, mapper, load(path)).max() for path in good]
        if not np.isfinite(scores).all():
            raise ExportError(
                f"the exported engine's scores are not finite: the network leaves the range of "
                f"{precision}; choose another precision (fp32 is exact)"
            )
        threshold = calibrate_threshold(scores, false_reject_rate)

        on_stage("check")
        images = [load(path) for path in _spread(good, check_images)]
        trained = [_trained_map(network, mapper, image) for image in images]

        def compare(found: OpenVINOEngine | OnnxNetwork, executed: str) -> ExportCheck:
            pairs = [
                (t, _engine_map(found, mapper, i)) for t, i in zip(trained, images, strict=True)
            ]
            return _compare(pairs, threshold.value, TOLERANCE[precision], executed)

        check = compare(engine, engine.executed_precision)
        if precision == "int8":
            compare(OnnxNetwork(folder / SYMMETRIC), "symmetric int8")
        write_manifest(replace(draft, threshold=threshold, check=check), folder)
    return open_bundle(output)


def _engine_map(
    engine: OpenVINOEngine | OnnxNetwork, mapper: AnomalyMapper, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    (chunk,) = engine.run(inputs)
    return mapper.maps(chunk.teacher, chunk.student)


def _trained_map(
    network: ReverseDistillation, mapper: AnomalyMapper, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    with torch.no_grad():
        features = network(torch.from_numpy(inputs))
    teacher, student = ([m.numpy() for m in maps] for maps in features)
    return mapper.maps(teacher, student)


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most that many of the paths, evenly spread over them."""
    count = min(most, len(paths))
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]


def _compare(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    threshold: float,
    tolerance: float,
    executed: str,
) -> ExportCheck:
    """``pairs``: maps ``[1, H, W]`` of the trained network and of the engine."""
    score = max(abs(float(t.max()) - float(e.max())) for t, e in pairs) / threshold
    pixel = max(float(np.abs(t - e).max()) for t, e in pairs) / threshold
    # Written so that NaN fails.
    if not (score <= tolerance and pixel <= tolerance):
        raise ExportError(
            f"the exported engine does not score as the trained network: over {len(pairs)} images "
            f"scores differ by up to {score:.2%} of the threshold and maps by {pixel:.2%}, allowed "
            f"is {tolerance:.2%}. Choose a higher precision (fp32 is exact)"
        )
    return ExportCheck(len(pairs), score, pixel, tolerance, executed)


def _training_facts(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "images": checkpoint.image_count,
        "images_sha256": checkpoint.images,
        "steps": checkpoint.step,
        "epochs": checkpoint.epoch,
        "last_epoch_losses": {
            term: means[-1] for term, means in checkpoint.losses.items() if means
        },
        "teacher_weights": checkpoint.teacher_weights,
        "imported": checkpoint.imported,
        "recipe": asdict(checkpoint.recipe),
    }


def _versions(precision: str) -> dict[str, str]:
    packages = ["rdx_fast", "torch", "onnx", "openvino"] + (["nncf"] if precision == "int8" else [])
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
