"""``manifest.json`` of an engine bundle: every number that a score depends on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdx_fast.errors import BundleError

FORMAT = 2
# What a network is stored in. int8_symmetric has signed activations, which GPUs want.
STORED = ("fp32", "fp16", "int8", "int8_symmetric")
# What its arithmetic is done in. bfloat16 is executed of a network stored in float32.
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
# All that is known, as (stored, executed), by the precision that a user names. A network for half
# precision may also be executed in float32, where a processor has no half.
EXECUTIONS = {
    "fp32": (("fp32", "fp32"),),
    "fp16": (("fp16", "fp16"), ("fp16", "fp32")),
    "bf16": (("fp32", "bf16"), ("fp32", "fp32")),
    "int8": (("int8", "int8"), ("int8_symmetric", "int8")),
}
FUSIONS = ("add", "mul")
CHECKSUM = "sha256"  # the key of the manifest's own
# The one way each that this version knows; stated in every manifest, so that none is implied.
RESIZE = "bilinear-antialiased"
BORDER = "reflect"
# Of pixel values in [0, 1]. Less is no image's.
_MIN_STD = 1e-3


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The network's input: size in pixels, RGB mean and deviation of values in [0, 1], and the
    filter that frames are resized with (PIL's bilinear)."""

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
            raise ValueError(f"input std is {self.std}, wanted at least {_MIN_STD} each")


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """One scale of the features: ``[channels, height, width]``."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError(f"scale {self} is not positive")


@dataclass(frozen=True, slots=True)
class MapSpec:
    """How distance maps become the anomaly map: fusion, and the Gaussian (sigma in map pixels,
    cut off at ``truncate`` sigmas; border "reflect" repeats the edge sample, as scipy's does)."""

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
class ThresholdSpec:
    """Scores above ``value`` are anomalous. ``false_reject_rate`` was asked for,
    ``expected_false_reject_rate`` is what that many good images can promise."""

    value: float
    false_reject_rate: float
    expected_false_reject_rate: float
    good_images: int

    def __post_init__(self) -> None:
        # Written so that NaN fails. Scores are positive.
        if not 0 < self.value < math.inf:
            raise ValueError(f"threshold {self.value} is not a positive number")
        for name in ("false_reject_rate", "expected_false_reject_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} of a threshold is {getattr(self, name)}, wanted a share")
        if self.good_images < 1:
            raise ValueError(f"a threshold is from {self.good_images} good images, wanted some")


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """Trained network against the exported one, on good images not trained on.

    ``checked_by``: what executed the exported network. ``score_difference``: the largest over
    ``images``, ``map_difference``: the largest of a pixel over ``map_images`` of them, both as a
    share of the threshold; ``score_tolerance`` and ``map_tolerance`` are what was allowed.
    ``score_difference_of_spread``: the largest as a share of the standard deviation of the trained
    network's scores of good parts, None if those are all the same; ``verdicts_that_differ``: of
    ``images``, each image judged by each network with its own threshold from all other images,
    None for a single image. Both None where a bundle of format 1 does not say.
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
                    f"{what}_difference of a check is {found} with a tolerance of {allowed}: it "
                    f"was not passed"
                )
        if not 1 <= self.map_images <= self.images:
            raise ValueError(f"a check is of {self.images} images and {self.map_images} maps")
        if not 0 <= (self.verdicts_that_differ or 0) <= self.images:
            raise ValueError(
                f"verdicts_that_differ is {self.verdicts_that_differ} of {self.images} images"
            )
        if not 0 <= (self.score_difference_of_spread or 0) < math.inf:
            raise ValueError(f"score_difference_of_spread is {self.score_difference_of_spread}")


@dataclass(frozen=True, slots=True)
class ExecutionSpec:
    """One way to run the bundle: which stored network, in what arithmetic, with the threshold
    calibrated for it and what its check found."""

    stored: str
    executed: str
    threshold: ThresholdSpec
    check: ExportCheck

    def __post_init__(self) -> None:
        check_execution_known(self.stored, self.executed)

    @property
    def label(self) -> str:
        return execution_label(self.stored, self.executed)


def execution_label(stored: str, executed: str) -> str:
    """ "bf16 of network fp32"; the precision alone where both are the same."""
    return executed if stored == executed else f"{executed} of network {stored}"


def check_execution_known(stored: str, executed: str) -> None:
    """Raises ``ValueError`` unless this version knows a network stored and executed so."""
    if stored not in STORED:
        raise ValueError(f"stored precision is {stored!r}, wanted one of {', '.join(STORED)}")
    if executed not in PRECISIONS:
        raise ValueError(
            f"executed precision is {executed!r}, wanted one of {', '.join(PRECISIONS)}"
        )
    if not any((stored, executed) in known for known in EXECUTIONS.values()):
        raise ValueError(f"a network stored as {stored} is not executed as {executed}")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An execution that was wanted at export and failed its check, and why."""

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
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of ``manifest.json`` but its own checksum.

    ``networks``: stored precision to file name.
    """

    format: int
    name: str
    created: str
    method: str
    backbone: str
    input: InputSpec
    scales: tuple[ScaleSpec, ...]
    map: MapSpec
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
                f"the map is {self.map.height} x {self.map.width}, and the input "
                f"{self.input.height} x {self.input.width}: they have the same size"
            )
        if not self.executions:
            raise ValueError("executions is empty: the bundle has nothing to run")
        if unknown := set(self.networks) - set(STORED):
            raise ValueError(f"networks are stored as {sorted(unknown)}, wanted of {STORED}")
        labels = [e.label for e in self.executions] + [e.label for e in self.left_out]
        if len(set(labels)) < len(labels):
            raise ValueError(f"executions are {labels}: each may be there once, or be left out")
        executed = {e.stored for e in self.executions}
        if idle := set(self.networks) - executed:
            raise ValueError(f"networks {sorted(idle)} have no execution")
        for stored in executed:
            if self.networks.get(stored) not in self.files:
                raise ValueError(f"the file of network {stored!r} is not among the bundle's files")

    def output_shapes(self) -> dict[str, tuple[int, int, int]]:
        """``(channels, height, width)`` of each output of the network, by name."""
        return {
            f"{part}_{s}": (scale.channels, scale.height, scale.width)
            for part in ("teacher", "student")
            for s, scale in enumerate(self.scales)
        }

    def check_network(self, where: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ``BundleError`` unless the network in ``where`` has inputs and outputs of
        ``shapes``, for one image and by name, as the manifest says."""
        wanted = {"image": (3, self.input.height, self.input.width), **self.output_shapes()}
        differ = sorted(n for n in {*shapes, *wanted} if shapes.get(n) != wanted.get(n))
        if differ:
            found, said = (_shape(d.get(differ[0])) for d in (shapes, wanted))
            raise BundleError(
                f"{where}: the network is not the manifest's: {differ[0]} is {found} in the "
                f"network and {said} in the manifest ({len(differ)} differ): export it again"
            )

    def to_json(self) -> str:
        """The text of ``manifest.json``, with its own checksum as the last key."""
        data = asdict(self)
        return json.dumps({**data, CHECKSUM: digest(data)}, indent=2) + "\n"


def digest(data: dict[str, Any]) -> str:
    """Of what a manifest's JSON holds but the checksum itself, however it is laid out."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
