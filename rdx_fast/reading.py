"""Reading JSON and TOML files, with error messages for the author of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import dacite

# Names of types for users, singular and plural.
_KINDS = {
    "JobConfig": ("a path or a table", "paths or tables"),
    "Path": ("a path", "paths"),
    "bool": ("true or false", "true or false"),
    "float": ("a number", "numbers"),
    "int": ("a whole number", "whole numbers"),
    "str": ("text", "texts"),
}


def in_words(error: Exception) -> str:
    """The message for an error of ``dacite.from_dict``, or of the dataclass that it created."""
    if isinstance(error, dacite.UnexpectedDataError):
        return f"unknown keys: {', '.join(sorted(map(str, error.keys)))}"
    if isinstance(error, dacite.MissingValueError):
        return f"{error.field_path} is missing"
    if isinstance(error, dacite.WrongTypeError):
        return f"{error.field_path} is {shortened(error.value)}, wanted {_kind(error.field_type)}"
    return str(error)


def check_keys(kind: type, given: Mapping[str, Any], table: str = "") -> None:
    """Check the keys of a table, and of those in it, against the dataclass that it becomes.

    Args:
        kind: the dataclass
        given: the table, with tuples in place of lists
        table: its name, for the message; empty for the file as a whole

    Raises:
        ValueError: a key is unknown; the message names those that are known there
    """
    kinds = get_type_hints(kind)
    if unknown := sorted(set(given) - set(kinds)):
        where = f" in {table}" if table else ""
        raise ValueError(f"unknown keys{where}: {', '.join(unknown)}: wanted {', '.join(kinds)}")
    for key, value in given.items():
        tables = value if isinstance(value, tuple) else (value,)
        for inner in _dataclasses(kinds[key]):
            for of in tables:
                if isinstance(of, dict):
                    check_keys(inner, of, key)


def _dataclasses(hint: Any) -> list[type]:
    """The dataclasses in a type, such as in ``tuple[RegionSpec, ...] | None``."""
    if isinstance(hint, type) and is_dataclass(hint):
        return [hint]
    return [found for of in get_args(hint) for found in _dataclasses(of)]


def shortened(value: object) -> str:
    """A value as JSON, cut to 60 characters."""
    text = json.dumps(value, default=_plainly)
    return text if len(text) <= 60 else f"{text[:57]}..."


def with_tuples(value: Any) -> Any:
    """A value of a JSON or TOML file with tuples in place of lists, as dataclasses have them."""
    if isinstance(value, dict):
        return {key: with_tuples(entry) for key, entry in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def _plainly(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _kind(wanted: Any, count: int = 1) -> str:
    """The name of a type, in the plural if ``count`` is above 1."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(_kind(a, count) for a in arguments if a is not type(None))
    if origin is Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} {_kind(arguments[0], len(arguments))}"
    if origin is tuple:
        return f"a list of {_kind(arguments[0], 2)}"
    if origin is dict:
        return f"a table of {_kind(arguments[1], 2)}"
    one, several = _KINDS.get(getattr(wanted, "__name__", ""), ("a table", "tables"))
    return one if count == 1 else several
