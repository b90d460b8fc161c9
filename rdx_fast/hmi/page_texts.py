"""Texts of the page by language: those of the package, and further ones of a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rdx_fast.errors import RdxError

# As browsers take it.
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
OWN = Path(__file__).parent / "texts" / "texts.json"


class TextsError(RdxError):
    """A file of texts cannot be read."""


def read_texts(further: Path | None = None) -> dict[str, Any]:
    """Read the texts.

    Args:
        further: folder of JSON files of the same structure; their texts go before those of the
            package

    Returns:
        Texts by language.

    Raises:
        TextsError: a file cannot be read, or is not texts by language
    """
    found: dict[str, Any] = {}
    for file in [OWN, *(sorted(further.glob("*.json")) if further else [])]:
        try:
            texts = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise TextsError(f"{file}: the texts cannot be read: {error}") from error
        if not isinstance(texts, dict) or not all(isinstance(of, dict) for of in texts.values()):
            raise TextsError(f"{file} is not texts by language, such as {{'en': {{...}}}}")
        for language, of in texts.items():
            if not _LANGUAGE.fullmatch(language):
                raise TextsError(f"{file}: {language!r} is no language such as 'fr' or 'pt-BR'")
            if wrong := [key for key, text in of.items() if not isinstance(text, str)]:
                raise TextsError(f"{file}: {language} {wrong[0]!r} is no text")
            found[language] = found.get(language, {}) | of
    return found
