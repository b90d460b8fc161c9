"""The versions of a bundle: candidates, the released one, and those that were released before.

Beside the bundle ``cells.rdx`` the folder ``cells.rdx.versions`` holds its other versions, each a
bundle of its own: ``candidate-<UTC time>-<start of its SHA-256>`` and ``previous-...`` likewise.
Where two versions share a file, it is the same file on disk (a hard link): files of a bundle are
never changed in place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rdx_fast.bundle.bundle import describe_file, manifest_bytes, open_bundle, read_steadily
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.history import Change, read_history
from rdx_fast.bundle.manifest import Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.bundle.signature import MANIFEST, manifest_signature
from rdx_fast.durable import exchange, flush, locked, sync_directory, try_locked
from rdx_fast.errors import BundleError, RdxError

COMPARISON = "comparison.json"  # file of a candidate: how it compares with the released bundle
State = Literal["released", "candidate", "previous"]
_WORK = ".new-"  # folders of candidates that are being made
_GONE = ".gone-"  # folders of versions that are being removed

log = logging.getLogger(__name__)


class ReplacedError(BundleError):
    """Another version was released since somebody decided on a change."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A change of the released bundle that a candidate was made without.

    Attributes:
        time: ISO 8601, UTC
        user: who made it
        action: what it was, see ``history.ACTIONS``
    """

    time: str
    user: str
    action: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a bundle.

    Attributes:
        path: folder of it
        sha256: of its manifest, as the station states it, see ``manifest_sha256``
        name: of the bundle
        changed: time of the last change, ISO 8601, UTC
        user: who made it; "" in a bundle without a history
        action: what it was, see ``history.ACTIONS``
        state: "released", "candidate", or "previous": was released, and nobody has changed it since
        comparison: contents of its ``comparison.json``; None if there is none
        comparison_current: whether the bundle is still as it was compared
        lacks: of a candidate, the changes of the released bundle that it was made without: its
            release undoes them. The oldest first
    """

    path: Path
    sha256: str
    name: str
    changed: str
    user: str
    action: str
    state: State
    comparison: dict[str, Any] | None
    comparison_current: bool
    lacks: tuple[Lacking, ...]

    @property
    def outdated(self) -> bool:
        """Whether the released bundle was changed since the candidate was made of it."""
        return bool(self.lacks)


def versions_folder(bundle: Path) -> Path:
    """Where the other versions of a bundle lie, whether there are any or not."""
    return bundle.with_name(f"{bundle.name}.versions")


def list_versions(bundle: Path) -> list[Version]:
    """The versions of a bundle: the released one, then the others, changed last first.

    Only what is told of them is read and checked. Those of which that is damaged are left out, and
    named in the log.

    Args:
        bundle: folder of the released bundle

    Raises:
        BundleError: the released bundle is missing or damaged
    """
    released = _version(bundle, "released")
    changes = read_steadily(bundle, lambda content: _changes(bundle, _parsed(content, bundle)))
    others = []
    for path in _folders(bundle):
        try:
            others.append(_version(path, "candidate", changes))
        except (RdxError, OSError) as error:
            if not path.exists():  # it was released, or was removed, meanwhile
                continue
            log.warning("a version of a bundle is left out: %s", error)
    return [released, *sorted(others, key=lambda version: version.changed, reverse=True)]


@contextmanager
def new_candidate(bundle: Path) -> Iterator[Path]:
    """Yield the folder of a copy of the released bundle, to be changed by ``revise_bundle`` and the
    like, or replaced by an export with ``overwrite``. It becomes a candidate if the body succeeds,
    else it is deleted.

    Args:
        bundle: folder of the released bundle

    Raises:
        BundleError: there is no such bundle or it is a symbolic link, the file system has no hard
            links, or the body left a bundle that does not open or is the released one
    """
    _check_own_folder(bundle)
    before = manifest_sha256(bundle)
    folder = versions_folder(bundle)
    folder.mkdir(exist_ok=True)
    sync_directory(bundle.parent)
    with ExitStack() as stack:
        with locked(folder):
            _remove_left_over(folder)
            work = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            stack.enter_context(locked(work))  # says that a process is at work on it
        copy = work / bundle.name
        _link_files(bundle, copy)
        yield copy
        sha256 = _check_opens(copy)
        if sha256 == before:
            raise BundleError(
                f"{copy.name}: nothing was changed, so there is nothing to release: change the "
                f"copy before it becomes a candidate"
            )
        _make_durable(copy)
        copy.rename(folder / _name("candidate", sha256))
        sync_directory(folder)


