"""What benchmarks of recipes share: their options, the bundle, detectors under other recipes."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rdx_fast import Detector
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.result_rows import facts, network_facts
from rdx_fast.engines import Engine
from rdx_fast.recipe.recipe import InspectionRecipe

GivenBundle = Annotated[
    Path | None, typer.Argument(help="Engine bundle. Default: an untrained network.")
]
Backbone = Annotated[str, typer.Option(help="Of the untrained network.")]
Backend = Annotated[Literal["openvino", "torch"], typer.Option()]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of OpenVINO.")]
_PACKAGES = {"openvino": ("openvino", "numpy"), "torch": ("torch", "triton", "numpy")}


@contextmanager
def measured_bundle(given: Path | None, backbone: str, backend: str) -> Iterator[Path]:
    """The given bundle, or one of an untrained network that the backend runs."""
    with tempfile.TemporaryDirectory() as folder:
        stored = "fp32" if backend == "openvino" else "fp16"
        yield given or generated_bundle(backbone, stored, Path(folder)).path


def row_facts(
    bench: str, backend: str, detector: Detector, threads: int | None, rounds: int
) -> dict[str, Any]:
    """What all rows of a run state; rows of a GPU are those of another benchmark."""
    name, about = bench, {}
    if backend == "torch":
        import torch

        name, about = f"{bench}-gpu", {"gpu": torch.cuda.get_device_name()}
    about = facts(name, _PACKAGES[backend]) | about | network_facts(detector)
    return about | {"engine": detector.description, "threads": threads, "rounds": rounds}


def under(recipe: InspectionRecipe, engine: Engine, **options: Any) -> Detector:
    """A detector of the same engine under another recipe, by the limits of the engine's own."""
    changed = copy.copy(engine)
    changed.manifest = replace(engine.manifest, recipe=recipe)
    return Detector(changed, **{"limits": engine.execution.limits, **options})
