from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from rdx_fast.bench import evaluation
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.datasets import LabelledImage
from rdx_fast.evaluation import ScoredSet, evaluate_scored
from rdx_fast.images import read_image
from support.exported import SIZE


def test_cost_of_an_evaluation(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "part"
    frame = Image.fromarray(drawn_frame(48, 64))
    mask = np.zeros((48, 64), np.uint8)
    mask[:20, :30] = 255
    for name in ("test/good/0.png", "test/dent/0.png"):
        (root / name).parent.mkdir(parents=True)
        frame.save(root / name)
    (root / "ground_truth" / "dent").mkdir(parents=True)
    Image.fromarray(mask).save(root / "ground_truth" / "dent" / "0_mask.png")
    output = tmp_path / "rows.jsonl"
    evaluation.main(bundle.path, root, images=5, rounds=2, output=output)
    (row,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert (row["bench"], row["images"], row["rounds"]) == ("evaluation", 5, 2)
    assert row["pixels"] == 5 * SIZE[0] * SIZE[1]
    assert row["of_scoring"].keys() == {"check", "scoring", "figures", "comparison"}
    assert row["of_scoring"]["scoring"] == [1.0, 1.0, 1.0]
    assert all(low > 0 for low, _, _ in row["seconds"].values())


def test_memory_of_an_evaluation() -> None:
    """A line through two sets tells the memory of a third."""
    rng = np.random.default_rng(0)
    masks = [np.zeros((128, 128), np.bool_) for _ in range(8)]
    for mask in masks[4:]:
        mask[20:50, 30:70] = True
    names = ["good"] * 4 + ["dent"] * 4
    images = [LabelledImage(Path(str(i)), name, None) for i, name in enumerate(names)]
    maps = [rng.random((128, 128), dtype=np.float32) for _ in masks]
    scored = ScoredSet("", "", 0.5, images, np.arange(8, dtype=np.float32), ["NG"] * 8, maps, masks)
    found = evaluation._memory(scored)
    third = replace(scored, masks=[np.repeat(mask, 2, axis=0)[:128] for mask in masks])
    tracemalloc.start()
    evaluate_scored(third)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    told = sum(
        found["bytes_per_pixel"] * mask.size + found["bytes_per_defective_pixel"] * mask.sum()
        for mask in third.masks
    )
    assert peak == pytest.approx(told, rel=0.2)


def test_turned_copies_keep_their_masks(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    good = LabelledImage(tmp_path / "a.png", "good", None)
    bad = LabelledImage(tmp_path / "b.png", "dent", tmp_path / "b.png")
    (tmp_path / "copies").mkdir()
    found = evaluation.enlarged([good, bad], 16, tmp_path / "copies")
    assert found[:2] == [good, bad]
    assert [image.defect_type for image in found] == ["good", "dent"] * 8
    seen = set()
    for image in found[1::2]:
        assert image.mask is not None
        np.testing.assert_array_equal(read_image(image.path), read_image(image.mask))
        seen.add(read_image(image.path).tobytes())
    assert len(seen) == 8
    with pytest.raises(typer.BadParameter, match="at most 16"):
        evaluation.enlarged([good, bad], 17, tmp_path / "copies")
