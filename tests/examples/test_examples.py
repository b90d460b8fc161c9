"""The programs in ``examples``, run by the command that their docstrings give."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np
import openvino
import pytest
from PIL import Image

from rdx_fast import Detector, Result, threshold_regions
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.datasets import find_dataset
from rdx_fast.errors import EngineError
from rdx_fast.evaluation import evaluate
from rdx_fast.export.standalone import write_standalone
from rdx_fast.images import list_images, read_image
from rdx_fast.station import FolderReplay, HandshakeConfig, Station, StationConfig, read_records
from rdx_fast.station.config import RecordConfig, read_station
from rdx_fast.station.interfaces import ModbusConfig
from rdx_fast.station.plc.modbus import ModbusServer
from support.checkout import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PARTS = 16  # of the test set: eight good ones, then eight with a notch
FOREVER_MS = 60_000


Given = Mapping[str, object]


class Done(NamedTuple):
    lines: list[str]
    errors: list[str]


def commands_of(example: Path) -> list[list[str]]:
    """The commands of the docstring, of which there is at least one."""
    docstring = ast.get_docstring(ast.parse(example.read_text()))
    assert docstring is not None
    commands = [line for line in docstring.splitlines() if line.startswith("python ")]
    assert commands
    return [shlex.split(command) for command in commands]


def run(
    name: str, folder: Path, given: Given, *options: object, code: int = 0, which: int = 0
) -> Done:
    """Run an example in ``folder``: its command (``which``, if it has several) with these in place
    of words, and more options, of which the last counts."""
    interpreter, script, *words = commands_of(ROOT / "examples" / name)[which]
    assert (interpreter, script) == ("python", f"examples/{name}")
    assert given.keys() <= set(words)
    words = [str(given.get(word, word)) for word in words]
    # Where ``my_plc`` lies.
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words, *map(str, options)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return Done(done.stdout.splitlines(), done.stderr.splitlines())


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(bundle: Bundle, parts: Path) -> list[Result]:
    """What the Detector itself says of the parts, in order."""
    with Detector(bundle.path) as detector:
        results = [detector.score(read_image(path)) for path in list_images(parts / "test")]
    assert len(results) == PARTS
    assert {verdict(result) for result in results} == {"OK", "NG"}
    return results


def verdict(result: Result) -> str:
    return result.verdicts[0]


def answers(results: list[Result]) -> list[str]:
    """What is told of parts, and done with them, as examples print it."""
    acts = {"OK": "accept", "NG": "reject"}
    verdicts = map(verdict, results)
    return [f"part {i}: {told}, {acts[told]}" for i, told in enumerate(verdicts, 1)]


# All of them


def test_every_example_is_tested_and_listed() -> None:
    assert [path.name for path in EXAMPLES if f"test_{path.stem}" not in globals()] == []
    table = (ROOT / "examples" / "README.md").read_text()
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", table, re.MULTILINE)
    assert sorted(listed) == [path.name for path in EXAMPLES]
    for path in EXAMPLES:
        for command in commands_of(path):
            assert f"`{shlex.join(command)}`" in table


# Not controller.py: its thirty lines leave Python to report errors.
@pytest.mark.parametrize(
    "name",
    [
        "asyncio_service.py",
        "plc_modbus.py",
        "regions.py",
        "score_folder.py",
        "stream_camera.py",
    ],
)
def test_without_its_bundle(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, {}, code=1)
    assert done.lines == []
    (line,) = done.errors
    assert line.startswith("error: ")
    assert "part.rdx: no such bundle" in line


# Each


def test_score_folder(bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path) -> None:
    photos, heatmaps = tmp_path / "photos", tmp_path / "heatmaps"
    photos.mkdir()
    lines, rejected = [], []
    for i, (path, result) in enumerate(zip(list_images(parts / "test"), expected, strict=True)):
        name = f"{i:02}.png"
        shutil.copy(path, photos / name)
        lines.append(f"{name}: {verdict(result)} {result.scores[0]:.4f}")
        if result.is_anomalous[0]:
            rejected.append(name)
    (photos / "cut.png").write_bytes((photos / "00.png").read_bytes()[:500])
    given = {"part.rdx": bundle.path, "photos": photos, "heatmaps": heatmaps}

    done = run("score_folder.py", tmp_path, given, code=1)
    *scored, cut, totals = done.lines
    assert scored == lines
    assert cut.startswith("cut.png: ERROR cannot be decoded")
    assert totals == f"{PARTS - len(rejected)} OK, 0 REVIEW, {len(rejected)} NG, 1 ERROR"
    assert sorted(path.name for path in heatmaps.iterdir()) == [f"{n}.png" for n in rejected]
    # The photograph, and beside it the heat map.
    frame, shown = read_image(photos / rejected[0]), read_image(heatmaps / f"{rejected[0]}.png")
    height, width = frame.shape[:2]
    assert shown.shape == (height, 2 * width, 3)
    assert np.array_equal(shown[:, :width], frame)
    assert not np.array_equal(shown[:, width:], frame)

    (photos / "cut.png").unlink()
    *scored, totals = run("score_folder.py", tmp_path, given).lines
    assert scored == lines


def test_regions(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """A Bayer mosaic of a defective part, of which a crop is looked at, there inside a mask."""
    rgb = read_image(list_images(parts / "test" / "notch")[0])
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    Image.fromarray(mosaic).save(tmp_path / "frame.png")
    crop = (4, 8, 72, 96)
    spec = bundle.manifest.map
    region = np.zeros((spec.height, spec.width), bool)
    region[4:-4, 4:-4] = True
    Image.fromarray(np.uint8(255) * region).save(tmp_path / "mask.png")
    with Detector(bundle.path, region=region) as detector:
        result = detector.score(mosaic, pixel_format="bayer_rggb", crop=crop)
    assert result.anomaly_maps is not None
    size = mosaic.shape[0], mosaic.shape[1]
    defects = threshold_regions(result.anomaly_maps[0], result.threshold, size, crop, region)
    assert defects

    given = {"part.rdx": bundle.path}
    options = ("--crop", *crop, "--pixel-format", "bayer_rggb")
    told, *boxes = run("regions.py", tmp_path, given, *options).lines
    assert told == "NG"
    assert boxes == [
        "defect at top {}, left {}, {} x {}: ".format(*defect.box_px)
        + f"peak {defect.peak:.4f}, {defect.area_px:.0f} pixels"
        for defect in defects
    ]
    # As it is in the command, which is made for a larger frame.
    done = run("regions.py", tmp_path, given, code=1)
    assert done.lines == []
    assert "crop" in done.errors[-1]


def test_stream_camera(bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path) -> None:
    video = tmp_path / "parts.avi"
    # Without loss: these networks are small enough to see what JPEG does.
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"FFV1"), 10, (112, 80))
    for path in list_images(parts / "test"):
        writer.write(read_image(path)[..., ::-1])
    writer.release()
    lines = [f"frame {i}: {verdict(r)} {r.scores[0]:.4f}" for i, r in enumerate(expected)]
    given = {"part.rdx": bundle.path, "camera": video}
    assert run("stream_camera.py", tmp_path, given).lines == lines
    assert run("stream_camera.py", tmp_path, given, "--frames", 3).lines == lines[:3]


def test_stream_camera_that_stops(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """OpenCV takes numbered pictures for a stream: no file, and after three of them no more."""
    for i, path in enumerate(list_images(parts / "test" / "good")[:3]):
        shutil.copy(path, tmp_path / f"frame_{i}.png")
    given = {"part.rdx": bundle.path, "camera": tmp_path / "frame_%d.png"}
    done = run("stream_camera.py", tmp_path, given, code=1)
    assert [line.partition(":")[0] for line in done.lines] == ["frame 0", "frame 1", "frame 2"]
    assert done.errors[-1] == f"error: {given['camera']}: the camera stopped"
    done = run("stream_camera.py", tmp_path, {**given, "camera": "none.avi"}, code=1)
    assert done.lines == []
    assert done.errors[-1].startswith("error: none.avi: OpenCV cannot open it")


def test_asyncio_service(
    bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path
) -> None:
    photos = shutil.copytree(parts / "test", tmp_path / "photos")
    (photos / "unreadable.png").write_bytes(b"cut off")
    given = {"part.rdx": bundle.path, "photos": photos}
    *told, beats = run("asyncio_service.py", tmp_path, given, "--deadline-ms", FOREVER_MS).lines
    assert told[:PARTS] == answers(expected)
    assert told[PARTS:] == [f"part {PARTS + 1}: ERROR (no picture), reject"]
    assert re.fullmatch(r"[1-9]\d* heartbeats meanwhile", beats)
    # Too late from the start: nobody is told what the network finds.
    *told, _ = run("asyncio_service.py", tmp_path, given, "--deadline-ms", 0).lines
    assert told[:PARTS] == [f"part {i}: LATE, reject" for i in range(1, PARTS + 1)]


class HeldDetector:
    """Its ``score`` ends when it is let go, and finds a good part."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()

    def score(self, _: object) -> SimpleNamespace:
        self.begun.set()
        if not self.free.wait(FOREVER_MS / 1000):
            raise EngineError("nobody let it go: the event loop waits for the network")
        return SimpleNamespace(verdicts=["OK"])


