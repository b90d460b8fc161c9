"""The option ``--standalone`` of ``export``."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.images import list_images
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe
from rdx_fast.training import Checkpoint
from support.commands import run, unboxed
from support.small_bundle import write_bundle


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("small") / "small.rdx")


def metadata(file: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(file).metadata_props}


def test_of_a_bundle(small: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "part.onnx"
    options = ("--standalone", file, "--frame-size", 75, 91, "--pixel-format", "bayer_rggb")
    options += ("--crop", 0, 1, 75, 80, "--levels", 0, 1023, "--batch", 0)
    done = run("export", small.path, *options)
    megabytes = f"{file.stat().st_size / 1e6:.1f} MB"
    assert done.stdout == f"{file}: {megabytes}, fp32, frames of 75 x 91 bayer_rggb\n"
    told = metadata(file)
    assert (told["frame_size"], told["pixel_format"]) == ("[75, 91]", "bayer_rggb")
    assert (told["crop"], told["levels"]) == ("[0, 1, 75, 80]", "[0, 1023]")
    (frame,) = onnx.load(file).graph.input
    assert frame.type.tensor_type.shape.dim[0].dim_param == "batch"
    again = run("export", small.path, *options, code=2)
    assert "part.onnx exists" in again.stderr
    run("export", small.path, *options, "--overwrite")


def test_of_a_recipe(tmp_path: Path) -> None:
    recipe = InspectionRecipe(FrameSpec(75, 91, "mono", (0, 1, 75, 80), (0, 1023)))
    bundle = write_bundle(tmp_path / "small.rdx", recipe=recipe)
    file = tmp_path / "part.onnx"
    done = run("export", bundle.path, "--standalone", file)
    assert done.stdout.endswith("MB, fp32, frames of 75 x 91 mono\n")
    told = metadata(file)
    assert (told["crop"], told["levels"]) == ("[0, 1, 75, 80]", "[0, 1023]")
    file.unlink()
    wrong = run("export", bundle.path, "--standalone", file, "--levels", 0, 4095, code=2)
    assert "levels is (0, 4095) and the recipe states (0, 1023)" in unboxed(wrong.stderr)
    assert not file.exists()


@pytest.mark.slow
def test_of_a_run(checkpoint: Checkpoint, parts: Path, store: Path, tmp_path: Path) -> None:
    from rdx_fast.training.checkpoint import save_checkpoint

    save_checkpoint(checkpoint, tmp_path / "run")
    bundle, file = tmp_path / "part.rdx", tmp_path / "part.onnx"
    good = ("--good", parts / "calibration", "--precision", "int8")
    options = ("--standalone", file, "--frame-size", 80, 112)
    done = run("export", tmp_path / "run", bundle, *good, *options)
    assert f"{file}: " in done.stdout
    assert (metadata(file)["bundle"], metadata(file)["precision"]) == ("part", "int8")
    assert len(list_images(parts / "calibration")) == 20
    assert bundle.is_dir()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "is a bundle already: give a run folder, or --standalone FILE.onnx"),
        (("--frame-size", 3, 4, "--batch", 2), "--frame-size, --batch is for --standalone"),
        (("--standalone", "a.onnx"), "the size of the frames is missing"),
        (("b.rdx", "--fusion", "mul"), "BUNDLE, --fusion is for the export of a run"),
        (("--precision", "bf16"), "a file cannot ask for bf16"),
        (("--crop", 0, 0, 76, 1), "beyond the frame of 75 x 91"),
    ],
)
def test_wrong_use(options: tuple[object, ...], told: str, small: Bundle, tmp_path: Path) -> None:
    if options and options[0] not in ("--frame-size", "--standalone"):
        options = ("--standalone", tmp_path / "a.onnx", "--frame-size", 75, 91, *options)
    done = run("export", small.path, *options, code=2)
    assert told in unboxed(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_run_needs_the_name_of_its_bundle(tmp_path: Path) -> None:
    done = run("export", tmp_path, code=2)
    assert "the bundle to write is missing" in unboxed(done.stderr)


def test_without_onnx(small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("rdx_fast.export.standalone")]:
        monkeypatch.delitem(sys.modules, name)
    # None in sys.modules is how Python spells "not installed".
    monkeypatch.setitem(sys.modules, "onnx", None)
    options = ("--standalone", tmp_path / "a.onnx", "--frame-size", 75, 91)
    done = run("export", small.path, *options, code=2)
    assert "--standalone needs the Python package 'onnx'" in done.stderr
    assert '".[standalone]"' in done.stderr
