"""Values in words, for tables that people read."""

from __future__ import annotations


def told(value: object) -> str:
    """A value of a manifest, such as a recipe of the training, as text."""
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {told(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not given"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
