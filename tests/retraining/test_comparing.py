"""A candidate against the released bundle, and the command that releases it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.revision import revise_bundle
from rdx_fast.bundle.versions import COMPARISON, list_versions, manifest_sha256, new_candidate
from rdx_fast.datasets import LabelledImage
from rdx_fast.detector import Detector
from rdx_fast.images import read_image
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining import comparing
from rdx_fast.retraining.comparing import compare_on_parts, compare_on_set
from rdx_fast.retraining.confirmed import ConfirmedFrame
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.store import RecordWriter
from support.commands import run, unboxed
from support.labelled_line import write_station
from support.small_bundle import limits_of, write_bundle
from support.small_network import SIZE

OPTIONS = FrameOptions()


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    """Noise in patches of growing size: scores differ."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(12):
        patch = 1 + number % 6
        noise = rng.integers(0, 256, (SIZE[0] // patch + 1, SIZE[1] // patch + 1, 3), np.uint8)
        frame = noise.repeat(patch, 0).repeat(patch, 1)[: SIZE[0], : SIZE[1]]
        files.append(tmp_path / f"{number:02}.png")
        Image.fromarray(frame).save(files[-1])
    return files


@pytest.fixture
def detectors(tmp_path: Path, frames: list[Path]) -> Iterator[tuple[Detector, Detector]]:
    """Two networks with limits in the middle of their scores, the second with REVIEW."""
    opened = []
    for seed, name in enumerate(("old", "new")):
        found = write_bundle(tmp_path / f"{name}.rdx", seed=seed)
        with Detector(found.path, check_frames=False) as plain:
            scores = np.sort([plain.score(read_image(path)).scores[0] for path in frames])
        low, high = scores[4 + seed], scores[7]
        limits = limits_of("all", float(low), float(high) if seed else None)
        opened.append(Detector(found.path, limits=(limits,), check_frames=False))
    yield opened[0], opened[1]
    for detector in opened:
        detector.close()


def verdicts(detector: Detector, frames: list[Path]) -> list[str]:
    return [detector.score(read_image(path)).verdicts[0] for path in frames]


def test_on_a_test_set(detectors: tuple[Detector, Detector], frames: list[Path]) -> None:
    images = [LabelledImage(p, "good" if i % 2 else "dent", None) for i, p in enumerate(frames)]
    found = compare_on_set(*detectors, images, OPTIONS)
    assert (found.good, found.bad, found.left_out) == (6, 6, 0)
    for counts, detector in zip((found.old, found.new), detectors, strict=True):
        good, bad = (verdicts(detector, frames[first::2]) for first in (1, 0))
        assert counts.false_rejects == good.count("NG")
        assert counts.good_reviews == good.count("REVIEW")
        assert counts.escapes == bad.count("OK")
        assert counts.bad_reviews == bad.count("REVIEW")
    assert found.new.good_reviews + found.new.bad_reviews == 2
    assert found.auroc is not None
    assert found.auroc.difference == pytest.approx(found.auroc.new - found.auroc.old)
    assert found.auroc.low <= found.auroc.difference <= found.auroc.high


def test_on_labelled_parts(detectors: tuple[Detector, Detector], frames: list[Path]) -> None:
    parts = confirmed(frames, bad=range(8, 12))
    frames[3].write_bytes(b"no image")
    trained_on, sample = {100, 101}, set(range(104, 112))
    found = compare_on_parts(*detectors, parts, trained_on, sample, OPTIONS)
    assert found.labelled is not None
    assert found.sample is not None
    assert (found.labelled.good, found.labelled.bad, found.labelled.left_out) == (7, 4, 1)
    assert (found.sample.good, found.sample.bad, found.sample.left_out) == (4, 4, 0)
    readable = [part for part in parts if part.inspection_id != 103]
    old, new = (verdicts(of, [part.path for part in readable]) for of in detectors)
    rejected = {
        p.inspection_id for p, v in zip(readable, new, strict=True) if v != "OK" and not p.bad
    }
    passed = {p.inspection_id for p, v in zip(readable, new, strict=True) if v == "OK" and p.bad}
    assert {part.inspection_id for part in found.again_rejected} == rejected != set()
    assert {part.inspection_id for part in found.escaped} == passed
    limits = detectors[1].limits[0]
    for part in found.again_rejected:
        index = [p.inspection_id for p in readable].index(part.inspection_id)
        assert (part.verdict, part.old_verdict) == (new[index], old[index])
        assert (part.ok_below, part.ng_above) == (limits.ok_below.value, limits.ng_above.value)
        assert part.score > part.ok_below
        assert part.region is None
        assert part.trained_on == (part.inspection_id in trained_on)


def confirmed(frames: list[Path], bad: Collection[int] = ()) -> list[ConfirmedFrame]:
    return [ConfirmedFrame(100 + i, p, i in bad, True, 100 + i) for i, p in enumerate(frames)]


def test_auroc_of_the_sample_alone(
    detectors: tuple[Detector, Detector], frames: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labelled parts were chosen by the released bundle; few parts tell too little."""
    parts, sample = confirmed(frames, bad=range(8, 12)), set(range(104, 112))
    few = compare_on_parts(*detectors, parts, (), sample, OPTIONS)
    monkeypatch.setattr(comparing, "LEAST", 4)
    enough = compare_on_parts(*detectors, parts, (), sample, OPTIONS)
    for found in (few, enough):
        assert found.labelled is not None
        assert found.labelled.auroc is None
    assert few.sample is not None
    assert few.sample.auroc is None
    assert enough.sample is not None
    assert enough.sample.auroc is not None


def test_parts_of_one_kind_or_none(
    detectors: tuple[Detector, Detector], frames: list[Path]
) -> None:
    good = confirmed(frames)
    found = compare_on_parts(*detectors, good, set(), set(), OPTIONS)
    assert found.labelled is not None
    assert (found.labelled.bad, found.sample, found.escaped) == (0, None, ())
    nothing = compare_on_parts(*detectors, [], set(), set(), OPTIONS)
    assert (nothing.labelled, nothing.again_rejected) == (None, ())


def test_frames_that_are_gone_meanwhile(
    detectors: tuple[Detector, Detector], frames: list[Path]
) -> None:
    """Be they all of a kind, or all."""
    parts = confirmed(frames, bad=range(8, 12))
    for path in frames[8:]:
        path.unlink()
    found = compare_on_parts(*detectors, parts, set(), set(), OPTIONS).labelled
    assert found is not None
    assert (found.good, found.bad, found.left_out) == (8, 0, 4)
    for path in frames[:8]:
        path.unlink()
    assert compare_on_parts(*detectors, parts, set(), set(), OPTIONS).labelled is None


def test_comparison_lies_in_the_bundle(tmp_path: Path) -> None:
    """It is a file as all others, named in the history, and of a bundle as it was compared."""
    path = write_bundle(tmp_path / "part.rdx").path
    content = json.dumps({"format": 1, "again_rejected": []}).encode()
    with new_candidate(path) as copy:
        changed = revise_bundle(open_bundle(copy), "compare", "anna", files={COMPARISON: content})
        assert [change.action for change in verify_bundle(changed)] == ["export", "compare"]
    released, candidate = list_versions(path)
    assert (released.comparison, released.comparison_current) == (None, False)
    assert (candidate.comparison, candidate.comparison_current) == (json.loads(content), True)
    override_limits(open_bundle(candidate.path), "later", ng_above=3.0, user="otto")
    candidate = list_versions(path)[1]
    assert (candidate.comparison, candidate.comparison_current) == (json.loads(content), False)
    (candidate.path / COMPARISON).write_text("{}")
    assert len(list_versions(path)) == 1  # what is told of a version must be as it was written
    assert not (path / COMPARISON).exists()


def test_candidate_made_before_other_changes(tmp_path: Path) -> None:
    """Its release would undo them."""
    path = write_bundle(tmp_path / "part.rdx").path
    with new_candidate(path) as copy:
        override_limits(open_bundle(copy), "new lamp", ng_above=3.0, user="anna")
        first = manifest_sha256(copy)
    with new_candidate(path) as copy:
        override_limits(open_bundle(copy), "dust", ng_above=4.0, user="otto")
        second = manifest_sha256(copy)
    assert [version.outdated for version in list_versions(path)] == [False, False, False]
    assert "before" in run("release", path, second).stderr
    released, *others = list_versions(path)
    (lacking,) = next(of for of in others if of.sha256 == first).lacks
    assert (lacking.action, lacking.user, lacking.time) == ("override", "otto", released.changed)
    refused = run("release", path, first, code=2).stderr
    assert "override by otto" in refused
    assert "--anyway" in refused
    assert manifest_sha256(path) == second
    run("release", path, first, "--anyway")
    assert manifest_sha256(path) == first
    assert not any(v.outdated for v in list_versions(path) if v.state == "previous")


def test_command_release(tmp_path: Path) -> None:
    for name in ("parts", "run"):
        (tmp_path / name).mkdir()
    source = write_bundle(tmp_path / "part.rdx").path
    station = write_station(tmp_path / "station", tmp_path / "parts", tmp_path / "run", source)
    path, toml = station.bundles[1], tmp_path / "station" / "station.toml"
    RecordWriter(station.records.path).close()
    before = manifest_sha256(path)
    figures = {"false_rejects": 3, "escapes": 1}
    frozen = {
        "good": 40,
        "bad": 20,
        "auroc": {"old": 0.91, "new": 0.95},
        "old": figures,
        "new": figures | {"false_rejects": 2},
    }
    with new_candidate(path) as copy:
        content = json.dumps({"frozen": frozen}).encode()
        revise_bundle(open_bundle(copy), "compare", "anna", files={COMPARISON: content})
        sha256 = manifest_sha256(copy)
    table = run("release", path).stdout
    for shown in ("candidate", sha256[:12], "91.00 -> 95.00", "3 -> 2 of 40", "1 -> 1 of 20"):
        assert shown in table
    listed = json.loads(run("release", path, "--json").stdout)
    assert [version["sha256"] for version in listed] == [before, sha256]
    assert "no versions begin with 'x'" in run("release", path, "x", code=2).stderr
    said = run("release", path, sha256[:8], "--station", toml, "--user", "otto").stderr
    assert f"released {sha256[:12]} (compare by anna)" in said
    assert manifest_sha256(path) == sha256
    (entry,) = read_changes(station.records.path)
    assert (entry.action, entry.user) == ("release", "otto")
    assert entry.before == {"job": 1, "sha256": before}
    assert entry.after == {"job": 1, "sha256": sha256}
    assert "removed: nothing" in run("release", path, "--keep", 1).stderr
    removed = run("release", path, "--remove", before[:8], "--station", toml).stderr
    assert f"removed: {before[:12]}" in removed
    assert [version.sha256 for version in list_versions(path)] == [sha256]
    assert read_changes(station.records.path)[-1].after == {"job": 1, "removed": [before]}
    other = write_bundle(tmp_path / "unknown.rdx").path
    wrong = run("release", other, manifest_sha256(other), "--station", toml, code=2).stderr
    assert "has no job with the bundle" in unboxed(wrong)
