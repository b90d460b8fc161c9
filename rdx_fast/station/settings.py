"""Settings of a job: how its frames are taken, and how long its parts may take."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from rdx_fast.kernels.resize_normalize import check_level_range
from rdx_fast.station.handshake.codes import WORD

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """How the frames of a job are taken and scored. What is None or missing is not stated.

    Attributes:
        crop: top, left, height and width in pixels, as for ``Detector.score``
        pixel_format: as for ``Detector.score``
        levels: as for ``Detector.score``: frames are uint16 if they are stated, else uint8
        frame_size: height and width in pixels that every frame must have
        deadline_ms: time allowed from trigger to result in ms, above 0, at most 65535
        camera: parameters of the camera by name, such as ``exposure_us`` and ``gain``

    Raises:
        ValueError: ``deadline_ms`` or ``levels`` are out of range
    """

    crop: tuple[int, int, int, int] | None = None
    pixel_format: str | None = None
    levels: tuple[int, int] | None = None
    frame_size: tuple[int, int] | None = None
    deadline_ms: float | None = None
    camera: dict[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.deadline_ms is not None and not 0 < self.deadline_ms <= WORD:
            raise ValueError(
                f"a job's deadline_ms is {self.deadline_ms}, wanted more than 0 and at most {WORD}"
            )

        if self.levels is not None:
            check_level_range(self.levels)

    def over(self, below: JobSettings) -> JobSettings:
        """These settings, and those of ``below`` where these state nothing.

        Args:
            below: the settings that these go before; of ``camera`` each parameter by itself
        """
        stated = {f.name: getattr(self, f.name) for f in fields(JobSettings)}
        stated["camera"] = {**below.camera, **self.camera}
        return replace(below, **{name: v for name, v in stated.items() if v is not None})
