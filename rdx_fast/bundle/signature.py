"""Signatures of bundles, Ed25519: of the manifest, which holds the checksum of every exported file,
and of what is made later where the bundle is used: TensorRT plans and compiled kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rdx_fast.durable import locked, write_whole
from rdx_fast.errors import BundleError, MissingDependencyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MANIFEST = "manifest.json"
# What engines load of what was made later. ``kernels.json`` holds the checksum of every kernel.
_MADE = ("plans/*.plan", "plans/*.jit", "kernels/kernels.json")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that must have signed what is loaded.

    Attributes:
        file: that it was read from, for error messages
        key: the key itself, so that the file is read once
    """

    file: Path
    key: Ed25519PublicKey

    @classmethod
    def read(cls, file: Path) -> PublicKey:
        """Read a PEM file. Raises ``BundleError`` if that is not an Ed25519 public key, and
        ``MissingDependencyError`` without the package cryptography."""
        return cls(file, _read_key(file, "public"))

    def signed(self, signature: Path, message: bytes) -> bool:
        """Whether the file ``signature`` is this key's signature of a message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(bytes.fromhex(signature.read_text(encoding="ascii")), message)
        except (InvalidSignature, ValueError, OSError):
            return False
        return True

    def check_manifest(self, folder: Path, manifest: bytes) -> None:
        """Check that this key signed a bundle's manifest.

        Args:
            folder: of the bundle
            manifest: contents of its ``manifest.json``, as they were read

        Raises:
            BundleError: there is no signature, or it is that of another key
        """
        signature = manifest_signature(folder, manifest)
        if not signature.is_file():
            raise BundleError(
                f"{folder}: the bundle is not signed as it is now, and only signed bundles are "
                f"opened here: sign it (rdx-fast sign), or ask who may"
            )
        if not self.signed(signature, manifest):
            raise BundleError(
                f"{folder}: the signature is not by the key of {self.file}: ask who changed the "
                f"bundle"
            )

    def check_made(self, file: Path, content: bytes) -> None:
        """Check that this key signed a plan or the kernels of a bundle.

        Args:
            file: in the bundle, such as ``plans/KEY.plan`` or ``kernels/kernels.json``
            content: of the file, as it was read

        Raises:
            BundleError: there is no signature, or it is that of another key or other contents
        """
        again = "build it again (rdx-fast plan --sign-key)"
        if not made_signature(file).is_file():
            raise BundleError(
                f"{file} is not signed, and what was not signed is not loaded here: sign it if "
                f"you know who built it (rdx-fast sign), else delete it and {again}"
            )
        if not self.signed(made_signature(file), _made_message(file, content)):
            raise BundleError(
                f"{file} was changed after it was signed, or signed with another key than that of "
                f"{self.file}: delete it and {again}"
            )


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key to sign with.

    Attributes:
        file: that it was read from, for error messages
        key: the key itself
    """

    file: Path
    key: Ed25519PrivateKey

    @classmethod
    def read(cls, file: Path) -> SigningKey:
        """Read a PEM file without a password. Raises ``BundleError`` if that is not an Ed25519
        private key, and ``MissingDependencyError`` without the package cryptography."""
        return cls(file, _read_key(file, "private"))

    @property
    def public(self) -> PublicKey:
        """The key that checks its signatures."""
        return PublicKey(self.file, self.key.public_key())

    def sign_manifest(self, folder: Path, manifest: bytes) -> Path:
        """Write the signature of a manifest, which need not have its place yet."""
        return self._write(manifest_signature(folder, manifest), manifest)

    def sign_made(self, file: Path) -> Path:
        """Write the signature of a plan or of the kernels of a bundle beside it."""
        return self._write(made_signature(file), _made_message(file, file.read_bytes()))

    def _write(self, signature: Path, message: bytes) -> Path:
        content = self.key.sign(message).hex().encode() + b"\n"
        # The same key signs the same message alike, and others may be reading that signature.
        if not (signature.is_file() and signature.read_bytes() == content):
            write_whole(signature, content)
        return signature


def sign_bundle(folder: Path, key: Path, verified: bytes | None = None) -> list[Path]:
    """Sign a bundle as it is now: its manifest, and the plans and kernels that lie in it.

    Args:
        folder: of the bundle
        key: file of the private key, PEM without a password
        verified: contents of the manifest that was looked at; None signs what is there

    Returns:
        the signatures' files, that of the manifest first

    Raises:
        BundleError: the key cannot be read or is of another kind, or the manifest is not
            ``verified``
        MissingDependencyError: the package cryptography is not installed
    """
    signing = SigningKey.read(key)
    with locked(folder):
        manifest = (folder / MANIFEST).read_bytes()
        if verified is not None and manifest != verified:
            raise BundleError(
                f"{folder}: the bundle was changed after it was verified, and is not signed: look "
                f"at it again"
            )
        signatures = [signing.sign_manifest(folder, manifest)]
        signatures += map(signing.sign_made, made_files(folder))
        remove_signatures(folder, keep=[signatures[0]])
    return signatures


def made_files(folder: Path) -> Iterator[Path]:
    """What was made in a bundle after its export and is loaded by engines."""
    for pattern in _MADE:
        yield from sorted(folder.glob(pattern))


def remove_signatures(folder: Path, keep: list[Path]) -> None:
    """Remove the signatures of manifests, but for some."""
    for signature in folder.glob("manifest-*.sig"):
        if signature not in keep:
            signature.unlink()


def is_signed(folder: Path) -> bool:
    """Whether a signature of the present manifest is there, whoever made it."""
    return manifest_signature(folder, (folder / MANIFEST).read_bytes()).is_file()


def manifest_signature(folder: Path, manifest: bytes) -> Path:
    """The file of a manifest's signature."""
    # Named after what it signs, so that a new manifest never stands beside the old one's signature.
    return folder / f"manifest-{hashlib.sha256(manifest).hexdigest()[:16]}.sig"


def made_signature(file: Path) -> Path:
    """The file of the signature of a plan or of kernels."""
    return file.with_name(f"{file.name}.sig")


def _made_message(file: Path, content: bytes) -> bytes:
    # With its name, so that nothing takes the place of what was signed under another one.
    return f"{file.parent.name}/{file.name} {hashlib.sha256(content).hexdigest()}\n".encode()


def _read_key(file: Path, half: Literal["public", "private"]) -> Any:
    """An Ed25519 key of a PEM file. Raises as ``PublicKey.read`` and ``SigningKey.read`` say."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise MissingDependencyError("cryptography", "a signature", "station") from error
    wanted = ed25519.Ed25519PublicKey if half == "public" else ed25519.Ed25519PrivateKey
    try:
        pem = file.read_bytes()
        if half == "public":
            key: object = serialization.load_pem_public_key(pem)
        else:
            key = serialization.load_pem_private_key(pem, None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{file}: the {half} key cannot be read: {error}") from error
    if not isinstance(key, wanted):
        raise BundleError(f"{file} holds another kind of key, wanted Ed25519")
    return key
