from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdx_fast.bundle.bundle import Bundle, new_bundle, open_bundle
from rdx_fast.bundle.manifest import FileSpec, Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError
from rdx_fast.images import list_images, read_image
from support.manifests import as_format1, as_format2, edit, ok_below, sign


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def test_whole_bundle_opens(copy: Path, bundle: Bundle) -> None:
    assert open_bundle(copy).manifest == bundle.manifest
    assert {p.name for p in copy.iterdir()} == {
        "manifest.json",
        "network_fp32.onnx",
        "calibration-0.npz",
        "history-0.jsonl",
    }


def test_missing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="no such bundle") as raised:
        open_bundle("none.rdx")
    assert str(raised.value).startswith(f"{tmp_path / 'none.rdx'}: ")


def test_missing_manifest(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        open_bundle(copy)


def test_missing_network(copy: Path) -> None:
    (copy / "network_fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"network_fp32\.onnx is missing"):
        open_bundle(copy)


def test_altered_network(copy: Path) -> None:
    network = copy / "network_fp32.onnx"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(BundleError, match=r"network_fp32\.onnx was altered .* ask who changed it"):
        open_bundle(copy)


def test_newer_format(copy: Path) -> None:
    edit(copy, lambda m: m.update(format=99, unheard_of=1))
    with pytest.raises(BundleError, match="has format 99, this rdx_fast reads 1 to 3"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["map"].update(surprise=1), "surprise"),
        (lambda m: m["executions"][0].pop("limits"), "limits"),
        (lambda m: m["input"].pop("mean"), r"input\.mean"),
        (lambda m: m["map"].update(sigma="4"), r"map\.sigma"),
        (lambda m: m["map"].update(sigma=-1.0), "sigma"),
        (lambda m: m["map"].update(fusion="max"), "fusion"),
        (lambda m: m["map"].update(border="mirror"), "border"),
        (lambda m: m["input"].update(resize="nearest"), "resize"),
        (lambda m: m["input"].update(std=[0.1, 0.0, 0.1]), "std"),
        (lambda m: m["input"].update(mean=[0.1, 0.2]), r"mean is .* wanted a list of 3 numbers"),
        (lambda m: ok_below(m).update(value=float("nan")), "threshold"),
        (lambda m: m["executions"][0].update(executed="fp4"), "executed precision is 'fp4'"),
        (lambda m: m["executions"][0].update(stored="fp64"), "stored precision is 'fp64'"),
        (lambda m: m["networks"].update(fp32="other.onnx"), "file of network 'fp32'"),
        (lambda m: m["networks"].clear(), "file of network 'fp32'"),
        (lambda m: m["executions"][0].update(executed="int8"), "stored in fp32 cannot be"),
        (lambda m: m["networks"].update(fp64="network_fp32.onnx"), "stored in .'fp64'"),
        (lambda m: m["executions"][0]["check"].update(score_difference=1.0), "check did not pass"),
        (lambda m: m["executions"][0]["check"].update(map_tolerance=float("inf")), "did not pass"),
        (lambda m: m["executions"][0]["check"].update(verdicts_that_differ=99), "99 of 20 images"),
        (lambda m: m["executions"][0]["check"].update(images=-5), "images of a check is -5"),
        (lambda m: ok_below(m).update(value=0.0), "not a positive number"),
        (lambda m: ok_below(m).update(value=True), "value is true, wanted a"),
        (lambda m: ok_below(m).update(value=10**400), "value is 1000.*too la"),
        (
            lambda m: ok_below(m).update(false_reject_rate=2.0),
            "false_reject_rate of a threshold is 2",
        ),
        (
            lambda m: ok_below(m).update(good_images=0),
            "good_images of a threshold is 0",
        ),
        (lambda m: ok_below(m).update(value=9.5), "wrong order: OK below 9.5, NG above"),
        (lambda m: ok_below(m).update(method="guess"), "method of a threshold is 'guess'"),
        (lambda m: ok_below(m).update(method="manual"), "threshold by manual is 0.0"),
        (lambda m: m.update(calibration="other.npz"), "other.npz, calibration, is not among"),
        (lambda m: m["recipe"].update(mm_per_pixel=-1.0), "mm_per_pixel is -1"),
        (
            lambda m: m["executions"][0]["limits"][0].update(region="lid"),
            r"limits of regions .'lid'., the recipe has .'all'.",
        ),
        (lambda m: m["networks"].update(int8="network_fp32.onnx"), "'int8'. have no execution"),
        (lambda m: m.update(left_out={}), "left_out is {}, wanted a list of tables"),
        (lambda m: m["map"].update(height=2**40), "the map is 1099511627776 x 96"),
        (lambda m: m["map"].update(sigma=1e7), "reach beyond a map of 64 x 96"),
        (lambda m: m["input"].update(std=[1e-320] * 3), "must be at least 0.001"),
        (lambda m: m.update(surprise=json.loads("[" * 900 + "]" * 900)), r"manifest\.json"),
        (lambda m: m["training"].update(deep=json.loads("[" * 900 + "]" * 900)), r"manifest\.json"),
        (lambda m: m.update(executions=[]), "nothing to run"),
        (lambda m: m.update(executions=2 * m["executions"]), "each execution may occur only once"),
        (lambda m: m.update(scales=3), "scales"),
        (lambda m: m["input"].update(mean=True), r"input\.mean"),
        (lambda m: m["input"].update(std=0.2), r"input\.std"),
        (lambda m: m.pop("sha256"), "was altered since"),
        (
            lambda m: m["executions"][0]["limits"][0]["ng_above"].update(value=9.5),
            "was altered since",
        ),
        (lambda m: m["scales"].pop(), "was altered since"),
        (lambda m: m.pop("format"), "has no format number"),
    ],
)
def test_faulty_manifest(copy: Path, change, message: str) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 300 * "a"])
@pytest.mark.parametrize("old", [False, True])
def test_names_that_no_file_has(copy: Path, name: str, old: bool) -> None:
    if old:
        make_format1(copy)
    edit(copy, lambda m: m["files"].update({name: next(iter(m["files"].values()))}))
    if not old:
        edit(copy, sign)
    with pytest.raises(BundleError, match=r"cannot be read|is missing"):
        open_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_manifest_that_is_none(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "a/../../b", "..\\b", ""])
