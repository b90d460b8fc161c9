"""Bodies and queries for the page's forms that are malformed, or well-formed with any values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from random import Random
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

from rdx_fast.hmi.forms import from_json
from rdx_fast.hmi.refusal import Refused

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
_TEXTS += ["'; DROP TABLE inspections; --", "%s%n", "{0.__class__}", "good", "bad", "dust"]
_TEXTS += ["NG", "2026-03-02T06:00:00"]
_INTS = [0, 1, -1, 2, 255, 2**31, 2**53, -(2**53), 10**15]
_FLOATS = [0.0, 1.0, -1.0, 0.5, 1e-300, 5e-324, 2.0**53, 1e9, 1.4]
_VALUES: dict[type, Sequence[Any]] = {int: _INTS, float: _FLOATS, str: _TEXTS}


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


def well_formed(form: type, random: Random, optional: float = 0.7) -> dict[str, Any]:
    """What a form takes if it does not mind the values; fields that need not be given are there
    with a probability."""
    hints = get_type_hints(form)
    return {
        of.name: _value(hints[of.name], random)
        for of in fields(form)
        if of.default is MISSING or random.random() < optional
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
    if hint in _VALUES:
        return random.choice(_VALUES[hint])
    return well_formed(hint, random)


def taken(form: type) -> dict[str, Any]:
    """Some values that a form takes, so that what replaces one of them is all that is wrong."""
    for seed in range(10_000):
        given = well_formed(form, Random(seed), 0.9)
        with suppress(Refused):
            from_json(form, json.dumps(given).encode())
            return given
    raise AssertionError(f"no values of {form} were found: add some to those above")


def malformed_bodies(form: type) -> Iterator[bytes]:
    """Bodies that no form of this kind is read from: each wrong value in each field, fields that
    are missing or unknown, and what is no JSON."""
    texts = {name: json.dumps(of).encode() for name, of in taken(form).items()}
    hints = get_type_hints(form)
    for of in fields(form):
        for wrong in wrong_values(hints[of.name]):
            yield _object(texts | {of.name: wrong})
        if of.default is MISSING:
            yield _object({name: text for name, text in texts.items() if name != of.name})
    for name in ("unknown", "", "__class__", "\\u0000"):
        yield _object(texts | {name: b"1"})
    body = _object(texts)
    yield from (body[:end] for end in range(0, len(body), 7))
    yield from (body + b"}", b"[" + body + b"]", b"\xff\xfe" + body, body.decode().encode("utf-16"))


def malformed_body(form: type, random: Random) -> bytes:
    """A body with a wrong value in a field, and any well-formed ones in the others."""
    texts = {name: json.dumps(of).encode() for name, of in well_formed(form, random).items()}
    hints = get_type_hints(form)
    name = random.choice(sorted(hints))
    body = _object(texts | {name: random.choice([*wrong_values(hints[name])])})
    return body[: random.randrange(len(body))] if random.random() < 0.2 else body


def wrong_values(hint: Any) -> Iterator[bytes]:
    """Of JSON, what no field of a type takes."""
    plain = _plain(hint)
    for wrong in (*_WRONG[_kind(plain)], *_WRONG[object]):
        if wrong != b"null" or plain is hint:
            yield wrong
    if get_origin(plain) is tuple and get_args(plain)[-1] is ...:
        (inner, _) = get_args(plain)
        is_form = isinstance(inner, type) and is_dataclass(inner)
        inside = malformed_bodies(inner) if is_form else wrong_values(inner)
        yield from (b"[" + wrong + b"]" for wrong in inside if wrong)


def _object(texts: dict[str, bytes]) -> bytes:
    return b"{" + b", ".join(b'"%s": %s' % (n.encode(), of) for n, of in texts.items()) + b"}"


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
