"""A rate of one of several regions is not that of the parts: tables tell which is which."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.bundle.manifest import ExecutionSpec, Manifest
from rdx_fast.bundle.revision import revise_bundle
from rdx_fast.cli.tables import limits_tables
from rdx_fast.detector import Detector
from rdx_fast.evaluation import CheckedSet
from rdx_fast.limits.calibration import manual_threshold, share
from rdx_fast.limits.limits import Limits, ThresholdSpec, rates_of_parts
from rdx_fast.limits.promise import Wish, limits_from_scores
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.report.facts import facts

REGIONS = ("left", "right")


def shown(table: Table, width: int) -> list[str]:
    """The lines of a table in a terminal."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text().splitlines()


def test_a_limit_by_hand_and_a_counted_one(bundle: Bundle) -> None:
    (execution,) = bundle.manifest.executions
    rate = share(1, 20)
    best = ThresholdSpec(2, "best-f1", None, None, 20, 8, rate, share(0, 8))
    by_hand = replace(execution, limits=(Limits("all", best, manual_threshold(9, "[lamp]")),))
    found = "\n".join(shown(limits_tables(with_limits(bundle, by_hand))[0], 100))
    assert "best-f1 / hand: [lamp] " in found
    assert "20 / -" in found
    counted = replace(execution, limits=(Limits.single(best),))
    table, counts = limits_tables(with_limits(bundle, counted))
    assert list(table.columns[5].cells) == ["-"]
    assert [list(column.cells) for column in counts.columns] == [
        ["fp32"],
        ["both"],
        [f"1 of 20 ({rate.low:.2%} to {rate.high:.2%})"],
        [f"0 of 8 (0.00% to {share(0, 8).high:.2%})"],
    ]


def with_limits(bundle: Bundle, execution: ExecutionSpec) -> Manifest:
    return replace(bundle.manifest, executions=(execution,))


@pytest.fixture(scope="module")
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    good, bad = (rng.gamma(9, scale, (n, 2)).astype(np.float32) for n, scale in ((199, 2), (40, 4)))
    return good, bad


@pytest.fixture(scope="module")
def limits(scores: tuple[np.ndarray, np.ndarray]) -> tuple[Limits, ...]:
    return limits_from_scores(REGIONS, *scores, Wish(0.02, review_rate=0.1))


def test_shares_of_regions_add_up_and_counts_are_of_parts(
    scores: tuple[np.ndarray, np.ndarray], limits: tuple[Limits, ...]
) -> None:
    good, bad = scores
    ng = [of.ng_above for of in limits]
    found = rates_of_parts(ng)
    assert [t.expected_false_reject_rate for t in ng] == pytest.approx([0.01, 0.01])
    assert found.false_reject_rate == pytest.approx(0.02)
    assert found.expected_false_reject_rate == pytest.approx(0.02)
    values = np.float32([t.value for t in ng])
    assert found.false_rejects == share(int((good > values).any(axis=1).sum()), len(good))
    assert found.escapes == share(int((bad <= values).all(axis=1).sum()), len(bad))
    # The promise for parts ends where a person set the limit of one region.
    mixed = rates_of_parts([ng[0], manual_threshold(9, "lamp")])
    assert mixed == (None, None, None, None)


def test_tables(bundle: Bundle, parts: Path, tmp_path: Path, limits: tuple[Limits, ...]) -> None:
    copy = open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))
    halves = [((56 * k, 0), (56 * k + 56, 0), (56 * k + 56, 80), (56 * k, 80)) for k in (0, 1)]
    regions = tuple(RegionSpec(n, polygon=of) for n, of in zip(REGIONS, halves, strict=True))
    changed = replace_recipe(copy, InspectionRecipe(FrameSpec(80, 112), regions), {}, "anna")
    (execution,) = changed.manifest.executions
    inspected = changed.manifest.recipe.inspected_sha256()
    calibrated = replace(execution, limits=limits, inspected_sha256=inspected)
    earlier = replace(execution, executed="bf16")
    revised = revise_bundle(changed, "calibrate", "anna", executions=(earlier, calibrated))

    table, counts = limits_tables(revised.manifest)
    of, region, ok, ng, by, above, images = (list(column.cells) for column in table.columns)
    assert of == ["bf16 of fp32", "fp32", "", ""]
    assert region == ["(earlier recipe)", "left", "right", "any"]
    assert (ok[0], ok[3], ng[0], ng[3]) == ("",) * 4
    assert ok[1:3] == [f"{limit.ok_below.value:.6f}" for limit in limits]
    assert ng[1:3] == [f"{limit.ng_above.value:.6f}" for limit in limits]
    assert by == ["", "conformal", "conformal", ""]
    assert above == ["", "5.00% / 1.00%", "5.00% / 1.00%", "10.00% / 2.00%"]
    assert images == ["", "199", "199", ""]
    assert list(counts.columns[0].cells) == ["fp32", "fp32"]
    assert list(counts.columns[1].cells) == ["OK up to", "NG above"]
    for column, name in ((2, "false_rejects"), (3, "escapes")):
        rate = getattr(limits[0].ng_above, name)
        text = list(counts.columns[column].cells)[1]
        assert text == f"{rate.count} of {rate.images} ({rate.low:.2%} to {rate.high:.2%})"
    for printed in (table, counts):
        lines = shown(printed, 100)
        assert len(lines) == len(shown(printed, 200))
        assert max(map(len, lines)) <= 100

    with Detector(revised.path, precision="fp32") as detector:
        told = facts(detector, CheckedSet([], []))[1]
    assert {row[0] for row in told.rows} == {"fp32 (in force)"}
    assert told.note.endswith("calibrated under an earlier recipe: bf16 of network fp32.")
    assert [row[1:3] + row[5:7] for row in told.rows] == [
        ("left", "OK up to", "5.00%", "5.00%"),
        ("right", "OK up to", "5.00%", "5.00%"),
        ("parts, by all regions", "OK up to", "10.00%", "10.00%"),
        ("left", "NG above", "1.00%", "1.00%"),
        ("right", "NG above", "1.00%", "1.00%"),
        ("parts, by all regions", "NG above", "2.00%", "2.00%"),
    ]
    assert "at most the sum of the shares" in told.note
