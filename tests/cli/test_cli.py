"""The command line, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.signature import SigningKey
from rdx_fast.cli import app
from rdx_fast.cli.common import BackboneName
from rdx_fast.deep_images import write_png
from rdx_fast.detector import Detector
from rdx_fast.engines.tensorrt.api import load_api
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.gpu.operations import source_hash
from rdx_fast.kernels.native import ISAS
from rdx_fast.models import BACKBONES
from rdx_fast.overlay import overlay
from rdx_fast.scoring import score_files
from support.checkout import GPU, needs_no_gpu
from support.commands import run, start, unboxed
from support.scripted import ScriptedDetector
from support.signing import keys

TINY_NETWORK = ["--backbone", "efficientnet_lite0", "--image-size", "64", "64"]


@pytest.mark.slow
def test_from_good_parts_to_scores(parts: Path, tmp_path: Path) -> None:
    options = ["--backbone", "efficientnet_lite0", "--image-size", "64", "64", "--batch", "8"]
    trained = tmp_path / "run"
    part = tmp_path / "part.rdx"
    options += ["--epochs", "6", "--holdout", "0.25"]
    done = start("train", parts, trained, *options, "--max-minutes", 0, "--resume")
    assert "starts from the beginning" in done.stderr
    assert "with --resume continues" in done.stderr
    assert "1 batch trained in " in done.stderr
    early = run("export", trained, tmp_path / "early.rdx", "--precision", "fp32")
    assert "warning: the run was stopped after 1 of 18 batches: train on with" in early.stderr
    assert "resume=True, --resume" in run("train", parts, trained, *options, code=2).stderr
    done = run("train", parts, trained, *options, "--resume")
    assert "trained 18 batches (6 whole epochs) of " in done.stderr
    assert done.stderr.endswith("part.rdx\n")  # what comes next needs no other images
    assert "nothing to train" in run("train", parts, trained, *options, "--resume").stderr
    assert "loss" in done.stderr
    done = run("export", trained, part)
    assert "was stopped after" not in done.stderr
    assert "threshold" in done.stdout
    assert "give at least 49" in done.stderr
    assert open_bundle(part).manifest.executions[0].threshold.good_images == 6
    result = json.loads(run("evaluate", part, parts, "--json").stdout)
    assert result["overall"]["image_auroc"] > 0.9
    assert "AUROC" in run("evaluate", part, parts).stdout


CROP = (10, 20, 64, 80)  # top, left, height, width in the 80 x 112 pixels of a part


def cropped_copy(source: Path, target: Path) -> None:
    """The images below ``source``, cut to ``CROP``."""
    top, left, height, width = CROP
    for path in list_images(source):
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shown = read_image(path)[top : top + height, left : left + width]
        Image.fromarray(shown).save(target / path.relative_to(source))


def test_a_crop_is_scored_as_the_image_of_it(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """Scores, overlays and figures; an image that is smaller is an error of its own."""
    cropped_copy(parts / "test", tmp_path / "part" / "test")
    folder = tmp_path / "frames"
    shutil.copytree(parts / "test", folder)
    Image.new("RGB", (90, 80)).save(folder / "small.png")
    options = ("--crop", *CROP, "--json")
    done = run("score", bundle.path, folder, *options, "--overlays", tmp_path / "o", code=1)
    rows = {
        Path(r["path"]).relative_to(folder): r
        for r in map(json.loads, done.stdout.split("\n")[:-1])
    }
    alone = run("score", bundle.path, tmp_path / "part" / "test", "--json")
    for row in map(json.loads, alone.stdout.splitlines()):
        same = rows.pop(Path(row["path"]).relative_to(tmp_path / "part" / "test"))
        assert (same["verdict"], same["score"]) == (row["verdict"], row["score"])
    ((path, small),) = rows.items()
    assert (path.name, small["verdict"], small["score"]) == ("small.png", "ERROR", None)
    assert "reaches beyond the frame of 80 x 90 pixels" in small["error"]
    (folder / "small.png").unlink()
    shown = np.asarray(Image.open(tmp_path / "o" / "notch" / "000.png"))
    frame, heat = shown[:, :112].copy(), shown[:, 112:].copy()
    assert (frame != heat).any()
    unmarked = overlay(frame, np.zeros((64, 80), np.float32), crop=CROP)
    assert (unmarked[:10] != frame[:10]).any()  # what is not inspected looks different
    for picture in (unmarked, heat):
        picture[10:74, 20:100] = 0
    np.testing.assert_array_equal(unmarked, heat)  # no heat outside the crop

    whole = json.loads(run("evaluate", bundle.path, parts, "--crop", *CROP, "--json").stdout)
    shutil.copytree(parts / "train", tmp_path / "part" / "train")
    cut = json.loads(run("evaluate", bundle.path, tmp_path / "part", "--json").stdout)
    assert whole["overall"] == cut["overall"]


def test_bayer_images(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (80, 112), dtype=np.uint8)
    Image.fromarray(raw).save(tmp_path / "raw.png")
    Image.new("RGB", (112, 80)).save(tmp_path / "colour.png")
    done = run("score", bundle.path, tmp_path, "--pixel-format", "bayer_grbg", "--json", code=1)
    colour, scored = map(json.loads, done.stdout.splitlines())
    assert "is not bayer_grbg, which is [H, W]" in colour["error"]
    with Detector(bundle.path) as detector:
        wanted = detector.score(raw, pixel_format="bayer_grbg")
        assert scored["score"] == pytest.approx(float(wanted.scores[0]), rel=1e-6)
        assert float(detector.score(raw).scores[0]) != pytest.approx(scored["score"], rel=1e-3)


def deep_copy(source: Path, target: Path) -> None:
    """The images below ``source`` in 12 bits, with 4080 for white."""
    for path in list_images(source):
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        write_png(target / path.relative_to(source), read_image(path).astype(np.uint16) * 16)


def test_images_of_16_bits(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """They are scored and shown by their levels as the same images of 8 bits."""
    folder = tmp_path / "deep"
    deep_copy(parts / "test" / "notch", folder)
    shutil.copy(parts / "test" / "notch" / "000.png", folder / "shallow.png")
    options = ("--levels", 0, 4080, "--json")
    done = run("score", bundle.path, folder, *options, "--overlays", tmp_path / "o", code=1)
    *rows, other = map(json.loads, done.stdout.splitlines())
    assert "levels [0, 4080] are for uint16 frames, and this one is uint8" in other["error"]
    with Detector(bundle.path) as detector:
        for row in rows:
            frame = read_image(parts / "test" / "notch" / Path(row["path"]).name)
            score = float(detector.score(frame).scores[0])
            assert row["score"] == pytest.approx(score, rel=1e-4)
            shown = np.asarray(Image.open(tmp_path / "o" / Path(row["path"]).name))
            np.testing.assert_array_equal(shown[:, : frame.shape[1]], frame)
    done = run("score", bundle.path, folder, "--json", code=1)
    assert done.stdout.count("a uint16 frame's range is unknown: give the grey levels") == len(rows)
    refused = run("score", bundle.path, folder, "--levels", 4095, 0, code=2)
    assert "0 <= black < white <= 65535" in unboxed(refused.stderr)


@pytest.mark.slow
def test_from_12_bit_parts_to_scores(parts: Path, tmp_path: Path) -> None:
    """What training is told of the images, export knows from the run."""
    deep, trained, part = tmp_path / "deep", tmp_path / "run", tmp_path / "part.rdx"
    deep_copy(parts, deep)
    crop, levels = ["--crop", 2, 4, 76, 100], ["--levels", 0, 4080]
    options = [*TINY_NETWORK[2:], "--foreground", "otsu-bright", *crop, *levels]
    run("preview", deep, tmp_path / "preview.png", *options)
    options += ["--method", "rd-expert", *TINY_NETWORK[:2], "--iterations", 30, "--batch", 8]
    run("train", deep, trained, *options)
    run("export", trained, part, "--good", deep / "calibration", "--precision", "fp32")
    recipe = json.loads((part / "manifest.json").read_text())["training"]["recipe"]
    assert (recipe["levels"], recipe["crop"]) == ([0, 4080], [2, 4, 76, 100])
    found = [
        json.loads(run("evaluate", part, *data, *crop, "--json").stdout)["overall"]["image_auroc"]
        for data in ((deep, *levels), (deep,))  # the bundle's recipe states them
    ]
    assert found[0] == found[1] > 0.8
    refused = run("evaluate", part, parts, code=2)
    assert "this one is uint8" in unboxed(refused.stderr)
    refused = run("export", trained, tmp_path / "b.rdx", "--good", parts / "calibration", code=2)
    assert "this one is uint8" in unboxed(refused.stderr)
    refused = run("train", deep, trained, *options[:-2], "--resume", "--levels", 0, 4095, code=2)
    assert "levels: (0, 4080) before, (0, 4095) now" in unboxed(refused.stderr)


@pytest.mark.slow
def test_train_by_expert(parts: Path, tmp_path: Path) -> None:
    options = ["--method", "rd-expert", "--backbone", "efficientnet_lite0"]
    options += ["--image-size", "64", "64", "--batch", "8", "--iterations", "4"]
    done = run("train", parts, tmp_path / "run", *options, "--holdout", "0.25")
    assert "trained 4 batches" in done.stderr
    assert "loss: teacher" in done.stderr
    assert "waiting for data" in done.stderr
    private, public = keys(tmp_path, "quality")
    signed = ("--precision", "fp32", "--sign-key", private)
    exported = run("export", tmp_path / "run", tmp_path / "part.rdx", *signed)
    assert "rd-expert" in exported.stdout
    assert verify_bundle(open_bundle(tmp_path / "part.rdx", public))
    run("preview", parts, tmp_path / "look.png", "--image-size", "64", "64", "--count", 3)
    assert np.asarray(Image.open(tmp_path / "look.png")).shape == (192, 192, 3)


@pytest.mark.slow
def test_foreground(parts: Path, tmp_path: Path) -> None:
    options = ["--image-size", "64", "64", "--count", 3, "--texture-cuts", "--texture-colors"]
    good = list_images(parts / "train" / "good")
    mask = tmp_path / "auto"
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask, format="png")

    def look(foreground: str | Path) -> bytes:
        picture = tmp_path / "look.png"
        done = run("preview", parts, picture, *options, "--foreground", foreground)
        told = f"3 of {len(good)} images (--count): good part with the outline of its foreground"
        assert told in done.stderr
        return picture.read_bytes()

    assert look("auto") == look("grabcut")
    assert look("otsu-dark") != look("otsu-bright") != look(mask)
    missing = run("preview", parts, tmp_path / "look.png", "--foreground", "otsu", code=2)
    assert "where there is nothing" in unboxed(missing.stderr)
    wrong = run("train", parts, tmp_path / "run", "--foreground", "auto", code=2)
    assert "foreground: options of rd-expert, and the method is rd4ad" in unboxed(wrong.stderr)
    command = ["experiment", parts, tmp_path / "results", "--method", "rd4ad", "--texture-cuts"]
    assert "not among the methods" in unboxed(run(*command, code=2).stderr)
    renamed = parts.parent / "a_screw"
    renamed.symlink_to(parts)
    screw = renamed / "train" / "good", tmp_path / "look.png", *options, "--foreground", "auto"
    assert "foreground auto: otsu-dark, as published for screw" in run("preview", *screw).stderr

    options = ["--method", "rd-expert", "--backbone", "efficientnet_lite0", "--texture-cuts"]
    options += ["--image-size", "64", "64", "--batch", "8"]
    renamed.rename(parts.parent / "a_cable")
    done = run("train", parts.parent / "a_cable", tmp_path / "cable", *options, "--max-minutes", 0)
    assert "length: 10000 batches, as published for cable" in done.stderr
    assert "after 1 of 10000 batches" in done.stderr
    options += ["--iterations", "2"]
    done = run("train", parts, tmp_path / "run", *options, "--foreground", "auto")
    assert f"making foreground masks of {len(good)} images by grabcut" in done.stderr
    good_parts = ["--good", parts / "calibration"]
    run("export", tmp_path / "run", tmp_path / "part.rdx", "--precision", "fp32", *good_parts)
    recorded = open_bundle(tmp_path / "part.rdx").manifest.training["recipe"]
    assert recorded["foreground"] == "grabcut"
    assert (recorded["texture_cuts"], recorded["texture_colors"]) == (True, False)
    other = run("train", parts, tmp_path / "run", *options, "--resume", code=2)
    assert "foreground: grabcut before, none now" in unboxed(other.stderr)


@pytest.mark.slow
def test_import(parts: Path, tmp_path: Path) -> None:
    import torch

    from rdx_fast.models import RD4AD

    network = RD4AD("resnet18")
    published = {"encoder": network.teacher, "bn": network.bottleneck, "decoder": network.student}
    torch.save(published["encoder"].state_dict(), tmp_path / "resnet18.pth")
    rest = {part: published[part].state_dict() for part in ("bn", "decoder")}
    torch.save(rest, tmp_path / "res18_part.pth")
    options = ["--backbone", "resnet18", "--image-size", "64", "64"]
    files = [tmp_path / "res18_part.pth", tmp_path / "resnet18.pth"]
    assert "--good FOLDER" in run("import", *files, tmp_path / "run", *options).stderr
    options = ["--good", parts / "calibration", "--precision", "fp32"]
    done = run("export", tmp_path / "run", tmp_path / "a.rdx", *options)
    assert "res18_part.pth" in done.stdout
    wrong = run("import", *files, tmp_path / "b", "--backbone", "resnet34", code=2)
    assert "missing:\n  encoder.layer1.2.conv1.weight" in wrong.stderr


def test_score_goes_on_after_a_bad_image(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(parts / "test", folder)
    (folder / "good" / "broken.png").write_bytes(b"\x89PNG broken")
    output, overlays = tmp_path / "rows.csv", tmp_path / "overlays"
    done = start("score", bundle.path, folder, "--output", output, "--overlays", overlays, code=1)
    assert "broken.png" in done.stderr
    rows = list(csv.DictReader(output.open()))
    assert len(rows) == 17
    counts = Counter(row["verdict"] for row in rows)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("OK", "REVIEW", "NG", "ERROR"))
    assert told in done.stderr
    by_name = {Path(r["path"]).relative_to(folder).as_posix(): r for r in rows}
    broken = by_name["good/broken.png"]
    assert (broken["verdict"], broken["score"]) == ("ERROR", "")
    assert broken["error"]
    for name, row in by_name.items():
        if name != "good/broken.png":
            assert row["verdict"] == (
                "NG" if float(row["score"]) > float(row["threshold"]) else "OK"
            )
    assert {r["verdict"] for n, r in by_name.items() if n.startswith("notch")} == {"NG"}
    pictures = {p.relative_to(overlays).as_posix() for p in list_images(overlays)}
    assert pictures == by_name.keys() - {"good/broken.png"}
    assert np.asarray(Image.open(overlays / "notch" / "000.png")).shape == (80, 224, 3)


def test_a_row_says_what_the_detector_found(bundle: Bundle, parts: Path) -> None:
    files = list_images(parts / "test")[:2]
    with Detector(bundle.path) as detector:
        unsure: Any = ScriptedDetector(detector)
        unsure.verdicts = ["REVIEW"]
        first, second = score_files(unsure, files)
    assert (first.verdict, first.p_value, first.region) == ("REVIEW", 0.25, None)
    assert (second.verdict, second.region) == ("OK", None)
    assert second.p_value is not None
    assert second.p_value > 0.05


def test_score_prints_rows_of_files_and_patterns(bundle: Bundle, parts: Path) -> None:
    notch = parts / "test" / "notch"
    done = run("score", bundle.path, notch / "000.png", notch / "*.png", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["path"] for r in rows] == [str(p) for p in list_images(notch)]
    assert {r["executed"] for r in rows} == {"fp32"}
    done = run("score", bundle.path, notch / "000.png", "--output", "rows.xlsx", code=2)
    assert "rows are written as .csv or .jsonl" in unboxed(done.stderr)
    done = run("score", bundle.path, notch / "000.png", notch / "none.png", code=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [r["verdict"] for r in rows] == ["NG", "ERROR"]
    assert rows[1]["error"] == "no such file"


def test_inspect(bundle: Bundle, tmp_path: Path) -> None:
    assert json.loads(run("info", bundle.path, "--json").stdout)["format"] == 3
    assert "efficientnet_lite0" in run("info", bundle.path).stdout
    assert "no such bundle" in start("inspect", tmp_path / "none", code=2).stderr


@pytest.mark.slow
def test_plan(bundle: Bundle, kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.rdx"
    shutil.copytree(bundle.path, path)
    (path / "kernels").symlink_to(kernels)
    done = run("plan", path, "--compute-capability", 8.6, "--max-batch", 8)
    (plan,) = (path / "plans").glob("*.plan")
    told = unboxed(done.stderr)
    assert plan.name in told.replace(" ", "")
    assert f"kernels: {path / 'kernels'}" in told
    again = run("plan", path, "--compute-capability", 8.6, "--max-batch", 8)
    assert plan.name in again.stderr
    assert len(list((path / "plans").glob("*.plan"))) == 1
    assert "wanted one such as 8.6" in unboxed(
        run("plan", path, "--compute-capability", "sm86", code=2).stderr
    )
    level = ("--compute-capability", 8.6, "--optimization-level", 5)
    assert "builds the same plan at each" in unboxed(run("plan", path, *level, code=2).stderr)
    done = run("export", path, path, "--compute-capability", 8.6, code=2)
    assert "is for --tensorrt" in unboxed(done.stderr)


def test_what_a_bundle_holds_for_gpus(bundle: Bundle, tmp_path: Path) -> None:
    if not load_api().rtx:
        pytest.skip("plans for GPUs that are not here are built by TensorRT for RTX alone")
    path = tmp_path / "part.rdx"
    shutil.copytree(bundle.path, path)
    none = run("info", path).stdout.splitlines()[-2:]
    assert none == ["TensorRT plan: none in the bundle", "GPU kernels: none in the bundle"]
    (kernels,) = (
        f for f in json.loads(run("doctor", path, "--json").stdout) if f["part"] == "GPU kernels"
    )
    assert not kernels["present"]
    assert f"kernels.aot {path / 'kernels'}" in kernels["advice"]

    (path / "kernels").mkdir()
    builds: dict[str, dict[str, str]] = {"86": {}, "120": {}}
    content = {"format": 3, "source_sha256": source_hash(), "kernels": [{"builds": builds}] * 2}
    (path / "kernels" / "kernels.json").write_text(json.dumps(content))
    options = ("--compute-capability", 8.6, "--max-batch", 8)
    private, public = keys(tmp_path, "quality")
    SigningKey.read(private).sign_made(path / "kernels" / "kernels.json")
    options += ("--sign-key", private)
    first, again = (unboxed(run("plan", path, *options).stderr) for _ in range(2))
    (plan,) = (path / "plans").glob("*.plan")
    told = (
        f"fp32 for any GPU of compute capability 8.6, batches to 8, {load_api().name}, "
        f"{plan.stat().st_size / 1e6:.0f} MB"
    )
    assert f"plan built: {told}: {plan} " in first
    assert f"plan already there: {told}: {plan} " in again
    assert f"kernels: {path / 'kernels'}" in again
    held = run("info", path).stdout.splitlines()[-2:]
    assert held == [
        f"TensorRT plan: {told}",
        "GPU kernels: 2 kernels for compute capability 8.6, 12.0",
    ]
    (kernels,) = (
        f for f in json.loads(run("doctor", path, "--json").stdout) if f["part"] == "GPU kernels"
    )
    assert kernels["present"]
    assert kernels["found"] == f"built, in {path / 'kernels'}"

    Path(f"{plan}.sig").unlink()
    assert "is not signed" in run("plan", path, *options, code=2).stderr
    wrote = run("sign", path, "--key", private).stderr
    assert f"{plan}.sig" in wrote.replace("\n", "")
    assert "signed by the key of" in run("verify", path, "--public-key", public).stderr
    plan.write_bytes(plan.read_bytes() + b"x")
    done = run("verify", path, "--public-key", public, code=2)
    assert "was changed after it was signed" in unboxed(done.stderr)


def test_what_plan_refuses(tmp_path: Path) -> None:
    both = ("--device", 0, "--compute-capability", 8.6)
    assert "give one of them" in unboxed(run("plan", tmp_path, *both, code=2).stderr)


@needs_no_gpu
def test_a_gpu_that_is_not_there(bundle: Bundle, parts: Path) -> None:
    told = unboxed(run("plan", bundle.path, code=2).stderr)
    assert "build for another machine's GPU with --compute-capability X.Y" in told
    assert "openvino" not in told
    for backend in ("tensorrt", "torch"):
        done = run("score", bundle.path, parts / "test" / "good", "--backend", backend, code=2)
        assert "backend='openvino'" in unboxed(done.stderr)
        assert not done.stdout


def test_former_names(bundle: Bundle) -> None:
    assert run("inspect", bundle.path).stdout == run("info", bundle.path).stdout
    run("protocol", "--help")
    shown = {c.name or c.callback.__name__ for c in app.registered_commands if not c.hidden}
    assert {"info", "experiment", "import"} <= shown
    assert not {"inspect", "protocol"} & shown


def test_version() -> None:
    assert run("--version").stdout == f"rdx_fast {version('rdx_fast')}\n"


def test_backbones() -> None:
    assert get_args(BackboneName) == tuple(BACKBONES)


def test_doctor() -> None:
    found = {f["part"]: f for f in json.loads(run("doctor", "--json").stdout)}
    assert found["C++ kernels"]["present"] == bool(ISAS)
    assert found["torch"]["present"]
    assert "fp32" in found["OpenVINO"]["found"]
    assert found["NVIDIA GPU"]["present"] == GPU
    assert found["TensorRT"]["present"]
    assert "rdx-fast plan" in found["GPU kernels"]["advice"]
    assert "CPU" in run("doctor").stdout
    assert "CPU" in run("doctor", "missing.rdx", code=1).stdout
    missing = {
        f["part"]: f for f in json.loads(run("doctor", "missing.rdx", "--json", code=1).stdout)
    }
    assert "no such bundle" in missing["bundle missing.rdx"]["advice"]


def test_wrong_use(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    done = run("train", parts, tmp_path / "run", "--image-size", 100, 100, code=2)
    assert "multiples of 32" in unboxed(done.stderr)
    assert "is not a folder" in run("train", tmp_path / "none", tmp_path / "r", code=2).stderr
    assert "no checkpoint" in run("export", tmp_path, tmp_path / "a.rdx", code=2).stderr
    assert "a test set needs 'good'" in run("evaluate", bundle.path, tmp_path, code=2).stderr
    done = run("evaluate", bundle.path, bundle.path, parts, code=2)
    assert "2 bundles given: give one, or compare them with --compare" in unboxed(done.stderr)
    done = run("evaluate", "--compare", bundle.path, parts, code=2)
    assert "--compare wants two bundles or more, and one is given" in unboxed(done.stderr)
    done = run("train", parts, tmp_path / "r", "--textures", parts, code=2)
    assert "which rd4ad does not make" in unboxed(done.stderr)
    shown = run("--help").stdout
    for command in (
        *("train", "import", "export", "score", "evaluate", "experiment"),
        *("info", "doctor", "preview", "demo", "plan"),
    ):
        assert command in shown


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("torch", []),
        ("cv2", ["--method", "rd-expert", *TINY_NETWORK, "--batch", "8", "--foreground", "auto"]),
    ],
)
def test_missing_part_says_how_to_get_it(
    package: str, options: list[str], parts: Path, tmp_path: Path
) -> None:
    # Stands for an installation without the extra: the import system finds no such package.
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
from rdx_fast.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "train", str(parts), str(tmp_path / "run"), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert '".[train]"' in done.stderr
