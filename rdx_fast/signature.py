"""Signatures of bundles: Ed25519 over ``manifest.json``, which holds the checksum of every file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rdx_fast.durable import flush, sync_directory
from rdx_fast.errors import BundleError, MissingDependencyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MANIFEST = "manifest.json"


def sign_manifest(folder: Path, key: Path) -> Path:
    """Sign the manifest that a bundle has now; signatures of earlier ones are removed.

    Args:
        folder: of the bundle
        key: file of the private key, PEM without a password

    Returns:
        the signature's file

    Raises:
        BundleError: the key cannot be read or is of another kind
        MissingDependencyError: the package cryptography is not installed
    """
    private = _private_key(key)
    text = (folder / MANIFEST).read_bytes()
    file = _signature_file(folder, text)
    file.write_text(private.sign(text).hex() + "\n", encoding="ascii")
    flush(file)
    sync_directory(folder)
    for earlier in folder.glob("manifest-*.sig"):
        if earlier != file:
            earlier.unlink()
    return file


def check_signature(folder: Path, manifest: bytes, public_key: Path) -> None:
    """Check that the owner of a key signed a bundle's manifest.

    Args:
        folder: of the bundle
        manifest: contents of its ``manifest.json``, as they were read
        public_key: file of the public key, PEM

    Raises:
        BundleError: there is no signature, it is that of another key or manifest, or the key cannot
            be read
        MissingDependencyError: the package cryptography is not installed
    """
    public = _public_key(public_key)
    from cryptography.exceptions import InvalidSignature

    file = _signature_file(folder, manifest)
    if not file.is_file():
        raise BundleError(
            f"{folder}: the bundle is not signed as it is now, and only signed bundles are opened "
            f"here: sign it (rdx-fast sign), or ask who may"
        )
    try:
        public.verify(bytes.fromhex(file.read_text(encoding="ascii")), manifest)
    except (InvalidSignature, ValueError) as error:
        raise BundleError(
            f"{folder}: the signature is not by the key of {public_key}: ask who changed the bundle"
        ) from error


def is_signed(folder: Path) -> bool:
    """Whether a signature of the present manifest is there, whoever made it."""
    return _signature_file(folder, (folder / MANIFEST).read_bytes()).is_file()


def _signature_file(folder: Path, manifest: bytes) -> Path:
    # Named after what it signs, so that a new manifest never stands beside the old one's signature.
    return folder / f"manifest-{hashlib.sha256(manifest).hexdigest()[:16]}.sig"


def _private_key(file: Path) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError as error:
        raise MissingDependencyError("cryptography", "a signature", "station") from error
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{file}: the private key cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{file} holds another kind of key, wanted Ed25519")
    return key


def _public_key(file: Path) -> Ed25519PublicKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError as error:
        raise MissingDependencyError("cryptography", "a signature", "station") from error
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{file}: the public key cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{file} holds another kind of key, wanted Ed25519")
    return key
