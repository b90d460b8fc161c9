"""A bundle is changed at the line: new files and an entry in its history, then a new manifest."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bundle.bundle import (
    Bundle,
    describe_file,
    described_by,
    manifest_bytes,
    open_bundle,
    replace_manifest,
)
from rdx_fast.bundle.bundle_history import bundle_facts, next_change, verify_bundle
from rdx_fast.bundle.history import Change
from rdx_fast.bundle.manifest import ExecutionSpec, FileSpec, Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.bundle.signature import MANIFEST, SigningKey, manifest_signature, remove_signatures
from rdx_fast.durable import flush, locked, write_whole
from rdx_fast.errors import BundleError
from rdx_fast.limits.calibration import save_calibration
from rdx_fast.recipe.frame_check import FrameStatistics
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.regions import named_by_pixels

_REVISED = ("history-*.jsonl", "calibration-*.npz", "region-*.png")  # files with a revision's name


def revise_bundle(
    bundle: Bundle,
    action: str,
    user: str,
    *,
    recipe: InspectionRecipe | None = None,
    masks: Mapping[str, NDArray[np.uint8]] | None = None,
    executions: tuple[ExecutionSpec, ...] | None = None,
    calibration: Mapping[str, NDArray[np.float32]] | None = None,
    frames: Mapping[str, FrameStatistics] | None = None,
    files: Mapping[str, bytes] | None = None,
    sign_key: Path | None = None,
) -> Bundle:
    """Change what a bundle inspects and how it judges. What is None stays as it is.

    New files get new names, and the new manifest, signed already, takes the old one's place last:
    whoever opens the bundle meanwhile, or after a power failure, finds the old or the new one
    complete. Files of the revision before are kept for those who have just read its manifest.

    Args:
        bundle: as it is on disk
        action: one of ``history.ACTIONS``
        user: who does it
        recipe: what is inspected
        masks: uint8 [H, W], by the names that ``recipe`` uses; in the bundle they are named after
            their pixels. Those that the bundle has need not be given
        executions: with their limits
        calibration: scores of good images by execution, see ``save_calibration``
        frames: statistics of good frames, by execution
        files: contents of further files, by name, such as those of ``versions.COMPARISON``
        sign_key: file of the private key that signs the changed bundle, and signed it as it is
            now; None leaves it unsigned

    Raises:
        BundleError: the bundle cannot be changed, see ``check_revisable``, or the new manifest
            could not be read
        ValueError: what is given does not fit together
    """
    recipe, masks = named_by_pixels(recipe or bundle.manifest.recipe, masks or {})
    with locked(bundle.path):
        key, changes = check_revisable(bundle, sign_key)
        written = _write_files(bundle, recipe, masks, calibration)
        for name, content in (files or {}).items():
            write_whole(bundle.path / name, content)
        written |= _described(bundle.path, sorted(files or ()))
        scores = bundle.manifest.calibration if calibration is None else _scores(bundle)
        changed = replace(
            bundle.manifest,
            recipe=recipe,
            executions=executions or bundle.manifest.executions,
            frames=bundle.manifest.frames | dict(frames or {}),
            calibration=scores,
            files=written,
        )
        facts = bundle_facts(bundle.manifest), bundle_facts(changed)
        changes.append(next_change(changes, action, user, *facts))
        changed = _with_history(bundle, changed, changes)
        _put_in_place(bundle, changed, key)
        return replace(open_bundle(bundle.path), public_key=bundle.public_key)


def check_revisable(
    bundle: Bundle, sign_key: Path | None
) -> tuple[SigningKey | None, list[Change]]:
    """Check that a bundle may be changed: at the start of long work, and before it is changed.

    A signature says that somebody answers for the bundle. So a change is signed only if what it
    changes was signed with the same key: otherwise it would sign what others had changed before.

    Returns:
        the key to sign with, and the history

    Raises:
        BundleError: the bundle changed since it was opened, its history is broken or not what the
            bundle is, or the key cannot be read, is missing, is another than the one that the
            bundle was opened with, or did not sign the bundle as it is now
    """
    key = None if sign_key is None else SigningKey.read(sign_key)
    folder, opened_with = bundle.path, bundle.public_key
    if opened_with is not None:
        if key is None:
            raise BundleError(
                f"{folder} was opened as one that must be signed: a change needs the private key "
                f"(sign_key=..., --sign-key)"
            )
        if key.public.key != opened_with.key:
            raise BundleError(
                f"{folder}: {key.file} is another key than that of {opened_with.file}, which the "
                f"bundle was opened with: sign with that one"
            )
    content = manifest_bytes(folder)
    if described_by(content, folder).manifest != bundle.manifest:
        raise BundleError(f"{folder}: the bundle was changed since it was opened: try again")
    if key is not None:
        try:
            key.public.check_manifest(folder, content)
        except BundleError as error:
            raise BundleError(
                f"{folder}: {key.file} did not sign the bundle as it is now, and does not sign a "
                f"change of what it did not sign: look at the history (rdx-fast verify), then sign "
                f"the bundle as it is (rdx-fast sign), and make the change again"
            ) from error
    return key, verify_bundle(bundle)


def _write_files(
    bundle: Bundle,
    recipe: InspectionRecipe,
    masks: Mapping[str, NDArray[np.uint8]],
    calibration: Mapping[str, NDArray[np.float32]] | None,
) -> dict[str, FileSpec]:
    """Write masks and scores, and return the changed bundle's files, still with its old history."""
    old, folder = bundle.manifest, bundle.path
    written = {name for name in masks if name not in old.files}  # others may be reading those
    for name in written:
        Image.fromarray(masks[name]).save(folder / name)
    replaced = {region.mask for region in old.recipe.regions}
    replaced -= {region.mask for region in recipe.regions}
    if calibration is not None:
        replaced.add(old.calibration)
        written.add(_scores(bundle))
        save_calibration(folder / _scores(bundle), calibration)
    files = {name: spec for name, spec in old.files.items() if name not in replaced}
    return files | _described(folder, sorted(written))


