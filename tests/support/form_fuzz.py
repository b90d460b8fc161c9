"""Bodies and queries for the page's forms that are malformed, or well-formed with any values."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from random import Random
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

# Of JSON, which a form takes for no field of another type.
_DEEP = b"[" * 2000 + b"]" * 2000
_WRONG: dict[type, list[bytes]] = {
    str: [b"1", b"1.5", b"true", b"null", b"{}", b'["x"]', b'"\\ud800"', b'"\xff"', b'"\\u12"'],
    int: [b'"1"', b"1.5", b"true", b"null", b"[]", b"1e400", b"9" * 30, b"9" * 6000, b"-"],
    float: [b'"1"', b"NaN", b"-Infinity", b"true", b"null", b"[]", b"1e400", b"9" * 6000, b"01"],
    bool: [b'"true"', b"1", b"null", b"[]"],
    tuple: [b'"x"', b"1", b"null", b'{"0": 1}', b"[null]", b"[[[]]]"],
    object: [_DEEP, b"", b"nul", b"'x'", b"{1: 2}", b"\x00", b"\xed\xa0\x80"],
}
_TEXTS = ["", " ", "x", "all", "fp32", "0" * 64, "x" * 600, "\x00", "\u202e", "💥" * 50, "../.."]
_TEXTS += ["'; DROP TABLE inspections; --", "%s%n", "{0.__class__}", "good", "bad"]
_INTS = [0, 1, -1, 2, 255, 2**31, 2**53, -(2**53), 10**15]
_FLOATS = [0.0, 1.0, -1.0, 0.5, 1e-300, 5e-324, 2.0**53, 1e9, 1.4]


def _plain(hint: Any) -> Any:
    """The type of a field that may also be None."""
    if get_origin(hint) in (Union, UnionType):
        return next(of for of in get_args(hint) if of is not type(None))
    return hint


def _kind(hint: Any) -> type:
    """Under which key of ``_WRONG`` a type is."""
    hint = _plain(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return str
    return origin if origin is tuple else hint if hint in _WRONG else object


def well_formed(form: type, random: Random) -> dict[str, Any]:
    """What a form takes if it does not mind the values."""
    hints = get_type_hints(form)
    return {
        of.name: _value(hints[of.name], random)
        for of in fields(form)
        if of.default is MISSING or random.random() < 0.7
    }


def _value(hint: Any, random: Random) -> Any:
    hint = _plain(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return random.choice(arguments)
    if origin is tuple:
        inner = arguments[:1] * random.randint(0, 5) if arguments[-1] is ... else arguments
        return [_value(of, random) for of in inner]
    if hint is bool:
        return random.random() < 0.5
    if hint in (int, float, str):
        return random.choice({int: _INTS, float: _FLOATS, str: _TEXTS}[hint])
    return well_formed(hint, random)


def malformed_body(form: type, random: Random) -> bytes:
    """A body that no form of this kind is read from."""
    given = well_formed(form, random) | {
        of.name: None for of in fields(form) if of.default is MISSING
    }
    hints = get_type_hints(form)
    texts = {name.encode(): json.dumps(_value(hints[name], random)).encode() for name in given}
    name = random.choice(sorted(texts))
    how = random.randrange(5)
    if how == 0:
        required = [of.name.encode() for of in fields(form) if of.default is MISSING]
        if required:
            del texts[random.choice(required)]
        else:
            texts[b"unknown"] = b"1"
    elif how == 1:
        texts[random.choice([b"unknown", b"", b"__class__", b"user ", b"\\u0000"])] = b"1"
    else:
        wrong = _WRONG[_kind(hints[name.decode()])]
        optional = _plain(hints[name.decode()]) is not hints[name.decode()]
        wrong = [of for of in wrong if not (optional and of == b"null")]
        texts[name] = random.choice([*wrong, *_WRONG[object]])
    body = b"{" + b", ".join(b'"' + key + b'": ' + text for key, text in texts.items()) + b"}"
    if how == 4:
        end = random.randrange(len(body))
        return random.choice([body[:end], body + b"}", b"[" + body + b"]", b"\xff\xfe" + body, b""])
    return body


def odd_query(form: type, random: Random) -> str:
    """A query of an address with names that the form knows and others, and any values."""
    names = [*(of.name for of in fields(form)), "unknown", "", "\x00"]
    values = [
        *_TEXTS,
        *map(str, _INTS),
        "9" * 5000,
        "1e999",
        "nan",
        "-inf",
        "٣",
        "1_0",
        " 1",
        "0x1",
    ]
    pairs = [(random.choice(names), random.choice(values)) for _ in range(random.randint(1, 4))]
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    return query + random.choice(["", "", "&%ff%fe=%ff", "&" * 50, "&=", "&job=%", ";a=b"])
