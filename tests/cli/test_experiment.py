"""The commands ``experiment`` and ``evaluate``, as a user runs them."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from rdx_fast.bundle.bundle import Bundle
from support.commands import run


@pytest.mark.slow
def test_methods_against_each_other(parts: Path, tmp_path: Path) -> None:
    options = ["--backbone", "efficientnet_lite0", "--image-size", "64", "64", "--batch", "8"]
    options += ["--epochs", "6", "--seeds", 2, "--oracle-epoch", "--textures", parts / "test"]
    options += ["--texture-cuts", "--foreground", "otsu-bright"]  # which rd4ad does not take
    methods = ["--method", "rd4ad", "--method", "rd-expert:plain"]
    output = tmp_path / "protocol"
    done = run("experiment", parts, output, *methods, *options)
    last, oracle = done.stdout.split("CHOSEN ON THE TEST SET")
    assert "last epoch, 2 seeds" in last
    assert "rd-expert:plain" in last
    # 18 batches of 600, and of 5000.
    assert re.search(r"of the published length +3.0% +0.4%", last.replace("│", " "))
    assert "±" in oracle
    runs = itertools.product((111, 112), ("rd4ad", "rd-expert:plain"))
    for number, (seed, method) in enumerate(runs, 1):
        which = f"run {number} of 4: {method}, seed {seed}"
        for step in (1, 18):
            assert f"{which}: training, step {step} of 18, epoch" in done.stderr
        assert f"{which}: exporting and evaluating the last epoch\n" in done.stderr
    result = json.loads((output / "experiment.json").read_text())
    assert [(r["method"], r["seed"]) for r in result["runs"]] == [
        (method, seed) for seed in (111, 112) for method in ("rd4ad", "rd-expert:plain")
    ]
    for line in result["runs"]:
        best = line["oracle_epoch"]["figures"]["image_auroc"]
        assert best >= line["figures"]["image_auroc"] > 0.8
        assert line["oracle_epoch"]["candidates"] == 2
        assert (line["steps"], line["epochs"]) == (18, 6)
    # What is finished is not repeated, and not taken for another recipe's.
    before = {p: p.stat().st_mtime_ns for p in output.glob("*/result.json")}
    assert len(before) == 4
    again = run("experiment", parts, output, *methods, *options, "--json")
    assert json.loads(again.stdout) == result
    assert before == {p: p.stat().st_mtime_ns for p in output.glob("*/result.json")}
    refused = run("experiment", parts, output, *methods, *options, "--batch", 4, code=2)
    assert "batch: 8 before, 4 now" in refused.stderr
    refused = run("experiment", parts, output, *methods, *options, "--max-minutes", 1, code=2)
    assert "max_minutes: None before, 1.0 now" in refused.stderr

    bundles = [output / f"{m}-seed111" / "part.rdx" for m in ("rd4ad", "rd-expert-plain")]
    done = run("evaluate", "--compare", *bundles, parts)
    assert "95% interval" in done.stdout
    assert "rd-expert:plain" in done.stdout  # the bundles' names, for both files are part.rdx
    compared = json.loads(run("evaluate", "--compare", *bundles, parts, "--json").stdout)
    assert compared["bundles"].keys() == {str(path) for path in bundles}
    (difference,) = compared["differences"]  # the parts have no masks
    assert (difference["figure"], difference["name"]) == ("image AUROC", "rd-expert:plain")
    assert difference["low"] <= difference["difference"] <= difference["high"]


def test_evaluation_leaves_bad_images_out(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(parts, tmp_path / "parts"))
    dent = root / "test" / "dent" / "0.png"
    dent.parent.mkdir()
    bad = sorted((root / "test" / "notch").iterdir())[0]
    for path in (bad, dent):
        path.write_text("no image")
    for command in (["evaluate", bundle.path], ["evaluate", "--compare", bundle.path, bundle.path]):
        assert f"{bad}: not an image" in run(*command, root, code=2).stderr
        done = run(*command, root, "--skip-bad")
        assert "test images left out: 2" in done.stdout
        assert bad.name in done.stdout
        assert "not evaluated, since no image can be used: dent\n" in done.stderr
        result = json.loads(run(*command, root, "--skip-bad", "--json").stdout)
        for found in result["bundles"].values() if "--compare" in command else [result]:
            assert [left["path"] for left in found["left_out"]] == [str(dent), str(bad)]
            assert found["types_left_out"] == ["dent"]
    # Nothing is trained before the images are checked.
    output = tmp_path / "results"
    refused = run("experiment", root, output, "--seeds", 1, "--iterations", 1, code=2)
    assert f"{bad}: not an image" in refused.stderr
    assert not output.exists()


@pytest.mark.slow
def test_experiment_leaves_bad_images_out(parts: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(parts, tmp_path / "parts"))
    good = sorted((root / "train" / "good").iterdir())
    bad = sorted((root / "test" / "notch").iterdir())[0], good[0]
    for path in bad:
        path.write_text("no image")
    options = ["--backbone", "efficientnet_lite0", "--image-size", "64", "64", "--batch", "8"]
    options += ["--iterations", "1", "--seeds", "1", "--method", "rd4ad"]
    done = run("experiment", root, tmp_path / "results", *options, "--skip-bad")
    assert "test images left out: 1" in done.stdout
    result = json.loads((tmp_path / "results" / "experiment.json").read_text())
    assert [left["path"] for left in result["left_out"]] == [str(bad[0])]
    assert [left["path"] for left in result["left_out_training"]] == [str(bad[1])]
    # A run without the images is not taken for one with them.
    shutil.copy(good[1], good[0])
    refused = run("experiment", root, tmp_path / "results", *options, "--skip-bad", code=2)
    assert "left_out: " in refused.stderr
