"""``manifest.json`` of an engine bundle: every number that a score depends on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import dacite

from rdx_fast.errors import BundleError

FORMAT = 1
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FUSIONS = ("add", "mul")
# The one way each that this version knows; stated in every manifest, so that none is implied.
RESIZE = "bilinear-antialiased"
BORDER = "reflect"


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
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"input std {self.std} is not positive")


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
        if not (self.sigma > 0 and self.truncate > 0 and math.isfinite(self.sigma * self.truncate)):
            raise ValueError(f"sigma {self.sigma} and truncate {self.truncate} must be positive")


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """Scores above ``value`` are anomalous. ``false_reject_rate`` was asked for,
    ``expected_false_reject_rate`` is what that many good images can promise."""

    value: float
    false_reject_rate: float
    expected_false_reject_rate: float
    good_images: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"threshold {self.value} is not finite")


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """Trained network against exported engine on the same images: largest differences, as a share
    of the threshold."""

    images: int
    score_difference: float
    map_difference: float
    tolerance: float
    executed_precision: str


@dataclass(frozen=True, slots=True)
class FileSpec:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of ``manifest.json``."""

    format: int
    name: str
    created: str
    method: str
    backbone: str
    precision: str
    input: InputSpec
    scales: tuple[ScaleSpec, ...]
    map: MapSpec
    threshold: ThresholdSpec
    network: str
    files: dict[str, FileSpec]
    check: ExportCheck
    training: dict[str, Any]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, wanted one of {PRECISIONS}")
        if not self.scales:
            raise ValueError("scales is empty")
        if self.network not in self.files:
            raise ValueError(f"network file {self.network!r} is not among the bundle's files")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest. Raises ``BundleError`` for anything missing, unknown or out of range;
    ``where`` names the bundle in it."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{where}: manifest.json is not JSON: {error}") from error
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise BundleError(f"{where}: manifest.json names no format: it is not an engine bundle's")
    if data["format"] > FORMAT:
        raise BundleError(
            f"{where}: the bundle has format {data['format']}, this rdx_fast reads up to {FORMAT}: "
            f"update rdx_fast, or export the bundle again with this version"
        )
    try:
        return dacite.from_dict(Manifest, data, dacite.Config(strict=True, cast=[tuple]))
    except (dacite.DaciteError, ValueError) as error:
        raise BundleError(f"{where}: manifest.json: {error}") from error
