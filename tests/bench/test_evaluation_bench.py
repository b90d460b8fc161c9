from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from rdx_fast.bench import evaluation
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bundle import Bundle
from rdx_fast.datasets import LabelledImage
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
    assert row["bytes_per_pixel"] > 4  # at least one copy of the values outside


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
