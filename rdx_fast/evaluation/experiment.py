"""Compares methods: trains, exports and evaluates each of them with several seeds.

The main results are of the last epoch. Results of the best epoch are too optimistic, because it is
chosen on the test set: they are computed only on request, and every output labels them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dacite
import numpy as np

from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.errors import CheckpointError
from rdx_fast.evaluation.checked import BadImage, CheckedSet
from rdx_fast.evaluation.curves import FPR_LIMIT
from rdx_fast.evaluation.evaluate import Figures, evaluate_scored
from rdx_fast.evaluation.inputs import check_inputs
from rdx_fast.evaluation.scored import MASK_THRESHOLD, score_checked
from rdx_fast.export import export_bundle
from rdx_fast.training import Checkpoint, Progress, Recipe, load_checkpoint, train
from rdx_fast.training.networks import check_weights
from rdx_fast.training.published import mvtec_category

RESULT = "result.json"
FIGURES = ("image_auroc", "pixel_auroc", "aupro", "aupro_per_image_mean", "image_ap", "pixel_ap")


@dataclass(frozen=True, slots=True)
class OracleEpoch:
    """The epoch with the best image AUROC **on the test set**.

    Attributes:
        epoch: the epoch
        candidates: number of checkpoints that it was chosen from
        figures: metrics of that epoch
    """

    epoch: int
    candidates: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class ExperimentRun:
    """The run of one method with one seed.

    Attributes:
        method: name of the method in tables
        seed: seed of the training
        steps: batches trained
        published_steps: batches of the method's published length; 0 where it was not recorded
        epochs: whole epochs trained
        minutes: duration of the training, in minutes
        waiting: share of that time spent waiting for data, 0 to 1
        losses: mean loss of each epoch, by term
        figures: metrics of the last epoch
        oracle_epoch: the epoch that is best on the test set; None if it was not requested
    """

    method: str
    seed: int
    steps: int
    epochs: int
    minutes: float
    waiting: float
    losses: dict[str, list[float]]
    figures: Figures
    oracle_epoch: OracleEpoch | None
    published_steps: int = 0


@dataclass(frozen=True, slots=True)
class Experiment:
    """All runs on one data set.

    Attributes:
        dataset: name of the category folder
        layout: layout of the data set
        mask_threshold: share of a map pixel that the mask must cover to count as defective
        aupro_fpr_limit: false-positive rate up to which AUPRO is integrated
        runs: the runs, by seed and method
        left_out: test images that could not be used, and why
        left_out_training: training images and textures that could not be used, and why
    """

    dataset: str
    layout: str
    mask_threshold: float
    aupro_fpr_limit: float
    runs: list[ExperimentRun]
    left_out: Sequence[BadImage] = ()
    left_out_training: Sequence[BadImage] = ()

    def to_dict(self) -> dict[str, Any]:
        """The experiment as JSON data."""
        return asdict(self)

    def summary(self, oracle: bool = False) -> dict[str, dict[str, tuple[float, float]]]:
        """Compute mean and standard deviation of each metric over the seeds.

        Args:
            oracle: use the oracle epochs instead of the last ones

        Returns:
            Mean and standard deviation, by method and metric. With one seed the standard deviation
            is 0 and has no meaning.
        """
        found = {}
        for method in dict.fromkeys(run.method for run in self.runs):
            figures = [
                run.oracle_epoch.figures if oracle and run.oracle_epoch else run.figures
                for run in self.runs
                if run.method == method
            ]
            found[method] = {
                name: (float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1))))
                for name in FIGURES
                if None not in (values := [getattr(f, name) for f in figures])
            }
        return found


def run_experiment(
    root: Path,
    output: Path,
    recipes: dict[str, Recipe],
    seeds: Sequence[int],
    *,
    weights: Path | None = None,
    textures: Sequence[Path] = (),
    foreground: Path | None = None,
    device: str = "cpu",
    max_minutes: float | None = None,
    oracle_epoch: bool = False,
    checkpoint_every: int = 5,
    skip_bad: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Experiment:
    """Train every recipe with every seed on a category folder and evaluate it on its test set.

    All recipes are run with one seed before the next seed, so that a machine that slows down
    affects all methods alike. Everything is written below ``output``, ``experiment.json`` last.
    A run that is already finished there is not repeated.

    Args:
        root: the category folder, see ``rdx_fast.datasets``
        output: folder for runs, bundles and results
        recipes: recipes by the name of the method in tables; their seeds are replaced
        seeds: seeds of the runs
        weights: teacher weights; None for the published ones
        textures: texture images for synthetic anomalies; empty for patches of the training images
        foreground: mask files for the recipes whose foreground is "files"
        device: device to train on, "auto", "cpu", "cuda" or "cuda:N"
        max_minutes: time limit of each run's training in minutes; None for no limit
        oracle_epoch: also evaluate all checkpoints and report the best one on the test set
        checkpoint_every: epochs between checkpoints
        skip_bad: leave out images and textures that cannot be used instead of raising; images
            without a usable foreground mask too
        on_stage: called with the name of each stage
        on_step: called after each training step

    Returns:
        The results of all runs.

    Raises:
        DatasetError: the layout is unknown or incomplete, or images, textures or masks cannot be
            used, all of which the message lists
        WeightsError: the teacher's weights cannot be loaded, or not be trained by a method
        CheckpointError: ``output`` holds a run with other settings
    """
    dataset = find_dataset(root)
    on_stage("checking the images")
    given = check_inputs(dataset, list(recipes.values()), textures, foreground, skip_bad)
    for recipe in {(r.method, r.backbone): r for r in recipes.values()}.values():
        check_weights(recipe, weights)
    setting = {
        "dataset": str(root.resolve()),
        "weights": str(weights),
        "textures": len(given.textures),
        "foreground": str(foreground),
        "max_minutes": max_minutes,
        "oracle_epoch": oracle_epoch,
        "left_out": [bad.path for bad in (*given.test.left_out, *given.left_out)] or None,
    }
    runs: list[ExperimentRun] = []
    for seed in seeds:
        for name, recipe in recipes.items():
            folder = output / f"{name.replace(':', '-')}-seed{seed}"
            seeded = replace(recipe, seed=seed)
            if (folder / RESULT).is_file():
                run = _finished(folder, seeded, setting)
            else:
                run = _run(
                    name,
                    seeded,
                    given.images,
                    given.test,
                    folder,
                    weights=weights,
                    # Methods without synthetic anomalies accept no textures and masks.
                    textures=given.textures if recipe.makes_anomalies else (),
                    foreground=foreground if recipe.foreground == "files" else None,
                    device=device,
                    max_minutes=max_minutes,
                    oracle_epoch=oracle_epoch,
                    checkpoint_every=checkpoint_every,
                    category=mvtec_category(root),
                    which=f"run {len(runs) + 1} of {len(seeds) * len(recipes)}",
                    on_stage=on_stage,
                    on_step=on_step,
                )
                content = {"recipe": asdict(seeded), "setting": setting, "run": asdict(run)}
                (folder / RESULT).write_text(json.dumps(content, indent=1) + "\n")
            runs.append(run)
    experiment = Experiment(
        root.name,
        dataset.layout,
        MASK_THRESHOLD,
        FPR_LIMIT,
        runs,
        given.test.left_out,
        given.left_out,
    )
    (output / "experiment.json").write_text(json.dumps(experiment.to_dict(), indent=1) + "\n")
    return experiment


def _run(
    name: str,
    recipe: Recipe,
    images: Sequence[Path],
    test: CheckedSet,
    folder: Path,
    *,
    oracle_epoch: bool,
    which: str,
    category: str | None,
    on_stage: Callable[[str], None],
    on_step: Callable[[Progress], None],
    **options: Any,
) -> ExperimentRun:
    shutil.rmtree(folder, ignore_errors=True)  # the time limit applies to a whole run
    folder.mkdir(parents=True)
    snapshots: list[tuple[int, Path]] = []
    waiting = 0.0

    def stage(what: str) -> None:
        on_stage(f"{which}: {name}, seed {recipe.seed}: {what}")

    def keep(checkpoint: Checkpoint) -> None:
        if oracle_epoch:
            snapshot = folder / f"step-{checkpoint.step:06}.pt"
            shutil.copy(folder / "checkpoint.pt", snapshot)
            snapshots.append((checkpoint.epoch, snapshot))

    def step(progress: Progress) -> None:
        nonlocal waiting
        waiting = progress.waiting
        on_step(progress)

    started = time.monotonic()
    checkpoint = train(
        recipe, images, folder, on_stage=stage, on_step=step, on_checkpoint=keep, **options
    )
    minutes = (time.monotonic() - started) / 60
    stage("exporting and evaluating the last epoch")
    figures = _figures(checkpoint, images, test, folder / "part.rdx", name)
    oracle = None
    if oracle_epoch:
        stage(f"exporting and evaluating {len(snapshots)} checkpoints")
        candidates = [
            (epoch, _figures(load_checkpoint(path), images, test, folder / "oracle.rdx", name))
            for epoch, path in snapshots[:-1]
        ]
        candidates.append((checkpoint.epoch, figures))  # the last snapshot is the run itself
        epoch, best = max(candidates, key=lambda c: c[1].image_auroc)
        oracle = OracleEpoch(epoch, len(candidates), best)
    return ExperimentRun(
        method=name,
        seed=recipe.seed,
        steps=checkpoint.step,
        epochs=checkpoint.epoch,
        minutes=minutes,
        waiting=waiting,
        losses=checkpoint.losses,
        figures=figures,
        oracle_epoch=oracle,
        published_steps=recipe.published_steps(checkpoint.steps_per_epoch, category),
    )


def _figures(
    checkpoint: Checkpoint,
    images: Sequence[Path],
    test: CheckedSet,
    bundle: Path,
    name: str,
) -> Figures:
    # None of the compared metrics depends on the threshold, so the training images suffice to set
    # it. Methods are compared, not the effect of quantisation on them.
    export_bundle(checkpoint, images, bundle, precision="fp32", name=name, overwrite=True)
    with Detector(bundle, check_frames=False) as detector:
        return evaluate_scored(score_checked(detector, test), False).overall


def _finished(folder: Path, recipe: Recipe, setting: dict[str, Any]) -> ExperimentRun:
    content = json.loads((folder / RESULT).read_text())
    # Through JSON, because it turns tuples into lists.
    wanted = json.loads(json.dumps({"recipe": asdict(recipe), "setting": setting}))
    changed = [
        f"{key}: {content[part].get(key)} before, {value} now"
        for part, values in wanted.items()
        for key, value in values.items()
        if content[part].get(key) != value
    ]
    if changed:
        raise CheckpointError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another "
            f"output folder, or remove that one"
        )
    return dacite.from_dict(ExperimentRun, content["run"], dacite.Config(strict=True))