def test_asyncio_service_goes_on_while_the_network_runs() -> None:
    service = load("asyncio_service")
    frame = np.zeros((8, 8), np.uint8)

    async def both() -> tuple[str, str]:
        now = asyncio.get_running_loop().time()
        held = HeldDetector()
        with ThreadPoolExecutor(1) as engine:
            part = service.Part(1, now + FOREVER_MS / 1000, frame)
            asked = asyncio.create_task(service.inspect(held, engine, part))
            while not (held.begun.is_set() or asked.done()):
                await asyncio.sleep(0)
            held.free.set()  # by the loop, in the middle of the call
            in_time = await asked
            held.free.clear()
            late = await service.inspect(held, engine, service.Part(2, now, frame))
            held.free.set()
        return in_time, late

    assert asyncio.run(both()) == ("OK", "LATE")


MY_PLC = """
import sys
from contextlib import contextmanager

class Plc:
    def parts(self):
        return range(16)
    def accept(self, part_id):
        print("accept", part_id, file=sys.stderr)
    def reject(self, part_id):
        print("reject", part_id, file=sys.stderr)

@contextmanager
def connect():
    yield Plc()
"""


def test_controller(bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path) -> None:
    assert len((ROOT / "examples" / "controller.py").read_text().splitlines()) <= 30
    (tmp_path / "my_plc.py").write_text(MY_PLC)
    done = run("controller.py", tmp_path, {"part.rdx": bundle.path, "frames": parts / "test"})
    # Its deadline is a real one: on a busy machine a part may be late, and is rejected.
    told = [line.split()[2] for line in done.lines]
    assert {"OK", "NG"} <= set(told)
    for result, found in zip(told, expected, strict=True):
        assert result in (verdict(found), "LATE")
    acts = ["accept" if result == "OK" else "reject" for result in told]
    assert done.errors == [f"{act} {part}" for part, act in enumerate(acts)]


