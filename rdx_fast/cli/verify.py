"""The commands ``verify`` and ``sign``: history and signature of a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import described_by, manifest_bytes, open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.signature import is_signed, made_files, sign_bundle
from rdx_fast.cli import tables
from rdx_fast.cli.common import BundlePath, JsonFlag, data, notes


def verify(
    bundle: BundlePath,
    public_key: Annotated[
        Path | None,
        typer.Option(help="Key that must have signed the bundle, and its plans and kernels, PEM."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check every file, the history and the signature of a bundle, and print the history."""
    opened = open_bundle(bundle, public_key)
    changes = verify_bundle(opened)
    if opened.public_key is not None:
        for file in made_files(bundle):
            opened.public_key.check_made(file, file.read_bytes())
    if as_json:
        for change in changes:
            print(json.dumps(asdict(change)))
    else:
        data.print(tables.history_table(changes))
    if public_key is not None:
        said = f"signed by the key of {public_key}"
    elif is_signed(bundle):
        said = "signed; by whom is checked with --public-key"
    else:
        said = "not signed"
    notes.print(f"files and history are whole, {len(changes)} entries; {said}", markup=False)


def sign(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(help="Private key, Ed25519 in PEM, without a password.")],
) -> None:
    """Sign a bundle as it is now, with the TensorRT plans and GPU kernels in it.

    Any later change needs a new signature.
    """
    manifest = manifest_bytes(bundle)
    verify_bundle(described_by(manifest, bundle))
    for signature in sign_bundle(bundle, key, verified=manifest):
        notes.print(f"wrote {signature}", markup=False)
