"""Reading ``manifest.json`` of the current format and of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import dacite

from rdx_fast.bundle.manifest import CHECKSUM, FORMAT, Manifest, digest
from rdx_fast.bundle.manifest_format1 import ManifestFormat1
from rdx_fast.bundle.manifest_format2 import ManifestFormat2
from rdx_fast.errors import BundleError
from rdx_fast.reading import in_words, shortened, with_tuples

_T = TypeVar("_T")
_LARGEST = 2**53


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: contents of ``manifest.json``
        where: the bundle, for error messages

    Raises:
        BundleError: something is missing, unknown, out of range or altered after the export
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: manifest.json is not JSON: {error}") from error
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise BundleError(
            f"{where}: manifest.json has no format number, so this is not an engine bundle"
        )
    if not 1 <= data["format"] <= FORMAT:
        raise BundleError(
            f"{where}: the bundle has format {data['format']}, this rdx_fast reads 1 to {FORMAT}: "
            f"update rdx_fast, or export the bundle again with this version"
        )
    if data["format"] == 1:
        return _checked(where, lambda: _from_json(ManifestFormat1, data).upgraded())
    checksum = data.pop(CHECKSUM, None)

    def read() -> Manifest:
        if data["format"] == 2:
            manifest = _from_json(ManifestFormat2, data).upgraded()
        else:
            manifest = _from_json(Manifest, data)
            if manifest.history is None:
                raise ValueError("history is null, and every bundle of this format has one")
        if checksum != digest(data):
            raise ValueError(
                "was altered since the bundle was last changed: its contents do not match the "
                "checksum in it"
            )
        return manifest

    return _checked(where, read)


def _from_json(kind: type[_T], data: dict[str, Any]) -> _T:
    """A dataclass from JSON data; only lists are converted, to tuples."""
    # For information only, so of any type.
    told = {k: with_tuples(v) for k, v in data.items() if k == "training"}
    checked = _plain({k: v for k, v in data.items() if k != "training"})
    return dacite.from_dict(kind, checked | told, dacite.Config(strict=True))


def _checked(where: str, read: Callable[[], Manifest]) -> Manifest:
    try:
        return read()
    except (dacite.DaciteError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(
            f"{where}: manifest.json: {in_words(error)}: restore it from a copy of the "
            f"bundle, or export the bundle again"
        ) from error


def _plain(value: Any, at: str = "") -> Any:
    """Convert lists to tuples. Raises ``ValueError`` for numbers of Python that a manifest may not
    have: booleans, and integers that a float does not represent exactly."""
    if isinstance(value, bool):
        raise ValueError(f"{at} is {str(value).lower()}, wanted a number or a text")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"{at} is {shortened(value)}, which is too large")
    if isinstance(value, dict):
        return {k: _plain(v, f"{at}.{k}" if at else str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_plain(v, f"{at}[{i}]") for i, v in enumerate(value))
    return value
