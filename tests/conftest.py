"""Shared fixtures: a network trained on drawn parts, and a bundle exported from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# ``python -m pytest`` puts the checkout first on the path: test what is installed instead.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

if not torch.cuda.is_available():
    # Read when the kernels are imported: without a GPU they are interpreted.
    os.environ["TRITON_INTERPRET"] = "1"

import exported  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from scripted import ScriptedCamera  # noqa: E402

from rdx_fast.bundle import Bundle  # noqa: E402
from rdx_fast.export import export_bundle  # noqa: E402
from rdx_fast.images import list_images, read_image  # noqa: E402
from rdx_fast.line import RecordConfig, Rules, StationConfig  # noqa: E402
from rdx_fast.models import BACKBONES, ReverseDistillation  # noqa: E402
from rdx_fast.training import Checkpoint, Recipe, train  # noqa: E402

SIZE = (64, 96)  # of the trained network's input: not square, so that a swap shows


def draw_part(rng: np.random.Generator, defective: bool = False) -> NDArray[np.uint8]:
    """A bright disc on a striped plate; a defective one has a dark notch in the disc."""
    height, width = 80, 112
    y, x = np.mgrid[:height, :width]
    plate = 90 + 25 * np.sin(x / 5)[..., None] * np.ones(3)
    disc = (y - 40 - rng.normal()) ** 2 + (x - 56 - rng.normal()) ** 2 < 26**2
    plate[disc] = (200, 180, 120)
    if defective:
        top, left = rng.integers(24, 44), rng.integers(40, 60)
        plate[top : top + 12, left : left + 12] = (30, 20, 60)
    return (plate + rng.normal(0, 3, plate.shape)).clip(0, 255).astype(np.uint8)


def write_parts(folder: Path, count: int, seed: int, defective: bool = False) -> list[Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(draw_part(rng, defective)).save(folder / f"{i:03}.png")
    return list_images(folder)


class Intruder:
    """Would leave a mark if anyone unpickled it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def assert_same_weights(a: Checkpoint, b: Checkpoint) -> None:
    for ours, theirs in ((a.network, b.network), (a.expert, b.expert)):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key


def assert_student_mirrors_teacher(network: ReverseDistillation, backbone: str) -> None:
    with torch.no_grad():
        teacher, student = network.eval()(torch.zeros(2, 3, 64, 96))
    channels = BACKBONES[backbone].channels
    shapes = [(2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16), strict=True)]
    assert [tuple(m.shape) for m in teacher] == shapes
    assert [tuple(m.shape) for m in student] == shapes


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category folder in the MVTec AD layout, with a held-out ``calibration`` folder beside."""
    root = tmp_path_factory.mktemp("parts")
    write_parts(root / "train" / "good", 24, seed=1)
    write_parts(root / "calibration", 20, seed=2)
    write_parts(root / "test" / "good", 8, seed=3)
    write_parts(root / "test" / "notch", 8, seed=4, defective=True)
    return root


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe(backbone="efficientnet_lite0", image_size=SIZE, epochs=12, batch=8)


@pytest.fixture(scope="session")
def checkpoint(parts: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    run = tmp_path_factory.mktemp("trained") / "run"
    return train(recipe, list_images(parts / "train" / "good"), run)


@pytest.fixture(scope="session")
def expert_checkpoint(
    parts: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """The same by RD with Expert, its textures cut from the parts themselves."""
    run = tmp_path_factory.mktemp("trained_by_expert") / "run"
    expert = replace(recipe, method="rd-expert", teacher_learning_rate=0.001)
    return train(expert, list_images(parts / "train" / "good"), run)


@pytest.fixture(scope="session")
def bundle(parts: Path, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    good = list_images(parts / "calibration")
    return export_bundle(checkpoint, good, tmp_path_factory.mktemp("exported") / "part.rdx")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every backbone and method in every precision, see ``exported``. Several gigabytes."""
    folder = tmp_path_factory.mktemp("networks")
    exported.export_all(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kernels for all architectures. In a process of its own: this one interprets Triton."""
    folder = tmp_path_factory.mktemp("aot") / "kernels"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder.parent / "cache")  # compile, whatever was before
    command = [sys.executable, "-P", "-m", "rdx_fast.kernels.aot", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def real_images() -> Path:
    """Real photographs and teacher weights, which the repository does not hold."""
    given = os.environ.get("RDX_FAST_TEST_DATA")
    if given is None:
        pytest.skip("RDX_FAST_TEST_DATA names no folder of real images")
    folder = Path(given).resolve()
    if not (folder / "data").is_dir():
        pytest.fail(f"RDX_FAST_TEST_DATA is {given}, which holds no folder 'data'")
    return folder


@pytest.fixture
def camera(parts: Path) -> ScriptedCamera:
    """Of a station."""
    # The threshold was set from these: all of them pass.
    return ScriptedCamera(read_image(list_images(parts / "calibration")[0]))


@pytest.fixture
def config(tmp_path: Path) -> StationConfig:
    """Of a station that has time."""
    rules = Rules(deadline_ms=20_000, hang_ms=20_000, watchdog_ms=0)
    return StationConfig(
        rules=rules,
        records=RecordConfig(tmp_path / "records.sqlite", pictures=tmp_path / "pictures"),
        frame_timeout_ms=200,
    )
