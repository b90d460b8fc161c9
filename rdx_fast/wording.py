"""Values in words, for tables that people read."""

from __future__ import annotations

import re

# Controls, such as those of a terminal, and signs that turn the direction of what follows.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def plain(text: str) -> str:
    """A text of a person on one line: without controls of terminals, and in its own direction."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def told(value: object) -> str:
    """A value of a manifest, such as a recipe of the training, as text."""
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {told(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not given"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
