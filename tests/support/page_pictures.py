"""The pictures of the operator's page in the documentation, from a checkout:
``PYTHONPATH=tests python -m support.page_pictures docs/images/page --work FOLDER``.

A station inspects drawn parts, brackets of brushed metal, which may be distributed. Some good ones
reflect a lamp; people label them, and a candidate is made. Takes some minutes on two cores; what is
already in the folder of the work is used again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bench.example import DEFECTS, SIZE, draw_part, write_parts
from rdx_fast.station.records.labels import read_labels
from rdx_fast.station.records.read import read_records
from support.browser import emulate
from support.line_processes import free_port
from support.page_browser import Person, person
from support.programs import drive, run, running, wait_for_station

SIZES = {"desktop": (1920, 1080), "tablet": (1024, 768), "phone": (390, 844)}
PASSWORDS = dict.fromkeys(("eva", "otto", "anna"), "a long password")
USERS = {"eva": "engineer", "otto": "operator", "anna": "operator"}
FIRST, LAST = 120, 44  # parts before the labels, and after
RATE = 12.0


def main(
    pictures: Annotated[Path, typer.Argument(help="Folder of the pictures.")],
    work: Annotated[Path, typer.Option(help="Folder of the station.")],
) -> None:
    """Make a station with a history, and take a picture of each view at three sizes."""
    bad = frames(work)
    if not (work / "part.rdx").exists():
        bundle(work)
    configure(work)
    pictures.mkdir(parents=True, exist_ok=True)
    with running(work, "station", "station.toml"), running(work, "hmi", "station.toml"):
        wait_for_station(work)
        address = f"http://127.0.0.1:{page_port(work)}"
        if not (work / "part.rdx.versions").exists():
            with person(address) as someone:
                history(work, someone, bad)
        drive(work, LAST, RATE)
        for name, (width, height) in SIZES.items():
            with person(address, width, height) as someone:
                take_all(work, someone, pictures, name)


def glaring(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A good bracket under a lamp that is reflected."""
    v, u = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    x, y = rng.normal((0.22, -0.12), 0.015)
    glare = 90 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / 0.004)
    return (draw_part(rng) + glare[..., None]).clip(0, 255).astype(np.uint8)


def frames(work: Path) -> list[bool]:
    """What the camera will see. Returns which of it is defective."""
    rng = np.random.default_rng(1)
    kinds = [*["good"] * 120, *["glaring"] * 34, *DEFECTS * 5, "good"]
    kinds = [str(kind) for kind in rng.permutation(kinds)]
    stream = work / "stream"
    if not stream.exists():
        stream.mkdir(parents=True)
        for i, kind in enumerate(kinds):
            defect = kind if kind in DEFECTS else None
            frame = glaring(rng) if kind == "glaring" else draw_part(rng, defect)
            Image.fromarray(frame).save(stream / f"{i:03}.png")
    return [kind in DEFECTS for kind in kinds]


def bundle(work: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("good", 60), ("calibration", 60), ("frozen/test/good", 20)):
        (work / name).mkdir(parents=True, exist_ok=True)
        write_parts(work / name, count, rng)
    for defect in DEFECTS:
        folder = work / "frozen" / "test" / defect.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(6):
            Image.fromarray(draw_part(rng, defect)).save(folder / f"{i:03}.png")
    network = ("--backbone", "efficientnet_lite0", "--image-size", 128, 128)
    run(work, "train", "good", "run", *network, "--iterations", 200, "--seed", 0)
    run(work, "export", "run", "part.rdx", "--good", "calibration", "--name", "bracket")
    promise = ("--false-reject", 0.02, "--review", 0.08)
    run(work, "calibrate", "part.rdx", "calibration", *promise, "--user", "eva")


def configure(work: Path) -> None:
    (work / "station.toml").write_text(f"""\
[jobs]
1 = "part.rdx"
[camera]
kind = "folder"
path = "stream"
timeout_ms = 5000
[handshake]
deadline_ms = 5000
watchdog_ms = 0
[records]
ok_share = 0.2
[modbus]
port = {free_port()}
[status]
[hmi]
port = {free_port()}
[retrain.1]
run = "run"
good = "good"
calibration = "calibration"
frozen = "frozen"
""")
    if not (work / "hmi-users.json").exists():
        for name, role in USERS.items():
            (work / "password").write_text(PASSWORDS[name])
            run(work, "hmi-user", "add", name, "--role", role, "--password-file", "password")


def page_port(work: Path) -> int:
    from rdx_fast.station.config import read_station

    hmi = read_station(work / "station.toml").hmi
    assert hmi is not None
    return hmi.port


def history(work: Path, someone: Person, bad: list[bool]) -> None:
    """Parts, labels of two people, and a candidate."""
    drive(work, FIRST, RATE)
    someone.open()
    someone.log_in("otto", PASSWORDS["otto"])
    someone.label_all(lambda part: bad[part - 1])
    someone.log_out()
    someone.log_in("anna", PASSWORDS["anna"])
    someone.label_all(lambda part: bad[part - 1])
    someone.log_out()
    assert read_labels(work / "records.sqlite")
    run(work, "retrain", 1, "--station", "station.toml")


def take_all(work: Path, someone: Person, pictures: Path, size: str) -> None:
    """A picture of each view, as an engineer sees it."""

    def take(name: str) -> None:
        shot = Image.open(io.BytesIO(someone.browser.get_screenshot_as_png())).convert("RGB")
        palette = shot.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(pictures / f"{name}_{size}.png", optimize=True)

    someone.open()
    someone.see("dialog[open]")
    take("login")
    someone.log_in("eva", PASSWORDS["eva"])
    drive(work, 8, RATE)
    someone.until(settled(someone))
    take("live")
    emulate(someone.browser, dark=True)
    take("live_dark")
    emulate(someone.browser, dark=False)
    rejected = [r for r in read_records(work / "records.sqlite") if r.result == "NG" and r.picture]
    for view in (
        "parts",
        f"part/{rejected[-1].inspection_id}",
        "label",
        "quality",
        "job",
        "audit",
    ):
        someone.open(view)
        someone.until(settled(someone))
        take(view.split("/", maxsplit=1)[0])


def settled(someone: Person) -> Callable[[], bool]:
    """Whether the view has looked the same for a while."""
    seen: list[bytes] = []

    def same() -> bool:
        seen.append(someone.browser.get_screenshot_as_png())
        return len(seen) > 4 and len(set(seen[-3:])) == 1

    return same


if __name__ == "__main__":
    typer.run(main)
