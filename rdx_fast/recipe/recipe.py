"""The inspection recipe of a bundle: what of a frame is inspected, and how closely.

Coordinates are in frame pixels, x to the right and y down from the frame's upper left corner. The
pixel in row r and column c covers x from c to c + 1 and y from r to r + 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from rdx_fast.kernels.resize_normalize import (
    PIXEL_FORMATS,
    Crop,
    Levels,
    check_crop,
    check_level_range,
)
from rdx_fast.limits.limits import WHOLE
from rdx_fast.recipe.tiling import TileSpec

KINDS = ("include", "ignore")
MAX_REGIONS = 16  # that are inspected; each has limits of its own
Point = tuple[float, float]
MAX_DEADLINE_MS = 65535  # of the PLC's register
_SCORES_DEPEND_ON = ("frame", "regions", "tiles", "camera")


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """The frames of a recipe.

    Attributes:
        height: in pixels; None, like ``width``, for frames of any size
        width: in pixels
        pixel_format: see ``Detector.score``; None for RGB, or mono for one channel
        crop: top, left, height, width in pixels of what is inspected; None for all
        levels: grey levels of black and white of frames of 10, 12 or 16 bits; None for 8 bits

    Raises:
        ValueError: a value is out of range, or values contradict each other
    """

    height: int | None = None
    width: int | None = None
    pixel_format: str | None = None
    crop: Crop | None = None
    levels: Levels | None = None

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError("frame states one of height and width: state both, or neither")
        if self.height is not None and self.width is not None and min(self.height, self.width) < 1:
            raise ValueError(f"frame is {self.height} x {self.width} pixels, wanted at least 1")
        if self.pixel_format not in (None, *PIXEL_FORMATS):
            raise ValueError(
                f"frame.pixel_format is {self.pixel_format!r}, wanted one of "
                f"{', '.join(PIXEL_FORMATS)}"
            )
        if self.levels is not None:
            check_level_range(self.levels)
        if self.crop is not None:
            check_crop(self.size or (math.inf, math.inf), self.crop)  # type: ignore[arg-type]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels, None for any."""
        if self.height is None or self.width is None:
            return None
        return self.height, self.width

    @property
    def shown(self) -> tuple[int, int] | None:
        """Height and width in pixels of what is inspected, None for any."""
        return self.size if self.crop is None else self.crop[2:]


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """A region of the frame, by a polygon or by a mask.

    Attributes:
        name: unique in the recipe
        kind: "include" for what is inspected, "ignore" for what is not
        polygon: corners x, y in frame pixels; a pixel belongs to it if its centre does
        mask: file of an 8-bit image of the frame's size; its white pixels (above 127) belong to it

    Raises:
        ValueError: an empty name, an unknown kind, not exactly one of polygon and mask, or a
            polygon that has fewer than three corners or crosses itself
    """

    name: str
    kind: str = "include"
    polygon: tuple[Point, ...] | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"name of a region is {self.name!r}, wanted printable text")
        if self.kind not in KINDS:
            raise ValueError(
                f"kind of region {self.name!r} is {self.kind!r}, wanted {' or '.join(KINDS)}"
            )
        if (self.polygon is None) == (self.mask is None):
            raise ValueError(f"region {self.name!r} needs either a polygon or a mask")
        if self.polygon is not None:
            corners = tuple((float(x), float(y)) for x, y in self.polygon)
            check_polygon(self.name, corners)
            object.__setattr__(self, "polygon", corners)


