"""The history of a bundle and its signature."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rdx_fast.bundle.bundle import Bundle, describe_file, open_bundle, replace_manifest
from rdx_fast.bundle.bundle_history import (
    bundle_history,
    exported_history,
    verify_bundle,
    what_changed,
)
from rdx_fast.bundle.changes import override_limits, replace_recipe
from rdx_fast.bundle.history import START, Change, read_history
from rdx_fast.bundle.signature import SigningKey, is_signed, sign_bundle
from rdx_fast.cli.verify import sign as sign_command
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError, RecipeError
from rdx_fast.export import export_bundle
from rdx_fast.limits.calibration import (
    best_f1_threshold,
    calibrate_threshold,
    manual_threshold,
    save_calibration,
)
from rdx_fast.limits.limits import Limits
from rdx_fast.recalibrate import Wish, calibrate_bundle
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.recipe.regions import named_by_pixels
from rdx_fast.training import Checkpoint
from support.manifests import as_format2, edit, sign
from support.signing import keys


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def chain(*users: str) -> list[Change]:
    changes: list[Change] = []
    for user in users:
        previous = changes[-1].sha256 if changes else START
        changes.append(Change.now(user, "calibrate", {"a": 1}, {"a": [0.1, None]}, previous))
    return changes


def test_a_whole_chain_is_read() -> None:
    changes = chain("anna", "otto", "eve")
    assert read_history("".join(c.line() for c in changes), "here") == changes
    assert read_history("", "here") == []


def altered(line: str) -> str:
    return line.replace('"anna"', '"eve"')


def forged(line: str) -> str:
    """Altered, with the hash that fits."""
    facts = json.loads(altered(line))
    change = Change(**{**facts, "sha256": ""})
    return Change(**{**facts, "sha256": change.hashed()}).line()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [altered(lines[0]), *lines[1:]], "entry 1 .* was altered"),
        (lambda lines: [forged(lines[0]), *lines[1:]], "broken before entry 2"),
        (lambda lines: lines[1:], "broken before entry 1"),
        (lambda lines: [lines[0], lines[2]], "broken before entry 2"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "broken before entry 2"),
        (lambda lines: [lines[0], lines[2], lines[1]], "broken before entry 2"),
        (lambda lines: [lines[0][:-9] + "\n", *lines[1:]], "entry 1 .* is unreadable"),
        (lambda lines: ["[]\n", *lines[1:]], "entry 1 .* is unreadable"),
        (lambda lines: ["{}\n", *lines[1:]], "entry 1 .* is unreadable: .* is missing"),
    ],
)
def test_a_broken_chain_is_found(change: Callable[[list[str]], list[str]], message: str) -> None:
    lines = [c.line() for c in chain("anna", "otto", "eve")]
    with pytest.raises(BundleError, match=message):
        read_history("".join(change(lines)), "here")


def test_changes_are_entered_one_after_the_other(copy: Bundle) -> None:
    value = copy.manifest.executions[0].threshold.value
    for factor in (2, 3):
        copy = override_limits(copy, f"factor {factor}", ng_above=factor * value, user="otto")
    changes = verify_bundle(copy)
    assert [c.action for c in changes] == ["export", "override", "override"]
    (before,), (after,) = (of["limits of fp32"] for of in (changes[-1].before, changes[-1].after))
    assert before["ng_above"]["value"] == 2 * value
    assert after["ng_above"]["reason"] == "factor 3"
    # The files of the revision before are there, those of earlier ones are not.
    assert copy.manifest.revision == 2
    assert {f.name for f in copy.path.glob("history-*")} == {"history-1.jsonl", "history-2.jsonl"}


def test_a_change_without_an_entry_is_found(copy: Bundle, bundle: Bundle) -> None:
    """Someone puts the limits back, and leaves the history as it is."""
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "by hand", ng_above=2 * value, user="otto")
    earlier = json.loads((bundle.path / "manifest.json").read_text())["executions"]
    edit(changed.path, lambda data: (data.update(executions=earlier), sign(data)))
    with pytest.raises(BundleError, match="limits of fp32 in the manifest are not what"):
        verify_bundle(open_bundle(changed.path))


def test_options_of_a_later_version_are_no_change(copy: Bundle) -> None:
    """An entry that lacks what is None now, and one that has it."""
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "by hand", ng_above=2 * value, user="otto")
    (change,) = [c for c in bundle_history(changed) if c.action == "export"]
    assert None in change.after["recipe"].values()
    lacking = {k: v for k, v in change.after["recipe"].items() if v is not None}
    with patch(
        "rdx_fast.bundle.bundle_history.bundle_history",
        lambda bundle: [
            replace(change, after={**change.after, "recipe": lacking}),
            *bundle_history(changed)[1:],
        ],
    ):
        assert len(verify_bundle(changed)) == 2


# What a manifest may be changed to without an entry.
OTHER: dict[str, Callable[[dict[str, Any]], object]] = {
    "recipe": lambda data: data["recipe"].update(mm_per_pixel=0.1),
    "frames": lambda data: data["frames"]["fp32"]["brightness"].update(high=1.0),
    "recipes of limits": lambda data: data["executions"][0].update(inspected_sha256="0" * 64),
    "calibration": lambda data: data.update(calibration=None),
    "map": lambda data: data["map"].update(sigma=2.0),
    "limits of bf16 of network fp32": lambda data: data["executions"].append(
        {**data["executions"][0], "executed": "bf16"}
    ),
}


@pytest.mark.parametrize("fact", OTHER)
def test_every_fact_without_an_entry_is_found(copy: Bundle, fact: str) -> None:
    verify_bundle(copy)
    edit(copy.path, lambda data: (OTHER[fact](data), sign(data)))
    with pytest.raises(BundleError, match=f": {fact} in the manifest are not what the history"):
        verify_bundle(open_bundle(copy.path))


def test_files_without_an_entry_are_found(copy: Bundle) -> None:
    """Other calibration scores, with the checksum that fits."""
    scores = {label: of + 1 for label, of in copy.calibration().items()}
    name = str(copy.manifest.calibration)
    save_calibration(copy.path / name, scores)
    spec = asdict(describe_file(copy.path / name))
    edit(copy.path, lambda data: (data["files"].update({name: spec}), sign(data)))
    with pytest.raises(BundleError, match="files in the manifest are not what the history ends"):
        verify_bundle(open_bundle(copy.path))


def as_first_written(copy: Bundle) -> Bundle:
    """With a history that states recipe and limits alone, as the first version wrote it."""
    return stating(copy, lambda fact: fact == "recipe" or fact.startswith("limits"))


def stating(copy: Bundle, stated: Callable[[str], bool]) -> Bundle:
    """With a history that states some facts alone."""
    (change,) = bundle_history(copy)
    facts = {name: fact for name, fact in change.after.items() if stated(name)}
    name = str(copy.manifest.history)
    (copy.path / name).write_text(Change.now("anna", "export", {}, facts, START).line())
    spec = asdict(describe_file(copy.path / name))
    edit(copy.path, lambda data: (data["files"].update({name: spec}), sign(data)))
    return open_bundle(copy.path)


def test_a_history_of_fewer_facts(copy: Bundle) -> None:
    """It is whole, and the next entry states what it lacks."""
    copy = as_first_written(copy)
    assert len(verify_bundle(copy)) == 1
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "by hand", ng_above=2 * value, user="otto")
    last = verify_bundle(changed)[-1]
    assert {"limits of fp32", "frames", "files"} < set(last.after)
    assert "recipe" not in last.after
    assert what_changed(last).startswith(f"limits of fp32: NG above {value:.6g} -> {2 * value:.6g}")
    edit(copy.path, lambda data: (OTHER["frames"](data), sign(data)))
    with pytest.raises(BundleError, match="frames in the manifest are not what the history ends"):
        verify_bundle(open_bundle(copy.path))


def test_a_history_that_does_not_state_which_scores_count(copy: Bundle) -> None:
    """It is whole, and the next entry states it."""
    copy = stating(copy, lambda fact: fact != "calibration")
    assert len(verify_bundle(copy)) == 1
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "by hand", ng_above=2 * value, user="otto")
    assert verify_bundle(changed)[-1].after["calibration"] == copy.manifest.calibration
    edit(copy.path, lambda data: (OTHER["calibration"](data), sign(data)))
    with pytest.raises(BundleError, match="calibration in the manifest are not what the history"):
        verify_bundle(open_bundle(copy.path))


@pytest.mark.parametrize("fact", ["recipe", "limits of bf16 of network fp32"])
def test_what_a_history_of_fewer_facts_states_is_compared(copy: Bundle, fact: str) -> None:
    copy = as_first_written(copy)
    edit(copy.path, lambda data: (OTHER[fact](data), sign(data)))
    with pytest.raises(BundleError, match=f": {fact} in the manifest are not what the history"):
        verify_bundle(open_bundle(copy.path))


def test_a_removed_history_is_found(copy: Bundle) -> None:
    def without(data: dict[str, Any]) -> None:
        data["files"].pop(data["history"])
        data.update(history=None)
        sign(data)

    edit(copy.path, without)
    with pytest.raises(BundleError, match="history is null, and every bundle of this format has"):
        open_bundle(copy.path)


@pytest.mark.parametrize("kept", [0, 1])
def test_removed_entries_are_found(copy: Bundle, kept: int) -> None:
    """At the end of a history, where no chain breaks; they changed nothing."""
    value = copy.manifest.executions[0].threshold.value
    copy = override_limits(copy, "by hand", ng_above=value, user="otto")
    copy = override_limits(copy, "by hand", ng_above=value, user="otto")
    history = copy.path / str(copy.manifest.history)
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:kept]))
    spec = asdict(describe_file(history))
    edit(copy.path, lambda data: (data["files"].update({history.name: spec}), sign(data)))
    with pytest.raises(BundleError, match=r"states 2 changes since .* history has 0: entries were"):
        verify_bundle(open_bundle(copy.path))


def test_a_bundle_of_an_earlier_format_gets_a_history(copy: Bundle) -> None:
    """Its first entry states all, so that the next changes can be compared with it."""
    everything = set(bundle_history(copy)[0].after)
    edit(copy.path, as_format2)
    copy = open_bundle(copy.path)
    assert verify_bundle(copy) == []
    value = copy.manifest.executions[0].threshold.value
    for factor in (2, 3):
        copy = override_limits(copy, "by hand", ng_above=factor * value, user="otto")
        assert verify_bundle(copy)
    first, _ = bundle_history(copy)
    assert set(first.after) == everything


def test_what_changed_on_one_line(copy: Bundle) -> None:
    (first,) = bundle_history(copy)
    assert what_changed(first) == "all"
    frames = {**first.after["frames"], "images": 7}
    files = {"network_fp32.onnx": "ab" * 32, "calibration-1.npz": "cd" * 32}
    lid = Limits.single(calibrate_threshold([0.5, 1.0, 1.5], 0.25), "lid")
    pin = Limits.single(manual_threshold(2.0, "old lamp"), "pin")
    by_hand = replace(lid, ng_above=manual_threshold(1.75, "new lamp"))
    of_f1 = Limits.single(best_f1_threshold([1.0], [3.0]), "pin")
    before = {"limits of fp32": told_as(lid, pin), "limits of int8": told_as(pin)}
    before |= {"limits of bf16": 1, "files": {**files}, "frames": frames}
    after = {
        "frames": first.after["frames"],
        "files": {**files, "calibration-1.npz": "0123456789" + "f" * 54},
        "limits of fp32": told_as(by_hand, pin),
        "limits of int8": told_as(lid, of_f1),
        "limits of bf16": 2,
    }
    told = what_changed(Change.now("anna", "calibrate", before, after, START))
    assert told == (
        "limits of fp32: lid NG above 1.5 -> 1.75 (new lamp); "
        f"limits of int8: lid 1.5 (conformal, promised 25.000%), "
        f"pin 2 -> {of_f1.ok_below.value:.6g} (best-f1); "
        "limits of bf16; frames, calibration-1.npz (01234567)"
    )


def told_as(*limits: Limits) -> list[dict[str, Any]]:
    return [asdict(of) for of in limits]


def test_masks_are_named_after_their_pixels(copy: Bundle) -> None:
    """Whatever names they are given under: two masks under one name, a mask under two."""
    size = (copy.manifest.map.height, copy.manifest.map.width)
    halves = [np.zeros(size, np.uint8), np.zeros(size, np.uint8)]
    halves[0][:, : size[1] // 2] = 255
    halves[1][:, size[1] // 2 :] = 255
    names = []
    for half in (*halves, halves[0]):
        recipe = InspectionRecipe(FrameSpec(*size), (RegionSpec("part", mask="part.png"),))
        copy = replace_recipe(copy, recipe, {"part.png": half}, "anna")
        (region,) = copy.manifest.recipe.regions
        np.testing.assert_array_equal(copy.mask(str(region.mask)), half)
        names.append(region.mask)
    assert names[0] == names[2] != names[1]
    # Those that the bundle has need not be given again.
    copy = replace_recipe(copy, replace(copy.manifest.recipe, deadline_ms=50.0), {}, "anna")
    np.testing.assert_array_equal(copy.mask(str(names[0])), halves[0])
    verify_bundle(copy)
    with pytest.raises(RecipeError, match=r"the mask part\.png was not given, and the bundle has"):
        replace_recipe(copy, recipe, {}, "anna")
    # The same bytes in another shape are another mask.
    names = [
        named_by_pixels(recipe, {"part.png": half})[0].regions[0].mask
        for half in (halves[0], halves[0].reshape(size[0] // 2, -1))
    ]
    assert names[0] != names[1]


def test_an_export_over_a_bundle_goes_on_with_its_history(copy: Bundle, tmp_path: Path) -> None:
    """What earlier exports stated is no part of the new bundle."""
    new = open_bundle(shutil.copytree(copy.path, tmp_path / "new.rdx"))
    manifest, execution = new.manifest, new.manifest.executions[0]
    bf16 = replace(execution, executed="bf16")
    history = new.path / str(manifest.history)
    for executions in ((execution, bf16), (execution,)):
        manifest = replace(manifest, executions=executions)
        history.write_text(exported_history(new.path, "otto", manifest))
        files = manifest.files | {history.name: describe_file(history)}
        replace_manifest(replace(manifest, files=files), new.path)
        changes = verify_bundle(open_bundle(new.path))
    assert [c.action for c in changes] == ["export", "replace", "replace"]
    assert "limits of bf16 of network fp32" in changes[1].after
    assert changes[-1].before["name"] == manifest.name
    assert what_changed(changes[-1]) == "all"


def test_a_bundle_that_is_not_what_its_history_says_is_not_replaced(
    copy: Bundle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Its history would go on, and the new entry would state nothing of what was changed."""
    edit(copy.path, lambda data: (OTHER["map"](data), sign(data)))
    with pytest.raises(BundleError, match="map in the manifest are not what the history ends"):
        exported_history(copy.path, "otto", copy.manifest)
    before_anything_is_read = [tmp_path / "none.png"]
    with pytest.raises(BundleError, match="map in the manifest are not what the history ends"):
        export_bundle(checkpoint, before_anything_is_read, copy.path, overwrite=True)


