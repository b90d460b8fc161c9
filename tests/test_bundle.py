from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdx_fast.bundle import Bundle, new_bundle, open_bundle
from rdx_fast.errors import BundleError


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_whole_bundle_opens(copy: Path, bundle: Bundle) -> None:
    assert open_bundle(copy).manifest == bundle.manifest
    assert {p.name for p in copy.iterdir()} == {"manifest.json", "network.onnx"}


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        open_bundle(tmp_path / "none.rdx")


def test_missing_manifest(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        open_bundle(copy)


def test_missing_network(copy: Path) -> None:
    (copy / "network.onnx").unlink()
    with pytest.raises(BundleError, match=r"network\.onnx is missing"):
        open_bundle(copy)


def test_altered_network(copy: Path) -> None:
    network = copy / "network.onnx"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(BundleError, match=r"network\.onnx is not the one exported"):
        open_bundle(copy)


def test_newer_format(copy: Path) -> None:
    edit(copy, lambda m: m.update(format=99, unheard_of=1))
    with pytest.raises(BundleError, match="has format 99, this rdx_fast reads up to 1"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["map"].update(surprise=1), "surprise"),
        (lambda m: m.pop("threshold"), "threshold"),
        (lambda m: m["input"].pop("mean"), r"input\.mean"),
        (lambda m: m["map"].update(sigma="4"), r"map\.sigma"),
        (lambda m: m["map"].update(sigma=-1.0), "sigma"),
        (lambda m: m["map"].update(fusion="max"), "fusion"),
        (lambda m: m["map"].update(border="mirror"), "border"),
        (lambda m: m["input"].update(resize="nearest"), "resize"),
        (lambda m: m["input"].update(std=[0.1, 0.0, 0.1]), "std"),
        (lambda m: m["input"].update(mean=[0.1, 0.2]), r"input\.mean"),
        (lambda m: m["threshold"].update(value=float("nan")), "threshold"),
        (lambda m: m.update(precision="fp4"), "precision"),
        (lambda m: m.update(network="other.onnx"), r"other\.onnx"),
        (lambda m: m.pop("format"), "names no format"),
    ],
)
def test_faulty_manifest(copy: Path, change, message: str) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_manifest_that_is_none(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "a/../../b", "..\\b", ""])
def test_names_that_lead_outside(copy: Path, name: str) -> None:
    edit(copy, lambda m: m["files"].update({name: m["files"]["network.onnx"]}))
    with pytest.raises(BundleError, match="leads outside the bundle"):
        open_bundle(copy)


def test_link_that_leads_outside(copy: Path, tmp_path: Path) -> None:
    network = copy / "network.onnx"
    network.rename(tmp_path / "elsewhere.onnx")
    os.symlink(tmp_path / "elsewhere.onnx", network)
    with pytest.raises(BundleError, match="leads outside the bundle"):
        open_bundle(copy)


def test_half_written_bundle_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with new_bundle(tmp_path / "part.rdx") as folder:
            (folder / "network.onnx").write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists"), new_bundle(copy):
        pass
    (tmp_path / "photos").mkdir()
    with pytest.raises(BundleError, match="is no bundle"), new_bundle(tmp_path / "photos", True):
        pass
    with new_bundle(copy, overwrite=True) as folder:
        (folder / "new").touch()
    assert [p.name for p in copy.iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.rdx", "photos"]