def release(
    bundle: Path, sha256: str, public_key: Path | None = None, over: str | None = None
) -> Version:
    """Put another version into the released bundle's place, at once and durably.

    Whoever opens the bundle meanwhile, or after a power failure, finds the one or the other. What
    was released becomes a previous version, which can be released again. Releasing what is released
    already changes nothing.

    Args:
        bundle: folder of the released bundle
        sha256: of the version's manifest, see ``Version``
        public_key: file of a key that must have signed the version; None releases unsigned ones too
        over: SHA-256 of the version that is released now, as whoever decides knows it; None for any

    Returns:
        the version, as it is since

    Raises:
        ReplacedError: not ``over`` is released
        BundleError: there is no such version, it does not open, is not what its history ends with
            or not signed by the key; the bundle is a symbolic link; or the file system or the
            operating system cannot exchange two folders
    """
    _check_own_folder(bundle)
    manifest_bytes(bundle)  # says what is missing, if it is
    folder = versions_folder(bundle)
    folder.mkdir(exist_ok=True)
    # One release at a time, and none while the released bundle is being changed in place.
    with locked(folder), locked(bundle):
        released = _version(bundle, "released")
        if released.sha256 == sha256:
            return released
        if over not in (None, released.sha256):
            raise ReplacedError(
                f"{bundle}: another version was released meanwhile, {released.sha256[:12]}: look "
                f"at it, and decide again"
            )
        found = find_version(bundle, sha256).path
        _check_opens(found, public_key)
        _make_durable(found)
        # The folder gets its name before its contents: from the exchange on, all is as it should
        # be. Until then the name is another's, which makes its contents a candidate.
        previous = folder / _name("previous", released.sha256)
        found.rename(previous)
        sync_directory(folder)
        try:
            exchange(bundle, previous)
        except OSError as error:
            previous.rename(found)
            raise BundleError(
                f"{bundle}: the version cannot be released, and nothing was changed: {error}"
            ) from error
        sync_directory(bundle.parent)
        sync_directory(folder)
        return _version(bundle, "released")


def manifest_sha256(bundle: Path) -> str:
    """SHA-256 of the manifest of the bundle in a folder, hexadecimal.

    It is that of the file ``manifest.json``; of one of an earlier format, as it is read by this
    version. Raises ``BundleError`` if there is no readable one.
    """
    return _sha256(_manifest(bundle))


def _sha256(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.to_json().encode()).hexdigest()


def _manifest(folder: Path) -> Manifest:
    return _parsed(manifest_bytes(folder), folder)


def _parsed(content: bytes, folder: Path) -> Manifest:
    return parse_manifest(content.decode("utf-8", "replace"), str(folder))


def _folders(bundle: Path) -> list[Path]:
    found = versions_folder(bundle).glob("*")
    return [path for path in found if path.is_dir() and not path.name.startswith(".")]


def remove_versions(bundle: Path, sha256s: Collection[str]) -> None:
    """Remove versions that are needed no more. A station may still have the one open that was
    released before the present one.

    Args:
        bundle: folder of the released bundle
        sha256s: of the versions' manifests

    Raises:
        BundleError: one of them is of no version or of the released one, and nothing was removed;
            or a version cannot be removed
    """
    _check_own_folder(bundle)
    if not sha256s:
        return
    manifest_bytes(bundle)
    folder = versions_folder(bundle)
    folder.mkdir(exist_ok=True)
    with locked(folder):  # no release renames or exchanges them meanwhile
        _remove_left_over(folder)
        gone = [find_version(bundle, sha256) for sha256 in sha256s]
        if any(version.state == "released" for version in gone):
            raise BundleError(f"{bundle}: the released version stays: release another one first")
        for version in gone:
            try:
                # Half of a version would be none, which nobody could name to remove it.
                left = version.path.rename(folder / f"{_GONE}{version.path.name}")
                shutil.rmtree(left)
            except OSError as error:
                raise BundleError(f"{version.path} cannot be removed: {error}") from error


def earlier_versions(bundle: Path, keep: int) -> list[Version]:
    """The previous versions of a bundle but so many of those that were released last."""
    previous = [of for of in list_versions(bundle) if of.state == "previous"]
    # Their names begin with the time at which the next one was released.
    previous.sort(key=lambda version: version.path.name, reverse=True)
    return previous[keep:]


