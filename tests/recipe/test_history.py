"""The history of a bundle and its signature."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rdx_fast.bundle import Bundle, open_bundle, replace_manifest
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError
from rdx_fast.history import START, Change, read_history
from rdx_fast.revision import bundle_history, override_limits, verify_bundle
from rdx_fast.signature import is_signed, sign_manifest


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
    manifest = json.loads((changed.path / "manifest.json").read_text())
    manifest["executions"] = json.loads((bundle.path / "manifest.json").read_text())["executions"]
    del manifest["sha256"]
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (changed.path / "manifest.json").write_text(json.dumps(manifest))
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
        "rdx_fast.revision.bundle_history",
        lambda bundle: [
            replace(change, after={**change.after, "recipe": lacking}),
            *bundle_history(changed)[1:],
        ],
    ):
        assert len(verify_bundle(changed)) == 2


def test_a_bundle_of_an_earlier_format_gets_a_history(copy: Bundle) -> None:
    """Its first entry states all, so that the next changes can be compared with it."""
    bare = replace(
        copy.manifest,
        history=None,
        files={
            name: spec
            for name, spec in copy.manifest.files.items()
            if name != copy.manifest.history
        },
    )
    replace_manifest(bare, copy.path)
    value = copy.manifest.executions[0].threshold.value
    copy = open_bundle(copy.path)
    assert verify_bundle(copy) == []
    for factor in (2, 3):
        copy = override_limits(copy, "by hand", ng_above=factor * value, user="otto")
        assert verify_bundle(copy)
    first, _ = bundle_history(copy)
    assert set(first.after) == {"recipe", "limits of fp32"}


def test_two_who_change_at_once(copy: Bundle) -> None:
    value = copy.manifest.executions[0].threshold.value
    override_limits(copy, "first", ng_above=2 * value, user="anna")
    with pytest.raises(BundleError, match="changed since it was opened"):
        override_limits(copy, "second", ng_above=3 * value, user="otto")


KILLED = """
import sys
from rdx_fast.bundle import open_bundle
from rdx_fast.revision import override_limits
bundle = open_bundle(sys.argv[1])
value = bundle.manifest.executions[0].threshold.value
while True:
    ng_above = bundle.manifest.executions[0].limits[0].ng_above.value * 1.01
    bundle = override_limits(bundle, "again", ng_above=ng_above, user="anna")
    print("changed", flush=True)
"""


@pytest.mark.slow
def test_killed_while_it_writes(copy: Bundle) -> None:
    """Whenever the process is killed, the old or the new bundle is there, whole."""
    for kill in range(6):
        command = [sys.executable, "-c", KILLED, str(copy.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(2):
                assert process.stdout.readline() == "changed\n"
            time.sleep(0.011 * kill)
            os.kill(process.pid, signal.SIGKILL)
        assert verify_bundle(open_bundle(copy.path))
        Detector(copy.path).close()
    assert len(bundle_history(open_bundle(copy.path))) > 12
    assert len(list(copy.path.iterdir())) < 9  # nothing piles up


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    private = Ed25519PrivateKey.generate()
    files = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    files[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return files


def test_signed_bundles(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    _, of_another = keys(tmp_path, "another")
    with pytest.raises(BundleError, match="not signed as it is now"):
        open_bundle(copy.path, public)
    sign_manifest(copy.path, private)
    assert open_bundle(copy.path, public).manifest == copy.manifest
    with pytest.raises(BundleError, match=r"not by the key of .*another\.pub\.pem"):
        open_bundle(copy.path, of_another)
    value = copy.manifest.executions[0].threshold.value
    changed = override_limits(copy, "unsigned", ng_above=2 * value, user="otto")
    assert not is_signed(changed.path)
    with pytest.raises(BundleError, match="not signed as it is now"):
        open_bundle(copy.path, public)
    file = sign_manifest(copy.path, private)
    assert [f.name for f in copy.path.glob("*.sig")] == [file.name]
    assert open_bundle(copy.path, public).manifest == changed.manifest
    file.write_text("nonsense")
    with pytest.raises(BundleError, match="not by the key"):
        open_bundle(copy.path, public)


def test_keys_that_are_none(copy: Bundle, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "quality")
    sign_manifest(copy.path, private)
    other = tmp_path / "ec.pem"
    other.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    with pytest.raises(BundleError, match="another kind of key, wanted Ed25519"):
        sign_manifest(copy.path, other)
    with pytest.raises(BundleError, match="private key cannot be read"):
        sign_manifest(copy.path, public)
    with pytest.raises(BundleError, match="public key cannot be read"):
        open_bundle(copy.path, private)
    with pytest.raises(BundleError, match="public key cannot be read"):
        open_bundle(copy.path, tmp_path / "none.pem")
