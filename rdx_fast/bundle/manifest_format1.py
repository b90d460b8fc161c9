"""Manifests of format 1, with one precision and one threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rdx_fast.bundle.manifest import (
    EXECUTIONS,
    FORMAT,
    PRECISIONS,
    ExecutionSpec,
    ExportCheck,
    FileSpec,
    InputSpec,
    Manifest,
    MapSpec,
    ScaleSpec,
)
from rdx_fast.bundle.manifest_format2 import ThresholdFormat2
from rdx_fast.recipe.recipe import InspectionRecipe

_SYMMETRIC = "network_symmetric.onnx"


@dataclass(frozen=True, slots=True)
class _Check:
    images: int
    score_difference: float
    map_difference: float
    tolerance: float
    executed_precision: str


@dataclass(frozen=True, slots=True)
class ManifestFormat1:
    """Contents of ``manifest.json`` of format 1.

    Attributes:
        format: 1
        name: of the bundle
        created: time of the export
        method: of the network
        backbone: of the network
        precision: the only one, see ``manifest.PRECISIONS``
        input: the network's input
        scales: of the features, finest first
        map: how the anomaly map is computed
        threshold: for every execution
        network: file name
        files: every file of the bundle but the manifest, by name
        check: comparison with the trained network
        training: facts about the training
        versions: of Python and the packages that exported the bundle

    Raises:
        ValueError: unknown precision
    """

    format: int
    name: str
    created: str
    method: str
    backbone: str
    precision: str
    input: InputSpec
    scales: tuple[ScaleSpec, ...]
    map: MapSpec
    threshold: ThresholdFormat2
    network: str
    files: dict[str, FileSpec]
    check: _Check
    training: dict[str, Any]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, wanted one of {PRECISIONS}")

    def upgraded(self) -> Manifest:
        """Convert to the current format; every execution gets the one threshold."""
        executions: tuple[tuple[str, str], ...] = EXECUTIONS[self.precision]
        if _SYMMETRIC not in self.files:
            executions = tuple(e for e in executions if e[0] != "int8_symmetric")
        check = ExportCheck(
            checked_by=f"openvino, in {self.check.executed_precision}, by the version before",
            images=self.check.images,
            map_images=self.check.images,
            score_difference=self.check.score_difference,
            score_tolerance=self.check.tolerance,
            map_difference=self.check.map_difference,
            map_tolerance=self.check.tolerance,
            score_difference_of_spread=None,
            verdicts_that_differ=None,
        )
        recipe = InspectionRecipe()
        limits = self.threshold.limits()
        return Manifest(
            format=FORMAT,
            name=self.name,
            created=self.created,
            method=self.method,
            backbone=self.backbone,
            input=self.input,
            scales=self.scales,
            map=self.map,
            recipe=recipe,
            frames={},
            revision=0,
            calibration=None,
            history=None,
            networks={
                stored: _SYMMETRIC if stored == "int8_symmetric" else self.network
                for stored, _ in executions
            },
            executions=tuple(
                ExecutionSpec(*e, limits, recipe.inspected_sha256(), check) for e in executions
            ),
            left_out=(),
            files=self.files,
            training=self.training,
            versions=self.versions,
        )
