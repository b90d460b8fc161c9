"""Accuracy and speed of each precision:
``python -m rdx_fast.bench.precisions --help``.

Every execution of a bundle scores a test set in the same way as at export: natively if this CPU has
the precision, otherwise emulated. Those that the Detector runs on this CPU are then timed in turn,
round after round, so that a drift of the machine's speed affects all alike; ratios are of visits in
the same round.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.precision_table import HEADER, precision_lines
from rdx_fast.bench.result_rows import append, facts, spread
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.manifest import ExecutionSpec
from rdx_fast.datasets import LabelledImage, find_dataset, has_masks
from rdx_fast.detector import Detector
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.errors import EngineError
from rdx_fast.evaluation import ScoredSet, evaluate_scored
from rdx_fast.evaluation.scored import read_mask
from rdx_fast.export.check import open_execution
from rdx_fast.images import read_image
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.precision import choose
from rdx_fast.preprocess import to_input

PACKAGES = ("numpy", "onnxruntime", "openvino", "torch")
FP32 = ("fp32", "fp32")
VISIT = 3


class Checked(NamedTuple):
    """Scores of a test set from one execution.

    Attributes:
        execution: of the bundle
        checked_by: what ran it on this machine
        scored: the test set with its scores
    """

    execution: ExecutionSpec
    checked_by: str
    scored: ScoredSet


def precisions(
    bundle: Bundle, images: list[LabelledImage], threads: int, rounds: int
) -> list[dict[str, Any]]:
    """A row for each of the bundle's executions, float32 first.

    Args:
        bundle: an opened bundle
        images: the test set
        threads: CPU threads of the timed engine
        rounds: number of timing rounds

    Raises:
        ValueError: the bundle has no float32 network, with which all are compared
    """
    executions = _float32_first(bundle)
    masks = _masks(bundle, images)
    label = f"{bundle.path.name}: accuracy"
    checked = [
        _checked(bundle, execution, images, masks)
        for execution in track(executions, label, transient=True)
    ]
    timed = [e for e in executions if _runs_here(bundle, e)]
    times = _interleave(bundle, timed, threads, rounds)
    rows = []
    for found in checked:
        row = _accuracy(bundle, found, checked[0].scored)
        here = found.execution in timed
        ms = times[timed.index(found.execution)] if here else None
        row["p50_ms"] = None if ms is None else round(float(np.median(ms)), 3)
        row["times_fp32"] = None
        if ms is not None:
            row["times_fp32"] = spread(np.median(ms, axis=1) / np.median(times[0], axis=1), 3)
        rows.append(row)
    return rows


def _float32_first(bundle: Bundle) -> list[ExecutionSpec]:
    executions = sorted(bundle.manifest.executions, key=lambda e: (e.stored, e.executed) != FP32)
    if (executions[0].stored, executions[0].executed) != FP32:
        raise ValueError(
            f"{bundle.path} has no float32 network to compare with: export it with --precision auto"
        )
    return executions


def _masks(bundle: Bundle, images: list[LabelledImage]) -> list[NDArray[np.bool_]]:
    """Masks ``[H, W]`` of the images at the map's size; empty for a set without masks."""
    spec = bundle.manifest.map
    if not has_masks(images):
        return []
    return [read_mask(i.mask, spec.height, spec.width, i.mask_above) for i in images]


def _checked(
    bundle: Bundle,
    execution: ExecutionSpec,
    images: list[LabelledImage],
    masks: list[NDArray[np.bool_]],
) -> Checked:
    manifest = bundle.manifest
    file = bundle.network(execution.stored)
    runner, checked_by = open_execution(file, execution.stored, execution.executed)
    mapper = AnomalyMapper(manifest.map, manifest.scales)
    maps = []
    for image in images:
        (chunk,) = runner.run(to_input([read_image(image.path)], manifest.input))
        maps.append(mapper.maps(chunk.teacher, chunk.student)[0])
    threshold = execution.threshold.value
    scores = np.array([m.max() for m in maps], np.float32)
    scored = ScoredSet(
        name=manifest.name,
        engine=checked_by,
        threshold=threshold,
        images=images,
        scores=scores,
        verdicts=["NG" if score > threshold else "OK" for score in scores],
        maps=maps if masks else [],
        masks=masks,
    )
    return Checked(execution, checked_by, scored)