def find_version(bundle: Path, sha256: str) -> Version:
    """The version with this SHA-256 of its manifest. Raises ``BundleError`` if there is none."""
    there = {version.sha256: version for version in list_versions(bundle)}
    if sha256 not in there:
        raise BundleError(
            f"{bundle}: there is no version {sha256[:12]!r}: choose one of "
            f"{', '.join(of[:12] for of in there)} (rdx-fast release {bundle.name} lists them)"
        )
    return there[sha256]


def _version(path: Path, state: State, released: Sequence[Change] = ()) -> Version:
    """Read what is told of a version; ``released``: the released one's history. Raises
    ``BundleError`` if that is damaged."""
    return read_steadily(path, lambda content: _described(path, state, content, released))


def _described(path: Path, state: State, content: bytes, released: Sequence[Change]) -> Version:
    manifest = _parsed(content, path)
    sha256 = _sha256(manifest)
    if path.name.startswith("previous-") and path.name.endswith(f"-{sha256[:12]}"):
        state = "previous"
    changes = _changes(path, manifest)
    last = changes[-1] if changes else None
    comparison = None
    if COMPARISON in manifest.files:
        try:
            comparison = json.loads(_checked_text(path, manifest, COMPARISON))
        except ValueError as error:
            raise BundleError(f"{path}: {COMPARISON} is not JSON: {error}") from error
    return Version(
        path,
        sha256,
        manifest.name,
        last.time if last else manifest.created,
        last.user if last else "",
        last.action if last else "export",
        state,
        comparison,
        last is not None and last.action == "compare",
        _lacking(changes, released) if state == "candidate" else (),
    )


def _changes(path: Path, manifest: Manifest) -> list[Change]:
    return read_history(_checked_text(path, manifest, manifest.history), str(path))


def _lacking(own: Sequence[Change], released: Sequence[Change]) -> tuple[Lacking, ...]:
    """Changes of the released bundle that are not in a version's own history."""
    known = {change.sha256 for change in own}
    missed = (change for change in released if change.sha256 not in known)
    return tuple(Lacking(change.time, change.user, change.action) for change in missed)


def _checked_text(folder: Path, manifest: Manifest, name: str | None) -> str:
    """Contents of a file of a bundle; "" for None. Raises ``BundleError`` if it was altered."""
    if name is None:
        return ""
    try:
        if describe_file(folder / name) == manifest.files[name]:
            return (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: file {name} cannot be read: {error}") from error
    raise BundleError(f"{folder}: file {name} was altered since the bundle was last changed")


def _name(kind: str, sha256: str) -> str:
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{kind}-{time}-{sha256[:12]}"


def _check_own_folder(bundle: Path) -> None:
    """Raises ``BundleError`` if the path is a symbolic link: what it leads to may have other users,
    and would get another version's contents under a name that somebody chose for these."""
    if bundle.is_symlink():
        raise BundleError(
            f"{bundle} is a symbolic link: versions are kept beside the bundle's own folder. Name "
            f"that one, {bundle.resolve()}, here and as the job's bundle of the station"
        )


def _check_opens(folder: Path, public_key: Path | None = None) -> str:
    """The SHA-256 of a bundle's manifest. Raises ``BundleError`` if it does not open, or is not
    what its history ends with."""
    opened = open_bundle(folder, public_key)
    verify_bundle(opened)
    return _sha256(opened.manifest)


def _link_files(bundle: Path, copy: Path) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        # What a process that was killed left over has the name of a file that is yet to be written.
        at_top = Path(folder) == bundle
        left = (name for name in names if at_top and not (bundle / name).is_dir())
        return [name for name in names if name.startswith(".")] + [n for n in left if n not in kept]

    with locked(bundle):  # so that the files are those of one revision
        content = manifest_bytes(bundle)
        kept = {MANIFEST, manifest_signature(bundle, content).name, *_manifest(bundle).files}
        try:
            shutil.copytree(bundle, copy, copy_function=os.link, ignore=ignored)
        except (OSError, shutil.Error) as error:
            raise BundleError(
                f"{bundle}: its files cannot be linked into {copy.parent.parent}: {error}: both "
                f"must lie on one file system with hard links, and belong to this user"
            ) from error


def _make_durable(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_dir():
            sync_directory(file)
        else:
            flush(file)
    sync_directory(folder)


def _remove_left_over(folder: Path) -> None:
    """Remove what processes left that were killed while they held the folder, or made a version."""
    for gone in folder.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)
    for work in folder.glob(f"{_WORK}*"):
        with try_locked(work) as held:
            if held:
                shutil.rmtree(work, ignore_errors=True)
