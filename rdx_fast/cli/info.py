"""The command ``info``: shows the content of a bundle."""

from __future__ import annotations

from rdx_fast.bundle import open_bundle
from rdx_fast.cli import tables
from rdx_fast.cli.common import BundlePath, JsonFlag, data


def info(bundle: BundlePath, as_json: JsonFlag = False) -> None:
    """Verify a bundle and print its manifest."""
    manifest = open_bundle(bundle).manifest
    if as_json:
        print(manifest.to_json(), end="")
    else:
        data.print(tables.manifest_table(manifest))
        data.print(tables.executions_table(manifest))
