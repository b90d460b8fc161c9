"""Tables of ``station.toml`` for the operator's page and retraining."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from pathlib import Path

from rdx_fast.station.interfaces import LOOPBACK


@dataclass(frozen=True, slots=True)
class HmiConfig:
    """The table ``[hmi]``: the operator's page, served by ``rdx-fast hmi``.

    Attributes:
        address: IP address of this machine to listen on
        port: TCP port to listen on; 0 for any free one
        users: file of users and hashed passwords, see ``rdx-fast hmi-user``
        anonymous: whether the page may be viewed without logging in
        hosts: names under which browsers reach the page, besides ``address`` and localhost
        certificate: certificate in PEM for HTTPS; None for HTTP
        private_key: its private key in PEM
        session_minutes: time without a request after which a user is logged out, in minutes
        session_hours: time after which a user is logged out in any case, in hours
        language: of a browser that has not chosen another one
        texts: folder of JSON files with further languages; None for none
        good_reasons: reasons for "really good" to choose from
        bad_reasons: reasons for "really bad" to choose from
        shifts: local times at which shifts begin, such as "06:00"
        sign_key: file of the private key that signs changes made on the page; None leaves them
            unsigned

    Raises:
        ValueError: a value is out of range, or there is a certificate without a key
    """

    address: str = LOOPBACK
    port: int = 8460
    users: Path = Path("hmi-users.json")
    anonymous: bool = False
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    session_minutes: float = 60.0
    session_hours: float = 12.0
    language: str = "en"
    texts: Path | None = None
    good_reasons: tuple[str, ...] = (
        "as usual",
        "dust",
        "reflection",
        "lighting",
        "tolerable",
        "other",
    )
    bad_reasons: tuple[str, ...] = (
        "crack",
        "scratch",
        "contamination",
        "missing material",
        "other",
    )
    shifts: tuple[str, ...] = ("06:00", "14:00", "22:00")
    sign_key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 0xFFFF:
            raise ValueError(f"hmi: port is {self.port}, wanted 0 to 65535")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("hmi: certificate and private_key belong together: give both")
        for name in ("session_minutes", "session_hours"):
            if not getattr(self, name) > 0:
                raise ValueError(f"hmi: {name} is {getattr(self, name)}, wanted more than 0")
        for name in ("good_reasons", "bad_reasons"):
            if not getattr(self, name) or not all(getattr(self, name)):
                raise ValueError(f"hmi: {name} is empty or has an empty text: give one at least")
        try:
            starts = self.shift_starts
        except ValueError:
            starts = ()
        local = all(start.tzinfo is None for start in starts)
        if not starts or not local or list(starts) != sorted(set(starts)):
            raise ValueError(
                f"hmi: shifts is {list(self.shifts)}, wanted local times in order without a zone, "
                f'such as ["06:00", "14:00", "22:00"]'
            )

    @property
    def shift_starts(self) -> tuple[time, ...]:
        """The local times at which shifts begin."""
        return tuple(time.fromisoformat(text) for text in self.shifts)


@dataclass(frozen=True, slots=True)
class RetrainConfig:
    """The table ``[retrain.JOB]``: what a job's network is trained again with.

    Attributes:
        run: run folder of the training that the job's bundle was exported from
        good: folder of the images of good parts that it was trained on
        calibration: folder of images of good parts that are never trained on, for the limits
        frozen: category folder of a data set whose test set is never trained on, for the comparison
        textures: folder of textures, if the run was trained with any, see ``training.train``
        foreground: masks, if the run was trained with any, likewise
    """

    run: Path
    good: Path
    calibration: Path
    frozen: Path
    textures: Path | None = None
    foreground: Path | None = None
