"""Methods against each other: trained, exported and evaluated, once for each seed.

The headline is the network as training left it. Figures of the best epoch, chosen by looking at the
test set, flatter; they are computed only when asked for, and every output calls them so.
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

from rdx_fast.datasets import LabelledImage, find_dataset
from rdx_fast.detector import Detector
from rdx_fast.errors import CheckpointError
from rdx_fast.evaluation.evaluate import Figures, evaluate_scored
from rdx_fast.evaluation.metrics import FPR_LIMIT
from rdx_fast.evaluation.scored import MASK_THRESHOLD, score_set
from rdx_fast.export import export_bundle
from rdx_fast.training import Checkpoint, Progress, Recipe, load_checkpoint, train

RESULT = "result.json"
FIGURES = ("image_auroc", "pixel_auroc", "aupro", "aupro_per_image_mean", "image_ap", "pixel_ap")


@dataclass(frozen=True, slots=True)
class OracleEpoch:
    """The epoch with the best image AUROC **on the test set** among ``candidates`` checkpoints."""

    epoch: int
    candidates: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class ExperimentRun:
    """One method and seed: ``figures`` of the last epoch, ``oracle_epoch`` if it was asked for,
    ``losses`` by term and epoch, ``waiting`` the share of the time spent waiting for data."""

    method: str
    seed: int
    steps: int
    epochs: int
    minutes: float
    waiting: float
    losses: dict[str, list[float]]
    figures: Figures
    oracle_epoch: OracleEpoch | None


@dataclass(frozen=True, slots=True)
class Experiment:
    """All runs on one data set, and what the pixel figures were computed with."""

    dataset: str
    layout: str
    mask_threshold: float
    aupro_fpr_limit: float
    runs: list[ExperimentRun]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def summary(self, oracle: bool = False) -> dict[str, dict[str, tuple[float, float]]]:
        """By method and figure, mean and standard deviation over the seeds (0, meaning nothing, for
        one seed).

        ``oracle``: of the oracle epochs instead of the last ones.
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
    device: str = "cpu",
    max_minutes: float | None = None,
    oracle_epoch: bool = False,
    checkpoint_every: int = 5,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Experiment:
    """Train every recipe with every seed on a category folder and evaluate it on its test set.

    ``recipes``: by the names that the tables bear. ``max_minutes``: of training, for each run.
    Seeds take turns, so that a machine that slows down hurts all methods alike. Everything is
    written below ``output``, ``experiment.json`` last. A run that is finished there is not
    repeated.
    """
    dataset = find_dataset(root)
    images, test = dataset.train(), dataset.test()  # nothing missing may show after hours
    setting = {
        "dataset": str(root.resolve()),
        "weights": str(weights),
        "textures": len(textures),
        "max_minutes": max_minutes,
        "oracle_epoch": oracle_epoch,
    }
    runs = []
    for seed in seeds:
        for name, recipe in recipes.items():
            folder = output / f"{name.replace(':', '-')}-seed{seed}"
            seeded = replace(recipe, seed=seed)
            if (folder / RESULT).is_file():
                run = _finished(folder, seeded, setting)
            else:
                on_stage(f"{name}, seed {seed}: training")
                run = _run(
                    name,
                    seeded,
                    images,
                    test,
                    folder,
                    weights=weights,
                    # Methods that make no anomalies take no textures.
                    textures=textures if recipe.makes_anomalies else (),
                    device=device,
                    max_minutes=max_minutes,
                    oracle_epoch=oracle_epoch,
                    checkpoint_every=checkpoint_every,
                    on_stage=on_stage,
                    on_step=on_step,
                )
                content = {"recipe": asdict(seeded), "setting": setting, "run": asdict(run)}
                (folder / RESULT).write_text(json.dumps(content, indent=1) + "\n")
            runs.append(run)
    experiment = Experiment(root.name, dataset.layout, MASK_THRESHOLD, FPR_LIMIT, runs)
    (output / "experiment.json").write_text(json.dumps(experiment.to_dict(), indent=1) + "\n")
    return experiment


def _run(
    name: str,
    recipe: Recipe,
    images: Sequence[Path],
    test: Sequence[LabelledImage],
    folder: Path,
    *,
    oracle_epoch: bool,
    on_stage: Callable[[str], None],
    on_step: Callable[[Progress], None],
    **options: Any,
) -> ExperimentRun:
    shutil.rmtree(folder, ignore_errors=True)  # an unfinished run had another share of the time
    folder.mkdir(parents=True)
    snapshots: list[tuple[int, Path]] = []
    waiting = 0.0

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
    checkpoint = train(recipe, images, folder, on_step=step, on_checkpoint=keep, **options)
    minutes = (time.monotonic() - started) / 60
    on_stage(f"{name}, seed {recipe.seed}: evaluating the last epoch")
    figures = _figures(checkpoint, images, test, folder / "part.rdx", name)
    oracle = None
    if oracle_epoch:
        on_stage(f"{name}, seed {recipe.seed}: evaluating {len(snapshots)} checkpoints")
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
    )


def _figures(
    checkpoint: Checkpoint,
    images: Sequence[Path],
    test: Sequence[LabelledImage],
    bundle: Path,
    name: str,
) -> Figures:
    # None of the figures that are compared depends on the threshold, so the training images will
    # do to set it. Methods are compared, not what quantisation does to them.
    export_bundle(checkpoint, images, bundle, precision="fp32", name=name, overwrite=True)
    with Detector(bundle) as detector:
        return evaluate_scored(score_set(detector, test), False).overall


def _finished(folder: Path, recipe: Recipe, setting: dict[str, Any]) -> ExperimentRun:
    content = json.loads((folder / RESULT).read_text())
    # Through JSON, which knows no tuples.
    wanted = json.loads(json.dumps({"recipe": asdict(recipe), "setting": setting}))
    changed = [
        f"{key}: {content[part].get(key)} before, {value} now"
        for part, values in wanted.items()
        for key, value in values.items()
        if content[part].get(key) != value
    ]
    if changed:
        raise CheckpointError(
            f"{folder} holds a run of another kind ({'; '.join(changed)}): choose another folder "
            f"for the output, or remove that one"
        )
    return dacite.from_dict(ExperimentRun, content["run"], dacite.Config(strict=True))
