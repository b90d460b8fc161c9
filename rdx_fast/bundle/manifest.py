"""``manifest.json`` of an engine bundle, with every number that a score depends on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdx_fast.errors import BundleError
from rdx_fast.limits.limits import Limits, ThresholdSpec
from rdx_fast.recipe.frame_check import FrameStatistics
from rdx_fast.recipe.recipe import InspectionRecipe

FORMAT = 3
# Precisions in which a network is stored. int8_symmetric and fp8 are for GPUs: signed bytes and
# float8 (e4m3) between float16.
STORED = ("fp32", "fp16", "int8", "int8_symmetric", "fp8")
# Precisions in which a network is executed. bfloat16 executes a network stored in float32.
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
# All known executions, as (stored, executed), by the precision that a user names. A network for
# half precision may also be executed in float32, on processors without half precision.
EXECUTIONS = {
    "fp32": (("fp32", "fp32"),),
    "fp16": (("fp16", "fp16"), ("fp16", "fp32")),
    "bf16": (("fp32", "bf16"), ("fp32", "fp32")),
    "int8": (("int8", "int8"), ("int8_symmetric", "int8")),
    "fp8": (("fp8", "fp8"),),
}
FUSIONS = ("add", "mul")
CHECKSUM = "sha256"  # key of the manifest's own checksum
# The only value of each that this version knows; stated in every manifest, so that none is implied.
RESIZE = "bilinear-antialiased"
BORDER = "reflect"
# Of pixel values in [0, 1]; no real data set has a smaller deviation.
_MIN_STD = 1e-3


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The network's input.

    Attributes:
        height: in pixels
        width: in pixels
        mean: by channel, RGB, of pixel values in [0, 1]
        std: standard deviation, likewise
        resize: filter that frames are resized with, "bilinear-antialiased" (PIL's bilinear)

    Raises:
        ValueError: a value is out of range
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str

    def __post_init__(self) -> None:
        if self.resize != RESIZE:
            raise ValueError(f"input resize is {self.resize!r}, wanted {RESIZE!r}")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input size {self.height} x {self.width} is not positive")
        if not all(math.isfinite(m) for m in self.mean):
            raise ValueError(f"input mean {self.mean} is not finite")
        if not all(math.isfinite(s) and s >= _MIN_STD for s in self.std):
            raise ValueError(f"input std is {self.std}, each must be at least {_MIN_STD}")


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """Size of one scale of the features, ``[channels, height, width]``.

    Attributes:
        channels: of teacher and student
        height: in positions
        width: in positions

    Raises:
        ValueError: a value is below 1
    """

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError(f"scale {self} is not positive")


@dataclass(frozen=True, slots=True)
class MapSpec:
    """How distance maps are combined to the anomaly map.

    Attributes:
        height: of the anomaly map, in pixels
        width: of the anomaly map, in pixels
        fusion: "add" or "mul", how the scales are combined
        sigma: of the Gaussian, in map pixels
        truncate: radius at which the Gaussian is cut off, in sigmas
        border: "reflect", which repeats the edge sample, as scipy does

    Raises:
        ValueError: a value is out of range
    """

    height: int
    width: int
    fusion: str
    sigma: float
    truncate: float
    border: str

    def __post_init__(self) -> None:
        if self.border != BORDER:
            raise ValueError(f"map border is {self.border!r}, wanted {BORDER!r}")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"map size {self.height} x {self.width} is not positive")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion is {self.fusion!r}, wanted one of {FUSIONS}")
        if not (self.sigma > 0 and self.truncate > 0):
            raise ValueError(f"sigma {self.sigma} and truncate {self.truncate} must be positive")
        # Written so that infinity fails.
        if not self.sigma * self.truncate <= max(self.height, self.width):
            raise ValueError(
                f"sigma is {self.sigma} and truncate {self.truncate}: together they reach beyond "
                f"a map of {self.height} x {self.width} pixels"
            )


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """Comparison of the exported network with the trained one, on good images not trained on.

    Attributes:
        checked_by: what executed the exported network
        images: number of images whose scores were compared
        map_images: number of them whose maps were compared
        score_difference: largest difference of a score, as a share of the threshold
        score_tolerance: largest score difference that was allowed
        map_difference: largest difference of a map pixel, as a share of the threshold
        map_tolerance: largest map difference that was allowed
        score_difference_of_spread: largest difference of a score, as a share of the standard
            deviation of the trained network's scores of good parts; None if those are all the same,
            or in a bundle of format 1
        verdicts_that_differ: number of ``images`` with another verdict, where each network judges
            each image by its own threshold from all other images; None for a single image, or in a
            bundle of format 1

    Raises:
        ValueError: a value is out of range, or a difference exceeds its tolerance
    """

    checked_by: str
    images: int
    map_images: int
    score_difference: float
    score_tolerance: float
    map_difference: float
    map_tolerance: float
    score_difference_of_spread: float | None
    verdicts_that_differ: int | None

    def __post_init__(self) -> None:
        # Written so that NaN fails.
        for what in ("score", "map"):
            found = getattr(self, f"{what}_difference")
            allowed = getattr(self, f"{what}_tolerance")
            if not 0 <= found <= allowed < math.inf:
                raise ValueError(
                    f"{what}_difference of a check is {found} and its tolerance {allowed}: the "
                    f"check did not pass"
                )
        if not 1 <= self.map_images <= self.images:
            raise ValueError(
                f"images of a check is {self.images} and map_images {self.map_images}, wanted at "
                f"least 1 and no more maps than images"
            )
        if not 0 <= (self.verdicts_that_differ or 0) <= self.images:
            raise ValueError(
                f"verdicts_that_differ is {self.verdicts_that_differ} of {self.images} images, "
                f"wanted between 0 and the number of images"
            )
        if not 0 <= (self.score_difference_of_spread or 0) < math.inf:
            raise ValueError(
                f"score_difference_of_spread is {self.score_difference_of_spread}, wanted at least "
                f"0 and finite"
            )


@dataclass(frozen=True, slots=True)
class ExecutionSpec:
    """One way to run the bundle.

    Attributes:
        stored: precision in which the network is stored, see ``STORED``
        executed: precision in which it is executed, see ``PRECISIONS``
        limits: of each region, for this execution
        inspected_sha256: of what the limits hold for, see ``InspectionRecipe.inspected_sha256``
        check: comparison with the trained network

    Raises:
        ValueError: this version does not know the execution, or it has no limits
    """

    stored: str
    executed: str
    limits: tuple[Limits, ...]
    inspected_sha256: str
    check: ExportCheck

    def __post_init__(self) -> None:
        check_execution_known(self.stored, self.executed)
        if not self.limits:
            raise ValueError(f"execution {self.label} has no limits")

    @property
    def threshold(self) -> ThresholdSpec:
        """What is OK in the first region."""
        return self.limits[0].ok_below

    @property
    def label(self) -> str:
        return execution_label(self.stored, self.executed)


def execution_label(stored: str, executed: str) -> str:
    """Name of an execution, such as "bf16 of network fp32"; one precision if both are the same."""
    return executed if stored == executed else f"{executed} of network {stored}"


def check_execution_known(stored: str, executed: str) -> None:
    """Raises ``ValueError`` unless this version knows the execution."""
    if stored not in STORED:
        raise ValueError(f"stored precision is {stored!r}, wanted one of {', '.join(STORED)}")
    if executed not in PRECISIONS:
        raise ValueError(
            f"executed precision is {executed!r}, wanted one of {', '.join(PRECISIONS)}"
        )
    if not any((stored, executed) in known for known in EXECUTIONS.values()):
        raise ValueError(f"a network stored in {stored} cannot be executed in {executed}")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An execution that was requested at export and failed its check.

    Attributes:
        stored: precision in which the network would be stored
        executed: precision in which it would be executed
        reason: error message of the check

    Raises:
        ValueError: this version does not know the execution
    """

    stored: str
    executed: str
    reason: str

    def __post_init__(self) -> None:
        check_execution_known(self.stored, self.executed)

    @property
    def label(self) -> str:
        return execution_label(self.stored, self.executed)


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file of the bundle.

    Attributes:
        sha256: of its contents, hexadecimal
        bytes: its size
    """

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of ``manifest.json`` without its own checksum.

    Attributes:
        format: version of the format
        name: of the bundle
        created: time of the export, ISO 8601, UTC
        method: see ``rdx_fast.models.METHODS``
        backbone: see ``rdx_fast.models.BACKBONES``
        input: the network's input
        scales: of the features, finest first
        map: how the anomaly map is computed
        recipe: what of a frame is inspected
        frames: what the frames of good parts look like that an execution's limits came from, by its
            label; without those in which none were measured
        revision: number of changes since the export
        calibration: file of the scores of good images that the limits came from; None in a bundle
            of an earlier format
        history: file of all changes; None likewise
        networks: file name by stored precision
        executions: ways to run the bundle, at least one
        left_out: executions that failed their check at export
        files: every file of the bundle but the manifest, by name
        training: facts about the training, for information only
        versions: of Python and the packages that exported the bundle

    Raises:
        ValueError: a value is out of range, or values contradict each other
    """

    format: int
    name: str
    created: str
    method: str
    backbone: str
    input: InputSpec
    scales: tuple[ScaleSpec, ...]
    map: MapSpec
    recipe: InspectionRecipe
    frames: dict[str, FrameStatistics]
    revision: int
    calibration: str | None
    history: str | None
    networks: dict[str, str]
    executions: tuple[ExecutionSpec, ...]
    left_out: tuple[LeftOut, ...]
    files: dict[str, FileSpec]
    training: dict[str, Any]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("scales is empty")
        if (self.map.height, self.map.width) != (self.input.height, self.input.width):
            raise ValueError(
                f"the map is {self.map.height} x {self.map.width} and the input "
                f"{self.input.height} x {self.input.width}: they must have the same size"
            )
        if not self.executions:
            raise ValueError("executions is empty: the bundle has nothing to run")
        if unknown := set(self.networks) - set(STORED):
            raise ValueError(
                f"networks are stored in {sorted(unknown)}, wanted among {', '.join(STORED)}"
            )
        labels = [e.label for e in self.executions] + [e.label for e in self.left_out]
        if len(set(labels)) < len(labels):
            raise ValueError(
                f"executions and left_out are {labels}: each execution may occur only once"
            )
        executed = {e.stored for e in self.executions}
        if idle := set(self.networks) - executed:
            raise ValueError(f"networks {sorted(idle)} have no execution")
        for stored in executed:
            if self.networks.get(stored) not in self.files:
                raise ValueError(f"the file of network {stored!r} is not among the bundle's files")
        named = {
            region.mask: f"the mask of region {region.name!r}" for region in self.recipe.regions
        }
        named |= {self.calibration: "calibration", self.history: "history"}
        for file, what in named.items():
            if file is not None and file not in self.files:
                raise ValueError(f"{file}, {what}, is not among the bundle's files")
        for execution in self.executions:
            regions = tuple(limits.region for limits in execution.limits)
            current = execution.inspected_sha256 == self.recipe.inspected_sha256()
            if current and regions != self.recipe.inspected:
                raise ValueError(
                    f"execution {execution.label} has limits of regions {list(regions)}, the "
                    f"recipe has {list(self.recipe.inspected)}"
                )

    def output_shapes(self) -> dict[str, tuple[int, int, int]]:
        """``(channels, height, width)`` of each output of the network, by name."""
        return {
            f"{part}_{s}": (scale.channels, scale.height, scale.width)
            for part in ("teacher", "student")
            for s, scale in enumerate(self.scales)
        }

    def stale_executions(self) -> list[str]:
        """Labels of the executions whose limits were calibrated under another recipe."""
        current = self.recipe.inspected_sha256()
        return [e.label for e in self.executions if e.inspected_sha256 != current]

    def check_network(self, where: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check a network's inputs and outputs against the manifest.

        Args:
            where: the network's file, for the error message
            shapes: shapes of inputs and outputs for one image, by name

        Raises:
            BundleError: they do not match the manifest
        """
        wanted = {"image": (3, self.input.height, self.input.width), **self.output_shapes()}
        differ = sorted(n for n in {*shapes, *wanted} if shapes.get(n) != wanted.get(n))
        if differ:
            found, said = (_shape(d.get(differ[0])) for d in (shapes, wanted))
            raise BundleError(
                f"{where}: the network does not match the manifest: {differ[0]} is {found} in the "
                f"network and {said} in the manifest ({len(differ)} differ): export the bundle "
                f"again"
            )

    def to_json(self) -> str:
        """The text of ``manifest.json``; its own checksum is the last key."""
        data = asdict(self)
        return json.dumps({**data, CHECKSUM: digest(data)}, indent=2) + "\n"


def digest(data: dict[str, Any]) -> str:
    """SHA-256 of a manifest's contents without the checksum, whatever the layout of its JSON."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
