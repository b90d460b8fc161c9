"""The tables on training, and the turned data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from typer import Typer
from typer.testing import CliRunner

from rdx_fast.bench import turned
from rdx_fast.bench.pages.rows import Row
from rdx_fast.bench.pages.training import FIGURES, TABLES, paired
from rdx_fast.datasets import find_dataset
from rdx_fast.images import read_grey, read_image
from support.commands import unboxed

SHARED = {"time": "2026", "commit": "c", "cpu": "a CPU", "cpu_features": [], "versions": {}}


def row(name: str, step: int, seed: int, figure: float) -> Row:
    key = {"bench": "convergence", "dataset": "set", "name": name, "step": step, "seed": seed}
    return SHARED | key | {"figures": dict.fromkeys(FIGURES.values(), figure)}


def test_paired_is_student_s_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5)).tolist()
    mean, low, high = paired(dict(enumerate(a)), dict(enumerate([*b, 9.0])))
    known = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (low, high) == pytest.approx((known.low, known.high))
    assert mean == pytest.approx((low + high) / 2)
    with pytest.raises(ValueError, match="1 seeds in common"):
        paired({1: 0.5, 2: 0.5}, {2: 0.5, 3: 0.5})


def test_pairs_are_of_as_many_batches_and_of_the_most() -> None:
    rows = [
        row(f"net {recipe}", step, seed, value + seed / 100)
        for recipe, step, value in (
            ("rd4ad", 10, 0.5),
            ("rd4ad", 20, 0.6),
            ("rd4ad", 40, 0.7),
            ("rd-expert grabcut", 20, 0.8),
            ("rd-expert", 30, 0.9),
        )
        for seed in (1, 2)
    ]
    rows.append(row("net rd-expert", 60, 1, 0.9))  # one seed: no interval
    rows.append(row("other rd-expert", 30, 1, 0.9))
    lines = [line.split(" | ") for line in TABLES["methods"](rows).splitlines() if "| net" in line]
    assert [line[1:6] for line in lines] == [
        ["net rd-expert", "30", "40", "2", "+20.00 (+20.00 to +20.00)"],
        ["net rd-expert grabcut", "20", "20", "2", "+20.00 (+20.00 to +20.00)"],
        ["net rd-expert grabcut", "20", "40", "2", "+10.00 (+10.00 to +10.00)"],
    ]


def test_options_are_held_against_the_recipe_without_them_after_as_many_batches() -> None:
    rows = [
        row(f"net {recipe}", step, seed, value)
        for recipe, step, seed, value in (
            ("rd4ad", 10, 1, 0.5),
            ("rd4ad", 10, 2, 0.6),
            ("rd4ad", 20, 1, 0.9),
            ("rd4ad, dropout 0.2", 10, 1, 0.6),
            ("rd4ad, dropout 0.2", 10, 2, 0.7),
            ("rd4ad hard", 20, 1, 0.8),
            ("rd4ad hard", 30, 1, 0.8),  # nothing to hold it against
            ("rd-expert", 10, 1, 0.8),
            ("rd-expert grabcut", 10, 1, 0.9),
            ("rd-expert plain", 10, 1, 0.4),
        )
    ]
    lines = [line.split(" | ") for line in TABLES["options"](rows).splitlines() if "| net" in line]
    assert [line[1:5] for line in lines] == [
        ["net rd-expert grabcut", "10", "1", "+10.00"],
        ["net rd-expert plain", "10", "1", "-40.00"],
        ["net rd4ad hard", "20", "1", "-10.00"],
        ["net rd4ad, dropout 0.2", "10", "2", "+10.00 (+10.00 to +10.00)"],
    ]
    over = TABLES["convergence"](rows)
    assert over.count("| net ") == 4
    assert "dropout" not in over


def test_teachers_are_held_against_lite0() -> None:
    rows = [
        row(name, step, seed, value)
        for name, step, seed, value in (
            ("lite0 rd4ad", 10, 1, 0.5),
            ("lite0 rd4ad", 10, 2, 0.6),
            ("lite2 rd4ad", 10, 1, 0.6),
            ("lite2 rd4ad", 10, 2, 0.7),
            ("lite2 rd4ad", 20, 1, 0.9),  # nothing to hold it against
            ("lite2 rd-expert", 10, 1, 0.9),
        )
    ]
    (line,) = [line for line in TABLES["teachers"](rows).splitlines() if "| lite" in line]
    assert line.startswith("| set | lite2 rd4ad | 10 | 2 | +10.00 (+10.00 to +10.00) |")
    with pytest.raises(ValueError, match="no recipe has rows beside those"):
        TABLES["teachers"](rows[:2])


def test_times_against_another_checkout() -> None:
    timed = {
        "bench": "training-against",
        "method": "rd4ad",
        "backbone": "net",
        "image_size": [64, 96],
        "threads": 1,
        "precision": "bf16",
        "seconds": 0.5,
        "seconds_against": 1.0,
        "ratio": [0.4, 0.5, 0.6],
    }
    table = TABLES["training-against"]([SHARED | timed])
    assert "| rd4ad | net | 64 x 96 | bf16 | 0.50 | 1.00 | 0.5 (0.4 to 0.6) |" in table


def test_cells_are_means_over_the_seeds() -> None:
    rows = [
        SHARED | {"bench": "cells", "name": name, "seed": seed, "training_cpu_s": 60.0} | figures
        for name, seed, figures in (
            ("demo", 0, {"image_auroc": 0.9, "false_rejects": 9, "escapes": 9}),  # measured again
            ("demo", 0, {"image_auroc": 0.92, "false_rejects": 2, "escapes": 30}),
            ("demo", 1, {"image_auroc": 0.94, "false_rejects": 3, "escapes": 35}),
            ("larger", 0, {"image_auroc": 0.95, "false_rejects": 1, "escapes": 20}),
        )
    ]
    table = TABLES["cells"](rows)
    assert "| demo | 2 | 93.00 ± 1.41 | 2.5 | 32.5 | 60 |" in table
    assert "| larger | 1 | 95.00 | 1.0 | 20.0 | 60 |" in table


def test_turned(tmp_path: Path) -> None:
    """Image and mask turn alike, each image by an angle of its own."""
    bright = np.zeros((80, 80), np.uint8)
    bright[20:30, 36:44] = 255
    for name in ("train/good/0", "train/good/1", "test/good/0", "test/spot/0"):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(bright[..., None], 3, 2)).save(path)
    mask = tmp_path / "set/ground_truth/spot/0_mask.png"
    mask.parent.mkdir(parents=True)
    Image.fromarray(bright).save(mask)

    command = Typer()
    command.command()(turned.main)
    arguments = [str(tmp_path / "set"), str(tmp_path / "out")]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    out = find_dataset(tmp_path / "out")
    first, second = (read_image(path) for path in out.train())
    assert not np.array_equal(first, second)
    spot = next(image for image in out.test() if image.is_defective)
    assert spot.mask is not None
    marked = read_grey(spot.mask)
    assert set(np.unique(marked)) == {0, 255}
    assert 60 < (marked == 255).sum() < 100
    np.testing.assert_array_equal(marked == 255, read_image(spot.path)[..., 0] > 127)
    again = CliRunner().invoke(command, arguments)
    assert again.exit_code == 2
    assert "out exists: remove it" in unboxed(again.output)
