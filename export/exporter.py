"""Export: writes networks, thresholds and checks against the trained network as one bundle."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle, describe_file, new_bundle, open_bundle, write_manifest
from rdx_fast.bundle.bundle_history import exported_history, verify_bundle
from rdx_fast.bundle.history import system_user
from rdx_fast.bundle.manifest import (
    BORDER,
    FORMAT,
    ExecutionSpec,
    InputSpec,
    LeftOut,
    Manifest,
    MapSpec,
    ScaleSpec,
    execution_label,
)
from rdx_fast.bundle.signature import MANIFEST, SigningKey
from rdx_fast.errors import EngineError, ExportError
from rdx_fast.export.check import (
    CONTENTS,
    TOLERANCE,
    NetworkMaps,
    Runner,
    TrainedMaps,
    allowed,
    check_execution,
    open_execution,
)
from rdx_fast.export.gpu import FOR_GPUS, quantize_for_gpus
from rdx_fast.export.graph import output_shapes, to_onnx
from rdx_fast.export.quantize import quantize
from rdx_fast.limits.calibration import calibrate_threshold, save_calibration
from rdx_fast.limits.limits import Limits
from rdx_fast.models import ReverseDistillation
from rdx_fast.pipelines.cpu import CpuPipeline
from rdx_fast.pipelines.tiled import in_tiles
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.recipe.frame_check import FrameStatistics
from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.data import ImageDataset, input_spec
from rdx_fast.training.frames import Frames

_CALIBRATION_IMAGES = 128
_RANGE_IMAGES = 16
_MAP_BYTES = 2**28
Item = TypeVar("Item")


def network_file(stored: str) -> str:
    """File name of a network stored in a precision."""
    return f"network_{stored}.onnx"


def export_bundle(
    checkpoint: Checkpoint,
    good: Sequence[Path],
    output: Path,
    *,
    precision: str = "auto",
    fusion: str = "add",
    sigma: float = 4.0,
    false_reject_rate: float = 0.02,
    dark_field: bool = False,
    check_images: int = 16,
    tolerance: Mapping[str, tuple[float, float]] = TOLERANCE,
    name: str | None = None,
    overwrite: bool = False,
    user: str | None = None,
    sign_key: Path | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Write an engine bundle from a checkpoint and return it opened.

    Args:
        checkpoint: of a finished or interrupted run, or imported
        good: images of good parts that were not trained on, read as those of the run. They are used
            to calibrate a threshold for each executed precision (see ``calibrate_threshold``), to
            measure the ranges of int8 and fp8, and to check the exported networks against the
            trained one
        output: folder of the bundle, such as ``part.rdx``
        precision: a key of ``CONTENTS``. "auto" writes every network that is the fastest on some
            machine; those that fail their check are left out, with the reason in the manifest. For
            a single precision, a failed check is an error
        fusion: "add" or "mul", how the scales are combined
        sigma: of the Gaussian, in map pixels; 4 as published
        false_reject_rate: share of good parts that may be rejected, in (0, 1)
        dark_field: see ``FrameStatistics.of_files``
        check_images: number of images whose maps are compared; fewer where these would take more
            than 256 MB
        tolerance: largest differences from the trained network, see ``TOLERANCE``
        name: of the bundle, None for the name of ``output`` without suffix
        overwrite: replace ``output`` if it is a bundle; its history is continued
        user: named in the history; None for the system's name of the user
        sign_key: file of the private key that signs the bundle; None leaves it unsigned
        on_stage: called with the name of each stage as it starts

    Raises:
        ExportError: scores or maps differ by more than ``tolerance``
        EngineError: a network is rejected by what executes it, or its execution fails
        ImageError: an image cannot be read, or does not fit the run's pixel format, crop, levels or
            tiles
        CalibrationError: a good image shows nothing
        BundleError: ``output`` exists, and is not a bundle or ``overwrite`` is false, or it is one
            that is damaged or not what its history ends with; or the key cannot be read
        MissingDependencyError: a package for int8 or fp8 is not installed
        ValueError: an argument is out of range
    """
    _check_arguments(precision, good)
    key = None if sign_key is None else SigningKey.read(sign_key)
    if overwrite and (output / MANIFEST).is_file():  # as it is read again after minutes of work
        verify_bundle(open_bundle(output))
    spec, options = input_spec(checkpoint.recipe), checkpoint.recipe.frame_options
    recipe = checkpoint.recipe.inspection
    network = checkpoint.build()
    dataset = ImageDataset(Frames(good, options), spec)
    frames = FrameStatistics.of_files(good, options.crop, options.levels, dark_field)

    with new_bundle(output, overwrite) as folder:
        scales = tuple(ScaleSpec(*shape) for shape in output_shapes(network, spec))
        map_spec = MapSpec(spec.height, spec.width, fusion, sigma, truncate=4.0, border=BORDER)
        stored = list(dict.fromkeys(s for s, _ in CONTENTS[precision]))
        _write_networks(network, spec, stored, len(scales), folder, dataset, on_stage)

        on_stage("trained network")
        mapper = AnomalyMapper(map_spec, scales)

        def maps(runner: Runner) -> NetworkMaps:
            windows = CpuPipeline("export", runner.run, spec, mapper)
            pipeline = in_tiles(windows, options.tiles, mapper.size, mapper.epilogue)
            return NetworkMaps.of(pipeline, dataset.frames, compared)

        compared = set(_spread(range(len(good)), min(check_images, _most_maps(dataset))))
        trained = maps(TrainedMaps(network))
        trained_threshold = calibrate_threshold(trained.scores, false_reject_rate)

        executions: list[ExecutionSpec] = []
        calibration: dict[str, NDArray[np.float32]] = {}
        left_out: list[LeftOut] = []
        for which in CONTENTS[precision]:
            label = execution_label(*which)
            on_stage(f"threshold and check of {label}")
            try:
                runner, checked_by = open_execution(folder / network_file(which[0]), *which)
                found = maps(runner)
                if not np.isfinite(found.scores).all():
                    raise ExportError(
                        f"scores of {label} are not finite: values of the network exceed the range "
                        f"of {which[1]}; choose another precision, such as fp32"
                    )
                threshold = calibrate_threshold(found.scores, false_reject_rate)
                check = check_execution(
                    label,
                    allowed(tolerance, *which),
                    checked_by,
                    trained,
                    found,
                    trained_threshold,
                    threshold,
                )
            except (ExportError, EngineError) as error:
                if precision != "auto" or which == ("fp32", "fp32"):
                    raise
                reason = str(error).replace(f"{folder}/", "")  # the folder is temporary
                left_out.append(LeftOut(*which, reason))
                continue
            executions.append(
                ExecutionSpec(*which, (Limits.single(threshold),), recipe.inspected_sha256(), check)
            )
            calibration[label] = np.sort(found.scores)[:, None]

        kept = [s for s in stored if any(e.stored == s for e in executions)]
        for unused in set(stored) - set(kept):
            (folder / network_file(unused)).unlink()
        save_calibration(folder / "calibration-0.npz", calibration)
        manifest = Manifest(
            format=FORMAT,
            name=name or output.stem,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            method=checkpoint.recipe.method,
            backbone=checkpoint.recipe.backbone,
            input=spec,
            scales=scales,
            map=map_spec,
            recipe=recipe,
            frames={e.label: frames for e in executions},
            revision=0,
            calibration="calibration-0.npz",
            history=None,
            networks={s: network_file(s) for s in kept},
            executions=tuple(executions),
            left_out=tuple(left_out),
            files={file.name: describe_file(file) for file in sorted(folder.iterdir())},
            training=_training_facts(checkpoint),
            versions=_versions(not {"int8", *FOR_GPUS}.isdisjoint(kept)),
        )
        history = exported_history(output, user or system_user(), manifest)
        _write_manifest(manifest, history, folder, key)
    return open_bundle(output)


