"""The commands around recipe, limits and history, as an engineer at the line calls them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.images import list_images, read_image
from support.commands import Done, run, unboxed

RECIPE = """
mm_per_pixel = 0.5
[frame]
height = {height}
width = {width}
[[regions]]
name = "left"
polygon = [[0, 0], [{half}, 0], [{half}, {height}], [0, {height}]]
[[regions]]
name = "right"
mask = "right.png"
"""


@pytest.fixture
def part(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "part.rdx"))


def keys(folder: Path) -> tuple[Path, Path]:
    """Files of a private key and of its public key, as the documentation makes them."""
    key, public = folder / "key.pem", folder / "key.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    return key, public


def test_from_a_recipe_to_a_signed_bundle(part: Path, parts: Path, tmp_path: Path) -> None:
    good = parts / "test" / "good"
    height, width = read_image(list_images(good)[0]).shape[:2]
    right = np.broadcast_to(np.uint8(255) * (np.arange(width) >= width // 2), (height, width))
    Image.fromarray(right).save(tmp_path / "right.png")
    recipe = tmp_path / "part.toml"
    recipe.write_text(RECIPE.format(height=height, width=width, half=width // 2))

    key, public = keys(tmp_path)

    assert "any size" in run("recipe", part).stdout
    run("sign", part, "--key", key)
    done = run("recipe", part, "--set", recipe, "--user", "anna", "--sign-key", key)
    assert "region right" in done.stdout
    assert f"rdx-fast calibrate {part} GOOD" in done.stderr
    assert open_bundle(part, public).manifest.revision == 1
    assert "calibrate them again" in run("score", part, good, code=2).stderr

    few = run("calibrate", part, good, "--false-reject", 0.02, code=2).stderr
    assert "least 99 good images" in few
    assert "--weaker" in few
    bad = parts / "test" / "notch"
    options = ("--review", 0.5, "--defective", bad, "--weaker", "--user", "anna", "--sign-key", key)
    done = run("calibrate", part, good, "--false-reject", 0.02, *options)
    promised = 2 / (len(list_images(good)) + 1)  # in two regions
    assert done.stderr.endswith(f"asked for 2.000% false rejects, promised {promised:.3%}\n")
    assert open_bundle(part, public).manifest.revision == 2
    done = run("score", part, good, bad, "--json")
    verdicts = {Path(r["path"]).parent.name: r["verdict"] for r in map(json.loads, lines(done))}
    assert verdicts["notch"] == "NG"

    done = run("score", part, bad, "--json", "--defects")
    found = json.loads(lines(done)[0])["defects"]
    assert {d["region"] for d in found} <= {"left", "right"}
    assert found[0]["box_mm"] == [pytest.approx(0.5 * v) for v in found[0]["box_px"]]
    assert "is for rows in JSON" in unboxed(run("score", part, bad, "--defects", code=2).stderr)

    run("override", part, "--region", "left", "--ng-above", 9, "--reason", "new lamp")
    assert "hand: new lamp" in run("info", part).stdout
    assert (
        "'lid' is given as region"
        in run("override", part, "--region", "lid", "--ng-above", 9, "--reason", "x", code=2).stderr
    )

    assert "not signed" in run("verify", part).stderr
    assert "not signed as it is now" in run("verify", part, "--public-key", public, code=2).stderr
    run("sign", part, "--key", key)
    done = run("verify", part, "--public-key", public, "--json")
    assert f"4 entries; signed by the key of {public}" in done.stderr
    entries = [json.loads(line) for line in lines(done)]
    assert [e["action"] for e in entries] == ["export", "recipe", "calibrate", "override"]
    assert [e["user"] for e in entries][1:3] == ["anna", "anna"]

    limit = ("--region", "left", "--ng-above", 10, "--reason", "newer lamp")
    run("override", part, *limit, "--sign-key", key)
    told = unboxed(run("verify", part, "--public-key", public).stdout)
    assert "left NG above 9 -> 10 (newer lamp)" in told
    assert "frames, recipes of limits, calibration-2.npz" in told

    history = part / str(open_bundle(part).manifest.history)
    history.write_text(history.read_text().replace("anna", "eve"))
    assert f"file {history.name} was altered since" in run("verify", part, code=2).stderr


def lines(done: Done) -> list[str]:
    return done.stdout.splitlines()


def test_the_best_f1(part: Path, parts: Path) -> None:
    test = parts / "test"
    wrong = run("calibrate", part, test / "good", "--best-f1", code=2)
    assert "--best-f1 and --escape-rate need --defective FOLDER" in unboxed(wrong.stderr)
    wrong = run("calibrate", part, test / "good", "--review", 0.01, code=2)
    assert "--review is 0.01 and --false-reject 0.02" in unboxed(wrong.stderr)
    both = ("--best-f1", "--defective", test / "notch")
    wrong = run("calibrate", part, test / "good", *both, "--review", 0.05, code=2)
    assert "--review does not go with --best-f1" in unboxed(wrong.stderr)
    done = run("calibrate", part, test / "good", *both)
    assert "best-f1" in done.stdout
    (limits,) = open_bundle(part).manifest.executions[0].limits
    assert limits.ok_below == limits.ng_above
    assert limits.ok_below.escapes is not None
    assert limits.ok_below.escapes.images == len(list_images(test / "notch"))


def under(bundle: Path, recipe: str, good: Path, folder: Path) -> Path:
    """A copy of a bundle that is calibrated under a recipe."""
    file = folder / "part.toml"
    file.write_text(recipe)
    run("recipe", bundle, "--set", file)
    run("calibrate", bundle, good, "--false-reject", 0.4, "--weaker")
    return bundle


@pytest.mark.slow
def test_images_are_read_as_the_recipe_says(
    bundle: Bundle, part: Path, parts: Path, tmp_path: Path
) -> None:
    """Masks and overlays follow the recipe's crop and tiles."""
    crop = ("--crop", 10, 20, 64, 80)
    good = parts / "test" / "good"
    recipe = "[frame]\ncrop = [10, 20, 64, 80]\n"
    wanted = json.loads(run("evaluate", bundle.path, parts, *crop, "--json").stdout)["overall"]
    under(part, recipe, good, tmp_path)
    found = json.loads(run("evaluate", part, parts, "--json").stdout)["overall"]
    for figure in ("image_auroc", "pixel_auroc", "aupro"):
        assert found[figure] == wanted[figure]
    done = run("evaluate", "--compare", part, bundle.path, parts, code=2)
    assert "recipes of the bundles differ in pixel format, crop or levels" in unboxed(done.stderr)
    assert "AUROC" in run("evaluate", "--compare", part, bundle.path, parts, *crop).stdout
    done = run("evaluate", part, parts, "--crop", 0, 0, 64, 80, code=2)
    assert "the recipe states (10, 20, 64, 80)" in unboxed(done.stderr)

    image = list_images(parts / "test" / "notch")[0]
    run("score", part, image, "--overlays", tmp_path / "o")
    shown = np.array(read_image(tmp_path / "o" / f"{image.name}"))
    frame, heat = shown[:, :112], shown[:, 112:]
    assert (frame != heat).any()
    outside = np.ones(frame.shape[:2], bool)
    outside[10:74, 20:100] = False
    added = heat.astype(int) - frame // 2
    assert set(np.unique(added[outside])) == {0, 48}  # darkened and hatched

    tiles = "[tiles]\nheight = 40\nwidth = 60\noverlap = 10\n"
    under(part, recipe + tiles, good, tmp_path)
    assert "40 x 60 pixels, overlap 10" in run("recipe", part).stdout
    assert "AUROC" in run("evaluate", "--compare", part, bundle.path, parts, *crop).stdout
    Image.fromarray(np.zeros((64, 90, 3), np.uint8)).save(tmp_path / "small.png")
    done = run("score", part, tmp_path / "small.png", code=1)
    assert "reaches beyond the frame of 64 x 90" in done.stdout


def test_what_lies_outside_the_crop_is_told(part: Path, tmp_path: Path) -> None:
    file = tmp_path / "part.toml"
    file.write_text(
        "[frame]\nheight = 80\nwidth = 112\ncrop = [0, 20, 80, 92]\n"
        '[[regions]]\nname = "lid"\npolygon = [[0, 0], [80, 0], [80, 80], [0, 80]]\n'
    )
    done = run("recipe", part, "--set", file)
    assert "25.0% of region 'lid' lies outside the crop" in unboxed(done.stderr)
    assert "outside the crop" not in run("recipe", part).stderr