def test_names_that_lead_outside(copy: Path, name: str) -> None:
    edit(copy, lambda m: m["files"].update({name: m["files"]["network_fp32.onnx"]}))
    edit(copy, sign)
    with pytest.raises(BundleError, match="leads outside the bundle"):
        open_bundle(copy)


def test_link_that_leads_outside(copy: Path, tmp_path: Path) -> None:
    network = copy / "network_fp32.onnx"
    network.rename(tmp_path / "elsewhere.onnx")
    os.symlink(tmp_path / "elsewhere.onnx", network)
    with pytest.raises(BundleError, match="leads outside the bundle"):
        open_bundle(copy)


def test_half_written_bundle_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with new_bundle(tmp_path / "part.rdx") as folder:
            (folder / "network_fp32.onnx").write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists"), new_bundle(copy):
        pass
    (tmp_path / "photos").mkdir()
    with pytest.raises(BundleError, match="is not a bundle"), new_bundle(tmp_path / "photos", True):
        pass
    with new_bundle(copy, overwrite=True) as folder:
        (folder / "new").touch()
    assert [p.name for p in copy.iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.rdx", "photos"]


def make_format1(folder: Path) -> None:
    edit(folder, as_format1)
    (folder / "network_fp32.onnx").rename(folder / "network.onnx")


def test_format_1_opens_and_scores_the_same(copy: Path, bundle: Bundle, parts: Path) -> None:
    make_format1(copy)
    old = open_bundle(copy).manifest
    assert old.format == 3
    assert [(e.stored, e.executed) for e in old.executions] == [("fp32", "fp32")]
    assert old.executions[0].threshold == bundle.manifest.executions[0].threshold
    assert old.executions[0].check.verdicts_that_differ is None
    images = [read_image(p) for p in list_images(parts / "test")]
    with Detector(copy) as a, Detector(bundle.path) as b:
        np.testing.assert_array_equal(a.score(images).scores, b.score(images).scores)


@pytest.mark.parametrize(
    ("precision", "files", "executions"),
    [
        ("fp32", ["network.onnx"], ["fp32"]),
        ("fp16", ["network.onnx"], ["fp16", "fp32 of network fp16"]),
        ("bf16", ["network.onnx"], ["bf16 of network fp32", "fp32"]),
        ("int8", ["network.onnx"], ["int8"]),
        (
            "int8",
            ["network.onnx", "network_symmetric.onnx"],
            ["int8", "int8 of network int8_symmetric"],
        ),
    ],
)
def test_precisions_of_format_1(
    copy: Path, precision: str, files: list[str], executions: list[str]
) -> None:
    make_format1(copy)

    def change(data: dict[str, Any]) -> None:
        data["precision"] = precision
        for name in files[1:]:
            data["files"][name] = data["files"][files[0]]
            shutil.copy(copy / files[0], copy / name)

    edit(copy, change)
    opened = open_bundle(copy)
    assert [e.label for e in opened.manifest.executions] == executions
    assert all(opened.network(e.stored).is_file() for e in opened.manifest.executions)
    threshold = json.loads((copy / "manifest.json").read_text())["threshold"]["value"]
    assert {e.threshold.value for e in opened.manifest.executions} == {threshold}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["scales"].pop(), "student_2 is 112 x 4 x 6 in the network and missing"),
        (lambda m: m["scales"][0].update(channels=25), "student_0 is 24 x 16 x 24 .* and 25 x"),
        (lambda m: m["scales"].append(m["scales"][0]), "student_3 is missing in the network"),
        (
            lambda m: (m["input"].update(height=128), m["map"].update(height=128)),
            "image is 3 x 64 x 96 .* and 3 x 128 x 96",
        ),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_manifest_of_another_network(copy: Path, change, message: str, old: bool) -> None:
    if old:
        make_format1(copy)
    edit(copy, change)
    if not old:
        edit(copy, sign)
    open_bundle(copy)  # a manifest like any other
    with pytest.raises(BundleError, match=message):
        Detector(copy)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    inner: list[tuple[Any, ...]] = []
    entries: Any = value.items() if isinstance(value, dict) else ()
    for key, entry in enumerate(value) if isinstance(value, list) else entries:
        inner += [(*path, key), *places(entry, (*path, key))]
    return inner


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "fp32", "int8", "../x", "network_fp32.onnx", "\ud800"])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@pytest.mark.hypothesis  # it does not see by itself that this is its own
@pytest.mark.parametrize("kind", ["altered", "signed", "format 2", "format 1"])
def test_random_edits(bundle: Bundle, kind: str) -> None:
    """Of a manifest with a checksum, whatever is not what was exported is refused. Signed anew, and
    without a checksum, an edit is refused or gives a manifest that holds what it must."""
    original = json.loads((bundle.path / "manifest.json").read_text())
    if kind == "format 1":
        as_format1(original)
    if kind == "format 2":
        as_format2(original)
    untouched = parse_manifest(json.dumps(original), "here")
    ways = places(original)

    @settings(max_examples=20 * settings().max_examples)
    @given(st.sampled_from(ways), st.sampled_from(["replace", "delete", "add"]), JUNK)
    def try_one(way: tuple[Any, ...], action: str, junk: Any) -> None:
        data = json.loads(json.dumps(original))
        holder = data
        for key in way[:-1]:
            holder = holder[key]
        if action == "delete":
            del holder[way[-1]]
        elif action == "replace":
            holder[way[-1]] = junk
        elif isinstance(holder, dict):
            holder["new"] = junk
        else:
            holder.append(junk)
        if kind in ("signed", "format 2"):
            sign(data)
        try:
            found = parse_manifest(json.dumps(data), "here")
        except BundleError as error:
            assert str(error).startswith("here: ")  # noqa: PT017 -- either way is right
            return
        if kind == "altered":
            assert found == untouched
        check_types(found)

    try_one()


def check_types(manifest: Manifest) -> None:
    """A manifest that is accepted can be written, with a history, and read again as the same."""
    if manifest.history is None:
        files = {**manifest.files, "history-1.jsonl": FileSpec("ab" * 32, 9)}
        manifest = replace(manifest, history="history-1.jsonl", files=files)
    again = parse_manifest(manifest.to_json(), "here")
    assert json.dumps(asdict(again)) == json.dumps(asdict(manifest))
    assert {manifest.networks[e.stored] for e in manifest.executions} <= manifest.files.keys()
    assert all(np.isfinite(e.threshold.value) for e in manifest.executions)