@dataclass(frozen=True, slots=True)
class InspectionRecipe:
    """What of a frame is inspected, and how closely.

    Regions are painted in their order: where two overlap, the later one counts. Without a region to
    include, the whole frame is one, named "all", beneath the others.

    Attributes:
        frame: size and format of the frames
        regions: in the order in which they are painted
        tiles: that frames are scored in; None to show the network the whole frame, or its crop
        mm_per_pixel: scale of the frame, for sizes in millimetres; None if it is not known
        deadline_ms: from trigger to result at the station; None for the station's own
        camera: parameters of the station's camera, by name

    Raises:
        ValueError: values contradict each other, or a polygon lies outside the frame, or a tile is
            larger than the frame or its crop
    """

    frame: FrameSpec = FrameSpec()
    regions: tuple[RegionSpec, ...] = ()
    tiles: TileSpec | None = None
    mm_per_pixel: float | None = None
    deadline_ms: float | None = None
    camera: dict[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_numbers()
        names = [region.name for region in self.regions]
        if len({*names, WHOLE}) <= len(names):
            raise ValueError(
                f"regions are named {names}: each name may occur once, and {WHOLE!r} stands for "
                f"the whole frame"
            )
        if len(self.inspected) > MAX_REGIONS:
            raise ValueError(
                f"{len(self.inspected)} regions are included, the most are {MAX_REGIONS}"
            )
        if not self.regions:
            return
        if self.frame.size is None:
            raise ValueError("a recipe with regions must state the frame's height and width")
        height, width = self.frame.size
        for region in self.regions:
            for x, y in region.polygon or ():
                if not (0 <= x <= width and 0 <= y <= height):
                    raise ValueError(
                        f"region {region.name!r} has a corner at x {x:g}, y {y:g}, outside the "
                        f"frame of {width} x {height} pixels: move it inside"
                    )

    def _check_numbers(self) -> None:
        for name in ("mm_per_pixel", "deadline_ms"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, wanted a positive number")
        if self.tiles is not None and (shown := self.frame.shown) is not None:
            self.tiles.check(shown)
        if (self.deadline_ms or 0) > MAX_DEADLINE_MS:
            raise ValueError(f"deadline_ms is {self.deadline_ms}, wanted at most {MAX_DEADLINE_MS}")
        for name, value in self.camera.items():
            if isinstance(value, bool) or not (isinstance(value, str) or abs(value) <= 2**53):
                raise ValueError(
                    f"camera parameter {name} is {value}, wanted a finite number or a text"
                )

    @property
    def inspected(self) -> tuple[str, ...]:
        """Names of the regions that have limits."""
        included = tuple(r.name for r in self.regions if r.kind == "include")
        return included or (WHOLE,)

    def inspected_sha256(self) -> str:
        """Checksum of what scores depend on. Limits hold for one, whatever the scale and the
        deadline."""
        facts = {name: asdict(self)[name] for name in _SCORES_DEPEND_ON}
        text = json.dumps(stated(facts), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def stated(value: Any) -> Any:
    """Without what is None, so that a later version's new options change nothing."""
    if isinstance(value, dict):
        return {name: stated(entry) for name, entry in value.items() if entry is not None}
    return [stated(entry) for entry in value] if isinstance(value, list | tuple) else value


def check_polygon(name: str, corners: tuple[Point, ...]) -> None:
    """Raises ``ValueError`` unless the corners make a polygon that does not cross itself."""
    if len(corners) < 3:
        raise ValueError(f"region {name!r} has {len(corners)} corners, wanted at least 3")
    if not all(math.isfinite(v) for corner in corners for v in corner):
        raise ValueError(f"region {name!r} has a corner that is not finite")
    sides = list(zip(corners, (*corners[1:], corners[0]), strict=True))
    for j, side in enumerate(sides):
        for i, earlier in enumerate(sides[:j]):
            if j == i + 1:
                crosses = _turns_back(*earlier, side[1])
            elif i == 0 and j == len(sides) - 1:
                crosses = _turns_back(*side, earlier[1])
            else:
                crosses = _meet(*earlier, *side)
            if crosses:
                raise ValueError(
                    f"region {name!r} crosses itself: side {i + 1} meets side {j + 1}; give its "
                    f"corners in order around it"
                )


def _turn(a: Point, b: Point, c: Point) -> float:
    """Positive if the way a, b, c turns to one side, negative if to the other, 0 if to neither."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _turns_back(a: Point, b: Point, c: Point) -> bool:
    """Whether the way from b to c runs along the one from a to b, or one of both has no length."""
    onward = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1])
    return _turn(a, b, c) == 0 and onward <= 0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the sides from a to b and from c to d have a point in common."""
    turns = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _within(*end) for turn, end in zip(turns, ends, strict=True))


def _within(a: Point, b: Point, c: Point) -> bool:
    """Whether c, on the line through a and b, lies between them."""
    return all(min(p, q) <= r <= max(p, q) for p, q, r in zip(a, b, c, strict=True))
