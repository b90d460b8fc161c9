"""Engine bundles on disk: opened only when whole and unaltered, written all at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rdx_fast.errors import BundleError
from rdx_fast.manifest import FileSpec, Manifest
from rdx_fast.manifest_file import parse_manifest

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle, every file of which has been checked against its SHA-256."""

    path: Path
    manifest: Manifest

    def network(self, stored: str) -> Path:
        """The file of the network that is stored in a precision (see ``manifest.STORED``)."""
        return self.path / self.manifest.networks[stored]


def open_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises ``BundleError`` that says which: no such folder, no or faulty manifest, newer format,
    unknown key, a file missing or altered, or a file name that leads outside the bundle.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle; 'rdx-fast export' makes one")
    manifest_file = folder / MANIFEST
    if not manifest_file.is_file():
        raise BundleError(f"{folder}: {MANIFEST} is missing: this is not an engine bundle")
    try:
        text = manifest_file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{folder}: {MANIFEST} is not UTF-8 text: {error}") from error
    manifest = parse_manifest(text, str(folder))
    for name, spec in manifest.files.items():
        try:
            file = _inside(folder, name)
            if not file.is_file():
                raise BundleError(
                    f"{folder}: file {name} is missing: export or copy the bundle again"
                )
            found = describe_file(file)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise BundleError(f"{folder}: file {name!r} cannot be read: {error}") from error
        if found != spec:
            raise BundleError(
                f"{folder}: file {name} is not the one exported: {found.bytes} bytes with SHA-256 "
                f"{found.sha256[:12]}..., the manifest says {spec.bytes} bytes with "
                f"{spec.sha256[:12]}...: export or copy the bundle again"
            )
    return Bundle(folder, manifest)


def describe_file(file: Path) -> FileSpec:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileSpec(sha256=digest, bytes=file.stat().st_size)


@contextmanager
def new_bundle(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; renamed to it if the body succeeds, else deleted.

    Raises ``BundleError`` if ``path`` exists and ``overwrite`` is false, or is no bundle.
    """
    if path.exists():
        if not overwrite:
            raise BundleError(f"{path} exists: choose another name or pass --overwrite")
        if not (path / MANIFEST).is_file():
            raise BundleError(f"{path} exists and is no bundle: it is not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield work
        os.chmod(work, 0o755)
        old = work.with_suffix(".old")
        if path.exists():
            path.rename(old)
        work.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json`` as the last file, durable before the bundle gets its name."""
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        stream.write(manifest.to_json())
        stream.flush()
        os.fsync(stream.fileno())


def _inside(folder: Path, name: str) -> Path:
    """The file's path, refused if it leads outside ``folder`` by name or by link."""
    parts = PurePosixPath(name).parts
    file = folder / name
    plain = bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name
    if not plain or not file.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder}: file name {name!r} leads outside the bundle")
    return file
