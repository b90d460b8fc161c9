"""What requests state, as dataclasses: JSON of bodies, and parameters of addresses.

A form is a dataclass whose fields are of int, float, str, bool, literals, tuples or dataclasses of
these; its ``__post_init__`` checks ranges and raises ``ValueError``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import dacite
from starlette.datastructures import QueryParams

from rdx_fast.hmi.refusal import Refused
from rdx_fast.reading import in_words, with_tuples

Form = TypeVar("Form")
MAX_INT = 2**53  # whole numbers beyond it are not exact in a browser
_INT = re.compile(r"-?[0-9]{1,16}")


def from_json(kind: type[Form], content: bytes) -> Form:
    """Read the body of a request.

    Args:
        kind: a form
        content: JSON in UTF-8

    Raises:
        Refused: it is not JSON, holds numbers that are not finite or texts that are not Unicode, or
            is not what the form wants
    """
    try:
        given = json.loads(content.decode("utf-8"), parse_constant=_not_a_number)
        json.dumps(given, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
        given = with_tuples(given)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    return _checked(kind, given)


def from_query(kind: type[Form], given: QueryParams) -> Form:
    """Read the parameters of an address.

    Args:
        kind: a form; a field of a tuple takes a parameter that is repeated, one of bool 0 or 1
        given: the parameters

    Raises:
        Refused: a parameter is unknown or is not what the form wants
    """
    hints = get_type_hints(kind)
    read: dict[str, Any] = {}
    try:
        for name in given.keys():  # noqa: SIM118 - iteration alone would give every repetition
            texts = given.getlist(name)
            if get_origin(hints.get(name)) is tuple:
                read[name] = tuple(_read(get_args(hints[name])[0], name, text) for text in texts)
            elif len(texts) > 1:
                raise ValueError(f"{name} is given {len(texts)} times")
            else:
                read[name] = _read(hints.get(name), name, texts[0])
    except ValueError as error:
        raise _bad(str(error)) from None
    return _checked(kind, read)


def _checked(kind: type[Form], given: Any) -> Form:
    if not isinstance(given, dict):
        raise _bad("the body is not a JSON object")
    hooks: dict[type[Any], Callable[[Any], Any]] = {int: _whole, float: _number}
    try:
        return dacite.from_dict(kind, given, dacite.Config(strict=True, type_hooks=hooks))
    except (dacite.DaciteError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _bad(in_words(error)) from None


def _read(hint: Any, name: str, text: str) -> Any:
    """The value of a parameter of the type ``hint``, or of it or None."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(of for of in get_args(hint) if of is not type(None))
    if hint is int:
        if not _INT.fullmatch(text):
            raise ValueError(f"{name} is {text[:60]!r}, wanted a whole number")
        return int(text)
    if hint is float:
        return _finite(text)
    if hint is bool:
        if text not in ("0", "1"):
            raise ValueError(f"{name} is {text[:60]!r}, wanted 0 or 1")
        return text == "1"
    return text


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > MAX_INT):
        raise ValueError(f"{str(value)[:60]} is given for a whole number of at most 2^53")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MAX_INT:
        raise ValueError(f"{str(value)[:60]} is given for a number of at most 2^53")
    return float(value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is not a finite number")
    return value


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _bad(text: str) -> Refused:
    return Refused(400, "bad_request", text[:500])