def test_plc_modbus(bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path) -> None:
    given = {"part.rdx": bundle.path, "frames": parts / "test"}
    options = ("--parts", PARTS, "--deadline-ms", 20_000)
    assert run("plc_modbus.py", tmp_path, given, *options).lines == answers(expected)
    # What the PLC was told is on record.
    records = list(read_records(tmp_path / "records.sqlite"))
    told = [(record.part_id, record.result) for record in records]
    assert told == [(i, verdict(result)) for i, result in enumerate(expected, 1)]


def test_plc_modbus_too_late(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """With a millisecond for each, good parts too are rejected."""
    given = {"part.rdx": bundle.path, "frames": parts / "test" / "good"}
    done = run("plc_modbus.py", tmp_path, given, "--parts", 3, "--deadline-ms", 1)
    assert [line.split()[:2] for line in done.lines] == [["part", f"{i}:"] for i in (1, 2, 3)]
    assert all(line.endswith(", reject") for line in done.lines)
    results = {record.result for record in read_records(tmp_path / "records.sqlite")}
    assert "LATE" in results
    assert "OK" not in results


def test_weekly_line(bundle: Bundle, tmp_path: Path) -> None:
    """What it writes is what training, station and retraining read; no cell is in two folders."""
    done = run("weekly_line.py", tmp_path, {})
    assert done.lines == ["line: station.toml, and a stream of 240 parts"]
    station = read_station(tmp_path / "line" / "station.toml")
    assert station.hmi is not None
    retrain = station.retrain["1"]
    data, stream = find_dataset(retrain.frozen), list_images(tmp_path / "line/cells/stream")
    folders = [find_dataset(retrain.good).train(), list_images(retrain.calibration), stream]
    folders.append([image.path for image in data.test()])
    assert [len(images) for images in folders] == [40, 20, 240, 180]
    assert data.train() == folders[0]
    cells = [path.resolve() for images in folders for path in images]
    assert len(set(cells)) == len(cells)
    assert [path.name.partition("_")[0] for path in stream] == [f"{i:03}" for i in range(1, 241)]
    assert sum(path.stem.endswith("defective") for path in stream) == 40

    (error,) = run("weekly_line.py", tmp_path, {}, code=1).errors
    assert error.startswith("error: ")
    assert "line/cells" in error


def test_weekly_line_plc(
    bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path
) -> None:
    records = RecordConfig(tmp_path / "records.sqlite", pictures=tmp_path / "pictures")
    config = StationConfig(HandshakeConfig(watchdog_ms=FOREVER_MS), records)
    counts = Counter(map(verdict, expected))
    total = ", ".join(f"{counts[told]} {told}" for told in sorted(counts))
    with Detector(bundle.path) as detector:
        station = Station(detector, FolderReplay(parts / "test"), config)
        server = ModbusServer(station, ModbusConfig(port=0))
        with station, server:
            options = ("--parts", PARTS, "--rate", 100, "--port", server.port)
            done = run("weekly_line.py", tmp_path, {}, *options, which=1)
            assert done.lines == [total, f"next: --first {PARTS + 1}"]
            done = run("weekly_line.py", tmp_path, {}, *options, "--first", 17, which=1)
            assert done.lines == [total, f"next: --first {2 * PARTS + 1}"]
    told = [record.part_id for record in read_records(tmp_path / "records.sqlite")]
    assert told == list(range(1, 2 * PARTS + 1))
    assert (
        run("weekly_line.py", tmp_path, {}, *options, code=1, which=1)
        .errors[-1]
        .startswith("error: ")
    )


@pytest.mark.slow
def test_train_and_export(parts: Path, tmp_path: Path) -> None:
    options = ("--epochs", 1, "--image-size", 64, 96, "--precision", "fp32")
    done = run("train_and_export.py", tmp_path, {"category": parts}, *options)
    with Detector(tmp_path / "part.rdx") as detector:
        figures = evaluate(detector, parts).overall
    assert done.lines[-2:] == [
        f"AUROC {figures.image_auroc:.4f} on 8 good and 8 defective parts",
        f"{figures.escapes} defects passed, {figures.false_rejects} good parts were rejected",
    ]


# The program in C++


def built(folder: Path) -> Path:
    """``inspect_frame``, with the OpenVINO of this Python."""
    if not all(map(shutil.which, ("cmake", "g++"))):
        pytest.skip("cmake or g++ is not installed")
    cmake = Path(openvino.__file__).parent / "cmake"
    if not cmake.is_dir():
        pytest.skip("this package of OpenVINO comes without headers")
    source = ("-S", ROOT / "examples" / "cpp", "-B", folder, f"-DOpenVINO_DIR={cmake}")
    for command in (["cmake", *source], ["cmake", "--build", folder]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "inspect_frame"


@pytest.mark.slow
def test_cpp_inspect_frame(
    bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path
) -> None:
    program, model = built(tmp_path / "build"), tmp_path / "part.onnx"

    def inspect(frame: Path, code: int) -> Done:
        done = subprocess.run([program, model, frame], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return Done(done.stdout.splitlines(), done.stderr.splitlines())

    frame = tmp_path / "frame.ppm"
    write_standalone(bundle, model, frame_size=(80, 112))
    codes = {"OK": 0, "NG": 2}
    for path, result in zip(list_images(parts / "test"), expected, strict=True):
        Image.fromarray(read_image(path)).save(frame)
        (line,) = inspect(frame, codes[verdict(result)]).lines
        told, score = line.split()
        assert told == verdict(result)
        assert float(score) == pytest.approx(result.scores[0], rel=1e-5)

    score = float(expected[0].scores[0])
    copy = open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))
    changed = override_limits(
        copy, "a test", ok_below=score / 2, ng_above=score * 2, executed="fp32", user="a tester"
    )
    write_standalone(changed, model, frame_size=(80, 112), overwrite=True)
    Image.fromarray(read_image(list_images(parts / "test")[0])).save(frame)
    assert inspect(frame, 1).lines[0].startswith("REVIEW ")

    # Nothing of this is OK.
    Image.fromarray(np.zeros((80, 112), np.uint8)).save(grey := tmp_path / "grey.pgm")
    Image.fromarray(np.zeros((79, 112, 3), np.uint8)).save(low := tmp_path / "low.ppm")
    (cut := tmp_path / "cut.ppm").write_bytes(frame.read_bytes()[:-1])
    for wrong, told in (
        (grey, "another size or format"),
        (low, "another size or format"),
        (cut, "cut off"),
        (tmp_path / "none.ppm", "wanted a binary PPM or PGM"),
    ):
        done = inspect(wrong, 4)
        assert done.lines == []
        assert told in done.errors[-1]
    model.unlink()
    assert inspect(frame, 4).lines == []