def _accuracy(bundle: Bundle, found: Checked, fp32: ScoredSet) -> dict[str, Any]:
    """Accuracy compared with float32.

    Score shifts are shares of float32's threshold; each execution is judged by its own threshold.
    """
    manifest, execution, scored = bundle.manifest, found.execution, found.scored
    shift = np.abs(scored.scores - fp32.scores) / fp32.threshold
    differ = (scored.scores > scored.threshold) != (fp32.scores > fp32.threshold)
    figures = evaluate_scored(scored, by_type=False).overall
    file = manifest.files[manifest.networks[execution.stored]]
    rates = {name: getattr(figures, name) for name in ("image_auroc", "pixel_auroc", "aupro")}
    return {
        "bundle_sha256": file.sha256,
        "method": manifest.method,
        "backbone": manifest.backbone,
        "stored": execution.stored,
        "executed": execution.executed,
        "checked_by": found.checked_by,
        "images": len(scored.images),
        "score_shift_largest": round(float(shift.max()), 6),
        "score_shift_mean": round(float(shift.mean()), 6),
        "verdicts_that_differ": int(differ.sum()),
        **{name: None if rate is None else round(rate, 4) for name, rate in rates.items()},
        "file_mb": round(file.bytes / 1e6, 2),
    }


def _runs_here(bundle: Bundle, execution: ExecutionSpec) -> bool:
    """Whether the Detector runs this execution on this CPU when the precision is requested."""
    try:
        chosen = choose(bundle.manifest, "openvino", capabilities(), execution.executed)
    except EngineError:
        return False
    return chosen.execution == execution


def _interleave(
    bundle: Bundle, executions: list[ExecutionSpec], threads: int, rounds: int
) -> NDArray[np.float64]:
    """Milliseconds of ``Detector.score`` for a frame of the network's input size, as an array
    ``[execution, round, call of a visit]``."""
    spec = bundle.manifest.input
    frame = drawn_frame(spec.height, spec.width)
    times = np.empty((len(executions), rounds, VISIT))
    with ExitStack() as stack:
        detectors = [
            stack.enter_context(
                Detector(bundle.path, "openvino", threads, precision=execution.executed)
            )
            for execution in executions
        ]
        for detector in detectors:
            detector.warmup()
        for number in track(range(rounds), f"{bundle.path.name}: time", transient=True):
            for step in range(len(detectors)):
                i = (step + number) % len(detectors)
                detectors[i].score(frame)  # not timed: the caches contain other data
                for call in range(VISIT):
                    begin = perf_counter()
                    detectors[i].score(frame)
                    times[i, number, call] = 1e3 * (perf_counter() - begin)
    return times


def main(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE... DATASET", help="Engine bundles, then the data set."),
    ],
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=3)] = 40,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Compare the precisions of engine bundles on a data set's test images."""
    *bundles, dataset = paths
    if not bundles:
        raise typer.BadParameter("give at least one bundle, followed by the data set")
    opened = [open_bundle(path) for path in bundles]
    try:
        for bundle in opened:  # check all before spending minutes on the first
            _float32_first(bundle)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    images = find_dataset(dataset).test()
    common = facts("precisions", PACKAGES) | {
        "dataset": dataset.name,
        "threads": threads,
        "rounds": rounds,
        "visit": VISIT,
    }
    rows = []
    for bundle in opened:
        rows += [common | row for row in precisions(bundle, images, threads, rounds)]
    cpu = ", ".join((common["cpu"], *common["cpu_features"]))
    table = Table(*HEADER, title=f"{dataset.name}; {cpu}; {threads} threads")
    for line in precision_lines(rows):
        table.add_row(*line)
    Console(width=180).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
