"""Manifests of format 2, with one threshold for each execution and no recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from rdx_fast.bundle.manifest import (
    FORMAT,
    ExecutionSpec,
    ExportCheck,
    FileSpec,
    InputSpec,
    LeftOut,
    Manifest,
    MapSpec,
    ScaleSpec,
)
from rdx_fast.limits.limits import Limits, ThresholdSpec
from rdx_fast.recipe.recipe import InspectionRecipe


@dataclass(frozen=True, slots=True)
class ThresholdFormat2:
    """The threshold between OK and NG of formats 1 and 2. Attributes: see ``ThresholdSpec``."""

    value: float
    false_reject_rate: float
    expected_false_reject_rate: float
    good_images: int

    def limits(self) -> tuple[Limits, ...]:
        """The threshold as both limits of the whole frame. Raises ``ValueError`` as they do."""
        return (Limits.single(ThresholdSpec(method="conformal", **asdict(self))),)


@dataclass(frozen=True, slots=True)
class _Execution:
    stored: str
    executed: str
    threshold: ThresholdFormat2
    check: ExportCheck


@dataclass(frozen=True, slots=True)
class ManifestFormat2:
    """Contents of ``manifest.json`` of format 2. Attributes: see ``Manifest``."""

    format: int
    name: str
    created: str
    method: str
    backbone: str
    input: InputSpec
    scales: tuple[ScaleSpec, ...]
    map: MapSpec
    networks: dict[str, str]
    executions: tuple[_Execution, ...]
    left_out: tuple[LeftOut, ...]
    files: dict[str, FileSpec]
    training: dict[str, Any]
    versions: dict[str, str]

    def upgraded(self) -> Manifest:
        """Convert to the current format: the whole frame is inspected, and each execution's
        threshold is both its limits. Raises ``ValueError`` as ``Manifest`` does."""
        recipe = InspectionRecipe()
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        known |= {"format": FORMAT, "recipe": recipe, "frames": {}, "revision": 0}
        known |= {"calibration": None, "history": None}
        known["executions"] = tuple(
            ExecutionSpec(
                e.stored, e.executed, e.threshold.limits(), recipe.inspected_sha256(), e.check
            )
            for e in self.executions
        )
        return Manifest(**known)