def test_two_who_change_at_once(copy: Bundle) -> None:
    value = copy.manifest.executions[0].threshold.value
    override_limits(copy, "first", ng_above=2 * value, user="anna")
    with pytest.raises(BundleError, match="changed since it was opened"):
        override_limits(copy, "second", ng_above=3 * value, user="otto")


KILLED = """
import sys
from pathlib import Path
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import override_limits
bundle, key = open_bundle(sys.argv[1]), Path(sys.argv[2])
while True:
    ng_above = bundle.manifest.executions[0].limits[0].ng_above.value * 1.01
    bundle = override_limits(bundle, "again", ng_above=ng_above, user="anna", sign_key=key)
    print("changed", flush=True)
"""


@pytest.mark.slow
def test_killed_while_it_writes(copy: Bundle, tmp_path: Path) -> None:
    """Whenever the process is killed, the old or the new bundle is there, whole and signed."""
    private, public = keys(tmp_path, "quality")
    sign_bundle(copy.path, private)
    for kill in range(6):
        command = [sys.executable, "-c", KILLED, str(copy.path), str(private)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(2):
                assert process.stdout.readline() == "changed\n"
            time.sleep(0.011 * kill)
            os.kill(process.pid, signal.SIGKILL)
        assert verify_bundle(open_bundle(copy.path, public))
        Detector(copy.path, public_key=public).close()
    assert len(bundle_history(open_bundle(copy.path))) > 12
    assert len(list(copy.path.iterdir())) < 12  # nothing piles up


def test_signed_bundles(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    _, of_another = keys(tmp_path, "another")
    with pytest.raises(BundleError, match="not signed as it is now"):
        open_bundle(copy.path, public)
    sign_bundle(copy.path, private)
    assert open_bundle(copy.path, public).manifest == copy.manifest
    with pytest.raises(BundleError, match=r"not by the key of .*another\.pub\.pem"):
        open_bundle(copy.path, of_another)
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "unsigned", ng_above=2 * value, user="otto")
    assert not is_signed(changed.path)
    with pytest.raises(BundleError, match="not signed as it is now"):
        open_bundle(copy.path, public)
    (file,) = sign_bundle(copy.path, private)
    assert [f.name for f in copy.path.glob("*.sig")] == [file.name]
    assert open_bundle(copy.path, public).manifest == changed.manifest
    file.write_text("nonsense")
    with pytest.raises(BundleError, match="not by the key"):
        open_bundle(copy.path, public)


def test_a_change_signs_nothing_that_others_changed(copy: Bundle, tmp_path: Path) -> None:
    """Neither what was never signed nor what was changed since."""
    private, public = keys(tmp_path, "quality")
    another, _ = keys(tmp_path, "another")
    value = copy.manifest.executions[0].threshold.value

    def change(key: Path | None, factor: float) -> Bundle:
        opened = open_bundle(copy.path)
        return override_limits(opened, "x", ng_above=factor * value, user="o", sign_key=key)

    for prepare in (
        lambda: None,  # never signed
        lambda: sign_bundle(copy.path, another),
        lambda: (sign_bundle(copy.path, private), change(None, 100)),
    ):
        prepare()
        there = sorted(copy.path.iterdir())
        with pytest.raises(BundleError, match=r"did not sign .*rdx-fast verify.*rdx-fast sign"):
            change(private, 2)
        assert sorted(copy.path.iterdir()) == there
    sign_bundle(copy.path, private)
    change(private, 2)
    assert verify_bundle(open_bundle(copy.path, public))[-1].action == "override"


def test_what_is_signed_was_verified(copy: Bundle, tmp_path: Path) -> None:
    """Someone changes the bundle between the two."""
    private, _ = keys(tmp_path, "quality")
    value = copy.manifest.executions[0].threshold.value

    def verified_then_changed(bundle: Bundle) -> None:
        verify_bundle(bundle)
        override_limits(bundle, "x", ng_above=100 * value, user="eve")

    with (
        patch("rdx_fast.cli.verify.verify_bundle", verified_then_changed),
        pytest.raises(BundleError, match="changed after it was verified, and is not signed"),
    ):
        sign_command(copy.path, private)
    assert not is_signed(copy.path)


def test_a_signature_is_replaced_whole(tmp_path: Path) -> None:
    """Whoever reads it meanwhile, or after a power failure, finds one that is whole."""
    made, first = tmp_path / "network.plan", SigningKey.read(keys(tmp_path, "quality")[0])
    made.write_bytes(b"a plan")
    signature = first.sign_made(made)
    content, inode = signature.read_bytes(), signature.stat().st_ino
    first.sign_made(made)
    assert signature.stat().st_ino == inode  # which was not written again
    there = sorted(tmp_path.iterdir())
    second = SigningKey.read(keys(tmp_path, "quality")[0])
    with (
        patch("rdx_fast.durable.os.fsync", side_effect=OSError("power failure")),
        pytest.raises(OSError, match="power failure"),
    ):
        second.sign_made(made)
    assert signature.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == there
    second.sign_made(made)
    second.public.check_made(made, b"a plan")


def test_keys_that_are_none(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    sign_bundle(copy.path, private)
    other, unknown = tmp_path / "ec.pem", tmp_path / "unknown.pem"
    key = generate_private_key(SECP256R1())
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BundleError, match="another kind of key, wanted Ed25519"):
        sign_bundle(copy.path, other)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    curve = bytes.fromhex("2a8648ce3d0301")  # and a byte for which; cryptography has no prime239v3
    assert curve + b"\7" in der
    text = b64encode(der.replace(curve + b"\7", curve + b"\6")).decode()
    unknown.write_text(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(BundleError, match=r"private key cannot be read: .*not supported"):
        sign_bundle(copy.path, unknown)
    with pytest.raises(BundleError, match="private key cannot be read"):
        sign_bundle(copy.path, public)
    with pytest.raises(BundleError, match="public key cannot be read"):
        open_bundle(copy.path, private)
    with pytest.raises(BundleError, match="public key cannot be read"):
        open_bundle(copy.path, tmp_path / "none.pem")


def test_a_change_is_signed_before_it_takes_its_place(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    sign_bundle(copy.path, private)
    value = copy.manifest.executions[0].threshold.value

    def changed(factor: float) -> Bundle:
        opened = open_bundle(copy.path, public)
        return override_limits(opened, "x", ng_above=factor * value, user="o", sign_key=private)

    def power_failure(*_: object) -> None:
        raise OSError("power failure")

    for place in (power_failure, lambda *of: (replace_manifest(*of), power_failure())):
        with (
            patch("rdx_fast.bundle.revision.replace_manifest", place),
            pytest.raises(OSError, match="power failure"),
        ):
            changed(2)
        opened = open_bundle(copy.path, public)
        assert opened.manifest.revision == (place is not power_failure)
    for factor in (3, 4, 5):
        found = changed(factor)
    assert found.public_key is not None
    assert open_bundle(copy.path, public).manifest == found.manifest
    # That of the revision before stays for those who have just read its manifest.
    assert len(list(copy.path.glob("manifest-*.sig"))) == 2


def test_a_key_that_cannot_sign_changes_nothing(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    another, _ = keys(tmp_path, "another")
    sign_bundle(copy.path, private)
    opened, there = open_bundle(copy.path, public), sorted(copy.path.iterdir())
    for key, message in (
        (tmp_path / "none.pem", "private key cannot be read"),
        (public, "private key cannot be read"),
        (None, "opened as one that must be signed: a change needs the private key"),
    ):
        with pytest.raises(BundleError, match=message):
            override_limits(opened, "x", ng_above=9, user="otto", sign_key=key)
        assert sorted(copy.path.iterdir()) == there
    with pytest.raises(BundleError, match=r"another\.pem is another key than .*quality\.pub\.pem"):
        override_limits(opened, "x", ng_above=9, user="otto", sign_key=another)
    assert open_bundle(copy.path, public).manifest == copy.manifest


def test_what_cannot_be_changed_is_found_before_images_are_scored(
    copy: Bundle, tmp_path: Path
) -> None:
    private, public = keys(tmp_path, "quality")
    another, _ = keys(tmp_path, "another")
    sign_bundle(copy.path, private)

    def calibrate(opened: Bundle, key: Path | None) -> None:
        no_image = [tmp_path / "none.png"]
        calibrate_bundle(opened, no_image, Wish(weaker=True), user="otto", sign_key=key)

    with pytest.raises(BundleError, match="private key cannot be read"):
        calibrate(copy, public)
    with pytest.raises(BundleError, match="a change needs the private key"):
        calibrate(open_bundle(copy.path, public), None)
    with pytest.raises(BundleError, match="is another key than"):
        calibrate(open_bundle(copy.path, public), another)
    edit(copy.path, lambda data: (OTHER["map"](data), sign(data)))
    with pytest.raises(BundleError, match="changed since it was opened"):
        calibrate(copy, None)
    with pytest.raises(BundleError, match="map in the manifest are not what the history"):
        calibrate(open_bundle(copy.path), None)
