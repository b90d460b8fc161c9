"""The benchmarks that train, each on little."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

import rdx_fast
from rdx_fast.bench import cells, convergence, training, training_against, tried
from rdx_fast.bench.pages.training import by_setting
from rdx_fast.cpu import has_fast_bf16
from support.commands import unboxed

pytestmark = pytest.mark.slow


def run(main: Callable[..., None], *arguments: object) -> Result:
    command = Typer()
    command.command()(main)
    return CliRunner().invoke(command, list(map(str, arguments)))


def read(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_convergence_goes_on_where_it_was(parts: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    recipe = {"backbone": "efficientnet_lite0", "image_size": [64, 64], "batch": 8}
    fixed = [parts, tmp_path / "runs", "--output", output, "--seeds", 1, "--name", "net rd4ad"]

    def measured(recipe: dict[str, Any], *steps: int) -> Result:
        lengths = [item for step in steps for item in ("--steps", step)]
        return run(convergence.main, *fixed, *lengths, "--recipe", json.dumps(recipe))

    first = measured(recipe, 2)
    assert first.exit_code == 0, first.output
    (before,) = read(output)
    assert measured(recipe, 4, 2).exit_code == 0
    rows = read(output)
    assert rows[0] == before
    assert list(by_setting(rows)) == [(parts.name, "net rd4ad", step) for step in (2, 4)]
    assert 0 <= rows[1]["figures"]["image_auroc"] <= 1
    assert rows[1]["recipe"]["iterations"] == 4
    assert rows[1]["weights"]
    other = measured(recipe | {"batch": 4}, 2)
    assert other.exit_code == 2
    assert "batch: 8 before, 4 now" in unboxed(other.output)


def test_time_of_a_step(parts: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    options = ["--image-size", 64, 64, "--steps", 3, "--rounds", 1, "--output", output]
    for method in ("rd4ad", "rd-expert"):
        done = run(training.main, parts, *options, "--method", method)
        assert done.exit_code == 0, done.output
    rows = read(output)
    precisions = ["fp32", "bf16"] if has_fast_bf16() else ["fp32"]
    assert [row["precision"] for row in rows] == 2 * precisions
    assert {tuple(row["against_fp32"]) for row in rows if row["precision"] == "fp32"} == {(1, 1, 1)}
    by_method = {row["method"]: row for row in rows}
    # Forward and backward of the teacher too, and of two batches.
    assert by_method["rd-expert"]["gflop"] > 3 * by_method["rd4ad"]["gflop"] > 0
    assert all(row["seconds"] > 0 < row["share_of_limit"] for row in rows)
    profiled = run(training.main, parts, *options, "--profile")
    assert "aten::convolution_backward" in profiled.output
    assert read(output) == rows


def test_time_of_a_step_against_another_checkout(parts: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    options = ["--image-size", 64, 64, "--steps", 3, "--rounds", 1, "--output", output]
    own = Path(rdx_fast.__file__).parents[1]
    done = run(training_against.main, parts, own, *options, "--method", "rd-expert")
    assert done.exit_code == 0, done.output
    rows = read(output)
    assert [row["precision"] for row in rows] == ["fp32", *(["bf16"] if has_fast_bf16() else [])]
    for row in rows:
        ratio = row["seconds"] / row["seconds_against"]
        assert row["ratio"] == pytest.approx(3 * [ratio], rel=0.01)
    none = run(training_against.main, parts, tmp_path, *options)
    assert none.exit_code == 2
    assert "holds no package rdx_fast" in unboxed(none.output)


def test_the_demo_with_another_recipe(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    recipe = {"backbone": "efficientnet_lite0", "image_size": [32, 32], "iterations": 2}
    options = ["--output", output, "--name", "small", "--recipe", json.dumps(recipe), "--seeds", 1]
    done = run(cells.main, tmp_path / "runs", *options)
    assert done.exit_code == 0, done.output
    (row,) = read(output)
    assert (row["bench"], row["name"], row["seed"]) == ("cells", "small", 0)
    assert row["recipe"]["iterations"] == 2
    assert 0 <= row["image_auroc"] <= 1
    assert "remove it" in unboxed(run(cells.main, tmp_path / "runs", *options).output)


@pytest.mark.parametrize("addition", list(tried.Addition))
def test_additions_change_the_training(addition: str, parts: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    options = ["--output", output, "--steps", 3, "--seeds", 1, "--image-size", 32, 32]
    for strength in (0, 0.9):
        added = ["--addition", addition, "--strength", strength]
        done = run(tried.main, parts, tmp_path / f"{strength}", *options, *added)
        assert done.exit_code == 0, done.output
    without, with_it = read(output)
    assert (without["name"], with_it["name"]) == (
        f"lite0 rd4ad, {addition} 0",
        f"lite0 rd4ad, {addition} 0.9",
    )
    assert without["figures"] != with_it["figures"] or without["losses"] != with_it["losses"]