def _write_manifest(manifest: Manifest, history: str, folder: Path, key: SigningKey | None) -> None:
    """Write the history, and the manifest with it, signed if there is a key."""
    file = folder / "history-0.jsonl"
    file.write_text(history, encoding="utf-8")
    files = manifest.files | {file.name: describe_file(file)}
    manifest = replace(manifest, history=file.name, files=files)
    write_manifest(manifest, folder)
    if key is not None:
        key.sign_manifest(folder, manifest.to_json().encode())


def _check_arguments(precision: str, good: Sequence[Path]) -> None:
    if precision not in CONTENTS:
        raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(CONTENTS)}")
    if not good:
        raise ValueError(
            "no good images were given: the threshold and the check need at least one (good=..., "
            "--good FOLDER)"
        )


def _write_networks(
    network: ReverseDistillation,
    spec: InputSpec,
    stored: Sequence[str],
    scales: int,
    folder: Path,
    dataset: ImageDataset,
    on_stage: Callable[[str], None],
) -> None:
    """Write each network to its own file."""

    def inputs(most: int) -> Iterator[NDArray[np.float32]]:
        return (dataset.load(i)[None] for i in _spread(range(len(dataset)), most))

    on_stage("network")
    graphs: dict[str, onnx.ModelProto] = {}
    for_gpus = [s for s in stored if s in FOR_GPUS]
    if "fp16" in stored or for_gpus:
        graphs["fp16"] = to_onnx(network, spec, "fp16", scales, inputs(_RANGE_IMAGES))
    if set(stored) - {"fp16"}:
        graphs["fp32"] = to_onnx(network, spec, "fp32", scales)
    if "int8" in stored or for_gpus:
        on_stage("quantisation")
        images = inputs(_CALIBRATION_IMAGES)
        graphs["int8"] = quantize(graphs["fp32"], images, correct_bias="int8" in stored)
        for name in for_gpus:
            graphs[name] = quantize_for_gpus(graphs["fp16"], graphs["int8"], name)
    for name in stored:
        onnx.save(graphs[name], folder / network_file(name))


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of the items, evenly spread over them."""
    count = min(most, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _most_maps(dataset: ImageDataset) -> int:
    """How many maps of the largest image of a data set take ``_MAP_BYTES``, at least 1."""
    pixels = dataset.spec.height * dataset.spec.width
    if dataset.windows is not None:
        pixels = max(window.height * window.width for _, window in dataset.windows)
    return max(1, _MAP_BYTES // (4 * pixels))


def _training_facts(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "images": checkpoint.image_count,
        "images_sha256": checkpoint.images,
        "steps": checkpoint.step,
        "epochs": checkpoint.epoch,
        "last_epoch_losses": {
            term: means[-1] for term, means in checkpoint.losses.items() if means
        },
        "network_sha256": checkpoint.network_sha256(),
        "started_from": checkpoint.started_from,
        "teacher_weights": checkpoint.teacher_weights,
        "imported": checkpoint.imported,
        "recipe": asdict(checkpoint.recipe),
    }


def _versions(quantised: bool) -> dict[str, str]:
    packages = ["rdx_fast", "torch", "onnx", "openvino"] + (["nncf"] if quantised else [])
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
