"""Accuracy of bundles, as rows for ``bench/results``:
``python -m rdx_fast.bench.accuracy --help``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.bundle import open_bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation import compare, evaluate_scored, score_set


def main(
    bundles: Annotated[
        list[Path], typer.Argument(help="Engine bundles; each is compared with the first.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Category folder with a test set.")],
    output: Annotated[Path, typer.Option(help="JSON lines to append to.")],
) -> None:
    """Append the figures of ``rdx-fast evaluate --compare``, and how the bundles were trained."""
    images = find_dataset(dataset).test()
    common = facts("accuracy", ("openvino", "numpy", "scikit-learn"))
    rows: list[dict[str, Any]] = []
    first = None
    for path in bundles:
        with Detector(open_bundle(path).path) as detector:
            scored = score_set(detector, images)
            manifest = detector.manifest
        first = first or scored
        rows.append(
            common
            | {
                **network_facts(detector),
                "name": path.parent.name,
                "dataset": dataset.name,
                "training": manifest.training,
                "figures": asdict(evaluate_scored(scored, by_type=False).overall),
                "against_first": {
                    d.figure: [d.difference, d.low, d.high] for d in compare(first, scored)
                },
            }
        )
    append(output, rows)


if __name__ == "__main__":
    typer.run(main)
