"""Train on good parts, export an engine bundle, and say how well it tells defects apart.

python examples/train_and_export.py category run part.rdx --epochs 40
"""

import argparse
import sys
from pathlib import Path

from rdx_fast import Detector, RdxError
from rdx_fast.datasets import find_dataset
from rdx_fast.evaluation import Evaluation, evaluate
from rdx_fast.export import export_bundle
from rdx_fast.training import Progress, Recipe, train


def tell(progress: Progress) -> None:
    if progress.step % 50 == 0 or progress.step == progress.total_steps:
        loss = sum(progress.losses.values())
        print(f"batch {progress.step} of {progress.total_steps}: loss {loss:.4f}")


def make(
    category: Path, run: Path, bundle: Path, recipe: Recipe, precision: str, overwrite: bool
) -> Evaluation:
    """``category``: see ``rdx_fast.datasets``."""
    data = find_dataset(category)
    data.test()  # so that a test set that is not whole is told before the training
    # A run that was killed goes on; one that is finished is only exported.
    checkpoint = train(recipe, data.train(), run, resume=True, on_step=tell)
    # The threshold is set from good parts that were not trained on, or it would be too low.
    good = [Path(name) for name in checkpoint.held_out]
    made = export_bundle(
        checkpoint, good, bundle, precision=precision, overwrite=overwrite, on_stage=print
    )
    with Detector(made.path) as detector:
        return evaluate(detector, category)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train, export, evaluate.")
    parser.add_argument("category", type=Path, help="folder with train/good and test/<defect>")
    parser.add_argument("run", type=Path, help="folder for the checkpoint")
    parser.add_argument("bundle", type=Path, help="engine bundle to write")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 256), help="height, width")
    parser.add_argument("--precision", default="auto", help="what the bundle holds")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle")
    given = parser.parse_args()
    try:
        recipe = Recipe(
            backbone="efficientnet_lite0",  # made for CPUs
            image_size=tuple(given.image_size),
            epochs=given.epochs,
            holdout=0.2,
        )
        places = (given.category, given.run, given.bundle)
        figures = make(*places, recipe, given.precision, given.overwrite).overall
    except (RdxError, ValueError) as error:  # ValueError: options out of range
        sys.exit(f"error: {error}")
    auroc, good, defective = figures.image_auroc, figures.good, figures.defective
    print(f"AUROC {auroc:.4f} on {good} good and {defective} defective parts")
    print(f"{figures.escapes} defects passed, {figures.false_rejects} good parts were rejected")
