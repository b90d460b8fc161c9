"""Errors in what a file holds, in the words of who wrote it."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import dacite

# What a user knows of the types of values.
_KINDS = {
    "NoneType": "nothing",
    "Path": "a path",
    "bool": "true or false",
    "dict": "a table",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "a text",
    "tuple": "a list",
}


def in_words(error: Exception) -> str:
    """An error of ``dacite.from_dict``, or of the dataclass that it made."""
    if isinstance(error, dacite.UnexpectedDataError):
        return f"unknown keys: {', '.join(sorted(map(str, error.keys)))}"
    if isinstance(error, dacite.MissingValueError):
        return f"{error.field_path} is missing"
    if isinstance(error, dacite.WrongTypeError):
        wanted = " or ".join(_kinds(error.field_type))
        return f"{error.field_path} is {shortened(error.value)}, wanted {wanted}"
    return str(error)


def shortened(value: object) -> str:
    """A value as it is written, its middle left out if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kinds(wanted: Any) -> list[str]:
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        parts = (part for part in get_args(wanted) if part is not type(None))
        return [kind for part in parts for kind in _kinds(part)]
    if origin is Literal:
        return [repr(value) for value in get_args(wanted)]
    name = getattr(origin or wanted, "__name__", str(wanted))
    return [_KINDS.get(name, "a table")]
