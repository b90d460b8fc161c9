"""Engine bundles on disk: verified when they are opened, written atomically."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import FileSpec, Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.bundle.signature import MANIFEST, PublicKey
from rdx_fast.durable import write_whole
from rdx_fast.errors import BundleError, ImageError
from rdx_fast.images import read_grey
from rdx_fast.limits.calibration import load_calibration

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle; every file has been checked against its SHA-256.

    Attributes:
        path: folder of the bundle
        manifest: contents of its ``manifest.json``
        public_key: that must have signed its plans and kernels too; None where none is demanded
    """

    path: Path
    manifest: Manifest
    public_key: PublicKey | None = None

    def network(self, stored: str) -> Path:
        """The file of the network stored in a precision (see ``manifest.STORED``)."""
        return self.path / self.manifest.networks[stored]

    def is_current(self) -> bool:
        """Whether the folder still holds this bundle: it was neither changed nor replaced since."""
        text = manifest_bytes(self.path).decode("utf-8", "replace")
        return parse_manifest(text, str(self.path)) == self.manifest

    def mask(self, name: str) -> NDArray[np.uint8]:
        """A mask of the recipe, uint8 [H, W]. Raises ``BundleError`` if it cannot be read, or was
        changed since the bundle was opened."""
        try:
            return read_grey(self._as_opened(name))
        except ImageError as error:
            raise BundleError(f"the mask {error}") from error

    def calibration(self) -> dict[str, NDArray[np.float32]]:
        """Scores of good images, ``[n, R]`` sorted in each column, by execution; empty in a bundle
        of an earlier format. Raises ``BundleError`` if they cannot be read, or were changed since
        the bundle was opened."""
        if self.manifest.calibration is None:
            return {}
        return load_calibration(self._as_opened(self.manifest.calibration))

    def _as_opened(self, name: str) -> Path:
        """A file that holds what it held when the bundle was opened."""
        file = self.path / name
        try:
            if describe_file(file) == self.manifest.files[name]:
                return file
        except OSError as error:
            raise BundleError(f"{self.path}: file {name} cannot be read: {error}") from error
        raise BundleError(
            f"{self.path}: the bundle was changed or replaced since it was opened: open it again"
        )


def open_bundle(path: str | Path, public_key: Path | None = None) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: folder of the bundle
        public_key: file of a key that must have signed it, and the plans and kernels in it that an
            engine loads; None opens unsigned bundles too

    Raises:
        BundleError: there is no such folder, the manifest is missing or invalid, has a newer format
            or an unknown key, a file is missing or altered, a file name leads outside the bundle,
            or its signature is not by ``public_key``; the message says which
    """
    folder = Path(path)
    key = None if public_key is None else PublicKey.read(public_key)
    return read_steadily(folder, lambda content: described_by(content, folder, key))


def read_steadily(folder: Path, read: Callable[[bytes], Read]) -> Read:
    """Read a bundle's files as its manifest names them, anew if another version was released
    meanwhile: the files of the one before are no longer in the folder then.

    Args:
        folder: of the bundle
        read: takes the contents of the manifest. What it raises is raised only if the manifest has
            stayed

    Raises:
        BundleError: there is no manifest
    """
    while True:
        content = manifest_bytes(folder)
        try:
            found = read(content)
        except BundleError:
            if manifest_bytes(folder) == content:
                raise
        else:
            if manifest_bytes(folder) == content:
                return found


def manifest_bytes(folder: Path) -> bytes:
    """Contents of a bundle's manifest. Raises ``BundleError`` if there is none."""
    if not folder.is_dir():
        raise BundleError(
            f"{folder.resolve()}: no such bundle: check the path, or export one (export_bundle, "
            f"rdx-fast export)"
        )
    manifest_file = folder / MANIFEST
    if not manifest_file.is_file():
        raise BundleError(f"{folder}: {MANIFEST} is missing: this is not an engine bundle")
    try:
        return manifest_file.read_bytes()
    except OSError as error:
        raise BundleError(f"{folder}: {MANIFEST} cannot be read: {error}") from error


def described_by(content: bytes, folder: Path, key: PublicKey | None = None) -> Bundle:
    """The bundle in ``folder`` with these contents of its manifest, see ``open_bundle``."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{folder}: {MANIFEST} is not UTF-8 text: {error}") from error
    manifest = parse_manifest(text, str(folder))
    if key is not None:
        key.check_manifest(folder, content)
    for name, spec in manifest.files.items():
        try:
            file = _inside(folder, name)
            if not file.is_file():
                raise BundleError(
                    f"{folder}: file {name} is missing: restore it from a copy of the bundle"
                )
            found = describe_file(file)
        except (OSError, ValueError) as error:  # ValueError: an impossible file name
            raise BundleError(f"{folder}: file {name!r} cannot be read: {error}") from error
        if found != spec:
            raise BundleError(
                f"{folder}: file {name} was altered since the bundle was last changed: it has "
                f"{found.bytes} bytes and SHA-256 {found.sha256[:12]}..., the manifest says "
                f"{spec.bytes} bytes and {spec.sha256[:12]}...: restore it from a copy of the "
                f"bundle, and ask who changed it"
            )
    return Bundle(folder, manifest, key)


def describe_file(file: Path) -> FileSpec:
    """Size and SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileSpec(sha256=digest, bytes=file.stat().st_size)


@contextmanager
def new_bundle(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; renamed to it if the body succeeds, else deleted.

    Args:
        path: folder of the new bundle
        overwrite: replace ``path`` if it is a bundle

    Raises:
        BundleError: ``path`` exists, and is not a bundle or ``overwrite`` is false
    """
    if path.exists():
        if not overwrite:
            raise BundleError(
                f"{path} exists: choose another name, or overwrite it (overwrite=True, --overwrite)"
            )
        if not (path / MANIFEST).is_file():
            raise BundleError(
                f"{path} exists and is not a bundle, so it is not overwritten: choose another name"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield work
        work.chmod(0o755)  # the station may run as another user
        old = work.with_suffix(".old")
        if path.exists():
            path.rename(old)
        work.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json``, as the last file; it is flushed to disk before the bundle gets its
    name."""
    with (folder / MANIFEST).open("wb") as stream:
        stream.write(manifest.to_json().encode())
        stream.flush()
        os.fsync(stream.fileno())


def replace_manifest(manifest: Manifest, folder: Path) -> None:
    """Write another ``manifest.json`` in the place of the old one, at once and durably."""
    write_whole(folder / MANIFEST, manifest.to_json().encode())


def _inside(folder: Path, name: str) -> Path:
    """The file's path. Raises ``BundleError`` if it leads outside ``folder`` by name or by link."""
    parts = PurePosixPath(name).parts
    file = folder / name
    plain = bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name
    if not plain or not file.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder}: file name {name!r} leads outside the bundle")
    return file