def _scores(bundle: Bundle) -> str:
    """The file of the next revision's calibration scores."""
    return f"calibration-{bundle.manifest.revision + 1}.npz"


def _with_history(bundle: Bundle, changed: Manifest, changes: Sequence[Change]) -> Manifest:
    """Write the history, and return the next revision's manifest."""
    revision = bundle.manifest.revision + 1
    history = f"history-{revision}.jsonl"
    text = "".join(change.line() for change in changes)
    (bundle.path / history).write_text(text, encoding="utf-8")
    files = {name: spec for name, spec in changed.files.items() if name != changed.history}
    files |= _described(bundle.path, [history])
    return replace(changed, revision=revision, history=history, files=files)


def _described(folder: Path, names: Collection[str]) -> dict[str, FileSpec]:
    """Size and checksum of new files, which are durable then."""
    for name in names:
        flush(folder / name)
    return {name: describe_file(folder / name) for name in names}


def _put_in_place(bundle: Bundle, changed: Manifest, key: SigningKey | None) -> None:
    """Sign the changed manifest, put it into the old one's place, and remove what is left over."""
    folder, content = bundle.path, changed.to_json().encode()
    parse_manifest(content.decode(), str(folder))  # what cannot be read takes no place
    if key is not None:
        key.sign_manifest(folder, content)
    before = (folder / MANIFEST).read_bytes()
    replace_manifest(changed, folder)
    remove_signatures(folder, keep=[manifest_signature(folder, of) for of in (before, content)])
    for pattern in _REVISED:
        for file in folder.glob(pattern):
            if file.name not in {*bundle.manifest.files, *changed.files}:
                file.unlink()
    for partial in folder.glob(".manifest*"):  # of a process that was killed
        shutil.rmtree(partial, ignore_errors=True)
